"""The control planes of a run: which client is reached how."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from appfl_gc.config import LOCAL, ClientConfig, Federation
from appfl_gc.config.schema.block import thaw
from appfl_gc.config.schema.server_configs import ControlConfigs
from appfl_gc.control.local.engine import EngineSettings
from appfl_gc.control.local.plane import LocalPlane
from appfl_gc.control.plane import ControlPlane, Progress
from appfl_gc.control.routed import RoutedPlane
from appfl_gc.payload.cores import available_cores
from appfl_gc.runner.inbox import Inbox, Progressed
from appfl_gc.runner.run_directory import RunDirectory


@dataclass(frozen=True)
class Planes:
    """How the clients of a run are reached.

    Attributes:
        plane: delivers every call.
        threads: CPU threads of each client's tensor operations; 0 where its site chooses.
    """

    plane: ControlPlane
    threads: dict[str, int]


def remote_clients(federation: Federation) -> list[ClientConfig]:
    """The clients at Globus Compute endpoints."""
    return [client for client in federation.clients if client.endpoint_id != LOCAL]


def make_planes(
    federation: Federation,
    directory: RunDirectory,
    inbox: Inbox,
    tokens: tuple[str | None, str | None] = (None, None),
) -> Planes:
    """A control plane for the clients of this machine, one for those at endpoints, or both behind one face.

    ``tokens`` name where a token for Globus Compute and one for Globus Auth are read, in place of the login.

    Raises:
        UsageError: if a token's name names nothing.
        AppflGcError: if credentials can't be had, or this machine can't run local clients.
    """
    control = federation.server_configs.control_configs
    remote = remote_clients(federation)
    local = [client for client in federation.clients if client.endpoint_id == LOCAL]
    threads = {client.client_id: client.train_configs.num_threads or 0 for client in federation.clients}
    plane_of: dict[str, ControlPlane] = {}
    if local:
        # Threads follow from cores and clients, never from the number of workers: they change the bits.
        cores = available_cores()
        at_once = min(len(local), cores)
        for client in local:
            threads[client.client_id] = threads[client.client_id] or max(1, cores // at_once)
        plane = _local_plane(local, control, at_once, directory)
        plane_of |= {client.client_id: plane for client in local}
    if remote:
        far = _globus_compute_plane(federation, remote, inbox, tokens)
        plane_of |= {client.client_id: far for client in remote}
    kinds = {id(plane): plane for plane in plane_of.values()}
    return Planes(kinds.popitem()[1] if len(kinds) == 1 else RoutedPlane(plane_of), threads)


def _local_plane(
    clients: Sequence[ClientConfig], control: ControlConfigs, at_once: int, directory: RunDirectory
) -> ControlPlane:
    place = directory.local
    settings = EngineSettings(control.engine, place, place / "site", place / "worker.log")
    return LocalPlane([client.client_id for client in clients], control.slots or at_once, settings)


def _globus_compute_plane(
    federation: Federation,
    clients: Sequence[ClientConfig],
    inbox: Inbox,
    tokens: tuple[str | None, str | None],
) -> ControlPlane:
    # The SDK takes half a second to import, which a run on this machine does not need.
    from appfl_gc.control.globus_compute.identity import default_identity, identity_from
    from appfl_gc.control.globus_compute.plane import GlobusComputePlane, PlaneSettings, Target

    control = federation.server_configs.control_configs
    home = federation.client_path.resolve().parent
    targets = {
        client.client_id: Target(
            endpoint_id=client.endpoint_id,
            identity=default_identity(*tokens)
            if client.settings.credentials is None
            else identity_from(client.settings.credentials, [home, *home.parents]),
            user_endpoint_config=thaw(client.settings.user_endpoint_config),
            resource_specification=thaw(client.settings.resource_specification),
        )
        for client in clients
    }
    settings = PlaneSettings(
        request_limit_bytes=control.request_limit_bytes,
        results=control.results,
        amqp_port=control.amqp_port,
        function_id=control.function_id,
        lost_after_seconds=control.lost_after_seconds,
    )

    def heard(progress: Progress) -> None:
        inbox.put(Progressed(progress, time.monotonic()))

    return GlobusComputePlane(targets, settings, heard)
