"""What went wrong with a call, in the user's terms: client, endpoint, task, class and next step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from appfl_gc.control.globus_compute.identity import Identity
from appfl_gc.control.globus_compute.rest.errors import Request, RequestTooLargeError, translate
from appfl_gc.control.message import ReplyError
from appfl_gc.protocol.errors import (
    AppflGcError,
    DeliveryError,
    EndpointError,
    ErrorClass,
    ManagerLostError,
    QueueLimitError,
    StartFailedError,
    WorkerLostError,
)
from appfl_gc.protocol.wire import clean_text

LONGEST_QUOTE = 1000
LONGEST_READ = 20_000


class CallTooLargeError(DeliveryError):
    """A call is larger than a request to the service may be; it would be so again."""

    error_class = ErrorClass.PROTOCOL


class SiteVersionError(DeliveryError):
    """The site's software can't run the entry function."""

    error_class = ErrorClass.VERSION


class TooEarlyError(StartFailedError):
    """The agent takes the place of a user endpoint that was killed for occupied still; it passes."""


class TimeLimitError(ManagerLostError):
    """The batch system ended the job that ran a call: its walltime was over."""

    error_class = ErrorClass.WALLTIME


@dataclass(frozen=True)
class Place:
    """Whose call it is and where it went; ``task`` is "" before the service gave it a number."""

    client: str
    endpoint: str
    identity: Identity
    task: str = ""

    def __str__(self) -> str:
        task = f", task {self.task}" if self.task else ""
        return f"client {self.client}, endpoint {self.endpoint}{task}"


def located(error: AppflGcError, place: Place) -> AppflGcError:
    """``error`` with the place in its message."""
    if str(place) in error.message:
        return error
    # Not ``copy.copy``: libraries that make exceptions picklable let copies share what they hold.
    named = type(error).__new__(type(error))
    named.__dict__.update(error.__dict__)
    named.message = f"{error.message} ({place})"
    named.args = (named.message,)
    return named


def of_submission(error: BaseException, place: Place) -> AppflGcError:
    """Why the service did not take a call."""
    ours = translate(error, Request("submit a call", place.identity, place.endpoint))
    if isinstance(ours, RequestTooLargeError):
        ours = CallTooLargeError(ours.message, TOO_LARGE_HINT)
    return located(ours or DeliveryError(f"The call could not be sent: {_quote(repr(error))}"), place)


TOO_LARGE_HINT = (
    "Lower control_configs.inline_limit_bytes, so that models travel through a payload store; "
    "control_configs.request_limit_bytes is the service's limit on one request."
)


def too_large(size: int, limit: int, place: Place) -> AppflGcError:
    """The call alone is larger than a request may be."""
    return located(
        CallTooLargeError(
            f"The call makes a request of {size:,} bytes; the service takes {limit:,}. It was not sent.",
            TOO_LARGE_HINT,
        ),
        place,
    )


def of_reply(error: ReplyError, place: Place) -> AppflGcError:
    """What came back is no reply."""
    return located(
        ReplyError(
            error.message,
            error.hint
            or "The site's environment may differ from what its owner installed, or its endpoint is not honest: "
            "ask its owner. Nothing that came back was executed.",
        ),
        place,
    )


def unreachable_for(seconds: float, place: Place) -> AppflGcError:
    """The service did not answer for so long."""
    return located(
        DeliveryError(
            f"The Globus Compute service could not be reached for {seconds:.0f} s; the call is given up.",
            "Check the network of this machine; https://status.globus.org tells of outages.",
        ),
        place,
    )


def endpoint_silent(seconds: float, place: Place) -> AppflGcError:
    """The endpoint that takes calls was offline for so long."""
    return located(
        DeliveryError(
            f"The endpoint was offline for {seconds:.0f} s; the call is given up.",
            "Start it at the site: `appfl-gc endpoint start NAME`, or `globus-compute-endpoint start NAME`. "
            "control_configs.lost_after_seconds is how long a run waits.",
        ),
        place,
    )


def user_endpoint_silent(seconds: float, user_endpoint: str, place: Place) -> AppflGcError:
    """The process that runs the calls was gone for so long, although its endpoint is online."""
    return located(
        WorkerLostError(
            f"The user endpoint {user_endpoint}, which ran the call, has been silent for {seconds:.0f} s: it was "
            f"killed, or its host went down.",
            "The next call starts a new one. If it happens again, read endpoint.log in the user endpoint's "
            "directory at the site.",
        ),
        place,
    )


@dataclass(frozen=True)
class _Rule:
    """Texts of agents and engines that mean one thing."""

    pattern: re.Pattern[str]
    make: type[DeliveryError]
    what: str
    hint: str


def _rule(pattern: str, make: type[DeliveryError], what: str, hint: str) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), make, what, hint)


_RULES: Sequence[_Rule] = (
    _rule(
        r"another instance of this endpoint is running",
        TooEarlyError,
        "The endpoint still counts a user endpoint that was killed",
        "It does so for three heartbeats. If it goes on, remove daemon.pid in the user endpoint's directory there.",
    ),
    _rule(
        r"untrusted identity|failed to map to a local user|mapped to a local user name|map to a local user name",
        EndpointError,
        "The endpoint refuses this identity ({identity})",
        "A private endpoint serves its owner's identity alone: name that site's application in the client's "
        "`credentials`, log in with the account and identity provider that started it, or have its administrator map "
        "this identity. `appfl-gc whoami` shows the present one.",
    ),
    _rule(
        r"MaxResultSizeExceeded|exceeded current\s+limit",
        ReplyError,
        "The site's reply is larger than its endpoint carries",
        "Lower control_configs.inline_limit_bytes, so that updates travel through a payload store.",
    ),
    _rule(
        r"Invalid header|Invalid strategy-like|not a known serialization strategy|Deserialization failed",
        SiteVersionError,
        "The site's globus-compute-endpoint can't read the call; it is too old or too new",
        "Run at the site, in the environment of the endpoint and of its workers: "
        'pip install -U "globus-compute-endpoint>=4,<5"',
    ),
    _rule(
        r"WorkerLost|BrokenProcessPool",
        WorkerLostError,
        "The worker was lost: its process ended before it replied",
        "Often memory ran out, native code crashed, or the Python of the workers differs from the endpoint's.",
    ),
    _rule(
        r"due to time limit|job killed: walltime|walltime[^\n]{0,60}\b(exceed|expired|reached|over\b)"
        r"|(exceed|reached|hit)[^\n]{0,40}\b(walltime|time limit)|JobState\.TIMEOUT",
        TimeLimitError,
        "The batch job that ran the call reached its walltime",
        "The call is sent anew and goes on from the site's last checkpoint: see train_configs.checkpoint_seconds and "
        "walltime_margin_seconds. If it gets no further, ask for a longer walltime in user_endpoint_config.",
    ),
    _rule(
        r"ManagerLost|loss of manager|stopped sending heartbeats",
        ManagerLostError,
        "The manager was lost: the node or the batch job that ran the call ended",
        "Often the walltime ended, or the job was preempted: the call is sent anew and goes on from the site's last "
        "checkpoint. Ask for a longer walltime in user_endpoint_config, or train fewer local steps.",
    ),
    _rule(
        r"PerJobLimit|MaxWall\w*|MaxGRESRunMins\w*|violates queue and/or server resource limits",
        StartFailedError,
        "The batch system takes no jobs of this size",
        "Ask for fewer nodes or a shorter walltime in user_endpoint_config, or another queue.",
    ),
    _rule(
        r"would exceed [^\n]{0,200}\blimit|maximum number of jobs already in queue|SubmitJobs?\w*Limit"
        r"|MaxJobs\w*Limit|GrpJobs\w*Limit|violates accounting/QOS policy",
        QueueLimitError,
        "The batch system takes no more jobs of this user or project now",
        "The call is sent anew later: some of the jobs there have to end first. If there are none, the account in "
        "user_endpoint_config may be missing or have nothing left.",
    ),
    _rule(
        r"function\b[^\n]{0,100}\bnot (permitted|allowed)|FUNCTION_NOT",
        EndpointError,
        "The endpoint does not allow this function",
        "`appfl-gc function register` prints what its owner must add to allowed_functions; name that UUID in "
        "control_configs.function_id.",
    ),
    _rule(
        r"endpoint (is |was |has been )?(stopped|shut ?down|shutting down|cancell?ed)|went offline"
        r"|another one was started",
        WorkerLostError,
        "The endpoint was stopped while the call was there",
        "Start it again at the site; the call is sent anew.",
    ),
)
_TRACEBACK = "Traceback (most recent call last)"
_START = _rule(
    r"failed to start|unable to start|failure starting|unable to execute command|template|schema|valid engine|"
    r"is undefined|endpoint configuration|endpoint misconfiguration|InvalidCommandError|InvalidUserError|"
    r"invalid server command|system clocks",
    StartFailedError,
    "The endpoint could not start what runs calls",
    "Compare user_endpoint_config with `appfl-gc doctor`; at the site, the user endpoint's endpoint.log and "
    "`appfl-gc endpoint check NAME` tell more.",
)
_ELSE = _rule(
    "",
    DeliveryError,
    "The endpoint or its engine failed around the call",
    "The endpoint's and the engine's logs at the site tell more.",
)


def of_task(text: str, place: Place) -> AppflGcError:
    """Why the service or the site says that a task failed. User errors never come this way: they are replies."""
    # The reason stands at the beginning of a message and at the end of a traceback.
    if len(text) > 2 * LONGEST_READ:
        text = f"{text[:LONGEST_READ]}\n{text[-LONGEST_READ:]}"
    rule = _rule_of(text)
    what = rule.what.format(identity=place.identity.describe())
    return located(rule.make(f"{what}. {_said(text)}", rule.hint), place)


def _rule_of(text: str) -> _Rule:
    for rule in _RULES:
        if rule.pattern.search(text):
            return rule
    # Workers answer with a traceback, agents with a sentence; parsl's blocks fail in between.
    of_an_agent = _TRACEBACK not in text and _START.pattern.search(text)
    return _START if of_an_agent or "BadStateException" in text else _ELSE


def _said(text: str) -> str:
    """What a site said, capped: the reason stands in a traceback's last lines, elsewhere in the first."""
    lines = [line.strip() for line in clean_text(text, 3 * LONGEST_READ).splitlines() if line.strip(" +-=*")]
    chosen = lines[-3:] if _TRACEBACK in text else lines[:12]
    return f'The site says: "{_quote(" ".join(chosen))}"'


def _quote(text: str) -> str:
    return " ".join(clean_text(text, LONGEST_QUOTE).split())
