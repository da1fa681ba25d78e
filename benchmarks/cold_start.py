"""What happens at a site between the start of its worker process and the first training step.

The shipped example (MNIST, its CNN, ``VanillaTrainer``) runs with one client through the whole runner; its dataset,
model and loss files are wrapped so that they note the machine's clock when they are called. Imports are timed by
themselves in fresh interpreters. Rounds after the first must build no dataset.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report
import yaml

from appfl_gc.config import load

EXAMPLES = Path(__file__).parents[1] / "examples"
MARK = """\
import json, os, time


def mark(what):
    ticks = int(open("/proc/self/stat").read().rpartition(")")[2].split()[19])
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    with open({path!r}, "a") as file:
        file.write(json.dumps([what, os.getpid(), now - ticks / os.sysconf("SC_CLK_TCK")]) + "\\n")


"""
DATASET = """
inner = get_mnist


def noted(**kwargs):
    mark("dataset called")
    result = inner(**kwargs)
    mark("dataset built")
    return result
"""
MODEL = """
class Noted(CNN):
    def __init__(self, **kwargs):
        mark("model called")
        super().__init__(**kwargs)
        mark("model built")
"""
LOSS = """
class Noted(CELoss):
    def forward(self, prediction, target):
        mark("loss of a step")
        return super().forward(prediction, target)
"""
STAGES = {
    "worker process and imports": ("", "dataset called"),
    "dataset": ("dataset called", "dataset built"),
    "loss, metric, model": ("dataset built", "model built"),
    "first answer, first call, first forward": ("model built", "loss of a step"),
}
TORCH = "import torch"
IMPORTS = {
    "python -c pass": "pass",
    TORCH: "import torch",
    "import torch, make an optimiser": "import torch; torch.optim.SGD([torch.zeros(1)], lr=0.1)",
    "import the engine's worker": "import globus_compute_endpoint.engines.helper",
    "import the site without torch": "import appfl_gc.site.entry, appfl_gc.protocol.call",
    "import the site": "import appfl_gc.site.handle, appfl_gc.site.roles.trainer_role",
    "engine's worker, site, optimiser": (
        "import globus_compute_endpoint.engines.helper, appfl_gc.site.roles.trainer_role, torch; "
        "torch.optim.SGD([torch.zeros(1)], lr=0.1)"
    ),
}


@dataclass(frozen=True)
class Mark:
    """What was noted, in which process, how many seconds after the process began (to 0.01 s)."""

    what: str
    process: int
    at: float


@contextlib.contextmanager
def noting_example(rounds: int, steps: int) -> Iterator[tuple[Path, Path, Path]]:
    """The example with one client and wrapped files: server's and clients' YAML file, and the file of marks."""
    source = EXAMPLES / "resources"
    with tempfile.TemporaryDirectory(prefix="appfl-gc-bench-") as name:
        directory = Path(name)
        marks = directory / "marks.jsonl"
        start = MARK.format(path=str(marks))
        for kind, file, wrapper in (
            ("dataset", "mnist_dataset.py", DATASET),
            ("model", "cnn.py", MODEL),
            ("loss", "celoss.py", LOSS),
        ):
            text = (source / kind / file).read_text()
            head, _, body = text.partition("\nfrom __future__ import annotations\n")
            whole = f"{head}\nfrom __future__ import annotations\n{start}{body}" if body else start + text
            (directory / f"{kind}.py").write_text(whole + wrapper)
        config = source / "config_gc" / "mnist"
        server = yaml.safe_load((config / "server_fedavg.yaml").read_text())
        clients = yaml.safe_load((config / "clients.yaml").read_text())
        train, model = server["client_configs"]["train_configs"], server["client_configs"]["model_configs"]
        metric = str(source / "metric" / "acc.py")
        train.update(loss_fn_path="./loss.py", loss_fn_name="Noted", metric_path=metric)
        train.update(num_local_steps=steps, do_pre_validation=False, do_validation=False)
        model.update(model_path="./model.py", model_name="Noted")
        server["server_configs"].update(num_clients=1, num_global_epochs=rounds, logging_output_dirname=name)
        client: dict[str, Any] = clients["clients"][0]
        client["data_configs"].update(dataset_path="./dataset.py", dataset_name="noted")
        client["data_configs"]["dataset_kwargs"].update(visualization=False)
        paths = directory / "server.yaml", directory / "clients.yaml"
        paths[0].write_text(yaml.safe_dump(server))
        paths[1].write_text(yaml.safe_dump({"clients": [client]}))
        yield *paths, marks


def cold_start(rounds: int, steps: int) -> tuple[list[Mark], int]:
    """The marks of the client's worker, and how often it built the dataset."""
    from appfl_gc import run

    with noting_example(rounds, steps) as (server, clients, path):
        result = run(federation=load(server, clients))
        if result.error is not None:
            raise RuntimeError(str(result.error))
        marks = [Mark(*json.loads(line)) for line in path.read_text().splitlines()]
    worker = next(mark.process for mark in marks if mark.what == "dataset built")
    mine = [mark for mark in marks if mark.process == worker]
    return mine, sum(mark.what == "dataset built" for mark in mine)


def stages(marks: list[Mark]) -> dict[str, float]:
    """Seconds of each stage; the marks of the first step end the last."""
    first: dict[str, float] = {"": 0.0}
    for mark in marks:
        first.setdefault(mark.what, mark.at)
    seconds = {name: first[end] - first[begin] for name, (begin, end) in STAGES.items()}
    return {**seconds, "from process start to first step": first["loss of a step"]}


def time_imports(names: Sequence[str], repeats: int) -> dict[str, list[float]]:
    """Wall seconds of fresh interpreters, by name, once the files are in the page cache."""
    subprocess.run([sys.executable, "-c", IMPORTS[names[-1]]], check=True, capture_output=True)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", IMPORTS[name]], check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--imports", nargs="*", choices=list(IMPORTS), default=list(IMPORTS))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()

    imports = time_imports([TORCH, *(name for name in options.imports if name != TORCH)], options.repeats)
    torch_alone = statistics.median(imports[TORCH])
    import_rows = [
        {"fresh interpreter": name, **report.spread(took), "x torch": statistics.median(took) / torch_alone}
        for name, took in imports.items()
    ]
    report.show(f"Imports, median of {options.repeats}", import_rows)

    runs = [cold_start(options.rounds, options.steps) for _ in range(options.repeats)]
    taken = [stages(marks) for marks, _ in runs]
    stage_rows = [
        {
            "stage at the site": name,
            **report.spread([seconds[name] for seconds in taken]),
            "x torch": statistics.median(seconds[name] for seconds in taken) / torch_alone,
        }
        for name in taken[0]
    ]
    report.show(f"Cold start of a site, median of {options.repeats}", stage_rows)
    built = max(count for _, count in runs)
    print(f"\n  A client built its dataset {built} time(s) in {options.rounds} rounds.")
    total = stage_rows[-1]["x torch"]
    summary = [
        report.verdict("process start to first step", TORCH, total),
        report.verdict(f"datasets built in {options.rounds} rounds", "1 dataset", built, 1),
    ]
    rows = {"imports": import_rows, "stages": stage_rows, "datasets_built": built, "summary": summary}
    report.write(options.json, rows)


if __name__ == "__main__":
    main()
