"""The failure policy that a configuration asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from appfl_gc.config.schema.server_configs import ServerConfigs
from appfl_gc.runner.policy.machine import FailurePolicy
from appfl_gc.runner.policy.settings import PolicySettings


def policy_of(server: ServerConfigs, clients: Sequence[str]) -> FailurePolicy:
    """The policy of a run with ``clients``.

    Only ``SyncScheduler`` is known to fold an update of each call of a round at once; with others a call stands for
    itself, and the quorum counts clients.
    """
    rounds = server.scheduler == "SyncScheduler" and not server.scheduler_path
    drawn = server.scheduler_kwargs.get("clients_per_round") if rounds else None
    return FailurePolicy(
        clients,
        PolicySettings.of(server.fault_tolerance_configs),
        rounds=rounds,
        round_size=round_size(drawn, len(clients)),
    )


def round_size(drawn: int | float | None, clients: int) -> int:
    """Clients of a round that draws so many, or such a share, of ``clients``; None for all."""
    if drawn is None:
        return clients
    wanted = drawn if isinstance(drawn, int) else math.ceil(Fraction(str(drawn)) * clients)
    return min(wanted, clients)
