"""The doctor's rows from facts, without any service."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from appfl_gc.config import load
from appfl_gc.control.globus_compute.endpoints.config_schema import Misfit, SchemaAnswer
from appfl_gc.control.globus_compute.endpoints.facts import EndpointFacts, EndpointState
from appfl_gc.control.globus_compute.following.amqp_probe import AmqpProbe
from appfl_gc.control.globus_compute.identity import LoginStatus
from appfl_gc.control.globus_compute.rest.service import Account, ServiceVersions
from appfl_gc.protocol.errors import DeliveryError, EndpointError, ErrorClass, LoginError
from appfl_gc.runner.doctor.endpoints import ConfigCheck, EndpointChecks, config_rows, endpoint_rows
from appfl_gc.runner.doctor.examination import examine
from appfl_gc.runner.doctor.logins import LoginFacts, login_rows
from appfl_gc.runner.doctor.network import results_row
from appfl_gc.runner.doctor.payloads import Limits, Sizes, file_store_row, limits_of, measure, size_rows
from appfl_gc.runner.doctor.row import Row, State, Subject
from appfl_gc.runner.doctor.stores import choices_of, store_rows
from appfl_gc.runner.doctor.versions import agent_rows, sdk_row
from tests.small_federation import SmallFederation

THING = Subject("thing")
ENDPOINT = "00000000-5a4d-4b0c-8000-000000000001"
POLARIS = "9a947ba5-f537-4681-acf3-cc66485aadec"
ACCOUNT = Account("1234", "ada@example.org", "Ada", "Example University", ("1234",))
RENEWS = LoginStatus(required=False, renews=True, seconds_left=3600.0 * 47)


def by_check(rows: object) -> dict[str, Row]:
    return {row.check: row for row in rows}  # type: ignore[attr-defined]


# Logins


def test_a_login_says_whose_it_is_and_how_long_it_lasts() -> None:
    rows = by_check(login_rows(THING, LoginFacts(ACCOUNT, RENEWS, 0.4)))
    assert rows["login"].finding == "ada@example.org (Example University)."
    assert "47 h more and is renewed" in rows["remaining life"].finding
    assert {row.state for row in rows.values()} == {State.OK}


@pytest.mark.parametrize("seconds", [None, 3600.0])
def test_a_token_that_is_not_renewed_is_a_warning(seconds: float | None) -> None:
    status = LoginStatus(required=False, renews=False, seconds_left=seconds)
    row = by_check(login_rows(THING, LoginFacts(ACCOUNT, status, 0.0)))["remaining life"]
    assert row.state is State.WARN and "appfl-gc login" in row.fix


def test_a_missing_login_is_all_that_is_said() -> None:
    missing = LoginError("There is no valid login.", "Run `appfl-gc login`.")
    status = LoginStatus(required=True, renews=False, seconds_left=None)
    (row,) = login_rows(THING, LoginFacts(missing, status, missing))
    assert (row.state, row.error_class, row.fix) == (State.FAIL, ErrorClass.LOGIN, "Run `appfl-gc login`.")


def test_a_token_that_tells_nobody_whose_it_is_is_not_a_failure() -> None:
    status = LoginStatus(required=False, renews=False, seconds_left=None)
    rows = by_check(login_rows(THING, LoginFacts(LoginError("A token for Auth is needed."), status, 0.0)))
    assert rows["login"].state is State.SKIPPED


@pytest.mark.parametrize(("ahead", "words"), [(95.0, "95 s behind"), (-95.0, "95 s ahead of")])
def test_a_wrong_clock_is_a_warning(ahead: float, words: str) -> None:
    row = by_check(login_rows(THING, LoginFacts(ACCOUNT, RENEWS, ahead)))["clock"]
    assert row.state is State.WARN and words in row.finding


# Endpoints


def endpoint(state: EndpointState = EndpointState.ONLINE, **more: object) -> dict[str, Row]:
    fields: dict[str, object] = {"ours": True, "allowed": None, "function_id": None, **more}
    facts = EndpointFacts(str(fields.pop("endpoint_id", ENDPOINT)), state, "Words.", "Do it.", name="one")
    return by_check(endpoint_rows(THING, EndpointChecks(facts, **fields)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (EndpointState.OFFLINE, ErrorClass.SERVICE),
        (EndpointState.NO_ANSWER, ErrorClass.SERVICE),
        (EndpointState.REFUSED, ErrorClass.ENDPOINT),
        (EndpointState.NO_LOGIN, ErrorClass.LOGIN),
        (EndpointState.BAD_LOGIN, ErrorClass.LOGIN),
    ],
)
def test_an_endpoint_that_takes_no_calls_fails_with_a_fix(state: EndpointState, kind: ErrorClass) -> None:
    row = endpoint(state)["status"]
    assert (row.state, row.error_class) == (State.FAIL, kind)
    assert row.fix


@pytest.mark.parametrize(
    ("ours", "words"),
    [(True, "owned by"), (False, "shared with"), (None, "owned by this identity or shared")],
)
def test_an_online_endpoint_says_whose_it_is(ours: bool | None, words: str) -> None:
    assert words in endpoint(ours=ours)["status"].finding


def test_who_must_start_an_endpoint_is_told() -> None:
    offline = EndpointState.OFFLINE
    assert "appfl-gc endpoint start one" in endpoint(offline)["status"].fix
    assert "owner" in endpoint(offline, ours=False)["status"].fix
    assert "status page" in endpoint(offline, endpoint_id=POLARIS)["status"].fix


@pytest.mark.parametrize(
    ("allowed", "wanted", "state"),
    [
        (None, None, State.OK),
        (("aa",), None, State.FAIL),
        (("aa", "bb"), "BB", State.OK),
        (("aa",), "bb", State.FAIL),
        ((), "bb", State.FAIL),
        (EndpointError("Not yours to see."), "bb", State.SKIPPED),
    ],
)
def test_the_function_must_be_allowed(allowed: object, wanted: str | None, state: State) -> None:
    row = endpoint(allowed=allowed, function_id=wanted)["function"]
    assert row.state is state
    assert (row.error_class is ErrorClass.ENDPOINT) is (state is State.FAIL)


def check(client: str, answer: SchemaAnswer, given: bool = True) -> ConfigCheck:
    return ConfigCheck(client, given, answer, lambda path: f"clients.yaml:3: {path[0]}")


def test_clients_whose_configurations_are_alike_share_a_row() -> None:
    facts = EndpointFacts(ENDPOINT, EndpointState.ONLINE, schema={"type": "object"})
    wrong = SchemaAnswer((Misfit(("queue",), "Expected text."),))
    checks = [check(f"C{n}", SchemaAnswer()) for n in range(9)] + [check("D", wrong), check("E", wrong)]
    rows = list(config_rows(THING, facts, checks))
    assert [row.check for row in rows] == [
        "config of D",
        "config of E",
        "config of C0, C1, C2, C3 and 5 more",
    ]


def test_a_configuration_is_judged_as_far_as_the_schema_tells() -> None:
    def row(answer: SchemaAnswer, given: bool = True, schema: bool = True) -> Row:
        facts = EndpointFacts(ENDPOINT, EndpointState.ONLINE, schema={"type": "object"} if schema else None)
        (one,) = config_rows(THING, facts, [check("C1", answer, given)])
        return one

    fits, unknown = row(SchemaAnswer()), row(SchemaAnswer(), schema=False)
    assert (fits.state, unknown.state) == (State.OK, State.SKIPPED)
    assert row(SchemaAnswer(), given=False, schema=False).state is State.OK
    assert row(SchemaAnswer(unchecked="It is too large.")).state is State.SKIPPED
    wrong = row(SchemaAnswer((Misfit(("queue",), "Expected text."),)))
    assert (wrong.state, wrong.error_class) == (State.FAIL, ErrorClass.USER)
    assert wrong.finding == "clients.yaml:3: queue: Expected text."


# Versions


def test_an_old_sdk_fails_and_the_service_being_away_too() -> None:
    assert sdk_row(THING, ServiceVersions("4.0.0", "4.0.0", "4.19.0")).state is State.OK
    old = sdk_row(THING, ServiceVersions("5.0", "4.0.0", "4.19.0"))
    assert (old.state, old.error_class) == (State.FAIL, ErrorClass.VERSION)
    assert sdk_row(THING, DeliveryError("No route.")).error_class is ErrorClass.SERVICE


@pytest.mark.parametrize(
    ("agent", "least", "state"),
    [
        ("4.19.0", "4.0.0", State.OK),
        ("3.9.0", "4.0.0", State.FAIL),
        ("3.9.0", "2.0.0", State.WARN),
        ("", "4.0.0", State.SKIPPED),
        ("x.y", "4.0.0", State.WARN),
    ],
)
def test_the_agent_is_compared_with_what_the_service_asks_for(agent: str, least: str, state: State) -> None:
    facts = EndpointFacts(ENDPOINT, EndpointState.ONLINE, agent_version=agent)
    (row,) = agent_rows(THING, facts, ServiceVersions("4", least, "4.19.0"))
    assert row.state is state


def test_another_python_at_the_site_is_fine_and_said() -> None:
    facts = EndpointFacts(ENDPOINT, EndpointState.ONLINE, agent_version="4.19.0", python_version="3.1.4")
    (row,) = agent_rows(THING, facts, None)
    assert row.state is State.OK
    assert "Python 3.1.4" in row.finding and platform.python_version().rpartition(".")[0] in row.finding


def test_what_a_facility_asks_of_workers_is_said() -> None:
    facts = EndpointFacts(POLARIS, EndpointState.ONLINE, agent_version="4.19.0")
    row = by_check(agent_rows(THING, facts, None))["workers"]
    assert row.state is State.WARN and "parsl==" in row.fix


# Networks


@pytest.mark.parametrize(
    ("results", "refusal", "state"),
    [
        ("auto", "", State.OK),
        ("auto", "refused", State.WARN),
        ("push", "refused", State.FAIL),
        ("push", "", State.OK),
    ],
)
def test_the_way_of_results(results: str, refusal: str, state: State) -> None:
    row = results_row(THING, results, AmqpProbe("host", 443, refusal))
    assert row.state is state and "host:443" in row.finding


def test_who_polls_needs_no_amqp() -> None:
    assert results_row(THING, "poll", None).state is State.OK


# Payloads

LIMITS = Limits(configured=5_000, carried=7_000, request=10_000, result=10_000)


def test_what_fits_has_its_sizes() -> None:
    rows = by_check(size_rows(THING, Sizes(4_000, {"A": 6_000, "B": 7_000}, 5_500), LIMITS, ["A", "B"]))
    assert {row.state for row in rows.values()} == {State.OK}
    assert "7,000 bytes (B)" in rows["request"].finding and "5,500" in rows["reply"].finding


@pytest.mark.parametrize(
    ("sizes", "check", "words"),
    [
        (Sizes(6_000, {}, 0), "model", "inline_limit_bytes to 6000"),
        (Sizes(8_000, {}, 0), "model", "comm_configs.s3_configs"),
        (Sizes(4_000, {"A": 12_000}, 5_500), "request", "source files"),
        (Sizes(4_000, {"A": 6_000}, 12_000), "reply", "smaller model"),
    ],
)
def test_what_does_not_fit_fails_as_configuration(sizes: Sizes, check: str, words: str) -> None:
    row = by_check(size_rows(THING, sizes, LIMITS, ["A"]))[check]
    assert (row.state, row.error_class) == (State.FAIL, ErrorClass.USER)
    assert words in row.fix


def test_a_large_model_is_fine_where_every_client_has_a_store() -> None:
    (row,) = size_rows(THING, Sizes(80_000, {}, 0), LIMITS, [])
    assert row.state is State.OK
    assert "configured store" in row.finding


def test_a_store_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    federation = SmallFederation(tmp_path / "project")
    for number, place in ((0, shared), (1, tmp_path / "file")):
        (tmp_path / "file").write_text("no directory")
        proxystore = {
            "enable_proxystore": True,
            "connector_type": "FileConnector",
            "connector_configs": {"store_dir": str(place)},
        }
        federation.client[number] = {"comm_configs": {"proxystore_configs": proxystore}}
    rows = list(store_rows(THING, choices_of(load(*federation.write()))))
    assert [row.state for row in rows] == [State.OK, State.FAIL]
    assert "Client1" in rows[0].finding and "FileConnector" in rows[0].finding
    assert str(tmp_path / "file") in rows[1].finding
    assert list(shared.iterdir()) == []


def test_the_sizes_are_those_of_real_messages(tmp_path: Path) -> None:
    federation = SmallFederation(tmp_path)
    federation.client = {1: {"endpoint_id": ENDPOINT, "user_endpoint_config": {"note": "x" * 5000}}}
    loaded = load(*federation.write())
    sizes = measure(loaded, limits_of(loaded))
    assert sizes is not None
    assert list(sizes.requests) == ["Client2"]
    assert sizes.requests["Client2"] > 5000 + sizes.model * 4 / 3
    assert sizes.model * 4 / 3 < sizes.reply < sizes.model * 4 / 3 + 2000


def test_a_model_that_can_not_be_built_is_said(tmp_path: Path) -> None:
    federation = SmallFederation(tmp_path, model="raise RuntimeError('no such file')\nclass Net: pass\n")
    federation.client = {0: {"endpoint_id": ENDPOINT}, 1: {"endpoint_id": ENDPOINT}}
    rows = [row for row in examine(load(*federation.write())) if row.check == "model"]
    assert rows[0].state is State.FAIL
    assert "can't be built here" in rows[0].finding and "no such file" in rows[0].finding


def test_a_directory_that_can_not_be_made_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    blocked = file_store_row(THING, tmp_path / "file" / "output", 10, 2)
    assert (blocked.state, blocked.error_class) == (State.FAIL, ErrorClass.STORAGE)
    assert file_store_row(THING, tmp_path / "new" / "output", 10, 2).state is State.OK
    assert not (tmp_path / "new").exists()
    assert file_store_row(THING, tmp_path, 10**15, 2).state is State.WARN


# Local clients


def test_local_clients_need_no_service_and_no_login(tmp_path: Path) -> None:
    rows = list(examine(load(*SmallFederation(tmp_path).write())))
    assert {row.subject for row in rows} == {"This machine", "Payloads"}
    assert {row.state for row in rows} == {State.OK}
    assert "1 worker for 2 clients" in by_check(rows)["engine"].finding


def test_the_engine_needs_its_program_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = SmallFederation(tmp_path)
    federation.server["control_configs"] = {"engine": "GlobusComputeEngine"}
    monkeypatch.setenv("PATH", str(tmp_path))
    row = by_check(examine(load(*federation.write())))["engine"]
    assert (row.state, row.error_class) == (State.FAIL, ErrorClass.USER)
    assert "globus-compute-endpoint" in row.finding and row.fix


def test_on_another_system_local_clients_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    row = by_check(examine(load(*SmallFederation(tmp_path).write())))["platform"]
    assert row.state is State.FAIL and "Linux" in row.finding
