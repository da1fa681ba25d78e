"""The control planes of a run: which client is reached how."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appfl_gc.config import LOCAL, ClientConfig, Federation
from appfl_gc.config.schema.block import thaw
from appfl_gc.config.schema.server_configs import ControlConfigs
from appfl_gc.control.local.engine import EngineSettings
from appfl_gc.control.local.plane import LocalPlane
from appfl_gc.control.plane import Capabilities, ControlPlane, Listener
from appfl_gc.control.routed import RoutedPlane
from appfl_gc.payload.cores import available_cores
from appfl_gc.runner.events import RunEvent
from appfl_gc.runner.inbox import Inbox, Progressed
from appfl_gc.runner.run_directory import RunDirectory
from appfl_gc.runner.services import identity_of

if TYPE_CHECKING:
    from appfl_gc.control.globus_compute.identity import Identity
    from appfl_gc.control.globus_compute.plane import GlobusComputePlane
    from appfl_gc.control.globus_compute.rest.service import ComputeService


@dataclass(frozen=True)
class Planes:
    """How the clients of a run are reached.

    Attributes:
        plane: delivers every call.
        threads: CPU threads of each client's tensor operations; 0 where its site chooses.
        services: the Globus Compute service, as the identity of each client at an endpoint sees it.
        capabilities: of the control plane of each client.
    """

    plane: ControlPlane
    threads: dict[str, int]
    services: Mapping[str, ComputeService]
    capabilities: Mapping[str, Capabilities]


def identities(federation: Federation, tokens: tuple[str | None, str | None]) -> dict[str, Identity]:
    """Who submits for each client at a Globus Compute endpoint.

    ``tokens`` name where a token for Globus Compute and one for Globus Auth are read, in place of the login.

    Raises:
        UsageError: if a token's name names nothing.
        LoginError: if credentials can't be had.
    """
    remote = [client for client in federation.clients if client.endpoint_id != LOCAL]
    return {client.client_id: identity_of(client, federation, tokens) for client in remote}


def make_planes(
    federation: Federation, directory: RunDirectory, inbox: Inbox, tokens: tuple[str | None, str | None]
) -> Planes:
    """A control plane for the clients of this machine, one for those at endpoints, or both behind one face.

    Raises:
        AppflGcError: as ``identities`` does; or if this machine can't run local clients.
    """
    control = federation.server_configs.control_configs
    submitters = identities(federation, tokens)
    local = [client for client in federation.clients if client.endpoint_id == LOCAL]
    threads = {client.client_id: client.train_configs.num_threads or 0 for client in federation.clients}
    plane_of: dict[str, ControlPlane] = {}
    if local:
        # Threads follow from cores and clients, never from the number of workers: they change the bits.
        cores = available_cores()
        at_once = min(len(local), cores)
        for client in local:
            threads[client.client_id] = threads[client.client_id] or max(1, cores // at_once)
        plane = _local_plane(local, control, at_once, directory, inbox)
        plane_of |= {client.client_id: plane for client in local}
    services: Mapping[str, ComputeService] = {}
    if submitters:
        far = _globus_compute_plane(federation, submitters, inbox)
        services = far.services
        plane_of |= dict.fromkeys(submitters, far)
    kinds = {id(plane): plane for plane in plane_of.values()}
    one = kinds.popitem()[1] if len(kinds) == 1 else RoutedPlane(plane_of)
    capabilities = {client: plane.capabilities for client, plane in plane_of.items()}
    return Planes(one, threads, services, capabilities)


def await_endpoints(
    federation: Federation,
    planes: Planes,
    tell: Callable[[RunEvent], None],
    inbox: Inbox,
    patience: float | None = None,
) -> None:
    """Wait until every Globus Compute endpoint is online, or somebody interrupts.

    Args:
        federation: the configuration.
        planes: its services.
        tell: hears what is found.
        inbox: of the run.
        patience: seconds; None for ``endpoint_wait_seconds``.

    Raises:
        AppflGcError: as ``wait_for_endpoints`` does.
    """
    if not planes.services:
        return
    from appfl_gc.runner.preflight import client_sites, wait_for_endpoints

    def pause(seconds: float) -> bool:
        """Wait; whether an interrupt came, which stays in the inbox: nothing else comes before the first call."""
        try:
            inbox.put(inbox.get(timeout=seconds))
        except queue.Empty:
            return False
        return True

    if patience is None:
        patience = federation.server_configs.control_configs.endpoint_wait_seconds
    wait_for_endpoints(client_sites(federation, planes.services), tell, pause, patience)


def _told_in(inbox: Inbox) -> Listener:
    """Where control planes tell how far calls are."""
    return lambda progress: inbox.put(Progressed(progress, time.monotonic()))


def _local_plane(
    clients: Sequence[ClientConfig],
    control: ControlConfigs,
    at_once: int,
    directory: RunDirectory,
    inbox: Inbox,
) -> ControlPlane:
    place = directory.local
    settings = EngineSettings(control.engine, place, place / "site", place / "worker.log")
    names = [client.client_id for client in clients]
    return LocalPlane(names, control.slots or at_once, settings, _told_in(inbox))


def _globus_compute_plane(
    federation: Federation, submitters: Mapping[str, Identity], inbox: Inbox
) -> GlobusComputePlane:
    from appfl_gc.control.globus_compute.plane import GlobusComputePlane, PlaneSettings, Target

    control = federation.server_configs.control_configs
    targets = {
        client.client_id: Target(
            endpoint_id=client.endpoint_id,
            identity=submitters[client.client_id],
            user_endpoint_config=thaw(client.settings.user_endpoint_config),
            resource_specification=thaw(client.settings.resource_specification),
        )
        for client in federation.clients
        if client.client_id in submitters
    }
    settings = PlaneSettings(
        request_limit_bytes=control.request_limit_bytes,
        results=control.results,
        amqp_port=control.amqp_port,
        function_id=control.function_id,
        lost_after_seconds=control.lost_after_seconds,
    )
    return GlobusComputePlane(targets, settings, _told_in(inbox))
