"""Runs whose models travel by a real S3 server, as they should go and as they go wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from appfl_gc.protocol.errors import ErrorClass, TransferError, UsageError
from appfl_gc.runner.events import ClientFailed, ClientTrained, Outcome, RoundFinished, RunEvent
from tests.fault_proxy import Fault, FaultProxy
from tests.runner.conftest import Heard, model_bits, train
from tests.s3_server import SECRET_KEY, S3Server
from tests.transfers.conftest import BUCKET, Stored, calls_of, s3_configs

TRAINED = [("Client1", 1), ("Client2", 1), ("Client1", 2), ("Client2", 2)]


def requests_of(proxy: FaultProxy, method: str) -> list[str]:
    """Paths and queries of the requests for objects of the run."""
    return [path for verb, path, _ in proxy.requests if verb == method and f"/{BUCKET}/" in path]


def is_part(path: str) -> bool:
    """A site's upload: the server's own are whole objects, since the model is small."""
    return "partNumber" in path


def is_whole(path: str) -> bool:
    return not any(word in path for word in ("partNumber", "upload", "list-type"))


def test_the_bits_are_those_of_a_run_by_files_and_nothing_is_left(
    s3: Stored, s3_server: S3Server, proxy: FaultProxy, by_files: bytes
) -> None:
    s3_server.client().put_object(Bucket=BUCKET, Key="somebody/else", Body=b"keep")
    result = train(s3.federation)
    assert result.outcome is Outcome.FINISHED, result.error
    assert model_bits(result) == by_files
    assert s3_server.keys(BUCKET) == ["somebody/else"]
    assert s3_server.uploads(BUCKET) == []
    # Beside what `check` tries: one upload of each of the two models, one of each update, a mark for each call.
    ups = [path for path in requests_of(proxy, "PUT") if is_whole(path)]
    assert len([path for path in ups if "X-Amz-" in path]) == 2
    assert len([path for path in ups if "X-Amz-" not in path]) == len(TRAINED)
    parts = {path.partition("?")[0] for path in requests_of(proxy, "PUT") if is_part(path)}
    assert len(parts) == len(TRAINED) + 1


def test_nothing_that_gives_access_is_written_anywhere(s3: Stored, capfd: pytest.CaptureFixture[str]) -> None:
    result = train(s3.federation)
    written = [path for path in result.run_dir.rglob("*") if path.is_file()]
    texts = {path.name: path.read_bytes() for path in written}
    out, err = capfd.readouterr()
    texts |= {"stdout": out.encode(), "stderr": err.encode()}
    assert "journal.jsonl" in texts
    for name, text in texts.items():
        for secret in (b"X-Amz-", b"Signature", SECRET_KEY.encode(), b'_key"'):
            assert secret not in text, (name, secret)


def test_an_upload_that_the_store_refuses_is_sent_again_without_training_again(
    s3: Stored, proxy: FaultProxy, by_files: bytes
) -> None:
    refused = Fault("status", method="PUT", matches=is_part, status=403, code="AccessDenied", times=1)

    def begin(event: RunEvent) -> None:
        # The first update has come; the next one's grant has "expired".
        if isinstance(event, ClientTrained) and refused not in proxy.faults:
            proxy.faults.append(refused)

    result = train(s3.federation, heard=Heard(begin))
    assert refused.happened == 1
    assert result.outcome is Outcome.FINISHED, result.error
    assert model_bits(result) == by_files
    sent_again = [call for call in calls_of(result.run_dir) if call[3] == "payload.send"]
    assert len(sent_again) == 1
    client, round_, attempt, _ = sent_again[0]
    assert attempt == 2
    trained = [call for call in calls_of(result.run_dir) if call[3] == "trainer.train"]
    assert [(client, round_) for client, round_, _, _ in trained].count((client, round_)) == 1


def test_an_update_that_was_altered_in_the_store_is_sent_again(
    s3: Stored, proxy: FaultProxy, by_files: bytes
) -> None:
    altered = Fault("alter", where="down", after=600, method="GET", matches=is_whole, times=1)

    def begin(event: RunEvent) -> None:
        if isinstance(event, ClientTrained) and altered not in proxy.faults:
            proxy.faults.append(altered)

    result = train(s3.federation, heard=Heard(begin))
    assert altered.happened == 1
    assert result.outcome is Outcome.FINISHED, result.error
    assert model_bits(result) == by_files
    assert len(calls_of(result.run_dir)) == len(TRAINED) + 1


def test_trouble_in_mid_part_is_over_at_the_next_try(s3: Stored, proxy: FaultProxy, by_files: bytes) -> None:
    proxy.faults += [
        Fault("cut", after=300, method="PUT", matches=is_part),
        Fault("status", method="PUT", matches=is_part, status=500, code="InternalError"),
        Fault("cut", where="down", after=300, method="GET", matches=is_whole),
        Fault("status", where="down", method="GET", matches=is_whole, status=503),
    ]
    result = train(s3.federation)
    assert all(fault.happened for fault in proxy.faults)
    assert model_bits(result) == by_files
    assert len(calls_of(result.run_dir)) == len(TRAINED)


def test_compressed_and_encrypted(s3: Stored, s3_server: S3Server) -> None:
    s3.configure(
        encryption_configs={"enable_encryption": True},
        compressor_configs={
            "enable_compression": True,
            "lossy_compressor": "SZ3Compressor",
            "error_bounding_mode": "ABS",
            "error_bound": 1e-4,
            "param_cutoff": 16,
            "compress_global_model": True,
        },
    )
    seen: list[bytes] = []

    def look(event: RunEvent) -> None:
        if isinstance(event, ClientTrained):
            client = s3_server.client()
            keys = s3_server.keys(BUCKET)
            seen.extend(
                client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys if "appfl" in key
            )

    result = train(s3.federation, heard=Heard(look))
    assert result.outcome is Outcome.FINISHED, result.error
    assert seen
    assert not any(b"layers" in stored or b"__metadata__" in stored for stored in seen)
    rows = (result.run_dir / "metrics.jsonl").read_text()
    assert '"compression_ratio"' in rows
    assert '"compression_error"' in rows


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"s3_bucket": "no-such-bucket"}, "no-such-bucket"),
        ({"endpoint_url": "http://127.0.0.1:9"}, "the connection was refused.*tried"),
    ],
    ids=["bucket", "address"],
)
def test_a_store_that_cannot_be_used_ends_the_run_before_it_begins(
    s3: Stored, s3_server: S3Server, proxy: FaultProxy, wrong: dict[str, str], message: str
) -> None:
    s3.configure(s3_configs={**s3_configs(s3_server, proxy.url), **wrong})
    with pytest.raises((TransferError, UsageError), match=message):
        train(s3.federation)


def test_a_wrong_secret_is_told_without_it(
    s3: Stored, s3_server: S3Server, proxy: FaultProxy, tmp_path: Path
) -> None:
    wrong = tmp_path / "credentials"
    wrong.write_text(
        s3_server.credentials.read_text().replace(SECRET_KEY, "not-the-secret-key-at-all-of-forty-chars")
    )
    wrong.chmod(0o600)
    s3.configure(s3_configs={**s3_configs(s3_server, proxy.url), "s3_creds_file": str(wrong)})
    with pytest.raises((TransferError, UsageError)) as caught:
        train(s3.federation)
    assert "not-the-secret" not in str(caught.value)
    assert "secret" in str(caught.value).lower()


@pytest.mark.chaos
def test_a_late_client_is_stopped_through_the_bucket(
    s3: Stored, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPFL_GC_SITE_LOOK_SECONDS", "0.2")
    federation = s3.federation
    # Both clients share one worker, and the late one's steps take minutes.
    federation.client[1]["train_configs"] = {"num_local_steps": 200_000}
    federation.server["fault_tolerance_configs"] = {"quorum": 1, "deadline_seconds": 3}
    checkpoints: list[Path] = []

    def look(event: RunEvent) -> None:
        if isinstance(event, RoundFinished):
            checkpoints.extend(federation.directory.glob("output/*/local/**/*.checkpoint"))

    heard = Heard(look)
    result = train(federation, heard=heard)
    assert (result.outcome, result.rounds) == (Outcome.PARTIAL, 2)
    assert [failure.error.error_class for failure in heard.of(ClientFailed)] == [ErrorClass.LATE]  # type: ignore[attr-defined]
    assert checkpoints, "it was stopped, and did not just come to its end"
    assert set(s3_server.keys(BUCKET)) <= {"somebody/else"} and s3_server.uploads(BUCKET) == []
