"""Learners with a model: the run's aggregators fold what a training function makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch

from appfl_gc.aggregator.base import Aggregator, Cohort
from appfl_gc.aggregator.in_memory import InMemoryModel
from appfl_gc.protocol.schedule import UpdateId, UpdateMeta
from appfl_gc.protocol.wire import Json
from appfl_gc.simulation.learner import Trained, Work

State: TypeAlias = Mapping[str, torch.Tensor]
Steps: TypeAlias = Callable[[str, Mapping[str, Json]], int]
Train: TypeAlias = Callable[[Work, State], tuple[State, Trained]]
Evaluate: TypeAlias = Callable[[int, State], Mapping[str, float]]


def _nothing(version: int, state: State) -> Mapping[str, float]:
    return {}


class ModelLearner:
    """A ``Learner`` that keeps the versions which are still trained, and the updates which wait to be folded.

    Args:
        state: version 0, tensors by name.
        trained: names of the tensors that are parameters; the others are buffers.
        aggregator: folds the updates, as in a run.
        cohort: all clients of the federation.
        steps: local steps of a client's dispatch with these args.
        train: local training: given the work and the version that it starts from, which it must not change, it
            answers with the update and what the site tells.
        evaluate: given the number of a new version and its tensors, numbers for the timeline; ``{}`` for none.
        deltas: names of the tensors of which updates hold differences, received minus new.

    Raises:
        UserCodeError: if ``state`` is no model's.
    """

    def __init__(
        self,
        state: State,
        trained: frozenset[str],
        aggregator: Aggregator,
        cohort: Cohort,
        steps: Steps,
        train: Train,
        evaluate: Evaluate = _nothing,
        deltas: frozenset[str] = frozenset(),
    ) -> None:
        self._model = InMemoryModel(state, trained, aggregator)
        self._cohort = cohort
        self._steps = steps
        self._train = train
        self._evaluate = evaluate
        self._deltas = deltas
        self._versions: dict[int, State] = {0: self._model.state}
        self._updates: dict[UpdateId, State] = {}
        self._version = 0

    @property
    def state(self) -> State:
        """The newest version. Not to be written to."""
        return self._versions[self._version]

    @property
    def kept(self) -> tuple[int, int]:
        """How many versions and updates are in memory."""
        return len(self._versions), len(self._updates)

    def steps(self, client: str, args: Mapping[str, Json]) -> int:
        """See ``Learner``."""
        return self._steps(client, args)

    def train(self, work: Work) -> Trained:
        """See ``Learner``."""
        self._updates[work.update], trained = self._train(work, self._versions[work.version])
        return trained

    def fold(self, metas: Sequence[UpdateMeta], staleness: Sequence[int]) -> Mapping[str, float]:
        """See ``Learner``; raises ``UserCodeError`` if the aggregator fails or the model is not finite."""
        updates = [self._updates.pop(meta.update) for meta in metas]
        new = self._model.fold(updates, metas, staleness, self._cohort, self._deltas)
        self._version += 1
        self._versions[self._version] = new
        return self._evaluate(self._version, new)

    def forget(self, version: int) -> None:
        """See ``Learner``."""
        self._versions.pop(version, None)
