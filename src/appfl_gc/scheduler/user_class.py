"""A user's scheduler class, as ``server_configs.scheduler_path`` names it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_args

from appfl_gc.protocol.errors import NotSupportedError, UserCodeError
from appfl_gc.protocol.schedule import Action, Aggregate, Dispatch, Event, Started
from appfl_gc.scheduler.base import Counts, Scheduler
from appfl_gc.site.user_errors import user_errors

_ACTIONS = get_args(Action)


class UserScheduler:
    """Checks what a user's scheduler answers, so that a mistake in it is told as one."""

    counts = Counts.ROUNDS
    waits_for_all = True

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._name = type(scheduler).__name__
        self._clients: tuple[str, ...] = ()

    def step(self, now: float, event: Event) -> list[Action]:
        """See ``Scheduler.step``; raises ``UserCodeError`` if the class fails or answers with something else."""
        what = type(event).__name__
        with user_errors(f"{self._name}.step failed on {what}"):
            actions = self._scheduler.step(now, event)
            if not isinstance(actions, list) or not all(isinstance(action, _ACTIONS) for action in actions):
                raise UserCodeError(
                    f"{self._name}.step answered {what} with {actions!r:.200}; expected a list of actions.",
                    f"Actions are {', '.join(kind.__name__ for kind in _ACTIONS)}, of appfl_gc.protocol.schedule.",
                )
            for action in actions:
                self._check(action, event)
            return actions

    def _check(self, action: Action, event: Event) -> None:
        if isinstance(event, Started):
            self._clients = event.clients
        if isinstance(action, Dispatch) and action.client not in self._clients:
            raise UserCodeError(
                f"{self._name}.step dispatched to {action.client!r}, which is no client of this run.",
                f"Clients are {', '.join(self._clients)}.",
            )
        if isinstance(action, Aggregate) and not action.updates:
            raise UserCodeError(f"{self._name}.step asked to aggregate no update.")


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
        scheduler: Scheduler = cls(**offered)
    return UserScheduler(scheduler)
