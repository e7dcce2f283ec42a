"""The capacity model: its arithmetic, its agreement with measurements, its command and its page."""

import json
import math
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from django.conf import settings

from bench.capacity import report
from bench.capacity.__main__ import parse_arguments
from bench.capacity.check import Check, checks
from bench.capacity.costs import MEASURED, RESULTS, Cost, CostsError, Rate, read, read_measured
from bench.capacity.limits import limits
from bench.capacity.model import (
    US,
    Demand,
    cheapest,
    estimate,
    fills_to_hear_of,
    lost,
    mean_rate,
)
from store import keys
from store.caching import Outcome
from store.catalogue import ProductQuery, list_products_cached
from store.models import Product
from tests.processes import ROOT, clean_environment
from tests.servers import binary
from tests.waiting import wait_for

COMMAND = [sys.executable, "-m", "bench.capacity"]
USUAL = Demand(requests_a_second=20_000, products=200_000, hit_ratio=0.99)
# Of what a larger demand must never need less of.
GROWING = (
    *("processes", "web_cores", "web_bytes", "redis_cores", "redis_sent_bytes", "sent_bytes"),
    *("database_cores", "redis_connections", "database_connections", "fills"),
)
ERROR_AT_MOST = 0.5  # Another machine's figures may stand in results.json.


@pytest.fixture(scope="module")
def costs():
    return read()


def run(*arguments):
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


# --- Arithmetic ----------------------------------------------------------------------------------
@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("field", ["requests_a_second", "products", "writes_a_second"])
@pytest.mark.parametrize("hit_ratio", [0.9, 0.99])
def test_a_larger_demand_takes_more_or_as_much_of_everything(costs, copies, field, hit_ratio):
    demand = replace(USUAL, copies=copies, hit_ratio=hit_ratio)
    larger = [
        replace(demand, **{field: getattr(demand, field) * factor}) for factor in (1, 2, 5, 50)
    ]
    found = [estimate(one, costs) for one in larger]
    for name in GROWING:
        values = [getattr(one, name) for one in found]
        fewer_hit = any(one.hit_ratio < hit_ratio for one in found)
        if name == "redis_sent_bytes" and fewer_hit:
            continue  # Redis sends next to nothing for a fill.
        assert values == pytest.approx(sorted(values)), name


@pytest.mark.parametrize("rate", [1_000, 100_000, 1_000_000])
@pytest.mark.parametrize("hit_ratio", [0.3, 0.9, 0.999])
def test_a_hit_ratio_can_be_had_if_entries_change_no_oftener_than_it_bears(costs, rate, hit_ratio):
    found = estimate(Demand(rate, 10_000_000, hit_ratio), costs)
    is_had = found.hit_ratio >= hit_ratio
    assert is_had == (found.changes_a_second <= found.bearable_changes)


def test_what_writes_leave_of_the_hit_ratio_is_what_all_is_worked_out_from(costs):
    calm, busy = (
        estimate(Demand(1_000, 10_000_000, 0.99, writes_a_second=writes), costs)
        for writes in (0.0, 1.0)
    )
    assert busy.hit_ratio < calm.hit_ratio < 0.99
    for found in (calm, busy):
        assert found.fills == pytest.approx((1 - found.hit_ratio) * 1_000)
        assert found.database_cores > found.fills * costs.fill.database_us / US
    assert busy.processes > calm.processes


def test_only_hits_of_copies_are_sent_compressed(costs):
    few = replace(USUAL, products=100)
    found = estimate(few, costs)
    others = found.redis_hits + found.fills
    assert 0 < others < found.copy_hits
    sent = found.copy_hits * costs.gzip_bytes + others * costs.page_bytes
    assert found.sent_bytes == pytest.approx(sent)
    without = estimate(replace(few, copies=False), costs)
    assert without.sent_bytes == pytest.approx(USUAL.requests_a_second * costs.page_bytes)


def test_the_store_itself_compresses_hits_of_copies_and_no_others(open_store):
    without = open_store(LOCAL_CACHE="off")
    assert {_coding(without) for _ in range(20)} == {None}
    with_copies = open_store(LOCAL_CACHE="on", LOCAL_CACHE_MAX_LAG="5")
    wait_for(lambda: _coding(with_copies) == "gzip")


def _coding(store):
    answer = store.get("/store/cached/", {"Accept-Encoding": "gzip"})
    return answer.headers["Content-Encoding"]


@pytest.mark.parametrize("copies", [True, False])
def test_a_better_hit_ratio_takes_less_or_as_much_work(costs, copies):
    ratios = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)
    found = [estimate(replace(USUAL, hit_ratio=one, copies=copies), costs) for one in ratios]
    for name in ("processes", "redis_cores", "database_cores", "fills"):
        values = [getattr(one, name) for one in found]
        assert values == sorted(values, reverse=True), name


@pytest.mark.parametrize("hit_ratio", [0.0, 0.3, 0.99, 1.0])
@pytest.mark.parametrize("products", [1, 100, 10_000_000])
def test_every_request_is_answered_in_one_way(costs, hit_ratio, products):
    found = cheapest(replace(USUAL, hit_ratio=hit_ratio, products=products), costs)
    parts = (found.copy_hits, found.redis_hits, found.fills)
    assert all(part >= -1e-6 for part in parts)
    assert sum(parts) == pytest.approx(USUAL.requests_a_second)


def test_without_hits_nothing_is_kept_and_nothing_asked_of_freshness(costs):
    found = estimate(replace(USUAL, hit_ratio=0.0), costs)
    assert (found.copy_hits, found.redis_hits, found.redis_memory_bytes) == (0, 0, 0)
    assert found.bearable_changes == math.inf
    assert found.slots == 0


def test_nothing_but_hits_bears_no_change_at_all(costs):
    found = estimate(replace(USUAL, hit_ratio=1.0), costs)
    assert found.hit_ratio < 1  # Even so entries expire.
    assert found.bearable_changes == 0
    assert limits(found, costs)[0].times == math.inf


def test_copies_help_where_few_pages_change_seldom_and_not_where_many_are_filled(costs):
    few = Demand(requests_a_second=50_000, products=100, hit_ratio=0.9999)
    assert cheapest(few, costs).demand.copies
    assert cheapest(few, costs).copy_hits > 0.9 * few.requests_a_second
    many = Demand(requests_a_second=1_000_000, products=10_000_000, hit_ratio=0.99)
    assert not cheapest(many, costs).demand.copies
    # Each process would do nothing but hear of what the others fill.
    assert estimate(many, costs).fills > fills_to_hear_of(costs)
    assert estimate(many, costs).processes == math.inf


def test_each_thing_to_change_takes_away_from_what_it_is_for(costs):
    demand = replace(USUAL, copies=False, hit_ratio=0.9)
    before = estimate(demand, costs)
    by_key = estimate(replace(demand, by_key=True), costs)
    assert by_key.database_cores < before.database_cores
    sharded = estimate(replace(demand, shards=16), costs)
    assert sharded.changes_a_second < before.changes_a_second
    behind = estimate(replace(demand, cdn_share=0.95), costs)
    for name in ("processes", "redis_cores", "database_cores", "sent_bytes"):
        assert getattr(behind, name) == pytest.approx(0.05 * getattr(before, name), rel=0.01)


@pytest.mark.parametrize("rate", [0.01, 0.5, 3.0, 100.0])
def test_the_part_of_those_who_come_first_is_what_chance_makes_it(rate):
    seed = random.randrange(1_000_000)
    dice = random.Random(seed)
    turns, requests, first = max(2_000, int(1_000 / rate)), 0, 0
    for _ in range(turns):
        came, passed = 0, dice.expovariate(rate)
        while passed < 1:
            came, passed = came + 1, passed + dice.expovariate(rate)
        requests, first = requests + came, first + (came > 0)
    expected = lost(rate)
    assert mean_rate(expected) == pytest.approx(rate, rel=1e-6)
    if requests:
        deviation = 5 * math.sqrt(expected * (1 - expected) / requests) + 0.01
        assert first / requests == pytest.approx(expected, abs=deviation), f"seed {seed}"


@pytest.mark.engines
@pytest.mark.parametrize("requests_between_writes", [20, 100])
def test_the_stores_own_cache_has_the_hit_ratio_that_writes_leave_it(
    demo_books, requests_between_writes
):
    pages = [ProductQuery(limit=10, offset=10 * number) for number in range(20)]
    seed = random.randrange(1_000_000)
    dice = random.Random(seed)
    outcomes = []
    for turn in range(2_000 // requests_between_writes):
        Product.objects.update(price=turn)
        asked = dice.choices(pages, k=requests_between_writes)
        outcomes += [list_products_cached(page).fetched.outcome for page in asked]
    assert set(outcomes) == {Outcome.HIT, Outcome.FILLED}
    expected = 1 - lost(requests_between_writes / len(pages))
    hits = outcomes.count(Outcome.HIT) / len(outcomes)
    assert hits == pytest.approx(expected, abs=0.06), f"seed {seed}"


def test_the_slots_that_it_asks_for_leave_pages_in_their_place(costs):
    demand = replace(USUAL, products=200_000, hit_ratio=0.95)
    variants = 2 * math.ceil(estimate(demand, costs).slots) + keys.RESERVED_KEYS
    queries = [ProductQuery(limit=100, offset=100 * page) for page in range(demand.pages)]
    slots = [keys.entry_keys("product", one.normalised(), variants).entry for one in queries]
    seed = random.randrange(1_000_000)
    dice = random.Random(seed)
    held, hits, asked = dict(zip(slots, range(demand.pages), strict=True)), 0, 40_000
    for _ in range(asked):
        page = dice.randrange(demand.pages)
        hits += held[slots[page]] == page
        held[slots[page]] = page
    assert hits / asked == pytest.approx(demand.hit_ratio, abs=0.02), f"seed {seed}"


# --- Against measurements ------------------------------------------------------------------------
def test_the_model_holds_at_the_sizes_that_were_measured(costs):
    measured = read_measured()
    found = checks(costs, measured)
    assert {(one.workers, one.hit_ratio) for one in found} == {
        (workers, ratio) for workers in (1, 2, 4) for ratio in (1.0, 0.9, 0.0)
    }
    for one in found:
        assert abs(one.error) < ERROR_AT_MOST or not one.is_steady, one


def test_rounds_that_something_else_disturbed_are_told_from_the_models_error():
    calm, disturbed = Check(1.0, 1, 100.0, [90, 100]), Check(1.0, 2, 300.0, [90, 100, 200])
    assert (calm.is_steady, disturbed.is_steady) == (True, False)
    assert not replace(calm, others_cores=1.0).is_steady
    assert disturbed.error == 2.0


# Without anything else a hit takes 500 us of a worker and 100 us of Redis; a fill 2,000, 200 and 300.
ROUND = {
    "redis_hit": Cost(500, 100, 0, 20_000),
    "fill": Cost(2_000, 200, 300, 200),
}


@pytest.mark.parametrize(
    ("workers", "hit_ratio", "expected"),
    [
        (1, 1.0, 2_000),  # 1,000,000 / 500
        (2, 1.0, 2_500),  # two cores: 2,000,000 / (500 + 100 + 200 of who asks)
        (4, 1.0, 2_500),
        (1, 0.0, 500),  # 1,000,000 / 2,000
        (4, 0.0, 741),  # 2,000,000 / (2,000 + 200 + 300 + 200)
        (1, 0.5, 800),  # 1,000,000 / (500 / 2 + 2,000 / 2)
    ],
)
def test_a_rate_is_predicted_from_what_the_model_says_that_requests_take(
    costs, workers, hit_ratio, expected
):
    measured = replace(
        read_measured(),
        cores=2,
        rates=[Rate(workers, hit_ratio, [1.0], web_us=0, client_us=200, others_cores=0)],
    )
    (found,) = checks(replace(costs, **ROUND), measured)
    assert found.predicted == pytest.approx(expected, rel=0.001)


@pytest.mark.parametrize("name", ["redis_hit", "fill"])
@pytest.mark.parametrize("factor", [0.3, 3])
def test_a_wrong_cost_would_be_seen_in_the_check(costs, name, factor):
    measured = read_measured()
    as_predicted = [
        replace(rate, rounds=[one.predicted])
        for rate, one in zip(measured.rates, checks(costs, measured), strict=True)
    ]
    right = getattr(costs, name)
    wrong = replace(costs, **{name: replace(right, web_us=factor * right.web_us)})
    errors = [abs(one.error) for one in checks(wrong, replace(measured, rates=as_predicted))]
    assert max(errors) > ERROR_AT_MOST


def test_costs_are_plausible_beside_each_other(costs):
    assert costs.copy_hit.web_us < costs.redis_hit.web_us < costs.fill.web_us
    assert costs.redis_hit.redis_us < costs.fill.redis_us
    assert costs.redis_hit.redis_bytes > costs.page_bytes > costs.gzip_bytes
    assert costs.entry_bytes > costs.page_bytes
    assert costs.fill.database_us > 0
    assert costs.hearing.web_us > 0


# --- The command and its page --------------------------------------------------------------------
def test_the_page_is_what_the_command_prints(tmp_path):
    page = tmp_path / "capacity.md"
    finished = run("--output", str(page))
    assert finished.returncode == 0, finished.stderr
    assert page.read_text() == (ROOT / "docs" / "capacity.md").read_text(), "run `make capacity`"
    for table in report.tables(demands(), read(), checks(read(), read_measured())):
        assert table.title in finished.stdout


def demands():
    arguments = parse_arguments([])
    return [
        Demand(rate, arguments.products, arguments.hit_ratio, arguments.writes)
        for rate in arguments.rps
    ]


def test_the_page_names_the_limit_of_each_load_and_what_to_change(costs):
    page = (ROOT / "docs" / "capacity.md").read_text()
    assert [one.requests_a_second for one in demands()] == [1_000, 100_000, 1_000_000]
    for sentence in report.sentences(demands(), costs):
        assert f"- {sentence}" in page
    for remedy in ("LOCAL_CACHE", "stale-while-revalidate", "key-set pages", "sharding by key"):
        assert remedy in page


def test_a_load_that_one_of_everything_bears_is_said_to_be_fine(costs):
    small = [Demand(requests_a_second=50, products=100, hit_ratio=0.9)]
    (sentence,) = report.sentences(small, costs)
    assert "one of everything suffices" in sentence


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rps", "0"], "0 requests a second take nothing"),
        (["--rps", "1000,many"], '"many" is not a number from 0 up'),
        (["--rps", "inf"], '"inf" is not a number'),
        (["--products", "0"], '"0" is not a whole number from 1 up'),
        (["--products", "1.5"], '"1.5" is not a whole number'),
        (["--hit-ratio", "1.01"], '"1.01" is not a number from 0 to 1'),
        (["--hit-ratio", "-0.1"], '"-0.1" is not a number from 0 to 1'),
        (["--hit-ratio", "99%"], '"99%" is not a number from 0 to 1'),
        (["--writes", "-1"], '"-1" is not a number from 0 up'),
        (["--rounds", "2"], '"2" is fewer than'),
        (["--turns", "0"], '"0" is not a whole number from 1 up'),
    ],
)
def test_a_bad_argument_is_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "no JSON", "{}"])
def test_a_file_that_cannot_be_used_is_named_with_the_command_that_writes_it(tmp_path, content):
    path = tmp_path / "costs.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CostsError, match=r"costs\.json.*make bench-capacity"):
        read(RESULTS, path)
    with pytest.raises(CostsError, match=r"costs\.json.*make bench`"):
        read(path, MEASURED)
    finished = run("--costs", str(path))
    assert finished.returncode == 1
    assert finished.stderr.startswith(str(path))
    assert "Traceback" not in finished.stderr


def test_what_no_number_of_suffices_is_called_so_and_no_bound_is_called_any_number(costs):
    endless = estimate(Demand(1_000_000, 10_000_000, 0.5), costs)
    named = {one.name: one for one in limits(endless, costs)}
    assert named["CPU of one Redis, cores"].needed == "no number suffices"
    table = report.tables([endless.demand], costs, [])[3]
    assert table.rows[0][1:3] == ("no number suffices", "no number suffices")
    unbound = estimate(Demand(1_000, 100, 0.0), costs)
    named = {one.name: one for one in limits(unbound, costs)}
    assert named["Changes of an entry, a second"].had == "any number"


def test_what_writes_leave_of_hits_is_shown(costs):
    (table,) = [one for one in report.tables(demands(), costs, []) if "writes leave" in one.title]
    ratios = [[float(cell.split()[0]) for cell in row[1:]] for row in table.rows]
    assert [row[0] for row in table.rows] == ["0", "0.01", "0.1", "1", "10"]
    for of_a_rate in zip(*ratios, strict=True):
        assert sorted(of_a_rate, reverse=True) == list(of_a_rate)
    assert ratios[0][0] > ratios[-1][0]


@pytest.mark.skipif(not binary("mariadbd", "mysqld"), reason="no MariaDB or MySQL on the PATH")
@pytest.mark.skipif(not binary("wrk"), reason="no wrk on the PATH")
def test_measuring_writes_everything_that_the_model_needs(tmp_path):
    path = tmp_path / "costs.json"
    # A second, as a load during which the machine stalls has to be answered all the same.
    quick = ("--rounds", "50", "--turns", "1", "--seconds", "1")
    finished = run("--measure", *quick, "--costs", str(path))
    assert finished.returncode == 0, finished.stderr
    found = json.loads(path.read_text())
    assert found.keys() == json.loads(MEASURED.read_text()).keys()
    assert read_measured(path).page_bytes > 1_000
    assert found["fill"]["web_us"] > found["hit"]["web_us"] > 0
    assert found["hit"]["redis_us"] > 0
    assert found["listening"]["web_us"] > 0
    # Each thread may hold a connection to the database, and one of each pool; two listen.
    threads = 4 + settings.EVENTS_MAX_CLIENTS
    assert found["redis_connections"] == 2 * threads + 2
    assert threads - 2 <= found["database_connections"] <= threads
    for rate in found["rates"]:
        assert min(rate["rounds"][0], rate["web_us"], rate["client_us"]) > 0
        assert -0.2 < rate["others_cores"] < found["cores"]
