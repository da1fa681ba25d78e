"""Where a sandbox keeps what, inside its one directory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TOKENS = "storage.db"


@dataclass(frozen=True)
class SandboxFiles:
    """The paths of one sandbox.

    Attributes:
        root: the directory that holds everything; readable by its owner only.
    """

    root: Path

    @property
    def description(self) -> Path:
        """What a running sandbox says of itself: ports, pids, credentials (mode 0600)."""
        return self.root / "sandbox.json"

    @property
    def lock(self) -> Path:
        """Held by the sandbox's process for as long as it runs."""
        return self.root / "lock"

    @property
    def log(self) -> Path:
        """What the service says."""
        return self.root / "service.log"

    @property
    def broker(self) -> Path:
        """Data, cookie and log of the RabbitMQ node."""
        return self.root / "broker"

    @property
    def endpoints(self) -> Path:
        """The agents' and the SDK's directory, in place of ``~/.globus_compute``."""
        return self.root / "endpoints"

    @property
    def tokens(self) -> Path:
        """What the SDK keeps of logins."""
        return self.endpoints / TOKENS

    @property
    def sites(self) -> Path:
        """What endpoints that the sandbox brings up keep, and their working directories."""
        return self.root / "sites"

    def are_ours(self) -> bool:
        """Whether the directory is a sandbox's, or is empty or missing."""
        return self.lock.exists() or not self.root.exists() or not any(self.root.iterdir())

    def create(self) -> None:
        """Make the directories, private to their owner."""
        for directory in (self.root, self.broker, self.endpoints):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)


@dataclass(frozen=True)
class Credentials:
    """An application that may use the sandbox.

    Attributes:
        name: what it was registered as.
        client_id: for ``GLOBUS_COMPUTE_CLIENT_ID``.
        client_secret: for ``GLOBUS_COMPUTE_CLIENT_SECRET``.
        identity: the UUID that owns what it makes; for an application, its client id.
    """

    name: str
    client_id: str
    client_secret: str
    identity: str


@dataclass(frozen=True)
class Description:
    """What a running sandbox says of itself.

    Attributes:
        pid: the sandbox's process, leader of its own session.
        started: when that process was started, seconds since the epoch; tells it from a later one with its pid.
        url: the service.
        proxy: the HTTP proxy that leads http://localhost:5000 to the service; with its password.
        amqp_ports: port of each way to the broker, by name (``clients``, ``clients-443``, ``agents``).
        admin_token: what the sandbox's own routes ask for.
        login_key: what the login page asks for.
        default: the application of the environment that ``up`` prints.
        children: pids of the broker's processes, by name.
    """

    pid: int
    started: float
    url: str
    proxy: str
    amqp_ports: dict[str, int]
    admin_token: str
    login_key: str
    default: Credentials
    children: dict[str, int]

    def write(self, path: Path) -> None:
        """Write it as a file that only its owner reads, in one step."""
        aside = path.with_suffix(".new")
        aside.unlink(missing_ok=True)
        aside.touch(mode=0o600)
        aside.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")
        aside.replace(path)

    @classmethod
    def read(cls, path: Path) -> Description | None:
        """Read it; ``None`` if there is none."""
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**values, "default": Credentials(**values["default"])})
        except (FileNotFoundError, json.JSONDecodeError):
            return None
