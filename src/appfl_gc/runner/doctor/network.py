"""How results come back: pushed over AMQP, or polled where that is blocked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appfl_gc.protocol.errors import AppflGcError, ErrorClass
from appfl_gc.runner.doctor.row import Row, Subject

if TYPE_CHECKING:
    from appfl_gc.control.globus_compute.following.amqp_probe import AmqpProbe

CHECK = "results"


def results_row(subject: Subject, results: str, probe: AmqpProbe | AppflGcError | None) -> Row:
    """The way of results.

    Args:
        subject: of the row.
        results: ``control_configs.results``: auto, push or poll.
        probe: of the result queue's host; None where nothing is pushed.
    """
    if probe is None:
        return subject.ok(CHECK, "Results are polled over HTTPS, as control_configs.results says.")
    if isinstance(probe, AppflGcError):
        return subject.failed(CHECK, probe)
    if probe.reachable:
        return subject.ok(CHECK, probe.describe())
    if results == "push":
        return subject.fail(
            CHECK,
            f"{probe.host}:{probe.port} (AMQP) can't be reached ({probe.refusal}), and control_configs.results "
            "is push.",
            "Set results: auto or poll, or try control_configs.amqp_port: 443.",
            ErrorClass.SERVICE,
        )
    return subject.warn(CHECK, probe.describe())
