"""Trainers from users' files."""

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
from appfl_gc.site.source_loader import SourceLoader, user_frames
from appfl_gc.site.trainer.run import run_trainer


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[[str], type[Any]]:
    def load(text: str) -> type[Any]:
        source = Source("trainer", "", "./resources/mine.py", textwrap.dedent(text))
        loaded: type[Any] = SourceLoader(tmp_path).load(source).target
        return loaded

    return load


PUBLISHED_STYLE = """
    import torch
    from torch.utils.data import DataLoader
    from appfl.algorithm.trainer import BaseTrainer

    class MyTrainer(BaseTrainer):
        def __init__(
            self, model=None, loss_fn=None, metric=None, train_dataset=None, val_dataset=None,
            train_configs=None, logger=None, **kwargs,
        ):
            super().__init__(
                model=model, loss_fn=loss_fn, metric=metric, train_dataset=train_dataset,
                val_dataset=val_dataset, train_configs=train_configs, logger=logger, **kwargs,
            )
            if not hasattr(self.train_configs, "my_key"):
                self.train_configs.my_key = 1
            self.loader = DataLoader(train_dataset, batch_size=self.train_configs.get("train_batch_size", 32))

        def train(self, **kwargs):
            optimizer = torch.optim.SGD(self.model.parameters(), lr=self.train_configs.optim_args.lr)
            self.steps = 0
            for x, y in self.loader:
                optimizer.zero_grad()
                self.loss_fn(self.model(x), y).backward()
                optimizer.step()
                self.steps += 1
            self.logger.info(f"round {kwargs['round']} done")

        def get_parameters(self):
            return self.model.state_dict(), {"my_loss": torch.tensor(0.5), "count": 3, "note": "not a number"}
"""


def test_a_trainer_in_the_published_style(
    make_task: Any, trainer: Any, line_logger: Any, lines: list[str]
) -> None:
    task = make_task({"my_key": 5}, trainer=trainer(PUBLISHED_STYLE), logger=line_logger)
    outcome = run_trainer(task)
    assert outcome.steps == 5
    assert outcome.metrics == {"my_loss": 0.5, "count": 3.0}
    assert list(outcome.state) == list(task.received)
    assert not torch.equal(outcome.state["first.weight"], task.received["first.weight"])
    assert lines == ["round 3 done"]
    assert "my_key" not in make_task().train_configs


def test_what_it_sets_in_its_configuration_stays_its_own(make_task: Any, trainer: Any) -> None:
    task = make_task(trainer=trainer(PUBLISHED_STYLE))
    run_trainer(task)
    assert "my_key" not in task.train_configs


def test_train_without_keyword_arguments_and_a_class_of_no_base(make_task: Any, trainer: Any) -> None:
    task = make_task(
        {"num_local_steps": 7},
        trainer=trainer("""
            class Bare:
                def __init__(self, model, train_configs, logger):
                    self.model = model
                def load_parameters(self, params):
                    self.model.load_state_dict(params)
                def train(self):
                    for p in self.model.parameters():
                        p.data.add_(1.0)
                def get_parameters(self):
                    state = self.model.state_dict()
                    return {name: state[name].numpy() for name in reversed(list(state))}
        """),
    )
    outcome = run_trainer(task)
    assert outcome.steps == 7
    assert list(outcome.state) == list(task.received)
    assert torch.equal(outcome.state["second.bias"], task.received["second.bias"] + 1)


@pytest.mark.parametrize(
    ("configs", "args", "steps"),
    [
        ({"mode": "epoch", "num_local_epochs": 2, "train_batch_size": 16}, {}, 6),
        ({"mode": "step", "num_local_steps": 9}, {}, 9),
        ({"mode": "epoch", "num_local_epochs": 2}, {"local_steps": 4}, 4),
    ],
)
def test_steps_follow_from_the_configuration_where_it_does_not_count_them(
    make_task: Any, trainer: Any, configs: dict[str, Any], args: dict[str, Any], steps: int
) -> None:
    idle = trainer("""
        from appfl.algorithm.trainer import BaseTrainer
        class Idle(BaseTrainer):
            def train(self, round): self.heard = round
    """)
    assert run_trainer(make_task(configs, trainer=idle, args=args)).steps == steps


def test_steps_that_it_takes_are_counted_whatever_was_asked(
    make_task: Any, trainer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    own = trainer("""
        import torch
        from appfl.algorithm.trainer import BaseTrainer
        class Own(BaseTrainer):
            def train(self, **kwargs):
                optimizer = torch.optim.SGD(self.model.parameters(), lr=0.0)
                for _ in range(6):
                    optimizer.step()
    """)
    configs = {"mode": "step", "num_local_steps": 9}
    assert run_trainer(make_task(configs, trainer=own)).steps == 6
    logger = logging.getLogger("counted")
    task = replace(make_task(configs, trainer=own, args={"local_steps": 30}), logger=logger)
    assert run_trainer(task).steps == 6
    assert "Own trained 6 steps, and the scheduler asked for 30" in caplog.text


def test_a_subclass_of_vanilla_may_add_to_the_loss(make_task: Any, trainer: Any) -> None:
    proximal = trainer("""
        from appfl.algorithm.trainer.vanilla_trainer import VanillaTrainer
        class Proximal(VanillaTrainer):
            def train(self, **kwargs):
                self.start = [p.detach().clone() for p in self.model.parameters()]
                return super().train(**kwargs)
            def batch_loss(self, inputs, targets):
                distance = sum(((p - s) ** 2).sum() for p, s in zip(self.model.parameters(), self.start))
                return super().batch_loss(inputs, targets) + 1000.0 * distance
    """)

    def moved(**parts: Any) -> float:
        outcome = run_trainer(make_task({"send_gradient": True, "optim": "SGD"}, **parts))
        return float(sum(outcome.state[name].square().sum() for name in outcome.deltas))

    near = run_trainer(make_task(trainer=proximal))
    assert near.steps == 5
    assert "train_loss" in near.metrics
    assert (
        0
        < moved(trainer=proximal, args={"learning_rate": 0.0005})
        < 0.9 * moved(args={"learning_rate": 0.0005})
    )


def test_send_gradient_holds_for_a_trainer_that_only_trains(make_task: Any, trainer: Any) -> None:
    shift = trainer("""
        import torch
        from appfl.algorithm.trainer import BaseTrainer
        class Shift(BaseTrainer):
            def train(self, **kwargs):
                with torch.no_grad():
                    for p in self.model.parameters(): p.add_(0.5)
    """)
    task = make_task({"send_gradient": True}, trainer=shift)
    outcome = run_trainer(task)
    assert "first.weight" in outcome.deltas and "norm.running_mean" not in outcome.deltas
    assert torch.allclose(outcome.state["first.weight"], torch.tensor(-0.5))
    assert torch.equal(outcome.state["norm.running_mean"], task.received["norm.running_mean"])


def test_send_gradient_without_the_received_model_is_an_error(make_task: Any, trainer: Any) -> None:
    forgets = trainer("""
        from appfl.algorithm.trainer import BaseTrainer
        class Forgets(BaseTrainer):
            def train(self): pass
            def load_parameters(self, params): self.model.load_state_dict(params)
    """)
    with pytest.raises(UserCodeError, match="Forgets never took the received model"):
        run_trainer(make_task({"send_gradient": True}, trainer=forgets))


def test_randomness_in_it_follows_from_the_seed(make_task: Any, trainer: Any) -> None:
    noisy = trainer("""
        import random, numpy, torch
        from appfl.algorithm.trainer import BaseTrainer
        class Noisy(BaseTrainer):
            def train(self): self.drawn = random.random() + numpy.random.rand() + torch.rand(()).item()
            def get_parameters(self):
                return super().get_parameters(), {"drawn": self.drawn, "seed": self.seed}
    """)
    first, again, other = (run_trainer(make_task(trainer=noisy, seed=seed)).metrics for seed in (1, 1, 2))
    assert first == again
    assert first["drawn"] != other["drawn"]
    assert other["seed"] == 2


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return None", "returned NoneType"),
        ("return {}", "returned an empty dict"),
        ("return {'w': 1.5}", "gave 'w' as float, not a tensor"),
        ("return self.model.state_dict(), 5", "returned tuple"),
    ],
)
def test_parameters_that_are_no_tensors_are_explained(
    make_task: Any, trainer: Any, body: str, says: str
) -> None:
    odd = trainer(f"""
        from appfl.algorithm.trainer import BaseTrainer
        class Odd(BaseTrainer):
            def train(self): pass
            def get_parameters(self): {body}
    """)
    with pytest.raises(UserCodeError) as caught:
        run_trainer(make_task(trainer=odd))
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class T:\n    def train(self): pass\n", "has no method load_parameters, get_parameters"),
        (
            "from appfl.algorithm.trainer import BaseTrainer\n"
            "class T(BaseTrainer):\n    def __init__(self, model, teacher): pass\n    def train(self): pass\n",
            "needs teacher",
        ),
        (
            "from appfl.algorithm.trainer import BaseTrainer\nclass T(BaseTrainer): pass\n",
            "does not define train",
        ),
    ],
)
def test_a_class_that_is_no_trainer_is_explained(make_task: Any, trainer: Any, text: str, says: str) -> None:
    with pytest.raises(UserCodeError, match=says):
        run_trainer(make_task(trainer=trainer(text)))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("raise ValueError('my own')", "T failed in round 3: ValueError in mine.py line 5: my own"),
        ("import sys; sys.exit(4)", "sys.exit(4) was called in mine.py line 5"),
        ("raise MemoryError", "the memory was not enough"),
        ("1 / 0", "ZeroDivisionError in mine.py line 5"),
    ],
)
def test_a_failure_names_file_line_and_frames(make_task: Any, trainer: Any, line: str, says: str) -> None:
    text = "from appfl.algorithm.trainer import BaseTrainer\nclass T(BaseTrainer):\n"
    text += f"    def train(self): self.part()\n    def part(self):\n        {line}\n"
    with pytest.raises(UserCodeError) as caught:
        run_trainer(make_task(trainer=trainer(text)))
    assert says in caught.value.message
    assert user_frames(caught.value) == ("mine.py:3 in train", "mine.py:5 in part")


def test_an_error_in_a_worker_of_the_loader_keeps_the_users_frames(make_task: Any, tmp_path: Path) -> None:
    text = """
        class Torn:
            def __len__(self): return 20
            def __getitem__(self, index):
                return self.read(index)
            def read(self, index):
                raise OSError(f"sample {index} is torn")
        def get(): return Torn(), None
    """
    source = Source("dataset", "", "data.py", textwrap.dedent(text))
    dataset, _ = SourceLoader(tmp_path).load(source).target()
    with pytest.raises(UserCodeError) as caught:
        run_trainer(make_task({"num_workers": 1, "train_data_shuffle": False}, train_dataset=dataset))
    assert "OSError in data.py line 7" in caught.value.message
    assert "sample 0 is torn" in caught.value.message
    assert "\n" not in caught.value.message
    assert user_frames(caught.value) == ("data.py:5 in __getitem__", "data.py:7 in read")
