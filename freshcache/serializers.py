"""Serializers for django-redis: JSON only, and no exception over what somebody else has written."""

from typing import Any

from django_redis.serializers.json import JSONSerializer


class JSONOrBytes(JSONSerializer):  # type: ignore[misc]  # django-redis is untyped.
    """For the default cache, whose entries are bytes of their own form: they are shown as they are."""

    def loads(self, value: bytes) -> Any:
        try:
            return super().loads(value)
        except ValueError:
            return value


class JSONOrNothing(JSONSerializer):  # type: ignore[misc]
    """For sessions: a value that is no session counts as none, and the database is asked."""

    form: type = dict

    def loads(self, value: bytes) -> Any:
        try:
            found = super().loads(value)
        except ValueError:
            return None
        return found if isinstance(found, self.form) else None


class TextOrNothing(JSONOrNothing):
    """For fragments of templates: a value that is no text counts as none, and is made anew."""

    form = str
