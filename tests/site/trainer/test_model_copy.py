"""The copy of a session's model that each task trains."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from appfl_gc.site.trainer.model_copy import fresh_copy
from appfl_gc.site.trainer.run import run_trainer
from appfl_gc.site.trainer.vanilla import VanillaTrainer


class Moody(nn.Module):
    """Its outputs depend on a counter and on a buffer outside the state dict, both changed by ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("kept", torch.zeros(1))
        self.register_buffer("drift", torch.zeros(1), persistent=False)
        self.calls = 0
        self.history: list[float] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.drift += 0.1
        self.kept += 1.0
        self.history.append(float(self.drift))
        result: torch.Tensor = self.layer(x) * (1 + self.calls) + self.drift + sum(self.history)
        return result


def build() -> Moody:
    torch.manual_seed(4)
    return Moody()


def copied(skeleton: nn.Module) -> Any:
    result = fresh_copy(skeleton)
    assert result is not None
    return result


def test_a_task_gives_the_same_bits_with_a_kept_model_or_a_new_one(make_task: Any) -> None:
    received = {name: tensor.clone() for name, tensor in build().state_dict().items()}

    def bits(model: nn.Module) -> dict[str, torch.Tensor]:
        state = run_trainer(make_task(model=model, received=received)).state
        return {name: tensor.clone() for name, tensor in state.items()}

    expected = bits(build())
    skeleton = build()
    for _ in range(3):
        got = bits(copied(skeleton))
        assert all(torch.equal(got[name], expected[name]) for name in expected)
    leaking = build()
    bits(leaking)
    again = bits(leaking)
    assert not all(torch.equal(again[name], expected[name]) for name in expected)


class KeepsItsNorm(VanillaTrainer):
    """Takes every tensor of the received model but those of the normalisation, as FedBN does."""

    def load_parameters(self, params: Mapping[str, torch.Tensor]) -> None:
        taken = {name: tensor for name, tensor in params.items() if not name.startswith("norm.")}
        self.model.load_state_dict(taken, strict=False)


def test_layers_that_a_trainer_does_not_load_keep_nothing_of_an_earlier_task(make_task: Any) -> None:
    received = make_task().received

    def bits(model: nn.Module | None) -> dict[str, torch.Tensor]:
        state = run_trainer(make_task(model=model, received=received, trainer=KeepsItsNorm)).state
        return {name: tensor.clone() for name, tensor in state.items()}

    expected = bits(None)
    skeleton = make_task().model
    for _ in range(2):
        got = bits(copied(skeleton))
        assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_a_trainer_that_loads_everything_gets_the_model_as_it_was_built(make_task: Any) -> None:
    first: list[float] = []

    class Looks(VanillaTrainer):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            first.append(float(self.model.norm.bias.detach()[0]))

    task = make_task(trainer=Looks)
    task.received["norm.bias"].fill_(3.0)
    run_trainer(task)
    assert first == [0.0]


def test_parameters_and_kept_buffers_share_storage_and_nothing_else_does() -> None:
    skeleton = build()
    copy = copied(skeleton)
    for name, tensor in skeleton.state_dict().items():
        assert copy.state_dict()[name].data_ptr() == tensor.data_ptr(), name
    assert copy.drift.data_ptr() != skeleton.drift.data_ptr()
    assert copy.layer.weight is not skeleton.layer.weight


def test_gradients_and_requires_grad_do_not_leak() -> None:
    skeleton = build()
    skeleton.layer.bias.requires_grad_(False)
    copy = copied(skeleton)
    copy(torch.ones(1, 4)).sum().backward()
    assert copy.layer.weight.grad is not None
    copy.layer.weight.requires_grad_(False)
    again = copied(skeleton)
    assert skeleton.layer.weight.grad is None and again.layer.weight.grad is None
    assert again.layer.weight.requires_grad and not again.layer.bias.requires_grad


def test_shared_parameters_stay_shared() -> None:
    skeleton = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    skeleton[1].weight = skeleton[0].weight
    copy = copied(skeleton)
    assert copy[1].weight is copy[0].weight


def test_hooks_that_are_methods_act_on_the_copy() -> None:
    class Hooked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.count = 0
            self.layer.register_forward_hook(self.note)

        def note(self, *_: Any) -> None:
            self.count += 1

    skeleton = Hooked()
    copy = copied(skeleton)
    copy.layer(torch.ones(1, 2))
    assert (copy.count, skeleton.count) == (1, 0)


class View(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.start = self.layer.weight.detach()[0]


class Closure(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.act = lambda x: self.layer(x)


class Uncopyable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.generator = (n for n in range(3))


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyLinear(2)


@pytest.mark.parametrize("model_class", [View, Closure, Uncopyable, Lazy])
def test_a_model_that_such_a_copy_would_change_is_not_copied(model_class: type[nn.Module]) -> None:
    assert fresh_copy(model_class()) is None


def test_functions_that_hold_no_model_do_not_hinder() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)
            slope = 0.2
            self.act = lambda x: nn.functional.leaky_relu(x, slope)
            self.part = functools.partial(torch.clamp, min=0)

    assert fresh_copy(Plain()) is not None
