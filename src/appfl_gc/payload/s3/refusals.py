"""What went wrong with a request, in plain words: never its URL, never more of an answer than a code."""

from __future__ import annotations

import http.client
import re
import socket
import ssl

from appfl_gc.payload.retry import PassingError
from appfl_gc.protocol.errors import TransferError

_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,60})</Code>")
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_PASSING_CODES = frozenset({"RequestTimeout", "SlowDown", "InternalError", "IncompleteBody", "BadDigest"})
_ENDED_CODES = frozenset({"ExpiredToken", "TokenRefreshRequired", "InvalidToken"})
LONGEST_ANSWER = 65_536
_PROXY_HINT = "Look at http_proxy, https_proxy and no_proxy of this process."


class GrantEndedError(TransferError):
    """The store refused a signed URL: its time is over, or the signer lost the right. Another grant may help."""


def refused(answer: http.client.HTTPResponse, host: str, what: str) -> TransferError:
    """The error that an answer of status 300 or more stands for; reads its body.

    Args:
        answer: what the store said; nothing of it but the status and a code of letters is repeated.
        host: of the store.
        what: the deed, such as "the upload of a part".
    """
    body = answer.read(LONGEST_ANSWER)
    found = _CODE.search(body)
    code = found.group(1).decode() if found else ""
    said = f"{answer.status} {code}".strip()
    if answer.status in _PASSING or code in _PASSING_CODES:
        return PassingError(
            f"The store at {host} could not do {what} ({said}).",
            "The store is overloaded or out of order; see its status.",
            after=_seconds(answer.getheader("Retry-After")),
        )
    if answer.status == 403 or code in _ENDED_CODES:
        # Some stores say so in the text only.
        late = b"xpired" in body
        why = "the signed URL has expired" if late else "the signed URL gives no right to it"
        return GrantEndedError(
            f"The store at {host} refused {what} ({said}): {why}.",
            "The server grants another URL when the call is tried again. If it was refused at once, look at the "
            "server's rights to the bucket and at its clock.",
        )
    if answer.status == 404:
        return TransferError(
            f"The store at {host} refused {what} ({said}): the payload or its bucket is not there.",
            "It may have been removed by the run itself, by `appfl-gc runs clean`, or by a rule of the bucket.",
        )
    if answer.status == 412:
        return TransferError(f"The payload in the store at {host} changed during {what}.")
    if 300 <= answer.status < 400:
        return TransferError(
            f"The store at {host} sent {what} to another address ({said}).",
            "The bucket lies in another region than the server was told; set the region of the bucket.",
        )
    return TransferError(f"The store at {host} refused {what} ({said}).")


def no_connection(error: Exception, host: str) -> TransferError:
    """The error for what the operating system or the HTTP library raised."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return TransferError(
            f"The store at {host} has a certificate that no known authority signed: {error.verify_message}.",
            "Set SSL_CERT_FILE to a file with the authority's certificate.",
        )
    if isinstance(error, socket.gaierror):
        return PassingError(
            f"The name {host} of the store, or of the proxy to it, can't be resolved from this machine.",
            f"Compute nodes often have no way out: ask the facility, or use its proxy. {_PROXY_HINT}",
        )
    if isinstance(error, OSError) and str(error).startswith("Tunnel connection failed"):
        return PassingError(f"The proxy made no connection to the store at {host}.", _PROXY_HINT)
    if isinstance(error, ConnectionRefusedError):
        return PassingError(
            f"Nothing answers at {host}, or at the proxy to it: the connection was refused.", _PROXY_HINT
        )
    if isinstance(error, http.client.HTTPException) and not isinstance(error, ConnectionError):
        return PassingError(f"The store at {host} answered with something that is no whole HTTP answer.")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return PassingError(f"The connection to the store at {host} broke: {reason}.", _PROXY_HINT)


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() and len(text) < 6 else None
