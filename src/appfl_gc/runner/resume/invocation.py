"""What a run was started with, kept in its directory, so that it can be gone on with from anywhere."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from appfl_gc.config.diagnostic import ConfigError
from appfl_gc.config.federation import Federation
from appfl_gc.config.load import Examination, examine
from appfl_gc.payload.files import replacing, write_all
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.redaction import redact
from appfl_gc.protocol.wire import Json, WireError, as_key, as_object, load_json

FILE = "invocation.json"
VERSION = 1
LONGEST = 10_000


@dataclass(frozen=True)
class Invocation:
    """The arguments of ``appfl_gc.run``, but for callbacks.

    Attributes:
        server_config, client_config: both YAML files, absolute.
        working_directory: where relative paths of the configuration begin, absolute.
        overrides: ``KEY=VALUE`` on top of the files.
        strict: unknown keys are errors.
        local: a rehearsal on this machine.
        local_data: dataset functions of a rehearsal.
        enable_server_val: server validation was insisted on.
        init_model: the file that the model began from, absolute, or None.
        compute_token, openid_token: the variable or the file, absolute, that holds a token. What names neither, and so
            may be the token itself, is not written down.
    """

    server_config: Path
    client_config: Path
    working_directory: Path
    overrides: tuple[str, ...] = ()
    strict: bool = False
    local: bool = False
    local_data: Mapping[str, str] = field(default_factory=dict)
    enable_server_val: bool = False
    init_model: Path | None = None
    compute_token: str | None = None
    openid_token: str | None = None

    @classmethod
    def here(
        cls,
        server_config: str | Path,
        client_config: str | Path,
        *,
        overrides: Sequence[str] = (),
        strict: bool = False,
        local: bool = False,
        local_data: Mapping[str, str] | None = None,
        enable_server_val: bool = False,
        init_model: str | Path | None = None,
        compute_token: str | None = None,
        openid_token: str | None = None,
    ) -> Invocation:
        """Of a run that begins in this working directory."""
        return cls(
            Path(server_config).absolute(),
            Path(client_config).absolute(),
            Path.cwd(),
            tuple(overrides),
            strict,
            local,
            dict(local_data or {}),
            enable_server_val,
            None if init_model is None else Path(init_model).absolute(),
            _place_of_token(compute_token),
            _place_of_token(openid_token),
        )

    def save(self, directory: Path) -> None:
        """Write it into a run's directory; raises ``OSError``."""
        text = json.dumps(self.to_json(), indent=2) + "\n"
        with replacing(directory / FILE) as file:
            write_all(file, memoryview(text.encode()))

    @classmethod
    def load(cls, directory: Path) -> Invocation:
        """Read that of a run.

        Raises:
            UsageError: if there is none, or it can't be read.
        """
        place = directory / FILE
        try:
            return cls.from_json(load_json(place.read_text("utf-8")))
        except FileNotFoundError:
            raise UsageError(
                f"{directory} does not say which files the run was started with: it began from a Federation that was "
                "loaded already.",
                "Name both YAML files with --server_config and --client_config, or call "
                "appfl_gc.resume(directory, federation=...).",
            ) from None
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{place} can't be read: {error}",
                "Name both YAML files with --server_config and --client_config.",
            ) from None

    @classmethod
    def again(
        cls,
        directory: Path,
        *,
        server_config: str | Path | None = None,
        client_config: str | Path | None = None,
        overrides: Sequence[str] = (),
        compute_token: str | None = None,
        openid_token: str | None = None,
    ) -> Invocation:
        """That of the run in ``directory``, with what is given now in place of what was given then.

        Overrides are added to those of then. A run that has none, since it began from a ``Federation``, needs both
        files.

        Raises:
            UsageError: if there is none, or it can't be read, and the files are not given.
        """
        try:
            then = cls.load(directory)
        except UsageError:
            if server_config is None or client_config is None:
                raise
            then = cls.here(server_config, client_config)
        return then.with_changes(
            server_config=server_config,
            client_config=client_config,
            overrides=overrides,
            compute_token=compute_token,
            openid_token=openid_token,
        )

    def with_changes(
        self,
        *,
        server_config: str | Path | None = None,
        client_config: str | Path | None = None,
        overrides: Sequence[str] = (),
        compute_token: str | None = None,
        openid_token: str | None = None,
    ) -> Invocation:
        """The same with what is given now in place of what was given then; overrides are added."""
        return replace(
            self,
            server_config=self.server_config if server_config is None else Path(server_config).absolute(),
            client_config=self.client_config if client_config is None else Path(client_config).absolute(),
            overrides=(*self.overrides, *overrides),
            compute_token=_place_of_token(compute_token) or self.compute_token,
            openid_token=_place_of_token(openid_token) or self.openid_token,
        )

    @contextlib.contextmanager
    def in_its_directory(self) -> Iterator[None]:
        """Be in the run's working directory while it lasts: there its relative paths mean what they meant.

        Where that is gone, as on another machine, nothing changes.
        """
        before = Path.cwd()
        with contextlib.suppress(OSError):
            os.chdir(self.working_directory)
        try:
            yield
        finally:
            os.chdir(before)

    def examine(self) -> Examination:
        """Read and check the files as they are now."""
        return examine(
            self.server_config,
            self.client_config,
            overrides=self.overrides,
            strict=self.strict,
            local=self.local,
            local_data=self.local_data,
        )

    def federation(self) -> Federation:
        """The configuration as it is now.

        Raises:
            ConfigError: if it has errors, or a file is gone.
        """
        found = self.examine()
        if found.federation is None:
            raise ConfigError(found.diagnostics)
        return found.federation

    def to_json(self) -> dict[str, Json]:
        """The JSON form, without overrides that hold a secret."""
        return {
            "invocation": VERSION,
            "server_config": str(self.server_config),
            "client_config": str(self.client_config),
            "working_directory": str(self.working_directory),
            "overrides": [text for text in self.overrides if not _has_secret(text)],
            "strict": self.strict,
            "local": self.local,
            "local_data": dict(self.local_data),
            "enable_server_val": self.enable_server_val,
            "init_model": None if self.init_model is None else str(self.init_model),
            "compute_token": _if_there(self.compute_token),
            "openid_token": _if_there(self.openid_token),
        }

    @classmethod
    def from_json(cls, value: Json) -> Invocation:
        """Parse the JSON form; raises ``WireError``."""
        fields = as_object(value, "The invocation")
        if fields.get("invocation") != VERSION:
            raise WireError(f"it is of version {fields.get('invocation')}; this program reads {VERSION}.")
        overrides = fields.get("overrides")
        local_data = as_object(fields.get("local_data"), "local_data")
        init_model = _optional(fields, "init_model")
        return cls(
            Path(_text(fields, "server_config")),
            Path(_text(fields, "client_config")),
            Path(_text(fields, "working_directory")),
            tuple(as_key(text, "An override", LONGEST) for text in overrides)
            if isinstance(overrides, list)
            else (),
            fields.get("strict") is True,
            fields.get("local") is True,
            {name: as_key(place, name, LONGEST) for name, place in local_data.items()},
            fields.get("enable_server_val") is True,
            None if init_model is None else Path(init_model),
            _optional(fields, "compute_token"),
            _optional(fields, "openid_token"),
        )


def _has_secret(override: str) -> bool:
    """Whether it must not be written down; whoever goes on with the run gives it again."""
    key, _, value = override.partition("=")
    name = key.rpartition(".")[2].strip()
    return bool(redact(value, name, inside_credentials="cred" in key.lower()) != value)


def _text(fields: Mapping[str, Json], name: str) -> str:
    return as_key(fields.get(name), name, LONGEST)


def _optional(fields: Mapping[str, Json], name: str) -> str | None:
    return None if fields.get(name) is None else _text(fields, name)


def _place_of_token(name: str | None) -> str | None:
    """A variable's name as it is; a file's as an absolute path."""
    if name is None or name in os.environ:
        return name
    return str(Path(name).expanduser().absolute())


def _if_there(place: str | None) -> str | None:
    """``place`` if it names a variable that is set, or a file."""
    if place is None or place in os.environ:
        return place
    with contextlib.suppress(OSError, ValueError):  # of what is too long for a path, or can't be one
        if Path(place).is_file():
            return place
    return None
