"""A user's scheduler class, as ``server_configs.scheduler_path`` names it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol, get_args

from appfl_gc.protocol.errors import NotSupportedError, UserCodeError
from appfl_gc.protocol.schedule import Action, Aggregate, Arrived, Dispatch, Event, Started, UpdateId
from appfl_gc.scheduler.base import Counts, Scheduler
from appfl_gc.site.user_errors import user_errors

_ACTIONS = get_args(Action)


class Steps(Protocol):
    """The least that a user's scheduler has."""

    def step(self, now: float, event: Event) -> list[Action]:
        """See ``Scheduler.step``."""


class UserScheduler:
    """Checks what a user's scheduler answers, so that a mistake in it is told as one.

    Args:
        scheduler: the user's object. Its ``counts`` and ``waits_for_all`` (see ``Scheduler``) may be left out: it
            counts rounds then, and waits for all.

    Raises:
        UserCodeError: if ``counts`` is something else.
    """

    def __init__(self, scheduler: Steps) -> None:
        self._scheduler = scheduler
        self._name = type(scheduler).__name__
        self._clients: tuple[str, ...] = ()
        self._dispatches: dict[str, int] = {}
        self._waiting: set[UpdateId] = set()
        self.waits_for_all = bool(getattr(scheduler, "waits_for_all", True))
        counts = getattr(scheduler, "counts", Counts.ROUNDS)
        try:
            self.counts = Counts(counts)
        except ValueError:
            raise UserCodeError(
                f"{self._name}.counts is {counts!r:.100}; expected"
                f" {' or '.join(repr(kind.value) for kind in Counts)}."
            ) from None

    def step(self, now: float, event: Event) -> list[Action]:
        """See ``Scheduler.step``; raises ``UserCodeError`` if the class fails or answers with something else."""
        what = type(event).__name__
        if isinstance(event, Started):
            self._clients = event.clients
        elif isinstance(event, Arrived):
            self._waiting.add(event.meta.update)
        with user_errors(f"{self._name}.step failed on {what}"):
            actions = self._scheduler.step(now, event)
            if not isinstance(actions, list) or not all(isinstance(action, _ACTIONS) for action in actions):
                raise UserCodeError(
                    f"{self._name}.step answered {what} with {actions!r:.200}; expected a list of actions.",
                    f"Actions are {', '.join(kind.__name__ for kind in _ACTIONS)}, of appfl_gc.protocol.schedule.",
                )
            for action in actions:
                if isinstance(action, Dispatch):
                    self._check_dispatch(action)
                elif isinstance(action, Aggregate):
                    self._check_aggregate(action, last=action is actions[-1])
            return actions

    def _check_dispatch(self, action: Dispatch) -> None:
        client, number = action.client, action.dispatch
        if client not in self._clients:
            raise UserCodeError(
                f"{self._name}.step dispatched to {client!r}, which is no client of this run.",
                f"Clients are {', '.join(self._clients)}.",
            )
        if number <= self._dispatches.get(client, 0):
            raise UserCodeError(
                f"{self._name}.step dispatched to {client!r} as number {number}, not above the"
                f" {self._dispatches.get(client, 0)} before.",
                "The dispatches of a client are numbered from 1, each above the last.",
            )
        self._dispatches[client] = number

    def _check_aggregate(self, action: Aggregate, *, last: bool) -> None:
        updates = [update for update, _ in action.updates]
        if not updates:
            raise UserCodeError(f"{self._name}.step asked to aggregate no update.")
        if not last:
            raise UserCodeError(
                f"{self._name}.step asked for more after Aggregate.",
                "Aggregate is the last action of a step; the event Aggregated comes next.",
            )
        for update in updates:
            if update not in self._waiting:
                raise UserCodeError(
                    f"{self._name}.step asked to aggregate dispatch {update.dispatch} of {update.client!r}, which"
                    " has not arrived, or was aggregated before."
                )
            self._waiting.remove(update)


def adapt(cls: type[Any], num_global_epochs: int, kwargs: Mapping[str, Any]) -> Scheduler:
    """An object of a user's class, constructed with ``num_global_epochs`` and ``scheduler_kwargs`` as it takes them.

    Raises:
        NotSupportedError: if the class has ``schedule`` in place of ``step``.
        UserCodeError: if it has neither, or can't be constructed.
    """
    if not callable(getattr(cls, "step", None)):
        if callable(getattr(cls, "schedule", None)):
            raise NotSupportedError(
                f"The scheduler class {cls.__name__} has schedule(); such classes are not supported yet.",
                "Give it step(now, event), which answers events of appfl_gc.protocol.schedule with actions.",
            )
        raise UserCodeError(f"The scheduler class {cls.__name__} has no step(now, event).")
    offered = {"num_global_epochs": num_global_epochs, **kwargs}
    with user_errors(
        f"The scheduler class {cls.__name__} can't be constructed",
        "Its constructor gets num_global_epochs and scheduler_kwargs of the configuration.",
    ):
        parameters = inspect.signature(cls).parameters.values()
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
            taken = {parameter.name for parameter in parameters if parameter.kind in kinds}
            offered = {name: value for name, value in offered.items() if name in taken}
        scheduler: Steps = cls(**offered)
    return UserScheduler(scheduler)
