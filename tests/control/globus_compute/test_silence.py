"""Silence of endpoints: only what a call met counts."""

from __future__ import annotations

from appfl_gc.control.globus_compute.following.silence import Silence


def test_silence_counts_from_when_it_was_seen_or_the_call_was_sent() -> None:
    silence = Silence()
    silence.heard("E", False, 100.0)
    silence.heard("E", False, 110.0)
    assert silence.silent("E", since=50.0, now=130.0) == 30.0
    assert silence.silent("E", since=120.0, now=130.0) == 10.0
    assert silence.silent("E", since=140.0, now=130.0) == 0.0
    assert silence.silent("other", since=0.0, now=130.0) == 0.0


def test_a_sign_of_life_and_no_answer_end_it() -> None:
    silence = Silence()
    for sign in (True, None):
        silence.heard("E", False, 100.0)
        silence.heard("E", sign, 110.0)
        assert silence.silent("E", since=0.0, now=200.0) == 0.0


def test_endpoints_are_asked_about_in_turn_and_not_too_often() -> None:
    silence = Silence()
    asked = []
    for now in range(0, 40, 5):
        due = silence.due({"E", "F"}, float(now), 20.0)
        if due is not None:
            silence.asked(due, float(now))
            asked.append((due, now))
    assert sorted(asked[:2]) == [
        ("E", asked[0][1] if asked[0][0] == "E" else 5),
        ("F", 0 if asked[0][0] == "F" else 5),
    ]
    assert [now for _, now in asked] == [0, 5, 20, 25]
    assert {name for name, _ in asked[2:]} == {"E", "F"}


def test_nothing_is_due_without_endpoints() -> None:
    assert Silence().due(set(), 0.0, 1.0) is None
