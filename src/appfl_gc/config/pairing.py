"""Which schedulers, aggregators and trainers go together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from appfl_gc.config.schema.server_configs import ServerConfigs
from appfl_gc.config.schema.train_configs import TrainConfigs
from appfl_gc.config.typing_check import TypedCheck

ADMM = {"IIADMMAggregator": "IIADMMTrainer", "ICEADMMAggregator": "ICEADMMTrainer"}
"""Aggregators that understand one trainer's messages only, which mean nothing to any other aggregator."""

MIXING = ("FedAsyncAggregator", "FedBuffAggregator", "FedCompassAggregator")
"""Aggregators that move the model by a share of each update. All others replace it by the mean of those that came."""

ONE_AT_A_TIME = {"AsyncScheduler": "FedAsyncAggregator", "CompassScheduler": "FedCompassAggregator"}
"""Schedulers that fold single updates, and the aggregator made for each."""


def check_pairing(server: ServerConfigs, trainers: Sequence[TrainConfigs], check: TypedCheck) -> None:
    """Report a scheduler, an aggregator and trainers that can't work together, or do not do what they seem to."""
    _check_admm(server, trainers, check)
    _check_sampling(server, check)
    if not server.aggregator_path:
        _check_robust(server, check)
    if server.scheduler_path or server.aggregator_path:
        return
    scheduler, aggregator = server.scheduler, server.aggregator
    if scheduler in ONE_AT_A_TIME and aggregator not in (*MIXING, *ADMM):
        check.warning(
            ("aggregator",),
            f"`{scheduler}` folds single updates, and `{aggregator}` takes one client's for the mean of all.",
            f"Use `{ONE_AT_A_TIME[scheduler]}`.",
        )
    if scheduler in ONE_AT_A_TIME and aggregator in MIXING and not any(t.send_gradient for t in trainers):
        check.note(
            ("aggregator",),
            "With full models a stale update also takes back what others taught since.",
            "Set `client_configs.train_configs.send_gradient: True`.",
        )
    buffered = server.aggregator_kwargs.get("K")
    if (
        isinstance(buffered, int)
        and scheduler == "AsyncScheduler"
        and buffered > server.num_global_epochs > 0
    ):
        check.warning(
            ("aggregator_kwargs", "K"),
            f"A buffer of {buffered} is never full in a run of {server.num_global_epochs} client updates "
            "(`num_global_epochs`), which are folded once, at the end.",
        )
    if aggregator == "FedBuffAggregator" and scheduler != "AsyncScheduler":
        check.warning(
            ("aggregator_kwargs", "K"),
            f"`K` has no effect with `{scheduler}`, which decides when updates are folded.",
            "Use `AsyncScheduler`.",
        )


def _check_robust(server: ServerConfigs, check: TypedCheck) -> None:
    """Report robust aggregators that protect from nothing however many of the clients answer."""
    kwargs, clients = server.aggregator_kwargs, server.num_clients
    if server.aggregator == "KrumAggregator":
        byzantine, selected = kwargs.get("num_byzantine"), kwargs.get("num_selected", 1)
        if isinstance(byzantine, int) and byzantine >= 0 and clients < 2 * byzantine + 3:
            check.error(
                ("aggregator_kwargs", "num_byzantine"),
                f"Krum with `num_byzantine: {byzantine}` needs {2 * byzantine + 3} clients, and there are {clients}.",
                "`CoordinateMedianAggregator` protects from fewer than half of the clients, however few there are.",
            )
        elif isinstance(byzantine, int) and isinstance(selected, int) and selected > clients - byzantine:
            check.error(
                ("aggregator_kwargs", "num_selected"),
                f"`num_selected` is {selected}; of {clients} clients without `num_byzantine: {byzantine}` there are "
                f"{clients - byzantine}.",
            )
    trimmed = kwargs.get("trim_fraction")
    if (
        server.aggregator == "TrimmedMeanAggregator"
        and isinstance(trimmed, float)
        and 0 < trimmed < 1 / clients
    ):
        check.error(
            ("aggregator_kwargs", "trim_fraction"),
            f"`trim_fraction: {trimmed:g}` of {clients} clients is less than one, so that nothing is left out.",
            f"Give at least {1 / clients:.3g}."
            if clients > 2
            else "Two clients have no minority: use another aggregator.",
        )


def _check_sampling(server: ServerConfigs, check: TypedCheck) -> None:
    """Report rounds of ``clients_per_round`` that are too small for their aggregator, or larger than can be."""
    wanted = server.scheduler_kwargs.get("clients_per_round")
    if server.scheduler_path or server.scheduler != "SyncScheduler" or not isinstance(wanted, int | float):
        return
    if isinstance(wanted, float) and not 0 < wanted <= 1:
        return  # told elsewhere
    drawn = math.ceil(Fraction(str(wanted)) * server.num_clients) if isinstance(wanted, float) else wanted
    kwargs, place = server.aggregator_kwargs, ("scheduler_kwargs", "clients_per_round")
    if drawn > server.num_clients:
        check.warning(
            place,
            f"`clients_per_round` is {wanted}, and there are {server.num_clients} clients: each round has all of them.",
        )
        return
    if server.aggregator_path or drawn == server.num_clients:
        return
    if server.aggregator in ADMM:
        check.warning(
            place,
            f"`{server.aggregator}` is defined for rounds of all {server.num_clients} clients; a round has {drawn}.",
            "Leave `clients_per_round` out.",
        )
    byzantine, trimmed = kwargs.get("num_byzantine"), kwargs.get("trim_fraction")
    if server.aggregator == "KrumAggregator" and isinstance(byzantine, int) and drawn < 2 * byzantine + 3:
        check.warning(
            place,
            f"Krum with `num_byzantine: {byzantine}` protects where a round has {2 * byzantine + 3} updates, and here "
            f"it has {drawn}.",
            "Draw more clients, or set a smaller `num_byzantine`.",
        )
    if (
        server.aggregator == "TrimmedMeanAggregator"
        and isinstance(trimmed, int | float)
        and 0 < trimmed * drawn < 1
    ):
        check.warning(
            place,
            f"`trim_fraction: {trimmed}` of {drawn} updates is less than one, so that nothing is left out.",
            "Draw more clients, or set a larger `trim_fraction`.",
        )


def _check_admm(server: ServerConfigs, trainers: Sequence[TrainConfigs], check: TypedCheck) -> None:
    used = sorted({train.trainer for train in trainers if not train.trainer_path})
    needed = None if server.aggregator_path else ADMM.get(server.aggregator)
    for trainer in used:
        wanted = next((name for name, other in ADMM.items() if other == trainer), None)
        if wanted is not None and not server.aggregator_path and server.aggregator != wanted:
            check.error(
                ("aggregator",),
                f"`{trainer}` sends what only `{wanted}` understands, and the aggregator is `{server.aggregator}`.",
                "Use both, or neither.",
            )
        elif needed is not None and trainer != needed:
            check.error(
                ("aggregator",),
                f"`{server.aggregator}` understands what `{needed}` sends, and a client has `{trainer}`.",
                f"Set `client_configs.train_configs.trainer: {needed}`.",
            )
    if needed is not None and not server.scheduler_path and server.scheduler != "SyncScheduler":
        check.warning(
            ("scheduler",),
            f"`{server.aggregator}` is defined for synchronous rounds, which `{server.scheduler}` does not have.",
            "Use `SyncScheduler`.",
        )
