"""What the environment says about connections: proxies and certificate authorities."""

from __future__ import annotations

import base64
import os
import ssl
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from appfl_gc.protocol.errors import UsageError

_AUTHORITIES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host: its name.
        port: its port.
        headers: what it wants to hear, such as who we are.
    """

    host: str
    port: int
    headers: dict[str, str] = field(default_factory=dict, repr=False)


def proxy_for(url: SplitResult) -> Proxy | None:
    """The proxy that ``http_proxy``, ``https_proxy`` or ``all_proxy`` names, unless ``no_proxy`` has the URL's host.

    Raises:
        UsageError: if it is no HTTP proxy.
    """
    if urllib.request.proxy_bypass(url.hostname or ""):
        return None
    proxies = urllib.request.getproxies()
    text = proxies.get(url.scheme) or proxies.get("all")
    if not text:
        return None
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        raise UsageError(
            f"The environment names a proxy for {url.scheme} that is not of the form http://host:port.",
            f"Set {url.scheme}_proxy to an HTTP proxy, or put {url.hostname} into no_proxy.",
        )
    if parts.username is None:
        return Proxy(parts.hostname, port)
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    token = base64.b64encode(login.encode()).decode()
    return Proxy(parts.hostname, port, {"Proxy-Authorization": f"Basic {token}"})


def tls_context() -> ssl.SSLContext:
    """Verifies servers against the authorities that the environment names, else this machine's and ``certifi``'s.

    Raises:
        UsageError: if a file that the environment names can't be read.
    """
    for variable in _AUTHORITIES:
        path = os.environ.get(variable)
        if not path:
            continue
        try:
            if Path(path).is_dir():
                return ssl.create_default_context(capath=path)
            return ssl.create_default_context(cafile=path)
        except (OSError, ssl.SSLError):
            raise UsageError(
                f"{variable} names {path}, which is no readable file of certificate authorities.",
                f"Correct {variable}, or unset it to use this machine's authorities.",
            ) from None
    context = ssl.create_default_context()
    try:
        import certifi
    except ImportError:
        return context
    context.load_verify_locations(certifi.where())
    return context
