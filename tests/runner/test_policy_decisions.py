"""The failure policy, decision by decision: when a call is tried again, given up, replaced, and what ends a run."""

from __future__ import annotations

import time
from typing import Any

import pytest

from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.schedule import UpdateId
from appfl_gc.runner.policy.decisions import (
    Accepted,
    Began,
    Decision,
    Due,
    EndRun,
    Failed,
    Folded,
    GiveUp,
    GreetAgain,
    Met,
    PolicyEvent,
    Queued,
    Resumed,
    Retry,
    Running,
    Sent,
    SetAside,
    WakeAt,
)
from appfl_gc.runner.policy.machine import FailurePolicy
from appfl_gc.runner.policy.settings import OnMissing, PolicySettings

LOST = ErrorClass.WORKER_LOST
NAN = ErrorClass.UPDATE_REFUSED


class Playing:
    """A policy that has met its clients, and the first round's calls if ``sent``."""

    def __init__(
        self, clients: str, *, rounds: bool = True, drawn: int = 0, sent: str = "", **settings: Any
    ) -> None:
        self.policy = FailurePolicy(
            clients, PolicySettings(**settings), rounds=rounds, round_size=drawn or len(clients)
        )
        self.now = 0.0
        self.hear(*(Met(client) for client in clients), Began(), *(Sent(UpdateId(c, 1), 0) for c in sent))

    def hear(self, *events: PolicyEvent, at: float | None = None) -> list[Decision]:
        """What the last event's answer decides, without the alarms."""
        self.now = self.now if at is None else at
        answers = [self.policy.step(self.now, event) for event in events]
        return [one for one in answers[-1] if not isinstance(one, WakeAt)]

    def fail(
        self, client: str, kind: ErrorClass = LOST, *, at: float | None = None, **more: Any
    ) -> list[Decision]:
        return self.hear(Failed(UpdateId(client, 1), kind, **more), at=at)

    def retries(self, client: str, kind: ErrorClass, times: int) -> list[float]:
        """Pauses of so many failures; each retry is sent when its time comes."""
        pauses = []
        for _ in range(times):
            (retry,) = self.fail(client, kind)
            assert isinstance(retry, Retry)
            pauses.append(retry.at - self.now)
            self.hear(Sent(UpdateId(client, 1), 0), at=retry.at)
        return pauses


def up(client: str) -> UpdateId:
    return UpdateId(client, 1)


def test_the_first_retry_goes_out_at_once_and_the_pauses_grow() -> None:
    playing = Playing("ab", sent="ab", on_missing=OnMissing.WAIT)
    pauses = playing.retries("a", LOST, 12)
    assert pauses[:5] == [0, 5, 10, 20, 40]
    assert pauses[-3:] == [600, 600, 600]


def test_a_full_queue_is_asked_again_after_minutes() -> None:
    playing = Playing("ab", sent="ab")
    assert playing.retries("a", ErrorClass.QUEUE_LIMIT, 20)[:5] == [60, 120, 240, 480, 600]
    assert SetAside in map(type, playing.fail("a", ErrorClass.QUEUE_LIMIT))


def test_classes_are_counted_for_themselves() -> None:
    playing = Playing("ab", sent="ab", retries=1, retries_of={ErrorClass.TRANSFER: 2})
    playing.retries("a", ErrorClass.TRANSFER, 2)
    playing.retries("a", LOST, 1)
    assert playing.fail("a")[1:] == [GiveUp(up("a"), LOST)]


def test_a_walltime_that_got_further_is_not_counted_and_goes_on_at_once() -> None:
    playing = Playing("ab", sent="ab", retries_of={ErrorClass.WALLTIME: 1})
    for number in range(1, 150):
        at = 3600.0 * number
        assert playing.fail("a", ErrorClass.WALLTIME, at=at, progressed=True) == [Retry(up("a"), at)]
        playing.hear(Sent(up("a"), 0))
    playing.retries("a", ErrorClass.WALLTIME, 0)
    playing.fail("a", ErrorClass.WALLTIME)
    assert playing.fail("a", ErrorClass.WALLTIME)[1:] == [GiveUp(up("a"), ErrorClass.WALLTIME)]


def test_a_site_that_only_says_that_it_got_further_is_not_asked_in_a_loop() -> None:
    playing = Playing("ab", sent="ab")
    assert playing.fail("a", ErrorClass.WALLTIME, at=0.1, progressed=True) == [Retry(up("a"), 5.0)]


def test_a_site_that_says_without_end_that_it_got_further_is_given_up_within_hours() -> None:
    playing = Playing("ab", sent="ab")
    for _ in range(1000):
        decisions = playing.fail("a", ErrorClass.WALLTIME, progressed=True)
        if not isinstance(decisions[0], Retry):
            break
        playing.hear(Sent(up("a"), 0), at=decisions[0].at)
    assert decisions[1:] == [GiveUp(up("a"), ErrorClass.WALLTIME)]
    assert 600 < playing.now < 6 * 3600


def test_what_the_service_forgot_is_sent_again_without_end() -> None:
    playing = Playing("ab", sent="ab", retries=0)
    assert playing.retries("a", ErrorClass.FORGOTTEN, 30)[:2] == [0, 5]


@pytest.mark.parametrize("kind", [kind for kind in ErrorClass if not kind.infrastructure])
@pytest.mark.parametrize("on_missing", OnMissing)
def test_what_would_fail_again_costs_the_client_at_once(kind: ErrorClass, on_missing: OnMissing) -> None:
    playing = Playing("abc", sent="abc", set_aside_after=9, on_missing=on_missing)
    aside, given_up = playing.fail("a", kind)
    assert aside == SetAside("a", None)
    assert given_up == GiveUp(up("a"), kind)
    assert playing.policy.active == {"b", "c"}


def test_a_client_is_set_aside_after_so_many_dispatches_in_a_row() -> None:
    playing = Playing("ab", sent="ab", retries=0, set_aside_after=2)
    assert playing.fail("a") == [GiveUp(up("a"), LOST)]
    playing.hear(Accepted(up("b")), Folded(1), Sent(UpdateId("a", 2), 1))
    assert playing.hear(Failed(UpdateId("a", 2), LOST), at=10) == [
        SetAside("a", 610.0), GiveUp(UpdateId("a", 2), LOST)
    ]  # fmt: skip


def test_an_update_between_two_failures_clears_the_count() -> None:
    playing = Playing("ab", rounds=False, sent="ab", retries=0, set_aside_after=2)
    playing.fail("a")
    playing.hear(Sent(UpdateId("a", 2), 0), Accepted(UpdateId("a", 2)), Sent(UpdateId("a", 3), 1))
    assert playing.hear(Failed(UpdateId("a", 3), LOST)) == [GiveUp(UpdateId("a", 3), LOST)]


def test_a_client_that_keeps_failing_is_greeted_ever_more_rarely() -> None:
    playing = Playing("ab", sent="ab", retries=0, try_again_seconds=100.0)
    assert playing.fail("a")[0] == SetAside("a", 100.0)
    waits = []
    for _ in range(7):
        again_at = max(
            wake for wake in [playing.now, *playing.policy._roll._aside.values()] if wake is not None
        )
        assert playing.hear(Due(), at=again_at - 0.5) == []
        assert playing.hear(Due(), at=again_at) == [GreetAgain("a")]
        (aside,) = playing.hear(Failed(UpdateId("a", 0), LOST))
        assert isinstance(aside, SetAside)
        assert aside.again_at is not None
        waits.append(aside.again_at - playing.now)
    assert waits == [200, 400, 800, 1600, 1600, 1600, 1600]


def test_who_comes_back_takes_part_with_a_clean_slate() -> None:
    playing = Playing("ab", sent="ab", retries=0, set_aside_after=2)
    playing.fail("a")
    playing.hear(Sent(UpdateId("a", 2), 0), Failed(UpdateId("a", 2), LOST))
    assert playing.policy.active == {"b"}
    assert playing.hear(Due(), at=600) == [GreetAgain("a")]
    playing.hear(Met("a"))
    assert playing.policy.active == {"a", "b"}
    playing.hear(Sent(UpdateId("a", 3), 0))
    assert playing.hear(Failed(UpdateId("a", 3), LOST)) == [GiveUp(UpdateId("a", 3), LOST)]


# Rounds


def test_a_round_that_can_not_have_its_quorum_any_more_ends_the_run() -> None:
    playing = Playing("abcd", sent="abcd", retries=0, quorum=3)
    playing.fail("a")
    (end,) = playing.fail("b", ErrorClass.TRANSFER)
    assert isinstance(end, EndRun)
    assert end.error_class is ErrorClass.TRANSFER
    assert "asks for 3" in end.why and "quorum" in end.hint
    assert playing.policy.is_open(up("b"))


def test_others_that_are_up_do_not_save_a_round_unless_they_may_replace() -> None:
    for on_missing in OnMissing:
        playing = Playing("abcd", drawn=2, sent="ab", quorum=2, set_aside_after=9, on_missing=on_missing)
        decisions = playing.fail("a", NAN)
        if on_missing is OnMissing.REPLACE:
            assert decisions == [GiveUp(up("a"), NAN, replace=True), SetAside("a", None)]
        else:
            (end,) = decisions
            assert isinstance(end, EndRun)
            assert "Round 1 can have 1 updates" in end.why


def test_a_client_replaces_one_call_only() -> None:
    playing = Playing("abcd", drawn=3, sent="abc", quorum=0.3, on_missing=OnMissing.REPLACE)
    assert playing.fail("a", NAN)[0] == GiveUp(up("a"), NAN, replace=True)
    assert playing.fail("b", NAN) == [SetAside("b", None), GiveUp(up("b"), NAN)]
    playing.hear(Sent(up("d"), 0))
    assert playing.fail("d", NAN) == [SetAside("d", None), GiveUp(up("d"), NAN)]


def test_as_many_calls_are_replaced_as_there_are_clients_to_spare() -> None:
    playing = Playing("abcde", drawn=3, sent="abc", quorum=3, on_missing=OnMissing.REPLACE)
    assert playing.fail("a", NAN)[0] == GiveUp(up("a"), NAN, replace=True)
    assert playing.fail("b", NAN)[0] == GiveUp(up("b"), NAN, replace=True)
    assert isinstance(playing.fail("c", NAN)[0], EndRun)


def test_a_round_of_which_nothing_is_left_begins_anew_with_those_that_are_up() -> None:
    playing = Playing("abcde", drawn=2, sent="ab", quorum=2)
    assert isinstance(playing.fail("a", NAN)[0], EndRun)
    playing = Playing("abcde", drawn=1, sent="a", quorum=1)
    assert playing.fail("a", NAN) == [SetAside("a", None), GiveUp(up("a"), NAN)]
    playing.hear(Sent(up("b"), 0))
    assert playing.hear(Accepted(up("b")), Folded(1)) == []


@pytest.mark.parametrize(("stop_below", "ends"), [(1, False), (2, False), (3, True)])
def test_a_run_stops_below_so_many_clients(stop_below: int, ends: bool) -> None:
    playing = Playing("abc", sent="abc", quorum=1, stop_below=stop_below)
    assert isinstance(playing.fail("a", NAN)[0], EndRun) == ends


def test_waiting_does_not_end_an_asynchronous_run_while_somebody_may_come_back() -> None:
    playing = Playing(
        "ab", rounds=False, sent="ab", quorum=2, on_missing=OnMissing.WAIT, deadline_seconds=10.0
    )
    assert playing.hear(Due(), at=10) == [SetAside("a", 610.0), GiveUp(up("a"), ErrorClass.LATE)]
    assert playing.hear(Due()) == [SetAside("b", 610.0), GiveUp(up("b"), ErrorClass.LATE)]
    assert playing.hear(Due(), at=610) == [GreetAgain("a")]
    assert isinstance(playing.hear(Failed(UpdateId("a", 0), NAN))[0], SetAside)
    assert playing.hear(Due()) == [GreetAgain("b")]
    assert isinstance(playing.hear(Failed(UpdateId("b", 0), NAN))[0], EndRun)


def test_rounds_do_not_wait_for_clients_that_may_come_back() -> None:
    playing = Playing("ab", sent="ab", quorum=1, on_missing=OnMissing.WAIT, deadline_seconds=10.0)
    playing.hear(Accepted(up("a")))
    assert playing.hear(Due(), at=10)[0] == SetAside("b", 610.0)
    playing.hear(Folded(1), Sent(UpdateId("a", 2), 1))
    assert isinstance(playing.hear(Failed(UpdateId("a", 2), NAN))[0], EndRun)


# Deadlines


def test_who_is_late_is_given_up_as_soon_as_the_round_has_its_quorum() -> None:
    playing = Playing("abcd", sent="abcd", quorum=2, deadline_seconds=60.0)
    playing.hear(Accepted(up("a")), at=5)
    retried = [playing.hear(Due(), at=60) for _ in "bcd"]
    assert retried == [[Retry(up(client), 60.0)] for client in "bcd"]
    playing.hear(*(Sent(up(client), 0) for client in "bcd"))
    assert playing.hear(Accepted(up("b")), at=100) == [
        SetAside("c", 700.0),
        GiveUp(up("c"), ErrorClass.LATE),
    ]
    assert playing.hear(Due()) == [SetAside("d", 700.0), GiveUp(up("d"), ErrorClass.LATE)]


def test_with_its_quorum_a_round_waits_until_the_deadline_and_no_longer() -> None:
    playing = Playing("abc", sent="abc", quorum=1, deadline_seconds=60.0)
    assert playing.hear(Accepted(up("a")), Accepted(up("b")), at=5) == []
    assert playing.hear(Due(), at=59) == []
    assert playing.hear(Due(), at=60)[1:] == [GiveUp(up("c"), ErrorClass.LATE)]


def test_time_in_a_queue_does_not_count_where_it_is_known() -> None:
    playing = Playing("abc", sent="abc", quorum=1, deadline_seconds=60.0)
    playing.hear(Accepted(up("a")), Queued(up("b")), at=10)
    assert [one.update for one in playing.hear(Due(), at=60) if isinstance(one, GiveUp)] == [up("c")]
    assert playing.hear(Due(), at=5000) == [] or playing.policy.active  # c may be greeted again meanwhile
    playing.hear(Running(up("b")), at=6000)
    late = [one for at in (6059, 6060) for one in playing.hear(Due(), at=at) if isinstance(one, GiveUp)]
    assert [one.update for one in late] == [up("b")]


def test_a_call_that_goes_back_into_a_queue_keeps_what_was_left_of_its_time() -> None:
    playing = Playing("ab", sent="ab", quorum=1, deadline_seconds=60.0)
    playing.hear(Accepted(up("a")), Running(up("b")), at=10)
    playing.hear(Queued(up("b")), at=40)
    assert playing.hear(Due(), at=3000) == []
    playing.hear(Running(up("b")), at=3000)
    assert playing.hear(Due(), at=3029) == []
    assert playing.hear(Due(), at=3030)[1:] == [GiveUp(up("b"), ErrorClass.LATE)]


def test_no_queue_saves_a_call_whose_deadline_has_passed() -> None:
    playing = Playing("ab", sent="ab", quorum=1, deadline_seconds=60.0)
    playing.hear(Accepted(up("a")), Running(up("b")), at=0)
    assert playing.hear(Queued(up("b")), Due(), at=60)[1:] == [GiveUp(up("b"), ErrorClass.LATE)]


def test_pauses_and_all_attempts_count_to_one_deadline() -> None:
    playing = Playing("ab", sent="ab", quorum=1, deadline_seconds=60.0, on_missing=OnMissing.WAIT)
    playing.hear(Accepted(up("a")), Running(up("b")), at=30)
    assert playing.fail("b", at=50) == [Retry(up("b"), 50.0)]
    playing.hear(Sent(up("b"), 0), at=52)
    assert playing.fail("b", at=70) == [Retry(up("b"), 75.0)]
    assert playing.hear(Due(), at=89) == []
    assert playing.hear(Due(), at=90)[1:] == [GiveUp(up("b"), ErrorClass.LATE)]


@pytest.mark.parametrize("on_missing", [OnMissing.DROP, OnMissing.REPLACE])
def test_a_round_without_its_quorum_tries_the_late_again_and_then_does_without(on_missing: OnMissing) -> None:
    playing = Playing(
        "abc", drawn=2, sent="ab", quorum=1, retries=1, deadline_seconds=60.0, on_missing=on_missing
    )
    assert playing.hear(Due(), at=60) == [Retry(up("a"), 60.0)]
    playing.hear(Sent(up("a"), 0), Running(up("a")), at=70)
    assert playing.hear(Due(), at=70) == [Retry(up("b"), 70.0)]
    playing.hear(Sent(up("b"), 0), at=80)
    assert playing.hear(Due(), at=129) == []
    given_up = playing.hear(Due(), at=130)
    replace = on_missing is OnMissing.REPLACE
    assert GiveUp(up("a"), ErrorClass.LATE, replace) in given_up
    assert playing.hear(Due(), at=139) == []
    assert playing.hear(Accepted(up("b")), at=139) == []


def test_a_round_that_needs_who_is_late_ends_the_run_when_the_retries_are_used_up() -> None:
    playing = Playing("ab", sent="ab", quorum=2, retries_of={ErrorClass.LATE: 0}, deadline_seconds=60.0)
    playing.hear(Accepted(up("a")))
    (end,) = playing.hear(Due(), at=60)
    assert isinstance(end, EndRun)
    assert end.error_class is ErrorClass.LATE


def test_with_wait_who_is_late_is_tried_again_without_end() -> None:
    playing = Playing("ab", sent="ab", quorum=2, deadline_seconds=60.0, on_missing=OnMissing.WAIT)
    playing.hear(Accepted(up("a")))
    for number in range(1, 20):
        assert playing.hear(Due(), at=60.0 * number) == [Retry(up("b"), 60.0 * number)]
        playing.hear(Sent(up("b"), 0))


def test_a_call_that_waits_for_its_retry_at_the_deadline_is_not_tried_again_twice() -> None:
    playing = Playing("ab", sent="ab", quorum=2, deadline_seconds=60.0)
    playing.retries("a", LOST, 1)
    assert playing.fail("a", at=58) == [Retry(up("a"), 63.0)]
    assert playing.hear(Due(), at=60) == [Retry(up("b"), 60.0)]
    assert playing.hear(Due(), at=60) == []
    playing.hear(Sent(up("b"), 0), Sent(up("a"), 0), at=63)
    assert playing.hear(Due(), at=122) == []
    assert [playing.hear(Due(), at=123) for _ in "ab"] == [[Retry(up("b"), 123.0)], [Retry(up("a"), 123.0)]]


def test_without_rounds_each_late_call_is_given_up_by_itself() -> None:
    playing = Playing("abc", rounds=False, sent="abc", quorum=1, deadline_seconds=60.0)
    playing.hear(Sent(UpdateId("a", 2), 5), at=30)
    assert playing.hear(Due(), at=60)[1] == GiveUp(up("a"), ErrorClass.LATE)


# Before training, and after the end


def test_before_training_what_would_fail_again_ends_the_run_for_each_that_says_so() -> None:
    policy = FailurePolicy("abc", PolicySettings(), rounds=True, round_size=3)
    for client in "ab":
        (end,) = policy.step(0, Failed(UpdateId(client, 0), ErrorClass.USER))
        assert isinstance(end, EndRun)
        assert end.error_class is ErrorClass.USER


def test_before_training_a_site_that_is_not_there_is_set_aside() -> None:
    policy = FailurePolicy("abc", PolicySettings(), rounds=True, round_size=3)
    policy.step(0, Sent(UpdateId("a", 0), 0))
    assert policy.step(1, Failed(UpdateId("a", 0), LOST)) == [Retry(UpdateId("a", 0), 1)]
    assert policy.step(2, Failed(UpdateId("a", 0), LOST)) == [Retry(UpdateId("a", 0), 7)]
    assert policy.step(8, Failed(UpdateId("a", 0), LOST)) == [SetAside("a", 608), WakeAt(608)]


def test_another_process_gives_everybody_a_new_chance() -> None:
    playing = Playing("abcd", sent="abcd", retries=0, quorum=2)
    playing.fail("a", NAN)
    playing.fail("b")
    assert isinstance(playing.fail("c")[0], EndRun)
    assert isinstance(playing.fail("d")[0], EndRun)
    resumed = playing.hear(Resumed(), at=1000)
    assert resumed == [GreetAgain("a"), GreetAgain("b"), Retry(up("c"), 1000.0), Retry(up("d"), 1000.0)]
    playing.hear(Met("a"), Met("b"), Accepted(up("c")))
    assert playing.hear(Accepted(up("d")), Folded(1)) == []
    assert playing.policy.active == {*"abcd"}


def test_a_retry_whose_time_has_not_come_is_told_again_to_another_process() -> None:
    playing = Playing("ab", sent="ab", deadline_seconds=50.0, quorum=1)
    playing.retries("a", LOST, 1)
    assert playing.fail("a", at=10) == [Retry(up("a"), 15.0)]
    assert playing.policy.step(11, Resumed()) == [Retry(up("a"), 15.0), WakeAt(61)]


def test_what_fails_before_it_was_sent_counts_as_sent() -> None:
    playing = Playing("ab", sent="b", retries=0)
    assert playing.fail("a")[1:] == [GiveUp(up("a"), LOST)]
    assert playing.fail("a") == []
    assert playing.hear(Failed(UpdateId("nobody", 1), LOST), Failed(UpdateId("nobody", 0), LOST)) == []


def test_ten_thousand_clients_take_a_second_a_round() -> None:
    clients = [f"c{number}" for number in range(10_000)]
    policy = FailurePolicy(
        clients, PolicySettings(deadline_seconds=60.0, quorum=1), rounds=True, round_size=len(clients)
    )
    begin = time.monotonic()
    for client in clients:
        policy.step(0, Met(client))
    policy.step(0, Began())
    for client in clients:
        policy.step(1, Sent(UpdateId(client, 1), 0))
        assert client in policy.active
    for client in clients[: len(clients) // 2]:
        policy.step(2, Accepted(UpdateId(client, 1)))
    while not any(
        isinstance(one, GiveUp) and one.update.client == clients[-1] for one in policy.step(61, Due())
    ):
        assert len(policy.active) >= len(clients) // 2
    assert time.monotonic() - begin < 60
