"""Errors of Redis, in one line that says why: kind, text, command and address, and no secret.

redis-py's repr() of an error is its class alone.
"""

from types import TracebackType
from urllib.parse import urlsplit

from redis.exceptions import RedisError, ResponseError

LONGEST_TEXT = 300


class NotThisTime(RedisError):
    """A command was not carried out though nothing is wrong with Redis: this is no outage."""

    detail = "cache-slow"  # what Cache-Status says of an answer for which it was given up


def is_refusal(error: Exception) -> bool:
    """Say whether Redis has answered, and that it does not do what it was asked."""
    return isinstance(error, ResponseError)


def describe(error: BaseException, url: str = "") -> str:
    """Return `error` in one line, with the address of `url` unless it names one itself."""
    text = " ".join(str(error).split())[:LONGEST_TEXT]
    found = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if (command := _command(error.__traceback__)) and command not in text:
        found += f" ({command})"
    where = address(url)
    return f"{found} [{where}]" if where and where not in text else found


def address(url: str) -> str:
    """Return host and port of a URL, or the path of a socket, without what proves who asks."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parts.path


def _command(trace: TracebackType | None) -> str:
    """Return the name of the command that redis-py was sending, "" if that cannot be told."""
    found = ""
    while trace:
        frame = trace.tb_frame
        if frame.f_globals.get("__name__") == "redis.client" and "command_name" in frame.f_locals:
            found = str(frame.f_locals["command_name"]).strip("_")
        trace = trace.tb_next
    return found
