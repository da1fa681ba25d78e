"""Repeats what the service does not take now: rate limits, outages, a missing login."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import globus_sdk

from appfl_gc.control.globus_compute.identity import Identity
from appfl_gc.control.globus_compute.rest.errors import Request, ThrottledError, translate
from appfl_gc.control.globus_compute.rest.turnstile import Turnstile
from appfl_gc.control.plane import CallState
from appfl_gc.protocol.errors import AppflGcError, DeliveryError, LoginError

T = TypeVar("T")

LOOK_FOR_LOGIN = 2.0
LONGEST_PAUSE = 30.0


class Tell(Protocol):
    """Hears why a request waits."""

    def __call__(self, state: CallState, detail: str) -> None:
        """``detail`` is a sentence for people, or ""."""


class Patience:
    """Repeats the requests of one identity, each as often as it takes. Thread safe.

    Args:
        identity: whose requests.
        turnstile: of that identity.
        seconds: how long an unreachable service is waited for. A login or a rate limit is waited for without end.
    """

    def __init__(self, identity: Identity, turnstile: Turnstile, seconds: float) -> None:
        self._identity = identity
        self._turnstile = turnstile
        self._seconds = seconds

    def request(self, purpose: str, send: Callable[[], T], tell: Tell, renew: Callable[[], None]) -> T:
        """What ``send`` returns, once it does.

        Args:
            purpose: completes "could not".
            send: makes one request, when the turnstile lets it.
            tell: hears why it waits.
            renew: called after a login: what is stored must be read again.

        Raises:
            AppflGcError: what the service finally refused.
            ClosingError: if the run ends.
        """
        trouble: float | None = None
        pause, logins = 1.0, 0
        while True:
            try:
                answer = send()
            except Exception as error:
                ours = translate(error, Request(purpose, self._identity))
                if isinstance(ours, ThrottledError):
                    wait = self._turnstile.throttled(ours.retry_after)
                    tell(CallState.SENDING, f"The service asks for fewer requests; waiting {wait:.0f} s.")
                elif isinstance(ours, LoginError):
                    # Once without waiting: another shell may have logged in since the storage was read.
                    logins = 0 if self._waited_for_login(tell) else logins + 1
                    if logins > 1 or not self._identity.waits_for_login:
                        raise
                    renew()
                elif _passing(error, ours):
                    trouble = time.monotonic() if trouble is None else trouble
                    if time.monotonic() - trouble > self._seconds:
                        raise
                    said = ours.message if ours is not None else "The service does not answer."
                    tell(CallState.SENDING, f"{said} Trying again.")
                    self._turnstile.pause(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                else:
                    raise
                continue
            self._turnstile.accepted()
            return answer

    def _waited_for_login(self, tell: Tell) -> bool:
        """Wait until somebody has logged in; whether there was anything to wait for."""
        if not self._identity.waits_for_login:
            return False
        waited = False
        while self._identity.login_required():
            waited = True
            tell(
                CallState.WAITING_FOR_LOGIN,
                "The Globus login is missing or has ended: run `appfl-gc login` in any shell on this machine; "
                "the run then goes on.",
            )
            self._turnstile.pause(LOOK_FOR_LOGIN)
        return waited


def _passing(error: Exception, ours: AppflGcError | None) -> bool:
    """Whether it is the network's or the service's trouble, which passes."""
    if isinstance(error, globus_sdk.GlobusAPIError):
        return bool(error.http_status >= 500)
    # ``ComputeService`` has translated already; what is the caller's own fault has a class of its own.
    return isinstance(error, globus_sdk.NetworkError) or type(ours) is DeliveryError
