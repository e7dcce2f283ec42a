"""How an entry looks in Redis: its generation, a header of JSON, then the value's own bytes.

    0f3c...e1 {"query": "", "etag": "...", ...}\n[{"id": 1, ...}]

The generation comes first, of fixed length, so that Redis can compare it without parsing anything.
"""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass

import orjson

GENERATION_CHARACTERS = 32
NO_GENERATION = "0" * GENERATION_CHARACTERS  # for a length
FIELDS: dict[str, tuple[type, ...]] = {
    "query": (str,),
    "etag": (str,),
    "fill_seconds": (int, float),
    "ttl_ms": (int, type(None)),
}
COMPRESSION_LEVEL = 1  # The first level brings nearly all of the gain (docs/cache-costs.md).


def new_token() -> str:
    """Return 128 random bits: a generation, or what proves who holds a lock."""
    return secrets.token_hex(GENERATION_CHARACTERS // 2)


def as_token(data: bytes | None) -> str | None:
    """Return the token that `data` is; None if it is anything else."""
    text = (data or b"").decode("ascii", "replace")
    return text if re.fullmatch(f"[0-9a-f]{{{GENERATION_CHARACTERS}}}", text) else None


@dataclass(frozen=True)
class Entry:
    """A cached value and what has to be known to serve it."""

    generation: str
    query: str  # which of the variants that share its slot it is
    etag: str  # changes exactly when the body does
    fill_seconds: float  # how long loading the value took
    ttl_ms: int | None  # the lifetime that it was stored with
    body: bytes

    def encode(self, *, compress: bool = False) -> bytes:
        body = zlib.compress(self.body, COMPRESSION_LEVEL) if compress else self.body
        header = {
            "query": self.query,  # first: see start_of
            "etag": self.etag,
            "fill_seconds": self.fill_seconds,
            "ttl_ms": self.ttl_ms,
            "bytes": len(body),
            "compressed": compress,
        }
        return self.generation.encode() + b" " + orjson.dumps(header) + b"\n" + body

    @classmethod
    def decode(cls, data: bytes) -> "Entry | None":
        """Return the entry in `data`, None if there is none: whatever is wrong with it, it is a miss."""
        head, _, body = data.partition(b"\n")
        try:
            generation = head[:GENERATION_CHARACTERS].decode("ascii")
            header = orjson.loads(head[GENERATION_CHARACTERS + 1 :])
            if len(body) != header["bytes"]:
                return None
            if header["compressed"]:
                body = zlib.decompress(body)
            fields = {name: header[name] for name in FIELDS}
            if not all(isinstance(fields[name], types) for name, types in FIELDS.items()):
                return None
        except (ValueError, KeyError, TypeError, zlib.error):
            return None
        return cls(generation=generation, body=body, **fields)


def start_of(generation: str, query: str) -> bytes:
    """Return how the entry of `query` begins, and no other of `generation` does."""
    return generation.encode() + b" " + orjson.dumps({"query": query})[:-1] + b","


def etag_of(body: bytes) -> str:
    """Return a weak entity tag (RFC 9110, 8.8.3) that changes exactly when `body` does."""
    return f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
