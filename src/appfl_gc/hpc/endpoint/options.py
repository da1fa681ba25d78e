"""What can be chosen for an endpoint, checked before anything is written."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appfl_gc.hpc.knobs import KNOBS
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.redaction import secret_in
from appfl_gc.protocol.wire import Json, clean_text

COMPUTE_ENGINE = "GlobusComputeEngine"
POOL_ENGINE = "ProcessPoolEngine"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SMALLEST_HEARTBEAT = 5


@dataclass(frozen=True)
class EndpointOptions:
    """What to write into an endpoint.

    Attributes:
        facility: whose defaults hold, as `facility list` names them.
        settings: values of ``KNOBS`` by name, over the facility's.
        locked: settings that a submitter may not change.
        engine: ``GlobusComputeEngine``, or ``ProcessPoolEngine`` (facility ``local`` only).
        directory: where agents, workers and the site state write; batch nodes must reach it.
        environment: variables for the user endpoint and its workers.
        heartbeat_seconds: time between the agent's reports to the service.
        idle_seconds: how long a user endpoint stays without work; 0 means for ever.
        endpoint_id: register with this UUID.
        display_name: what the service shows.
        contact_email: for the service's operators.
        allowed_functions: UUIDs of the only functions that may run; empty allows any.
        amqp_port: 443 where the network blocks 5671.
        multi_user: other people's identities are mapped to their own accounts; the agent runs as root.
        identities: with ``multi_user``, who may use it: a Globus user name and the account on this machine each.
        direct_hosts: workers reach these past the HTTP proxy of their nodes, if they have one; all else by it.
        prelude: shell lines before this environment is activated, as `module load`.
        extra_core: further keys of the agent's config.yaml.
        extra_user: further keys of a user endpoint's configuration.
    """

    facility: str = "local"
    settings: Mapping[str, Json] = field(default_factory=dict)
    locked: frozenset[str] = frozenset()
    engine: str = COMPUTE_ENGINE
    directory: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    heartbeat_seconds: int = 30
    idle_seconds: int = 3600
    endpoint_id: str | None = None
    display_name: str | None = None
    contact_email: str | None = None
    allowed_functions: tuple[str, ...] = ()
    amqp_port: int | None = None
    multi_user: bool = False
    identities: Mapping[str, str] = field(default_factory=dict)
    direct_hosts: tuple[str, ...] = ()
    prelude: str = ""
    extra_core: Mapping[str, Json] = field(default_factory=dict)
    extra_user: Mapping[str, Json] = field(default_factory=dict)

    def check(self) -> None:
        """Look at every value; raises ``UsageError`` for the first that can't be used."""
        for name, value in self.settings.items():
            if name not in KNOBS:
                raise UsageError(
                    f"An endpoint has no setting `{clean_text(name, 60)}`.",
                    f"There are {', '.join(KNOBS)}.",
                )
            KNOBS[name].check(value)
        unknown = sorted(self.locked - set(KNOBS))
        if unknown:
            raise UsageError(
                f"`{unknown[0]}` can't be locked: it is no setting.", f"There are {', '.join(KNOBS)}."
            )
        if self.engine not in (COMPUTE_ENGINE, POOL_ENGINE):
            raise UsageError(
                f"The engine `{clean_text(self.engine, 60)}` is not supported.",
                f"Take {COMPUTE_ENGINE}, or {POOL_ENGINE} for the facility `local`.",
            )
        for what, text in (("display name", self.display_name), ("contact e-mail", self.contact_email)):
            if text is not None and (not text.isprintable() or len(text) > 200):
                raise UsageError(f"The endpoint's {what} is not one line of printable text.")
        if self.heartbeat_seconds < _SMALLEST_HEARTBEAT or self.idle_seconds < 0:
            raise UsageError(
                f"An endpoint reports every {_SMALLEST_HEARTBEAT} seconds at most, and idle time is 0 or more."
            )
        for identifier in (*self.allowed_functions, *filter(None, [self.endpoint_id])):
            _check_uuid(identifier)
        for host in self.direct_hosts:
            if not _HOST.fullmatch(host):
                raise UsageError(f"`{clean_text(host, 60)}` is no host that workers could reach.")
        if self.prelude:
            KNOBS["worker_init"].check(self.prelude)
        if self.multi_user and self.directory is not None:
            raise UsageError(
                "With `--multi-user` each user's files are in their own home directory.",
                "Leave out `--directory`.",
            )
        if self.identities and not self.multi_user:
            raise UsageError("`--map` needs `--multi-user`: without it only your own identity may submit.")
        self._check_environment()

    def _check_environment(self) -> None:
        for name, value in self.environment.items():
            if not _VARIABLE.fullmatch(name) or not value.isprintable():
                raise UsageError(
                    f"The environment variable `{clean_text(name, 60)}` can't be set for an endpoint.",
                    "A name has letters, digits and _, a value is one line.",
                )
        assignments = " ".join(f"{name}={value}" for name, value in self.environment.items())
        scripts = [text for text in self.settings.values() if isinstance(text, str)]
        for text in (assignments, self.prelude, *scripts):
            secret = secret_in(text)
            if secret is not None:
                raise UsageError(
                    f"{secret} looks like a secret: registration uploads the endpoint's template, and tasks of every "
                    "submitter can read their environment.",
                    "Keep it in a private file that your own code reads at the site.",
                )


def check_name(name: str) -> str:
    """``name`` if it can be an endpoint's; raises ``UsageError``."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"An endpoint can't have the name `{clean_text(name, 140)}`.",
            "A name has letters, digits and . _ -, at most 128, and begins with a letter or digit.",
        )
    return name


def _check_uuid(text: str) -> None:
    try:
        uuid.UUID(text)
    except ValueError:
        raise UsageError(
            f"`{clean_text(text, 60)}` is no UUID.",
            "A UUID looks like 4b116d3c-1703-4f8f-9f6f-39921e5864df.",
        ) from None
