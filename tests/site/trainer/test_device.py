"""The ``device`` key."""

from __future__ import annotations

import pytest
import torch

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.trainer import device
from appfl_gc.site.trainer.device import choose_devices


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with two CUDA devices and an XPU."""
    monkeypatch.setattr(device, "present_devices", lambda: ("cpu", "cuda:0", "cuda:1", "xpu:0"))
    return monkeypatch


@pytest.mark.parametrize(
    ("text", "first", "parallel"),
    [
        ("cpu", "cpu", ()),
        ("cuda", "cuda:0", ()),
        ("cuda:1", "cuda:1", ()),
        ("CUDA:1", "cuda:1", ()),
        ("cuda:0,cuda:1", "cuda:0", (0, 1)),
        ("cuda:1, 0", "cuda:1", (1, 0)),
        ("xpu", "xpu:0", ()),
        ("auto", "cuda:0", ()),
    ],
)
def test_names(machine: pytest.MonkeyPatch, text: str, first: str, parallel: tuple[int, ...]) -> None:
    devices = choose_devices(text)
    assert devices.first == torch.device(first)
    assert devices.parallel == parallel


def test_auto_without_an_accelerator_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "present_devices", lambda: ("cpu",))
    assert choose_devices("auto").first == torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cuda:2", "cuda:2 is not on this machine; present: cpu, cuda:0, cuda:1, xpu:0"),
        ("mps", "mps is not on this machine"),
        ("cuda:0,cuda:5", "is not on this machine"),
        ("gpu", "'gpu' is not a device"),
        ("", "'' is not a device"),
        ("cpu,cuda:0", "can't be used together"),
        ("cuda:0,cuda:0", "can't be used together"),
        ("xpu:0,cuda:0", "can't be used together"),
    ],
)
def test_what_is_not_there_or_not_a_device(machine: pytest.MonkeyPatch, text: str, says: str) -> None:
    with pytest.raises(UserCodeError) as caught:
        choose_devices(text)
    assert says in caught.value.message
    assert caught.value.hint


def test_the_machines_own_devices_begin_with_the_cpu() -> None:
    assert device.present_devices()[0] == "cpu"
