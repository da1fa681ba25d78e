"""Asks the service about each identity and each endpoint, one request after another, and no more than it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from appfl_gc.config import Federation
from appfl_gc.control.globus_compute.endpoints.config_schema import SchemaAnswer, check_configs
from appfl_gc.control.globus_compute.endpoints.facts import EndpointFacts, EndpointState, look_up
from appfl_gc.control.globus_compute.following.amqp_probe import AmqpProbe, probe
from appfl_gc.protocol.errors import AppflGcError
from appfl_gc.protocol.wire import Json
from appfl_gc.runner.doctor.endpoints import ConfigCheck, EndpointChecks, config_rows, endpoint_rows
from appfl_gc.runner.doctor.logins import LoginFacts, login_rows
from appfl_gc.runner.doctor.network import results_row
from appfl_gc.runner.doctor.row import Row, State, Subject, answer, named
from appfl_gc.runner.doctor.versions import agent_rows, sdk_row
from appfl_gc.runner.preflight import ClientSite

if TYPE_CHECKING:
    from appfl_gc.control.globus_compute.rest.service import ComputeService, ServiceVersions

T = TypeVar("T")

SERVICE = Subject("Globus Compute")


class RemoteExamination:
    """The rows about what lies behind the network.

    Args:
        federation: the configuration.
        sites: the clients at Globus Compute endpoints.
        services: the service as each client's identity sees it, by client.
        tell: hears what is being asked.
    """

    def __init__(
        self,
        federation: Federation,
        sites: Sequence[ClientSite],
        services: Mapping[str, ComputeService],
        tell: Callable[[str], None],
    ) -> None:
        self._control = federation.server_configs.control_configs
        self._sites = sites
        self._service_of = services
        self._tell = tell
        self._services = tuple(dict.fromkeys(services.values()))
        self._blocked: dict[ComputeService, str] = {}
        self._owned: dict[ComputeService, list[dict[str, Json]] | AppflGcError] = {}

    def rows(self) -> Iterator[Row]:
        """Logins, then the service, then each endpoint."""
        for service in self._services:
            yield from self._login(service)
        usable = [service for service in self._services if service not in self._blocked]
        versions = None
        if usable:
            self._tell("asking for versions")
            versions = answer(usable[0].versions)
            yield sdk_row(SERVICE, versions)
            if isinstance(versions, AppflGcError):
                self._blocked |= dict.fromkeys(usable, "the service could not be asked")
            else:
                yield results_row(SERVICE, self._control.results, self._probe(usable[0]))
        yield from self._endpoints(versions)

    def _login(self, service: ComputeService) -> Iterator[Row]:
        identity = service.identity
        users = named([client for client, its in self._service_of.items() if its is service])
        self._tell(f"asking whose {identity.describe()} is")
        account = answer(service.userinfo)
        clock = answer(service.seconds_of_clock)
        # The storage is read last: the questions have renewed what is in it.
        facts = LoginFacts(account, answer(identity.login_status), clock)
        rows = list(login_rows(Subject(f"Login of {users}: {identity.describe()}"), facts))
        if any(row.state is State.FAIL for row in rows):
            self._blocked[service] = f"{identity.describe()} has no valid login"
        yield from rows

    def _probe(self, service: ComputeService) -> AmqpProbe | AppflGcError | None:
        if self._control.results == "poll":
            return None
        self._tell("trying the way of results")
        queue = answer(service.result_queue)
        return queue if isinstance(queue, AppflGcError) else probe(queue.url, self._control.amqp_port)

    def _endpoints(self, versions: ServiceVersions | AppflGcError | None) -> Iterator[Row]:
        by_endpoint: dict[tuple[ComputeService, str], list[ClientSite]] = {}
        for site in self._sites:
            by_endpoint.setdefault((self._service_of[site.client], site.endpoint_id), []).append(site)
        checks = {key: self._look(*key) for key in by_endpoint if key[0] not in self._blocked}
        asked = [(key, site) for key, sites in by_endpoint.items() if key in checks for site in sites]
        configs = check_configs(
            [(checks[key].facts.schema, site.user_endpoint_config) for key, site in asked]
        )
        answers = {site.client: config for (_, site), config in zip(asked, configs, strict=True)}
        for key, sites in by_endpoint.items():
            subject = _subject(key[1], checks[key].facts.name if key in checks else "", sites)
            if key not in checks:
                yield subject.skipped("status", f"It is not asked about: {self._blocked[key[0]]}.")
            else:
                yield from _endpoint(subject, checks[key], sites, answers, versions)

    def _look(self, service: ComputeService, endpoint_id: str) -> EndpointChecks:
        self._tell(f"asking about endpoint {endpoint_id}")
        facts = answer(lambda: look_up(service, endpoint_id))
        if isinstance(facts, AppflGcError):
            facts = EndpointFacts(endpoint_id, EndpointState.NO_ANSWER, facts.message, facts.hint)
        if not facts.state.known:
            return EndpointChecks(facts, None, None, self._control.function_id)
        if service not in self._owned:
            self._owned[service] = answer(lambda: service.endpoints("owner"))
        owned = self._owned[service]
        allowed = answer(lambda: service.allowed_functions(endpoint_id))
        ours = None
        if not isinstance(owned, AppflGcError):
            ours = any(str(item.get("uuid")).lower() == endpoint_id.lower() for item in owned)
        return EndpointChecks(facts, ours, allowed, self._control.function_id)


def _subject(endpoint_id: str, name: str, sites: Sequence[ClientSite]) -> Subject:
    users = named([site.client for site in sites])
    return Subject(f"Endpoint of {users}: {f'{name} ({endpoint_id})' if name else endpoint_id}")


def _endpoint(
    subject: Subject,
    checks: EndpointChecks,
    sites: Sequence[ClientSite],
    answers: Mapping[str, SchemaAnswer],
    versions: ServiceVersions | AppflGcError | None,
) -> Iterator[Row]:
    yield from endpoint_rows(subject, checks)
    if not checks.facts.state.known:
        return
    configs = [
        ConfigCheck(site.client, bool(site.user_endpoint_config), answers[site.client], site.place)
        for site in sites
    ]
    yield from config_rows(subject, checks.facts, configs)
    yield from agent_rows(subject, checks.facts, versions)
