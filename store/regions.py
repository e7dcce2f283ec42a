"""What the store caches; freshcache finds this module in every process."""

from django.conf import settings

from freshcache import Region
from store.models import Product

products = Region("product", depends_on=[Product], ttl=lambda: settings.CACHE_TTL)
