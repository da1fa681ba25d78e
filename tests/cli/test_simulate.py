"""The command: what it prints and writes, what it says of wrong input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appfl_gc.cli import simulate as command
from appfl_gc.cli.main import cli
from tests.runner.conftest import train
from tests.simulation.past import past_run
from tests.small_federation import SmallFederation

ASYNC = [
    "--set", "server_configs.scheduler=AsyncScheduler", "--set", "server_configs.aggregator=FedAsyncAggregator",
]  # fmt: skip
JSON = ["--format", "json"]
OWN = """\
class Own:
    def __init__(self, **kwargs):
        raise RuntimeError
"""
IDLE = """\
class Idle:
    def step(self, now, event):
        return []
"""


def simulate(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["simulate", *map(str, arguments)])


def test_it_prints_what_the_clients_did() -> None:
    result = simulate("--profiles", "four-supercomputers", "--set", "server_configs.num_global_epochs=3")
    assert (result.exit_code, result.stderr) == (0, "")
    first, second, third, empty, header, delta, *_, sophia = result.stdout.splitlines()
    assert first == "SyncScheduler and FedAvgAggregator, 4 clients: finished after virtual 1 min 44 s."
    assert second.startswith("12 updates of 1,200 local steps arrived; 12 were folded into 3 versions")
    assert third.endswith("clients trained 65.8% and were idle 34.2%.")
    assert empty == ""
    assert header.split() == [
        "client",
        "updates",
        "steps",
        "queue",
        "overhead",
        "train",
        "transfer",
        "wasted",
        "idle",
    ]
    assert delta.split() == ["Delta", "3", "300", "0.0%", "0.0%", "43.5%", "0.0%", "0.0%", "56.5%"]
    assert sophia.split()[-1] == "0.0%"


def test_many_clients_are_shown_by_group() -> None:
    result = simulate("--profiles", "four-supercomputers", "--clients", 40)
    rows = [line.split() for line in result.stdout.splitlines()[4:]]
    assert rows[0][:3] == ["group", "clients", "updates"]
    assert [row[:3] for row in rows[1:]] == [
        [name, "10", "100"] for name in ("Delta", "Aurora", "Polaris", "Sophia")
    ]


def test_it_writes_a_timeline_a_summary_and_a_picture(tmp_path: Path) -> None:
    out = tmp_path / "some" / "where"
    result = simulate("--profiles", "normal", "--seed", 5, "--out", out, *JSON, *ASYNC)
    told, written = json.loads(result.stdout), json.loads((out / "summary.json").read_text())
    assert told == written
    assert (told["scheduler"], told["updates"], told["finished"], told["seed"]) == (
        "AsyncScheduler",
        10,
        True,
        5,
    )
    rows = [json.loads(line) for line in (out / "timeline.jsonl").read_text().splitlines()]
    assert sum(row["kind"] == "fold" for row in rows) == told["versions"] == 10
    assert (out / "timeline.svg").read_text().startswith("<svg ")
    again = simulate("--profiles", "normal", "--seed", 5, *JSON, *ASYNC)
    assert json.loads(again.stdout) == told
    other = simulate("--profiles", "normal", "--seed", 6, *JSON, *ASYNC)
    assert json.loads(other.stdout)["seconds"] != told["seconds"]


def test_it_stops_when_time_is_up() -> None:
    result = simulate("--until", 25)
    assert "stopped by --until after virtual 25 s." in result.stdout
    assert "idle 0.0%" in result.stdout


def test_a_long_simulation_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "TELL_EVERY", 0.0)
    result = simulate("--clients", 2, "--set", "server_configs.num_global_epochs=2")
    assert "At virtual 12 s: 1 dispatches are back, 0 versions." in result.stderr
    assert "At virtual 23 s: 4 dispatches are back, 2 versions." in result.stderr


def test_a_real_run_is_simulated_and_then_with_another_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run = train(SmallFederation(tmp_path / "project", rounds=3))
    same = simulate("--run", run.run_dir, *JSON)
    assert (same.exit_code, same.stderr) == (0, ""), same.output
    told = json.loads(same.stdout)
    assert (told["updates"], told["versions"], told["steps"]) == (6, 3, 30)
    assert set(told["clients"]) == {"Client1", "Client2"}
    # What the server does between rounds takes no virtual time, and much time on a busy machine.
    past = told["past"]
    assert 0 < told["seconds"] <= past["seconds"] + 1e-3
    assert (past["updates"], past["steps"], past["finished"]) == (6, 30, True)
    other = simulate("--run", run.run_dir, *ASYNC)
    assert "AsyncScheduler and FedAsyncAggregator, 2 clients: finished" in other.stdout
    assert re.search(r"The run itself took .* for 6 updates of 30 local steps\.\n", other.stdout)
    assert "3 were folded into 3 versions" in other.stdout
    # Rounds became updates: half of what the run did, until the hint is followed.
    alike = "server_configs.num_global_epochs=6"
    assert f"For about as many updates as it had, give --set {alike}." in other.stdout
    like_for_like = simulate("--run", run.run_dir, *ASYNC, "--set", alike)
    assert "6 updates of 30 local steps arrived" in like_for_like.stdout
    assert "as many updates" not in like_for_like.stdout


def test_an_interrupted_run_is_compared_with_what_it_had(tmp_path: Path) -> None:
    past = past_run(tmp_path)
    result = simulate("--run", past, "--set", "server_configs.num_global_epochs=20")
    assert "The run itself took 2.0 s for 2 updates of 20 local steps, and did not finish.\n" in result.stdout
    assert "--set server_configs.num_global_epochs=1." in result.stdout
    told = simulate("--run", past, *JSON)
    assert json.loads(told.stdout)["past"] == {"seconds": 2.0, "updates": 2, "steps": 20, "finished": False}
    assert "as many updates" not in simulate("--run", past, "--until", 1).stdout


def test_what_another_scheduler_needs_can_be_set(tmp_path: Path) -> None:
    compass = ["--run", past_run(tmp_path), "--set", "server_configs.scheduler=CompassScheduler"]
    result = simulate(*compass)
    assert result.exit_code == 2
    assert "such as --set 'server_configs.scheduler_kwargs={max_local_steps: 100}'" in result.stderr
    settings = "{max_local_steps: 10, min_local_steps: 2, speed_momentum: 0.9, latest_time_factor: 1.5}"
    assert simulate(*compass, "--set", f"server_configs.scheduler_kwargs={settings}").exit_code == 0


def test_absurd_durations_are_told_in_years(tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.yaml"
    one = ["--set", "server_configs.num_global_epochs=1", "--profiles", profiles]
    profiles.write_text("groups:\n  - {name: a, step_seconds: 1e9}\n")
    result = simulate(*one)
    assert "finished after virtual 3,169 years.\n" in result.stdout
    assert "1 update of 100 local steps arrived; 1 was folded into 1 version" in result.stdout
    steps = "client_configs.train_configs.num_local_steps"
    assert "more than 1,000,000 years.\n" in simulate(*one, "--set", f"{steps}=100000000").stdout
    refused = simulate(*one, "--set", f"{steps}=1{'0' * 400}")
    assert refused.exit_code == 2
    assert "more than 1,000,000,000 local steps can't be simulated." in refused.stderr


def test_what_an_own_aggregator_is_replaced_by_is_told(tmp_path: Path) -> None:
    server, clients = SmallFederation(
        tmp_path, server={"aggregator_path": "./own.py", "aggregator": "Own"}, files={"own.py": OWN}
    ).write()
    files = ["--server_config", server, "--client_config", clients]
    result = simulate(*files)
    assert "SyncScheduler and FedAvgAggregator in place of Own, 2 clients: finished" in result.stdout
    assert "Your aggregator is not simulated" in result.stderr
    assert json.loads(simulate(*files, *JSON).stdout)["aggregator"] == "FedAvgAggregator"


def test_what_cannot_be_simulated_is_no_failure_of_the_users_code(tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text("groups:\n  - {name: a, step_seconds: 1, down: [[1, 2]], down_every: 3}\n")
    result = simulate("--profiles", profiles)
    assert result.exit_code == 2
    assert "Make the windows in which clients are up longer than a dispatch takes." in result.stderr
    server, clients = SmallFederation(
        tmp_path, server={"scheduler_path": "./own.py", "scheduler": "Idle"}, files={"own.py": IDLE}
    ).write()
    own = simulate("--server_config", server, "--client_config", clients)
    assert own.exit_code == 4
    assert "the scheduler left nothing to wait for" in own.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--profiles", "nonsense"], 2, "There are no profiles called 'nonsense', and no such file."),
        (["--run", "/nowhere"], 2, "/nowhere is not a run directory"),
        (["--server_config", "/no.yaml"], 2, "There is no file /no.yaml."),
        (["--set", "server_configs.scheduler=Asinc"], 2, "There is no scheduler `Asinc`."),
        (["--set", "scheduler"], 2, "is not of the form KEY=VALUE"),
        (["--clients", "0"], 2, "0 is not in the range x>=1"),
        (["--until", "nan"], 2, "Expected a number of seconds above 0."),
        (["--until", "0"], 2, "Expected a number of seconds above 0."),
        (["--format", "yaml"], 2, "'yaml' is not one of"),
        (["--out", "/proc/nothing"], 7, "cannot be written"),
        (["--set", "server_configs.num_global_epoch=3"], 0, "Did you mean `num_global_epochs`?"),
    ],
)
def test_wrong_input_is_told_in_sentences(arguments: list[str], status: int, words: str) -> None:
    result = simulate(*arguments)
    assert result.exit_code == status
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_profile_file_is_told_with_line_and_key(tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text("groups:\n  - name: a\n    step_seconds: fast\n")
    result = simulate("--profiles", profiles)
    assert result.exit_code == 2
    assert f"{profiles}:3: error: groups[0].step_seconds: Expected a number of 0 to 1e+09" in result.stderr


def test_help_needs_no_torch() -> None:
    program = (
        "import sys\nfrom appfl_gc.cli.main import cli\n"
        "try: cli.main(['simulate', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--profiles" in done.stdout
