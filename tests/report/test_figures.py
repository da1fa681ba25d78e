from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.report.figures import (
    accuracy_of,
    bytes_text,
    clock_text,
    loss_of,
    metrics_text,
    seconds_text,
    short_seconds_text,
    value_text,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (4_800_040, "4.8 MB"),
        (30e9, "30.0 GB"),
        (999_600, "1.0 MB"),
        (125e6, "125 MB"),
    ],
)
def test_bytes_have_decimal_units(count: float, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 s"), (0.034, "0.03 s"), (4.21, "4.2 s"), (59.4, "59 s"), (65, "1 min 05 s"),
        (7380, "2 h 03 min"), (273_600, "3 d 04 h"),
    ],
)  # fmt: skip
def test_durations_in_words(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "0:00:05"), (3665, "1:01:05"), (90_061, "1 d 1:01:01"), (-1, "0:00:00")]
)
def test_time_of_run(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


@given(st.floats(0, 99 * 86_400))
def test_short_durations_fit_their_column(seconds: float) -> None:
    assert len(short_seconds_text(seconds)) <= 6


@given(st.floats(-1e300, 1e300) | st.sampled_from([math.nan, math.inf, -math.inf]))
def test_any_metric_has_a_short_text_near_its_value(value: float) -> None:
    text = value_text(value)
    assert len(text) <= 10
    if math.isfinite(value):
        assert float(text) == pytest.approx(value, rel=6e-3)


def test_loss_and_accuracy_after_training_come_before_those_before_it() -> None:
    metrics = {
        "pre_val_loss": 9.0,
        "val_loss": 1.0,
        "train_loss": 2.0,
        "pre_val_accuracy": 10.0,
        "val_accuracy": 90.0,
    }
    assert (loss_of(metrics), accuracy_of(metrics)) == (1.0, 90.0)
    assert loss_of({"pre_val_loss": 9.0}) == 9.0
    assert accuracy_of({"my_balanced_accuracy": 5.0}) == 5.0
    assert loss_of({}) is None


def test_metrics_in_words_leave_out_what_is_missing() -> None:
    assert metrics_text({"val_loss": 0.25}) == "loss 0.2500"
    assert metrics_text({"other": 1.0}) == ""
