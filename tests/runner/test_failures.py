"""What goes wrong is told in the terms of the user's files, and costs no more than it must."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from appfl_gc.protocol.errors import ErrorClass, UserCodeError
from appfl_gc.runner.api import run
from appfl_gc.runner.events import ClientFailed, Outcome
from appfl_gc.runner.journal import read_journal
from appfl_gc.site.policy import ALLOWED_FILE
from tests.runner.conftest import Heard, train
from tests.small_federation import DATASET, MODEL, SmallFederation

DEADLINE = 90


def dataset_failing_for(client_id: int, statement: str) -> str:
    """The dataset file, with ``statement`` run for one client, on line 7 of it."""
    return DATASET.replace(
        "    generator =", f"    if client_id == {client_id}:\n        {statement}\n    generator =", 1
    )


def test_a_dataset_function_that_fails_ends_the_run_before_any_training(federation: SmallFederation) -> None:
    federation.dataset = dataset_failing_for(1, "open('/no/such/data')")
    result = train(federation)
    assert (result.outcome, result.rounds, result.model_path) == (Outcome.FAILED, 0, None)
    assert result.error is not None
    assert result.error.error_class is ErrorClass.USER
    assert re.match(
        r"Client Client2: The dataset load in \S*dataset\.py failed with .*FileNotFoundError in dataset\.py line 7",
        result.error.message,
    )
    assert "dispatch" not in {record.kind for record in read_journal(result.run_dir / "journal.jsonl")}


def test_a_wrong_optimiser_argument_shows_before_any_training(federation: SmallFederation) -> None:
    federation.clients = 1
    federation.train["optim_args"] = {"lrr": 0.1}
    result = train(federation)
    assert (result.outcome, result.rounds) == (Outcome.FAILED, 0)
    assert "SGD can't be made with lrr=0.1" in str(result.error)
    assert "dispatch" not in {record.kind for record in read_journal(result.run_dir / "journal.jsonl")}


def test_every_client_that_fails_is_told_at_once(federation: SmallFederation) -> None:
    federation.dataset = DATASET.replace("    generator =", "    raise KeyError('x')\n    generator =", 1)
    result = train(federation)
    assert "Client1" in str(result.error)
    assert "Client2" in str(result.error)


def test_a_model_without_floating_tensors_is_refused_before_anything_starts(
    federation: SmallFederation,
) -> None:
    federation.model = (
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.register_buffer('n', torch.zeros(3, dtype=torch.int64))\n"
    )
    with pytest.raises(UserCodeError, match="no floating tensor"):
        train(federation)


def test_nan_from_a_client_sets_it_aside_and_the_run_goes_on(federation: SmallFederation) -> None:
    federation.clients = 3
    federation.client[2] = {"train_configs": {"optim_args": {"lr": 1e38}}}
    heard = Heard()
    result = train(federation, heard=heard)
    assert result.outcome is Outcome.PARTIAL
    assert result.rounds == 2
    assert set(result.set_aside) == {"Client3"}
    error = result.set_aside["Client3"]
    assert error.error_class is ErrorClass.UPDATE_REFUSED
    assert "Client3" in error.message
    assert "layers." in error.message
    (failure,) = heard.of(ClientFailed)
    assert failure.final  # type: ignore[attr-defined]


def test_a_client_that_fails_last_in_its_round_gets_no_further_call(federation: SmallFederation) -> None:
    federation.clients = 3
    federation.rounds = 3
    federation.client[2] = {"train_configs": {"optim_args": {"lr": 1e38}}}
    result = train(federation)  # one worker: the third client always answers last
    assert result.outcome is Outcome.PARTIAL
    dispatched = [
        record.fields["round"]
        for record in read_journal(result.run_dir / "journal.jsonl")
        if record.kind == "dispatch" and record.fields["client"] == "Client3"
    ]
    assert dispatched == [1]


AGGREGATOR = """\
class Own:
    def aggregate(self, local_models, **kwargs):
        {body}
"""


@pytest.mark.parametrize("body", ["return 1 / 0", "raise SystemExit(3)", "return None"])
def test_an_aggregator_that_fails_ends_the_run_with_its_place(federation: SmallFederation, body: str) -> None:
    federation.clients = 1
    federation.files["aggregator.py"] = AGGREGATOR.format(body=body)
    federation.server |= {"aggregator": "Own", "aggregator_path": "./aggregator.py", "aggregator_kwargs": {}}
    result = train(federation)
    assert result.outcome is Outcome.FAILED
    assert result.error is not None
    assert result.error.error_class is ErrorClass.USER
    assert "Own" in result.error.message
    if body != "return None":
        assert result.error.frames == ("aggregator.py:3 in aggregate",)


def test_too_few_clients_end_the_run_with_what_was_trained(federation: SmallFederation) -> None:
    federation.train["optim_args"] = {"lr": 1e38}
    result = train(federation)
    assert result.outcome is Outcome.FAILED
    assert result.error is not None
    assert result.error.error_class is ErrorClass.UPDATE_REFUSED


def test_an_error_in_a_model_names_the_users_own_frames(federation: SmallFederation) -> None:
    federation.model = MODEL.replace("return self.layers(x)", "return self.layers(x) + self.missing")
    federation.server["fault_tolerance_configs"] = {"quorum": 1.0}
    result = train(federation)
    assert result.outcome is Outcome.FAILED
    assert result.error is not None
    assert result.error.error_class is ErrorClass.USER
    assert any(re.fullmatch(r"model\.py:\d+ in forward", frame) for frame in result.error.frames)
    assert "Traceback" not in str(result.error)
    assert "Traceback" in result.error.trace


def test_a_site_that_refuses_a_source_ends_the_run_with_its_name_and_hash(
    federation: SmallFederation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy" / "site.yaml"
    policy.parent.mkdir()
    policy.write_text(f"sources: listed\naudit: {tmp_path / 'audit.jsonl'}\n")
    monkeypatch.setenv("APPFL_GC_SITE_POLICY", str(policy))
    result = train(federation)
    assert (result.outcome, result.rounds) == (Outcome.FAILED, 0)
    assert result.error is not None
    assert result.error.error_class is ErrorClass.SOURCE_REFUSED
    hashes = set(re.findall(r"SHA-256 ([0-9a-f]{64})", result.error.message))
    assert len(hashes) == 3
    assert "dataset.py" in result.error.message
    assert '"decision": "refused"' in (tmp_path / "audit.jsonl").read_text()

    policy.with_name(ALLOWED_FILE).write_text("".join(f"{sha256} reviewed\n" for sha256 in hashes))
    assert train(federation).outcome is Outcome.FINISHED
    assert '"decision": "allowed"' in (tmp_path / "audit.jsonl").read_text()


def test_what_a_site_offers_by_name_needs_no_code(
    federation: SmallFederation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, own = tmp_path / "site.yaml", tmp_path / "own.py"
    own.write_text("\n".join((DATASET, federation.metric, MODEL)))
    policy.write_text(
        f"sources: none\ndatasets:\n  digits: {own}:load\nmetrics:\n  accuracy: {own}:accuracy\n"
        f"models:\n  net: {own}:Net\n"
    )
    monkeypatch.setenv("APPFL_GC_SITE_POLICY", str(policy))
    for number in range(2):
        kwargs = {"client_id": number, "samples": 32}
        federation.client[number] = {
            "data_configs": {"dataset_path": "site:digits", "dataset_kwargs": kwargs}
        }
    federation.train["metric_path"] = "site:accuracy"
    federation.rounds = 1
    server, clients = federation.write()
    refused = run(server, clients)
    assert refused.error is not None
    assert refused.error.error_class is ErrorClass.SOURCE_REFUSED
    assert "model.py" in refused.error.message

    server.write_text(
        server.read_text().replace("model_path: ./model.py", "model_path: site:net").replace("Net", "net")
    )
    result = run(server, clients)
    assert result.outcome is Outcome.FINISHED, result.error


def test_a_model_that_only_sites_know_is_told_by_the_server(federation: SmallFederation) -> None:
    federation.train["metric_path"] = "./metric.py"
    server, clients = federation.write()
    text = server.read_text().replace("model_path: ./model.py", "model_path: site:net")
    server.write_text(text)
    with pytest.raises(UserCodeError, match="The server needs the model"):
        run(server, clients)


def _wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the awaited event did not come")
        time.sleep(0.02)


def start_endless_run(federation: SmallFederation) -> tuple[subprocess.Popen[str], Path]:
    """A run in a process of its own, after its first round; returns it with its directory."""
    federation.rounds = 100_000
    server, clients = federation.write()
    command = [sys.executable, "-m", "appfl_gc.cli.main", "run", "--plain"]
    process = subprocess.Popen(
        [*command, "--server_config", str(server), "--client_config", str(clients)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=federation.directory,
    )
    output = federation.directory / "output"
    _wait_for(lambda: process.poll() is not None or any(output.glob("*/checkpoints/last.safetensors")))
    if process.poll() is not None:
        raise AssertionError(process.communicate()[0])
    return process, next(output.iterdir())


def test_a_batch_system_that_signals_twice_still_gets_a_clean_end(federation: SmallFederation) -> None:
    process, run_dir = start_endless_run(federation)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, text
    assert (run_dir / "model.safetensors").exists()


def test_ctrl_c_twice_stops_now(federation: SmallFederation) -> None:
    federation.server["val_data_configs"] = {"dataset_path": "./dataset.py", "dataset_name": "load_test"}
    federation.metric = (
        "import multiprocessing\nimport time\n\n\ndef accuracy(y_true, y_pred):\n"
        "    if multiprocessing.parent_process() is None:  # at the server\n"
        "        print('validating', flush=True)\n        time.sleep(600)\n    return 0.0\n"
    )
    server, clients = federation.write()
    command = [sys.executable, "-m", "appfl_gc.cli.main", "run", "--plain", "--server_config", str(server)]
    process = subprocess.Popen(
        [*command, "--client_config", str(clients)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert any("validating" in line for line in process.stdout)
    descendants = psutil.Process(process.pid).children(recursive=True)

    status = Path(f"/proc/{process.pid}/status")
    process.send_signal(signal.SIGINT)
    # Two signals at once may arrive as one: the second waits until the first is taken.
    _wait_for(lambda: re.search(r"ShdPnd:\s0+\n", status.read_text()) and "State:\tS" in status.read_text())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert list(federation.directory.glob("output/*/checkpoints/last.safetensors"))
    _, alive = psutil.wait_procs(descendants, timeout=DEADLINE)
    assert not alive


def test_ctrl_c_saves_everything_and_says_how_to_go_on(federation: SmallFederation) -> None:
    process, run_dir = start_endless_run(federation)
    descendants = psutil.Process(process.pid).children(recursive=True)
    assert descendants
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, text
    assert "Traceback" not in text
    assert f"appfl-gc resume {run_dir}" in text
    assert (run_dir / "model.safetensors").exists()
    _, alive = psutil.wait_procs(descendants, timeout=DEADLINE)
    assert not alive


def test_a_killed_runner_leaves_no_process(federation: SmallFederation) -> None:
    process, _ = start_endless_run(federation)
    descendants = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(DEADLINE)
    _, alive = psutil.wait_procs(descendants, timeout=DEADLINE)
    assert not alive
