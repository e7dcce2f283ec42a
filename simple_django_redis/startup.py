"""What every entry point (manage.py, gunicorn) does before anything else.

The settings are loaded first, so that a wrong variable ends the process with one line instead of a
traceback or a gunicorn that restarts failing workers for ever.
"""

import sys

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from simple_django_redis import private_folder
from simple_django_redis.embedded import EmbeddedRedisError, ensure_running


def start_embedded_redis() -> None:
    """Load the settings and, where they use the embedded Redis, see that it runs.

    Ends the process with one line that names what is wrong if either fails.
    """
    try:
        if not settings.MYSQL_HOST:
            private_folder.make(settings.VAR_DIR)
        if settings.EMBEDDED_REDIS:
            ensure_running(settings.VAR_DIR)
    except (ImproperlyConfigured, EmbeddedRedisError, OSError) as error:
        sys.exit(f"Cannot start: {error}")
