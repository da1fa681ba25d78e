from __future__ import annotations

import gc
from pathlib import Path
from types import ModuleType

import pytest
import torch

from appfl_gc.config.diagnostic import ConfigError, Severity
from appfl_gc.protocol.errors import AppflGcError, UsageError, UserCodeError
from appfl_gc.runner import algorithms
from appfl_gc.scheduler.asynchronous import AsyncScheduler
from appfl_gc.simulation import scenario as module
from appfl_gc.simulation.engine import simulate
from appfl_gc.simulation.scenario import Request, Scenario, prepare
from appfl_gc.simulation.summary import Summary
from appfl_gc.simulation.undisturbed import undisturbed
from tests.simulation.past import past_run
from tests.small_federation import SmallFederation

ASYNC = ("server_configs.scheduler=AsyncScheduler", "server_configs.aggregator=FedAsyncAggregator")
SCHEDULER = """\
from appfl_gc.protocol.schedule import Aggregate, Arrived, Dispatch, Finish, Started


class OneOnly:
    def step(self, now, event):
        match event:
            case Started():
                return [Dispatch(event.clients[0], 1, 0, {"local_steps": 3})]
            case Arrived():
                return [Aggregate(((event.meta.update, 0),))]
        return [Finish()]
"""


def run_of(scenario: Scenario) -> Summary:
    return simulate(scenario.scheduler(), scenario.profiles, scenario.learner(), seed=scenario.seed)


@pytest.fixture
def past(tmp_path: Path) -> Path:
    return past_run(tmp_path)


def test_everything_has_a_default() -> None:
    scenario = prepare(Request())
    assert len(scenario.profiles) == 8
    assert {profile.group for profile in scenario.profiles} == {"homogeneous"}
    assert set(scenario.steps.values()) == {100}
    assert (scenario.notes, scenario.federation.warnings) == ((), ())


def test_two_files_say_who_the_clients_are(tmp_path: Path) -> None:
    server, clients = SmallFederation(tmp_path, clients=3).write()
    scenario = prepare(Request(server, clients, "four-supercomputers"))
    assert [profile.client for profile in scenario.profiles] == ["Client1", "Client2", "Client3"]
    assert [profile.group for profile in scenario.profiles] == ["Delta", "Aurora", "Polaris"]
    assert scenario.notes == ()
    assert scenario.federation.aggregator_kwargs()["num_clients"] == 3
    assert set(scenario.steps.values()) == {5}


def test_profiles_of_the_clients_own_names_are_theirs(tmp_path: Path) -> None:
    server, clients = SmallFederation(tmp_path).write()
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text(
        "groups:\n- {name: Client2, step_seconds: 2}\n- {name: other, step_seconds: 3}\n"
        "- {name: Client1, step_seconds: 1}\n"
    )
    scenario = prepare(Request(server, clients, str(profiles)))
    assert [profile.timing(0, 1, 1).train for profile in scenario.profiles] == [1, 2]
    assert scenario.notes == ()


def test_clients_without_a_profile_of_their_name_take_profiles_in_order(tmp_path: Path) -> None:
    server, clients = SmallFederation(tmp_path, clients=4).write()
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text("groups:\n- {name: other, step_seconds: 3}\n- {name: Client2, step_seconds: 2}\n")
    scenario = prepare(Request(server, clients, str(profiles)))
    assert [profile.client for profile in scenario.profiles] == ["Client1", "Client2", "Client3", "Client4"]
    assert [profile.timing(0, 1, 1).train for profile in scenario.profiles] == [3, 2, 2, 3]
    assert "4 clients and 2 profiles: 3 clients without a profile of their own name" in scenario.notes[0]


def test_a_server_file_with_as_many_clients_as_one_likes(tmp_path: Path) -> None:
    server, _ = SmallFederation(tmp_path).write()
    scenario = prepare(Request(server, None, "normal", clients=30))
    assert scenario.federation.server_configs.num_clients == 30
    assert set(scenario.steps.values()) == {5}
    assert run_of(scenario).updates == 60


def test_a_past_run_brings_its_configuration_and_its_clients(past: Path) -> None:
    scenario = prepare(Request(run=past))
    assert scenario.past is not None
    assert (scenario.past.seconds, scenario.past.updates) == (2, 2)
    assert scenario.steps == {"Client1": 5, "Client2": 9}
    assert scenario.federation.server_configs.num_global_epochs == 4
    assert scenario.federation.aggregator_kwargs()["client_weights_mode"] == "sample_size"
    first, second = (profile.timing(0, 1, 10) for profile in scenario.profiles)
    assert (first.train, second.train, first.queue) == (2, 4, 1)


def test_another_scheduler_with_the_clients_of_a_past_run(past: Path) -> None:
    scenario = prepare(Request(run=past, overrides=ASYNC))
    assert isinstance(scenario.scheduler(), AsyncScheduler)
    # Settings of the run's own scheduler and aggregator are not those of another one, and are not warned of.
    assert "client_weights_mode" in prepare(Request(run=past)).federation.server_configs.aggregator_kwargs
    assert [f for f in scenario.federation.warnings if f.severity is Severity.WARNING] == []
    assert scenario.federation.aggregator_kwargs()["client_weights_mode"] == "equal"
    assert run_of(scenario).folded == 4
    more = prepare(
        Request(run=past, clients=5, overrides=(*ASYNC, "client_configs.train_configs.num_local_steps=7"))
    )
    assert [profile.client for profile in more.profiles] == [
        "Client1", "Client2", "Client1-2", "Client2-2", "Client1-3",
    ]  # fmt: skip
    assert more.steps == {"Client1": 7, "Client2": 9, "Client1-2": 7, "Client2-2": 7, "Client1-3": 7}
    assert more.past is None


def test_with_profiles_the_clients_are_those_of_the_run(tmp_path: Path) -> None:
    past = past_run(tmp_path, silent=1)
    alone = prepare(Request(run=past))
    assert list(alone.steps) == ["Client1", "Client2"]
    assert alone.notes == (
        "Nothing is known of Client3: no update of the run came from there; it is left out.",
    )
    scenario = prepare(Request(run=past, profiles="four-supercomputers"))
    # Profiles tell what is not known of a client that delivered nothing.
    assert scenario.steps == {"Client1": 5, "Client2": 9, "Client3": 5}
    assert [profile.group for profile in scenario.profiles] == ["Delta", "Aurora", "Polaris"]
    assert (scenario.notes, scenario.past) == ((), None)
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text(
        "groups:\n- {name: Client2, step_seconds: 7}\n- {name: x, count: 4, step_seconds: 3}\n"
    )
    named = prepare(Request(run=past, profiles=str(profiles)))
    assert [profile.timing(0, 1, 1).train for profile in named.profiles] == [7, 7, 3]
    assert "There are 3 clients and 5 profiles" in named.notes[0]
    many = prepare(Request(run=past, profiles="normal", clients=20))
    assert len(many.profiles) == 20


def test_a_clients_file_says_how_many_there_are(tmp_path: Path, past: Path) -> None:
    _, clients = SmallFederation(tmp_path, clients=3).write()
    alone = prepare(Request(client_config=clients))
    assert list(alone.steps) == ["Client1", "Client2", "Client3"]
    assert alone.federation.server_configs.num_clients == 3
    assert prepare(Request(client_config=clients, run=past)).federation.server_configs.num_clients == 3
    with pytest.raises(ConfigError, match="There is no file"):
        prepare(Request(client_config=tmp_path / "none.yaml"))
    clients.write_text("clients: 3\n")
    with pytest.raises(ConfigError, match="clients"):
        prepare(Request(client_config=clients))


@pytest.mark.parametrize(("place", "part"), [(algorithms, "make_scheduler"), (module, "make_aggregator")])
def test_a_wrong_setting_is_no_failure_of_the_users_code(
    place: ModuleType, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise UserCodeError("The setting is wrong.", "Correct it.")

    monkeypatch.setattr(place, part, refuse)
    scenario = prepare(Request())
    with pytest.raises(UsageError, match=r"The setting is wrong\.\nHint: Correct it\."):
        scenario.scheduler()
        scenario.learner()


def test_a_change_of_what_clients_share_reaches_those_with_settings_of_their_own(past: Path) -> None:
    overrides = ("client_configs.train_configs.send_gradient=true",)
    scenario = prepare(Request(run=past, overrides=overrides))
    assert [client.train_configs.send_gradient for client in scenario.federation.clients] == [True, True]
    assert scenario.steps == {"Client1": 5, "Client2": 9}
    values, differences = (run_of(prepare(Request(run=past, overrides=o))) for o in ((), overrides))
    assert values.seconds == differences.seconds


def test_the_aggregators_buffer_is_the_schedulers() -> None:
    fedbuff = ("server_configs.aggregator=FedBuffAggregator", "server_configs.aggregator_kwargs={K: 4}")
    summary = run_of(prepare(Request(overrides=(ASYNC[0], *fedbuff))))
    assert (summary.folded, summary.versions) == (10, 3)


def test_what_makes_it_quick_is_put_back() -> None:
    before = (torch.get_num_threads(), gc.get_threshold())
    with pytest.raises(ValueError, match="in between"), undisturbed():
        assert torch.get_num_threads() == 1
        raise ValueError("in between")
    assert (torch.get_num_threads(), gc.get_threshold()) == before


def test_an_error_in_what_is_set_names_the_key_and_the_runs_own_file(past: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(Request(run=past, overrides=("server_configs.scheduler=AsyncSchedular",)))
    (found,) = caught.value.diagnostics
    assert (found.file, found.key) == ("command line", "server_configs.scheduler")
    assert "AsyncScheduler" in found.hint
    with pytest.raises(ConfigError) as caught:
        prepare(Request(run=past, overrides=("server_configs.scheduler=CompassScheduler",)))
    assert {found.file for found in caught.value.diagnostics} == {str(past / "config.json")}
    assert "server_configs.scheduler_kwargs.max_local_steps" in [f.key for f in caught.value.diagnostics]


def test_local_steps_in_epochs_follow_the_sample_size(tmp_path: Path) -> None:
    federation = SmallFederation(
        tmp_path, train={"mode": "epoch", "num_local_epochs": 3, "train_batch_size": 16}
    )
    server, clients = federation.write()
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text("groups: [{name: c, count: 2, step_seconds: 1, samples: 70}]\n")
    assert set(prepare(Request(server, clients, str(profiles))).steps.values()) == {15}
    dropping = ("client_configs.train_configs.train_drop_last=true",)
    assert set(prepare(Request(server, clients, str(profiles), overrides=dropping)).steps.values()) == {12}
    unknown = prepare(Request(server, clients, "normal", clients=None))
    assert set(unknown.steps.values()) == {100}
    assert any("Nothing says how many local steps" in note for note in unknown.notes)


def test_a_users_scheduler_is_simulated(tmp_path: Path) -> None:
    federation = SmallFederation(
        tmp_path, server={"scheduler_path": "./own.py", "scheduler": "OneOnly"}, files={"own.py": SCHEDULER}
    )
    server, clients = federation.write()
    summary = run_of(prepare(Request(server, clients, "homogeneous")))
    assert (summary.versions, summary.steps) == (1, 3)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(profiles="nonsense"), "no profiles called 'nonsense'"),
        (Request(client_config=Path("c.yaml"), clients=3), "both say who the clients are"),
        (Request(run=Path("/nowhere")), "not a run directory"),
    ],
)
def test_what_does_not_exist_or_go_together(request_: Request, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        prepare(request_)


def test_a_run_without_a_readable_configuration(past: Path) -> None:
    (past / "config.json").write_text("{")
    with pytest.raises(AppflGcError, match="is not readable"):
        prepare(Request(run=past))
