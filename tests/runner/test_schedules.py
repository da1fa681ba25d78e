"""Every scheduler drives real workers: what is folded, what the journal replays to, who is waited for."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from appfl_gc.config import load
from appfl_gc.protocol.schedule import Aggregate, Arrived, Dispatch, Timer, WakeAt
from appfl_gc.runner import algorithms, federated_run
from appfl_gc.runner.api import RunResult
from appfl_gc.runner.events import ClientTrained, Outcome, RoundFinished, RunEvent
from appfl_gc.runner.replay import first_difference, recorded_steps
from appfl_gc.scheduler.base import Scheduler
from tests.runner.conftest import Heard, train
from tests.small_federation import DATASET, SmallFederation

SCHEDULES: dict[str, dict[str, Any]] = {
    "sampled": {"scheduler_kwargs": {"clients_per_round": 2}, "num_global_epochs": 3},
    "async": {
        "scheduler": "AsyncScheduler",
        "aggregator": "FedAsyncAggregator",
        "aggregator_kwargs": {"staleness_fn": "polynomial", "staleness_fn_kwargs": {"a": 0.5}},
        "num_global_epochs": 7,
    },
    "buffered": {
        "scheduler": "AsyncScheduler",
        "aggregator": "FedBuffAggregator",
        "aggregator_kwargs": {"K": 3},
        "num_global_epochs": 7,
    },
    "compass": {
        "scheduler": "CompassScheduler",
        "scheduler_kwargs": {
            "max_local_steps": 20,
            "min_local_steps": 2,
            "speed_momentum": 0.9,
            "latest_time_factor": 1.5,
        },
        "aggregator": "FedCompassAggregator",
        "num_global_epochs": 9,
    },
    "queue": {
        "scheduler": "QueueScheduler",
        "scheduler_kwargs": {"t_sync": 0.5, "safety_buffer": 0.1, "q_init": 0.1, "warm_up_steps": 3},
        "aggregator": "FedQueueAggregator",
        "num_global_epochs": 3,
    },
}


@pytest.fixture(scope="module", params=SCHEDULES)
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, SmallFederation, RunResult, Heard]:
    """A finished run of three clients under each schedule."""
    patch, heard = pytest.MonkeyPatch(), Heard()
    patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    federation = SmallFederation(
        tmp_path_factory.mktemp(request.param),
        clients=3,
        train={"send_gradient": request.param in {"async", "queue"}},
        server=SCHEDULES[request.param],
    )
    result = train(federation, heard=heard)
    patch.undo()
    assert result.outcome is Outcome.FINISHED, result.error
    return request.param, federation, result, heard


def scheduler_of(federation: SmallFederation) -> Scheduler:
    """A new scheduler, as the run made its own."""
    configs = load(*federation.write())
    return algorithms.scheduler_of(configs, None, configs.clients[0].model_configs.seed)


def test_the_journal_replays_to_the_same_actions(
    finished: tuple[str, SmallFederation, RunResult, Heard],
) -> None:
    _, federation, result, _ = finished
    steps = list(recorded_steps(result.run_dir / "journal.jsonl"))
    assert any(isinstance(action, Aggregate) for step in steps for action in step.actions)
    assert first_difference(steps, scheduler_of(federation)) is None

    # The comparison sees a step that is left out.
    trained = next(index for index, step in enumerate(steps) if type(step.event).__name__ == "Arrived")
    assert first_difference(steps[:trained] + steps[trained + 1 :], scheduler_of(federation)) is not None


def test_num_global_epochs_counts_what_it_has_always_counted(
    finished: tuple[str, SmallFederation, RunResult, Heard],
) -> None:
    name, _, result, heard = finished
    epochs = SCHEDULES[name]["num_global_epochs"]
    folded = [
        update
        for step in recorded_steps(result.run_dir / "journal.jsonl")
        for action in step.actions
        if isinstance(action, Aggregate)
        for update, _ in action.updates
    ]
    trained = heard.of(ClientTrained)
    assert len(folded) == len(set(folded))
    if name in {"sampled", "queue"}:
        assert result.rounds == epochs
    else:
        # Nothing is trained that is not used.
        assert len(folded) == len(trained) == epochs
    log = (result.run_dir / "server.log").read_text()
    assert (
        f"{epochs} {'rounds' if name in {'sampled', 'queue'} else 'client updates'} (num_global_epochs)"
        in log
    )


def test_the_site_trains_the_steps_that_the_scheduler_asked_for(
    finished: tuple[str, SmallFederation, RunResult, Heard],
) -> None:
    name, _, result, heard = finished
    asked = {
        (action.client, action.dispatch): action.args.get("local_steps", 5)
        for step in recorded_steps(result.run_dir / "journal.jsonl")
        for action in step.actions
        if isinstance(action, Dispatch)
    }
    done = {(event.client, event.round): event.steps for event in heard.of(ClientTrained)}  # type: ignore[union-attr]
    assert done and all(asked[task] == steps for task, steps in done.items())
    if name == "sampled":
        assert all(sum(task[1] == round_ for task in asked) == 2 for round_ in (1, 2, 3))


GATED = DATASET.replace(
    "def load(client_id, samples=64):\n",
    """\
def load(client_id, samples=64, gate=None):
    import pathlib, time

    until = time.monotonic() + 60
    while gate is not None and not pathlib.Path(gate).exists() and time.monotonic() < until:
        time.sleep(0.01)
""",
)


def gated(gate: Path) -> dict[str, Any]:
    """A client whose data are not there before ``gate`` is."""
    kwargs = {"client_id": 1, "gate": str(gate)}
    return {
        "data_configs": {"dataset_path": "./dataset.py", "dataset_name": "load", "dataset_kwargs": kwargs}
    }


def test_a_client_that_answers_late_joins_a_run_that_has_begun(
    federation: SmallFederation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federated_run, "GREETING_SECONDS", 0.2)
    gate = tmp_path / "gate"

    def act(event: RunEvent) -> None:
        if isinstance(event, RoundFinished) and event.round == 2:
            gate.touch()
        if isinstance(event, ClientTrained) and event.client == "Client2":
            signal.raise_signal(signal.SIGINT)

    federation.dataset, federation.server = GATED, SCHEDULES["async"] | {"num_global_epochs": 100_000}
    federation.client[1] = gated(gate)
    heard = Heard(act)
    result = train(federation, "server_configs.control_configs.slots=2", heard=heard)
    assert result.outcome is Outcome.INTERRUPTED, result.error
    clients = [event.client for event in heard.of(ClientTrained)]  # type: ignore[union-attr]
    assert clients[:2] == ["Client1", "Client1"]
    assert "Client2" in clients[2:]  # and, until the interrupt has its turn, perhaps Client1 once more
    assert "Client2 join later" in (result.run_dir / "server.log").read_text()


def test_a_client_that_fails_after_others_began_does_not_end_the_run(
    federation: SmallFederation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federated_run, "GREETING_SECONDS", 0.2)
    gate = tmp_path / "gate"
    federation.dataset = GATED.replace(
        "        time.sleep(0.01)\n", "        time.sleep(0.01)\n    if gate: raise OSError('no data here')\n"
    )
    federation.server = SCHEDULES["async"] | {"num_global_epochs": 4}
    federation.client[1] = gated(gate)
    heard = Heard(lambda event: gate.touch() if isinstance(event, RoundFinished) else None)
    result = train(federation, "server_configs.control_configs.slots=2", heard=heard)
    assert result.outcome in (Outcome.PARTIAL, Outcome.FINISHED), result.error
    assert sum(event.client == "Client1" for event in heard.of(ClientTrained)) == 4  # type: ignore[union-attr]


TICKS = """\
from appfl_gc.protocol.schedule import (
    Aggregate, Aggregated, Arrived, Dispatch, Finish, Started, Timer, WakeAt,
)


class Ticks:
    def __init__(self, num_global_epochs):
        self.left, self.arrived = num_global_epochs, 0

    def step(self, now, event):
        match event:
            case Started():
                work = [Dispatch(client, 1, 0) for client in event.clients]
                return work + [WakeAt(now + 0.2 * tick) for tick in range(1, self.left + 1)]
            case Arrived():
                self.update, self.arrived = event.meta.update, self.arrived + 1
                return [Aggregate(((self.update, 0),))]
            case Aggregated():
                return self.end() or [Dispatch(self.update.client, self.update.dispatch + 1, event.version)]
            case Timer():
                self.left -= 1
                return self.end()
        return []

    def end(self):
        return [Finish()] if not self.left and self.arrived > 5 else []
"""


def test_timers_fire_by_the_clock_while_updates_come(federation: SmallFederation) -> None:
    federation.files["ticks.py"] = TICKS
    federation.server = {"scheduler": "Ticks", "scheduler_path": "./ticks.py", "num_global_epochs": 5}
    result = train(federation, "server_configs.control_configs.slots=2")
    assert result.outcome is Outcome.FINISHED, result.error
    steps = list(recorded_steps(result.run_dir / "journal.jsonl"))
    due = [action.at for action in steps[0].actions if isinstance(action, WakeAt)]
    fired = [index for index, step in enumerate(steps) if isinstance(step.event, Timer)]
    assert len(due) == len(fired) == 5
    for at, index in zip(due, fired, strict=True):
        assert steps[index].now >= at
        # Nothing that happened after its time was dealt with before it, but for what was just being dealt with.
        assert sum(step.now > at for step in steps[:index] if isinstance(step.event, Arrived)) <= 1


def test_validation_is_no_slowness_of_the_steps(federation: SmallFederation) -> None:
    federation.metric += (
        "\n\nimport time\n\n\ndef slow(y_true, y_pred):\n    time.sleep(0.3)\n    return 1.0\n"
    )
    federation.clients, federation.rounds = 1, 1
    federation.train = {"metric_name": "slow"}
    result = train(federation)
    (arrived,) = (
        step.event
        for step in recorded_steps(result.run_dir / "journal.jsonl")
        if isinstance(step.event, Arrived)
    )
    assert arrived.meta.timing.compute - arrived.meta.timing.train >= 0.3


STUBBORN = """\
from appfl_gc.protocol.schedule import Aggregate, Aggregated, Arrived, Dispatch, Finish, Started, Timer, WakeAt


class Stubborn:
    counts = "client updates"

    def __init__(self, num_global_epochs, {flaw}):
        pass

    def step(self, now, event):
        match event:
            case Started():
                first = event.clients[0]
                work = [Dispatch(first, 1, 0)]
                if "{flaw}" == "twice":
                    work.append(Dispatch(first, 2, 0))
                return [*work, WakeAt(1e300 if "{flaw}" == "far" else now)]
            case Arrived():
                return [Aggregate(((event.meta.update, 0),))]
            case Aggregated():
                return [Finish()] if "{flaw}" == "far" else []
            case Timer():
                return [WakeAt(now)]
        return []
"""


def stubborn(federation: SmallFederation, flaw: str) -> None:
    federation.files["stubborn.py"] = STUBBORN.replace("{flaw}", flaw).replace(f", {flaw})", ")")
    federation.server = {
        "scheduler": "Stubborn",
        "scheduler_path": "./stubborn.py",
        "num_global_epochs": 1,
    }


def test_a_timer_may_be_set_for_any_time(federation: SmallFederation) -> None:
    stubborn(federation, "far")
    result = train(federation)
    assert result.outcome is Outcome.FINISHED, result.error


def test_a_client_that_still_works_gets_nothing_more(federation: SmallFederation) -> None:
    stubborn(federation, "twice")
    result = train(federation)
    assert result.outcome is Outcome.FAILED
    assert result.error is not None
    assert result.error.message == "The scheduler dispatched to client 'Client1', which still works."


def test_timers_without_end_do_not_keep_anybody_from_interrupting(federation: SmallFederation) -> None:
    stubborn(federation, "endless")
    heard = Heard(
        lambda event: signal.raise_signal(signal.SIGINT) if isinstance(event, RoundFinished) else None
    )
    assert train(federation, heard=heard).outcome is Outcome.INTERRUPTED
