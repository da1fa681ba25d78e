"""A run that is gone on with, as ``set_up`` sees it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from appfl_gc.config import Federation
from appfl_gc.payload import codec, model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.protocol.errors import AppflGcError, UsageError
from appfl_gc.protocol.schedule import UpdateId
from appfl_gc.protocol.update_spec import UpdateSpec
from appfl_gc.runner.beginning import configured, write_down
from appfl_gc.runner.federated_run import FederatedRun
from appfl_gc.runner.global_model import GlobalModel
from appfl_gc.runner.inbox import Inbox
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.parts import Parts
from appfl_gc.runner.planes import Planes, await_endpoints
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.resume.newest_model import check_newest_model
from appfl_gc.runner.resume.past import PastRun
from appfl_gc.runner.resume.restore import (
    clear_leftovers,
    drop_unrecorded_metrics,
    land_kept_updates,
    recall,
    restore,
    versions_needed,
)
from appfl_gc.runner.slots import Slots


class ResumedRun:
    """A run that is gone on with; see ``Beginning``.

    Args:
        past: where it was. It may turn out to have been further back, if an update is damaged.
    """

    gone_on_with = True

    def __init__(self, past: PastRun) -> None:
        self._past = past
        self._landed: Mapping[UpdateId, int] = {}

    @property
    def started(self) -> bool:
        """Whether its scheduler had begun."""
        return self._past.started

    @property
    def seconds(self) -> float:
        """Seconds of run at its last record."""
        return self._past.seconds

    def prepare(self, federation: Federation) -> None:
        """Nothing is written as long as the run may still be refused."""

    def model_file(self, model: nn.Module, spec: UpdateSpec) -> Path:
        """The newest version, as the run left it."""
        path = self._past.model_file
        check_newest_model(self._past)
        if codec.spec_of(model_file.open(path)) != spec:
            raise UsageError(
                f"The global model of the run, {path}, is not of the configured model {type(model).__name__}.",
                "The model's file has changed; put it back as it was.",
            )
        return path

    def land(self, arena: Arena, slots: Slots) -> None:
        """Bring back what was accepted and not folded; what nobody needs goes."""
        self._past, self._landed = land_kept_updates(self._past, arena, slots)
        clear_leftovers(self._past)
        drop_unrecorded_metrics(self._past)

    def journal(self, guard: Callable[[], None]) -> Journal:
        """The same, from its last record on."""
        return Journal(self._past.directory.journal, self._past.last, guard)

    def global_model(self, trained: frozenset[str]) -> GlobalModel:
        """The newest version, and older ones that calls may carry."""
        return GlobalModel(self._past.directory, trained, self._past.version, *versions_needed(self._past))

    def record(self, parts: Parts, federation: Federation, spec: UpdateSpec) -> None:
        """Replay what is remembered, then write down that the run goes on, and with which configuration."""
        recall(parts, self._past)
        parts.judge.hear(configured(federation))
        write_down(self._past.directory, federation)

    def look_at_endpoints(
        self, federation: Federation, planes: Planes, recorder: Recorder, inbox: Inbox
    ) -> None:
        """Tell how they are. Once training has begun none is waited for: calls wait, and the policy judges."""
        if not self.started:
            await_endpoints(federation, planes, recorder.tell, inbox)
            return
        try:
            await_endpoints(federation, planes, recorder.tell, inbox, patience=0.0)
        except AppflGcError as error:
            recorder.log(str(error), logging.WARNING)

    def recover(self, run: FederatedRun, parts: Parts) -> None:
        """Do what was decided and not done, and take up the calls in flight."""
        parts.recorder.log(restore(run, parts, self._past, self._landed))
