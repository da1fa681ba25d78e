"""Users' own scheduler classes: how they are built, and what is said when they go wrong."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from appfl_gc.protocol.errors import NotSupportedError, UserCodeError
from appfl_gc.protocol.schedule import (
    Aggregate,
    Dispatch,
    Finish,
    Hold,
    Started,
    Stopping,
    UpdateId,
)
from appfl_gc.protocol.source import Source
from appfl_gc.scheduler.base import Counts
from appfl_gc.scheduler.user_class import UserScheduler, adapt
from appfl_gc.site.source_loader import SourceLoader
from appfl_gc.site.user_errors import user_frames
from tests.scheduler.playing import arrived


def from_file(directory: Path, text: str) -> Any:
    """The class at the end of a user's file."""
    source = Source("scheduler", "", "mine.py", textwrap.dedent(text))
    return SourceLoader(directory).load(source).target


def test_a_class_by_file(tmp_path: Path) -> None:
    cls = from_file(
        tmp_path,
        """
        from appfl_gc.protocol.schedule import Dispatch, Finish, Hold, Started

        class FirstOnly:
            def __init__(self, num_global_epochs, why):
                self.rounds, self.why = num_global_epochs, why

            def step(self, now, event):
                if not isinstance(event, Started):
                    return [Finish()] if now >= self.rounds else []
                first, *others = event.clients
                return [Dispatch(first, 1, 0), *(Hold(client, self.why) for client in others)]
        """,
    )
    scheduler = adapt(cls, 7, {"why": "not yours"})
    assert scheduler.step(0.0, Started(("a", "b"))) == [Dispatch("a", 1, 0), Hold("b", "not yours")]
    assert scheduler.step(6.0, Stopping()) == []
    assert scheduler.step(7.0, Stopping()) == [Finish()]


def test_a_constructor_gets_the_arguments_that_it_names() -> None:
    made: list[Any] = []

    class Some:
        def __init__(self, position: int = 0, /, *args: Any, speed: int = 1) -> None:
            made.append((position, args, speed))

        def step(self, now: float, event: Any) -> list[Any]:
            return []

    class Every(Some):
        def __init__(self, **kwargs: Any) -> None:
            made.append(kwargs)

    class None_(Some):
        def __init__(self) -> None:
            made.append("nothing")

    kwargs = {"speed": 3, "num_clients": 2, "position": 5, "args": 6}
    for cls in (Some, Every, None_):
        adapt(cls, 4, kwargs)
    assert made == [(0, (), 3), {"num_global_epochs": 4, **kwargs}, "nothing"]


def test_an_argument_that_is_missing() -> None:
    class Needs:
        def __init__(self, speed: int) -> None:
            pass

        def step(self, now: float, event: Any) -> list[Any]:
            return []

    with pytest.raises(UserCodeError, match=r"Needs can't be constructed: TypeError.*'speed'") as caught:
        adapt(Needs, 4, {})
    assert "scheduler_kwargs" in caught.value.hint


def test_published_classes_are_not_supported_yet() -> None:
    class Published:
        def __init__(self, scheduler_configs: Any, aggregator: Any, logger: Any) -> None:
            pass

        def schedule(self, client_id: str, local_model: Any, **kwargs: Any) -> Any:
            return local_model

    with pytest.raises(NotSupportedError, match=r"Published has schedule\(\).*not supported yet") as caught:
        adapt(Published, 4, {})
    assert "step(now, event)" in caught.value.hint


def test_a_class_that_is_no_scheduler() -> None:
    class Other:
        step = 5

    with pytest.raises(UserCodeError, match=r"Other has no step\(now, event\)") as caught:
        adapt(Other, 4, {})
    assert not isinstance(caught.value, NotSupportedError)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


class Answers:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def step(self, now: float, event: Any) -> Any:
        return self.answer


@pytest.mark.parametrize("answer", [None, Finish(), (Finish(),), "Finish", [Finish], [Finish(), None]])
def test_answers_that_are_no_list_of_actions(answer: Any) -> None:
    with pytest.raises(
        UserCodeError, match=r"Answers\.step answered Started with .*list of actions"
    ) as caught:
        UserScheduler(Answers(answer)).step(0.0, Started(("a",)))
    assert "Dispatch" in caught.value.hint


def test_an_answer_that_cannot_be_shown() -> None:
    with pytest.raises(UserCodeError, match=r"Answers\.step failed on Stopping: RuntimeError.*no words"):
        UserScheduler(Answers([Unprintable()])).step(0.0, Stopping())


FOLD = Aggregate(((UpdateId("a", 1), 0),))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ([Dispatch("c", 1, 0)], "'c', which is no client of this run"),
        ([Dispatch("a", 1, 0), Dispatch("a", 1, 0)], "'a' as number 1, not above the 1 before"),
        ([Dispatch("a", 0, 0)], "'a' as number 0, not above the 0 before"),
        ([Aggregate(())], "asked to aggregate no update"),
        ([FOLD], "aggregate dispatch 1 of 'a', which has not arrived, or was aggregated before"),
    ],
)
def test_answers_that_no_run_could_follow(answer: Any, told: str) -> None:
    with pytest.raises(UserCodeError, match=rf"Answers\.step .*{told}"):
        UserScheduler(Answers(answer)).step(0.0, Started(("a", "b")))


def test_an_update_is_aggregated_once_and_last_in_its_step() -> None:
    user = Answers([])
    scheduler = UserScheduler(user)
    scheduler.step(0.0, Started(("a", "b")))
    user.answer = [FOLD, Dispatch("a", 2, 0)]
    with pytest.raises(UserCodeError, match="asked for more after Aggregate"):
        scheduler.step(0.0, arrived("a", 1))
    user.answer = [FOLD]
    assert scheduler.step(0.0, Stopping()) == [FOLD]
    with pytest.raises(UserCodeError, match="was aggregated before"):
        scheduler.step(0.0, Stopping())


def test_a_class_may_say_what_it_counts_and_that_it_waits_for_nobody() -> None:
    plain = UserScheduler(Answers([]))
    assert (plain.counts, plain.waits_for_all) == (Counts.ROUNDS, True)

    class Eager(Answers):
        counts = "client updates"
        waits_for_all = False

    eager = UserScheduler(Eager([]))
    assert (eager.counts, eager.waits_for_all) == (Counts.UPDATES, False)

    class Odd(Answers):
        counts = "days"

    with pytest.raises(UserCodeError, match=r"Odd\.counts is 'days'; expected 'rounds' or 'client updates'"):
        UserScheduler(Odd([]))


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("1 / 0", "ZeroDivisionError in mine.py line 3"),
        ("sys.exit(0)", "sys.exit(0) was called in mine.py line 3"),
        ("raise BaseException('enough')", "BaseException in mine.py line 3: enough"),
    ],
)
@pytest.mark.parametrize(
    ("method", "what"), [("__init__", "can't be constructed"), ("step", "failed on Started")]
)
def test_whatever_a_class_raises_is_told_in_its_own_terms(
    tmp_path: Path, method: str, what: str, statement: str, told: str
) -> None:
    cls = from_file(
        tmp_path,
        f"""import sys
def fail(*args):
    {statement}
class Mine:
    def step(self, now, event):
        return []
    {method} = fail
""",
    )
    with pytest.raises(UserCodeError) as caught:
        adapt(cls, 2, {}).step(0.0, Started(("a",)))
    assert "Mine" in caught.value.message
    assert f"{what}: {told}" in caught.value.message
    assert user_frames(caught.value) == ("mine.py:3 in fail",)
