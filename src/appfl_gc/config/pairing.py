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
    if server.scheduler_path or server.aggregator_path:
        return
    scheduler, aggregator = server.scheduler, server.aggregator
    if scheduler in ONE_AT_A_TIME and aggregator not in MIXING:
        check.warning(
            ("aggregator",),
            f"`{scheduler}` folds updates one at a time, and `{aggregator}` then replaces the global model by one "
            "client's.",
            f"Use `{ONE_AT_A_TIME[scheduler]}`.",
        )
    if aggregator == "FedBuffAggregator" and scheduler != "AsyncScheduler":
        check.warning(
            ("aggregator_kwargs", "K"),
            f"`K` has no effect with `{scheduler}`, which decides when updates are folded.",
            "Use `AsyncScheduler`.",
        )


def _check_sampling(server: ServerConfigs, check: TypedCheck) -> None:
    """Report aggregators that need more updates than a round of ``clients_per_round`` brings."""
    wanted = server.scheduler_kwargs.get("clients_per_round")
    if server.scheduler_path or server.scheduler != "SyncScheduler" or not isinstance(wanted, int | float):
        return
    drawn = math.ceil(Fraction(str(wanted)) * server.num_clients) if isinstance(wanted, float) else wanted
    drawn = min(drawn, server.num_clients)
    kwargs, place = server.aggregator_kwargs, ("scheduler_kwargs", "clients_per_round")
    if server.aggregator_path:
        return
    if server.aggregator in ADMM and drawn < server.num_clients:
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
