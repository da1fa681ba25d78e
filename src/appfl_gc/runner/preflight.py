"""Before the first task: is every endpoint there, may we use it, does it take our configuration?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from appfl_gc.config import Federation
from appfl_gc.config.places import ClientPlaces
from appfl_gc.config.schema.block import thaw
from appfl_gc.control.globus_compute.endpoints.config_schema import check_configs
from appfl_gc.control.globus_compute.endpoints.facts import (
    EndpointDirectory,
    EndpointFacts,
    EndpointState,
    look_up,
)
from appfl_gc.hpc.facility import facility_of_endpoint
from appfl_gc.protocol.errors import AppflGcError, DeliveryError, EndpointError, LoginError, UsageError
from appfl_gc.protocol.wire import Json
from appfl_gc.runner.events import EndpointRow, EndpointsChecked, RunEvent

FIRST_POLL_SECONDS, POLL_SECONDS = 0.5, 5.0
REMIND_SECONDS = 30.0
MANY = 20
"""What the service takes of one identity."""

LONGER = "server_configs.control_configs.endpoint_wait_seconds sets how long a run waits."


@dataclass(frozen=True)
class ClientSite:
    """A client and its endpoint.

    Attributes:
        client: its name.
        endpoint_id: UUID of its endpoint.
        directory: the service as this client's identity sees it; clients that share an identity share the object.
        user_endpoint_config: what the endpoint's template is given.
        place: ``file:line: key`` of a path in ``user_endpoint_config``.
    """

    client: str
    endpoint_id: str
    directory: EndpointDirectory
    user_endpoint_config: Mapping[str, Json]
    place: Callable[[tuple[str | int, ...]], str]


def client_sites(federation: Federation, directories: Mapping[str, EndpointDirectory]) -> list[ClientSite]:
    """The clients at Globus Compute endpoints that have one of ``directories``, which are by client."""
    places = ClientPlaces(federation.client_path)

    def place(index: int) -> Callable[[tuple[str | int, ...]], str]:
        return lambda path: places.of(index, ("user_endpoint_config", *path))

    return [
        ClientSite(
            client.client_id,
            client.endpoint_id,
            directories[client.client_id],
            thaw(client.settings.user_endpoint_config or {}),
            place(index),
        )
        for index, client in enumerate(federation.clients)
        if client.client_id in directories
    ]


def wait_for_endpoints(
    sites: Sequence[ClientSite],
    tell: Callable[[RunEvent], None],
    pause: Callable[[float], bool],
    wait_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Look at every endpoint, tell what was found, and wait until all of them are online.

    Args:
        sites: the clients at Globus Compute endpoints.
        tell: hears ``EndpointsChecked``: at once, at each change, and now and then while it waits.
        pause: waits so many seconds and returns whether the run is to end instead.
        wait_seconds: how long to wait for endpoints that are offline, for a login and for the service.
        clock: monotonic seconds.

    Returns:
        True if calls can be sent; False if ``pause`` said that the run is to end.

    Raises:
        LoginError: an identity is not accepted; or, after ``wait_seconds``, nobody has logged in.
        EndpointError: an endpoint does not exist or is not shared. Every client and endpoint is named.
        UsageError: at once for a ``user_endpoint_config`` that its endpoint would refuse.
        DeliveryError: an endpoint is offline, or the service can't be asked, after ``wait_seconds``.
    """
    check = _Check(sites, tell, pause, wait_seconds, clock)
    return check.look(check.all) and check.wait()


_Key = tuple[EndpointDirectory, str]


class _Check:
    """What is known of each (identity, endpoint) so far."""

    def __init__(
        self,
        sites: Sequence[ClientSite],
        tell: Callable[[RunEvent], None],
        pause: Callable[[float], bool],
        wait_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._sites = sites
        self._tell = tell
        self._pause = pause
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._start = clock()
        self._facts: dict[_Key, EndpointFacts] = {}
        self._told: tuple[EndpointRow, ...] = ()
        self._told_at = 0.0
        self.all = list(dict.fromkeys((site.directory, site.endpoint_id) for site in sites))
        configured = {(site.directory, site.endpoint_id) for site in sites if site.user_endpoint_config}
        # A description is for the table and for its schema: where there are many, only those that need it are asked.
        self._described = set(self.all) if len(self.all) <= MANY else configured
        self._checked: set[tuple[_Key, bool]] = set()

    def look(self, keys: Iterable[_Key]) -> bool:
        """Ask for each of ``keys`` and tell; False if the run is to end. Raises what waiting can't mend."""
        for key in keys:
            if self._pause(0):
                return False
            directory, endpoint_id = key
            self._facts[key] = look_up(directory, endpoint_id, describe=key in self._described)
        self._tell_rows()
        _raise(LoginError, self._problems(lambda state: state is EndpointState.BAD_LOGIN, 0.0))
        _raise(EndpointError, self._problems(lambda state: state is EndpointState.REFUSED, 0.0))
        _raise(UsageError, self._misfits())
        return True

    def wait(self) -> bool:
        """Ask again until all are online. Raises at the deadline."""
        pause = FIRST_POLL_SECONDS
        while waiting := [key for key in self.all if self._facts[key].state.may_change]:
            waited = self._clock() - self._start
            left = self._wait_seconds - waited
            if left <= 0:
                states = {self._facts[key].state for key in waiting}
                kind = LoginError if EndpointState.NO_LOGIN in states else DeliveryError
                _raise(kind, self._problems(lambda state: state.may_change, waited))
            if self._pause(min(left, pause)):
                return False
            pause = min(2 * pause, POLL_SECONDS)
            if not self.look(waiting):
                return False
        return True

    def _tell_rows(self) -> None:
        clients: dict[_Key, list[str]] = {key: [] for key in self.all}
        for site in self._sites:
            clients[site.directory, site.endpoint_id].append(site.client)
        rows = tuple(_row(self._facts[key], clients[key]) for key in self.all)
        now = self._clock() - self._start
        if rows != self._told or now - self._told_at >= REMIND_SECONDS:
            self._told, self._told_at = rows, now
            self._tell(EndpointsChecked(rows, now, self._wait_seconds))

    def _problems(self, counts: Callable[[EndpointState], bool], waited: float) -> list[tuple[str, str]]:
        """Sentence and hint for each client whose endpoint's state counts."""
        facts = [(site, self._facts[site.directory, site.endpoint_id]) for site in self._sites]
        return [_problem(site, found, waited) for site, found in facts if counts(found.state)]

    def _misfits(self) -> list[tuple[str, str]]:
        """What endpoints whose schema has just become known do not take: sentence and hint of each."""
        news = {(key, facts.schema is not None) for key, facts in self._facts.items()} - self._checked
        self._checked |= news
        keys = {key for key, _ in news}
        sites = [site for site in self._sites if (site.directory, site.endpoint_id) in keys]
        pairs = [
            (self._facts[site.directory, site.endpoint_id].schema, site.user_endpoint_config)
            for site in sites
        ]
        problems = []
        for site, answer in zip(sites, check_configs(pairs), strict=True):
            for misfit in answer.misfits:
                where, named = site.place(misfit.path), _named(self._facts[site.directory, site.endpoint_id])
                problems.append(
                    (
                        f"{where}: {named} of client {site.client} does not take this user_endpoint_config. "
                        f"{misfit.message}",
                        "Correct it as the endpoint's owner documents it; `appfl-gc doctor` checks without running.",
                    )
                )
        return problems


def _row(facts: EndpointFacts, clients: Sequence[str]) -> EndpointRow:
    # Whoever reads this while the run waits can end the waiting: the hint says how.
    detail = f"{facts.detail} {facts.hint}" if facts.state is EndpointState.NO_LOGIN else facts.detail
    return EndpointRow(
        facts.endpoint_id, facts.name, tuple(clients), facts.state, detail, facts.agent_version
    )


def _named(facts: EndpointFacts) -> str:
    return f"endpoint {facts.name} ({facts.endpoint_id})" if facts.name else f"endpoint {facts.endpoint_id}"


def _problem(site: ClientSite, facts: EndpointFacts, waited: float) -> tuple[str, str]:
    start = f"Client {site.client}: {_named(facts)}"
    if facts.state is EndpointState.OFFLINE:
        after = f" after {waited:.0f} s of waiting" if waited >= 1 else ""
        return f"{start} is offline{after}.", f"{_start(facts)} {LONGER}"
    return f"{start}: {facts.detail}", facts.hint


def _start(facts: EndpointFacts) -> str:
    facility = facility_of_endpoint(facts.endpoint_id)
    if facility is not None:
        return f"The facility ({facility[0].name}) runs this endpoint: look at its status page."
    return f"Start its agent: `appfl-gc endpoint start {facts.name or 'NAME'}` there, or ask its owner."


def _raise(kind: type[AppflGcError], problems: Sequence[tuple[str, str]]) -> None:
    """Raise ``kind`` with every sentence and every hint once, if there are problems."""
    if problems:
        sentences = list(dict.fromkeys(sentence for sentence, _ in problems))
        hints = list(dict.fromkeys(hint for _, hint in problems if hint))
        raise kind("\n".join(sentences), "\n".join(hints))
