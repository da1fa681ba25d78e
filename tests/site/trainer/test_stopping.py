"""A task that is to stop does so after the step that it is in, and sends what was asked for."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.source import Source
from appfl_gc.site.source_loader import SourceLoader
from appfl_gc.site.stopping import StopReason
from appfl_gc.site.trainer.run import run_trainer
from tests.site.trainer.interrupting import (
    StopAfter,
    bits,
    checkpoint_in,
    stopped_after,
    tried_again,
    uninterrupted,
)

WALLTIME = StopReason.WALLTIME
CANCELLED = StopReason.CANCELLED
PARTIAL = {"on_walltime": "partial"}
TRAINERS = ["VanillaTrainer", "FedProxTrainer", "IIADMMTrainer", "ICEADMMTrainer"]

Trainer = Callable[[str], type[Any]]


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    def load(text: str) -> type[Any]:
        source = Source("trainer", "", "./resources/mine.py", textwrap.dedent(text))
        loaded: type[Any] = SourceLoader(tmp_path).load(source).target
        return loaded

    return load


OWN_LOOP = """
    import torch
    from torch.utils.data import DataLoader
    from appfl.algorithm.trainer import BaseTrainer

    class Own(BaseTrainer):
        def train(self, **kwargs):
            optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
            self.steps = 0
            while True:
                for x, y in DataLoader(self.train_dataset, batch_size=8):
                    optimizer.zero_grad()
                    self.loss_fn(self.model(x), y).backward()
                    try:
                        optimizer.step()
                    except Exception:
                        pass
                    self.steps += 1
                    if self.steps == 20:
                        return
"""


@pytest.mark.parametrize("name", TRAINERS)
def test_at_the_end_of_the_job_a_checkpoint_takes_the_place_of_an_update(
    make_task: Any, tmp_path: Path, name: str
) -> None:
    outcome = stopped_after(make_task(trainer=name), 2, tmp_path, WALLTIME)
    assert not outcome.answers
    assert (outcome.stopped, outcome.steps, outcome.share) == (WALLTIME, 2, 0.4)
    assert outcome.checkpoint_steps == checkpoint_in(tmp_path).kept_steps() == 2


@pytest.mark.parametrize("name", TRAINERS)
def test_a_partial_update_is_that_of_a_shorter_task(make_task: Any, tmp_path: Path, name: str) -> None:
    configs = {"num_local_steps": 8, "do_validation": True, **PARTIAL}
    part = stopped_after(make_task(configs, trainer=name), 3, tmp_path, WALLTIME)
    short = uninterrupted(make_task({"num_local_steps": 3}, trainer=name))
    assert part.answers
    assert (part.stopped, part.steps, part.share) == (WALLTIME, 3, 0.375)
    assert bits(part) == bits(short)
    assert checkpoint_in(tmp_path).kept_steps() == 0


def test_who_cancels_gets_no_part(make_task: Any, tmp_path: Path) -> None:
    outcome = stopped_after(make_task(PARTIAL), 2, tmp_path, CANCELLED)
    assert not outcome.answers
    assert (outcome.stopped, outcome.checkpoint_steps) == (CANCELLED, 2)


def test_a_task_without_a_place_for_checkpoints_begins_anew(make_task: Any) -> None:
    outcome = stopped_after(make_task(), 2)
    assert not outcome.answers
    assert outcome.checkpoint_steps == 0


def test_the_share_counts_the_batches_of_all_epochs(make_task: Any, tmp_path: Path) -> None:
    configs = {"mode": "epoch", "num_local_epochs": 2, "train_batch_size": 16, "do_validation": True}
    outcome = stopped_after(make_task({**configs, **PARTIAL}), 4, tmp_path, WALLTIME)
    assert outcome.share == pytest.approx(4 / 6)  # 40 samples: 3 batches a pass
    assert [(row.epoch, row.steps) for row in outcome.rows] == [(1, 3), (2, 1)]
    assert "val_loss" in outcome.rows[0].metrics
    assert "val_loss" not in outcome.rows[1].metrics


def test_a_part_of_a_task_that_went_on_counts_all_its_steps(make_task: Any, tmp_path: Path) -> None:
    configs = {"num_local_steps": 8, **PARTIAL}
    stopped_after(make_task(configs), 2, tmp_path, CANCELLED)
    part = stopped_after(make_task(configs), 6, tmp_path, WALLTIME)
    assert (part.steps, part.steps_before, part.share) == (6, 2, 0.75)
    assert bits(part) == bits(uninterrupted(make_task({"num_local_steps": 6})))


@pytest.mark.parametrize("why", [WALLTIME, CANCELLED])
def test_after_the_last_step_nothing_is_lost_but_validation(
    make_task: Any, tmp_path: Path, why: StopReason
) -> None:
    outcome = stopped_after(make_task({"do_validation": True}), 5, tmp_path, why)
    whole = uninterrupted(make_task())
    assert (outcome.stopped, outcome.share) == (None, 1.0)
    assert bits(outcome) == bits(whole)


def test_a_stop_between_an_epoch_and_its_validation_keeps_the_validation(
    make_task: Any, tmp_path: Path
) -> None:
    configs = {"mode": "epoch", "num_local_epochs": 2, "do_validation": True}

    class Late(StopAfter):
        """Says so when it is asked for the second time after the fifth step: before the validation."""

        asked = 0

        def reason(self) -> StopReason | None:
            self.asked += self.done == 5
            return CANCELLED if self.asked >= 2 else None

    stop = Late(5)
    task = replace(make_task(configs), stop=stop, on_step=stop.reached, checkpoint=checkpoint_in(tmp_path))
    assert uninterrupted(task).checkpoint_steps == 5
    assert bits(tried_again(make_task(configs), tmp_path)) == bits(uninterrupted(make_task(configs)))


def test_every_step_is_told(make_task: Any, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    stopped_after(make_task(), 3, tmp_path)
    checkpoint = checkpoint_in(tmp_path)
    uninterrupted(replace(make_task(), on_step=lambda *step: told.append(step), checkpoint=checkpoint))
    assert told == [(4, 5), (5, 5)]


def test_the_log_says_what_becomes_of_it(
    make_task: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stopped_after(make_task(), 2, tmp_path, WALLTIME)
    stopped_after(make_task(PARTIAL), 3, tmp_path, WALLTIME)
    stopped_after(make_task(), 2, None, CANCELLED)
    assert (
        "stopped after 2 of 5 steps, since its job ends; a later attempt goes on after step 2" in caplog.text
    )
    assert "stopped after 3 of 5 steps, since its job ends; what is trained is sent" in caplog.text
    assert "since nobody waits for it any more; a later attempt begins anew" in caplog.text


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        ({"on_walltime": "nothing"}, "train_configs.on_walltime is 'nothing'"),
        ({"checkpoint_steps": 0}, "train_configs.checkpoint_steps is 0"),
        ({"checkpoint_seconds": -1}, "train_configs.checkpoint_seconds is -1"),
    ],
)
def test_wrong_settings(make_task: Any, configs: dict[str, Any], words: str) -> None:
    with pytest.raises(UserCodeError) as caught:
        run_trainer(make_task(configs))
    assert words in caught.value.message


class TestTrainersOfUsers:
    def test_a_loop_of_its_own_ends_after_the_step(self, make_task: Any, trainer: Trainer) -> None:
        configs = {"num_local_steps": 20}
        outcome = stopped_after(make_task(configs, trainer=trainer(OWN_LOOP)), 3, None, WALLTIME)
        assert not outcome.answers
        assert (outcome.stopped, outcome.steps, outcome.share) == (WALLTIME, 3, 0.15)
        assert outcome.checkpoint_steps == 0

    def test_its_part_is_sent_with_its_share(self, make_task: Any, trainer: Trainer) -> None:
        short = OWN_LOOP.replace("== 20", "== 3")
        configs = {"num_local_steps": 20, **PARTIAL}
        part = stopped_after(make_task(configs, trainer=trainer(OWN_LOOP)), 3, None, WALLTIME)
        whole = uninterrupted(make_task({"num_local_steps": 3}, trainer=trainer(short)))
        assert (part.answers, part.steps, part.share) == (True, 3, 0.15)
        assert all(torch.equal(part.state[name], whole.state[name]) for name in whole.state)

    def test_steps_that_a_scheduler_asked_for_are_the_whole(self, make_task: Any, trainer: Trainer) -> None:
        task = make_task(PARTIAL, trainer=trainer(OWN_LOOP), args={"local_steps": 20})
        assert stopped_after(task, 5, None, WALLTIME).share == 0.25

    @pytest.mark.parametrize(
        "configs", [{"mode": None, "num_local_steps": None}, {"num_local_steps": 2}], ids=["none", "fewer"]
    )
    def test_a_part_of_unknown_share_is_not_sent(
        self, make_task: Any, trainer: Trainer, configs: dict[str, Any]
    ) -> None:
        outcome = stopped_after(
            make_task({**configs, **PARTIAL}, trainer=trainer(OWN_LOOP)), 5, None, WALLTIME
        )
        assert not outcome.answers
        assert (outcome.stopped, outcome.steps, outcome.share) == (WALLTIME, 5, 0.0)

    def test_a_part_that_it_cannot_give_is_no_error(
        self, make_task: Any, trainer: Trainer, caplog: pytest.LogCaptureFixture
    ) -> None:
        unready = OWN_LOOP + textwrap.indent(
            "\n    def get_parameters(self):\n        return self.set_at_the_end_of_train\n", "    "
        )
        configs = {"num_local_steps": 20, **PARTIAL}
        outcome = stopped_after(make_task(configs, trainer=trainer(unready)), 3, None, WALLTIME)
        assert not outcome.answers
        assert "can't be sent" in caplog.text
        assert "set_at_the_end_of_train" in caplog.text

    @pytest.mark.parametrize("configs", [{}, PARTIAL], ids=["checkpoint", "part"])
    def test_what_fails_because_it_was_ended_is_no_error(
        self, make_task: Any, trainer: Trainer, caplog: pytest.LogCaptureFixture, configs: dict[str, Any]
    ) -> None:
        expecting = trainer("""
            from appfl.algorithm.trainer.vanilla_trainer import VanillaTrainer

            class Expecting(VanillaTrainer):
                def train(self, **kwargs):
                    self.best = super().train(**kwargs).metrics["val_loss"]
        """)
        task = make_task({"do_validation": True, **configs}, trainer=expecting)
        outcome = stopped_after(task, 3, None, WALLTIME)
        assert (outcome.answers, outcome.stopped, outcome.steps) == (bool(configs), WALLTIME, 3)
        assert "After the task was stopped: train() failed: KeyError" in caplog.text
        with pytest.raises(UserCodeError, match="val_loss"):
            uninterrupted(make_task(trainer=expecting))

    def test_a_step_that_was_planned_as_the_last_ends_by_itself(
        self, make_task: Any, trainer: Trainer
    ) -> None:
        configs = {"num_local_steps": 20}
        outcome = stopped_after(make_task(configs, trainer=trainer(OWN_LOOP)), 20, None, WALLTIME)
        assert (outcome.answers, outcome.stopped, outcome.steps, outcome.share) == (True, None, 20, 1.0)

    def test_a_train_of_its_own_beside_vanilla_is_ended_too(self, make_task: Any, trainer: Trainer) -> None:
        own = OWN_LOOP.replace(
            "appfl.algorithm.trainer import BaseTrainer", "appfl.algorithm.trainer import VanillaTrainer"
        )
        own = own.replace("Own(BaseTrainer)", "Own(VanillaTrainer)")
        outcome = stopped_after(make_task({"num_local_steps": 20}, trainer=trainer(own)), 4, None, CANCELLED)
        assert (outcome.answers, outcome.steps, outcome.checkpoint_steps) == (False, 4, 0)
