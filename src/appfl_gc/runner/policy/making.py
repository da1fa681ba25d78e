"""The failure policy that a configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence

from appfl_gc.config.fault_tolerance import clients_of_a_round
from appfl_gc.config.schema.server_configs import ServerConfigs
from appfl_gc.runner.policy.machine import FailurePolicy
from appfl_gc.runner.policy.settings import PolicySettings


def policy_of(server: ServerConfigs, clients: Sequence[str]) -> FailurePolicy:
    """The policy of a run with ``clients``.

    Only ``SyncScheduler`` is known to fold an update of each call of a round at once; with others a call stands for
    itself, and the quorum counts clients.
    """
    drawn = clients_of_a_round(server)
    return FailurePolicy(
        clients,
        PolicySettings.of(server.fault_tolerance_configs),
        rounds=drawn is not None,
        round_size=len(clients) if drawn is None else drawn,
    )
