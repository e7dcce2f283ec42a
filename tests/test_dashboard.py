"""RQ's dashboard: seen by superusers only, and changed by POST only."""

import os
import pickle
import re
import time

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from redis import Redis

from store import queues
from tests.test_admin import LIST

pytestmark = pytest.mark.django_db(transaction=True)

HOME = "/django-rq/"
JOB = f"{HOME}queues/0/one/"
CREATED = "2026-11-30T12:00:00.000000Z"
# What changes queues or jobs.
CHANGES = [f"{HOME}queues/0/{name}/" for name in ("empty", "requeue-all", "failed/clear")]
CHANGES += [f"{HOME}queues/actions/0/"]
CHANGES += [f"{JOB}{name}/" for name in ("delete", "requeue", "enqueue", "stop")]


@pytest.fixture
def job(queue_server):
    queues.enqueue("store.jobs.clear_sessions", job_id="one")
    with Redis(port=queue_server.port) as client:
        yield lambda: client.lrange("rq:queue:default", 0, -1) == [b"one"]


def test_strangers_are_sent_to_the_admins_login(client, queue_server):
    for path in (HOME, JOB, *CHANGES):
        answer = client.get(path)
        assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={path}")


def test_staff_who_are_no_superusers_do_not_see_it_whatever_their_permissions(job):
    staff = User.objects.create_user("staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.all())
    client = Client()
    client.force_login(staff)
    for path in (HOME, JOB, *CHANGES, f"{HOME}stats.json", f"{HOME}metrics", "/admin/django_rq/"):
        assert client.get(path).status_code == 404
        assert client.post(path, {"post": "yes"}).status_code == 404
    assert job()
    # As a word, as the random letters of a CSRF token may have them.
    assert not re.search(r"\bRQ\b|django.?rq", client.get(LIST).text, re.IGNORECASE)


def test_superusers_see_queues_and_jobs(admin_client, job):
    assert "default" in admin_client.get(HOME).text
    page = admin_client.get(JOB).text
    assert "store.jobs.clear_sessions" in page
    assert "pickle" not in page
    assert "low" in admin_client.get(f"{HOME}stats.json").text
    for view in ("", "details", "finished", "failed", "scheduled", "started", "deferred"):
        assert admin_client.get(f"{HOME}queues/1/{view}/".replace("//", "/")).status_code == 200


def test_only_post_changes_anything(admin_client, job):
    for path in CHANGES:
        assert admin_client.get(path).status_code in (200, 302, 405), path
        assert job(), path
    without_token = Client(enforce_csrf_checks=True)
    without_token.cookies = admin_client.cookies
    assert without_token.post(CHANGES[0], {"post": "yes"}).status_code == 403
    assert job()
    admin_client.post(CHANGES[0], {"post": "yes"})
    assert not job()


class Folder:
    """Unpickling it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("made",)


@pytest.mark.parametrize("page", ["failed/clear", "started", "failed"])
def test_no_page_unpickles_what_somebody_has_written_to_redis(
    admin_client, job, queue_server, tmp_path, monkeypatch, page
):
    monkeypatch.chdir(tmp_path)
    with Redis(port=queue_server.port) as client:
        pickled = pickle.dumps(Folder())
        client.hset("rq:job:one", mapping={"meta": pickled, "result": pickled})
        client.zadd("rq:failed:default", {"one": time.time() + 60})
        client.zadd("rq:wip:default", {"one:run": time.time() + 60})
        execution = {"id": "run", "created_at": CREATED, "last_heartbeat": CREATED}
        client.hset("rq:execution:one:run", mapping=execution)
    path = f"{HOME}queues/0/{page}/"
    answer = admin_client.post(path) if page == "failed/clear" else admin_client.get(path)
    assert answer.status_code in (200, 302)
    assert not list(tmp_path.iterdir())


def test_without_redis_it_is_a_503(admin_client, queue_server):
    queue_server.kill()
    admin_client.raise_request_exception = False
    answer = admin_client.get(HOME)
    assert (answer.status_code, answer["Retry-After"]) == (503, "1")
