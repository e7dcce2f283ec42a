"""Without threads to be had ("can't start new thread") each route answers as it does with them."""

import threading
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from freshcache.process_clock import process_clock
from store.models import Transfer
from tests.test_slow_redis import WAYS, Way, send

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture
def staff(books) -> Client:
    user = User.objects.create_user("staff", password="secret", is_staff=True)
    user.user_permissions.set(Permission.objects.all())
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def no_thread_to_be_had() -> Iterator[None]:
    before = threading.stack_size(1 << 46)  # No room is found for it.
    process_clock.reset_after_fork()
    yield
    threading.stack_size(before)


EVERYWHERE = [*WAYS, Way("forget/stampede/", "post", status=302), Way("store/events/", status=503)]


@pytest.mark.parametrize("way", EVERYWHERE, ids=str)
def test_a_route_needs_no_thread(way, staff, books, no_thread_to_be_had):
    kind = "import" if "imports/" in way.route else "export"
    transfer = Transfer.objects.create(kind=kind, state="done", touched_at=timezone.now())
    answer = send(staff, way, books[0], transfer)
    # What fills a list says 201, and what is not in a basket cannot be taken out of it.
    assert answer.status_code in (way.status, 201 if way.method == "get" else 404)
