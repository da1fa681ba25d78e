"""Rules of the block ``server_configs.fault_tolerance_configs``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from appfl_gc.config.findings import did_you_mean
from appfl_gc.config.schema.server_configs import FaultToleranceConfigs, ServerConfigs
from appfl_gc.config.typing_check import TypedCheck
from appfl_gc.protocol.errors import ErrorClass

BLOCK = "fault_tolerance_configs"
UNCOUNTED = ErrorClass.FORGOTTEN
"""The class that has no number of retries: what was forgotten is always sent again."""


def check_fault_tolerance(server: ServerConfigs, check: TypedCheck) -> None:
    """Report what the keys of the block say against each other and against the size of the federation."""
    given = server.fault_tolerance_configs
    _check_quorum(given, server, check)
    if given.stop_below > max(server.num_clients, 1):
        check.error(
            (BLOCK, "stop_below"),
            f"`stop_below` is {given.stop_below}, and there are {server.num_clients} clients.",
            "The run would end at once: lower it.",
        )
    if isinstance(given.retries, Mapping):
        _check_classes(given.retries, check)
    _check_on_missing(given, server, check)


def _check_quorum(given: FaultToleranceConfigs, server: ServerConfigs, check: TypedCheck) -> None:
    quorum, place = given.quorum, (BLOCK, "quorum")
    drawn = clients_of_a_round(server)
    if isinstance(quorum, float) and quorum > 1:
        check.error(place, f"Expected a share of at most 1 or a whole number, found {quorum}.")
    elif isinstance(quorum, int) and quorum > max(server.num_clients, 1):
        check.error(place, f"The quorum of {quorum} is more than the {server.num_clients} clients.")
    elif isinstance(quorum, int) and drawn is not None and quorum > drawn:
        check.error(
            place,
            f"The quorum of {quorum} is more than the {drawn} clients that a round has.",
            "Lower it, or raise `scheduler_kwargs.clients_per_round`.",
        )
    elif (
        given.deadline_seconds is not None
        and drawn is not None
        and quorum == (1.0 if isinstance(quorum, float) else drawn)
    ):
        check.warning(
            (BLOCK, "deadline_seconds"),
            "`deadline_seconds` has no effect: the quorum asks for every update of a round, so that who is late is "
            "waited for.",
            "Lower `quorum`, for example to 0.8.",
        )


def _check_classes(retries: Mapping[str, object], check: TypedCheck) -> None:
    counted = [kind.value for kind in ErrorClass if kind.infrastructure and kind is not UNCOUNTED]
    for name, number in retries.items():
        place = (BLOCK, "retries", name)
        if name not in counted:
            known = any(name == kind.value for kind in ErrorClass)
            check.error(
                place,
                f"The class of failure `{name}` has no number of retries."
                if known
                else f"There is no class of failure `{name}`.",
                ("" if known else did_you_mean(name, counted))
                or f"Classes that have one: {', '.join(counted)}.",
            )
        elif not isinstance(number, int) or isinstance(number, bool) or number < 0:
            check.error(place, f"Expected a whole number of at least 0, found {number!r}.")


def _check_on_missing(given: FaultToleranceConfigs, server: ServerConfigs, check: TypedCheck) -> None:
    place = (BLOCK, "on_missing")
    drawn = clients_of_a_round(server)
    if given.on_missing == "replace" and (drawn is None or drawn >= server.num_clients):
        why = (
            f"`{server.scheduler}` has no rounds in which another client could take the place."
            if drawn is None
            else "Each round has all clients, so that none is left to take a place."
        )
        check.warning(
            place,
            f"`on_missing: replace` does what `drop` does. {why}",
            "Set `scheduler_kwargs.clients_per_round` below the number of clients."
            if drawn is not None
            else "",
        )
    if given.on_missing == "wait" and "retries" in given.model_fields_set:
        check.warning(
            (BLOCK, "retries"),
            "`retries` has no effect with `on_missing: wait`, which tries again for as long as it takes.",
            "Keep one.",
        )


def clients_of_a_round(server: ServerConfigs) -> int | None:
    """How many clients a synchronous round has; None where there are no such rounds."""
    if server.scheduler_path or server.scheduler != "SyncScheduler":
        return None
    wanted = server.scheduler_kwargs.get("clients_per_round")
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or wanted <= 0:
        return server.num_clients
    share = isinstance(wanted, float)
    # As the user wrote the share: 0.07 of 100 clients are 7, and not 8.
    clients = math.ceil(Fraction(str(wanted)) * server.num_clients) if share else int(wanted)
    return min(clients, server.num_clients)
