"""Settings, all from the environment: the table in README.md says what each variable means.

Without MYSQL_HOST and REDIS_URL the store runs on its embedded default, SQLite and a Valkey server
of its own under var/. A wrong value raises ImproperlyConfigured with the variable's name.
"""

import warnings
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured
from environs import EnvError
from marshmallow.validate import Length, Range, Regexp

from freshcache.keys import ENTRY_FORMAT_VERSION
from simple_django_redis import embedded, secret
from simple_django_redis.environment import (
    LONGEST_SECONDS,
    env,
    host,
    network,
    origin,
    refuse_other_names,
)
from simple_django_redis.private_database import PrivateDatabase
from simple_django_redis.redis_cluster import node_urls, refuse_what_needs_one_server, use_cluster
from simple_django_redis.redis_url import is_one_server, redis_url, with_options
from simple_django_redis.replica_hosts import (
    Host,
    primary_host,
    replica_databases,
    replica_host,
)
from store.keys import ORM_AGE_SECONDS

BASE_DIR = Path(__file__).resolve().parent.parent

POSITIVE = Range(min=1)

try:
    # What the embedded default keeps: its database, its secret key, its Redis socket.
    VAR_DIR: Path = Path(env.str("VAR_DIR", "") or BASE_DIR / "var").resolve()
    MYSQL_HOST: str = primary_host(env.str("MYSQL_HOST", ""))
    MYSQL_PORT: int = env.port("MYSQL_PORT", 3306)
    MYSQL_NAME: str = env.str("MYSQL_NAME", "django_redis_database", validate=Length(1, 64))
    MYSQL_USER: str = env.str("MYSQL_USER", "root", validate=Length(1, 128))
    MYSQL_PASSWORD: str = env.str("MYSQL_PASSWORD", "")
    MYSQL_TIMEOUT_SECONDS: int = env.int("MYSQL_TIMEOUT_SECONDS", 2, validate=Range(min=2))
    MYSQL_REPLICA_HOST: list[Host] = env.list("MYSQL_REPLICA_HOST", [], subcast=replica_host)
    # A replica that has not proved to be nearer than this is not read.
    MYSQL_REPLICA_MAX_LAG: float = env.float("MYSQL_REPLICA_MAX_LAG", 1.0, validate=Range(0.1, 60))
    REDIS_URL: str = env.str("REDIS_URL", "")
    REDIS_PASSWORD: str = env.str("REDIS_PASSWORD", "")
    # For what must not be evicted: baskets, locks, jobs, events. Empty: the same as REDIS_URL.
    QUEUE_REDIS_URL: str = env.str("QUEUE_REDIS_URL", "")
    QUEUE_REDIS_PASSWORD: str = env.str("QUEUE_REDIS_PASSWORD", "")  # Empty: REDIS_PASSWORD.
    # A process uses one connection a thread; see gunicorn.conf.py for how many threads there are.
    REDIS_MAX_CONNECTIONS: int = env.int("REDIS_MAX_CONNECTIONS", 50, validate=POSITIVE)
    CACHE_TTL: int | None = env.cache_ttl("CACHE_TTL", "600")
    # How long past CACHE_TTL the last good list may bridge an outage of the database.
    CACHE_STALE_IF_ERROR: int = env.int(
        "CACHE_STALE_IF_ERROR", 3600, validate=Range(0, LONGEST_SECONDS)
    )
    CACHE_MAX_VARIANTS: int = env.int("CACHE_MAX_VARIANTS", 1000, validate=Range(min=10))
    CACHE_WAIT_SECONDS: float = env.float("CACHE_WAIT_SECONDS", 2.0, validate=Range(min=0))
    CACHE_LEASE_SECONDS: float = env.float("CACHE_LEASE_SECONDS", 5.0, validate=Range(min=0.1))
    CACHE_BUDGET_SECONDS: float = env.float("CACHE_BUDGET_SECONDS", 0.25, validate=Range(min=0.01))
    LOCAL_CACHE: bool = env.bool("LOCAL_CACHE", True)
    # Seconds for which another process may serve what a write has made old.
    LOCAL_CACHE_MAX_LAG: float = env.float("LOCAL_CACHE_MAX_LAG", 0.1, validate=Range(min=0.01))
    LOCAL_CACHE_MAX_BYTES: int = env.int("LOCAL_CACHE_MAX_BYTES", 32_000_000, validate=POSITIVE)
    ORM_CACHE: bool = env.bool("ORM_CACHE", False)
    # Rows of a list that has no limit; past that it has to be asked for page by page.
    LIST_MAX_ROWS: int = env.int("LIST_MAX_ROWS", 25_000, validate=POSITIVE)
    EVENTS_MAX_CLIENTS: int = env.int("EVENTS_MAX_CLIENTS", 20, validate=Range(0, 500))
    EVENTS_MAX_PER_ADDRESS: int = env.int("EVENTS_MAX_PER_ADDRESS", 5, validate=POSITIVE)
    # Costs each write another round trip.
    CACHE_WARM_ON_WRITE: bool = env.bool("CACHE_WARM_ON_WRITE", False)
    # Usual ways of caching, side by side.
    STRATEGIES: bool = env.bool("STRATEGIES", False)
    METRICS_ALLOW: list[IPv4Network | IPv6Network] = env.list(
        "METRICS_ALLOW", [ip_network("127.0.0.0/8"), ip_network("::1/128")], subcast=network
    )
    METRICS_TOKEN: str = env.str(
        "METRICS_TOKEN",
        "",
        validate=Regexp(r"^(|[!-~]{16,})$", error="16 plain characters at least."),
    )
    IMPORT_MAX_BYTES: int = env.int("IMPORT_MAX_BYTES", 200_000_000, validate=POSITIVE)
    SESSION_COOKIE_AGE: int = env.int(
        "SESSION_COOKIE_AGE", 3600, validate=Range(1, LONGEST_SECONDS)
    )
    # At most so many in so many seconds; None: no limit.
    THROTTLE_LOGIN: tuple[int, int] | None = env.rate("THROTTLE_LOGIN", "10/min")
    THROTTLE_WRITES: tuple[int, int] | None = env.rate("THROTTLE_WRITES", "120/min")
    MAX_BODY_BYTES: int = env.int("MAX_BODY_BYTES", 1_000_000, validate=POSITIVE)
    PROJECT_NAME: str = env.str(
        "PROJECT_NAME", "django_redis", validate=Regexp(r"^[\w.-]{1,64}$", error="Must be a name.")
    )
    SECRET_KEY: str = env.str("SECRET_KEY", "")
    DEBUG: bool = env.bool("DEBUG", False)
    ALLOWED_HOSTS: list[str] = env.list(
        "ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"], subcast=host
    )
    CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [], subcast=origin)
    SECURE_SSL_REDIRECT: bool = env.bool("SECURE_SSL_REDIRECT", False)
    TRUST_PROXY: bool = env.bool("TRUST_PROXY", False)
    BIND_ADDRESS: str = env.address("BIND_ADDRESS", "127.0.0.1")
    PORT: int = env.port("PORT", 8000)
    WEB_CONCURRENCY: int = env.int("WEB_CONCURRENCY", 2, validate=Range(1, 512))
    # Behind a load balancer: how long /readyz says no before gunicorn stops accepting.
    DRAIN_SECONDS: float = env.float("DRAIN_SECONDS", 0.0, validate=Range(0, 300))
    # gunicorn starts a worker for the jobs beside itself, for stores of one machine.
    RUN_WORKER: bool = env.bool("RUN_WORKER", False)
    LOG_LEVEL: str = env.log_level_name("LOG_LEVEL", "INFO")
    REDIS_URL = redis_url(REDIS_URL, REDIS_PASSWORD)
    QUEUE_REDIS_URL = redis_url(
        QUEUE_REDIS_URL, QUEUE_REDIS_PASSWORD or REDIS_PASSWORD, "QUEUE_REDIS_URL"
    )
    REDIS_CLUSTER_NODES: list[str] = node_urls(REDIS_URL)  # none: REDIS_URL is one server
    refuse_what_needs_one_server(
        REDIS_CLUSTER_NODES, QUEUE_REDIS_URL, ORM_CACHE=ORM_CACHE, STRATEGIES=STRATEGIES
    )
    refuse_other_names(mysql_host=MYSQL_HOST, redis_url=REDIS_URL)
except (EnvError, ValueError) as error:
    raise ImproperlyConfigured(" ".join(str(error).split())) from error

# What everybody may do and see on the pages of the demo, no other store may allow: it is the embedded
# default, on this machine, and no variable of its own turns it on.
DEMO = not (MYSQL_HOST or REDIS_URL or QUEUE_REDIS_URL or TRUST_PROXY) and BIND_ADDRESS in (
    "127.0.0.1",
    "::1",
)
EMBEDDED_REDIS = not REDIS_URL
if EMBEDDED_REDIS:
    REDIS_URL = f"unix://{quote(str(embedded.socket_path(VAR_DIR)))}"
QUEUE_REDIS_URL = QUEUE_REDIS_URL or REDIS_URL
if MYSQL_HOST and find_spec("MySQLdb") is None:
    raise ImproperlyConfigured(
        "MYSQL_HOST is set, but mysqlclient is not installed; `make mysql` installs it."
    )
if MYSQL_REPLICA_HOST and not MYSQL_HOST:
    raise ImproperlyConfigured("MYSQL_REPLICA_HOST names replicas of MYSQL_HOST, which is not set.")
if MYSQL_REPLICA_HOST and ORM_CACHE:
    raise ImproperlyConfigured(
        "MYSQL_REPLICA_HOST and ORM_CACHE=on do not go together: cacheops would keep what a replica "
        "says that is behind."
    )
if STRATEGIES and not is_one_server(REDIS_URL):
    raise ImproperlyConfigured(
        "STRATEGIES shows what tutorials do, who know one server: it needs REDIS_URL to be of one."
    )
if not SECRET_KEY:
    if MYSQL_HOST or not EMBEDDED_REDIS:
        raise ImproperlyConfigured(
            "SECRET_KEY is required as soon as MYSQL_HOST or REDIS_URL is set; make one with "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(50))'"
        )
    SECRET_KEY = secret.read_or_make(VAR_DIR / "secret_key")

# --- Application ---------------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
    "freshcache",
    "pages",
    "store",  # Before django_rq, whose rqworker it gives other defaults.
    "django_rq",
    *(["cacheops"] if ORM_CACHE else []),
]
MIDDLEWARE = [
    "simple_django_redis.middleware.HeadersOfAllMiddleware",
    "simple_django_redis.middleware.HeadMiddleware",
    "freshcache.redis.budget.RedisBudgetMiddleware",
    "store.health.HealthMiddleware",
    "simple_django_redis.middleware.BodyLimitMiddleware",
    "simple_django_redis.middleware.TrustedProxyMiddleware",
    "store.metrics_view.MetricsMiddleware",  # Behind the one that says who asks.
    "simple_django_redis.middleware.HttpsRedirectMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "simple_django_redis.static_files.StaticFilesMiddleware",  # Swagger has pages among its files.
    "store.own_writes.OwnWritesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "simple_django_redis.middleware.SlashMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "store.sign_in.RefusedSignIns",
    "simple_django_redis.middleware.LargeNumbersMiddleware",
]
AUTHENTICATION_BACKENDS = ["store.sign_in.ThrottledBackend"]
ROOT_URLCONF = "simple_django_redis.urls"
WSGI_APPLICATION = "simple_django_redis.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
LANGUAGES = [("en", "English"), ("fa", "Persian")]
TIME_ZONE = "UTC"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "store.authentication.ThrottledBasic",
    ],
    "DEFAULT_THROTTLE_CLASSES": ["store.write_throttle.WriteThrottle"],
    "EXCEPTION_HANDLER": "store.errors.exception_handler",
    "DEFAULT_RENDERER_CLASSES": [
        "store.renderers.ReadyJSONRenderer",
        "store.renderers.PageRenderer",
    ],
    "DEFAULT_PARSER_CLASSES": [
        "store.parsers.BoundedJSONParser",
        "rest_framework.parsers.FormParser",
        "rest_framework.parsers.MultiPartParser",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["store.permissions.StaffWritesElseReadOnly"],
    "URL_FORMAT_OVERRIDE": None,  # `format` is a parameter that is not known, as any other
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "The store",
    "DESCRIPTION": "A list of products from the database and from the cache, and what goes with it.",
    "VERSION": "1.0.0",
    "COMPONENT_SPLIT_REQUEST": True,  # An answer has fields that a request may leave out.
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "store.schema.say_what_is_always_there",
        "store.schema.add_common_answers",
    ],
}
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
# A checkout serves the files where they are; an image has them collected.
WHITENOISE_USE_FINDERS = not STATIC_ROOT.exists()
if WHITENOISE_USE_FINDERS:
    warnings.filterwarnings("ignore", message="No directory at")

# --- Database ------------------------------------------------------------------------------------
DATABASES: dict[str, dict[str, Any]]
if MYSQL_HOST:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.mysql",
            "HOST": MYSQL_HOST,
            "PORT": MYSQL_PORT,
            "NAME": MYSQL_NAME,
            "USER": MYSQL_USER,
            "PASSWORD": MYSQL_PASSWORD,
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": {
                "charset": "utf8mb4",
                "isolation_level": "read committed",
                # The server gives up before the client does, and says so: what a client has given up
                # on is carried out all the same, after the cache has been told.
                # Its clock is read as well as Django's, which is UTC.
                "init_command": "SET sql_mode = 'TRADITIONAL', time_zone = '+00:00', "
                "default_storage_engine = InnoDB, "
                f"innodb_lock_wait_timeout = {MYSQL_TIMEOUT_SECONDS - 1}",
                "connect_timeout": min(MYSQL_TIMEOUT_SECONDS // 2, 10),
                "read_timeout": MYSQL_TIMEOUT_SECONDS,
                "write_timeout": MYSQL_TIMEOUT_SECONDS,
            },
            "TEST": {"CHARSET": "utf8mb4"},
        }
    }
    DATABASES |= replica_databases(MYSQL_REPLICA_HOST, DATABASES["default"])
    DATABASE_ROUTERS = ["store.replicas.Router"] if MYSQL_REPLICA_HOST else []
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": VAR_DIR / "db.sqlite3",
            "CONN_MAX_AGE": 60,
            "OPTIONS": {
                "factory": PrivateDatabase,
                # Readers do not wait for the writer, and a writer waits its turn for up to 5 s.
                "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
                "transaction_mode": "IMMEDIATE",
                "timeout": 5,
            },
        }
    }

# --- Cache ---------------------------------------------------------------------------------------
FRESHCACHE: dict[str, Any] = {
    "NAME": "store",
    "STALE_IF_ERROR_SECONDS": CACHE_STALE_IF_ERROR,
    "MAX_VARIANTS": CACHE_MAX_VARIANTS,
    "WAIT_SECONDS": CACHE_WAIT_SECONDS,
    "LEASE_SECONDS": CACHE_LEASE_SECONDS,
    "BUDGET_SECONDS": CACHE_BUDGET_SECONDS,
    "MAX_CONNECTIONS": REDIS_MAX_CONNECTIONS,
    # A replaced primary of a cluster answers on; what it announces would be half of the truth.
    "LOCAL_CACHE": LOCAL_CACHE and not REDIS_CLUSTER_NODES,
    "LOCAL_CACHE_MAX_LAG_SECONDS": LOCAL_CACHE_MAX_LAG,
    "LOCAL_CACHE_MAX_BYTES": LOCAL_CACHE_MAX_BYTES,
    "CLUSTER_NODES": REDIS_CLUSTER_NODES,
}
LOCAL_CACHE = FRESHCACHE["LOCAL_CACHE"]
REDIS_OPTIONS: dict[str, Any] = {"CONNECTION_FACTORY": "freshcache.redis.pool.OnePool"}
CACHES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": PROJECT_NAME,
        "VERSION": ENTRY_FORMAT_VERSION,
        "TIMEOUT": CACHE_TTL,
        "OPTIONS": REDIS_OPTIONS | {"SERIALIZER": "freshcache.backends.JSONOrBytes"},
    },
    "session": {
        "BACKEND": "freshcache.backends.SessionCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": f"{PROJECT_NAME}:session",
        "TIMEOUT": SESSION_COOKIE_AGE,
        "OPTIONS": REDIS_OPTIONS | {"SERIALIZER": "freshcache.backends.JSONOrNothing"},
    },
    # What {% cache %} keeps, under the name where Django looks for it.
    "template_fragments": {
        "BACKEND": "freshcache.backends.GuardedCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": f"{PROJECT_NAME}:fragment",
        "OPTIONS": REDIS_OPTIONS | {"SERIALIZER": "freshcache.backends.TextOrNothing"},
    },
    # Not the cache's server: a count that is evicted lets in whom it should not. Errors are seen.
    "throttle": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": QUEUE_REDIS_URL,
        "KEY_PREFIX": f"{PROJECT_NAME}:throttle",
        "OPTIONS": {"CONNECTION_FACTORY": "store.connections.QueueClient"},
    },
}
if REDIS_CLUSTER_NODES:
    use_cluster(CACHES, REDIS_URL)
if STRATEGIES:
    # As tutorials have it. django-redis keeps one pool of connections a URL, so this is another URL.
    CACHES["strategies"] = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"{REDIS_URL}#strategies",
        "KEY_PREFIX": f"{PROJECT_NAME}:strategies",
        "TIMEOUT": CACHE_TTL,
    }
    CACHES["strategies_herd"] = CACHES["strategies"] | {
        "KEY_PREFIX": f"{PROJECT_NAME}:strategies_herd",
        "OPTIONS": {"CLIENT_CLASS": "django_redis.client.HerdClient"},
    }
# Off by default, as it pickles: who can write to Redis could have code of theirs run by the store.
if ORM_CACHE:
    CACHEOPS = {"store.product": {"ops": "get", "timeout": ORM_AGE_SECONDS}}
    CACHEOPS_REDIS = REDIS_URL
    CACHEOPS_CLIENT_CLASS = "store.orm_caching.OrmRedis"
    CACHEOPS_PREFIX = "store.orm_caching.prefix"
    CACHEOPS_DEGRADE_ON_FAILURE = True
    warnings.filterwarnings("ignore", message="The cacheops cache")  # The breaker says it once.
for _cache in CACHES.values():
    if "," in _cache["LOCATION"]:  # django-redis would take it for that between several servers.
        _cache["LOCATION"] = [_cache["LOCATION"]]
SESSION_ENGINE = "store.session_backend"
SESSION_CACHE_ALIAS = "session"

# --- Jobs ----------------------------------------------------------------------------------------
# A worker's own connections. It waits for jobs by a blocking command: RQ sets the time for a read.
RQ_QUEUE: dict[str, Any] = {
    "URL": with_options(QUEUE_REDIS_URL, socket_connect_timeout=1, protocol=2),
    "SERIALIZER": "rq.serializers.JSONSerializer",
    "DEFAULT_TIMEOUT": 300,  # seconds
}
if not is_one_server(QUEUE_REDIS_URL):  # django-rq asks an alias for its client instead.
    CACHES["jobs"] = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": [QUEUE_REDIS_URL],
        "OPTIONS": {"CONNECTION_FACTORY": "store.connections.JobsClient"},
    }
    del RQ_QUEUE["URL"]
    RQ_QUEUE["USE_REDIS_CACHE"] = "jobs"
RQ = {"JOB_CLASS": "store.allowed_jobs.StoreJob"}
RQ_QUEUES = {"default": RQ_QUEUE, "low": RQ_QUEUE}  # A worker empties them in this order.
# The admin would show the queues to all staff; store.dashboard shows them to superusers.
RQ_SHOW_ADMIN_LINK = False

# --- Security ------------------------------------------------------------------------------------
# How long a request's body may be, by what its path begins with.
BODY_LIMITS = {
    "/": MAX_BODY_BYTES,
    "/store/imports/": IMPORT_MAX_BYTES,
    "/jobs/imports/": IMPORT_MAX_BYTES,
}
if TRUST_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Probes speak plain HTTP to the container; they are answered before any redirect.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = SECURE_SSL_REDIRECT
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
LOGIN_URL = "rest_framework:login"
LOGIN_REDIRECT_URL = "pages:watch"
DEFAULT_EXCEPTION_REPORTER = "simple_django_redis.error_pages.Reporter"
SECURE_HSTS_SECONDS = 31_536_000 if SECURE_SSL_REDIRECT else 0
# Whether other hosts of the domain may use plain HTTP is for its owner to say, not for the store.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
# Everything comes from this server, and nothing is written into the pages themselves.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}
CSRF_FAILURE_VIEW = "pages.errors.csrf_failure"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- Logging -------------------------------------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s [%(process)d] %(message)s"}
    },
    "filters": {
        # What answers 503 has been told of by the breaker, once, or is counted (/metrics).
        "news": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: record.exc_info or getattr(record, "status_code", 0) != 503,
        },
        # A worker looks after its registries every few seconds, and says so of each.
        "no_routine": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: "cleaning registries" not in str(record.msg),
        },
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        # What clients do wrong (4xx) is theirs to know; a log that anybody can fill helps nobody.
        "django.request": {"level": "ERROR", "filters": ["news"]},
        "django.security": {"level": "CRITICAL"},
        "rq.worker": {"filters": ["no_routine"]},
    },
}
