"""The login of each identity: whose it is, how long it lives, whether the clocks agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appfl_gc.protocol.errors import AppflGcError, LoginError
from appfl_gc.protocol.wire import clean_text
from appfl_gc.runner.doctor.row import Row, Subject

if TYPE_CHECKING:
    from appfl_gc.control.globus_compute.identity import LoginStatus
    from appfl_gc.control.globus_compute.rest.service import Account

SHORT_LIFE = 24 * 3600.0
CLOCK_TOLERANCE = 60.0


@dataclass(frozen=True)
class LoginFacts:
    """What is known of one login; an error stands where something could not be had.

    ``clock`` is by how many seconds the service's clock is ahead of this machine's.
    """

    account: Account | AppflGcError
    status: LoginStatus | AppflGcError
    clock: float | AppflGcError


def login_rows(subject: Subject, facts: LoginFacts) -> Iterator[Row]:
    """Login and clock."""
    if isinstance(facts.status, LoginError):
        yield subject.failed("login", facts.status)
        return
    # A token for Globus Compute alone tells nobody whose it is; the endpoints' rows say whether it is accepted.
    bare = (
        not isinstance(facts.status, AppflGcError) and not facts.status.renews and not facts.status.required
    )
    if isinstance(facts.account, LoginError) and not bare:
        yield subject.failed("login", facts.account)
        return
    if isinstance(facts.account, AppflGcError):
        yield subject.skipped(
            "login", f"Whose it is could not be asked. {facts.account.message}", facts.account.hint
        )
    else:
        whose = clean_text(facts.account.username or f"identity {facts.account.identity_id}", 200)
        provider = f" ({clean_text(facts.account.provider, 100)})" if facts.account.provider else ""
        yield subject.ok("login", f"{whose}{provider}.")
    if not isinstance(facts.status, AppflGcError):
        yield _life(subject, facts.status)
    if not isinstance(facts.clock, AppflGcError):
        yield _clock(subject, facts.clock)


def _life(subject: Subject, status: LoginStatus) -> Row:
    left = "" if status.seconds_left is None else f"The access token lasts {_hours(status.seconds_left)} more"
    if status.renews:
        return subject.ok(
            "remaining life", f"{left} and is renewed." if left else "Access tokens are renewed."
        )
    if status.seconds_left is None:
        return subject.warn(
            "remaining life",
            "How long the token lasts is not known, and it is not renewed.",
            "For a long run log in with `appfl-gc login`, or give an application's id and secret.",
        )
    if status.seconds_left < SHORT_LIFE:
        return subject.warn(
            "remaining life",
            f"{left} and is not renewed.",
            "For a longer run log in with `appfl-gc login`, or give an application's id and secret.",
        )
    return subject.ok("remaining life", f"{left} and is not renewed.")


def _clock(subject: Subject, ahead: float) -> Row:
    if abs(ahead) <= CLOCK_TOLERANCE:
        return subject.ok("clock", "This machine's clock agrees with the service's.")
    direction = "behind" if ahead > 0 else "ahead of"
    return subject.warn(
        "clock",
        f"This machine's clock is {abs(ahead):.0f} s {direction} the service's; logins fail when they differ much.",
        "Synchronise it, as with chrony or systemd-timesyncd. Endpoints need it more: they refuse work when theirs is "
        "off by more than 180 s.",
    )


def _hours(seconds: float) -> str:
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.0f} days"
    return f"{seconds / 3600:.0f} h" if seconds >= 2 * 3600 else f"{seconds / 60:.0f} min"
