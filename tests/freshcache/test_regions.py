"""Regions: how they are made and found, what they depend on, and what is said of wrong use."""

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import ImproperlyConfigured
from django.db import models, transaction

from freshcache import Outcome, Region, registry

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]


@pytest.fixture
def make(monkeypatch):
    """Make regions as regions.py does, and take them out again when the test is over."""
    made: list[Region] = []

    def start(*names_and_models, **options) -> Region:
        monkeypatch.setitem(registry._state, "is_ready", False)
        made.append(Region(*names_and_models, **{"ttl": 60, **options}))
        registry.start()
        return made[-1]

    yield start
    for one in made:
        registry.remove(one)
        one.unwatch()


def names_of_groups() -> bytes:
    return ",".join(Group.objects.order_by("name").values_list("name", flat=True)).encode()


def outcome(region: Region) -> tuple[Outcome, bytes]:
    result = region.get_or_load("", names_of_groups)
    return result.outcome, result.body


def test_a_value_is_loaded_once_and_again_after_a_write(make):
    groups = make("groups", depends_on=[Group])
    assert outcome(groups) == (Outcome.MISS, b"")
    assert outcome(groups) == (Outcome.HIT, b"")
    Group.objects.create(name="a")
    assert outcome(groups) == (Outcome.MISS, b"a")
    Group.objects.update(name="b")
    assert outcome(groups) == (Outcome.MISS, b"b")


def test_a_transaction_that_is_rolled_back_leaves_nothing(make):
    groups = make("groups", depends_on=[Group])
    Group.objects.create(name="a")
    assert outcome(groups)[1] == b"a"
    with pytest.raises(RuntimeError), transaction.atomic():
        Group.objects.update(name="b")
        assert outcome(groups)[1] == b"b"
        raise RuntimeError
    assert outcome(groups) == (Outcome.HIT, b"a")


def test_a_write_to_any_table_makes_it_stale(make):
    people = make("people", depends_on=[User, Group])

    def found() -> Outcome:
        return people.get_or_load("", lambda: b"1").outcome

    for write in (
        lambda: Group.objects.create(name="a"),
        lambda: User.objects.create_user("ann"),
        lambda: User.objects.get().groups.add(Group.objects.get()),
        lambda: Group.objects.get().delete(),
    ):
        found()
        assert found() is Outcome.HIT
        write()
        assert found() is Outcome.MISS
    Permission.objects.update(name="x")  # on which it does not depend
    assert found() is Outcome.HIT


def test_many_to_many_tables_and_parents_are_watched():
    assert Region.tables_of("auth.User") == {
        "auth_user",
        "auth_user_groups",
        "auth_user_user_permissions",
    }


def test_a_table_can_be_named(make):
    groups = make("groups", depends_on=["auth_group"])
    outcome(groups)
    Group.objects.create(name="a")
    assert outcome(groups)[1] == b"a"


def test_a_region_that_is_made_after_start_up_is_refused():
    with pytest.raises(ImproperlyConfigured, match="in the module `regions` of an installed app"):
        Region("late", depends_on=[Group], ttl=60)
    assert "late" not in registry.names()


def test_a_name_is_given_once(make):
    make("groups", depends_on=[Group])
    with pytest.raises(ImproperlyConfigured, match="two regions with the name 'groups'"):
        make("groups", depends_on=[Group])


@pytest.mark.parametrize("name", ["", "a b", "a:b", "x" * 65, "a\n"])
def test_a_name_that_is_no_key_is_refused(name):
    with pytest.raises(ImproperlyConfigured, match="letters, digits"):
        Region(name, depends_on=[Group], ttl=60)


@pytest.mark.parametrize("wrong", ["auth.Nobody", "nowhere.Group", "a.b.c", 7, int])
def test_an_unknown_model_is_refused(wrong):
    with pytest.raises(ImproperlyConfigured, match="no model of an installed app"):
        Region("groups", depends_on=[wrong], ttl=60)


def test_a_text_in_place_of_a_list_is_refused():
    with pytest.raises(ImproperlyConfigured, match="has to be a list"):
        Region("groups", depends_on="auth.Group", ttl=60)


@pytest.mark.parametrize("body", ["text", None, {"a": 1}, bytearray(b"1")])
def test_a_load_that_returns_no_bytes_is_told(make, body):
    groups = make("groups", depends_on=[Group])
    with pytest.raises(TypeError, match="region 'groups' has to return bytes"):
        groups.get_or_load("", lambda: body)
    assert outcome(groups) == (Outcome.MISS, b"")


def test_nothing_is_read_before_writes_are_watched(make, monkeypatch):
    groups = make("groups", depends_on=[Group])
    monkeypatch.setitem(registry._state, "is_ready", False)
    with pytest.raises(ImproperlyConfigured, match="INSTALLED_APPS"):
        outcome(groups)


def test_what_a_database_deletes_by_itself_is_watched(monkeypatch):
    """Django 6.1 has DB_CASCADE, for which it sends no statement; other versions have none."""
    mark = getattr(models, "DB_CASCADE", models.CASCADE)
    monkeypatch.setattr("freshcache.region.BY_DATABASE", (mark,))
    monkeypatch.setattr(Permission._meta.get_field("content_type").remote_field, "on_delete", mark)
    assert Region.tables_of(Permission) == {"auth_permission", "django_content_type"}
