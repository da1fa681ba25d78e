"""What a version's metrics are means of, and which version is the best."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from appfl_gc.payload import model_file
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.schedule import UpdateId, UpdateMeta
from appfl_gc.runner.events import RoundFinished
from appfl_gc.runner.global_model import GlobalModel
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.metrics import MetricsFile
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.rounds import Rounds
from appfl_gc.runner.run_directory import RunDirectory
from appfl_gc.scheduler.base import Counts
from tests.runner.conftest import Heard


class Books:
    """Rounds, and what they told."""

    def __init__(self, parent: Path, counts: Counts) -> None:
        directory = RunDirectory.create(parent, "run")
        model_file.write({"w": torch.zeros(2)}, directory.initial)
        model = GlobalModel(directory, frozenset())
        self.heard = Heard()
        recorder = Recorder(directory, None, [self.heard])
        metrics, journal = MetricsFile(directory.metrics), Journal(directory.journal)
        self.rounds = Rounds(directory, model, None, metrics, journal, recorder, counts)

    def fold(self, **losses: float) -> RoundFinished:
        """A version made of one update of each client, with its loss."""
        updates = [
            UpdateMeta(UpdateId(client, 1), 0, 10, 5, Timing(0, 0, 0, 0), {"val_loss": loss})
            for client, loss in losses.items()
        ]
        self.rounds.finish(updates, [2] * len(updates), 1.0)
        told = self.heard.of(RoundFinished)[-1]
        assert isinstance(told, RoundFinished)
        return told


def test_a_round_is_the_mean_of_its_own_updates(tmp_path: Path) -> None:
    books = Books(tmp_path, Counts.ROUNDS)
    assert books.fold(a=1.0, b=3.0).metrics["val_loss"] == 2.0
    second = books.fold(b=1.0)
    assert (second.metrics["val_loss"], second.improved, second.updates) == (1.0, True, 3)


def test_without_rounds_one_client_with_easy_data_does_not_make_the_best_model(tmp_path: Path) -> None:
    books = Books(tmp_path, Counts.UPDATES)
    assert books.fold(easy=0.1).improved
    both = books.fold(hard=2.1)
    assert both.metrics["val_loss"] == pytest.approx(1.1)
    assert both.improved, "the first version that says something of both"
    worse = books.fold(easy=0.2)
    assert worse.metrics["val_loss"] == pytest.approx(1.15)
    assert not worse.improved
    last = books.fold(hard=1.0)
    assert last.improved
    assert last.metrics["staleness"] == 2.0
    books.rounds.set_aside("hard")
    assert books.fold(easy=0.3).metrics["val_loss"] == 0.3
