"""What a run measures: contenders that take turns, pages of a long list, and how each row behaves."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from bench.strategies import proxy
from bench.strategies.behaviour import Behaviour, Observation
from bench.strategies.contenders import Contender
from bench.strategies.counters import product_ids, statement_ms
from bench.strategies.processes import threaded
from bench.strategies.rounds import Step, steps
from bench.strategies.rows import GROWING, OURS, ROWS, SCALED, WRITTEN, Row, named
from bench.strategies.site import Site
from tests.servers import free_port, start_redis

# As the store runs by default, and what else was thought of for it.
OWN_WORKERS = 2
OWN_THREADS = 4
OTHER_THREADS = 8
PAGE = 100
ROUNDS_OF_OTHERS = 3  # than the strategies at most
COLUMNS = "id, name, description, price, date_created, date_modified"


@dataclass(frozen=True)
class PageCost:
    """Milliseconds of the database for a page that begins behind `offset` products."""

    offset: int
    by_offset_ms: float
    by_key_ms: float


@dataclass
class Plan:
    """What is measured and, once the steps are done, what came out."""

    names: tuple[str, ...]
    products: list[int]
    workers: list[int]
    pages: int
    ttl_seconds: int
    strategies: list[Contender] = field(default_factory=list)
    growth: list[Contender] = field(default_factory=list)
    written: list[Contender] = field(default_factory=list)
    compressed: list[Contender] = field(default_factory=list)
    scaled: list[Contender] = field(default_factory=list)
    paged: list[Contender] = field(default_factory=list)
    page_costs: list[PageCost] = field(default_factory=list)
    behaviours: list[Behaviour] = field(default_factory=list)

    def __post_init__(self) -> None:
        first, *others = self.products
        rows = named(self.names, ROWS)
        self.strategies = [Contender(row, first) for row in rows]
        self.growth = [
            Contender(row, count, f"{count:,}") for count in others for row in self._of(GROWING)
        ]
        for row in self._of(WRITTEN):
            self.written += [
                Contender(row, first, "nobody writes"),
                Contender(row, first, "a change every 100 ms", is_written=True),
            ]
        for row in self._of((OURS,)):
            accepts = {"Accept-Encoding": "gzip"}
            self.compressed += [
                Contender(row, first, "as it is"),
                Contender(row, first, "gzip", headers=accepts),
            ]
        for row in self._of(SCALED):
            self.scaled += [
                Contender(row, first, f"{count} sync", workers=count) for count in self.workers
            ]
            self.scaled.append(self._threaded(row, OWN_THREADS))
        for row in self._of((OURS,)):
            self.scaled += [
                self._threaded(row, OTHER_THREADS),
                self._threaded(row, OWN_THREADS, keep_alive=False),
                *(
                    [self._threaded(row, OWN_THREADS, behind_proxy=True)]
                    if proxy.is_installed()
                    else []
                ),
            ]
        for row in self._of(("store-uncached", OURS)) if self.pages else []:
            self.paged += [
                Contender(
                    *(row, self.pages, f"offset {offset:,}"),
                    path=f"{row.path}?limit={PAGE}&offset={offset}",
                    expects=min(PAGE, self.pages),
                )
                for offset in self._offsets()
            ]

    def _threaded(
        self, row: Row, threads: int, *, keep_alive: bool = True, behind_proxy: bool = False
    ) -> Contender:
        label = f"{OWN_WORKERS} with {threads} threads"
        label += ("" if keep_alive else ", no keep-alive") + (", behind nginx" * behind_proxy)
        options = threaded(threads, keep_alive=keep_alive)
        return Contender(
            row, self.products[0], label, OWN_WORKERS, options, behind_proxy=behind_proxy
        )

    def _of(self, names: tuple[str, ...]) -> list[Row]:
        return [row for row in named(self.names, ROWS) if row.name in names]

    def _offsets(self) -> list[int]:
        last = max(0, self.pages - PAGE)
        return sorted({0, last // 2, last})

    def steps(self, site: Site, rounds: int, seconds: float) -> Iterator[Step]:
        """Yield all that is to be done, in order."""
        for count in filter(None, dict.fromkeys([*self.products, self.pages])):
            make = partial(site.database, count)
            yield Step(f"making {count:,} products", 4 + count / 10_000, make)
        few = min(rounds, ROUNDS_OF_OTHERS)
        shared = [(self.strategies, rounds), (self.written, few), (self.compressed, few)]
        for parts in (shared, [(self.growth, few)], [(self.scaled, few)], [(self.paged, few)]):
            yield from steps(parts, site, seconds)
        if self.paged:
            yield Step("pages by offset and by key", 2.0, partial(self._look_at_pages, site))
        yield from self._behaviour_steps(site, seconds)

    def _behaviour_steps(self, site: Site, seconds: float) -> Iterator[Step]:
        breakable = start_redis(free_port(), "--databases", str(site.redis_databases))
        for contender in self.strategies:
            if contender.row.shows_products:
                one = Observation(contender.row, self.products[0], self.ttl_seconds, seconds)
                self.behaviours.append(one.found)
                yield from one.steps(site, breakable)

    def _look_at_pages(self, site: Site) -> None:
        site.database(self.pages)
        ids = product_ids()
        for offset in self._offsets():
            select = f"SELECT {COLUMNS} FROM store_product"
            before = f"WHERE id > {ids[offset - 1]}" if offset else ""
            by_offset = f"{select} ORDER BY id LIMIT {PAGE} OFFSET {offset}"
            by_key = f"{select} {before} ORDER BY id LIMIT {PAGE}"
            cost = PageCost(offset, statement_ms(by_offset), statement_ms(by_key))
            self.page_costs.append(cost)
