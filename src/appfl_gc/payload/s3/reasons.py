"""Why a connection does not stand, told by the errors of requests, urllib3, botocore and the system."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

_NO_TLS = frozenset(
    {
        "WRONG_VERSION_NUMBER",
        "UNKNOWN_PROTOCOL",
        "HTTP_REQUEST",
        "RECORD_LAYER_FAILURE",
        "PACKET_LENGTH_TOO_LONG",
    }
)
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})
_LATE = frozenset(
    {"TimeoutError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectTimeout", "ReadTimeout"}
)
REFUSED, UNKNOWN, LATE = (
    "the connection was refused",
    "its name can't be resolved",
    "it did not answer in time",
)


def why(error: BaseException) -> str:
    """The reason, in words to follow a colon; "" if the error does not tell."""
    found = list(causes(error))
    kinds = {type(cause).__name__ for cause in found}
    if {"NameResolutionError", "gaierror"} & kinds:
        return UNKNOWN
    if "ConnectionRefusedError" in kinds:
        return REFUSED
    if _LATE & kinds:
        return LATE
    if any(isinstance(cause, OSError) and cause.errno in _NO_WAY for cause in found):
        return "the network has no way to it"
    return ""


def no_tls(error: BaseException) -> bool:
    """Whether a TLS connection failed because the other side speaks something else, such as plain HTTP."""
    return any(isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS for cause in causes(error))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, the one that it wraps, and so on."""
    for _ in range(10):
        if error is None:
            return
        yield error
        # botocore keeps it among its keyword arguments, urllib3 as the reason.
        kept = getattr(error, "kwargs", None)
        places = (
            *error.args,
            kept.get("error") if isinstance(kept, dict) else None,
            getattr(error, "reason", None),
            error.__cause__,
            error.__context__,
        )
        error = next((part for part in places if isinstance(part, BaseException)), None)


def address_of(url: str) -> str:
    """``host`` or ``host:port``, which may stand in errors; the rest of a signed URL may not."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    if ":" in host:
        host = f"[{host}]"
    return host if parts.port is None else f"{host}:{parts.port}"


def place_of(url: str) -> str:
    """``address_of`` with its scheme before it."""
    return f"{urlsplit(url).scheme}://{address_of(url)}"
