"""boto3, one request at a time: with our retries, our deadlines, and errors in plain words."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from appfl_gc.payload.retry import PassingError, Patience, interrupted, retry
from appfl_gc.payload.s3.crew import TICK
from appfl_gc.payload.s3.discretion import keep_secrets
from appfl_gc.payload.s3.exchange import Deadlines
from appfl_gc.payload.s3.problems import GONE, code_of, plain
from appfl_gc.payload.s3.reasons import place_of
from appfl_gc.payload.s3.settings import S3Settings, read_credentials
from appfl_gc.protocol.errors import AppflGcError, VersionError

_DEFAULT_REGION = "us-east-1"
_BRIEF = Patience(tries=2, first=0.5, longest=2.0)
BRIEF_SECONDS = 8.0
"""How long a request of a brief client may take."""


class Client:
    """An S3 client of one bucket.

    Args:
        settings: which bucket.
        stop: ends every request within a second.
        patience: with each request; None for the default.
        deadlines: of each request; None for the default.

    Raises:
        UsageError: if there are no credentials, or they can't be used.
        VersionError: if boto3 is not installed.
    """

    def __init__(
        self,
        settings: S3Settings,
        stop: threading.Event,
        *,
        patience: Patience | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.settings = settings
        self._stop = stop
        self._patience = patience
        # A host with many addresses may take the time for a connection many times.
        self._seconds = None if deadlines is None else deadlines.connect + deadlines.silence
        self.address = "" if settings.endpoint_url is None else place_of(settings.endpoint_url)
        try:
            import boto3.session
            from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
            from botocore.parsers import ResponseParserError
        except ImportError:
            raise VersionError(
                "The S3 store needs boto3 on the server, and it is not installed.", "Run: pip install boto3"
            ) from None
        # Before the first request, which may be one for a login.
        keep_secrets()
        # RuntimeError: a login that can't be renewed.
        self._errors: tuple[type[Exception], ...] = (
            BotoCoreError,
            ClientError,
            ResponseParserError,
            RuntimeError,
        )
        keys: dict[str, str] = {}
        region = settings.region
        if settings.credentials_file is not None:
            found = read_credentials(settings.credentials_file)
            keys = {"aws_access_key_id": found.access_key, "aws_secret_access_key": found.secret_key}
            region = region or found.region
        try:
            session = boto3.session.Session(**keys)
            region = region or session.region_name or _DEFAULT_REGION
            self._credentials = session.get_credentials()
            self._boto = session.client(
                "s3",
                region_name=region,
                endpoint_url=settings.endpoint_url,
                config=_config(settings, deadlines or Deadlines()),
            )
            self.address = place_of(str(self._boto.meta.endpoint_url))
        except (*self._errors, ValueError) as error:
            raise plain(error, "take a login", settings.bucket) from None
        if self._credentials is None:
            raise plain(NoCredentialsError(), "take a login", settings.bucket)
        self.region = region

    def brief(self, over: threading.Event, seconds: float = BRIEF_SECONDS) -> Client:
        """The same client for what has to be done also while the run stops, and must not take long.

        Args:
            over: ends every request within a second, instead of ``stop``.
            seconds: for each request, which is tried twice at most.
        """
        other = copy.copy(self)
        other._stop, other._patience, other._seconds = over, _BRIEF, seconds
        return other

    def ask(self, what: str, operation: str, *, gone: Any = None, **arguments: Any) -> Any:
        """What boto3's ``operation`` on the bucket returns.

        Args:
            what: the deed, as a verb, for errors.
            operation: a method of boto3's client.
            gone: returned if the object or upload is not there; None: that is an error.
            arguments: of the operation, without the bucket.

        Raises:
            TransferError, UsageError: in plain words.
        """
        return retry(
            partial(self._once, what, operation, gone, arguments),
            self._request,
            self._stop,
            self._patience,
        )

    def sign(self, operation: str, seconds: int, **arguments: Any) -> str:
        """A URL that allows ``operation`` to whoever has it, for ``seconds``."""
        try:
            url: str = self._boto.generate_presigned_url(
                operation, Params={"Bucket": self.settings.bucket, **arguments}, ExpiresIn=seconds
            )
        except self._errors as error:
            raise plain(error, "sign a URL", self.settings.bucket) from None
        return url

    def seconds_valid(self) -> float:
        """How long a URL that is signed now lives: as configured, and never longer than the session that signs it."""
        credentials = self._credentials
        # Renewed here if they can be and their time is nearly over.
        try:
            credentials.get_frozen_credentials()
        except self._errors as error:
            raise plain(error, "renew a login", self.settings.bucket) from None
        ends = getattr(credentials, "_expiry_time", None)
        left = float(self.settings.url_seconds)
        return left if ends is None else max(0.0, min(left, ends.timestamp() - time.time()))

    def close(self) -> None:
        """Drop connections."""
        self._boto.close()

    def _once(self, what: str, operation: str, gone: Any, arguments: dict[str, Any]) -> Any:
        answers: list[Any] = []
        errors: list[Exception] = []

        def call() -> None:
            try:
                answers.append(getattr(self._boto, operation)(Bucket=self.settings.bucket, **arguments))
            except Exception as error:  # noqa: BLE001 - raised again on the caller's thread
                errors.append(error)

        _abandonable(call, self._stop, self._request, self._seconds)
        if not errors:
            return answers[0]
        if gone is not None and code_of(errors[0]) in GONE:
            return gone
        if isinstance(errors[0], (*self._errors, AppflGcError)):
            raise plain(errors[0], what, self.settings.bucket, self.address) from None
        raise errors[0]

    @property
    def _request(self) -> str:
        return f"A request to the S3 bucket {self.settings.bucket} at {self.address}"


def _abandonable(
    call: Callable[[], None], stop: threading.Event, what: str, seconds: float | None = None
) -> None:
    """Call on another thread, so that ``stop`` is heeded meanwhile; the call then ends by its own deadline."""
    thread = threading.Thread(target=call, name="appfl-gc-s3-request", daemon=True)
    deadline = time.monotonic() + (float("inf") if seconds is None else seconds)
    thread.start()
    while thread.is_alive():
        thread.join(max(0.0, min(TICK, deadline - time.monotonic())))
        if thread.is_alive() and stop.is_set():
            raise interrupted(what)
        if thread.is_alive() and time.monotonic() >= deadline:
            raise PassingError(f"{what} had no answer within {seconds:g} s.")


def _config(settings: S3Settings, deadlines: Deadlines) -> Any:
    from botocore.config import Config

    # With a region in the host's name: Amazon answers at the place of the bucket, and does not redirect.
    virtual = settings.endpoint_url is None and "." not in settings.bucket
    plain_config: dict[str, Any] = {
        "signature_version": "s3v4",
        "connect_timeout": deadlines.connect,
        "read_timeout": deadlines.silence,
        "retries": {"total_max_attempts": 1},
        "max_pool_connections": 16,
        "s3": {"addressing_style": "virtual" if virtual else "path"},
    }
    try:
        # Checksums of later versions that other makers' servers may not know; ours is in every reference.
        return Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            **plain_config,
        )
    except TypeError:
        return Config(**plain_config)
