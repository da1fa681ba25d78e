"""What a run was started with comes back, from another directory too, and without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from appfl_gc.protocol.errors import UsageError
from appfl_gc.runner.resume.invocation import FILE, Invocation
from tests.small_federation import SmallFederation


def test_it_comes_back_with_absolute_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_TOKEN", "very-secret")
    (tmp_path / "token_file").write_text("very-secret")
    made = Invocation.here(
        "server.yaml",
        Path("clients.yaml"),
        overrides=("server_configs.device=cpu", "a.b='x y'"),
        strict=True,
        local=True,
        local_data={"Client1": "data.py:load"},
        enable_server_val=True,
        init_model="model.safetensors",
        compute_token="MY_TOKEN",
        openid_token="token_file",
    )
    made.save(tmp_path)
    monkeypatch.delenv("MY_TOKEN")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    read = Invocation.load(tmp_path)
    assert read == made
    assert (read.server_config, read.client_config) == (tmp_path / "server.yaml", tmp_path / "clients.yaml")
    assert (read.working_directory, read.init_model) == (tmp_path, tmp_path / "model.safetensors")
    assert (read.compute_token, read.openid_token) == ("MY_TOKEN", str(tmp_path / "token_file"))
    assert "very-secret" not in (tmp_path / FILE).read_text()


def test_it_loads_the_same_federation_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SmallFederation(tmp_path / "project" / "configs").write()
    sources = tmp_path / "project"
    for name in ("dataset.py", "model.py", "metric.py"):
        (tmp_path / "project" / "configs" / name).rename(sources / name)
    decoy = tmp_path / "elsewhere"
    decoy.mkdir()
    (decoy / "model.py").write_text("def Net():\n    pass\n")
    monkeypatch.chdir(sources)
    made = Invocation.here("configs/server.yaml", "configs/clients.yaml", local=True)
    before = made.federation().resolved()
    made.save(tmp_path)
    monkeypatch.chdir(decoy)
    read = Invocation.load(tmp_path)
    with read.in_its_directory():
        assert read.federation().resolved() == before
    assert Path.cwd() == decoy
    assert read.federation().resolved() != before


def test_a_working_directory_that_is_gone_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gone = Invocation(tmp_path / "s", tmp_path / "c", tmp_path / "gone")
    with gone.in_its_directory():
        assert Path.cwd() == tmp_path


def test_what_is_given_now_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = Invocation.here("s", "c", overrides=("a=1",), compute_token="THEN")
    now = made.with_changes(client_config="new", overrides=("a=2",))
    assert (now.server_config, now.client_config) == (tmp_path / "s", tmp_path / "new")
    assert now.overrides == ("a=1", "a=2")
    assert now.compute_token == made.compute_token


def test_overrides_with_secrets_are_not_written_down(tmp_path: Path) -> None:
    secret = "clients[0].comm_configs.proxystore_configs.connector_configs.password=hunter2"
    Invocation.here("s", "c", overrides=("server_configs.device=cpu", secret)).save(tmp_path)
    assert "hunter2" not in (tmp_path / FILE).read_text()
    assert Invocation.load(tmp_path).overrides == ("server_configs.device=cpu",)


@pytest.mark.parametrize("token", ["AgGqP7xYz0123456789", "A/gGqP7xYz", "x" * 5000, "with\0zero"])
def test_a_token_that_is_given_in_place_of_its_name_is_not_written_down(tmp_path: Path, token: str) -> None:
    Invocation.here("s", "c", compute_token=token, openid_token=token).save(tmp_path)
    text = (tmp_path / FILE).read_text()
    assert token.partition("\0")[0].rpartition("/")[2] not in text
    read = Invocation.load(tmp_path)
    assert read.compute_token is None
    assert read.openid_token is None


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"invocation": 2}', '{"invocation": 1}', "\0"])
def test_without_a_readable_one_it_says_what_to_do(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / FILE).write_text(content)
    with pytest.raises(UsageError) as refused:
        Invocation.load(tmp_path)
    assert "--server_config" in refused.value.hint
