"""What a piece of work may change in torch, and finds restored afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.overrides import _get_current_function_mode_stack

from appfl_gc.site.trainer.random_state import isolated


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    torch.set_default_device(None)
    torch.set_float32_matmul_precision("highest")


def test_the_default_device_is_restored() -> None:
    with isolated(1):
        torch.set_default_device("meta")
        assert torch.empty(1).device.type == "meta"
    assert torch.empty(1).device.type == "cpu"
    # A default device that is set, even the CPU, is a mode that every call of torch passes through.
    assert not _get_current_function_mode_stack()  # type: ignore[no-untyped-call]


def test_the_callers_default_device_comes_back() -> None:
    torch.set_default_device("meta")
    with isolated(1):
        torch.set_default_device("cpu")
    assert torch.empty(1).device.type == "meta"


@pytest.mark.parametrize("before", ["highest", "high"])
def test_the_precision_of_float32_products_is_restored(before: str) -> None:
    torch.set_float32_matmul_precision(before)
    with isolated(1):
        torch.set_float32_matmul_precision("medium")
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch's newer switches, 2.9")
def test_torchs_newer_switches_of_precision_do_no_harm() -> None:
    switch = torch.backends.cuda.matmul
    with isolated(1):
        switch.fp32_precision = "tf32"
    assert torch.get_float32_matmul_precision() == "highest"
    switch.fp32_precision = "tf32"
    with isolated(1):
        torch.rand(1)
    assert switch.fp32_precision == "tf32"
