"""The ``device`` key of a configuration, and the devices of this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from appfl_gc.protocol.errors import UserCodeError

_ONE = re.compile(r"(cpu|cuda|xpu|mps)(?::(\d+))?")


@dataclass(frozen=True)
class Devices:
    """Where a model trains.

    Attributes:
        first: the device that holds the model and receives each batch.
        parallel: indices of the CUDA devices that share each batch (``DataParallel``); empty for one device.
    """

    first: torch.device
    parallel: tuple[int, ...] = ()


def present_devices() -> tuple[str, ...]:
    """The devices of this machine as a configuration names them; ``cpu`` is always the first."""
    names = ["cpu"]
    if torch.cuda.is_available():
        names += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        names += [f"xpu:{index}" for index in range(torch.xpu.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return tuple(names)


def choose_devices(text: str) -> Devices:
    """The devices that ``text`` names.

    Args:
        text: ``cpu``, ``cuda``, ``cuda:1``, ``cuda:0,cuda:1`` (also ``cuda:0,1``), ``xpu``, ``xpu:0``,
            ``mps``, or ``auto`` for the first accelerator that is there, else the CPU.

    Raises:
        UserCodeError: the text is not a device, or the device is not there; names those present.
    """
    present = present_devices()
    wanted = text.strip().lower()
    if wanted == "auto":
        return Devices(torch.device(present[1] if len(present) > 1 else "cpu"))
    names: list[str] = []
    for part in (part.strip() for part in wanted.split(",")):
        match = _ONE.fullmatch(f"cuda:{part}" if part.isdigit() and names else part)
        if match is None:
            raise UserCodeError(
                f"device: {text!r} is not a device.",
                "Write cpu, cuda, cuda:0, cuda:0,cuda:1, xpu, mps or auto.",
            )
        kind, index = match.group(1), match.group(2)
        names.append(kind if kind in {"cpu", "mps"} else f"{kind}:{index or 0}")
    absent = [name for name in names if name not in present]
    if absent:
        raise UserCodeError(
            f"device: {text} is not on this machine; present: {', '.join(present)}.",
            "Configure one of these for this client, or device: auto.",
        )
    if len(names) > 1 and (
        len(set(names)) < len(names) or not all(name.startswith("cuda") for name in names)
    ):
        raise UserCodeError(
            f"device: {text} can't be used together.", "Several devices must be different CUDA devices."
        )
    first = torch.device(names[0])
    return Devices(first, tuple(int(name.partition(":")[2]) for name in names) if len(names) > 1 else ())
