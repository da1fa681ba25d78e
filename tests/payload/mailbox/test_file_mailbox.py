"""A mailbox in a shared directory: the site sees that nobody waits any more, and the server how far it is."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from appfl_gc.payload.file_store import FileStore
from appfl_gc.payload.inline_store import InlineStore
from appfl_gc.payload.mailbox.base import ServerMailbox, SiteMailbox, TaskProgress
from appfl_gc.payload.mailbox.making import mailbox_from_grant
from appfl_gc.payload.stores import Stores
from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.wire import WireError


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "payloads")


def both(store: FileStore) -> tuple[ServerMailbox, SiteMailbox]:
    server = store.mailbox()
    return server, mailbox_from_grant(json.loads(json.dumps(server.grant)))


def test_a_call_is_wanted_until_the_server_takes_the_mark_away(store: FileStore) -> None:
    server, site = both(store)
    other_server, other_site = both(store)
    assert site.wanted() and other_site.wanted()
    server.remove()
    assert not site.wanted()
    assert other_site.wanted(), "each call has a mailbox of its own"
    server.remove()
    other_server.remove()
    assert list(store.directory.iterdir()) == []


def test_the_server_hears_how_far_the_task_is(store: FileStore) -> None:
    server, site = both(store)
    assert server.progress() is None
    for steps in (3, 7):
        site.tell(TaskProgress(steps, 10))
        assert server.progress() == TaskProgress(steps, 10)
    server.remove()
    assert list(store.directory.iterdir()) == []


def test_a_later_server_takes_the_mark_away_by_what_the_journal_has(store: FileStore) -> None:
    server, site = both(store)
    site.tell(TaskProgress(2))
    later = FileStore(store.directory).mailbox(json.loads(json.dumps(server.public)))
    assert later.progress() == TaskProgress(2)
    later.remove()
    assert not site.wanted()


def test_a_sweep_stops_every_site_and_leaves_what_is_not_a_mailbox(store: FileStore) -> None:
    sites = [both(store)[1] for _ in range(3)]
    sites[0].tell(TaskProgress(1))
    (store.directory / "notes.mark").write_text("mine")
    store.sweep()
    assert [site.wanted() for site in sites] == [False] * 3
    assert [path.name for path in store.directory.iterdir()] == ["notes.mark"]


def test_a_site_that_does_not_see_the_directory_goes_on(store: FileStore) -> None:
    _, site = both(store)
    store.directory.rename(store.directory.with_name("elsewhere"))
    assert site.wanted(), "a file system that is not mounted says nothing of the call"
    site.tell(TaskProgress(1))
    assert not store.directory.exists()


@pytest.mark.parametrize(
    "written", [b"", b"{", b"[1]", b'{"steps": -1, "planned": 2}', b'{"steps": 1}', b"\xff", b" " * 100_000]
)
def test_whatever_a_site_writes_the_server_goes_on(store: FileStore, written: bytes) -> None:
    server, _ = both(store)
    (store.directory / f"{server.public['name']}.progress").write_bytes(written)
    assert server.progress() is None


def test_a_link_in_the_place_of_progress_is_not_followed(store: FileStore, tmp_path: Path) -> None:
    server, _ = both(store)
    secret = tmp_path / "secret"
    secret.write_text('{"steps": 1, "planned": 2}')
    (store.directory / f"{server.public['name']}.progress").symlink_to(secret)
    with pytest.raises(TransferError):
        server.progress()


@pytest.mark.parametrize("name", ["../x", "x", "", "0" * 31, "0" * 32 + ".mark", 3])
def test_a_name_that_no_server_gave_reaches_nothing(store: FileStore, name: object) -> None:
    with pytest.raises(TransferError):
        store.mailbox({"scheme": "file", "name": name})  # type: ignore[dict-item]
    with pytest.raises(WireError):
        mailbox_from_grant({"scheme": "file", "directory": str(store.directory), "name": name})  # type: ignore[dict-item]


def test_a_mailbox_can_be_read_by_whoever_can_read_payloads(store: FileStore) -> None:
    store.directory.chmod(0o755)
    server, site = both(store)
    site.tell(TaskProgress(1))
    assert {stat.S_IMODE(path.stat().st_mode) for path in store.directory.iterdir()} == {0o644}
    server.remove()


def test_a_directory_that_takes_no_mark_says_so(store: FileStore) -> None:
    store.directory.rmdir()
    with pytest.raises(TransferError, match="A mailbox can't be made"):
        store.mailbox()


def test_stores_have_the_mailboxes_of_the_larger_one(store: FileStore) -> None:
    assert Stores(InlineStore()).mailbox() is None
    server = Stores(InlineStore(), store).mailbox()
    assert server is not None and server.grant["directory"] == str(store.directory)


@pytest.mark.parametrize(
    "grant", [{}, {"scheme": "other"}, {"scheme": "s3"}, {"scheme": "s3", "wanted": "file:///x"}]
)
def test_a_malformed_grant_is_refused(grant: dict[str, str]) -> None:
    with pytest.raises(WireError):
        mailbox_from_grant(dict(grant))
