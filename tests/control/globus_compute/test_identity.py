"""Which identity is used, and that its secrets stay where they are."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from appfl_gc.control.globus_compute.identity import default_identity, identity_from
from appfl_gc.control.globus_compute.identity.access_token import AccessToken
from appfl_gc.control.globus_compute.identity.application import Application
from appfl_gc.control.globus_compute.identity.private_file import read_private_file
from appfl_gc.control.globus_compute.identity.user_login import UserLogin
from appfl_gc.protocol.errors import LoginError, UsageError

ID_A, ID_B = "11111111-2222-3333-4444-555555555555", "66666666-2222-3333-4444-555555555555"
SECRET = "s3cret+very/secret="


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, storage and environment."""
    for name in ("GLOBUS_COMPUTE_CLIENT_ID", "GLOBUS_COMPUTE_CLIENT_SECRET", "GLOBUS_SDK_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def application_text() -> str:
    return json.dumps({"client_id": ID_A, "client_secret": SECRET})


def application(credentials: str, beside: tuple[Path, ...] = ()) -> Application:
    found = identity_from(credentials, beside)
    assert isinstance(found, Application)
    return found


def refusal(credentials: str, beside: tuple[Path, ...] = ()) -> str:
    with pytest.raises(LoginError) as caught:
        identity_from(credentials, beside)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_without_anything_it_is_the_login_of_this_user() -> None:
    assert default_identity() == identity_from(None) == UserLogin.of_environment()
    assert default_identity().waits_for_login


def test_the_environment_of_the_sdk_makes_an_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_ID", ID_A)
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", SECRET)
    found = default_identity()
    assert isinstance(found, Application)
    assert (found.client_id, found.client_secret) == (ID_A, SECRET)
    assert not found.waits_for_login and not found.login_required()


def test_a_secret_without_its_id_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", SECRET)
    with pytest.raises(LoginError) as caught:
        default_identity()
    assert "GLOBUS_COMPUTE_CLIENT_ID is not set" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_prefix_names_two_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE_A_CLIENT_ID", ID_A.upper() + " ")
    monkeypatch.setenv("SITE_A_CLIENT_SECRET", SECRET + "\n")
    found = application("SITE_A")
    assert (found.client_id, found.client_secret) == (ID_A, SECRET)
    assert "SITE_A_CLIENT_ID" in found.describe() and ID_A in found.describe()


@pytest.mark.parametrize("missing", ["SITE_A_CLIENT_ID", "SITE_A_CLIENT_SECRET"])
def test_half_a_prefix_names_the_missing_half(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE_A_CLIENT_ID", ID_A)
    monkeypatch.setenv("SITE_A_CLIENT_SECRET", SECRET)
    monkeypatch.delenv(missing)
    assert f"The environment variable {missing} is not set" in refusal("SITE_A")


def test_an_id_that_is_no_uuid_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE_A_CLIENT_ID", SECRET)  # the two were swapped
    monkeypatch.setenv("SITE_A_CLIENT_SECRET", ID_A)
    assert "is not a UUID" in refusal("SITE_A")


@pytest.mark.parametrize("text", [application_text(), f"client_id: {ID_A}\nclient_secret: '{SECRET}'\n"])
def test_a_file_is_json_or_yaml(text: str, place: Path) -> None:
    path = private(place / "site_a.json", text)
    found = application("site_a.json")
    assert (found.client_id, found.client_secret) == (ID_A, SECRET)
    assert str(path) in found.describe() and SECRET not in found.describe() + repr(found)


def test_a_file_is_looked_for_like_other_relative_paths(place: Path) -> None:
    beside = (place / "configs/site", place / "configs")
    text = refusal("keys/a.yaml", beside)
    looked = [place / "keys/a.yaml", *(folder / "keys/a.yaml" for folder in beside)]
    assert all(str(path) in text for path in looked)
    for path in reversed(looked):
        private(path, application_text())
        assert str(path) in application("keys/a.yaml", beside).source


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o666])
def test_a_file_that_others_can_use_is_refused(mode: int, place: Path) -> None:
    path = private(place / "a.yaml", application_text(), mode)
    text = refusal("a.yaml")
    assert f"{mode:04o}" in text and f"chmod 600 {path}" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(place: Path) -> None:
    os.chown(private(place / "a.yaml", application_text()), 12345, -1)
    assert "belongs to another user (uid 12345)" in refusal("a.yaml")


def test_what_is_not_a_file_is_refused_without_waiting(place: Path) -> None:
    os.mkfifo(place / "pipe.json", 0o600)
    assert "is not a file" in refusal("pipe.json")
    (place / "folder.json").mkdir(mode=0o700)
    assert "folder.json" in refusal("folder.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"client_secret: '{SECRET}'", "no text under client_id"),
        (f"client_id: {ID_A}", "no text under client_secret"),
        (f"{SECRET}: [", "neither JSON nor YAML"),
        (f"- {SECRET}", "is not a block"),
        (f"client_id: '{SECRET}'\nclient_secret: x", "is not a UUID"),
        ("\x00\x01", "neither JSON nor YAML"),
    ],
)
def test_a_wrong_file_is_told_without_its_content(text: str, said: str, place: Path) -> None:
    private(place / "a.yaml", text)
    assert said in refusal("a.yaml")


def test_bytes_that_are_no_text(place: Path) -> None:
    private(place / "a.yaml", "").write_bytes(b"\xff\xfe\xff")
    assert "is not text" in refusal("a.yaml")


def test_a_large_file_is_no_secret(place: Path) -> None:
    path = private(place / "a.yaml", "x" * 70000)
    with pytest.raises(LoginError, match="no secret"):
        read_private_file(path)


@pytest.mark.parametrize("value", [SECRET, f"{ID_A}:{SECRET}", "two words", "abcDEF123456" * 4])
def test_what_may_be_a_secret_is_not_repeated(value: str) -> None:
    assert value not in refusal(value)


def test_a_prefix_without_variables_names_both_and_the_places(place: Path) -> None:
    text = refusal("SITE_A")
    assert "SITE_A_CLIENT_ID and SITE_A_CLIENT_SECRET are not set" in text and str(place / "SITE_A") in text


def test_the_same_application_from_two_places_is_one_identity(place: Path) -> None:
    private(place / "a.json", application_text())
    private(place / "b.json", application_text())
    private(place / "c.json", json.dumps({"client_id": ID_B, "client_secret": SECRET}))
    assert identity_from("a.json") == identity_from("b.json") != identity_from("c.json")
    assert len({identity_from(name) for name in ("a.json", "b.json", "c.json")}) == 2


def test_each_application_has_its_own_drawer_of_tokens(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private(place / "a.json", application_text())
    private(place / "b.json", json.dumps({"client_id": ID_B, "client_secret": SECRET}))
    spaces = {application(name).place.namespace for name in ("a.json", "b.json")}
    spaces.add(UserLogin.of_environment().place.namespace)
    assert len(spaces) == 3
    # The names that the SDK gives, so that it and `globus-compute-endpoint` share them.
    from globus_compute_sdk.sdk.auth.token_storage import get_token_storage

    theirs = get_token_storage()
    assert theirs.namespace == UserLogin.of_environment().place.namespace
    theirs.close()
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_ID", ID_A)
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", SECRET)
    theirs, ours = get_token_storage(), application("a.json").place.open()
    assert (theirs.namespace, str(theirs.filepath)) == (ours.namespace, str(ours.filepath))
    theirs.close()
    ours.close()


def test_the_storage_is_closed_to_others(place: Path) -> None:
    UserLogin.of_environment().login_required()
    assert stat.S_IMODE((place / "user" / "storage.db").stat().st_mode) & 0o077 == 0


def test_a_storage_that_cannot_be_used_is_told(place: Path) -> None:
    (place / "user").mkdir()
    (place / "user" / "storage.db").write_text("this is no database, and long enough to be looked at" * 40)
    with pytest.raises(LoginError, match="file of Globus tokens"):
        UserLogin.of_environment().login_required()


class TestTokens:
    def test_a_variable_and_a_file(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_TOKEN", SECRET)
        path = private(place / "token", f"{SECRET}\n")
        for source in ("MY_TOKEN", str(path), "token"):
            found = default_identity(source, source)
            assert isinstance(found, AccessToken)
            assert source in found.describe()
            assert SECRET not in repr(found) + found.describe() + found.hint
            assert found.compute.read() == SECRET
            assert not found.login_status().renews

    def test_a_file_that_others_can_read(self, place: Path) -> None:
        private(place / "token", SECRET, 0o644)
        with pytest.raises(LoginError, match="0644"):
            default_identity("token").login_status()

    @pytest.mark.parametrize("text", ["", " \n", "two words", "tëxt"])
    def test_what_is_no_token(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_TOKEN", text)
        with pytest.raises(LoginError, match="does not hold a token"):
            default_identity("MY_TOKEN").login_status()

    def test_a_token_itself_is_refused_and_not_repeated(self) -> None:
        for given in ((SECRET, None), ("PATH", SECRET)):
            with pytest.raises(UsageError) as caught:
                default_identity(*given)
            assert SECRET not in str(caught.value)
            assert "never belongs on a command line" in str(caught.value)

    def test_the_second_alone_says_nothing(self) -> None:
        with pytest.raises(UsageError, match="--compute_token"):
            default_identity(None, "PATH")
