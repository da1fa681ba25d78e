from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import appfl_gc.runner
from appfl_gc.cli import run_display
from appfl_gc.cli.exit_codes import ExitCode
from appfl_gc.cli.run import main, run_command
from appfl_gc.protocol.errors import ErrorReport, NotSupportedError
from appfl_gc.runner.events import Outcome, RunEvent
from tests.report.sample_run import BUG, LOST, RUN_DIR, finished, started, whole_run

EXAMPLES = Path(__file__).parents[2] / "examples"
SERVER = EXAMPLES / "resources/config_gc/mnist/server_fedcompass.yaml"
CLIENTS = EXAMPLES / "resources/config_gc/mnist/clients.yaml"
FILES = ["--server_config", str(SERVER), "--client_config", str(CLIENTS)]


@dataclass
class RunStub:
    """Stands for ``appfl_gc.runner.api``: tells ``events`` and returns; keeps what it was called with."""

    events: Sequence[RunEvent] = field(default_factory=whole_run)
    outcome: Outcome = Outcome.FINISHED
    error: ErrorReport | None = None
    raises: BaseException | None = None
    prints: str = ""
    called: dict[str, Any] = field(default_factory=dict)

    def run(self, server_config: Path, client_config: Path, **options: Any) -> object:
        self.called.update(options, server_config=server_config, client_config=client_config)
        if self.prints:
            print(self.prints)
        for event in self.events:
            for callback in options["callbacks"]:
                callback.on_event(event)
        if self.raises is not None:
            raise self.raises
        return types.SimpleNamespace(outcome=self.outcome, error=self.error)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> RunStub:
    stub = RunStub()
    monkeypatch.setitem(sys.modules, "appfl_gc.runner.api", stub)  # type: ignore[arg-type]
    monkeypatch.setattr(appfl_gc.runner, "api", stub, raising=False)
    monkeypatch.setattr(run_display, "login_node_warning", lambda *_: None)
    monkeypatch.chdir(EXAMPLES)
    return stub


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(run_command, list(arguments))


def test_without_files_the_examples_below_the_working_directory_are_taken(api: RunStub) -> None:
    assert invoke().exit_code == 0
    assert (Path(api.called["server_config"]).resolve(), Path(api.called["client_config"]).resolve()) == (
        SERVER,
        CLIENTS,
    )


def test_without_files_and_examples_it_says_what_to_do(
    api: RunStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke()
    assert result.exit_code == ExitCode.CONFIGURATION
    assert "--server_config is missing" in result.stderr and "Hint:" in result.stderr
    assert api.called == {}


@pytest.mark.parametrize("spelling", ["_", "-"])
def test_every_option_reaches_the_run(api: RunStub, spelling: str, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"")
    result = invoke(
        f"--server{spelling}config", str(SERVER), f"--client{spelling}config", str(CLIENTS),
        f"--enable{spelling}server{spelling}val", "--local", "--init-model", str(model),
        "--set", "server_configs.num_global_epochs=2", "--set", "server_configs.device=cpu",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    called = api.called
    assert (called["server_config"], called["client_config"]) == (SERVER, CLIENTS)
    assert (called["enable_server_val"], called["local"], called["strict"]) == (True, True, False)
    assert called["init_model"] == model
    assert called["overrides"] == ("server_configs.num_global_epochs=2", "server_configs.device=cpu")
    assert called["federation"].server_configs.num_global_epochs == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--set", "no-equals-sign"),
        ("--set", "=value"),
        ("--local-data", "Client1=get_data"),
        ("--local-data", "Client1=data.py:not-a-name"),
        ("--format", "xml"),
        ("--init-model", "/nowhere/model.safetensors"),
        ("--unknown",),
    ],
)
def test_a_wrong_option_is_told_before_anything_starts(api: RunStub, arguments: tuple[str, ...]) -> None:
    result = invoke(*FILES, *arguments)
    assert result.exit_code == ExitCode.CONFIGURATION
    assert arguments[0] in result.stderr
    assert api.called == {}


def test_a_wrong_configuration_ends_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("client_configs: {}\nserver_configs: [1]\n")
    (tmp_path / "c.yaml").write_text("clients: 5\n")
    program = (
        "import sys\nfrom appfl_gc.cli.run import run_command\n"
        "try: run_command.main(sys.argv[1:])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules, 'globus_compute_sdk' in sys.modules)\n"
    )
    arguments = ["--server_config", str(tmp_path / "s.yaml"), "--client_config", str(tmp_path / "c.yaml")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.stdout == "2 False False\n"
    assert "s.yaml:2" in done.stderr and "c.yaml:1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("outcome", "error", "code"),
    [
        (Outcome.FINISHED, None, ExitCode.FINISHED),
        (Outcome.PARTIAL, None, ExitCode.PARTIAL),
        (Outcome.INTERRUPTED, None, ExitCode.INTERRUPTED),
        (Outcome.FAILED, BUG, ExitCode.USER_CODE),
        (Outcome.FAILED, LOST, ExitCode.INFRASTRUCTURE),
    ],
)
@pytest.mark.parametrize("output_format", ["text", "json"])
def test_the_exit_code_says_how_it_ended(
    api: RunStub, outcome: Outcome, error: ErrorReport | None, code: ExitCode, output_format: str
) -> None:
    api.outcome, api.error = outcome, error
    api.events = [started(), finished(outcome, error=error)]
    result = invoke(*FILES, "--format", output_format)
    assert result.exit_code == code
    if output_format == "json":
        assert json.loads(result.stdout.splitlines()[-1])["exit_code"] == code


def test_a_failure_shows_message_frames_and_hint_and_its_trace_with_debug(api: RunStub) -> None:
    api.outcome, api.error, api.events = Outcome.FAILED, BUG, [started(), finished(Outcome.FAILED, 0, BUG)]
    plain = invoke(*FILES)
    for part in (f"Error: {BUG.message}", "at dataset.py:12 in get_data", "Hint: Check the path."):
        assert part in plain.stderr
    assert BUG.trace not in plain.output
    assert BUG.trace in invoke(*FILES, "--debug").stderr


def test_text_is_plain_lines_and_a_summary_when_it_is_not_a_terminal(api: RunStub) -> None:
    result = invoke(*FILES)
    assert "[0:00:00] Round 1 of 3" in result.stdout
    assert "Finished after 3 of 3 rounds" in result.stdout
    assert "\x1b" not in result.output


def test_quiet_leaves_the_summary(api: RunStub) -> None:
    result = invoke(*FILES, "-q")
    assert "Round 1" not in result.stdout and "Finished after 3" in result.stdout


def test_an_interrupted_run_says_how_to_go_on(api: RunStub) -> None:
    api.outcome, api.events = Outcome.INTERRUPTED, [started(), finished(Outcome.INTERRUPTED, 1)]
    result = invoke(*FILES)
    assert f"  appfl-gc resume {RUN_DIR}\n" in result.stdout


def test_a_second_ctrl_c_says_where_the_files_are(api: RunStub) -> None:
    api.raises, api.events = KeyboardInterrupt(), [started()]
    result = invoke(*FILES)
    assert result.exit_code == ExitCode.INTERRUPTED
    assert f"Stopped. What was saved until then is in {RUN_DIR}" in result.stdout


def test_json_keeps_stdout_for_json_whatever_else_prints(api: RunStub) -> None:
    api.prints = "noise of a user's file"
    result = invoke(*FILES, "--format", "json")
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["event"] for line in (objects[0], objects[-1])] == ["run_started", "run_finished"]
    assert len(objects) == len(api.events)
    assert api.prints in result.stderr and "Round 1 of 3" in result.stderr


def test_json_of_a_wrong_configuration_has_every_diagnostic(api: RunStub, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("clients: 5\n")
    result = invoke(
        "--server_config", str(SERVER), "--client_config", str(tmp_path / "c.yaml"), "--format", "json"
    )
    (line,) = [json.loads(text) for text in result.stdout.splitlines()]
    assert (line["event"], line["exit_code"]) == ("error", ExitCode.CONFIGURATION)
    assert line["errors"][0]["file"].endswith("c.yaml") and line["errors"][0]["line"] == 1


def test_json_of_a_run_that_raises_ends_with_the_error(api: RunStub) -> None:
    api.raises, api.events = NotSupportedError("A is not supported yet.", "Use B."), [started()]
    result = invoke(*FILES, "--format", "json")
    last = json.loads(result.stdout.splitlines()[-1])
    assert (result.exit_code, last["event"], last["exit_code"]) == (2, "error", 2)
    assert last["errors"][0]["message"] == "A is not supported yet."
    assert "Error: A is not supported yet.\nHint: Use B." in result.stderr


def test_a_login_node_is_told_of_local_clients_only(api: RunStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_display, "login_node_warning", lambda *_: "This is a login node.")
    assert "This is a login node." in invoke(*FILES).stderr
    api.called.clear()
    uuid = "clients.0.endpoint_id=01234567-89ab-4def-8123-456789abcdef"
    other = uuid.replace("clients.0", "clients.1")
    result = invoke(*FILES, "--set", uuid, "--set", other)
    assert api.called or result.exit_code == ExitCode.CONFIGURATION
    assert "This is a login node." not in result.stderr


def test_a_script_runs_the_same_command_with_its_own_defaults(
    api: RunStub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py", "--plain", "--client_config", str(CLIENTS)])
    with pytest.raises(SystemExit) as ended:
        main(SERVER, tmp_path / "absent.yaml")
    assert ended.value.code == 0
    assert (api.called["server_config"], api.called["client_config"]) == (SERVER, CLIENTS)


def test_json_lines_are_alone_on_the_real_stdout_even_when_a_process_prints() -> None:
    root = str(Path(__file__).parents[2])
    program = TERMINAL_PROGRAM.format(
        root=root,
        inside="__import__('os').system('echo noise')",
        arguments=[*FILES, "--format", "json", "-q"],
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert (events[0], events[-1]) == ("run_started", "run_finished")
    assert "noise" in done.stderr


def on_a_terminal(program: str) -> tuple[str, int]:
    """Run Python code with stdout on a pseudo-terminal; what it showed and its exit status."""
    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen([sys.executable, "-c", program], stdout=writer, stderr=writer, env=environment)
    os.close(writer)
    shown = b""
    try:
        while chunk := os.read(reader, 65_536):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    os.close(reader)
    return shown.decode(), process.wait()


TERMINAL_PROGRAM = """
import sys, types
sys.path.insert(0, {root!r})
from tests.report.sample_run import whole_run, finished
from appfl_gc.runner.events import Outcome
def run(server_config, client_config, *, callbacks, **_):
    for event in whole_run():
        for callback in callbacks:
            callback.on_event(event)
        {inside}
    return types.SimpleNamespace(outcome=Outcome.FINISHED, error=None)
sys.modules["appfl_gc.runner.api"] = types.SimpleNamespace(run=run)
import appfl_gc.runner
appfl_gc.runner.api = sys.modules["appfl_gc.runner.api"]
from appfl_gc.cli.run import run_command
run_command.main({arguments!r})
"""


@pytest.mark.parametrize(
    ("inside", "arguments", "live", "code"),
    [
        ("pass", [], True, ExitCode.FINISHED),
        ("raise KeyboardInterrupt", [], True, ExitCode.INTERRUPTED),
        ("raise ZeroDivisionError", [], True, ExitCode.INTERNAL),
        ("pass", ["--plain"], False, ExitCode.FINISHED),
    ],
)
def test_a_terminal_gets_the_live_display_and_is_restored(
    inside: str, arguments: list[str], live: bool, code: ExitCode
) -> None:
    root = str(Path(__file__).parents[2])
    shown, status = on_a_terminal(
        TERMINAL_PROGRAM.format(root=root, inside=inside, arguments=[*FILES, *arguments])
    )
    assert status == code, shown
    assert ("\x1b[?25l" in shown.replace("Loading torch", "")) or not live
    assert shown.rfind("\x1b[?25h") >= shown.rfind("\x1b[?25l")
    assert ("[0:00:00] Round 1 of 3" in shown) is not live
    assert ("after 3 of 3 rounds" in shown) is (code is ExitCode.FINISHED)
    assert "Traceback" not in shown


def test_tokens_are_named_and_the_names_reach_the_run(
    api: RunStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "very-secret")
    path = tmp_path / "token"
    path.write_text("very-secret")
    result = invoke(*FILES, "--compute_token", "MY_TOKEN", "--openid-token", str(path))
    assert result.exit_code == ExitCode.FINISHED, result.stderr
    assert (api.called["compute_token"], api.called["openid_token"]) == ("MY_TOKEN", str(path))
    assert "very-secret" not in result.output


@pytest.mark.parametrize("option", ["--compute_token", "--openid_token"])
def test_a_token_that_is_an_argument_is_refused_and_not_repeated(option: str, api: RunStub) -> None:
    result = invoke(*FILES, option, "Agx-very-secret", "--debug")
    assert result.exit_code == ExitCode.CONFIGURATION
    assert option in result.stderr and "never belongs on a command line" in result.stderr
    assert "Agx-very-secret" not in result.output
    assert api.called == {}
