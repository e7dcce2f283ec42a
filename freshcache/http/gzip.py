"""gzip of an answer whose long part is compressed once, and whose short head is new each time.

A gzip member (RFC 1952) holds deflate blocks (RFC 1951) that may come from different hands: the head goes
in front as a stored block, as it is. Only the checksum is computed anew.
"""

import re
import struct
import zlib
from functools import lru_cache

RAW = -15  # deflate without a header of its own, in windows of 32 KB
LEVEL = 6
GZIP_HEADER = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255])


def deflate(*parts: bytes) -> bytes:
    """Return the last blocks of a deflate stream, for all `parts` together."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, RAW)
    return b"".join([*map(compressor.compress, parts), compressor.flush()])


def member(head: bytes, parts: tuple[bytes, ...], deflated: bytes) -> tuple[bytes, ...]:
    """Return the gzip of `head`, of 64 KB at most, and `parts`, of which `deflated` has been made.

    In pieces, in front of and behind `deflated`, which is not copied.
    """
    stored = struct.pack("<BHH", 0, len(head), len(head) ^ 0xFFFF)
    checksum, size = zlib.crc32(head), len(head)
    for part in parts:
        checksum, size = zlib.crc32(part, checksum), size + len(part)
    end = struct.pack("<LL", checksum, size & 0xFFFFFFFF)
    return GZIP_HEADER + stored + head, deflated, end


@lru_cache(maxsize=100)
def is_accepted(accept_encoding: str) -> bool:
    """Say whether a client that sends this Accept-Encoding takes gzip (RFC 9110, 12.5.3)."""
    found = {}
    for one in accept_encoding.lower().split(","):
        name, _, parameter = one.partition(";")
        weight = re.fullmatch(r"\s*q=([01](?:\.\d{0,3})?)\s*", parameter)
        found[name.strip()] = float(weight[1]) if weight else float(not parameter)
    return found.get("gzip", found.get("*", 0.0)) > 0
