"""Looking at endpoints and waiting for them, on a clock that stands still but for the pauses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from appfl_gc.config import load
from appfl_gc.control.globus_compute.endpoints.facts import EndpointState
from appfl_gc.protocol.errors import AppflGcError, DeliveryError, EndpointError, LoginError, UsageError
from appfl_gc.protocol.wire import Json
from appfl_gc.runner.events import EndpointRow, EndpointsChecked
from appfl_gc.runner.preflight import ClientSite, client_sites, wait_for_endpoints
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.run_directory import RunDirectory
from tests.small_federation import SmallFederation

A, B = "00000000-5a4d-4b0c-8000-00000000000a", "00000000-5a4d-4b0c-8000-00000000000b"
SCHEMA: dict[str, Json] = {"properties": {"queue": {"type": "string"}}, "required": ["account"]}


class World:
    """A clock, a service whose endpoints have the states that ``script`` gives for the time, and what was told."""

    def __init__(self, script: Callable[[str, float], str | Exception], schema: Json = None) -> None:
        self.now = 1000.0
        self.script = script
        self.schema = schema
        self.requests: list[tuple[float, str]] = []
        self.pauses: list[float] = []
        self.told: list[EndpointsChecked] = []
        self.stop_at = float("inf")
        self.waits_for_login = True

    @property
    def identity(self) -> World:
        return self

    def endpoint(self, endpoint_id: str) -> Mapping[str, Json]:
        self.requests.append((self.now, "describe"))
        return {"name": f"name of {endpoint_id[-1]}", "user_config_schema": self.schema}

    def endpoint_status(self, endpoint_id: str) -> Mapping[str, Json]:
        self.requests.append((self.now, "status"))
        answer = self.script(endpoint_id, self.now - 1000.0)
        if isinstance(answer, Exception):
            raise answer
        return {"status": answer}

    def pause(self, seconds: float) -> bool:
        if seconds:
            self.pauses.append(seconds)
        self.now += seconds
        return self.now - 1000.0 >= self.stop_at

    def wait(self, sites: Iterable[ClientSite], seconds: float = 60.0) -> bool:
        def tell(event: object) -> None:
            assert isinstance(event, EndpointsChecked)
            self.told.append(event)

        return wait_for_endpoints(list(sites), tell, self.pause, seconds, lambda: self.now)

    def site(self, client: str, endpoint: str = A, **config: Json) -> ClientSite:
        return ClientSite(
            client, endpoint, self, config, lambda path: f"clients.yaml:7: {'.'.join(map(str, path))}"
        )


def test_endpoints_that_are_online_cost_one_look_and_no_pause() -> None:
    world = World(lambda _, __: "online")
    assert world.wait([world.site("C1"), world.site("C2"), world.site("C3", B)])
    assert (world.pauses, len(world.told), len(world.requests)) == ([], 1, 4)
    rows = world.told[0].rows
    assert [(row.endpoint_id, row.clients) for row in rows] == [(A, ("C1", "C2")), (B, ("C3",))]
    assert {row.state for row in rows} == {EndpointState.ONLINE}


def test_it_waits_for_an_endpoint_that_comes_online_and_asks_for_that_one_alone() -> None:
    world = World(lambda endpoint, t: "online" if endpoint == A or t >= 12 else "offline")
    assert world.wait([world.site("C1"), world.site("C2", B)])
    assert [tuple(row.endpoint_id for row in event.waits_for) for event in world.told] == [(B,), ()]
    assert world.now - 1000.0 == 12.5
    # Soon at first, for an agent that has just been started, then every five seconds.
    assert [at - 1000.0 for at, what in world.requests if at > 1000.0 and what == "status"] == [
        0.5,
        1.5,
        3.5,
        7.5,
        12.5,
    ]


def test_while_nothing_changes_it_says_now_and_then_what_it_waits_for() -> None:
    world = World(lambda _, __: "offline")
    with pytest.raises(DeliveryError):
        world.wait([world.site("C1")], 300)
    assert 8 <= len(world.told) <= 12
    assert all(pause >= 5 for pause in world.pauses[4:-1])


def test_at_the_deadline_every_client_and_endpoint_is_named() -> None:
    world = World(lambda endpoint, _: "offline" if endpoint == A else "online")
    with pytest.raises(DeliveryError) as caught:
        world.wait([world.site("C1"), world.site("C2"), world.site("C3", B)], 60)
    text = caught.value.message
    assert type(caught.value) is DeliveryError
    assert f"Client C1: endpoint name of a ({A}) is offline after 60 s of waiting." in text
    assert "Client C2:" in text and "C3" not in text
    assert world.now - 1000.0 == 60.0
    assert "endpoint_wait_seconds" in caught.value.hint


def test_with_no_time_to_wait_it_looks_once() -> None:
    world = World(lambda _, __: "offline")
    with pytest.raises(DeliveryError, match="is offline"):
        world.wait([world.site("C1")], 0)
    assert world.pauses == [] and len(world.told) == 1


def test_an_endpoint_that_is_not_ours_ends_it_at_once_with_all_of_them_named() -> None:
    refused = EndpointError("The endpoint is not shared with a@b.org.", "Ask its owner.")
    world = World(lambda _, __: refused)
    with pytest.raises(EndpointError) as caught:
        world.wait([world.site("C1"), world.site("C2", B)])
    assert f"Client C1: endpoint {A}: {refused.message}" in caught.value.message
    assert f"Client C2: endpoint {B}" in caught.value.message
    assert caught.value.hint == "Ask its owner."
    assert world.pauses == [] and len(world.told) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [(LoginError("No login.", "appfl-gc login"), LoginError), (DeliveryError("No route."), DeliveryError)],
)
def test_a_login_and_the_service_are_waited_for(error: Exception, kind: type[AppflGcError]) -> None:
    passing = World(lambda _, t: error if t < 20 else "online")
    assert passing.wait([passing.site("C1")])
    lasting = World(lambda _, __: error)
    with pytest.raises(kind) as caught:
        lasting.wait([lasting.site("C1")])
    assert "Client C1" in caught.value.message and lasting.now - 1000.0 == 60.0


def test_an_application_whose_secret_is_refused_ends_it_at_once() -> None:
    world = World(lambda _, __: LoginError("Globus does not accept the secret."))
    world.waits_for_login = False
    with pytest.raises(LoginError, match=r"Client C1.*does not accept the secret"):
        world.wait([world.site("C1")])
    assert world.pauses == []


def test_an_interrupt_ends_the_wait() -> None:
    world = World(lambda _, __: "offline")
    world.stop_at = 12.5
    assert not world.wait([world.site("C1")])
    assert world.now - 1000.0 == 12.5


def test_a_configuration_that_the_endpoint_would_refuse_ends_it_with_its_line() -> None:
    world = World(lambda _, __: "online", SCHEMA)
    with pytest.raises(UsageError) as caught:
        world.wait([world.site("C1", account="x", queue=3), world.site("C2"), world.site("C3", account="y")])
    first, second = caught.value.message.splitlines()
    assert first.startswith("clients.yaml:7: queue: ") and "client C1" in first and "type string" in first
    assert "client C2" in second and "lacks `account`" in second


def test_many_endpoints_are_asked_for_their_status_only() -> None:
    world = World(lambda _, __: "online")
    sites = [world.site(f"C{n}", f"00000000-5a4d-4b0c-8000-{n:012d}") for n in range(100)]
    assert world.wait(sites)
    assert {what for _, what in world.requests} == {"status"}
    assert len(world.requests) == 100


def test_an_interrupt_is_seen_before_the_next_endpoint_is_asked_about() -> None:
    world = World(lambda _, __: "online")
    world.stop_at = 0.0
    assert not world.wait([world.site("C1"), world.site("C2", B)])
    assert world.requests == []


def test_each_identity_asks_for_itself() -> None:
    ours, theirs = World(lambda _, __: "online"), World(lambda _, __: EndpointError("Not shared."))
    with pytest.raises(EndpointError) as caught:
        ours.wait([ours.site("C1"), theirs.site("C2")])
    assert "Client C2" in caught.value.message and "C1" not in caught.value.message


def test_clients_come_from_the_files_with_the_lines_of_their_settings(tmp_path: Path) -> None:
    federation = SmallFederation(tmp_path)
    federation.client = {1: {"endpoint_id": B, "user_endpoint_config": {"account": "x", "queue": "debug"}}}
    server, clients = federation.write()
    world = World(lambda _, __: "online")
    (site,) = client_sites(load(server, clients), {"Client2": world})
    assert (site.client, site.endpoint_id) == ("Client2", B)
    assert site.user_endpoint_config == {"account": "x", "queue": "debug"}
    line = 1 + next(i for i, text in enumerate(clients.read_text().splitlines()) if "queue:" in text)
    assert site.place(("queue",)) == f"{clients}:{line}: clients[1].user_endpoint_config.queue"


def test_the_servers_log_has_the_endpoints(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, "run-1")
    recorder = Recorder(directory, None, [])
    rows = (
        EndpointRow(A, "polaris", ("C1", "C2"), EndpointState.ONLINE),
        EndpointRow(B, "", ("C3",), EndpointState.OFFLINE),
    )
    recorder.tell(EndpointsChecked(rows, 0.0, 300.0))
    recorder.close()
    text = directory.server_log.read_text()
    assert f"Endpoint {A} polaris of C1, C2: online." in text
    assert f"Endpoint {B} of C3: offline." in text
    assert "Waiting for 1 of them, at most 300 s." in text
