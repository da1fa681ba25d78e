"""The S3 store against a real server: both sides, grants, and what a site may do."""

import json
import time

import pytest
import requests

from appfl_gc.payload.s3.check import check
from appfl_gc.payload.s3.refusals import GrantEndedError
from appfl_gc.payload.s3.upload import SMALLEST_PART, part_bytes
from appfl_gc.protocol.errors import TransferError, UsageError
from appfl_gc.protocol.reference import Ref

from .payloads import MB, Payload, Progress, fetched, site, temporary_file


@pytest.mark.parametrize("size", [1, SMALLEST_PART, SMALLEST_PART + 1, 21 * MB])
def test_the_server_puts_and_a_site_fetches(store, size):
    payload, sent = Payload(size), Progress()
    ref = store.put(payload, sent)
    sent.check(size)
    assert (ref.scheme, ref.size, ref.checksum, ref.codec) == ("s3", size, payload.checksum, payload.codec)
    assert fetched(site(store.grant([ref], MB)), ref) == payload.content
    assert fetched(store, ref) == payload.content


@pytest.mark.parametrize("size", [1, 21 * MB])
def test_a_site_puts_and_the_server_completes_and_fetches(store, s3_server, bucket, size):
    payload, sent = Payload(size), Progress()
    grant = json.loads(json.dumps(store.grant([], size)))
    ref = site(grant).put(payload, sent)
    sent.check(size)
    assert (ref.locator, ref.checksum) == (grant["locator"], payload.checksum)
    key = f"{store.where['prefix']}{ref.locator}"
    assert key not in s3_server.keys(bucket)
    assert fetched(store, ref) == payload.content
    assert key in s3_server.keys(bucket)
    store.evict(ref)
    assert key not in s3_server.keys(bucket)
    store.evict(ref)


def test_a_site_puts_again_with_the_same_grant(store):
    grant = store.grant([], 20 * MB)
    site(grant).put(Payload(20 * MB, seed=1))
    # This server lists both, with times in whole seconds.
    time.sleep(1.1)
    smaller = Payload(9 * MB, seed=2)
    ref = site(grant).put(smaller)
    assert fetched(store, ref) == smaller.content


def test_a_payload_with_more_parts_than_the_smallest_allows(store):
    assert part_bytes(SMALLEST_PART * 64) == SMALLEST_PART
    assert part_bytes(30_000 * MB) * 64 >= 30_000 * MB
    assert len(store.grant([], 600 * MB)["parts"]) <= 64


def test_a_site_that_says_other_sizes_than_it_uploaded_is_refused(store, s3_server, bucket):
    grant = store.grant([], MB)
    ref = site(grant).put(Payload(MB))
    for size in (MB - 1, MB + 1):
        with pytest.raises(TransferError, match="payload was refused"):
            fetched(store, Ref("s3", ref.locator, size, ref.checksum, ref.codec))
    store.evict(ref)
    assert f"{store.where['prefix']}{ref.locator}" not in s3_server.keys(bucket) + s3_server.uploads(bucket)


def test_a_site_that_uploads_more_than_was_granted_is_refused(store, s3_server, bucket):
    grant = store.grant([], MB)
    much = Payload(3 * MB)
    # A part URL takes any size.
    assert requests.put(grant["parts"][0], data=much.content, timeout=60).status_code == 200
    ref = Ref("s3", grant["locator"], much.size, much.checksum, much.codec)
    with pytest.raises(TransferError, match=r"3,000,000 bytes to the store.*granted 1,000,000"):
        fetched(store, ref)
    store.evict(ref)
    assert f"{store.where['prefix']}{ref.locator}" not in s3_server.keys(bucket) + s3_server.uploads(bucket)
    with pytest.raises(TransferError, match="granted room for"):
        site(grant).put(Payload(9 * MB))


def test_a_grant_outlives_a_restart_of_the_server(make_store):
    before = make_store(run="again")
    payload = Payload(9 * MB)
    grant = before.grant([], 9 * MB)
    ref = site(grant).put(payload)
    after = make_store(run="again")
    assert fetched(after, ref) == payload.content
    after.evict(ref)


def test_a_withdrawn_grant_leaves_nothing_also_after_a_restart(make_store, s3_server, bucket):
    before = make_store(run="withdrawn")
    grants = [before.grant([], MB) for _ in range(2)]
    ref = site(grants[0]).put(Payload(MB))
    before.withdraw(grants[0])
    before.withdraw(grants[0])
    after = make_store(run="withdrawn")
    after.withdraw({name: grants[1][name] for name in ("scheme", "locator", "upload")})
    assert not [key for key in s3_server.uploads(bucket) if "/withdrawn/" in key]
    with pytest.raises(TransferError, match="not there"):
        fetched(after, ref)


def test_an_expired_url_is_a_grant_that_ended_and_another_one_works(make_store):
    store = make_store()
    payload = Payload(100)
    ref = store.put(payload)
    # A URL says itself how long it lives; the store believes its own signature only.
    store._client.seconds_valid = lambda: 1
    grant = store.grant([ref], 100)
    assert grant["seconds"] == 1
    url = grant["parts"][0]
    deadline = time.monotonic() + 30
    while requests.put(url, data=b"x", timeout=10).status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    with pytest.raises(GrantEndedError, match="has expired") as caught:
        site(grant).put(payload)
    assert url.partition("?")[2][:30] not in str(caught.value)
    with pytest.raises(GrantEndedError):
        fetched(site(grant), ref)
    del store._client.seconds_valid
    assert fetched(store, site(store.grant([], 100)).put(payload)) == payload.content


def test_an_altered_url_is_refused(store):
    payload = Payload(100)
    ref = store.put(payload)
    other = store.put(Payload(100, seed=1))
    grant = store.grant([ref], 100)
    grant["read"][ref.locator] = grant["read"][ref.locator].replace(ref.locator, other.locator)
    with pytest.raises(GrantEndedError, match="gives no right"):
        fetched(site(grant), ref)


def test_objects_that_are_not_the_runs_are_never_touched(make_store, s3_server, bucket):
    client, store = s3_server.client(), make_store()
    base = store.where["prefix"]
    run = base.split("/")[1]
    foreign = ["mine", f"{base}not-a-locator", f"appfl_gc/{run}x/{'0' * 32}", f"{base}{'0' * 32}x"]
    for key in foreign:
        client.put_object(Bucket=bucket, Key=key, Body=b"precious")
    other = make_store()
    others = other.put(Payload(10))
    other_grant = other.grant([], 10)
    store.put(Payload(10))
    store.put(Payload(9 * MB))
    store.grant([], 10)
    swept = store.sweep()
    assert (swept.objects, swept.bytes, swept.uploads) == (2, 9 * MB + 10, 1)
    keys = s3_server.keys(bucket)
    assert set(foreign) <= set(keys)
    assert sorted(key for key in keys if key.startswith(base)) == sorted(
        key for key in foreign if key.startswith(base)
    )
    assert fetched(other, others) == Payload(10).content
    other.withdraw(other_grant)


@pytest.mark.parametrize("locator", ["", "../../mine", "0" * 31, "0" * 33, "mine", "0" * 32 + "/x", "A" * 32])
def test_a_locator_never_chooses_another_object(store, locator):
    ref = Ref("s3", locator, 10, "blake3:0", "safetensors-1")
    for deed in (store.evict, lambda ref: store.grant([ref], 10), lambda ref: fetched(store, ref)):
        with pytest.raises(TransferError, match="never gave"):
            deed(ref)


def test_a_site_reads_only_what_was_granted(store):
    ref = store.put(Payload(10))
    with pytest.raises(TransferError, match="granted no access"):
        fetched(site(store.grant([], 10)), ref)


def test_an_object_of_another_size_is_refused_before_it_is_taken(store):
    ref = store.put(Payload(10_000))
    for size in (9_999, 10_001):
        wrong = Ref("s3", ref.locator, size, ref.checksum, ref.codec)
        with temporary_file() as file, pytest.raises(TransferError, match="bytes"):
            store.fetch(wrong, file, lambda done: None)


def test_a_bucket_that_does_all_is_found_good_and_left_empty(make_store, s3_server, bucket):
    store = make_store()
    kept = store.put(Payload(10))
    assert check(store) == []
    assert fetched(store, kept) == Payload(10).content
    store.evict(kept)
    left = s3_server.keys(bucket) + s3_server.uploads(bucket)
    assert not [key for key in left if key.startswith(store.where["prefix"])]


def credentials(tmp_path, text):
    path = tmp_path / "credentials"
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_what_is_wrong_with_bucket_or_login_is_said(make_store, s3_server, tmp_path):
    from tests.s3_server import ACCESS_KEY, READER_KEY, READER_SECRET, SECRET_KEY

    cases = [
        ({"bucket": "no-such-bucket"}, "There is no S3 bucket no-such-bucket"),
        (f"us-east-1,{ACCESS_KEY},{SECRET_KEY}x", "secret access key is wrong"),
        (f"us-east-1,AKIANOBODY,{SECRET_KEY}", "does not know the access key"),
        (f"us-east-1,{READER_KEY},{READER_SECRET}", "have no right to it"),
    ]
    for change, said in cases:
        settings = change if isinstance(change, dict) else {"credentials_file": credentials(tmp_path, change)}
        with pytest.raises(UsageError, match=said) as caught:
            check(make_store(**settings))
        for secret in (SECRET_KEY, READER_SECRET):
            assert secret not in str(caught.value)


def test_a_store_that_is_not_there_is_said(make_store):
    with pytest.raises(TransferError, match="can't be reached"):
        check(make_store(url="http://127.0.0.1:9"))


def test_reprs_and_the_grants_public_part_have_no_secret(store, s3_server):
    from appfl_gc.payload.grants import public
    from appfl_gc.payload.s3.settings import read_credentials
    from tests.s3_server import SECRET_KEY

    ref = store.put(Payload(10))
    grant = store.grant([ref], 10)
    texts = [
        repr(read_credentials(s3_server.credentials)),
        repr(store.settings),
        repr(store.where),
        repr(site(grant)),
        json.dumps(public(grant)),
    ]
    for text in texts:
        assert SECRET_KEY not in text and "X-Amz" not in text
    assert public(grant)["upload"] == grant["upload"]
