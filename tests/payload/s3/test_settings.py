"""The settings of an S3 store, and the file with its credentials."""

import os

import pytest

from appfl_gc.payload.s3.settings import S3Settings, read_credentials
from appfl_gc.protocol.errors import UsageError

LINE = "us-east-1,AKIAKEY,a/secret+key\n"


def write(tmp_path, text=LINE, mode=0o600):
    path = tmp_path / "credentials"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


@pytest.mark.parametrize("text", [LINE, LINE.strip(), " us-east-1 , AKIAKEY , a/secret+key \n\n"])
def test_the_line_is_read(tmp_path, text):
    found = read_credentials(write(tmp_path, text))
    assert (found.region, found.access_key, found.secret_key) == ("us-east-1", "AKIAKEY", "a/secret+key")
    assert "AKIAKEY" not in repr(found) and "secret" not in repr(found).replace("secret_key", "")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_a_file_that_others_can_use_is_refused(tmp_path, mode):
    path = write(tmp_path, mode=mode)
    with pytest.raises(UsageError, match=f"permissions are 0{mode:o}") as caught:
        read_credentials(path)
    assert caught.value.hint == f"Run: chmod 600 {path}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not one line"),
        ("us-east-1,AKIAKEY", "is not one line"),
        ("us-east-1,AKIAKEY,", "is not one line"),
        (LINE + LINE, "is not one line"),
        ("region,access_key_id,secret_access_key\n" + LINE, "is not one line"),
        (b"\xff\xfe" + LINE.encode(), "is not one line"),
        ("AKIAKEY,US EAST,a/secret+key", "is not one line"),
        ("AKIAKEY,us-east-1,a/secret+key", "does not begin with a region"),
        (LINE + "x" * 10_000, "is not one line"),
    ],
)
def test_another_content_is_refused_and_not_repeated(tmp_path, text, said):
    with pytest.raises(UsageError, match=said) as caught:
        read_credentials(write(tmp_path, text))
    assert "a/secret" not in str(caught.value) and "AKIAKEY" not in str(caught.value)


def test_what_is_no_private_file_of_ours_is_refused(tmp_path):
    path = write(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for wrong, said in [
        (link, "symbolic link"),
        (pipe, "not a regular file"),
        (tmp_path, "not a regular file"),
        (tmp_path / "none", "can't be read: No such file"),
    ]:
        with pytest.raises(UsageError, match=said):
            read_credentials(wrong)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
        with pytest.raises(UsageError, match="belongs to another user"):
            read_credentials(path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bucket": "s3://models"}, "no name of an S3 bucket"),
        ({"bucket": "ab"}, "no name of an S3 bucket"),
        ({"bucket": "Models"}, "no name of an S3 bucket"),
        ({"bucket": "my_models"}, "no name of an S3 bucket"),
        ({"endpoint_url": "https://minio:9000/models"}, "has a path after its host"),
        ({"endpoint_url": "minio:9000"}, "not of the form"),
        ({"endpoint_url": "https://me:word@minio:9000"}, "not of the form"),
        ({"url_seconds": 700_000}, "can't live 700,000 seconds"),
        ({"url_seconds": 1}, "can't live 1 seconds"),
        ({"prefix": ""}, "no prefix"),
        ({"prefix": "/"}, "no prefix"),
        ({"prefix": "a/../b"}, "no prefix"),
    ],
)
def test_impossible_settings_are_refused(wrong, said):
    with pytest.raises(UsageError, match=said) as caught:
        S3Settings(**{"bucket": "models", **wrong})
    assert "me:word" not in str(caught.value)


def test_an_endpoint_url_may_end_with_a_slash():
    assert S3Settings("my.models-2", "https://minio:9000/").bucket == "my.models-2"
