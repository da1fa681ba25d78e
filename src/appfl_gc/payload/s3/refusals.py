"""What went wrong with a request, in plain words: never its URL, never more of an answer than a code."""

from __future__ import annotations

import ipaddress
import re
import socket
import urllib.request

import requests

from appfl_gc.payload.retry import PassingError
from appfl_gc.payload.s3.reasons import LATE, UNKNOWN, no_tls, why
from appfl_gc.protocol.errors import AppflGcError, TransferError, UsageError

_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,60})</Code>")
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_PASSING_CODES = frozenset({"RequestTimeout", "SlowDown", "InternalError", "IncompleteBody", "BadDigest"})
_ENDED_CODES = frozenset({"ExpiredToken", "TokenRefreshRequired", "InvalidToken"})
_LONGEST_ANSWER = 65_536
_PROXY_HINT = "Look at http_proxy, https_proxy and no_proxy of the process on that machine."


class GrantEndedError(TransferError):
    """The store refused a signed URL: its time is over, or the signer lost the right. Another grant may help."""


class AbsentError(TransferError):
    """The store says that there is no such object."""


def refused(answer: requests.Response, host: str, what: str) -> TransferError:
    """The error that an answer of status 300 or more stands for; reads its body.

    Args:
        answer: what the store said; nothing of it but the status and a code of letters is repeated.
        host: of the store, with its port.
        what: the deed, such as "the upload of a part".
    """
    body: bytes = answer.raw.read(_LONGEST_ANSWER, decode_content=False)
    found = _CODE.search(body)
    code = found.group(1).decode() if found else ""
    status = answer.status_code
    said = f"{status} {code}".strip()
    if status in _PASSING or code in _PASSING_CODES:
        return PassingError(
            f"The S3 store at {host} could not do {what} ({said}).",
            "The store is overloaded or out of order; see its status.",
            after=_seconds(answer.headers.get("Retry-After", "")),
        )
    if status == 403 or code in _ENDED_CODES:
        # Some stores say so in the text only.
        why = "the signed URL has expired" if b"xpired" in body else "the signed URL gives no right to it"
        return GrantEndedError(
            f"The S3 store at {host} refused {what} ({said}): {why}.",
            "The server grants another URL when the call is tried again. If it was refused at once, look at the "
            "server's rights to the bucket and at its clock.",
        )
    if status == 404:
        return AbsentError(
            f"The S3 store at {host} refused {what} ({said}): the payload or its bucket is not there.",
            "It may have been removed by the run itself, by `appfl-gc runs clean`, or by a rule of the bucket.",
        )
    if status == 416:
        return TransferError(
            f"The payload in the S3 store at {host} has fewer bytes than were sent ({said})."
        )
    if 300 <= status < 400:
        return TransferError(
            f"The S3 store at {host} sent {what} to another address ({said}).",
            "The bucket lies in another region than the server was told; set the region of the bucket.",
        )
    return TransferError(f"The S3 store at {host} refused {what} ({said}).")


def no_connection(error: Exception, host: str) -> AppflGcError:
    """The error for what ``requests``, ``urllib3`` or the operating system raised.

    It names this machine, since a site's error is read at the server.

    Args:
        error: what was raised.
        host: of the store, with its port.
    """
    here = f"from the machine {socket.gethostname()}"
    if no_tls(error):
        return TransferError(
            f"The S3 store at {host} does not speak TLS, seen {here}.",
            "If it is a server without TLS, endpoint_url begins with http:// instead of https://.",
        )
    if isinstance(error, requests.exceptions.SSLError):
        return TransferError(
            f"The S3 store at {host} has a certificate that no known authority signed, seen {here}.",
            "Set REQUESTS_CA_BUNDLE there to a file with the authority's certificate.",
        )
    if isinstance(error, (requests.exceptions.InvalidProxyURL, requests.exceptions.InvalidSchema)):
        return UsageError(
            f"The environment on {socket.gethostname()} names a proxy that can't be used.", _PROXY_HINT
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return PassingError(
            f"The proxy made no connection to the S3 store at {host}, asked {here}.", _PROXY_HINT
        )
    reason = why(error)
    if reason == LATE or isinstance(error, requests.exceptions.Timeout):
        return PassingError(
            f"The S3 store at {host} did not answer in time, asked {here}.", _hint(host, reason)
        )
    if reason:
        return PassingError(f"The S3 store at {host} can't be reached {here}: {reason}.", _hint(host, reason))
    return PassingError(f"The connection {here} to the S3 store at {host} broke.", _hint(host, reason))


def _hint(host: str, reason: str) -> str:
    """What may help; proxies are mentioned only where some are set."""
    proxy = f" {_PROXY_HINT}" if urllib.request.getproxies() else ""
    if _loopback(host):
        return (
            "That address is the machine itself. Give endpoint_url a host name that server and sites can reach."
            f"{proxy}"
        )
    if reason == UNKNOWN:
        return (
            f"Compute nodes often have no way out: ask the facility, or use its proxy (https_proxy).{proxy}"
        )
    return f"Look whether the store runs, and whether this address can be reached from that machine.{proxy}"


def _loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name == "localhost"


def _seconds(text: str) -> float | None:
    return float(text) if text.isdigit() and len(text) < 6 else None
