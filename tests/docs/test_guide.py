"""docs/guide.md and the README's lines, typed into a project that `django-admin startproject` has made.

It has a copy of the folder freshcache/, and nothing else of this repository.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.preloaded import ROOT
from tests.servers import free_port, start_redis

README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs/guide.md").read_text()
REDIS = "redis://localhost:6379/0"
VISIT = """
import asyncio, django
django.setup()
from django.conf import settings
settings.ALLOWED_HOSTS = ["testserver"]
from django.db import transaction
from django.test import AsyncClient, Client
from blog import views
from blog.models import Category, Post
client = Client()
def ask(path="/latest/"):
    answer = client.get(path)
    assert answer.status_code == 200, answer.content
    print(answer.headers["Cache-Status"].split("; ttl")[0], answer.content.decode())
ask(); ask()
news = Category.objects.create(name="news")
Post.objects.create(title="first", category=news)
ask(); ask()
Category.objects.update(name="other")
ask()
try:
    with transaction.atomic():
        Post.objects.update(title="never")
        ask()
        raise RuntimeError
except RuntimeError:
    ask()
print(views.count_of("other"), views.count_of(category="other"), views.count_of("news"))
print(*views.titles()), print(*views.titles())
async def visit():
    return [(await AsyncClient().get("/categories/")).headers["Cache-Status"] for _ in range(2)]
for said in asyncio.run(visit()):
    print(said.split("; ttl")[0])
"""
SEEN = """
freshcache; fwd=miss; stored {"posts": []}
freshcache; hit {"posts": []}
freshcache; fwd=miss; stored {"posts": [{"title": "first", "category__name": "news"}]}
freshcache; hit {"posts": [{"title": "first", "category__name": "news"}]}
freshcache; fwd=miss; stored {"posts": [{"title": "first", "category__name": "other"}]}
freshcache; fwd=bypass {"posts": [{"title": "never", "category__name": "other"}]}
freshcache; hit {"posts": [{"title": "first", "category__name": "other"}]}
1 1 0
first Outcome.MISS
first Outcome.HIT
freshcache; fwd=miss; stored
freshcache; hit
"""
TESTED = """
from blog.models import Category
from blog.views import count_of
from django.test import TestCase
from freshcache import testing


class LatestTests(TestCase):
    def setUp(self):
        self.enterContext(testing.in_test_case())

    def test_a_write_is_seen(self):
        assert count_of("a") == 0
        Category.objects.create(name="a").post_set.create(title="x")
        assert count_of("a") == 1
"""


class Project:
    def __init__(self, folder: Path, redis_port: int) -> None:
        self.folder = folder
        self.redis = f"redis://127.0.0.1:{redis_port}/0"
        self.run("-m", "django", "startproject", "mysite", ".")
        shutil.copytree(ROOT / "freshcache", folder / "freshcache")

    def write(self, name: str, text: str) -> None:
        """Write a file, or what is added to one."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        (path.parent / "__init__.py").touch()
        before = path.read_text() if "+=" in text else ""
        path.write_text(before + text.replace(REDIS, self.redis))

    def run(self, *command: str) -> str:
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=environment | {"DJANGO_SETTINGS_MODULE": "mysite.settings"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def files_of(text: str) -> dict[str, str]:
    """Return the blocks that have the name of a file above them."""
    return dict(re.findall(r"^`(\S+\.py)`\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    server = start_redis(free_port())
    yield Project(tmp_path, server.port)
    server.stop()


def test_the_guide_works_as_it_is_written(project):
    files = files_of(GUIDE)
    assert {"mysite/settings.py", "blog/models.py", "blog/regions.py", "blog/views.py"} <= set(
        files
    )
    for name, text in files.items():
        project.write(name, text)
    for line in re.findall(
        r"^python (manage\.py (?:makemigrations|migrate).*)$", GUIDE, re.MULTILINE
    ):
        project.run(*line.split())
    assert project.run("-c", VISIT).strip() == SEEN.strip()
    project.write("blog/tests.py", TESTED)
    project.run("manage.py", "test", "--noinput")


SHOP = """
from django.db import models

class Product(models.Model):
    name = models.CharField(max_length=50)
"""
BUY = """
import django
django.setup()
from django.test import RequestFactory
from shop.models import Product
from shop.views import product_list
for _ in range(3):
    answer = product_list(RequestFactory().get("/", headers={"Host": "localhost"}))
    print(answer.headers["Cache-Status"].split("; ttl")[0], answer.content.decode())
    if _ == 1:
        Product.objects.create(name="a")
"""
BOUGHT = """
freshcache; fwd=miss; stored {"products": []}
freshcache; hit {"products": []}
freshcache; fwd=miss; stored {"products": [{"id": 1, "name": "a"}]}
"""


def test_the_lines_of_the_readme_are_enough(project):
    lines = README.split("## Use it in your project")[1].split("```python\n")[1].split("```")[0]
    project.write("mysite/settings.py", 'INSTALLED_APPS += ["shop"]\n')
    project.write("shop/models.py", SHOP)
    for name, text in re.findall(r"^# (\S+\.py)\n(.*?)(?=^# \S+\.py\n|\Z)", lines, re.M | re.S):
        project.write(name, text)
    project.run("manage.py", "makemigrations", "shop")
    project.run("manage.py", "migrate")
    assert project.run("-c", BUY).strip() == BOUGHT.strip()


def test_a_project_without_the_app_is_told(project):
    project.write("blog/models.py", "")
    project.write("mysite/settings.py", 'INSTALLED_APPS += ["blog"]\n')
    said = project.run(
        "-c",
        "import django; django.setup()\n"
        "from freshcache import Region\n"
        "region = Region('posts', depends_on=['auth_group'], ttl=60)\n"
        "try: region.get_or_load('', lambda: b'')\n"
        "except Exception as error: print(error)",
    )
    assert "put 'freshcache' into INSTALLED_APPS" in said
