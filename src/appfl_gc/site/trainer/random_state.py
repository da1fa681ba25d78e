"""Random generators and PyTorch settings that a piece of work may use and must leave as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from appfl_gc.site.trainer.plain_state import plain


def generator_states() -> dict[str, Any]:
    """The states of Python's, NumPy's and PyTorch's generators, of plain values and tensors.

    Of accelerators those that are in use.
    """
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": plain(np.random.get_state()),
        "cpu": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        states["xpu"] = torch.xpu.get_rng_state_all()
    return states


def set_generators(states: Mapping[str, Any]) -> None:
    """Put the generators to ``states``, as ``generator_states`` gave them on such a machine."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])
    if "mps" in states:
        torch.mps.set_rng_state(states["mps"])
    if "xpu" in states:
        torch.xpu.set_rng_state_all(states["xpu"])


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Run the body with Python's, NumPy's and PyTorch's generators seeded; restore everything afterwards.

    Restored are the generators' states (CUDA's where CUDA was in use already), the number of threads, the
    default dtype and device, the precision of float32 products (as ``torch.set_float32_matmul_precision`` sets
    it), whether gradients are recorded, and the switches of cuDNN and of deterministic algorithms.

    Args:
        seed: at least 0 and below 2**63; NumPy takes it modulo 2**32.
    """
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    threads, dtype, grad = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    device, precision = _default_device(), _matmul_precision()
    cudnn = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
    algorithms = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    random.seed(seed)
    np.random.seed(seed % 2**32)
    _seed_torch(seed)
    try:
        yield
    finally:
        if _default_device() != device:
            # None instead of the CPU: a default device that is set slows every call of torch.
            torch.set_default_device(None if device.type == "cpu" else device)
        if precision is not None and _matmul_precision() != precision:
            torch.set_float32_matmul_precision(precision)
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = cudnn
        if torch.are_deterministic_algorithms_enabled() != algorithms[0]:
            torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])


def _default_device() -> torch.device:
    # torch.get_default_device came with torch 2.3.
    return torch.empty(0).device


def _matmul_precision() -> str | None:
    """``highest``, ``high`` or ``medium``; None where torch's newer switches, one per backend, were used."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def _seed_torch(seed: int) -> None:
    """As ``torch.manual_seed``, which takes a hundred times as long to look for devices that are not there."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        torch.xpu.manual_seed_all(seed)


@contextmanager
def deterministic_kernels() -> Iterator[None]:
    """Run the body with CUDA kernels that give the same bits each time; the CPU's do so anyway.

    An operation that has no such kernel warns instead of failing. cuBLAS needs
    ``CUBLAS_WORKSPACE_CONFIG=:4096:8`` in the environment before its first use, which the worker's start
    sets. Used inside ``isolated``, which restores the switches.
    """
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
        torch.use_deterministic_algorithms(True, warn_only=True)
    yield
