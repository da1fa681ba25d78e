"""What went wrong with a request, in plain words: never its URL, never more of an answer than a code."""

from __future__ import annotations

import re
from collections.abc import Iterator

import requests
import urllib3

from appfl_gc.payload.retry import PassingError
from appfl_gc.protocol.errors import AppflGcError, TransferError, UsageError

_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,60})</Code>")
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_PASSING_CODES = frozenset({"RequestTimeout", "SlowDown", "InternalError", "IncompleteBody", "BadDigest"})
_ENDED_CODES = frozenset({"ExpiredToken", "TokenRefreshRequired", "InvalidToken"})
_LONGEST_ANSWER = 65_536
_PROXY_HINT = "Look at http_proxy, https_proxy and no_proxy of this process."


class GrantEndedError(TransferError):
    """The store refused a signed URL: its time is over, or the signer lost the right. Another grant may help."""


def refused(answer: requests.Response, host: str, what: str) -> TransferError:
    """The error that an answer of status 300 or more stands for; reads its body.

    Args:
        answer: what the store said; nothing of it but the status and a code of letters is repeated.
        host: of the store.
        what: the deed, such as "the upload of a part".
    """
    body: bytes = answer.raw.read(_LONGEST_ANSWER, decode_content=False)
    found = _CODE.search(body)
    code = found.group(1).decode() if found else ""
    status = answer.status_code
    said = f"{status} {code}".strip()
    if status in _PASSING or code in _PASSING_CODES:
        return PassingError(
            f"The store at {host} could not do {what} ({said}).",
            "The store is overloaded or out of order; see its status.",
            after=_seconds(answer.headers.get("Retry-After", "")),
        )
    if status == 403 or code in _ENDED_CODES:
        # Some stores say so in the text only.
        why = "the signed URL has expired" if b"xpired" in body else "the signed URL gives no right to it"
        return GrantEndedError(
            f"The store at {host} refused {what} ({said}): {why}.",
            "The server grants another URL when the call is tried again. If it was refused at once, look at the "
            "server's rights to the bucket and at its clock.",
        )
    if status == 404:
        return TransferError(
            f"The store at {host} refused {what} ({said}): the payload or its bucket is not there.",
            "It may have been removed by the run itself, by `appfl-gc runs clean`, or by a rule of the bucket.",
        )
    if status == 416:
        return TransferError(f"The payload in the store at {host} has fewer bytes than were sent ({said}).")
    if 300 <= status < 400:
        return TransferError(
            f"The store at {host} sent {what} to another address ({said}).",
            "The bucket lies in another region than the server was told; set the region of the bucket.",
        )
    return TransferError(f"The store at {host} refused {what} ({said}).")


def no_connection(error: Exception, host: str) -> AppflGcError:
    """The error for what ``requests``, ``urllib3`` or the operating system raised."""
    kinds = [type(cause).__name__ for cause in _causes(error)]
    if isinstance(error, requests.exceptions.SSLError):
        return TransferError(
            f"The store at {host} has a certificate that no known authority signed, or no TLS.",
            "Set REQUESTS_CA_BUNDLE to a file with the authority's certificate.",
        )
    if isinstance(error, (requests.exceptions.InvalidProxyURL, requests.exceptions.InvalidSchema)):
        return UsageError("The environment names a proxy that can't be used.", _PROXY_HINT)
    if isinstance(error, requests.exceptions.ProxyError):
        return PassingError(f"The proxy made no connection to the store at {host}.", _PROXY_HINT)
    if {"NameResolutionError", "gaierror"} & set(kinds):
        return PassingError(
            f"The name {host} of the store can't be resolved from this machine.",
            f"Compute nodes often have no way out: ask the facility, or use its proxy. {_PROXY_HINT}",
        )
    if "ConnectionRefusedError" in kinds:
        return PassingError(f"Nothing answers at {host}: the connection was refused.", _PROXY_HINT)
    late = (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    if isinstance(error, late) or "TimeoutError" in kinds:
        return PassingError(f"The store at {host} did not answer in time.", _PROXY_HINT)
    return PassingError(f"The connection to the store at {host} broke.", _PROXY_HINT)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        inner = next((part for part in error.args if isinstance(part, BaseException)), None)
        error = inner or getattr(error, "reason", None) or error.__cause__ or error.__context__
        if not isinstance(error, BaseException):
            return


def _seconds(text: str) -> float | None:
    return float(text) if text.isdigit() and len(text) < 6 else None
