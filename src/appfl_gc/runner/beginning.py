"""How a run begins: anew, or where an earlier process left it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from appfl_gc.config import Federation
from appfl_gc.payload import model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.protocol.errors import UpdateRefusedError, UsageError
from appfl_gc.protocol.update_spec import UpdateSpec
from appfl_gc.runner.federated_run import FederatedRun
from appfl_gc.runner.global_model import GlobalModel
from appfl_gc.runner.inbox import Inbox
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.parts import Parts
from appfl_gc.runner.planes import Planes, await_endpoints
from appfl_gc.runner.policy.decisions import Configured
from appfl_gc.runner.policy.settings import PolicySettings
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.run_directory import RunDirectory
from appfl_gc.runner.slots import Slots
from appfl_gc.site.host import environment_record
from appfl_gc.version import VERSION


class Beginning(Protocol):
    """What differs between a new run and one that is gone on with; called in the order of its methods."""

    @property
    def gone_on_with(self) -> bool:
        """Whether another process ran the run before."""

    @property
    def started(self) -> bool:
        """Whether its scheduler has begun."""

    @property
    def seconds(self) -> float:
        """Seconds of run so far."""

    def prepare(self, federation: Federation) -> None:
        """Before anything is built."""

    def model_file(self, model: nn.Module, spec: UpdateSpec) -> Path:
        """The file of the newest global model; raises ``UsageError`` if that can't be had."""

    def land(self, arena: Arena, slots: Slots) -> None:
        """Bring updates that are here already into ``arena``."""

    def journal(self, guard: Callable[[], None]) -> Journal:
        """The run's journal; ``guard`` raises where another process has taken the run."""

    def global_model(self, trained: frozenset[str]) -> GlobalModel:
        """The versions there are; see ``GlobalModel``."""

    def record(self, parts: Parts, federation: Federation, spec: UpdateSpec) -> None:
        """Everything is built: write down that it begins. Raises ``UsageError`` if it can't go on as it was."""

    def look_at_endpoints(
        self, federation: Federation, planes: Planes, recorder: Recorder, inbox: Inbox
    ) -> None:
        """Tell how the endpoints are, and wait for them where that makes sense."""

    def recover(self, run: FederatedRun, parts: Parts) -> None:
        """Bring ``run`` to where it was."""


@dataclass(frozen=True)
class NewRun:
    """A run that begins anew; see ``Beginning``.

    Attributes:
        directory: of the run.
        init_model: safetensors file to start from, or None for the model's initial weights.
    """

    directory: RunDirectory
    init_model: Path | None = None
    gone_on_with: bool = False
    started: bool = False
    seconds: float = 0.0

    def prepare(self, federation: Federation) -> None:
        """Write down the configuration and this machine."""
        write_down(self.directory, federation)

    def model_file(self, model: nn.Module, spec: UpdateSpec) -> Path:
        """Version 0: the model's initial weights, or those of ``init_model`` if they fit."""
        path, given = self.directory.initial, self.init_model
        if given is None:
            model_file.write(model.state_dict(), path)
            return path
        try:
            model_file.write(load_file(given), path, spec)
        except (OSError, SafetensorError, UpdateRefusedError) as error:
            reason = error.message if isinstance(error, UpdateRefusedError) else f"{error}."
            raise UsageError(
                f"The run can't start from the model {given}. {reason}",
                "Name a safetensors file of the same model, such as model.safetensors of an earlier run.",
            ) from None
        return path

    def land(self, arena: Arena, slots: Slots) -> None:
        """There are none."""

    def journal(self, guard: Callable[[], None]) -> Journal:
        """A new one."""
        return Journal(self.directory.journal, None, guard)

    def global_model(self, trained: frozenset[str]) -> GlobalModel:
        """Version 0 alone."""
        return GlobalModel(self.directory, trained)

    def record(self, parts: Parts, federation: Federation, spec: UpdateSpec) -> None:
        """The journal's first record."""
        parts.journal.append(
            0.0,
            "run",
            run=parts.calls.run,
            version=VERSION,
            seed=parts.calls.seed,
            clients=list(parts.clients),
            threads=parts.calls.threads,
            model=parts.model.file.name,
            checksum=parts.model.checksum(),
            spec=spec.to_json(),
            sources={
                client.client_id: {kind: source.sha256 for kind, source in client.sources.items()}
                for client in federation.clients
            },
        )
        parts.judge.hear(configured(federation))
        parts.journal.flush()

    def look_at_endpoints(
        self, federation: Federation, planes: Planes, recorder: Recorder, inbox: Inbox
    ) -> None:
        """Wait until all are online."""
        await_endpoints(federation, planes, recorder.tell, inbox)

    def recover(self, run: FederatedRun, parts: Parts) -> None:
        """There is nothing to recover."""


def configured(federation: Federation) -> Configured:
    """What the failure policy hears of the configuration."""
    return Configured(PolicySettings.of(federation.server_configs.fault_tolerance_configs))


def write_down(directory: RunDirectory, federation: Federation) -> None:
    """Keep the configuration and what this machine is in the run directory."""
    directory.write_json("config.json", federation.resolved())
    directory.write_json("environment.json", environment_record())
