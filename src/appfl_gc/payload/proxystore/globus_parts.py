"""Parts by Globus Transfer, as ProxyStore's ``GlobusConnector`` keeps objects: files of directories kept in step.

ProxyStore's connector reads and writes whole objects in memory, names the file itself, and asks for a login at the
terminal, for which a worker would wait for ever. So the transfers are asked for here, with ProxyStore's login.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appfl_gc.config.connectors import FileArguments, GlobusArguments
from appfl_gc.payload.proxystore.file_parts import FileParts
from appfl_gc.payload.proxystore.parts import Landing
from appfl_gc.payload.retry import PassingError, Patience, interrupted, retry
from appfl_gc.protocol.errors import LoginError, TransferError, UsageError, VersionError
from appfl_gc.protocol.wire import clean_text

PATIENCE = Patience()


@dataclass(frozen=True)
class Collection:
    """A directory of a Globus collection: the collection's UUID and the directory's path within it."""

    uuid: str
    path: str

    def file(self, name: str) -> str:
        """Path of a file within the collection."""
        return f"{self.path.rstrip('/')}/{name}"


class GlobusParts:
    """See ``Parts``. A put returns when all other collections have the file, so that nobody has to wait for it later.

    Args:
        arguments: of the connector.
        stop: ends transfers once it is set.
        client: of Globus Transfer; None for one with ProxyStore's login, made when it is needed.
        host: name of this machine; None for its own.

    Raises:
        UsageError: if none of the collections is of this machine.
    """

    part_bytes = 1 << 40
    streams = True
    places = ("",)

    def __init__(
        self,
        arguments: GlobusArguments,
        stop: threading.Event,
        *,
        client: Any = None,
        host: str | None = None,
    ) -> None:
        host = host or platform.node()
        everywhere = arguments.endpoints
        own = next((one for one in everywhere if re.fullmatch(everywhere[one].host_regex, host)), None)
        if own is None:
            raise UsageError(
                f"None of the Globus collections of this federation is of this machine: its name {host!r} matches no "
                "`host_regex`.",
                "Add this machine's collection to `endpoints` of the GlobusConnector, or correct its `host_regex`.",
            )
        self._own = Collection(str(own), everywhere[own].endpoint_path)
        self._others = [
            Collection(str(one), everywhere[one].endpoint_path) for one in everywhere if one != own
        ]
        self._files = FileParts(FileArguments(store_dir=everywhere[own].local_path), stop)
        self._arguments, self._stop = arguments, stop
        self._client = client
        self._lock = threading.Lock()

    def put(self, name: str, part: Iterable[memoryview], sent: Callable[[int], None]) -> str:
        """See ``Parts.put``."""
        size = 0

        def written(count: int) -> None:
            nonlocal size
            size = count

        self._files.put(name, part, written)
        client = self._transfers()
        tasks: dict[str, Collection] = {}
        try:
            for other in self._others:
                begin = functools.partial(self._begin, client, name, other)
                tasks[retry(begin, "A transfer by Globus", self._stop, PATIENCE)] = other
            self._wait(client, tasks, size, sent)
        except BaseException:
            for task in tasks:
                with contextlib.suppress(Exception):
                    client.cancel_task(task)
            raise
        return ""

    def get(self, name: str, where: str, landing: Landing) -> None:
        """See ``Parts.get``."""
        self._files.get(name, where, landing)

    def open(self, name: str, where: str, size: int) -> int | None:
        """See ``Parts.open``."""
        return self._files.open(name, where, size)

    def holds(self, name: str, where: str) -> bool:
        """See ``Parts.holds``, on this machine."""
        return self._files.holds(name, where)

    def drop(self, name: str, where: str) -> None:
        """See ``Parts.drop``. The other collections' files go some time later."""
        import globus_sdk

        self._files.drop(name, where)
        client = self._transfers()
        for other in self._others:
            task = globus_sdk.DeleteData(endpoint=other.uuid, ignore_missing=True, **_QUIET)
            task.add_item(other.file(name))
            with _explained(other):
                client.submit_delete(task)

    def tidy(self) -> None:
        """See ``Parts.tidy``, on this machine."""
        self._files.tidy()

    def close(self) -> None:
        """See ``Parts.close``; ProxyStore's own connector would delete the directories everywhere."""

    def _begin(self, client: Any, name: str, other: Collection) -> str:
        import globus_sdk

        task = globus_sdk.TransferData(
            source_endpoint=self._own.uuid,
            destination_endpoint=other.uuid,
            label="appfl_gc",
            sync_level=self._arguments.sync_level or globus_sdk.MISSING,
            **_QUIET,
        )
        task.add_item(self._own.file(name), other.file(name))
        with _explained(other):
            return str(client.submit_transfer(task)["task_id"])

    def _wait(
        self, client: Any, tasks: Mapping[str, Collection], size: int, sent: Callable[[int], None]
    ) -> None:
        left, deadline = dict(tasks), time.monotonic() + self._arguments.timeout
        while left:
            done = [size]
            for task, other in list(left.items()):
                with _explained(other):
                    state = client.get_task(task)
                if state["status"] == "SUCCEEDED":
                    del left[task]
                elif state["status"] == "ACTIVE" and time.monotonic() < deadline:
                    done.append(min(size, int(state.get("bytes_transferred") or 0)))
                else:
                    raise _failed(other, state, self._arguments.timeout)
            sent(min(done))
            if left and self._stop.wait(self._arguments.polling_interval):
                raise interrupted("A transfer by Globus")

    def _transfers(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _logged_in([self._own, *self._others])
            return self._client


_QUIET: Any = {"notify_on_succeeded": False, "notify_on_failed": False, "notify_on_inactive": False}


def _logged_in(everywhere: Sequence[Collection]) -> Any:
    """A client of Globus Transfer by ProxyStore's login, which never asks anybody for one."""
    try:
        import globus_sdk
        from proxystore.globus.app import get_globus_app
        from proxystore.globus.scopes import uses_data_access
    except ImportError as error:
        raise VersionError(
            f"The GlobusConnector needs the package {error.name}, which is not installed here.",
            "Run in this Python environment: pip install proxystore",
        ) from None
    app = get_globus_app()
    client = globus_sdk.TransferClient(app=app)
    login = " ".join(["proxystore-globus-auth login", *(f"--collection {one.uuid}" for one in everywhere)])
    if not app.login_required():
        needing = []
        for one in everywhere:
            with _explained(one):
                if uses_data_access(client, one.uuid):
                    needing.append(one.uuid)
        client.add_app_data_access_scope(needing)
        if not app.login_required():
            return client
    raise LoginError(
        "ProxyStore has no login for Globus Transfer on this machine, or none for these collections.",
        f"Run here: {login}",
    )


@contextlib.contextmanager
def _explained(other: Collection) -> Iterator[None]:
    """Errors of the Globus SDK as ours, about the transfer with ``other``."""
    import globus_sdk

    try:
        yield
    except globus_sdk.NetworkError:
        raise PassingError("The Globus Transfer service can't be reached from this machine.") from None
    except globus_sdk.GlobusAPIError as error:
        said = clean_text(str(error.message or error.code or "no reason given"), 200).rstrip(".")
        about = f"Globus Transfer refuses a request about the collection {other.uuid} (status {error.http_status})"
        if error.http_status in (429, 500, 502, 503, 504):
            raise PassingError(f"{about}: {said}.") from None
        raise TransferError(
            f"{about}: {said}.",
            f"The identity of `proxystore-globus-auth login --collection {other.uuid}` on this machine needs access to "
            "the collection and to its `endpoint_path`.",
        ) from None


def _failed(other: Collection, state: Any, seconds: float) -> TransferError:
    fatal = state.get("fatal_error") or {}
    said = (
        fatal.get("description")
        or state.get("nice_status_short_description")
        or state.get("nice_status")
        or ""
    )
    why = f": {clean_text(str(said), 200).rstrip('.')}." if said and said != "OK" else "."
    if state["status"] == "ACTIVE":
        return TransferError(
            f"The Globus transfer of a model to the collection {other.uuid} took longer than {seconds:,.0f} s{why}",
            "Raise `timeout` of the GlobusConnector, or look at the transfer at https://app.globus.org/activity.",
        )
    return TransferError(f"The Globus transfer of a model to the collection {other.uuid} failed{why}")
