"""Record a run with four endpoints: `make recording` writes `log.txt`, `metrics.jsonl` and `run.svg` beside this file.

Four real agents on a sandbox train the example on 4,000 digits, each without two of the ten classes or more. The
picture shows what the global model is worth after each round, and what each site did with its time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parents[1] / "examples"
MNIST = EXAMPLES / "resources" / "config_gc" / "mnist"
ROUNDS, ENDPOINTS = 9, 4
PARTS = {"queue_seconds": "queue", "compute_seconds": "compute", "transfer_seconds": "transfer"}
COLOURS = {"queue": "#b8bcc8", "compute": "#3f51b5", "transfer": "#e07b39"}


def command(output: Path) -> list[str]:
    """The run as a user types it."""
    return [
        "appfl-gc", "sandbox", "run", "--endpoints", str(ENDPOINTS), "--",
        "appfl-gc", "run", "--plain", "--enable_server_val",
        "--server_config", str(MNIST / "server_fedavg_withval.yaml"),
        "--client_config", str(MNIST / "clients_sandbox_four.yaml"),
        "--set", f"server_configs.num_clients={ENDPOINTS}",
        "--set", f"server_configs.num_global_epochs={ROUNDS}",
        "--set", f"server_configs.logging_output_dirname={output}",
    ]  # fmt: skip


def record() -> list[dict[str, Any]]:
    """Run it, keep log and metrics; the rows of the metrics."""
    binaries = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "output"
        done = subprocess.run(
            command(output), cwd=EXAMPLES, env={**os.environ, "PATH": binaries}, check=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        (metrics,) = output.glob("*/metrics.jsonl")
        text = metrics.read_text()
        lines = done.stdout.replace(directory, "...").splitlines()
        (HERE / "log.txt").write_text("".join(f"{line.rstrip()}\n" for line in lines))
    (HERE / "metrics.jsonl").write_text(text)
    return [json.loads(line) for line in text.splitlines()]


def draw(rows: list[dict[str, Any]], picture: Path) -> None:
    """Accuracy by round, and each site's seconds by kind."""
    rounds = [row for row in rows if row["kind"] == "round"]
    updates = [row for row in rows if row["kind"] == "client"]
    clients = sorted({row["client"] for row in updates})
    plt.rcParams.update({"svg.hashsalt": "recorded run", "svg.fonttype": "none", "font.size": 10})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(
        [row["round"] for row in rounds], [row["server_val_accuracy"] for row in rounds], "o-", color="#3f51b5",
        label="global model, server's test data",
    )  # fmt: skip
    for client in clients:
        own = [row for row in updates if row["client"] == client]
        left.plot(
            [row["round"] for row in own], [row["val_accuracy"] for row in own], color="#b8bcc8", linewidth=1,
            label="each client's model after training, same test data" if client == clients[0] else None,
        )  # fmt: skip
    left.set_xticks([row["round"] for row in rounds])
    left.set(xlabel="round", ylabel="accuracy (%)", ylim=(0, 100), title="What the model is worth")
    left.legend(frameon=False, loc="lower right", fontsize=8)
    bottom = [0.0] * len(clients)
    for key, name in PARTS.items():
        heights = [_mean(row[key] for row in updates if row["client"] == client) for client in clients]
        right.bar(clients, heights, bottom=bottom, color=COLOURS[name], label=name, width=0.6)
        bottom = [low + high for low, high in zip(bottom, heights, strict=True)]
    right.set(ylabel="seconds a round", title="What a site's turn-around is made of")
    right.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, metadata={"Date": None})
    plt.close(figure)


def _mean(values: Any) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


if __name__ == "__main__":
    draw(record(), HERE / "run.svg")
