"""Which bucket, and who we are there."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from appfl_gc.config.s3_names import ADDRESS, BUCKET
from appfl_gc.payload.files import open_no_link
from appfl_gc.protocol.errors import UsageError

LONGEST_LIFE = 7 * 24 * 3600
"""Seconds: S3 signs no URL for longer."""
BUCKET_HINT = (
    "A bucket's name has 3 to 63 lowercase letters, digits, dots and hyphens, begins and ends with a letter or "
    "digit, and stands without s3:// before it."
)
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,100}(/[A-Za-z0-9._-]{1,100}){0,5}")
_WITH_PATH = re.compile(r"https?://[^\s/@?#]+/[^\s@?#]*")
_LONGEST_FILE = 4096


@dataclass(frozen=True)
class S3Settings:
    """Where a run's payloads lie.

    Attributes:
        bucket: its name.
        endpoint_url: of an S3 server that is not Amazon's, or None.
        region: of the bucket; None for what the credentials file or boto3's configuration says.
        credentials_file: see ``read_credentials``; None for boto3's own chain (environment, profile, SSO, role).
        url_seconds: how long a granted URL lives, at most ``LONGEST_LIFE``.
        prefix: what the names of all our objects begin with.

    Raises:
        UsageError: if one of them is not possible; says which.
    """

    bucket: str
    endpoint_url: str | None = None
    region: str | None = None
    credentials_file: Path | None = None
    url_seconds: int = LONGEST_LIFE
    prefix: str = "appfl_gc"

    def __post_init__(self) -> None:
        if not BUCKET.fullmatch(self.bucket):
            raise UsageError(
                f"{self.bucket[:80]!r} is no name of an S3 bucket.",
                BUCKET_HINT,
            )
        if self.endpoint_url and not ADDRESS.fullmatch(self.endpoint_url):
            if _WITH_PATH.fullmatch(self.endpoint_url):
                raise UsageError(
                    "The endpoint_url of the S3 store has a path after its host; it is of the form "
                    "https://host[:port].",
                    "The bucket's name belongs into s3_bucket.",
                )
            raise UsageError(
                "The endpoint_url of the S3 store is not of the form https://host[:port], without user or password."
            )
        if not 60 <= self.url_seconds <= LONGEST_LIFE:
            raise UsageError(
                f"A granted URL can't live {self.url_seconds:,} seconds.",
                f"S3 allows {LONGEST_LIFE:,} seconds (7 days) at most; less than 60 is not useful.",
            )
        if not _PREFIX.fullmatch(self.prefix) or {".", ".."} & set(self.prefix.split("/")):
            raise UsageError(
                f"{self.prefix!r} is no prefix for our objects.",
                "Use words of letters and digits with / between.",
            )


@dataclass(frozen=True)
class Credentials:
    """Who we are at the store.

    Attributes:
        region: of the bucket.
        access_key: the key's public half.
        secret_key: the other half; in no repr.
    """

    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


def read_credentials(path: Path) -> Credentials:
    """The one line ``<region>,<access_key_id>,<secret_access_key>`` of a file that only its owner can read.

    Raises:
        UsageError: if it is something else, with what to do about it, and nothing of its content.
    """
    try:
        fd = open_no_link(path)
    except OSError as error:
        if path.is_symlink():
            raise UsageError(
                f"The S3 credentials file {path} is a symbolic link.", "Name the file itself."
            ) from None
        raise UsageError(f"The S3 credentials file {path} can't be read: {error.strerror}.") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"The S3 credentials file {path} is not a regular file.")
        if status.st_uid != os.geteuid():
            raise UsageError(
                f"The S3 credentials file {path} belongs to another user.", "Make a copy that belongs to you."
            )
        if status.st_mode & 0o077:
            raise UsageError(
                f"The S3 credentials file {path} can be used by others: its permissions are "
                f"{stat.S_IMODE(status.st_mode):04o}.",
                f"Run: chmod 600 {path}",
            )
        content = os.read(fd, _LONGEST_FILE)
    finally:
        os.close(fd)
    try:
        lines = content.decode("ascii").strip().splitlines()
    except UnicodeDecodeError:
        lines = []
    fields = [text.strip() for text in lines[0].split(",")] if len(lines) == 1 else []
    if len(fields) != 3 or not all(fields) or any(" " in text for text in fields):
        raise UsageError(
            f"The S3 credentials file {path} is not one line <region>,<access_key_id>,<secret_access_key>.",
            "Write the three, separated by commas, into one line.",
        )
    if not re.fullmatch(r"[a-z0-9-]{2,40}", fields[0]):
        raise UsageError(
            f"The S3 credentials file {path} does not begin with a region such as us-east-1.",
            "The line is <region>,<access_key_id>,<secret_access_key>.",
        )
    return Credentials(*fields)
