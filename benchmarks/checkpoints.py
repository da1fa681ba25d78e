"""What it costs to be able to stop after any step, and to go on: beside the step, and beside writing the bytes.

The step is one of Adam on a multi-layer perceptron, a batch of 32. The question is everything that an uninterrupted
task does after a step: the hook, counting, telling, asking whether to stop and whether a checkpoint is due.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import report
import torch
from torch import nn

from appfl_gc.protocol.identity import CallId
from appfl_gc.site.checkpoints import Checkpointer
from appfl_gc.site.policy import OutboxLimits
from appfl_gc.site.trainer.restoring import model_state
from appfl_gc.site.trainer.step_watch import StepWatch, watched_steps

PIECE = 1 << 21


def trained(width: int) -> tuple[nn.Module, torch.optim.Optimizer, Callable[[], None]]:
    """A model, its optimiser after a first step, and a further step."""
    model = nn.Sequential(
        nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )
    optimizer = torch.optim.Adam(model.parameters())
    x, y = torch.randn(32, 784), torch.randint(10, (32,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    step()
    return model, optimizer, step


def seconds(work: Callable[[], Any], times: int) -> float:
    """Mean seconds of one of ``times`` calls."""
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times


def question_seconds(checkpoint: Checkpointer, repeats: int) -> float:
    """Seconds that the question takes; the best of ``repeats``."""
    told: list[int] = [0]

    def tell(done: int, planned: int) -> None:
        told[0] = done

    parameter = nn.Parameter(torch.zeros(1))
    empty = torch.optim.SGD([parameter], lr=0.0)  # without a gradient its step does nothing
    watch = StepWatch(on_step=tell, checkpoint=checkpoint, planned=10**9)

    def asked() -> None:
        empty.step()
        if watch.wants_checkpoint or watch.reason is not None:
            raise RuntimeError("Nothing is due yet.")

    bare, whole = [], []
    for _ in range(repeats):
        bare.append(seconds(empty.step, 2000))
        with watched_steps(watch):
            whole.append(seconds(asked, 2000))
    return min(whole) - min(bare)


def written(path: Path, data: bytes) -> None:
    """The floor: the same bytes into a new file."""
    with path.open("wb", buffering=0) as file:
        for begin in range(0, len(data), PIECE):
            file.write(data[begin : begin + PIECE])


def measure(width: int, directory: Path, repeats: int) -> dict[str, Any]:
    """A row of the table: one size of model. Best times of ``repeats``."""
    model, optimizer, step = trained(width)
    checkpoint = Checkpointer.of(directory, CallId("run", 1, "client"), "request", OutboxLimits())
    checkpoint.pace(10**9, 1e9)
    state = {"model": model_state(model), "optimizer": optimizer.state_dict()}
    steps, saves, floors, loads = [], [], [], []
    checkpoint.save(state, 1)
    data = os.urandom(checkpoint.path.stat().st_size)
    for _ in range(repeats):
        steps.append(seconds(step, 5))
        floors.append(seconds(lambda: written(directory / "floor", data), 1))
        saves.append(seconds(lambda: checkpoint.save(state, 1), 1))
        loads.append(seconds(checkpoint.load, 1))
    question = question_seconds(checkpoint, repeats)
    a_step, save, floor = (min(values) for values in (steps, saves, floors))
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "step ms": 1000 * a_step,
        "question us": 1e6 * question,
        "question/step": question / a_step,
        "MB": len(data) / 1e6,
        "write ms": 1000 * save,
        "floor ms": 1000 * floor,
        "write/floor": save / floor,
        "read ms": 1000 * min(loads),
        "every 600 s": save / 600,
    }


def main() -> int:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 512, 3000])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so that a busy machine disturbs less
    with tempfile.TemporaryDirectory() as directory:
        rows = [measure(width, Path(directory), options.repeats) for width in options.widths]
    report.show("Stopping after any step, and checkpoints", rows)
    summary = [
        report.verdict(
            "may it stop? asked after each step", "the smallest step", rows[0]["question/step"], 0.05
        ),
        report.verdict(
            "a checkpoint of the largest model", "the bytes into a file", rows[-1]["write/floor"], 3.0
        ),
    ]
    report.write(options.json, {"summary": summary, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
