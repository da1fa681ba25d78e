"""What is simulated: a configuration, its clients' profiles, and the parts made of them."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appfl_gc.aggregator.base import Aggregator
from appfl_gc.aggregator.registry import make_aggregator
from appfl_gc.config.federation import ClientConfig, Federation
from appfl_gc.protocol.errors import UsageError
from appfl_gc.runner.algorithms import no_user_code, scheduler_of
from appfl_gc.runner.server_sources import ServerSources
from appfl_gc.scheduler.base import Scheduler
from appfl_gc.simulation.builtin_profiles import FEDERATIONS, builtin_profiles
from appfl_gc.simulation.configuration import load_configuration
from appfl_gc.simulation.model_learner import ModelLearner
from appfl_gc.simulation.past_run import PastRun, read_past_run
from appfl_gc.simulation.profile import ClientProfile, checked, renamed
from appfl_gc.simulation.profile_file import read_profiles
from appfl_gc.simulation.stub import stub_learner
from appfl_gc.site.source_loader import SourceLoader

DEFAULT_PROFILES = "homogeneous"
STAND_IN = "FedAvgAggregator"
"""Folds where the user's own aggregator would."""

STEPS = 100
"""Local steps where nothing says how many."""


@dataclass(frozen=True)
class Request:
    """What somebody wants to be simulated; everything may be left out.

    Attributes:
        server_config, client_config: YAML files.
        profiles: a name of ``builtin_profiles`` or a profile file.
        run: a run directory, whose clients and configuration are taken where nothing else says. With ``profiles``
            its clients have these.
        clients: how many clients like the profiles, where there is no ``client_config``.
        overrides: ``KEY=VALUE`` on top of the configuration.
        seed: of all that is drawn.
    """

    server_config: Path | None = None
    client_config: Path | None = None
    profiles: str | None = None
    run: Path | None = None
    clients: int | None = None
    overrides: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Scenario:
    """A simulation that is ready to begin.

    Attributes:
        federation: its configuration.
        profiles: its clients.
        steps: local steps of each where the scheduler does not say.
        seed: of all that is drawn.
        notes: what the user should know of it, full sentences.
        past: the past run, where just its clients are simulated as they were; else None.
    """

    federation: Federation
    profiles: tuple[ClientProfile, ...]
    steps: Mapping[str, int]
    seed: int
    notes: tuple[str, ...]
    past: PastRun | None = None

    @property
    def aggregator(self) -> str:
        """Name of the aggregator that folds: the configured one, unless that is the user's own."""
        server = self.federation.server_configs
        return STAND_IN if server.aggregator_path else server.aggregator

    def blame(self) -> contextlib.AbstractContextManager[None]:
        """A context in which the scheduler and the learner work; says whose fault a failure in it is.

        Raises:
            UsageError: in place of a ``UserCodeError``, if the scheduler is not the user's own.
        """
        own = self.federation.server_configs.scheduler_path
        return contextlib.nullcontext() if own else no_user_code()

    def scheduler(self) -> Scheduler:
        """A fresh scheduler, as a run would have it; a user's file is loaded.

        Raises:
            UsageError: if the configuration asks for one that can't be had.
            AppflGcError: if the user's own can't be made.
        """
        with tempfile.TemporaryDirectory(prefix="appfl-gc-simulate-") as folder:
            sources = ServerSources(SourceLoader(Path(folder)), dict(self.federation.sources))
            return scheduler_of(self.federation, sources.load("scheduler"), self.seed)

    def learner(self) -> ModelLearner:
        """A fresh stub whose updates ``aggregator`` folds; raises ``UsageError`` if there is no such aggregator."""
        send_gradient = any(client.train_configs.send_gradient for client in self.federation.clients)
        return stub_learner(
            self.profiles, self._aggregator(), self.steps, seed=self.seed, send_gradient=send_gradient
        )

    def _aggregator(self) -> Aggregator:
        own = self.federation.server_configs.aggregator_path
        with no_user_code():
            return make_aggregator(self.aggregator, {} if own else self.federation.aggregator_kwargs())


def prepare(request: Request) -> Scenario:
    """Read all that ``request`` names and join it.

    Raises:
        ConfigError: if the configuration or the profile file has errors.
        UsageError: if what is asked for does not exist or does not go together.
    """
    if request.clients is not None and request.client_config is not None:
        raise UsageError(
            "--clients and --client_config both say who the clients are.",
            "Leave one out: the file lists its clients.",
        )
    past = None if request.run is None else read_past_run(request.run)
    with no_user_code():
        profiles = _profiles(request, past)
    given_names: Sequence[str] | None = None
    if past is not None and request.profiles is not None and request.clients is None:
        given_names = past.clients
    federation = load_configuration(
        request.server_config,
        request.client_config,
        request.run,
        given_names or [profile.client for profile in profiles],
        request.overrides,
    )
    names = [client.client_id for client in federation.clients]
    notes = [] if past is None or request.profiles is not None else _notes_of(past)
    if request.client_config is not None or given_names is not None:
        if (built_in := _name(request, past)) in FEDERATIONS:
            profiles = builtin_profiles(str(built_in), len(names), request.seed)
        profiles = _assigned(profiles, names, notes)
    with no_user_code():
        profiles = checked(profiles)
    if federation.server_configs.aggregator_path:
        notes.append(f"Your aggregator is not simulated: {STAND_IN} folds the updates in its place.")
    seen = {} if past is None else past.steps
    steps = {
        client.client_id: _steps(client, profile, seen, notes)
        for client, profile in zip(federation.clients, profiles, strict=True)
    }
    same = request.profiles is None and request.clients is None and request.client_config is None
    return Scenario(
        federation, profiles, steps, request.seed, tuple(dict.fromkeys(notes)), past if same else None
    )


def _name(request: Request, past: PastRun | None) -> str | None:
    """Name or file of the profiles; None for those of the past run."""
    return request.profiles or (None if past is not None else DEFAULT_PROFILES)


def _profiles(request: Request, past: PastRun | None) -> tuple[ClientProfile, ...]:
    name = _name(request, past)
    if name is None and past is not None:
        return _as_many(past.profiles, request.clients)
    if name in FEDERATIONS:
        return builtin_profiles(str(name), request.clients, request.seed)
    path = Path(str(name))
    if not path.exists():
        raise UsageError(
            f"There are no profiles called {name!r}, and no such file.",
            f"Built in are {', '.join(FEDERATIONS)}; or name a YAML file with groups of clients.",
        )
    return _as_many(read_profiles(path, request.seed), request.clients)


def _as_many(profiles: Sequence[ClientProfile], clients: int | None) -> tuple[ClientProfile, ...]:
    """``clients`` of the profiles, from the start again where there are not enough, under names of their own."""
    if clients is None:
        return tuple(profiles)
    if clients < 1:
        raise UsageError(f"{clients} clients can't be simulated; at least one is needed.")
    names = []
    for number in range(clients):
        lap, place = divmod(number, len(profiles))
        names.append(f"{profiles[place].client}-{lap + 1}" if lap else profiles[place].client)
    return renamed(profiles, names)


def _assigned(
    profiles: Sequence[ClientProfile], names: Sequence[str], notes: list[str]
) -> tuple[ClientProfile, ...]:
    """A profile for each configured client: the one of its name, else the next in order."""
    known = {profile.client: profile for profile in profiles}
    others = [name for name in names if name not in known]
    if others and (len(others) < len(names) or len(profiles) != len(names)):
        notes.append(
            f"There are {len(names)} clients and {len(profiles)} profiles: {len(others)} clients without a profile of "
            "their own name take profiles in order, and from the start again where there are too few."
        )
    in_order = {new.client: new for new in renamed(profiles, others)}
    return tuple(known.get(name) or in_order[name] for name in names)


def _steps(client: ClientConfig, profile: ClientProfile, seen: Mapping[str, int], notes: list[str]) -> int:
    """Local steps of a client: as configured, else as in the past run, else ``STEPS``."""
    train = client.train_configs
    if train.num_local_steps and train.mode != "epoch":
        return train.num_local_steps
    if train.num_local_epochs and profile.sample_size:
        size, batch = profile.sample_size, train.train_batch_size
        batches = size // batch if train.train_drop_last else math.ceil(size / batch)
        return train.num_local_epochs * max(1, batches)
    if client.client_id in seen:
        return max(1, seen[client.client_id])
    notes.append(
        f"Nothing says how many local steps a client does, so each does {STEPS}: set num_local_steps with "
        "`mode: step`, or give `samples` in the profiles."
    )
    return STEPS


def _notes_of(past: PastRun) -> list[str]:
    if not past.silent:
        return []
    names = ", ".join(past.silent[:5]) + (" and others" if len(past.silent) > 5 else "")
    left_out = "it is" if len(past.silent) == 1 else "they are"
    return [f"Nothing is known of {names}: no update of the run came from there; {left_out} left out."]
