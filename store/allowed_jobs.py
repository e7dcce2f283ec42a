"""Which functions a worker may call: those of `store.jobs`, whatever Redis says.

A job in Redis is a dotted name, so whoever writes there would choose what runs. RQ's Job looks that name
up, and those of callbacks, and knows the addresses of webhooks; none of that is done here.
"""

from collections.abc import Callable
from typing import Any

from rq.exceptions import DeserializationError
from rq.job import Job

from store import jobs

ALLOWED: dict[str, Callable[..., Any]] = {
    f"{function.__module__}.{function.__name__}": function for function in jobs.ALL
}
NAME_CHARACTERS = 100  # of a name in the log, which whoever wrote it may have made long


class NotAllowed(DeserializationError):
    """A job asks for something that no job of the store does."""


class StoreJob(Job):
    """A job that does nothing but call an allowed function; a job that asks for more is not begun."""

    success_callback = None  # RQ would import what is named
    failure_callback = None
    stopped_callback = None

    def restore(self, raw_data: Any) -> None:
        super().restore(raw_data)
        self.description = (self.description or "")[:NAME_CHARACTERS]  # RQ logs it

    @property
    def func(self) -> Callable[..., Any]:
        """The function to call; raises NotAllowed."""
        callbacks = (
            self._success_callback_name,
            self._failure_callback_name,
            self._stopped_callback_name,
        )
        for kind, asked in (
            ("instance", self.instance),
            ("callback", next(filter(None, callbacks), None)),
            ("webhook", self.webhooks[0].url if self.webhooks else None),
        ):
            if asked is not None:
                raise NotAllowed(f"{kind} {_short(asked)} of {_short(self.func_name)}")
        function = ALLOWED.get(self.func_name) if isinstance(self.func_name, str) else None
        if function is None:
            raise NotAllowed(f"function {_short(self.func_name)}")
        return function

    def perform(self) -> Any:
        try:
            return super().perform()
        except NotAllowed:
            self.retries_left = 0
            raise

    def _deserialize_data(self) -> None:
        try:
            super()._deserialize_data()  # type: ignore[no-untyped-call]
        except DeserializationError:
            self.retries_left = 0
            raise NotAllowed("something that is not a call in JSON") from None

    def send_webhooks(self, *args: Any, **kwargs: Any) -> None:
        """Send none."""


def _short(name: object) -> str:
    text = repr(name)
    return text if len(text) <= NAME_CHARACTERS else f"{text[:NAME_CHARACTERS]}..."
