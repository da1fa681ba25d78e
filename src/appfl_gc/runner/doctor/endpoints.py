"""What each endpoint must be: there, ours to use, online, and taking what the configuration sends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from appfl_gc.control.globus_compute.endpoints.config_schema import SchemaAnswer
from appfl_gc.control.globus_compute.endpoints.facts import EndpointFacts, EndpointState
from appfl_gc.hpc.facility import facility_of_endpoint
from appfl_gc.protocol.errors import AppflGcError, ErrorClass
from appfl_gc.runner.doctor.row import Row, Subject, named


@dataclass(frozen=True)
class EndpointChecks:
    """What was asked about one endpoint for one identity; an error stands where something could not be had.

    Attributes:
        facts: what the service says of it.
        ours: whether the identity owns it; None where the service does not tell.
        allowed: functions that it runs, None for any.
        function_id: the function that the configuration names, or None.
    """

    facts: EndpointFacts
    ours: bool | None
    allowed: Sequence[str] | AppflGcError | None
    function_id: str | None


def endpoint_rows(subject: Subject, checks: EndpointChecks) -> Iterator[Row]:
    """Whether calls reach it and its functions are free; its configurations have rows of their own."""
    yield _reachable(subject, checks)
    if checks.facts.state.known:
        yield _function(subject, checks)


def _reachable(subject: Subject, checks: EndpointChecks) -> Row:
    facts = checks.facts
    facility = facility_of_endpoint(facts.endpoint_id)
    whose = f"run by the facility ({facility[0].name})" if facility else _whose(checks.ours)
    if facts.state is EndpointState.ONLINE:
        place = f" on {facts.host}" if facts.host else ""
        kind = "multi-user, " if facts.multi_user else ""
        return subject.ok("status", f"Online{place}, {kind}{whose}.")
    if facts.state is EndpointState.OFFLINE:
        fix = "Look at the facility's status page." if facility else _start(checks)
        return subject.fail("status", f"Offline, {whose}.", fix, ErrorClass.SERVICE)
    if facts.state is EndpointState.UNKNOWN:
        return subject.warn("status", facts.detail)
    classes = {
        EndpointState.REFUSED: ErrorClass.ENDPOINT,
        EndpointState.NO_LOGIN: ErrorClass.LOGIN,
        EndpointState.BAD_LOGIN: ErrorClass.LOGIN,
    }
    return subject.fail("status", facts.detail, facts.hint, classes.get(facts.state, ErrorClass.SERVICE))


def _start(checks: EndpointChecks) -> str:
    if checks.ours:
        return f"Start its agent there: `appfl-gc endpoint start {checks.facts.name or 'NAME'}`."
    return "Ask its owner to start it."


def _whose(ours: bool | None) -> str:
    if ours is None:
        return "owned by this identity or shared with it"
    return "owned by this identity" if ours else "shared with this identity"


def _function(subject: Subject, checks: EndpointChecks) -> Row:
    allowed, wanted = checks.allowed, checks.function_id
    if isinstance(allowed, AppflGcError):
        return subject.skipped("function", f"Which functions it allows could not be asked. {allowed.message}")
    if allowed is None:
        return subject.ok("function", "It runs any function.")
    those = named(allowed) or "none"
    if wanted is None:
        return subject.fail(
            "function",
            f"It runs certain functions only ({those}), and the configuration names none, so that a new one "
            "would be registered.",
            "Name the one that its owner reviewed as server_configs.control_configs.function_id; `appfl-gc function "
            "register` prints a UUID and the source for the owner.",
            ErrorClass.ENDPOINT,
        )
    if wanted.lower() in allowed:
        return subject.ok("function", "It allows the function that the configuration names.")
    return subject.fail(
        "function",
        f"It does not allow the function {wanted}, but {those}.",
        "Ask its owner to add that UUID to allowed_functions, or name an allowed one as "
        "server_configs.control_configs.function_id.",
        ErrorClass.ENDPOINT,
    )


@dataclass(frozen=True)
class ConfigCheck:
    """What a schema says of one client's ``user_endpoint_config``.

    Attributes:
        client: whose it is.
        given: whether it has any key.
        answer: of the schema.
        place: ``file:line: key`` of a path in it.
    """

    client: str
    given: bool
    answer: SchemaAnswer
    place: Callable[[tuple[str | int, ...]], str]


def config_rows(subject: Subject, facts: EndpointFacts, checks: Iterable[ConfigCheck]) -> Iterator[Row]:
    """Whether the endpoint takes what its clients send; clients with the same finding share a row."""
    alike: dict[Row, list[str]] = {}
    for check in checks:
        for misfit in check.answer.misfits:
            yield subject.fail(
                f"config of {check.client}",
                f"{check.place(misfit.path)}: {misfit.message}",
                "Correct it as the endpoint's owner documents it; `appfl-gc facility show` prints ready blocks.",
                ErrorClass.USER,
            )
        if not check.answer.misfits:
            alike.setdefault(_config(subject, facts, check), []).append(check.client)
    for row, clients in alike.items():
        yield replace(row, check=f"config of {named(clients)}")


def _config(subject: Subject, facts: EndpointFacts, check: ConfigCheck) -> Row:
    if check.answer.unchecked:
        return subject.skipped("config", f"user_endpoint_config is not checked. {check.answer.unchecked}")
    if facts.schema is not None:
        return subject.ok("config", "user_endpoint_config fits the endpoint's schema.")
    if check.given:
        return subject.skipped("config", "user_endpoint_config is not checked: the service tells no schema.")
    return subject.ok("config", "There is no user_endpoint_config, and no schema that asks for one.")
