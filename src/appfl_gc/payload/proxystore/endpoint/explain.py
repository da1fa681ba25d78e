"""What goes wrong between ProxyStore's endpoints, in plain sentences, and whether trying again can help.

ProxyStore 1.1 answers most trouble with status 500 and a Python exception's text; the causes were found by breaking
its endpoints and relay one by one.
"""

from __future__ import annotations

from appfl_gc.payload.proxystore.endpoint.own import OwnEndpoint
from appfl_gc.payload.proxystore.endpoint.patient_http import Answer
from appfl_gc.payload.retry import PassingError
from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.wire import clean_text

_TAIL = 20_000


def action(own: OwnEndpoint, operation: str, peer: str | None) -> str:
    """The beginning of a sentence about an operation."""
    where = f"endpoint {own.name}" if peer is None else f"endpoint {peer} through {own.name}"
    return {
        "put": f"The transfer to ProxyStore {where}",
        "get": f"The transfer from ProxyStore {where}",
        "exists": f"The question to ProxyStore {where}",
        "evict": f"The removal from ProxyStore {where}",
    }[operation]


def never_started(own: OwnEndpoint) -> TransferError:
    """Its configuration names no host yet."""
    return TransferError(
        f"The ProxyStore endpoint {own} is configured but was never started.",
        f"Start it: `proxystore-endpoint start {own.name}`. {_login_hint(own)}".strip(),
    )


def down(own: OwnEndpoint, reason: str) -> PassingError:
    """The own endpoint can't be reached, or its connection broke."""
    said = last_trouble(own)
    return PassingError(
        f"The ProxyStore endpoint {own} can't be reached at {own.host}:{own.port}: {reason}."
        + (f" Its log says: {said}" if said else ""),
        f"Start it on the machine {own.host}: `proxystore-endpoint start {own.name}`. Its log is {own.log}. "
        f"{_login_hint(own)}".strip(),
    )


def foreign(own: OwnEndpoint, reason: str) -> TransferError:
    """Something else answers where the endpoint should."""
    return TransferError(
        f"What answers at {own.host}:{own.port} is not the ProxyStore endpoint {own}: {reason}.",
        f"Another program has taken its port. Give the endpoint another `port` in {own.directory / 'config.toml'} and "
        f"start it again: `proxystore-endpoint start {own.name}`.",
    )


def late(own: OwnEndpoint, peer: str | None, seconds: float) -> PassingError:
    """A deadline passed."""
    if peer is None:
        return PassingError(
            f"The ProxyStore endpoint {own} did not answer within {seconds:,.0f} s.",
            f"It hangs or is overloaded. Look at {own.log}, or restart it: `proxystore-endpoint stop {own.name}`, then "
            f"`proxystore-endpoint start {own.name}`.",
        )
    return PassingError(
        f"The ProxyStore endpoint {peer} did not answer {own} within {seconds:,.0f} s: it died or froze in the middle "
        "of a transfer, or many transfers wait before this one.",
        f"Where {peer} runs, restart it: `proxystore-endpoint stop` and `start`. ProxyStore mends no connection whose "
        "other end froze, and an endpoint from which a machine that died was fetching serves nobody any more.",
    )


def lost(own: OwnEndpoint, peer: str) -> PassingError:
    """The peer lives and answered a later question; this transfer's answer never came."""
    return PassingError(
        f"The ProxyStore endpoint {peer} lost a transfer to {own}: it was restarted, or the connection broke."
    )


def other_size(object_id: str, has: str, announced: int) -> TransferError:
    """An object is not what was announced."""
    return TransferError(
        f"The object {object_id} of a ProxyStore endpoint has {has} bytes where {announced:,} were announced."
    )


def alone(own: OwnEndpoint, peer: str) -> TransferError:
    """The own endpoint has no relay; it would look for a peer's objects among its own."""
    return TransferError(
        f"The ProxyStore endpoint {own} can't reach {peer}: it was configured without a relay, so it has no peers.",
        f"Add `address` under [relay] in {own.directory / 'config.toml'} and restart it.",
    )


def gone(own: OwnEndpoint, object_id: str, endpoint_id: str | None) -> TransferError:
    """The endpoint lives and does not hold the object."""
    return TransferError(
        f"The ProxyStore endpoint {endpoint_id or own} does not hold the object {object_id} (any more).",
        "An endpoint that is started anew has forgotten its objects, unless it was configured with `--persist`.",
    )


def too_large(own: OwnEndpoint, size: int) -> TransferError:
    """More than the endpoint takes; found before anything is sent."""
    return TransferError(
        f"An object of {size:,} bytes is over the limit of the ProxyStore endpoint {own}, {own.largest:,} bytes.",
        f"Send smaller parts, or raise max_object_size under [storage] in {own.directory / 'config.toml'} and restart "
        f"it: `proxystore-endpoint stop {own.name}`, then `proxystore-endpoint start {own.name}`.",
    )


def refused(own: OwnEndpoint, operation: str, size: int, peer: str | None, answer: Answer) -> TransferError:
    """The own endpoint answered with an error."""
    if answer.status == 404:
        return foreign(own, "it does not know an endpoint's addresses")
    if answer.status != 500:
        said = clean_text(answer.text, 300) or "no reason given"
        return TransferError(f"{action(own, operation, peer)} was refused, status {answer.status}: {said}.")
    if peer is None:
        if operation == "put":
            return PassingError(
                f"The ProxyStore endpoint {own} did not take an object of {size:,} bytes.",
                f"Its limit may be smaller than its configuration says now ({own.largest:,} bytes): restart it after a "
                f"change. Or its disk or memory is full. {own.log} says more.",
            )
        return PassingError(f"The ProxyStore endpoint {own} failed.", f"{own.log} says why.")
    if operation == "put" and "not registered" not in answer.text:
        return PassingError(
            f"The ProxyStore endpoint {peer} did not take an object of {size:,} bytes from {own}.",
            "It is over the max_object_size there, or the connection was lost. The other endpoint's log says more.",
        )
    return _unreachable(own, peer, answer.text)


def _unreachable(own: OwnEndpoint, peer: str, text: str) -> TransferError:
    if "not registered" in text:
        return PassingError(
            f"The ProxyStore endpoint {peer} does not run, or has lost its relay: {own.relay} does not know it.",
            f"Start it where it is configured, or stop and start it; it needs the same relay as {own.name}.",
        )
    if "different user" in text:
        return TransferError(
            f"The ProxyStore endpoint {peer} belongs to another Globus identity than {own}, and the relay {own.relay} "
            "connects endpoints of one identity only.",
            "Start both under one identity (`appfl-gc login --proxystore`), or use a relay of your own.",
        )
    return PassingError(
        f"The ProxyStore endpoint {own} has no connection to {peer}.",
        f"If the relay {own.relay} was restarted, or a connection to it was lost, since the two endpoints started, "
        "ProxyStore makes no new connection between them until they are restarted, on each side: `proxystore-endpoint "
        f"stop {own.name}`, then `proxystore-endpoint start {own.name}`. Otherwise a firewall keeps the two machines "
        f"apart. {own.log} says more.",
    )


def last_trouble(own: OwnEndpoint) -> str:
    """Why the endpoint did not start, if the end of its log tells one of the usual reasons; else ""."""
    try:
        with own.log.open("rb") as file:
            file.seek(max(0, own.log.stat().st_size - _TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    # Only what it wrote since its last start.
    _, _, recent = text.rpartition("Installing uvloop")
    if "relay-client-reconnect" in recent:
        return f"it ended when its relay {own.relay} was restarted."
    if "address already in use" in recent:
        return f"its port {own.port} is taken by another program."
    if "RelayRegistrationError" in recent:
        return f"its relay {own.relay} refused it."
    if "run_login_flow" in recent or "Failed to find valid tokens" in recent:
        return "it found no login for its relay."
    if "Connect call failed" in recent or "ConnectionRefusedError" in recent:
        return f"it could not connect to its relay {own.relay}."
    return ""


def _login_hint(own: OwnEndpoint) -> str:
    if not own.relay_login:
        return ""
    return "Its relay needs a login, once per machine: `appfl-gc login --proxystore`."
