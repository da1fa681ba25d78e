"""Reads both files, merges and checks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from appfl_gc.config import agreement, pairing, rehearsal, rules, spelling
from appfl_gc.config.diagnostic import ConfigError, Diagnostic, Severity
from appfl_gc.config.document import Document, KeyPath, read_document
from appfl_gc.config.federation import ClientConfig, Federation
from appfl_gc.config.findings import Findings
from appfl_gc.config.merging import Layered, has_interpolation
from appfl_gc.config.overrides import apply_overrides
from appfl_gc.config.schema.block import Block
from appfl_gc.config.schema.client import Client
from appfl_gc.config.schema.comm_configs import CommConfigs
from appfl_gc.config.schema.server_configs import ServerConfigs
from appfl_gc.config.sources import SourceReader
from appfl_gc.config.transfers import check_transfers
from appfl_gc.config.typing_check import TypedCheck
from appfl_gc.config.wanted_sources import client_sources, server_sources
from appfl_gc.protocol.source import Source

if TYPE_CHECKING:
    from appfl_gc.config.interpolation import Interpolation

NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Examination:
    """Everything that reading two files yields.

    Attributes:
        federation: the loaded configuration, or None if there are errors.
        diagnostics: errors, then warnings, then notes.
        views: title, merged block and typed block of the server and of each client, as far as they were read.
    """

    federation: Federation | None
    diagnostics: tuple[Diagnostic, ...]
    views: tuple[tuple[str, Layered, Block], ...] = field(default=())

    @property
    def has_errors(self) -> bool:
        """Whether a run is impossible."""
        return self.federation is None


def load(
    server_config: str | Path,
    client_config: str | Path,
    *,
    overrides: Sequence[str] = (),
    strict: bool = False,
    local: bool = False,
    local_data: Mapping[str, str] = NONE,
) -> Federation:
    """Read, merge and check a configuration.

    Args:
        server_config: the YAML file with ``client_configs`` and ``server_configs``.
        client_config: the YAML file with ``clients``.
        overrides: ``KEY=VALUE`` texts that win over both files, such as ``server_configs.device=cpu``.
        strict: whether warnings are errors.
        local: whether to rehearse on this machine: all endpoints local, no remote store.
        local_data: with ``local``, ``path.py:function`` by client or dataset function whose data is replaced.

    Raises:
        ConfigError: if there is any error; it has all of them.
    """
    result = examine(
        server_config, client_config, overrides=overrides, strict=strict, local=local, local_data=local_data
    )
    if result.federation is None:
        raise ConfigError(result.diagnostics)
    return result.federation


def check(
    server_config: str | Path,
    client_config: str | Path,
    *,
    overrides: Sequence[str] = (),
    strict: bool = False,
    local: bool = False,
    local_data: Mapping[str, str] = NONE,
) -> tuple[Diagnostic, ...]:
    """All that is to be said about a configuration, errors first, then warnings and notes; see ``load``."""
    return examine(
        server_config, client_config, overrides=overrides, strict=strict, local=local, local_data=local_data
    ).diagnostics


def examine(
    server_config: str | Path,
    client_config: str | Path,
    *,
    overrides: Sequence[str] = (),
    strict: bool = False,
    local: bool = False,
    local_data: Mapping[str, str] = NONE,
) -> Examination:
    """Read, merge and check a configuration without raising; arguments as in ``load``."""
    findings = Findings()
    documents: list[Document] = []
    for path in (server_config, client_config):
        try:
            documents.append(read_document(path))
        except ConfigError as error:
            findings.extend(error.diagnostics)
        else:
            findings.extend(documents[-1].problems)
    if len(documents) < 2:
        return Examination(None, findings.diagnostics(strict=strict))
    reading = _Reading(documents[0], documents[1], findings)
    federation = reading.federation(overrides, local=local, local_data=local_data)
    diagnostics = findings.diagnostics(strict=strict)
    if federation is None or any(found.severity is Severity.ERROR for found in diagnostics):
        return Examination(None, diagnostics, tuple(reading.views))
    federation = Federation(
        federation.server_configs,
        federation.clients,
        federation.sources,
        diagnostics,
        federation.server_path,
        federation.client_path,
    )
    return Examination(federation, diagnostics, tuple(reading.views))


class _Reading:
    """One reading of two documents."""

    def __init__(self, server: Document, clients: Document, findings: Findings) -> None:
        self.server = server
        self.clients = clients
        self.findings = findings
        self.views: list[tuple[str, Layered, Block]] = []

    def federation(
        self, overrides: Sequence[str], *, local: bool, local_data: Mapping[str, str]
    ) -> Federation | None:
        """The configuration as far as it can be read; None if not even its blocks are there."""
        apply_overrides(overrides, self.server, self.clients, self.findings)
        if not self._blocks_are_there():
            return None
        spelling.check_server_file(self.server, self.clients, self.findings)
        spelling.check_client_file(self.clients, self.server, self.findings)
        server, entries = self._merged()
        reader = SourceReader(Path.cwd(), self.findings)
        ids = [self._client_id(entry) for entry in entries]
        if local:
            rehearsal.make_local([server, *entries], self.findings)
            by_name = dict(zip(ids, entries, strict=True))
            rehearsal.substitute_data(
                local_data,
                by_name,
                lambda path, name: reader.definition(path, name, self.clients.path),
                self.findings,
            )
        elif local_data:
            self.findings.error("--local-data needs --local.", rehearsal.LOCAL_DATA_OPTION)
        clients = [self._client(entry, name, reader) for entry, name in zip(entries, ids, strict=True)]
        agreement.check_ids(entries, ids, self.findings)
        agreement.check_one_model(entries, clients, self.findings)
        settings, sources = self._server(server, clients, reader)
        agreement.check_connectors(server, settings.comm_configs, entries, clients, self.findings)
        return Federation(settings, tuple(clients), sources, (), self.server.path, self.clients.path)

    def _blocks_are_there(self) -> bool:
        spelling.correct_roots(self.server, self.clients, self.findings)
        there = True
        for document, name, kind, words in (
            (self.server, "client_configs", dict, "a block of keys"),
            (self.server, "server_configs", dict, "a block of keys"),
            (self.clients, "clients", list, "a list of clients"),
        ):
            value = document.get((name,))
            if isinstance(value, kind) and value:
                continue
            there = False
            found = "it is missing" if name not in document.tree else "found something else"
            found = "it is empty" if name in document.tree and not value else found
            other = self.clients if document is self.server else self.server
            hint = "The other file has it: are the two files swapped?" if name in other.tree else ""
            self.findings.error(f"Expected {words}; {found}.", document.mark((name,)), name, hint)
        entries = self.clients.get(("clients",))
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if not isinstance(entry, dict):
                there = False
                path: KeyPath = ("clients", index)
                self.findings.error(
                    "Expected a block of keys for each client.", self.clients.mark(path), f"clients[{index}]",
                    "Each begins with `- endpoint_id: ...`.",
                )  # fmt: skip
        return there

    def _interpolation(self) -> Interpolation | None:
        documents = (self.server, self.clients)
        if not any(has_interpolation(document.tree) for document in documents):
            return None
        # Imported here because OmegaConf takes a third of the time that `validate` takes without it.
        from appfl_gc.config.interpolation import Interpolation

        return Interpolation(documents, self.findings)

    def _merged(self) -> tuple[Layered, list[Layered]]:
        interpolation = self._interpolation()
        server = Layered.of((self.server, ("server_configs",)))
        shared_comm = self.server.get(("client_configs", "comm_configs"))
        if isinstance(shared_comm, dict):
            server.lay_over("comm_configs", shared_comm, (self.server, ("client_configs",)))
        count = len(self.clients.get(("clients",)))
        entries = [
            Layered.of((self.clients, ("clients", index)), (self.server, ("client_configs",)))
            for index in range(count)
        ]
        if interpolation is not None:
            for block in (server, *entries):
                interpolation.resolve(block, self.findings)
        return server, entries

    def _client_id(self, entry: Layered) -> str:
        for path in (("client_id",), ("train_configs", "logging_id"), ("endpoint_id",)):
            value = entry.get(path)
            if isinstance(value, int) and not isinstance(value, bool):
                entry.set(path, str(value), entry.place(path)[0])
                value = str(value)
            if isinstance(value, str) and value:
                if path[-1] == "logging_id":
                    mark, key = entry.place(path)
                    self.findings.warning(
                        "`logging_id` is the old name of `client_id`.", mark, key, "Write `client_id`."
                    )
                return value
        return ""

    def _client(self, entry: Layered, name: str, reader: SourceReader) -> ClientConfig:
        own_trainer = bool(entry.get(("train_configs", "trainer_path")))
        checker = TypedCheck(entry, self.findings, lambda path: own_trainer and path == ("train_configs",))
        settings = checker.typed(Client)
        rules.check_client(settings, checker)
        settings = settings.model_copy(
            update={"comm_configs": self._transfers(settings.comm_configs, checker)}
        )
        sources = client_sources(settings, checker, reader, (self.clients, self.server))
        self.views.append((f"client {name}", entry, settings))
        return ClientConfig(name, settings.endpoint_id, settings, sources)

    def _transfers(self, comm: CommConfigs, checker: TypedCheck) -> CommConfigs:
        return check_transfers(comm, checker, Path.cwd(), (self.clients, self.server))

    def _server(
        self, block: Layered, clients: list[ClientConfig], reader: SourceReader
    ) -> tuple[ServerConfigs, dict[str, Source]]:
        checker = TypedCheck(block, self.findings)
        settings = checker.typed(ServerConfigs)
        send_gradient = any(client.train_configs.send_gradient for client in clients)
        rules.check_server(settings, checker, send_gradient=send_gradient)
        pairing.check_pairing(settings, [client.train_configs for client in clients], checker)
        if settings.num_clients and settings.num_clients != len(clients):
            checker.error(
                ("num_clients",),
                f"`num_clients` is {settings.num_clients}, and {self.clients.name} has {len(clients)} clients.",
                "Make them equal.",
            )
        settings = rules.builtin_kwargs(settings, checker)
        settings = settings.model_copy(
            update={"comm_configs": self._transfers(settings.comm_configs, checker)}
        )
        sources = server_sources(settings, checker, reader, self.server)
        self.views.insert(0, ("server", block, settings))
        return settings, sources
