"""Parts in a Redis server, as ProxyStore's ``RedisConnector`` keeps objects: the value of a key of that name."""

from __future__ import annotations

import contextlib
import netrc
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from appfl_gc.config.connectors import RedisArguments
from appfl_gc.payload.proxystore.parts import Landing, joined
from appfl_gc.payload.retry import PassingError, check, interrupted
from appfl_gc.protocol.errors import TransferError, UsageError, VersionError
from appfl_gc.protocol.wire import clean_text

CONNECT_SECONDS = 5.0
SECONDS = 30.0
"""How long the server may take for one part."""
REMOVAL_SECONDS = 8.0
"""How long it may take to say whether there is a part, or to delete one."""
EXPIRY_SECONDS = 8 * 24 * 3600
"""How long a part stays that nobody removes: of a site that puts it after its run has ended. A day longer than what
S3 allows for a grant."""
_TICK = 0.2
_WHAT = "A transfer by Redis"
_PIECE = 1 << 19
_READ_BYTES = 1 << 20
"""With these two a download takes a fifth of the time that it takes with the client's usual size and whole objects."""
_PASSING = ("BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN")


class RedisParts:
    """See ``Parts``. The client holds a few copies of a part, so parts are small.

    ProxyStore's own connector sets no time limits, and empties the whole database when it is told to clear.

    Args:
        arguments: of the connector.
        stop: ends transfers once it is set.
        seconds: how long the server may take for one part.

    Raises:
        UsageError: if ``~/.netrc`` is broken or open to others.
        VersionError: if the package redis is not installed.
    """

    part_bytes = 4 << 20
    streams = False
    places = ("",)

    def __init__(self, arguments: RedisArguments, stop: threading.Event, seconds: float = SECONDS) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise VersionError(
                "The RedisConnector needs the package redis, which is not installed here.",
                "Run in this Python environment: pip install redis",
            ) from None
        self._server, self._stop = f"{arguments.hostname}:{arguments.port}", stop
        self._lock = threading.Lock()
        self._busy = 0
        self._watcher: threading.Thread | None = None
        user, password = _login(arguments.hostname)

        def client(seconds: float) -> redis.Redis:
            pool = redis.ConnectionPool(
                redis.SSLConnection if arguments.tls else redis.Connection,
                host=arguments.hostname,
                port=arguments.port,
                username=user,
                password=password,
                socket_timeout=seconds,
                socket_connect_timeout=CONNECT_SECONDS,
                socket_read_size=_READ_BYTES,
                retry=Retry(NoBackoff(), 0),
            )
            return redis.Redis(connection_pool=pool)

        self._redis = client(seconds)
        # A stop breaks the connections of the other, and nobody waits that long for this one.
        self._removing = client(min(seconds, REMOVAL_SECONDS))

    def put(self, name: str, part: Iterable[memoryview], sent: Callable[[int], None]) -> str:
        """See ``Parts.put``."""
        data = joined(part)
        with self._explained(), self._interrupted_by_stop():
            self._redis.set(name, data, ex=EXPIRY_SECONDS)
        sent(len(data))
        return ""

    def get(self, name: str, where: str, landing: Landing) -> None:
        """See ``Parts.get``. What is asked for is asked for in pieces that stay in the processor's cache."""
        with self._explained(), self._interrupted_by_stop():
            size: Any = self._redis.strlen(name)
            if size not in (0, landing.size):
                raise TransferError(
                    f"The object {name} in Redis has {size:,} bytes where {landing.size:,} were announced."
                )
            while landing.left:
                last = landing.landed + min(landing.left, _PIECE) - 1
                data: Any = self._redis.getrange(name, landing.landed, last)
                if not data:
                    raise TransferError(
                        f"The Redis server {self._server} does not hold the object {name} (any more).",
                        "It was restarted without saving, or its `maxmemory-policy` evicts what is still needed: set "
                        "it to `noeviction`. Models stay there for 8 days at most.",
                    )
                landing.write(memoryview(data))

    def open(self, name: str, where: str, size: int) -> int | None:
        """See ``Parts.open``; None."""
        return None

    def holds(self, name: str, where: str) -> bool:
        """See ``Parts.holds``."""
        with self._explained():
            return bool(self._removing.exists(name))

    def drop(self, name: str, where: str) -> None:
        """See ``Parts.drop``."""
        with self._explained():
            self._removing.delete(name)

    def tidy(self) -> None:
        """See ``Parts.tidy``; nothing."""

    def close(self) -> None:
        """See ``Parts.close``."""
        for client in (self._redis, self._removing):
            client.connection_pool.disconnect()

    @contextlib.contextmanager
    def _interrupted_by_stop(self) -> Iterator[None]:
        """In the block, a stop breaks the connections, since nothing else ends the client's waiting."""
        with self._lock:
            self._busy += 1
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="appfl-gc-redis-stop", daemon=True)
                self._watcher.start()
        try:
            check(self._stop, _WHAT)
            yield
        except Exception:
            if self._stop.is_set():
                raise interrupted(_WHAT) from None
            raise
        finally:
            with self._lock:
                self._busy -= 1

    def _watch(self) -> None:
        """One thread for all parts of a transfer, since to start one costs as much as to send a megabyte."""
        while True:
            stopped = self._stop.wait(_TICK)
            with self._lock:
                if not self._busy:
                    self._watcher = None
                    return
            if stopped:
                # Again while something waits: it may have connected since.
                self._redis.connection_pool.disconnect()
                time.sleep(_TICK)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of the client as ours."""
        from redis import exceptions

        try:
            yield
        except exceptions.AuthenticationError:
            # What it says may repeat the password.
            raise TransferError(
                f"The Redis server {self._server} wants a password, or refuses the one that ~/.netrc has for it.",
                f"Write a line `machine {self._server.rpartition(':')[0]} login default password ...` into ~/.netrc on "
                "this machine, and run `chmod 600 ~/.netrc`. It is never part of a configuration.",
            ) from None
        except exceptions.OutOfMemoryError:
            raise PassingError(
                f"The Redis server {self._server} is at its memory limit and takes no more.",
                "Raise `maxmemory` in redis.conf above the models that are on their way at the same time (the global "
                "one, and one for each client), or give large models another store.",
            ) from None
        except exceptions.TimeoutError:
            raise PassingError(
                f"The Redis server {self._server} did not answer in time: it or the network is frozen or overloaded."
            ) from None
        except exceptions.ConnectionError as error:
            raise self._unreachable(str(error)) from None
        except exceptions.RedisError as error:
            raise self._refused(clean_text(str(error), 200).rstrip(".")) from None

    def _unreachable(self, said: str) -> TransferError:
        return PassingError(
            f"The Redis server {self._server} can't be reached from this machine, or broke off: "
            f"{clean_text(said, 200).rstrip('.')}.",
            "See that it runs, that it listens on an address that this machine reaches (`bind` in redis.conf), that no "
            "firewall keeps them apart, and that its `proto-max-bulk-len` is not below the default of 512mb.",
        )

    def _refused(self, said: str) -> TransferError:
        passing = said.startswith(_PASSING)
        return (PassingError if passing else TransferError)(
            f"The Redis server {self._server} answered with an error: {said}.",
            "It must be a single server that can be written to, with the commands SET, GETRANGE and DEL on all keys.",
        )


def _login(host: str) -> tuple[str | None, str | None]:
    """User and password for ``host`` from ``~/.netrc``, which must be private; bound to the host that they are for."""
    try:
        found = netrc.netrc().authenticators(host)
    except FileNotFoundError:
        found = None
    except netrc.NetrcParseError as error:
        # What it says otherwise may repeat a password.
        private = "too permissive" in str(error) or "owner" in str(error)
        raise UsageError(
            "The file ~/.netrc is open to others."
            if private
            else f"The file ~/.netrc is broken near line {error.lineno}.",
            "Run `chmod 600 ~/.netrc`." if private else "",
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"The file ~/.netrc can't be read: {type(error).__name__}.") from None
    return (None, None) if found is None else (found[0] or None, found[2])
