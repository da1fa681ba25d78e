"""A mailbox in a bucket of a real server."""

import json

import pytest
import requests

from appfl_gc.payload.mailbox.base import TaskProgress
from appfl_gc.payload.mailbox.making import mailbox_from_grant
from appfl_gc.protocol.errors import TransferError


def both(store):
    server = store.mailbox()
    return server, mailbox_from_grant(json.loads(json.dumps(server.grant)))


def test_a_call_is_wanted_until_the_server_takes_the_mark_away(make_store, s3_server, bucket):
    store = make_store()
    server, site = both(store)
    assert site.wanted()
    assert server.progress() is None
    for steps in (3, 7):
        site.tell(TaskProgress(steps, 10))
        assert server.progress() == TaskProgress(steps, 10)
    server.remove()
    assert not site.wanted()
    assert server.progress() is None
    assert not [key for key in s3_server.keys(bucket) if key.startswith(store.where["prefix"])]
    server.remove()
    site.close()


def test_a_later_server_takes_the_mark_away_by_what_the_journal_has(make_store):
    store = make_store(run="journalled")
    server, site = both(store)
    public = json.dumps(server.public)
    assert "http" not in public, "the journal holds nothing that gives access"
    later = make_store(run="journalled").mailbox(json.loads(public))
    site.tell(TaskProgress(2))
    assert later.progress() == TaskProgress(2)
    later.remove()
    assert not site.wanted()


def test_a_sweep_stops_every_site(make_store, s3_server, bucket):
    store = make_store()
    sites = [both(store)[1] for _ in range(2)]
    sites[0].tell(TaskProgress(1))
    store.sweep()
    assert [site.wanted() for site in sites] == [False, False]
    assert not [key for key in s3_server.keys(bucket) if key.startswith(store.where["prefix"])]


@pytest.mark.parametrize("fault", ["refuse", "forged", "gone host"])
def test_a_store_that_does_not_say_leaves_the_site_at_work(make_store, s3_server, fault):
    server, _ = both(make_store())
    grant = server.grant
    if fault == "gone host":
        grant = {name: value.replace(str(s3_server.port), "1") for name, value in grant.items()}
    elif fault == "forged":
        grant = {
            name: value.replace("X-Amz-Signature=", "X-Amz-Signature=0") for name, value in grant.items()
        }
    else:
        grant = {name: value.replace("X-Amz-Expires=", "X-Amz-Expires=-") for name, value in grant.items()}
    site = mailbox_from_grant(grant)
    site.tell(TaskProgress(1))
    assert site.wanted()
    assert server.progress() is None
    server.remove()


@pytest.mark.parametrize("size", [0, 99, 101, 1_000_000])
def test_a_site_can_put_nothing_but_a_note_there(make_store, size):
    server, site = both(make_store())
    put = requests.put(server.grant["tell"], data=b" " * size, timeout=60)
    assert put.status_code == 403
    assert server.progress() is None
    site.tell(TaskProgress(10**9, 10**9))
    assert server.progress() == TaskProgress(10**9, 10**9)
    server.remove()


@pytest.mark.parametrize("name", ["../x", "", "0" * 31, "0" * 33])
def test_a_name_that_no_server_gave_reaches_nothing(store, name):
    with pytest.raises(TransferError):
        store.mailbox({"scheme": "s3", "mark": name, "progress": "0" * 32})
