"""The store of payloads in what a ProxyStore connector reaches."""

from __future__ import annotations

import functools
import os
import re
import secrets
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from appfl_gc.payload.checksum import STRONG, Checksum
from appfl_gc.payload.proxystore.parts import Landing, Parts, part_name, part_places, split
from appfl_gc.payload.proxystore.removal import SWEEP_SECONDS, Removal
from appfl_gc.payload.retry import Patience, retry
from appfl_gc.payload.store import ignore
from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import Json

if TYPE_CHECKING:
    # Torch comes with it, which a connector does not need.
    from appfl_gc.payload.encoded import Encoded

SCHEME = "proxystore"
LOCATOR = re.compile(r"[0-9a-f]{32}")
SAMPLE_BYTES = 100_000
MOST_BEHIND = 16 << 20


class ProxyStoreStore:
    """Payloads as parts in a connector, under unguessable names.

    A locator is 32 hexadecimal digits, followed by ``@`` and a place where the connector needs one. It is checked
    against this pattern and the connector's own places; nothing else that a reference says chooses an object.

    Args:
        parts: the connector.
        part_bytes: bytes of every part but the last.
        stop: once set, transfers end within a second. Evicting, withdrawing and sweeping don't heed it, and end soon
            by themselves.
        terms: what a grant tells a site beside its locator and sizes; None for a site, which grants nothing.
        locator: the one name that ``put`` uses, as a grant says; None for a new one each time.
        largest: bytes of the largest payload that ``put`` takes; None for any.
        patience: how often a transfer's trouble that may pass is tried again.
    """

    scheme = SCHEME
    remote = True

    def __init__(
        self,
        parts: Parts,
        part_bytes: int,
        stop: threading.Event,
        *,
        terms: Mapping[str, Json] | None = None,
        locator: str | None = None,
        largest: int | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.part_bytes = part_bytes
        self._parts, self._stop, self._patience = parts, stop, patience
        self._terms = terms
        self._locator, self._largest = locator, largest
        self._removal = Removal(parts)

    def put(self, payload: Encoded, sent: Callable[[int], None] = ignore) -> Ref:
        """See ``Store.put``. A part's checksum is taken while it is sent; nothing is copied for either."""
        if self._largest is not None and payload.size > self._largest:
            raise TransferError(
                f"The payload has {payload.size:,} bytes where {self._largest:,} were agreed upon."
            )
        return self._put(payload, self._locator or secrets.token_hex(16), sent)

    def fetch(self, ref: Ref, file: int, arrived: Callable[[int], None]) -> None:
        """See ``Store.fetch``."""
        base, where = self._place(ref)
        for name, offset, size in part_places(base, ref.size, self.part_bytes):
            landing = Landing(file, offset, size, arrived)
            work = functools.partial(self._parts.get, name, where, landing)
            retry(work, "The download of a payload", self._stop, self._patience)
            if landing.left:
                raise TransferError(f"Part {name} of a payload ended {landing.left:,} bytes early.")

    def descriptor(self, ref: Ref) -> int | None:
        """See ``Store.descriptor``; of a connector whose objects are files and a payload of one part."""
        base, where = self._place(ref)
        if ref.size > self.part_bytes:
            return None
        return self._parts.open(part_name(base, 0), where, ref.size)

    def evict(self, ref: Ref) -> None:
        """See ``Store.evict``. Does not heed ``stop``; two quick tries."""
        base, where = self._place(ref)
        self._removal.drop(base, where, ref.size, self.part_bytes)

    def grant(self, read: Sequence[Ref], largest: int) -> dict[str, Json]:
        """See ``Store.grant``; a site can read what it has a reference of."""
        if self._terms is None:
            raise TransferError("A site's store grants nothing.")
        locator = secrets.token_hex(16)
        self._removal.promise(locator)
        return {
            **self._terms,
            "scheme": self.scheme,
            "locator": locator,
            "part_bytes": self.part_bytes,
            "largest": largest,
        }

    def withdraw(self, grant: Mapping[str, Json]) -> None:
        """See ``Store.withdraw``. Does not heed ``stop``; two quick tries at each place. ``sweep`` looks once more."""
        base = grant.get("locator")
        if grant.get("scheme") != self.scheme or not isinstance(base, str) or not LOCATOR.fullmatch(base):
            raise TransferError("A grant has a locator that this store never gave.")
        self._removal.withdraw(base)

    def mailbox(self, public: Mapping[str, Json] | None = None) -> None:
        """See ``Store.mailbox``; there are none."""

    def sweep(self, seconds: float = SWEEP_SECONDS) -> None:
        """See ``Store.sweep``: what sites were to put, or were not to put any more, and what the server has put.

        Does not heed ``stop``: it works whether that is set or not, and returns within ``seconds``. A place that
        can't be reached is asked once.
        """
        self._removal.sweep(seconds)

    def check(self) -> None:
        """Put, fetch and evict a small payload, without trying again.

        Raises:
            TransferError: what does not work.
        """
        once = ProxyStoreStore(self._parts, self.part_bytes, self._stop, patience=Patience(tries=1))
        sample = _Sample()
        ref = once.put(sample)
        try:
            with tempfile.TemporaryFile() as file:
                once.fetch(ref, file.fileno(), ignore)
                if os.pread(file.fileno(), ref.size + 1, 0) != sample.data:
                    raise TransferError("A small payload came back from the store with other bytes.")
        finally:
            once.evict(ref)

    def close(self) -> None:
        """See ``Store.close``: whatever is in the connector stays."""
        self._parts.close()
        self._removal.close()

    def _put(self, payload: Encoded, base: str, sent: Callable[[int], None]) -> Ref:
        running, done, where = Checksum(STRONG), 0, ""
        if self._terms is not None:
            # Until it is evicted, also if it arrives after the run has ended.
            self._removal.promise(base)
        try:
            with ThreadPoolExecutor(1, "appfl-gc-checksum") as beside:
                chunks = _summed(payload.chunks(), running, beside)
                if self._parts.streams and payload.size <= self.part_bytes:
                    parts: Iterator[Iterable[memoryview]] = iter([chunks])
                else:
                    parts = split(chunks, self.part_bytes)
                for number, part in enumerate(parts):
                    progress = _Progress(done, sent)
                    where = self._put_part(part_name(base, number), part, progress)
                    done += progress.most
            if done != payload.size:
                raise TransferError(f"The payload has {done:,} bytes where {payload.size:,} were announced.")
        except BaseException:
            self._removal.take_back(base, where)
            raise
        return Ref(self.scheme, f"{base}@{where}" if where else base, done, str(running), payload.codec)

    def _put_part(self, name: str, part: Iterable[memoryview], sent: Callable[[int], None]) -> str:
        if self._parts.streams:
            return self._parts.put(name, part, sent)
        return retry(
            lambda: self._parts.put(name, part, sent), "The upload of a payload", self._stop, self._patience
        )

    def _place(self, ref: Ref) -> tuple[str, str]:
        base, _, where = ref.locator.partition("@")
        if ref.scheme != self.scheme or not LOCATOR.fullmatch(base) or where not in self._parts.places:
            raise TransferError("A payload reference has a locator that this store never gave.")
        return base, where


class _Sample:
    """A small payload of random bytes."""

    codec = "sample"

    def __init__(self) -> None:
        self.data = secrets.token_bytes(SAMPLE_BYTES)
        self.size = SAMPLE_BYTES

    def chunks(self) -> Iterator[memoryview]:
        """See ``Encoded.chunks``."""
        yield memoryview(self.data)


class _Progress:
    """Bytes of a part that are out; those of one that is sent again count once they are further than before."""

    def __init__(self, before: int, sent: Callable[[int], None]) -> None:
        self.most = 0
        self._before, self._sent = before, sent

    def __call__(self, count: int) -> None:
        if count > self.most:
            self.most = count
            self._sent(self._before + count)


def _summed(
    chunks: Iterable[memoryview], running: Checksum, beside: ThreadPoolExecutor
) -> Iterator[memoryview]:
    """``chunks``, of which the checksum is taken meanwhile on another thread, a bounded number of bytes behind."""
    behind: deque[tuple[int, Future[None]]] = deque()
    for chunk in chunks:
        behind.append((len(chunk), beside.submit(running.update, chunk)))
        yield chunk
        while sum(size for size, _ in behind) > MOST_BEHIND:
            behind.popleft()[1].result()
    for _, job in behind:
        job.result()
