"""The local control plane, with real worker processes and what user code does to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest

from appfl_gc.control.local import engine
from appfl_gc.control.local.engine import EngineSettings
from appfl_gc.control.local.plane import LocalPlane
from appfl_gc.control.plane import CallState, Progress
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import DeliveryError, ErrorClass, WorkerLostError
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reply import Reply
from appfl_gc.protocol.source import Source
from tests.family import below

DEADLINE = 120

Ask = Callable[..., "Future[Reply]"]


@pytest.fixture
def told() -> list[Progress]:
    """What the plane tells of its calls."""
    return []


@pytest.fixture
def plane(tmp_path: Path, told: list[Progress]) -> Iterator[LocalPlane]:
    settings = EngineSettings("ProcessPoolEngine", tmp_path, tmp_path / "site", tmp_path / "worker.log")
    plane = LocalPlane(["A", "B"], 2, settings, told.append)
    yield plane
    plane.close()


@pytest.fixture
def ask(plane: LocalPlane) -> Ask:
    """Call ``trainer.sample_size`` with a dataset function of this body."""

    def ask(body: str, client: str = "A") -> Future[Reply]:
        text = "import os, sys, time\n\ndef load():\n" + textwrap.indent(textwrap.dedent(body), "    ")
        source = Source("dataset", "load", "dataset.py", text)
        config = {"data_configs": {"dataset_kwargs": {}}, "model_configs": {}, "train_configs": {}}
        args = {"config": config, "sources": {"dataset": source.to_json()}}
        return plane.submit(Call(CallId("run", 0, client), "trainer.sample_size", args, nonce="n"))

    return ask


def worker_pids() -> set[int]:
    return {pid for pid, command in below().items() if "spawn_main" in command}


def test_a_call_is_answered_by_a_worker_process_that_stays(ask: Ask) -> None:
    pids = [
        ask("return [os.getpid()] * os.getpid(), None").result(DEADLINE).values["sample_size"]
        for _ in range(2)
    ]
    assert pids[0] == pids[1] != os.getpid()
    assert ask("return [0] * os.getpid(), None", client="B").result(DEADLINE).values["sample_size"] != pids[0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('no such file')", "ValueError"),
        ("sys.exit(3)", "sys.exit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("return [1, 2, 3]", "3 values"),
        ("x = 1", "nothing"),
    ],
)
def test_what_user_code_raises_is_a_reply_with_its_place(ask: Ask, body: str, message: str) -> None:
    reply = ask(body).result(DEADLINE)
    assert reply.error is not None
    assert reply.error.error_class is ErrorClass.USER
    assert message in reply.error.message
    if "raise" in body or "exit" in body:
        assert reply.error.frames == ("dataset.py:4 in load",)


def test_user_code_runs_in_the_engines_working_directory_and_leaves_no_trace(
    ask: Ask, tmp_path: Path
) -> None:
    changed = ask("os.environ['LEAK'] = '1'; os.chdir('/'); sys.path.insert(0, '/leak'); return [0], None")
    assert changed.result(DEADLINE).error is None
    clean = ask(
        """
        assert 'LEAK' not in os.environ and '/leak' not in sys.path
        return [0] * len(os.getcwd()), None
        """
    ).result(DEADLINE)
    assert clean.values["sample_size"] == len(str(tmp_path / "tasks_working_dir"))


def test_megabytes_of_prints_come_back_capped(ask: Ask, capfd: pytest.CaptureFixture[str]) -> None:
    reply = ask("print('z' * 5_000_000); os.write(1, b'native'); return [0], None").result(DEADLINE)
    assert reply.values["sample_size"] == 1
    assert sum(map(len, reply.log)) < 100_000
    assert "native" not in capfd.readouterr().out


def test_a_call_that_waits_for_its_slot_is_told_and_so_is_its_turn(ask: Ask, told: list[Progress]) -> None:
    first = ask("time.sleep(0.5); return [0], None")
    second = ask("return [0], None")
    other = ask("return [0], None", client="B")
    assert [one.state for one in told] == [CallState.WAITING_FOR_WORKER]
    first.result(DEADLINE)
    _wait_for(lambda: [one.state for one in told[1:]] == [CallState.RUNNING])
    second.result(DEADLINE)
    other.result(DEADLINE)
    ask("return [0], None").result(DEADLINE)
    assert len(told) == 2


def test_a_dead_worker_fails_its_call_only_and_is_replaced(ask: Ask, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    others = ask("return [0] * os.getpid(), None", client="B").result(DEADLINE).values["sample_size"]
    running = ask(f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    queued = ask("return [0], None")
    _wait_for(lambda: pid.exists() and pid.read_text() != "")
    os.kill(int(pid.read_text()), signal.SIGKILL)
    with pytest.raises(WorkerLostError, match="worker process ended before it replied"):
        running.result(DEADLINE)
    assert queued.result(DEADLINE).values["sample_size"] == 1
    assert ask("return [0] * os.getpid(), None", client="B").result(DEADLINE).values["sample_size"] == others


def test_os_exit_in_user_code_is_a_lost_worker(ask: Ask) -> None:
    with pytest.raises(WorkerLostError, match="Hint: What it wrote last is in"):
        ask("os._exit(1)").result(DEADLINE)
    assert ask("return [0], None").result(DEADLINE).values["sample_size"] == 1


def test_the_globus_compute_engine_on_request(tmp_path: Path) -> None:
    settings = EngineSettings("GlobusComputeEngine", tmp_path, tmp_path / "site", tmp_path / "worker.log")
    before = psutil.Process().children(recursive=True)
    plane = LocalPlane(["A"], 1, settings)
    try:
        reply = plane.submit(Call(CallId("run", 0, "A"), "site.hello", nonce="n")).result(120)
        assert reply.values["working_directory"] == str(tmp_path / "tasks_working_dir")
        workers = [child for child in psutil.Process().children(recursive=True) if child not in before]
    finally:
        plane.close()
    trackers = {pid for pid, command in below().items() if "resource_tracker" in command}
    _, alive = psutil.wait_procs([one for one in workers if one.pid not in trackers], timeout=DEADLINE)
    assert not alive


def test_an_engine_is_shut_down_once_however_many_threads_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Engine:
        shutdowns = 0

        def start(self, **_: object) -> None: ...

        def shutdown(self, **_: object) -> None:
            self.shutdowns += 1
            together.wait(DEADLINE)

    together, real = threading.Barrier(2), Engine()
    monkeypatch.setattr(engine, "_globus_compute_engine", lambda settings: real)
    settings = EngineSettings("GlobusComputeEngine", tmp_path, tmp_path / "site", tmp_path / "worker.log")
    ended = engine.LocalEngine(settings)
    first = threading.Thread(target=ended.kill)
    first.start()
    _wait_for(lambda: real.shutdowns == 1)
    ended.kill()
    together.wait(DEADLINE)
    first.join(DEADLINE)
    assert real.shutdowns == 1


def test_a_script_without_the_usual_guard_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from pathlib import Path
            from appfl_gc.control.local.engine import EngineSettings
            from appfl_gc.control.local.plane import LocalPlane
            from appfl_gc.protocol.call import Call
            from appfl_gc.protocol.identity import CallId

            print("script runs")
            home = Path({str(tmp_path)!r})
            plane = LocalPlane(["A"], 1, EngineSettings("ProcessPoolEngine", home, home / "site", home / "w.log"))
            print(plane.submit(Call(CallId("r", 0, "A"), "site.hello", nonce="n")).result({DEADLINE}).values["torch"])
            plane.close()
            """
        )
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=DEADLINE)
    assert done.stdout.splitlines() == ["script runs", "True"], done.stderr


def test_close_never_waits_for_user_code_and_leaves_no_process(plane: LocalPlane, ask: Ask) -> None:
    started = ask("return [0], None", client="B")
    started.result(DEADLINE)
    stuck = ask("import subprocess; subprocess.run(['sleep', '600'])")
    queued = ask("return [0], None")
    _wait_for(lambda: any("sleep" in command for command in below().values()))
    pids = worker_pids()
    plane.close()
    for future in (stuck, queued):
        with pytest.raises(DeliveryError):
            future.result(DEADLINE)
    _wait_for(lambda: not worker_pids() & pids)


def test_workers_die_with_a_runner_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "runner.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, time
            from pathlib import Path
            from appfl_gc.control.local.engine import EngineSettings
            from appfl_gc.control.local.plane import LocalPlane
            from appfl_gc.protocol.call import Call
            from appfl_gc.protocol.identity import CallId
            from appfl_gc.protocol.source import Source

            if __name__ == "__main__":
                home = Path({str(tmp_path)!r})
                settings = EngineSettings("ProcessPoolEngine", home, home / "site", home / "worker.log")
                plane = LocalPlane(["A"], 1, settings)
                text = "import os, time\\nfrom pathlib import Path\\ndef load():\\n"
                text += "    Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))\\n    time.sleep(600)"
                source = Source("dataset", "load", "d.py", text).to_json()
                args = {{"config": {{"data_configs": {{}}}}, "sources": {{"dataset": source}}}}
                plane.submit(Call(CallId("r", 0, "A"), "trainer.sample_size", args, nonce="n"))
                time.sleep(600)
            """
        )
    )
    runner = subprocess.Popen([sys.executable, str(script)])
    try:
        _wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
        worker = psutil.Process(int((tmp_path / "pid").read_text()))
        runner.send_signal(signal.SIGINT)
        os.kill(worker.pid, signal.SIGINT)
        runner.kill()
        runner.wait(DEADLINE)
        psutil.wait_procs([worker], timeout=DEADLINE)
        assert not worker.is_running()
    finally:
        runner.kill()


def _wait_for(condition: Callable[[], bool], deadline: float = DEADLINE) -> None:
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the awaited event did not come")
        time.sleep(0.02)
