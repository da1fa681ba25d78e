"""The Globus Compute plane: real Executor, real agent, sandbox service."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import globus_sdk
import pytest

from appfl_gc.control.globus_compute.identity import Identity, LoginStatus, default_identity, identity_from
from appfl_gc.control.globus_compute.plane import PlaneSettings, Target
from appfl_gc.control.globus_compute.sending import sender
from appfl_gc.control.plane import CallState
from appfl_gc.protocol.errors import (
    DeliveryError,
    EndpointError,
    ErrorClass,
    LoginError,
    WorkerLostError,
)
from appfl_gc.sandbox.sandbox import Sandbox
from appfl_gc.sandbox.settings import SandboxSettings
from tests.globus_compute.calling import DEADLINE, QUICK, Caller, call_of, calling
from tests.globus_compute.sites import Site, running, wait_for
from tests.globus_compute.test_hostile_results import hostile_code, hostile_json, unfinished


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, environment: None) -> Iterator[Site]:
    site = Site("plane", tmp_path_factory.mktemp("plane"))
    with running(site):
        yield site


@pytest.fixture
def caller(site: Site) -> Iterator[Caller]:
    with calling(site.endpoint_id) as caller:
        yield caller


@pytest.fixture
def kind_again(sandbox: Sandbox) -> Iterator[None]:
    """No fault outlives its test."""
    yield
    sandbox.faults.clear()


def sdk_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name != "Thread-1 (__atexit)"]


def test_calls_are_answered_and_tell_how_far_they_are(caller: Caller, tmp_path: Path) -> None:
    assert caller.hello().result(DEADLINE).values["torch"] is True
    held = caller.held(tmp_path, "B")
    wait_for(lambda: CallState.RUNNING in caller.states("B"))
    (tmp_path / "go").touch()
    assert held.result(DEADLINE).values["sample_size"] == 1
    assert caller.states("B") == [CallState.SENDING, CallState.WAITING_FOR_ENDPOINT, CallState.RUNNING]


def test_a_task_group_a_round(caller: Caller, sandbox: Sandbox) -> None:
    caller.hello().result(DEADLINE)
    group = caller.plane.task_group(call_of("A", 0))
    assert uuid.UUID(group) and group == caller.plane.task_group(call_of("B", 0))
    assert group != caller.plane.task_group(call_of("A", 1))


@pytest.mark.chaos
def test_thirty_rounds_leave_no_thread_and_no_connection(site: Site, sandbox: Sandbox) -> None:
    wait_for(lambda: sandbox.state()["amqp_connections"]["clients"] == 0)
    before = len(sdk_threads())
    counts = []
    with calling(site.endpoint_id, replace(QUICK, pushed_pause_seconds=1.0)) as caller:
        for caller.round in range(30):
            for future in [caller.hello(client) for client in "ABCD"]:
                future.result(DEADLINE)
            counts.append(len(sdk_threads()))
        wait_for(lambda: sandbox.state()["amqp_connections"]["clients"] == 1)
        assert max(counts[-5:]) <= max(counts[:5]) + 1
    wait_for(lambda: sandbox.state()["amqp_connections"]["clients"] == 0)
    wait_for(lambda: len(sdk_threads()) <= before)


def test_four_times_three_megabytes_at_once_go_in_requests_that_fit(
    caller: Caller, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller.hello().result(DEADLINE)
    monkeypatch.setattr(sender, "GATHER", 2.0)  # what comes slowly on a busy machine is still one round
    before = _submits(sandbox)
    futures = [caller.hello(client, payload_bytes=3_000_000) for client in "ABCD"]
    for future in futures:
        assert future.result(DEADLINE).values["torch"] is True
    sent = _submits(sandbox)[len(before) :]
    # Two of 4 MB of text fit into each; the SDK's thread may take the first one before it sees the second.
    assert set(sent) == {200} and 2 <= len(sent) < 4


def test_a_service_that_takes_less_than_configured_gets_smaller_requests(
    site: Site, sandbox: Sandbox
) -> None:
    with calling(site.endpoint_id, replace(QUICK, request_limit_bytes=100_000_000)) as caller:
        futures = [caller.hello(client, payload_bytes=3_000_000) for client in "ABCD"]
        for future in futures:
            assert future.result(DEADLINE).values["torch"] is True


def test_a_call_that_fits_into_no_request_is_not_sent(caller: Caller, site: Site, sandbox: Sandbox) -> None:
    before = _submits(sandbox)
    with pytest.raises(DeliveryError) as caught:
        caller.hello("A", payload_bytes=7_500_000).result(DEADLINE)
    assert _submits(sandbox) == before
    assert caught.value.error_class is ErrorClass.PROTOCOL
    assert "10,000,000" in str(caught.value) and "inline_limit_bytes" in caught.value.hint
    assert f"client A, endpoint {site.endpoint_id}" in caught.value.message


@pytest.mark.usefixtures("kind_again")
@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_refuses_for_a_while_fails_no_call(
    caller: Caller, sandbox: Sandbox, status: int
) -> None:
    caller.hello().result(DEADLINE)
    sandbox.faults.fail_next(4, status)
    assert caller.hello().result(DEADLINE).values["torch"] is True
    assert ("fewer requests" if status == 429 else "Trying again") in caller.details()


@pytest.mark.usefixtures("kind_again")
def test_a_refused_request_fails_its_calls_only_and_the_next_goes_through(
    caller: Caller, sandbox: Sandbox, tmp_path: Path, site: Site
) -> None:
    running_call = caller.held(tmp_path, "A")
    wait_for(lambda: (tmp_path / "held").exists())
    sandbox.faults.fail_next(1, 403, "/submit")
    with pytest.raises(EndpointError) as caught:
        caller.hello("B").result(DEADLINE)
    assert f"client B, endpoint {site.endpoint_id}" in caught.value.message and caught.value.hint
    after = caller.hello("C")
    (tmp_path / "go").touch()
    assert running_call.result(DEADLINE).values["sample_size"] == 1
    assert after.result(DEADLINE).values["torch"] is True


@pytest.mark.chaos
def test_an_amqp_drop_loses_nothing(caller: Caller, sandbox: Sandbox, tmp_path: Path) -> None:
    held = caller.held(tmp_path)
    wait_for(lambda: (tmp_path / "held").exists())
    sandbox.faults.drop_amqp()
    (tmp_path / "go").touch()
    assert held.result(DEADLINE).values["sample_size"] == 1
    assert caller.hello().result(DEADLINE).values["torch"] is True


@pytest.mark.usefixtures("kind_again")
def test_results_are_polled_where_amqp_is_refused(site: Site, sandbox: Sandbox) -> None:
    sandbox.faults.refuse_amqp(["clients"])
    with calling(site.endpoint_id) as caller:
        begin = time.monotonic()
        for caller.round in range(2):
            caller.hello().result(DEADLINE)
        assert time.monotonic() - begin < 40
        assert sandbox.state()["amqp_connections"]["clients"] == 0
        assert "polled over HTTPS" in caller.details()


@pytest.mark.usefixtures("kind_again")
def test_the_configured_amqp_port_is_the_one_that_is_tried(site: Site, sandbox: Sandbox) -> None:
    port = sandbox.description.amqp_ports["clients-443"]
    sandbox.faults.refuse_amqp(["clients"])
    with calling(site.endpoint_id, replace(QUICK, amqp_port=port)) as caller:
        caller.hello().result(DEADLINE)
        wait_for(lambda: sandbox.state()["amqp_connections"]["clients-443"] == 1)


@pytest.mark.usefixtures("kind_again")
def test_a_push_that_dies_mid_run_goes_on_by_polling(
    caller: Caller, sandbox: Sandbox, tmp_path: Path
) -> None:
    held = caller.held(tmp_path)
    wait_for(lambda: (tmp_path / "held").exists())
    sandbox.faults.refuse_amqp(["clients"])
    (tmp_path / "go").touch()
    assert held.result(DEADLINE).values["sample_size"] == 1


@pytest.mark.chaos
def test_a_killed_user_endpoint_ends_its_calls_as_lost(site: Site, tmp_path: Path) -> None:
    with calling(site.endpoint_id, replace(QUICK, lost_after_seconds=8.0)) as caller:
        held = caller.held(tmp_path)
        wait_for(lambda: (tmp_path / "held").exists())
        for process in site.user_endpoints:
            process.send_signal(signal.SIGKILL)
        with pytest.raises(WorkerLostError) as caught:
            held.result(DEADLINE)
        assert f"client A, endpoint {site.endpoint_id}, task " in caught.value.message
        assert caught.value.hint
        # Its worker, a fork, holds the connection to the queue; the broker may hand the call to the next one.
        os.kill(int((tmp_path / "held").read_text()), signal.SIGKILL)
        (tmp_path / "go").touch()
        assert caller.hello().result(DEADLINE).values["torch"] is True


def test_a_killed_worker_is_a_lost_worker(caller: Caller, site: Site) -> None:
    with pytest.raises(WorkerLostError, match=r"worker was lost.*client A, endpoint"):
        caller.work("os._exit(1)").result(DEADLINE)
    site.stop()  # this engine is broken for good
    site.start_again()


def test_a_call_queued_while_the_endpoint_is_stopped_is_answered_after_its_start(
    site: Site, sandbox: Sandbox
) -> None:
    site.stop()
    with calling(site.endpoint_id) as caller:
        queued = caller.hello()
        wait_for(lambda: CallState.WAITING_FOR_ENDPOINT in caller.states())
        site.start_again()
        assert queued.result(DEADLINE).values["torch"] is True


def test_an_endpoint_that_stays_away_ends_the_call(site: Site) -> None:
    site.stop()
    try:
        with (
            calling(site.endpoint_id, replace(QUICK, lost_after_seconds=2.0)) as caller,
            pytest.raises(DeliveryError, match="was offline for") as caught,
        ):
            caller.hello().result(DEADLINE)
        assert "endpoint start" in caught.value.hint
    finally:
        site.start_again()


def test_an_unknown_endpoint_names_client_and_endpoint(environment: None) -> None:
    nowhere = str(uuid.uuid4())
    with calling(nowhere) as caller, pytest.raises(EndpointError) as caught:
        caller.hello("D").result(DEADLINE)
    assert f"client D, endpoint {nowhere}" in caught.value.message and caught.value.hint


def test_another_identity_is_refused_and_ours_goes_on(
    site: Site, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sandbox.add_identity("stranger")
    monkeypatch.setenv("STRANGER_CLIENT_ID", other.client_id)
    monkeypatch.setenv("STRANGER_CLIENT_SECRET", other.client_secret)
    targets = {
        "A": Target(site.endpoint_id, default_identity()),
        "B": Target(site.endpoint_id, identity_from("STRANGER", [])),
    }
    with calling(targets) as caller:
        stranger, ours = caller.hello("B"), caller.hello("A")
        with pytest.raises(EndpointError) as caught:
            stranger.result(DEADLINE)
        assert ours.result(DEADLINE).values["torch"] is True
        assert caller.plane.task_group(call_of("A", 0)) != caller.plane.task_group(call_of("B", 0))
    assert "refuses" in caught.value.message and "client B" in caught.value.message
    assert other.client_secret not in str(caught.value)


def test_a_configuration_that_the_schema_refuses_does_not_fail_another_lane(site: Site) -> None:
    targets = {
        "A": Target(site.endpoint_id, default_identity()),
        "B": Target(site.endpoint_id, default_identity(), {"no_such_option": 1}),
    }
    with calling(targets) as caller:
        refused, fine = caller.hello("B"), caller.hello("A")
        with pytest.raises(EndpointError, match="no_such_option"):
            refused.result(DEADLINE)
        assert fine.result(DEADLINE).values["torch"] is True


def test_two_failed_starts_stop_the_endpoint(environment: None, tmp_path: Path, sandbox: Sandbox) -> None:
    site = Site("broken", tmp_path)
    with running(site):
        template = tmp_path / "broken" / "user_config_template.yaml.j2"
        template.write_text(template.read_text() + "\nmore: {{ nothing }}\n")
        with calling(site.endpoint_id) as caller:
            with pytest.raises(DeliveryError, match="'nothing' is undefined") as first:
                caller.hello().result(DEADLINE)
            assert first.value.error_class is ErrorClass.START_FAILED
            with pytest.raises(EndpointError, match=r"twice in a row.*It was stopped"):
                caller.hello().result(DEADLINE)
            submits = len(_submits(sandbox))
            with pytest.raises(EndpointError, match="twice in a row"):
                caller.hello("B").result(DEADLINE)
            assert len(_submits(sandbox)) == submits
        wait_for(lambda: not any(process.is_running() for process in site.processes))


def test_close_waits_for_nobody(site: Site, tmp_path: Path) -> None:
    with calling(site.endpoint_id) as caller:
        held = caller.held(tmp_path)
        wait_for(lambda: (tmp_path / "held").exists())
        begin = time.monotonic()
        caller.plane.close()
        assert time.monotonic() - begin < 5
        with pytest.raises(DeliveryError, match="run is ending"):
            held.result(0)
        with pytest.raises(DeliveryError, match="run is ending"):
            caller.hello().result(0)
    (tmp_path / "go").touch()


@pytest.mark.usefixtures("kind_again")
@pytest.mark.parametrize("amqp", ["fine", "refused"])
def test_the_process_ends_promptly_with_calls_open(
    site: Site, tmp_path: Path, sandbox: Sandbox, amqp: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom tests.globus_compute.calling import calling\n"
        f"with calling({site.endpoint_id!r}) as caller:\n"
        f"    caller.held(Path({str(tmp_path)!r}))\n"
        "    caller.hello('B')\n"
        "    sys.stdin.readline()\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    )
    try:
        wait_for(lambda: (tmp_path / "held").exists())
        if amqp == "refused":
            sandbox.faults.refuse_amqp(["clients"])
            time.sleep(1)  # into the SDK's pauses between attempts
        begin = time.monotonic()
        process.communicate(b"\n", timeout=DEADLINE)
        assert time.monotonic() - begin < 8 and process.returncode == 0
    finally:
        process.kill()
        (tmp_path / "go").touch()


ESCAPES = "\x1b[2J\x1b]0;hostile\x07"


@pytest.mark.parametrize("way", ["push", "poll"])
def test_hostile_results_run_nowhere_and_print_nothing(
    site: Site,
    sandbox: Sandbox,
    tmp_path: Path,
    way: Literal["push", "poll"],
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    marker = tmp_path / "executed"
    details = {"python_version": ESCAPES, "dill_version": ESCAPES, "endpoint_id": ESCAPES, "os": ESCAPES}
    texts = [*hostile_code(marker), *hostile_json()]
    with calling(site.endpoint_id, replace(QUICK, results=way)) as caller:
        held = caller.held(tmp_path)
        wait_for(lambda: (tmp_path / "held").exists())
        for text, failed in [(text, failed) for text in texts for failed in (False, True)]:
            before = set(unfinished(sandbox, site))
            call = caller.hello("B")
            wait_for(lambda: len(set(unfinished(sandbox, site)) - before) == 1)  # noqa: B023
            (task,) = set(unfinished(sandbox, site)) - before
            sandbox.inject_result(task, ESCAPES + text if failed else text, failed, details)
            with pytest.raises(DeliveryError) as caught:
                call.result(DEADLINE)
            message = str(caught.value)
            assert "client B" in message and site.endpoint_id in message and task in message
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", message)
        (tmp_path / "go").touch()
        assert held.result(DEADLINE).values["sample_size"] == 1
        _reload_by_the_sdk(sandbox, caller)
    assert not marker.exists()
    assert not [warning for warning in recwarn.list if "hostile" in str(warning.message)]
    assert "hostile" not in "".join(capfd.readouterr())


def _reload_by_the_sdk(sandbox: Sandbox, caller: Caller) -> None:
    """The same tasks over the SDK's own way to load them again."""
    (lane,) = {id(lane): lane for lane in caller.plane._lane_of.values()}.values()
    assert lane.executor is not None
    futures = list(lane.executor.reload_tasks())
    assert len(futures) > 5
    for future in futures:
        if future.exception(DEADLINE) is None:
            assert type(future.result()).__name__ == "SiteText"


class LaterLogin(Identity):
    """An identity that lacks a login until the test says so."""

    def __init__(self) -> None:
        self.logged_in = threading.Event()
        self._application = default_identity()

    waits_for_login = True
    hint = "Run `appfl-gc login`."

    def describe(self) -> str:
        return "the login of this test"

    def app(self) -> Any:
        return self._application.app() if self.logged_in.is_set() else _Refusing()

    def login_status(self) -> LoginStatus:
        return LoginStatus(not self.logged_in.is_set(), True, None)


class _Refusing(globus_sdk.ClientApp):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("test", client_id="none", client_secret="none")

    def get_authorizer(self, resource_server: str, *, skip_error_handling: bool = False) -> Any:
        raise LoginError("There is no login.")


def test_a_missing_login_is_waited_for_and_holds_up_nobody_else(site: Site) -> None:
    later = LaterLogin()
    targets = {
        "A": Target(site.endpoint_id, default_identity()),
        "B": Target(site.endpoint_id, later),
    }
    with calling(targets) as caller:
        waiting = caller.hello("B")
        assert caller.hello("A").result(DEADLINE).values["torch"] is True
        wait_for(lambda: CallState.WAITING_FOR_LOGIN in caller.states("B"))
        assert "appfl-gc login" in caller.details() and not waiting.done()
        later.logged_in.set()
        assert waiting.result(DEADLINE).values["torch"] is True


@pytest.mark.chaos
def test_the_services_rate_limit_is_kept_and_its_refusals_are_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = SandboxSettings(requests=5, requests_seconds=2.0)
    with Sandbox.start(tmp_path / "sandbox", limits) as strict:
        for name, value in strict.environment.items():
            monkeypatch.setenv(name, value)
        site = Site("strict", tmp_path)
        with running(site):
            with calling(site.endpoint_id, PlaneSettings(requests=4, requests_seconds=2.1)) as caller:
                _many_rounds_at_once(caller)
            assert 429 not in _statuses(strict)
            with calling(site.endpoint_id) as caller:
                _many_rounds_at_once(caller)
            assert 429 in _statuses(strict)


def test_a_place_that_counts_as_occupied_is_waited_for(site: Site, sandbox: Sandbox, tmp_path: Path) -> None:
    # What an agent says for three heartbeats after its user endpoint was killed.
    said = "Unable to start: Another instance of this endpoint is running. (Perhaps on another login node?)"
    with calling(site.endpoint_id, replace(QUICK, again_seconds=0.5)) as caller:
        held = caller.held(tmp_path)
        wait_for(lambda: (tmp_path / "held").exists())
        before = set(unfinished(sandbox, site))
        call = caller.hello("B")
        wait_for(lambda: len(set(unfinished(sandbox, site)) - before) == 1)
        (task,) = set(unfinished(sandbox, site)) - before
        sandbox.inject_result(task, said, True, {})
        (tmp_path / "go").touch()
        assert call.result(DEADLINE).values["working_directory"]
        assert held.result(DEADLINE)
        assert any("still counts a user endpoint that was killed" in one.detail for one in caller.heard)


def _many_rounds_at_once(caller: Caller) -> None:
    futures = []
    for caller.round in range(5):
        futures += [caller.hello(client) for client in "ABCD"]
    for future in futures:
        assert future.result(DEADLINE).values["torch"] is True


def _statuses(sandbox: Sandbox) -> set[int]:
    return {status for _, _, _, status in sandbox.state()["requests"]}


def _submits(sandbox: Sandbox) -> list[int]:
    return [status for _, _, path, status in sandbox.state()["requests"] if path.endswith("/submit")]
