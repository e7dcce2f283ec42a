"""The WSGI callable that gunicorn serves: hits go the short way, everything else to Django."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "simple_django_redis.settings")

django.setup(set_prefix=False)

from freshcache.http.fast_path import FastPath
from simple_django_redis.handler import Handler
from simple_django_redis.slow_bodies import SlowBodies
from store import own_writes
from store.abandoned_statements import limit_statements

limit_statements()
application = FastPath(
    SlowBodies(Handler()), tokens=own_writes.tokens, harmless=[own_writes.HEADER]
)
