"""What is measured, as plain figures; times are in microseconds."""

import statistics
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field

AS_IS = 0  # The compression level of what is not compressed.


@dataclass(frozen=True)
class RequestTimes:
    """One round's medians for lists of one length."""

    hit: float
    miss: float
    miss_cache: float  # the cache's part of a miss: look, claim, compress the stale copy, store
    miss_load: float  # the part that read the database and made the JSON
    invalidation: float
    uncached: float  # the list read past the cache


@dataclass(frozen=True)
class CompressionTimes:
    """What storing and fetching one list in one form took."""

    size_bytes: int
    compress: float
    store: float
    fetch: float
    decompress: float

    @property
    def hit(self) -> float:
        return self.fetch + self.decompress

    @property
    def fill(self) -> float:
        return self.compress + self.store

    def pays_below_mbit_a_second(self, plain: "CompressionTimes") -> float | None:
        """Return how slow a network has to be for hits to be faster than with `plain`; None: any is."""
        lost = self.hit - plain.hit
        saved_bits = (plain.size_bytes - self.size_bytes) * 8
        return saved_bits / lost if lost > 0 else None  # Bits a microsecond are megabits a second.

    @classmethod
    def median(cls, taken: Iterable["CompressionTimes"]) -> "CompressionTimes":
        """Return the median of each figure for itself."""
        size_bytes, *times = (
            statistics.median(values) for values in zip(*map(astuple, taken), strict=True)
        )
        return cls(int(size_bytes), *times)


@dataclass(frozen=True)
class Traffic:
    """What something made of Redis."""

    round_trips: int
    commands: dict[str, int]  # how often Redis ran which, those inside of scripts included


@dataclass(frozen=True)
class Memory:
    """Bytes of one list and of what Redis keeps of it, keys and overhead included."""

    list_bytes: int
    entry_bytes: int
    stale_bytes: int


@dataclass
class ListFigures:
    """All that was measured for lists of one length; one item a round in `requests` and `compression`."""

    products: int
    requests: list[RequestTimes] = field(default_factory=list)
    compression: list[dict[int, CompressionTimes]] = field(default_factory=list)
    traffic: dict[str, Traffic] = field(default_factory=dict)
    memory: Memory | None = None

    def request_medians(self) -> RequestTimes:
        """Return the median round."""
        rounds = zip(*map(astuple, self.requests), strict=True)
        return RequestTimes(*map(statistics.median, rounds))

    def compression_medians(self) -> dict[int, CompressionTimes]:
        """Return the median round of each compression level."""
        levels = self.compression[0]
        return {
            level: CompressionTimes.median(one[level] for one in self.compression)
            for level in levels
        }


@dataclass
class Figures:
    """All that one run measured."""

    lists: list[ListFigures]
    writes: dict[str, Traffic] = field(default_factory=dict)
