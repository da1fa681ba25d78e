"""Forms of batches and of datasets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset

from appfl_gc.site.trainer.run import run_trainer
from tests.site.trainer.samples import PLAIN, Recorder, failure, numbered


class Fed(nn.Module):
    """Takes what its inputs are, to test forms of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs: Any) -> torch.Tensor:
        x = inputs["a"] + inputs["more"][0] if isinstance(inputs, dict) else inputs[0] + inputs[1]
        result: torch.Tensor = self.layer(x)
        return result


@pytest.mark.parametrize("form", ["dict", "tuple"])
def test_inputs_may_be_nested(make_task: Any, form: str) -> None:
    x, y = torch.ones(2), torch.zeros(1)
    inputs: Any = {"a": x, "more": [x]} if form == "dict" else (x, x)
    task = make_task(model=Fed(), train_dataset=[(inputs, y)] * 20, loss_fn=nn.MSELoss(), metric=None)
    assert run_trainer(task).steps == 5


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        ({"x": torch.ones(4), "y": torch.ones(1)}, "a dict with x, y"),
        ((torch.ones(4), torch.ones(4), torch.ones(1)), "3 parts"),
        (torch.ones(4), "Tensor"),
    ],
)
def test_what_is_not_a_pair_is_explained(make_task: Any, sample: Any, says: str) -> None:
    error = failure(make_task(train_dataset=[sample] * 20))
    assert f"A batch of the dataset is {says}" in error.message
    assert "trainer_path" in error.hint


def test_an_iterable_dataset_keeps_its_order(make_task: Any) -> None:
    class Stream(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
        def __iter__(self) -> Any:
            return iter(numbered(10))

        def __len__(self) -> int:
            return 10

    task = make_task(
        {**PLAIN, "train_data_shuffle": True},
        model=Recorder(), train_dataset=Stream(), loss_fn=nn.MSELoss(), metric=None,
    )  # fmt: skip
    run_trainer(task)
    assert torch.cat(Recorder.seen)[:10].int().tolist() == list(range(10))


@pytest.mark.parametrize("samples", [0, 6])
@pytest.mark.parametrize("mode", [{"num_local_steps": 9}, {"mode": "epoch", "num_local_epochs": 9}])
def test_an_iterable_dataset_that_ends_early_is_an_error(
    make_task: Any, samples: int, mode: dict[str, Any]
) -> None:
    class Once(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
        def __init__(self) -> None:
            self.rest = iter([(torch.ones(1), torch.ones(1))] * samples)

        def __iter__(self) -> Any:
            return self.rest

        def __len__(self) -> int:
            return 10

    configs = {**PLAIN, **mode, "train_batch_size": 4}
    task = make_task(configs, model=Recorder(), train_dataset=Once(), loss_fn=nn.MSELoss(), metric=None)
    error = failure(task)
    assert "A pass over the training dataset gave no batch" in error.message
    assert "__iter__" in error.hint
    assert sum(map(len, Recorder.seen)) == samples
