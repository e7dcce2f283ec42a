# First stage: everything that needs a compiler.
FROM python:3.13-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev pkg-config libmariadb-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /usr/src/app
COPY requirements.lock ./
COPY bin/install bin/
# What only installs is not needed any more once it has.
RUN python -m venv /opt/venv \
    && PIP_NO_CACHE_DIR=1 bin/install /opt/venv/bin/python requirements.lock \
    && /opt/venv/bin/python -m pip uninstall -q -y setuptools pip
COPY manage.py ./
COPY simple_django_redis simple_django_redis
COPY freshcache freshcache
COPY store store
COPY pages pages
# The key and the address are for this one command: nothing is signed, nothing is connected to.
RUN SECRET_KEY=unused REDIS_URL=redis://unused /opt/venv/bin/python manage.py collectstatic --noinput

FROM python:3.13-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends libmariadb3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 store
WORKDIR /usr/src/app
COPY --from=build /opt/venv /opt/venv
COPY manage.py gunicorn.conf.py ./
COPY simple_django_redis simple_django_redis
COPY freshcache freshcache
COPY store store
COPY pages pages
COPY --from=build /usr/src/app/static static
COPY docs/bench/results.json docs/bench/
# Without MYSQL_HOST and REDIS_URL the store keeps its data in var/.
RUN install --directory --owner=store --group=store --mode=700 var
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 BIND_ADDRESS=0.0.0.0
USER store
EXPOSE 8000
# A proxy that the environment names must not get between the probe and the process.
HEALTHCHECK --interval=30s --timeout=5s --start-period=90s \
    CMD ["python", "-c", "import os; from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ.get('PORT') or 8000}/healthz\", timeout=3)"]
CMD ["sh", "-c", "python manage.py prepare && exec gunicorn simple_django_redis.wsgi"]
