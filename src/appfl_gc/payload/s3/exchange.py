"""One request to a signed URL with ``requests``, which heeds the environment's proxies and authorities."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import requests
import urllib3

from appfl_gc.payload.retry import PassingError
from appfl_gc.payload.s3.discretion import keep_urls
from appfl_gc.payload.s3.reasons import address_of
from appfl_gc.payload.s3.refusals import no_connection, refused

SLICE = 1 << 18
"""Bytes that are sent at a time."""


@dataclass(frozen=True)
class Deadlines:
    """How long the other side may take.

    Attributes:
        connect: seconds until a connection stands, and until it takes a slice of what is sent.
        silence: seconds without a byte of the answer.
        slowest: bytes a second, below which a request counts as failed.
    """

    connect: float = 20.0
    silence: float = 60.0
    slowest: float = 32_768.0

    def seconds(self, size: int) -> float:
        """What a request that moves ``size`` bytes may take in all."""
        return self.connect + self.silence + size / self.slowest


class Body:
    """Bytes to send, sliced so that deadlines and ``see`` work on each slice; nothing is copied.

    Args:
        pieces: the bytes in order.
        size: how many there are.
        see: hears of each slice before it is sent: its bytes. What it raises ends the request.
    """

    def __init__(self, pieces: Sequence[memoryview], size: int, see: Callable[[int], None]) -> None:
        self._pieces = pieces
        self._size = size
        self._see = see

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[memoryview]:
        for piece in self._pieces:
            for start in range(0, len(piece), SLICE):
                part = piece[start : start + SLICE]
                self._see(len(part))
                yield part


@contextlib.contextmanager
def exchange(
    session: requests.Session,
    method: str,
    url: str,
    what: str,
    deadlines: Deadlines,
    body: Body | None = None,
    headers: dict[str, str] | None = None,
) -> Iterator[requests.Response]:
    """The answer to a request, if it is a success; its body can be read in the block.

    Args:
        session: of this thread.
        method: ``GET`` or ``PUT``.
        url: signed: it gives access to whoever has it, so it is in no error.
        what: the deed, such as "the upload of a part".
        deadlines: of the request.
        body: to send.
        headers: to send.

    Raises:
        PassingError: if trying again may help; also for connections that break in the block.
        TransferError: if the store, or the way to it, refuses.
    """
    host = address_of(url)
    keep_urls()
    try:
        with session.request(
            method,
            url,
            # Any iterable with a length will do, whatever the stubs say.
            data=cast("Any", body),
            headers={"Accept-Encoding": "identity", **(headers or {})},
            # A login for the host in ~/.netrc must not be added: the URL is signed already.
            auth=lambda request: request,
            timeout=(deadlines.connect, deadlines.silence),
            allow_redirects=False,
            stream=True,
        ) as answer:
            if answer.status_code >= 300:
                raise refused(answer, host, what)
            yield answer
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise no_connection(error, host) from None


def read(answer: requests.Response, size: int) -> bytes:
    """The next ``size`` bytes of an answer as they came; fewer at its end."""
    data: bytes = answer.raw.read(size, decode_content=False)
    if not data:
        raise PassingError("The store ended an answer before it was whole.")
    return data
