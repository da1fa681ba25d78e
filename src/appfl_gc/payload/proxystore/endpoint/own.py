"""The ProxyStore endpoints that are configured on this machine."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appfl_gc.protocol.errors import UsageError, VersionError

LOG = "log.txt"


@dataclass(frozen=True)
class OwnEndpoint:
    """One endpoint that is configured here.

    Attributes:
        name: as `proxystore-endpoint` takes it.
        uuid: as other endpoints know it, lower case.
        host: where it listens, or None if it was never started.
        port: where it listens.
        largest: bytes of the largest object that it takes, as its configuration says now.
        relay: address of its relay, or None if it works alone.
        relay_login: whether the relay wants a Globus login.
        directory: its configuration and log.
    """

    name: str
    uuid: str
    host: str | None
    port: int
    largest: int
    relay: str | None
    relay_login: bool
    directory: Path

    @property
    def log(self) -> Path:
        """Where it writes what it does."""
        return self.directory / LOG

    def __str__(self) -> str:
        return f"{self.name} ({self.uuid})"


def home(proxystore_dir: str | Path | None = None) -> Path:
    """Where endpoints are configured: the argument, else what ProxyStore says.

    Raises:
        VersionError: if ProxyStore is not installed.
    """
    if proxystore_dir is not None:
        return Path(proxystore_dir).expanduser().absolute()
    try:
        from proxystore.utils.environment import home_dir
    except ImportError as error:
        raise missing(error) from None
    return Path(home_dir())


def configured(proxystore_dir: str | Path | None = None) -> list[OwnEndpoint]:
    """All endpoints that are configured here, by name; broken configurations are left out.

    Raises:
        VersionError: if ProxyStore is not installed.
    """
    try:
        from proxystore.endpoint.config import read_config
    except ImportError as error:
        raise missing(error) from None
    found = []
    for directory in sorted(home(proxystore_dir).glob("*/")):
        try:
            config = read_config(str(directory))
        except (OSError, ValueError):
            continue
        found.append(
            OwnEndpoint(
                name=config.name,
                uuid=str(uuid.UUID(config.uuid)),
                host=config.host,
                port=config.port,
                largest=config.storage.max_object_size,
                relay=config.relay.address,
                relay_login=config.relay.auth.method == "globus",
                directory=directory,
            )
        )
    return found


def endpoint_uuid(text: str) -> str:
    """``text`` as a UUID in lower case.

    Raises:
        UsageError: if it is none.
    """
    try:
        return str(uuid.UUID(text))
    except (ValueError, AttributeError, TypeError):
        raise UsageError(
            f"`{str(text)[:60]!r}` is no UUID of a ProxyStore endpoint.",
            "`proxystore-endpoint list` shows the UUIDs of a machine's endpoints.",
        ) from None


def among(endpoints: Sequence[str], proxystore_dir: str | Path | None = None) -> list[OwnEndpoint]:
    """Those of ``endpoints`` that are configured here, in the order in which ``configured`` has them.

    Raises:
        UsageError: if there is none, or a UUID is none.
        VersionError: if ProxyStore is not installed.
    """
    wanted = {endpoint_uuid(text) for text in endpoints}
    here = configured(proxystore_dir)
    found = [one for one in here if one.uuid in wanted]
    if found:
        return found
    named = ", ".join(sorted(wanted)) or "none"
    others = ", ".join(str(one) for one in here) or "none"
    raise UsageError(
        f"No ProxyStore endpoint of this federation is configured on this machine in {home(proxystore_dir)}. "
        f"The federation's are {named}; configured here: {others}.",
        "Make one with `proxystore-endpoint configure NAME`, start it, and add its UUID to "
        "proxystore_configs.connector_configs.endpoints of server and clients. Where the home directory is "
        "elsewhere, set PROXYSTORE_HOME or connector_configs.proxystore_dir.",
    )


def missing(error: ImportError) -> VersionError:
    """The error for a machine without ProxyStore."""
    return VersionError(
        f"ProxyStore's endpoints need the package {error.name or 'proxystore'}, which is not installed here.",
        "Run in this Python environment: pip install -U proxystore",
    )
