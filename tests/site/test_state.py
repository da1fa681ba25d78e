"""The files in which a site keeps what clients' trainers remember."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from appfl_gc.protocol.errors import StorageError, UserCodeError
from appfl_gc.site.policy import OutboxLimits
from appfl_gc.site.state import NOTE, UNSETTLED, ClientStates, StateLostError

STATE = {
    "dual.w": torch.arange(6.0).reshape(2, 3).T,
    "penalty": torch.tensor(0.1, dtype=torch.float64),
    "seen": torch.tensor([True, False]),
    "none": torch.empty(0, 4),
    "half": torch.tensor([1.5], dtype=torch.bfloat16),
}


@pytest.fixture
def states(tmp_path: Path) -> ClientStates:
    return ClientStates(tmp_path / "state" / "clients", "run", "A", "Mine")


def files(states: ClientStates) -> list[str]:
    return sorted(path.name for path in states.directory.glob("*/*/*"))


def numbers(states: ClientStates) -> list[int]:
    return [int(name.partition(".")[0]) for name in files(states)]


def test_what_is_kept_comes_back_bit_by_bit(states: ClientStates) -> None:
    states.save(3, STATE)
    found = states.load(3)
    assert list(found) == list(STATE)
    for name, tensor in STATE.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_the_file_can_be_read_with_any_safetensors_reader(states: ClientStates) -> None:
    states.save(3, STATE)
    (path,) = states.directory.glob("*/*/*")
    loaded = load_file(path)
    assert torch.equal(loaded["dual.w"], STATE["dual.w"])
    assert b'"version": 1' in bytes(loaded[NOTE].numpy())


def test_an_empty_state_is_one_too(states: ClientStates) -> None:
    states.save(1, {})
    assert states.load(1) == {}


def test_changing_what_was_loaded_changes_no_file(states: ClientStates) -> None:
    states.save(1, STATE)
    states.load(1)["dual.w"].zero_()
    assert torch.equal(states.load(1)["dual.w"], STATE["dual.w"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damaged_byte_is_seen(states: ClientStates, data: st.DataObject) -> None:
    states.save(1, STATE)
    (path,) = states.directory.glob("*/*/*")
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(StateLostError, match="can't be used"):
        states.load(1)


def test_another_shape_of_an_empty_tensor_is_seen(states: ClientStates) -> None:
    states.save(1, STATE)
    (path,) = states.directory.glob("*/*/*")
    content = path.read_bytes()
    assert content.count(b"[0,4]") == 1
    path.write_bytes(content.replace(b"[0,4]", b"[0,5]"))
    with pytest.raises(StateLostError, match="can't be used"):
        states.load(1)


@pytest.mark.parametrize("left", [0, 7, 200])
def test_a_file_that_ends_early_is_seen(states: ClientStates, left: int) -> None:
    states.save(1, STATE)
    (path,) = states.directory.glob("*/*/*")
    os.truncate(path, left)
    with pytest.raises(StateLostError):
        states.load(1)


def test_a_state_that_is_not_there_says_where_it_was_looked_for(states: ClientStates) -> None:
    with pytest.raises(StateLostError, match=r"dispatch 4 is lost: .*00000004\.safetensors is not there"):
        states.load(4)


def test_each_run_client_and_trainer_has_its_own(states: ClientStates) -> None:
    states.save(1, STATE)
    directory = states.directory
    for other in (
        ClientStates(directory, "another", "A", "Mine"),
        ClientStates(directory, "run", "B", "Mine"),
        ClientStates(directory, "run", "A", "Theirs"),
    ):
        with pytest.raises(StateLostError):
            other.load(1)


def test_it_is_for_its_owner_alone(states: ClientStates) -> None:
    states.save(1, STATE)
    for path in (states.directory, *states.directory.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_name_that_is_taken_is_refused(states: ClientStates) -> None:
    with pytest.raises(UserCodeError, match=NOTE):
        states.save(1, {NOTE: torch.ones(1)})


def test_a_full_disk_names_the_directory(states: ClientStates) -> None:
    states.directory.parent.mkdir()
    states.directory.write_text("in the way")
    with pytest.raises(StorageError) as caught:
        states.save(1, STATE)
    assert str(states.directory) in caught.value.message
    assert "APPFL_GC_SITE_STATE" in caught.value.hint


class TestForgetting:
    def test_what_the_server_has_moved_on_from_goes(self, states: ClientStates) -> None:
        for dispatch in (1, 2, 3, 4):
            states.save(dispatch, {})
        states.forget_before(3, 4)
        assert numbers(states) == [3, 4]

    def test_what_the_server_may_yet_accept_stays_within_bounds(self, states: ClientStates) -> None:
        for dispatch in range(1, 21):
            states.save(dispatch, {})
            states.forget_before(1, dispatch)
        assert numbers(states) == [1, *range(20 - UNSETTLED, 20), 20]

    def test_a_late_attempt_of_an_old_dispatch_takes_nothing_from_later_ones(
        self, states: ClientStates
    ) -> None:
        for dispatch in (5, 6, 7, 8, 9):
            states.save(dispatch, {})
        states.save(3, {})
        states.forget_before(2, 3)
        assert numbers(states) == [3, 5, 6, 7, 8, 9]

    def test_clients_that_have_not_come_for_long_go(self, states: ClientStates) -> None:
        old = ClientStates(states.directory, "old run", "A", "Mine")
        old.save(1, STATE)
        states.save(1, STATE)
        for path in states.directory.glob("*/*/*"):
            os.utime(path, (0, 0))
        states.load(1)
        states.keep_within(OutboxLimits())
        assert torch.equal(states.load(1)["dual.w"], STATE["dual.w"]), "it was used a moment ago"
        with pytest.raises(StateLostError, match="is not there"):
            old.load(1)
        assert len(list(states.directory.iterdir())) == 1

    def test_the_least_lately_used_go_where_there_is_no_room_and_ones_own_newest_stays(
        self, states: ClientStates
    ) -> None:
        others = [ClientStates(states.directory, "run", name, "Mine") for name in ("B", "C")]
        for age, each in enumerate((others[0], others[1], states)):
            each.save(1, STATE)
            for path in each._folder.iterdir():
                os.utime(path, (1e9 + age, 1e9 + age))
        (size,) = {path.stat().st_size for path in states.directory.glob("*/*/*")}
        states.keep_within(OutboxLimits(2 * size, 1e6))
        with pytest.raises(StateLostError, match="is not there"):
            others[0].load(1)
        states.keep_within(OutboxLimits(1, 1e6))
        with pytest.raises(StateLostError, match="is not there"):
            others[1].load(1)
        states.load(1)

    def test_another_clients_state_stays_while_it_is_in_use(self, states: ClientStates) -> None:
        other = ClientStates(states.directory, "run", "B", "Mine")
        for each in (other, states):
            each.save(1, STATE)
        states.keep_within(OutboxLimits(1, 1e6))
        assert other.load(1).keys() == STATE.keys()

    def test_what_a_killed_worker_left_goes_after_a_day(self, states: ClientStates) -> None:
        states.save(1, STATE)
        (path,) = states.directory.glob("*/*/*")
        torn, fresh = (
            path.with_name(".00000002.safetensors.77.part"),
            path.with_name(".00000003.safetensors.78.part"),
        )
        torn.write_text("half")
        fresh.write_text("half")
        os.utime(torn, (0, 0))
        states.keep_within(OutboxLimits())
        assert not torn.exists()
        assert fresh.exists()


def test_another_version_of_the_format_is_not_read(
    states: ClientStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("appfl_gc.site.state.VERSION", 2)
        states.save(1, STATE)
    with pytest.raises(StateLostError, match="version 2 of its format"):
        states.load(1)
