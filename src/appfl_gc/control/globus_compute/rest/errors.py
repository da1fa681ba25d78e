"""What the REST service refuses, in the user's terms."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

import globus_sdk
from globus_compute_sdk.errors import ComputeError, VersionMismatch
from globus_sdk.gare import to_gares
from globus_sdk.token_storage import TokenValidationError

from appfl_gc.control.globus_compute.identity.base import Identity, sign_in_refusal
from appfl_gc.control.globus_compute.identity.token_storage import storage_error
from appfl_gc.protocol.errors import (
    AppflGcError,
    DeliveryError,
    EndpointError,
    ErrorClass,
    ForgottenError,
    LoginError,
    VersionError,
)
from appfl_gc.protocol.wire import clean_text

STATUS_PAGE = "https://status.globus.org"


class RequestTooLargeError(DeliveryError):
    """One request was larger than the service takes."""

    error_class = ErrorClass.TRANSFER


class ThrottledError(DeliveryError):
    """The service asks to slow down. ``retry_after`` is in seconds, None where it does not say."""

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Request:
    """What was asked of the service, for the words of its errors.

    Attributes:
        purpose: completes "could not": "register the entry function".
        identity: who asked.
        endpoint_id: the endpoint that it was about, or None.
        about_tasks: whether it was about tasks that were sent before.
    """

    purpose: str
    identity: Identity
    endpoint_id: str | None = None
    about_tasks: bool = False

    @property
    def endpoint(self) -> str:
        """The endpoint as a subject."""
        return f"Endpoint {self.endpoint_id}" if self.endpoint_id else "The endpoint"


def translate(error: BaseException, request: Request) -> AppflGcError | None:
    """``error`` of the SDK or of globus_sdk as one of ours; None if it does not come from a request.

    Our own errors come back unchanged. Text of the service is cleaned and capped.
    """
    if isinstance(error, AppflGcError):
        return error
    if isinstance(error, TokenValidationError):
        return LoginError(
            f"{_sentence(request.identity.describe())} is not valid: {_words(str(error))}",
            request.identity.hint,
        )
    if isinstance(error, globus_sdk.GlobusAPIError):
        return _of_answer(error, request)
    if isinstance(error, globus_sdk.NetworkError):
        return _unreachable(error, request)
    if isinstance(error, sqlite3.Error):
        return storage_error(error)
    if isinstance(error, VersionMismatch):
        return VersionError(
            f"The Globus Compute service refuses this version: {_words(error.version_message)}",
            "Update globus-compute-sdk with pip.",
        )
    if isinstance(error, globus_sdk.GlobusError | ComputeError):
        return DeliveryError(f"The Globus SDK could not {request.purpose}: {_words(str(error))}")
    return None


def _of_answer(error: globus_sdk.GlobusAPIError, request: Request) -> AppflGcError:
    proxy = _proxy(str(error.args[1]))  # method, address, ...
    if error.http_status == 407 or (proxy and error.http_status in {403, 404} and error.raw_json is None):
        return DeliveryError(
            f"The proxy {proxy} did not let a request through to {request.purpose} (HTTP {error.http_status}): "
            f"{_said(error)}",
            "Check the proxy in HTTPS_PROXY or HTTP_PROXY, with the user and password that it asks for.",
        )
    gares = to_gares([error])
    if gares:
        return sign_in_refusal(gares[0].authorization_parameters, request.identity, request.endpoint_id)
    if isinstance(error, globus_sdk.AuthAPIError) and error.http_status < 429:
        return LoginError(
            f"Globus Auth does not accept {request.identity.describe()}: {_said(error)}",
            request.identity.hint,
        )
    if request.about_tasks and error.http_status in {403, 404}:
        return ForgottenError(
            f"The Globus Compute service could not {request.purpose}: {_said(error)}",
            f"It keeps tasks for a limited time, and tells of them to the identity that sent them; here it is asked by "
            f"{request.identity.describe()}.",
        )
    known = _BY_STATUS.get(error.http_status)
    if known is not None:
        return known(error, request)
    if error.http_status >= 500:
        return DeliveryError(
            f"The Globus Compute service failed (HTTP {error.http_status}) and could not {request.purpose}: "
            f"{_said(error)}",
            f"It is on their side: try again later; {STATUS_PAGE} tells of outages.",
        )
    return DeliveryError(
        f"The Globus Compute service could not {request.purpose} (HTTP {error.http_status}): {_said(error)}"
    )


def _unauthorized(error: globus_sdk.GlobusAPIError, request: Request) -> AppflGcError:
    return LoginError(
        f"The Globus Compute service does not accept {request.identity.describe()}: {_said(error)}",
        request.identity.hint,
    )


def _forbidden(error: globus_sdk.GlobusAPIError, request: Request) -> AppflGcError:
    code = error.code or ""
    if "FUNCTION" in code:
        return EndpointError(
            f"{request.endpoint} does not allow this function, or it is not shared with "
            f"{request.identity.describe()}: {_said(error)}",
            "`appfl-gc function register` prints what its owner must add to allowed_functions; name that UUID in "
            "control_configs.function_id.",
        )
    return EndpointError(
        f"{request.endpoint} refuses {request.identity.describe()}: {_said(error)}",
        "A private endpoint serves its owner's identity alone: log in with the account (and its identity provider) "
        "that started it, name that site's application in the client's `credentials`, or ask its owner to share it. "
        "`appfl-gc whoami` shows the present account.",
    )


def _unknown(error: globus_sdk.GlobusAPIError, request: Request) -> AppflGcError:
    code = error.code or ""
    if "FUNCTION" in code:
        return EndpointError(
            f"The function is unknown to the Globus Compute service: {_said(error)}",
            "Leave control_configs.function_id out, or name one that `appfl-gc function register` printed.",
        )
    if request.endpoint_id is None or "TASK" in code:
        return DeliveryError(f"The Globus Compute service could not {request.purpose}: {_said(error)}")
    return EndpointError(
        f"{request.endpoint} is unknown to the Globus Compute service, or hidden from "
        f"{request.identity.describe()}: {_said(error)}",
        "Compare the UUID with `globus-compute-endpoint list` at the site; an endpoint that was never started is "
        "not known yet.",
    )


def _too_large(error: globus_sdk.GlobusAPIError, request: Request) -> AppflGcError:
    return RequestTooLargeError(
        f"The Globus Compute service could not {request.purpose}: the request is too large. {_said(error)}",
        "Lower control_configs.inline_limit_bytes, so that models travel through a payload store.",
    )


def _unprocessable(error: globus_sdk.GlobusAPIError, request: Request) -> AppflGcError:
    return EndpointError(
        f"{request.endpoint} can't take what was sent to {request.purpose}: {_said(error)}",
        "Compare the client's user_endpoint_config with the endpoint's schema: `appfl-gc doctor` shows both.",
    )


def _locked(error: globus_sdk.GlobusAPIError, request: Request) -> AppflGcError:
    return EndpointError(
        f"{request.endpoint} is locked or in use elsewhere: {_said(error)}",
        "A stopped endpoint stays locked for a while; start it again where it belongs.",
    )


def _throttled(error: globus_sdk.GlobusAPIError, request: Request) -> AppflGcError:
    try:
        seconds: float | None = float(error.headers.get("Retry-After", ""))
    except ValueError:
        seconds = None
    return ThrottledError(
        f"The Globus Compute service asks to slow down and did not {request.purpose}: {_said(error)}",
        "It takes 20 requests in 10 seconds; other programs of the same identity count too.",
        seconds,
    )


_BY_STATUS: Mapping[int, Callable[[globus_sdk.GlobusAPIError, Request], AppflGcError]] = MappingProxyType(
    {
        400: _unprocessable,
        401: _unauthorized,
        403: _forbidden,
        404: _unknown,
        409: _locked,
        413: _too_large,
        422: _unprocessable,
        423: _locked,
        429: _throttled,
    }
)


def _unreachable(error: globus_sdk.NetworkError, request: Request) -> DeliveryError:
    cause = error.underlying_exception
    address = getattr(getattr(cause, "request", None), "url", None)
    place = f" at {_origin(address)}" if isinstance(address, str) else ""
    proxy = _proxy(address)
    through = f" through the proxy {proxy}" if proxy else ""
    hint = (
        "Check the proxy in HTTPS_PROXY or HTTP_PROXY."
        if proxy
        else "Check the network of this machine; where it needs a proxy, set HTTPS_PROXY."
    )
    return DeliveryError(
        f"The Globus service{place} could not be reached{through}, so it could not {request.purpose}: {_reason(cause)}",
        f"{hint} {STATUS_PAGE} tells of outages.",
    )


def _reason(cause: BaseException) -> str:
    """The innermost reason: requests and urllib3 wrap it in objects that print addresses of memory."""
    text = str(cause)
    for marker in ("[Errno", "Name or service not known", "timed out"):
        if marker in text:
            text = text[text.index(marker) :].rstrip("()'\"")
            break
    return _words(text)


def _proxy(address: str | None) -> str:
    """The proxy that requests takes for ``address``, without its user and password."""
    if not address:
        return ""
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(address, get_environ_proxies(address))
    return _origin(proxy) if proxy else ""


def _origin(address: str) -> str:
    parts = urlsplit(address)
    port = f":{parts.port}" if parts.port else ""
    return clean_text(f"{parts.scheme}://{parts.hostname or ''}{port}", 200)


def _said(error: globus_sdk.GlobusAPIError) -> str:
    """The service's own words and code, one line."""
    code = f" [{clean_text(error.code, 60)}]" if error.code and error.code != "Error" else ""
    return _words(error.message or error.http_reason or f"HTTP {error.http_status}") + code


def _words(text: str, limit: int = 600) -> str:
    line = " ".join(clean_text(text, limit).split())
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
