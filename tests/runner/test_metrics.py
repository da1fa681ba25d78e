"""Metrics of a round are weighted means over the clients that report them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from appfl_gc.runner.metrics import MetricsFile, numeric_metrics, weighted_means


def test_means_are_weighted_by_sample_size() -> None:
    means = weighted_means([(100, {"train_loss": 1.0, "val_loss": 2.0}), (300, {"train_loss": 3.0})])
    assert means == {"train_loss": pytest.approx(2.5), "val_loss": 2.0}
    assert weighted_means([]) == {}
    assert weighted_means([(0, {"a": 4.0})]) == {"a": 4.0}


def test_only_finite_numbers_count_as_metrics() -> None:
    sent = {"loss": 1, "acc": 0.5, "nan": math.nan, "inf": math.inf, "flag": True, "text": "x", "list": [1]}
    assert numeric_metrics(sent) == {"loss": 1.0, "acc": 0.5}  # type: ignore[arg-type]
    assert numeric_metrics([1]) == {}
    assert len(numeric_metrics({str(i): i for i in range(1000)})) == 200


def test_what_overflows_is_left_out() -> None:
    assert numeric_metrics({"loss": 10**400, "fine": 2}) == {"fine": 2.0}
    assert weighted_means([(1, {"loss": 1.7e308}), (10, {"loss": 1.7e308})]) == {}


def test_rows_are_whole_lines_while_the_run_goes_on(tmp_path: Path) -> None:
    rows = MetricsFile(tmp_path / "metrics.jsonl")
    rows.write({"kind": "round", "round": 1})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"kind": "round", "round": 1}
    rows.close()


def test_a_full_disk_is_told_of_when_a_row_is_written_and_not_again(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    rows = MetricsFile(tmp_path / "metrics.jsonl")
    with pytest.raises(OSError, match="No space"):
        rows.write({"kind": "round"})
    rows.close()
