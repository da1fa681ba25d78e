"""The user endpoint's configuration as a tree: the facility's defaults, the owner's choices, the variables."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping

from appfl_gc.hpc.endpoint.options import POOL_ENGINE, EndpointOptions
from appfl_gc.hpc.endpoint.template import Cases, IfGiven, Node, Script, Tree, Variable
from appfl_gc.hpc.facility import Facility
from appfl_gc.hpc.knobs import KNOBS, Provider
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.wire import Json

WORKER_HEARTBEAT = 15
WORKER_LOST_AFTER = 60
STRATEGY_SECONDS = 5
LOCAL_STRATEGY_SECONDS = 1

# The agent ends a user endpoint when no task has moved for so long; a job may queue and train for days.
STUCK_AFTER = 14 * 86400

LAUNCHERS: Mapping[Provider, tuple[str, ...]] = {
    Provider.LOCAL: (),
    Provider.PBS: ("MpiExecLauncher", "SingleNodeLauncher", "SimpleLauncher"),
    Provider.SLURM: ("SrunLauncher", "SingleNodeLauncher", "SimpleLauncher"),
}


def user_endpoint_tree(
    facility: Facility, options: EndpointOptions, worker_init: str, agents_directory: str | None
) -> Tree:
    """What the agent renders for each submitter.

    Args:
        facility: whose defaults hold.
        options: the owner's choices, checked.
        worker_init: shell lines that make this environment the worker's.
        agents_directory: where user endpoints keep their files, or None for the agent's own place.

    Raises:
        UsageError: if a setting has no effect with this provider or engine.
    """
    tree: dict[str, Node] = {
        "heartbeat_period": options.heartbeat_seconds,
        "idle_heartbeats_soft": -(-options.idle_seconds // options.heartbeat_seconds),
        "idle_heartbeats_hard": STUCK_AFTER // options.heartbeat_seconds,
        "amqp_port": options.amqp_port,
        **options.extra_user,
    }
    if agents_directory is not None:
        tree["paths"] = {"endpoint_dir": f"{agents_directory}/$GLOBUS_COMPUTE_ENDPOINT_NAME"}
    settings = _Settings(facility, options)
    tree["engine"] = (
        _pool_engine(settings) if options.engine == POOL_ENGINE else _compute_engine(settings, worker_init)
    )
    settings.check_all_used()
    return tree


class _Settings:
    """Hands out each setting once, as a literal if it is locked, else as a variable with its default."""

    def __init__(self, facility: Facility, options: EndpointOptions) -> None:
        self.facility = facility
        self.options = options
        self.values: dict[str, Json] = {**facility.defaults, **options.settings}
        self._used: set[str] = set()

    def __call__(self, name: str, *, required: bool = False, default: Json = None) -> Node:
        self._used.add(name)
        value = self.values.get(name, default)
        if name in self.options.locked:
            if value is None and required:
                raise UsageError(
                    f"The setting `{name}` is locked but has no value.", f"Give `--{name.replace('_', '-')}`."
                )
            return value
        return Variable(name, value, required=required and value is None)

    def check_all_used(self) -> None:
        given = sorted((set(self.options.settings) | set(self.options.locked)) - self._used)
        if given:
            raise UsageError(
                f"The setting `{given[0]}` has no effect on an endpoint of the facility `{self.facility.name}` "
                f"with {self.options.engine}.",
                f"{KNOBS[given[0]].help}. Leave it out.",
            )


def _pool_engine(settings: _Settings) -> Tree:
    if settings.facility.provider.batch:
        raise UsageError(
            f"{POOL_ENGINE} starts workers beside the agent, so the facility `{settings.facility.name}` "
            "can't use it: the agent runs on a login node.",
            "Leave out `--engine`.",
        )
    tree: dict[str, Node] = {"type": POOL_ENGINE, "max_workers": settings("max_workers_per_node", default=1)}
    if sys.version_info >= (3, 11):
        # With this, workers are spawned. A forked one may hang at once, since the agent has threads, and keeps
        # the connection of an agent that was killed: its successor is refused the queue and gets no task.
        tree["max_tasks_per_child"] = 1_000_000
    return tree


def _compute_engine(settings: _Settings, worker_init: str) -> Tree:
    provider = settings.facility.provider
    locked = "worker_init" in settings.options.locked
    settings("worker_init")
    own = settings.values.get("worker_init")
    lines = worker_init + (f"{str(own).rstrip()}\n" if own else "")
    common: dict[str, Node] = {
        "type": provider.value,
        "nodes_per_block": settings("nodes_per_block"),
        "init_blocks": settings("init_blocks"),
        "min_blocks": settings("min_blocks"),
        "max_blocks": settings("max_blocks"),
        "worker_init": Script(lines, None if locked else "worker_init"),
    }
    if provider.batch:
        common |= _batch(settings, provider)
    common |= settings.facility.extra_provider
    return {
        "type": settings.options.engine,
        "max_workers_per_node": _workers(settings),
        "available_accelerators": settings("accelerators"),
        "heartbeat_period": WORKER_HEARTBEAT,
        "heartbeat_threshold": WORKER_LOST_AFTER,
        "job_status_kwargs": {
            "strategy": "simple",
            "strategy_period": STRATEGY_SECONDS if provider.batch else LOCAL_STRATEGY_SECONDS,
            "max_idletime": settings("max_idletime", default=3600),
        },
        **_address(settings, provider),
        **settings.facility.extra_engine,
        "provider": common,
    }


def _workers(settings: _Settings) -> Node:
    """One worker a node, or one for each accelerator, unless the number is given."""
    accelerators = settings.values.get("accelerators")
    count = len(accelerators) if isinstance(accelerators, list) else accelerators
    workers = settings("max_workers_per_node", default=count or 1)
    if not isinstance(workers, Variable) or "max_workers_per_node" in settings.options.settings:
        return workers
    follows = None if "accelerators" in settings.options.locked else "accelerators"
    return dataclasses.replace(workers, follows=follows)


def _address(settings: _Settings, provider: Provider) -> Tree:
    if not provider.batch:
        return {"address": "127.0.0.1"}
    interface = settings("interface")
    if interface is None:
        return {}  # parsl tries every address of the agent's host
    address: Tree = {"type": "address_by_interface", "ifname": interface}
    if isinstance(interface, Variable) and interface.default is None:
        return {"address": IfGiven(interface, address)}
    return {"address": address}


def _batch(settings: _Settings, provider: Provider) -> Tree:
    queue, cpus = ("queue", "cpus_per_node") if provider is Provider.PBS else ("partition", "cores_per_node")
    tree: dict[str, Node] = {
        "account": settings("account", required=True),
        queue: settings("queue", required=True),
        "walltime": settings("walltime"),
        cpus: settings("cpus_per_node"),
        "scheduler_options": settings("scheduler_options"),
    }
    if provider is Provider.PBS:
        tree["select_options"] = settings("select_options")
    tree["launcher"] = _launcher(settings, provider)
    return tree


def _launcher(settings: _Settings, provider: Provider) -> Node:
    chosen = settings("launcher")
    overrides = settings("launcher_overrides")
    name = chosen.default if isinstance(chosen, Variable) else chosen
    if name not in LAUNCHERS[provider]:
        raise UsageError(
            f"The launcher `{name}` does not start workers with {provider.value}.",
            f"Take {', '.join(LAUNCHERS[provider])}.",
        )
    extra: dict[str, Tree] = {
        "MpiExecLauncher": {"bind_cmd": "--cpu-bind", "overrides": overrides},
        "SrunLauncher": {"overrides": overrides},
    }
    kind = chosen if isinstance(chosen, Variable) else str(name)
    return Cases(kind, {key: extra[key] for key in LAUNCHERS[provider] if key in extra})
