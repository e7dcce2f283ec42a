"""The WSGI callable that gunicorn serves: hits go the short way, everything else to Django."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "simple_django_redis.settings")

django_application = get_wsgi_application()

from simple_django_redis.slow_bodies import SlowBodies
from store.abandoned_statements import limit_statements
from store.short_way import ShortWay

limit_statements()
application = ShortWay(SlowBodies(django_application))
