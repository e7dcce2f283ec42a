"""What each family of keys in Redis is for, in a sentence for people; docs/redis.md says the rest."""

from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from store.redis_survey import ALL, CACHE, OTHERS, QUEUE

# What may be evicted at any time, and what must not be: see "One server or two" in docs/redis.md.
EVICTABLE: dict[str, str | Promise] = {
    "product": _(
        "The lists of products as they are sent out, a last good copy of each for when the database is "
        "down, and the generation that all of them have to be of."
    ),
    "session": _("Who is signed in. The database knows it, too; the copy here saves asking it."),
    "fragment": _("Parts of pages that are slow to make, kept for a minute."),
    "orm": _("Single products, as Django's own queries have read them. Only with ORM_CACHE=on."),
    "strategies": _(
        "Lists as usual ways of caching keep them, to compare. Only with STRATEGIES=on."
    ),
    "strategies_herd": _("The same, for the way that avoids stampedes. Only with STRATEGIES=on."),
}
KEPT: dict[str, str | Promise] = {
    "basket": _("What visitors mean to buy: product and quantity."),
    "baskets": _("Which baskets have no user, those changed longest ago first."),
    "views": _("How often each product was looked at, one key for each hour."),
    "viewed": _("Who has looked at what in the last minutes, so that nobody counts twice."),
    "ranking": _("The most viewed products of the last 24 hours, added up once a minute."),
    "recent": _("What each visitor looked at last."),
    "visitors": _("How many different people came today: 12 KB count any number of them."),
    "events": _("The latest changes to products, for pages that show them as they happen."),
    "throttle": _("Who has tried to sign in, or has written, how often in the last minute."),
    "lock": _("Who is doing what only one may do at a time, such as an import."),
    "warm-up": _("That the list is about to be filled before anybody asks for it."),
    "write-check": _("That this server has taken a write within the last minute."),
    "rq": _("Jobs that wait for a worker, and how the latest ones went."),
}
STRANGE: dict[str, str | Promise] = {
    OTHERS: _("Keys of somebody else on this server. The store leaves them alone.")
}
BY_SERVER = {
    ALL: EVICTABLE | KEPT | STRANGE,
    CACHE: EVICTABLE | STRANGE,
    QUEUE: KEPT | STRANGE,
}


def shown(server: str, found: set[str]) -> dict[str, str | Promise]:
    """Return the sentences of a server's families: what may come, and what was `found` there."""
    off = {
        OTHERS,
        *([] if settings.ORM_CACHE else ["orm"]),
        *([] if settings.STRATEGIES else ["strategies", "strategies_herd"]),
    }
    expected = BY_SERVER[server].keys() - off
    return {name: text for name, text in BY_SERVER[ALL].items() if name in expected | found}
