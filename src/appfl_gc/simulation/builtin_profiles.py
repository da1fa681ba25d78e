"""Federations to simulate by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.simulation.draws import Chance, Constant, Draw, Exponential, Jittered, Normal
from appfl_gc.simulation.profile import ClientProfile

STEP_SECONDS = 0.1
"""Mean seconds of a local step in the federations that are made up."""

SPREAD = 0.3
"""Standard deviation of the clients' speeds in ``normal``, as a share of the mean."""

JITTER = 0.05
"""How much a client's speed changes from dispatch to dispatch: standard deviation of the logarithm."""

TURN_AROUND: Mapping[str, float] = MappingProxyType(
    {"Delta": 15.0, "Aurora": 15.7, "Polaris": 25.6, "Sophia": 34.5}
)
"""Mean seconds of 100 local steps with all that belongs to them, in a published log of four supercomputers."""

STEPS_OF_TURN_AROUND = 100
CLIENTS = 8
"""Clients of a made-up federation where nobody says how many."""

SPEEDS: Mapping[str, Draw] = MappingProxyType(
    {
        "homogeneous": Constant(STEP_SECONDS),
        "normal": Normal(STEP_SECONDS, SPREAD * STEP_SECONDS),
        "exponential": Exponential(STEP_SECONDS),
    }
)


def builtin_profiles(name: str, clients: int | None = None, seed: int = 0) -> tuple[ClientProfile, ...]:
    """The federation called ``name``.

    * ``homogeneous``: all clients take ``STEP_SECONDS`` for a step, always.
    * ``normal``, ``exponential``: the speed of each client is drawn once from this distribution, and changes by
      ``JITTER`` from dispatch to dispatch; an overhead of 1 s and a transfer of 0.5 s for each dispatch.
    * ``four-supercomputers``: Delta, Aurora, Polaris and Sophia in a published log, of which only mean turn-arounds
      are known: all of it counts as local steps. More than four clients repeat the four.

    Args:
        name: which.
        clients: how many; ``CLIENTS``, or 4 supercomputers, if None.
        seed: what the speeds are derived from.

    Raises:
        UserCodeError: if no federation has this name, or there is less than one client.
    """
    if name not in FEDERATIONS:
        raise UserCodeError(
            f"There are no profiles called {name!r}.",
            f"Built in are {', '.join(FEDERATIONS)}; or name a YAML file with groups of clients.",
        )
    if clients is not None and clients < 1:
        raise UserCodeError(f"{clients} clients can't be simulated; at least one is needed.")
    return FEDERATIONS[name](name, clients, seed)


def _made_up(name: str, clients: int | None, seed: int) -> tuple[ClientProfile, ...]:
    names = [f"client-{number}" for number in range(1, (clients or CLIENTS) + 1)]
    speeds = [SPEEDS[name].draw(Chance(seed, client, 0, "speed")) for client in names]
    return tuple(
        ClientProfile(
            client,
            Constant(speed) if name == "homogeneous" else Jittered(Constant(speed), JITTER),
            overhead_seconds=Constant(1.0),
            transfer_seconds=Constant(0.5),
            group=name,
        )
        for client, speed in zip(names, speeds, strict=True)
    )


def _supercomputers(name: str, clients: int | None, seed: int) -> tuple[ClientProfile, ...]:
    machines = list(TURN_AROUND)
    profiles = []
    for number in range(clients or len(machines)):
        lap, place = divmod(number, len(machines))
        machine = machines[place]
        client = machine if not lap else f"{machine}-{lap + 1}"
        seconds = TURN_AROUND[machine] / STEPS_OF_TURN_AROUND
        profiles.append(ClientProfile(client, Constant(seconds), group=machine))
    return tuple(profiles)


FEDERATIONS: Mapping[str, Callable[[str, int | None, int], tuple[ClientProfile, ...]]] = MappingProxyType(
    {**dict.fromkeys(SPEEDS, _made_up), "four-supercomputers": _supercomputers}
)
