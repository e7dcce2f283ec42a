"""The WSGI callable that gunicorn serves. Importing it does no work beyond loading Django."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "simple_django_redis.settings")

application = get_wsgi_application()
