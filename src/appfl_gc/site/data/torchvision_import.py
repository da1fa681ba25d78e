"""Import torchvision where its wheel was built for CUDA and torch for the CPU.

PyPI's torchvision has a compiled part that needs CUDA's libraries. Beside a CPU torch it does not load, the
two operators that it would define are missing, and ``import torchvision`` fails over them. Declaring the
operators first cures it: models, transforms and datasets work; what needs the compiled part (``ops.nms``,
``io.decode_jpeg``) does not.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch

from appfl_gc.protocol.errors import UserCodeError


def import_torchvision(what_for: str = "this") -> Any:
    """torchvision, imported after ``prepare_torchvision``.

    Raises:
        UserCodeError: it is not installed or can't be imported; ``what_for`` is the setting that needs it.
    """
    prepare_torchvision()
    try:
        return importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:
        raise UserCodeError(
            f"torchvision, which {what_for} needs, can't be imported here: {error}.",
            f"Run `pip install torchvision` in the environment of {sys.executable}, in the version that "
            f"belongs to torch {torch.__version__}.",
        ) from error


def prepare_torchvision() -> None:
    """Make ``import torchvision`` work; does nothing where it works anyway or is not installed."""
    if "torchvision" in sys.modules:
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return
    compiled = sorted(Path(spec.submodule_search_locations[0]).glob("_C*.so"))
    try:
        for library in compiled:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    except OSError:
        _declare_operators()


@functools.cache
def _declare_operators() -> torch.library.Library:
    """The two operators, declared without an implementation; they live as long as the cached result does."""
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    return library
