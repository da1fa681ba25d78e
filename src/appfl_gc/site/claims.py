"""Claims: of two deliveries of one call at a time, one works and the other waits for its answer.

A claim is a file that only one process can make, since it must not exist before. It names its holder, and holds a
counter that a thread of the holder renews. Whoever finds it waits until it goes. Where the holder has ended on this
host, or is on another one and its counter stands still by the finder's own clock, the finder makes the claim of the
next number; again only one process can. Another process that lives on this host is waited for however long its
counter stands still: user code may keep its threads from running. Nothing but making a file exclusively is asked of
the file system, and no two clocks are compared.

Where the files can't be written or are purged, work is done twice at worst.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appfl_gc.payload.files import write_all
from appfl_gc.protocol.wire import WireError, as_key, as_object, load_json
from appfl_gc.site.process import Process, this_process
from appfl_gc.site.stopping import StopSignal

SUFFIX = ".claim"
_DIGITS = 12
_LARGEST = 10_000


@dataclass(frozen=True)
class Pace:
    """How often claims are renewed and looked at, in seconds.

    Attributes:
        renew: between two renewals.
        patience: after so long without a renewal a claim is taken over, unless its holder is seen to live.
        look: between two looks of who waits.
    """

    renew: float = 5.0
    patience: float = 30.0
    look: float = 0.5


@dataclass(frozen=True)
class Claims:
    """Claims on one piece of work.

    Attributes:
        name: path of the claims' files without their numbers, in a folder of a folder of the outbox.
        logger: hears of waiting, and why a claim can't be made.
        pace: of renewals and looks.
    """

    name: Path
    logger: logging.Logger
    pace: Pace = Pace()

    @contextlib.contextmanager
    def held(self, stop: StopSignal) -> Iterator[None]:
        """Hold the claim in the block, after waiting for whoever holds it now.

        It is not held where it can't be made, or where ``stop`` ended the waiting.
        """
        mine = None
        try:
            mine = self._take(stop)
        except OSError as error:
            self.logger.warning(
                "The site's state directory takes no claims, so what is delivered twice is done twice: %s.",
                error,
            )
        try:
            yield
        finally:
            if mine is not None:
                mine.release()

    def _take(self, stop: StopSignal) -> _Claim | None:
        number, before = 1, ""
        while True:
            path = self._file(number)
            token = _make(path)
            # Whoever held the claim before may have finished meanwhile, and others may have begun anew.
            if token and number > 1 and _token(self._file(number - 1)) != before:
                path.unlink(missing_ok=True)
                number, before = 1, ""
            elif token:
                return _Claim(self, number, token)
            else:
                left = self._wait_for(path, stop)
                if left is None and stop.reason() is not None:
                    return None
                number, before = (1, "") if left is None else (number + 1, left)

    def _wait_for(self, path: Path, stop: StopSignal) -> str | None:
        """The token of a holder that ended and left its claim behind; None once the claim is gone, or to stop."""
        seen, since, told = b"", time.monotonic(), False
        while stop.reason() is None:
            content = _read(path)
            if content is None:
                return None
            if content != seen:
                seen, since = content, time.monotonic()
            token, holder = _parsed(content)
            # One of this process is left over, unless the thread that holds it goes on renewing it.
            ended = None if holder is None or holder == this_process() else holder.ended
            if ended or (ended is None and time.monotonic() - since >= self.pace.patience):
                self.logger.info("Who worked on this call before has ended without an answer.")
                return token
            if not told:
                self.logger.info("Another worker is at this call already; its answer is waited for.")
                told = True
            time.sleep(self.pace.look)
        return None

    def _file(self, number: int) -> Path:
        return self.name.with_name(f"{self.name.name}.{number}{SUFFIX}")


class _Claim:
    """A claim that this process holds, and the thread that renews it."""

    def __init__(self, claims: Claims, number: int, token: str) -> None:
        self._claims = claims
        self._number = number
        self._token = token
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="appfl-gc-claim", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let the claim go, with those that its earlier holders left."""
        self._over.set()
        with contextlib.suppress(OSError):
            # The lower numbers first: who still looks at one of them then sees that its time is over.
            for number in range(1, self._number):
                self._claims._file(number).unlink(missing_ok=True)
            own = self._claims._file(self._number)
            taken_over = self._claims._file(self._number + 1).exists()
            if not taken_over and _token(own) == self._token:
                own.unlink(missing_ok=True)

    def _renew(self) -> None:
        count, path = 0, self._claims._file(self._number)
        while not self._over.wait(self._claims.pace.renew):
            count += 1
            try:
                # Never made anew: others may have begun with it.
                fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    os.pwrite(fd, f"{count:0{_DIGITS}d}".encode(), 0)
                finally:
                    os.close(fd)
            except FileNotFoundError:
                return
            except OSError:
                continue


def _make(path: Path) -> str:
    """The token of the claim that was made; "" if there is one already."""
    for directory in (path.parent.parent.parent, path.parent.parent, path.parent):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = secrets.token_hex(16)
    text = json.dumps({"token": token, "holder": this_process().to_json()})
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return ""
    try:
        write_all(fd, memoryview(f"{0:0{_DIGITS}d}{text}".encode()))
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        # On a network file system others see it from here on.
        os.close(fd)
    return token


def _read(path: Path) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.read(fd, _LARGEST)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None


def _token(path: Path) -> str | None:
    """The token of the claim at ``path``; "" if it is not whole, None if there is none."""
    content = _read(path)
    return None if content is None else _parsed(content)[0]


def _parsed(content: bytes) -> tuple[str, Process | None]:
    """Token and holder; "" and None of a claim that is not whole, as of one that is just being made."""
    try:
        fields = as_object(load_json(content[_DIGITS:].decode()), "The claim")
        return as_key(fields.get("token"), "The token"), Process.from_json(fields.get("holder"))
    except (UnicodeDecodeError, WireError):
        return "", None
