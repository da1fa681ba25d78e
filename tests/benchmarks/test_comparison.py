"""What the comparison of algorithms measures, and how its tables get into the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def trial(method: str, at: Sequence[float], accuracy: Sequence[float], seconds: float, seed: int = 0) -> Any:
    from comparison.trial import Trial

    updates = list(range(0, 4 * len(at), 4))
    return Trial("normal", method, seed, seconds, at, updates, accuracy, 100, 0.5, 0.25, 0.5)


SYNC = ("Sync", [0.0, 10.0, 20.0, 30.0, 40.0, 50.0], [10.0, 50.0, 70.0, 79.0, 80.0, 80.0], 50.0)


def test_the_plateau_is_the_end_of_the_synchronous_run_and_the_target_is_when_it_is_first_reached() -> None:
    from comparison.measures import compare, plateau, seconds_to

    sync = trial(*SYNC)
    assert plateau(sync) == 80.0
    assert seconds_to(sync, 76.0) == 30.0
    assert seconds_to(sync, 81.0) is None
    fast = trial("Async", [0.0, 5.0, 15.0, 16.0], [10.0, 60.0, 77.0, 60.0], 25.0)
    one = compare([sync, fast], "normal", "Async")
    assert one.seconds is not None and one.speed_up is not None
    assert (one.reached, one.seeds, one.seconds.median, one.speed_up.median) == (1, 1, 15.0, 2.0)
    assert one.updates.median == pytest.approx((12 / 25) / (20 / 50))
    assert (one.idle.median, one.train.median, one.final.median) == (25.0, 50.0, 60.0)


def test_a_seed_that_never_gets_there_is_counted_and_left_out_of_the_median() -> None:
    from comparison.measures import compare
    from comparison.tables import condition_rows

    here = [trial(*SYNC), trial(*SYNC, seed=1)]
    here += [
        trial("Queue", [0.0, 20.0], [10.0, 78.0], 50.0),
        trial("Queue", [0.0, 20.0], [10.0, 60.0], 50.0, 1),
    ]
    one = compare(here, "normal", "Queue")
    assert (one.reached, one.seeds) == (1, 2)
    from comparison.conditions import CONDITIONS

    condition = next(condition for condition in CONDITIONS if condition.name == "normal")
    (row,) = condition_rows({("normal", "Queue"): one}, condition)
    assert row["seconds to the target"] == "20, in 1 of 2"
    assert row["last accuracy (%)"] == "69.0 (60.0 to 78.0)"


def test_curves_hold_the_last_version_and_end_with_the_run() -> None:
    from comparison.measures import POINTS, by_time, by_updates

    short = trial("Async", [0.0, 10.0], [10.0, 50.0], 25.0)
    curve = by_time(short, 50.0)
    assert len(curve) == POINTS
    assert (curve[0], curve[19], curve[20], curve[50]) == (10.0, 10.0, 50.0, 50.0)
    assert np.isnan(curve[51:]).all()
    assert by_updates(short, 4, 2)[:2].tolist() == [10.0, 50.0]
    assert np.isnan(by_updates(short, 4, 2)[2])


def test_the_bound_on_updates_of_the_four_supercomputers() -> None:
    from comparison.tables import bound

    assert bound() == pytest.approx(1.71, abs=0.005)


def test_parts_replace_what_stands_between_their_markers_and_nothing_else(tmp_path: Path) -> None:
    from comparison.tables import write

    page = tmp_path / "results.md"
    page.write_text("before\n<!-- begin one -->\nold\n<!-- end one -->\nafter\n")
    for _ in range(2):
        assert write(page, {"one": "new\n", "two": "lost\n"}) == ["two"]
        assert page.read_text() == "before\n<!-- begin one -->\n\nnew\n\n<!-- end one -->\nafter\n"


def test_the_page_has_a_place_for_every_table_and_a_picture_of_every_plot() -> None:
    from comparison.conditions import CONDITIONS

    docs = BENCHMARKS.parent / "docs" / "algorithms"
    page = (docs / "results.md").read_text()
    for name in ("settings", "bound", *(condition.name for condition in CONDITIONS)):
        assert f"<!-- begin {name} -->\n" in page
        assert f"<!-- end {name} -->" in page
    for image in (docs / "images").glob("*.svg"):
        assert any(f"](images/{image.name})" in other.read_text() for other in docs.glob("*.md")), image


def test_local_training_is_sgd_and_depends_on_client_and_dispatch_alone() -> None:
    from comparison.workload import BATCH, Workload, network
    from torch.nn.functional import cross_entropy

    workload = Workload(("a", "b"), seed=3)
    assert workload.samples == 4000
    first = workload.first_model()
    moved = workload.difference("a", 1, first, 2, 0.1)
    assert all(torch.equal(moved[name], workload.difference("a", 1, first, 2, 0.1)[name]) for name in first)
    for other in (workload.difference("b", 1, first, 2, 0.1), workload.difference("a", 2, first, 2, 0.1)):
        assert not torch.equal(moved["0.weight"], other["0.weight"])

    from appfl_gc.protocol.seeds import derive_seed

    model, share = network(), workload._shares["a"]
    model.load_state_dict(first)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(derive_seed(3, 1, "a", "train"))
    for _ in range(2):
        rows = torch.randint(len(share.labels), (BATCH,), generator=generator)
        optimiser.zero_grad()
        cross_entropy(model(share.images[rows]), share.labels[rows]).backward()
        optimiser.step()
    for name, tensor in model.state_dict().items():
        assert torch.allclose(first[name] - moved[name], tensor, atol=1e-6)


def test_the_times_of_a_trial_do_not_depend_on_its_training() -> None:
    from comparison.conditions import CONDITIONS
    from comparison.methods import SYNC as METHOD
    from comparison.methods import method_called
    from comparison.trial import MOST_STEPS, length, run_trial

    condition = next(condition for condition in CONDITIONS if condition.name == "four-supercomputers")
    sync = run_trial(condition, METHOD, 0, 1)
    assert sync.seconds == pytest.approx(34.5)
    assert sync.updates == [0, 4]
    other = run_trial(condition, method_called("Async"), 0, 1)
    assert other.seconds == length(condition, method_called("Async"), 0, 1)
    assert other.steps <= MOST_STEPS * sync.steps + 100
    assert other.idle == 0.0
