"""What a client's trainer remembers outlives its task, its worker and its job; asked through the entry function."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from appfl_gc.protocol.errors import StorageError
from appfl_gc.site.state import ClientStates
from tests.site.training_calls import REQUIRES, Server, Trained, same

COUNTER = """\
import torch
from appfl_gc.site.trainer.vanilla import VanillaTrainer


class Counter(VanillaTrainer):
    tasks = 0

    def load_client_state(self, state):
        self.tasks = int(state["tasks"])

    def train(self, **kwargs):
        self.tasks += 1
        return super().train(**kwargs)

    def get_parameters(self):
        return super().get_parameters(), {"tasks": self.tasks}

    def client_state(self):
        return {"tasks": torch.tensor(self.tasks)}
"""
NOTHING = """\
from appfl_gc.site.trainer.vanilla import VanillaTrainer


class Nothing(VanillaTrainer):
    def client_state(self):
        return {}
"""


class Site:
    """A site's directory, which can be thrown away."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.state = directory / "state"
        patch.setenv("HOME", str(directory))
        patch.setenv("APPFL_GC_SITE_HOME", str(directory / "home"))
        patch.setenv("APPFL_GC_SITE_STATE", str(self.state))
        patch.delenv("APPFL_GC_SITE_POLICY", raising=False)
        patch.chdir(directory)

    @property
    def kept(self) -> list[str]:
        """Names of the files with clients' states."""
        return sorted(path.name for path in self.state.glob("clients/*/*/*"))

    def purge(self) -> None:
        """Forget everything, as the cleaning of a scratch directory does."""
        shutil.rmtree(self.state)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def in_a_new_worker(server: Server, dispatch: int, state_of: int) -> Trained:
    call = server.call(dispatch, state_of)
    program = (
        "import json, sys\nfrom appfl_gc.site.entry import appfl_gc_entry\n"
        "print(json.dumps(appfl_gc_entry(*json.load(sys.stdin))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([call.to_json(), REQUIRES]),
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    return server.read(call, json.loads(done.stdout))


@pytest.mark.parametrize("trainer", ["IIADMMTrainer", "ICEADMMTrainer"])
def test_admm_goes_on_from_its_own_variables(site: Site, trainer: str) -> None:
    server = Server(trainer)
    first = server.train(1, 0)
    second = server.train(2, 1)
    assert "client_state_lost" not in second.metrics
    assert first.metrics["penalty"] == second.metrics["penalty"] == 20.0
    site.purge()
    anew = server.train(2, 0)
    assert not same(second, anew)
    assert "client_state_lost" not in anew.metrics


def test_a_new_worker_gives_the_same_bits(site: Site) -> None:
    server = Server("IIADMMTrainer", configs={"send_gradient": True})
    server.train(1, 0)
    here = server.train(2, 1)
    site.purge()
    server.train(1, 0)
    assert same(in_a_new_worker(server, 2, 1), here)


def test_training_again_goes_on_from_the_same_place(site: Site) -> None:
    server = Server("IIADMMTrainer")
    server.train(1, 0)
    second = server.train(2, 1)
    again = server.train(2, 1, attempt=2, compute_again=True)
    assert same(again, second)
    assert same(server.train(3, 2), server.train(3, 2, attempt=2, compute_again=True))


def test_an_update_that_the_server_did_not_take_leaves_no_trace(site: Site) -> None:
    server = Server("IIADMMTrainer")
    server.train(1, 0)
    expected = server.train(3, 1)
    site.purge()
    server.train(1, 0)
    server.train(2, 1)
    assert same(server.train(3, 1), expected)
    assert site.kept == [f"{n:08d}.safetensors" for n in (1, 2, 3)]
    server.train(4, 3)
    assert site.kept == [f"{n:08d}.safetensors" for n in (3, 4)]


class TestLoss:
    def test_a_purged_state_is_said_and_the_client_begins_anew(self, site: Site) -> None:
        server = Server("IIADMMTrainer")
        server.train(1, 0)
        site.purge()
        anew = server.train(2, 0)
        site.purge()
        lost = server.train(2, 1)
        assert same(lost, anew)
        assert lost.metrics["client_state_lost"] == 1.0
        assert "What IIADMMTrainer remembered of dispatch 1 is lost" in lost.log
        assert "begins anew" in lost.log
        assert "client_state_lost" not in server.train(3, 2).metrics

    def test_so_is_a_damaged_one(self, site: Site) -> None:
        server = Server("IIADMMTrainer")
        server.train(1, 0)
        (path,) = site.state.glob("clients/*/*/*")
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
        assert server.train(2, 1).metrics["client_state_lost"] == 1.0

    def test_and_another_trainers(self, site: Site) -> None:
        Server("ICEADMMTrainer").train(1, 0)
        after = Server("IIADMMTrainer").train(2, 1)
        assert after.metrics["client_state_lost"] == 1.0
        assert "written by ICEADMMTrainer" in after.log

    def test_a_full_disk_costs_no_update(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*args: object) -> None:
            raise StorageError("There is no room.", "Make room.")

        server = Server("IIADMMTrainer")
        expected = server.train(1, 0)
        site.purge()
        monkeypatch.setattr(ClientStates, "save", full)
        trained = server.train(1, 0)
        assert same(trained, expected)
        assert "There is no room." in trained.log


class TestWhoHasAState:
    @pytest.mark.parametrize("trainer", ["VanillaTrainer", "FedProxTrainer"])
    def test_trainers_without_one_leave_no_file_and_lose_nothing(self, site: Site, trainer: str) -> None:
        server = Server(trainer)
        server.train(1, 0)
        assert "client_state_lost" not in server.train(2, 1).metrics
        assert not (site.state / "clients").exists()

    def test_a_users_trainer_remembers_what_it_likes(self, site: Site) -> None:
        server = Server("Counter", COUNTER)
        counts = [server.train(dispatch, dispatch - 1).metrics["tasks"] for dispatch in (1, 2, 3)]
        assert counts == [1.0, 2.0, 3.0]

    def test_a_state_without_tensors_is_not_lost(self, site: Site) -> None:
        server = Server("Nothing", NOTHING)
        server.train(1, 0)
        assert "client_state_lost" not in server.train(2, 1).metrics

    def test_clients_and_runs_have_their_own(self, site: Site) -> None:
        for server in (
            Server("Counter", COUNTER),
            Server("Counter", COUNTER, client="B"),
            Server("Counter", COUNTER, run="other"),
        ):
            assert server.train(1, 0).metrics["tasks"] == 1.0
            assert server.train(2, 1).metrics["tasks"] == 2.0
        assert len(site.kept) == 6

    def test_old_ones_go_with_the_outboxs_age_limit(self, site: Site, tmp_path: Path) -> None:
        server = Server("Counter", COUNTER)
        server.train(1, 0)
        for path in site.state.glob("clients/*/*/*"):
            os.utime(path, (0, 0))
        Server("Counter", COUNTER, run="next").train(1, 0)
        assert len(site.kept) == 1


def test_a_malformed_dispatch_is_refused(site: Site) -> None:
    with pytest.raises(AssertionError, match="malformed"):
        Server("IIADMMTrainer").train(2, -1)


@pytest.mark.parametrize(
    ("trainer", "key"),
    [("IIADMMTrainer", "init_penalty"), ("ICEADMMTrainer", "init_proximity"), ("FedProxTrainer", "mu")],
)
def test_a_wrong_key_is_told_before_anything_trains(site: Site, trainer: str, key: str) -> None:
    error = Server(trainer, configs={key: -1.0}).hello().error
    assert error is not None
    assert f"train_configs.{key} is -1.0" in error.message
    assert Server(trainer).hello().error is None


def test_what_is_kept_is_what_the_trainer_says(site: Site) -> None:
    Server("ICEADMMTrainer").train(1, 0)
    (run,) = {path.parent.parent.name for path in site.state.glob("clients/*/*/*")}
    assert len(run) == 32, "no name that somebody chose is part of a path"
    kept = ClientStates(site.state / "clients", "run", "A", "ICEADMMTrainer").load(1)
    assert set(kept) == {
        "penalty",
        *(
            f"{kind}.{name}"
            for kind in ("primal", "dual")
            for name in ("0.weight", "0.bias", "2.weight", "2.bias")
        ),
    }
    assert torch.isfinite(kept["dual.0.weight"]).all()
