"""Making the parts of a run from its configuration."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from appfl_gc.config import Federation
from appfl_gc.config.fault_tolerance import clients_of_a_round
from appfl_gc.payload import codec, model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import Layout
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.seeds import derive_seed
from appfl_gc.protocol.update_spec import Meaning, UpdateSpec
from appfl_gc.runner.algorithms import aggregator_of, scheduler_of, updates_per_fold
from appfl_gc.runner.beginning import Beginning
from appfl_gc.runner.calls import CallFactory
from appfl_gc.runner.clock import RunClock
from appfl_gc.runner.courier import Courier
from appfl_gc.runner.dispatcher import Dispatcher
from appfl_gc.runner.events import RunStarted
from appfl_gc.runner.inbox import Inbox
from appfl_gc.runner.intake import Intake
from appfl_gc.runner.judge import Judge
from appfl_gc.runner.ledger import Ledger
from appfl_gc.runner.metrics import MetricsFile
from appfl_gc.runner.outgoing import Outgoing
from appfl_gc.runner.parts import Parts
from appfl_gc.runner.planes import make_planes
from appfl_gc.runner.policy.making import policy_of
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.resume.invocation import Invocation
from appfl_gc.runner.rounds import Rounds
from appfl_gc.runner.route_setup import make_routes
from appfl_gc.runner.routes import Routes
from appfl_gc.runner.run_directory import RunDirectory
from appfl_gc.runner.server_sources import ServerSources
from appfl_gc.runner.slots import Slots
from appfl_gc.runner.validation import ServerValidation
from appfl_gc.site.building import build_loss, build_metric, build_model, build_validation_dataset
from appfl_gc.site.source_loader import SourceLoader
from appfl_gc.site.trainer.base import delta_names, load_state


@dataclass(frozen=True)
class RunOptions:
    """What the command line adds to the configuration; see ``appfl_gc.run``."""

    local: bool = False
    enable_server_val: bool = False
    compute_token: str | None = None
    openid_token: str | None = None

    @classmethod
    def of(cls, invocation: Invocation) -> RunOptions:
        """Those that a run was started with."""
        return cls(
            invocation.local,
            invocation.enable_server_val,
            invocation.compute_token,
            invocation.openid_token,
        )


def set_up(
    federation: Federation,
    options: RunOptions,
    directory: RunDirectory,
    recorder: Recorder,
    inbox: Inbox,
    stack: contextlib.ExitStack,
    guard: Callable[[], None],
    beginning: Beginning,
) -> Parts:
    """Build everything that a run needs; ``stack`` closes it.

    Args:
        federation: its configuration.
        options: what the command line adds.
        directory: of the run.
        recorder, inbox: of the run.
        stack: closes what is built.
        guard: raises where another process has taken the run.
        beginning: new, or gone on with.

    Raises:
        AppflGcError: if something can't be built, or is not built yet.
    """
    _refuse_what_is_missing(federation, options)
    server = federation.server_configs
    clients = {client.client_id: client for client in federation.clients}
    names = list(clients)
    first = federation.clients[0]
    seed = first.model_configs.seed
    sources = ServerSources(SourceLoader(directory.local), {**first.sources, **federation.sources})

    beginning.prepare(federation)
    model = build_model(first.model_configs.plain(), sources.load("model"))
    spec = codec.spec_of(model.state_dict())
    newest = beginning.model_file(model, spec)
    update_spec = _update_spec(model, spec, first.train_configs.send_gradient)

    planes = make_planes(federation, directory, inbox, (options.compute_token, options.openid_token))
    stop = threading.Event()
    routes = make_routes(
        federation,
        planes.capabilities,
        directory,
        newest.stat().st_size,
        Layout.of(update_spec),
        recorder,
        stop,
    )
    stack.callback(routes.close, lambda text: recorder.log(text, logging.WARNING))
    if beginning.gone_on_with:
        stack.push(partial(_leave_stores, routes))
    stack.callback(planes.plane.close)
    arena = Arena(update_spec, 2 * len(names) + updates_per_fold(federation), directory.payloads)
    stack.callback(arena.close)
    slots = Slots(names, arena.slots)
    beginning.land(arena, slots)
    journal = stack.enter_context(beginning.journal(guard))
    metrics = MetricsFile(directory.metrics)
    stack.callback(metrics.close)
    global_model = beginning.global_model(frozenset(delta_names(model)))
    fault = server.fault_tolerance_configs
    scheduler = scheduler_of(federation, sources.load("scheduler"), seed)
    # Where an update may be folded after others that arrived later, the run can't go back before its arrival.
    durable = clients_of_a_round(server) is None
    most_norm = fault.max_update_norm
    courier = Courier(routes, global_model, arena, directory, inbox, stop, most_norm, durable=durable)
    stack.callback(courier.close)
    load_state(model, model_file.open(newest))
    validation = _validation(federation, sources, seed)
    aggregator = aggregator_of(federation, sources.load("aggregator"), model, recorder.logger)
    clock = RunClock(beginning.seconds)
    judge = Judge(policy_of(server, names), clock, journal)
    ledger = Ledger(names)
    rounds = Rounds(directory, global_model, validation, metrics, journal, recorder, scheduler.counts)
    compression = {name: routes.compression(name) for name in names}
    calls = CallFactory(
        directory.path.name, seed, planes.threads, spec, compression, device_fallback=options.local
    )
    intake = Intake(slots, journal, metrics, recorder, fault.max_sample_size)
    dispatcher = Dispatcher(planes.plane, inbox)
    endpoints = {name: client.endpoint_id for name, client in clients.items()}
    parts = Parts(
        clients=clients,
        capabilities=planes.capabilities,
        calls=calls,
        inbox=inbox,
        dispatcher=dispatcher,
        routes=routes,
        arena=arena,
        scheduler=scheduler,
        aggregator=aggregator,
        judge=judge,
        model=global_model,
        courier=courier,
        outgoing=Outgoing(courier, intake, dispatcher, journal, recorder, endpoints),
        intake=intake,
        rounds=rounds,
        journal=journal,
        recorder=recorder,
        clock=clock,
        ledger=ledger,
    )
    beginning.record(parts, federation, spec)
    recorder.tell(
        RunStarted(
            directory.path.name,
            directory.path,
            tuple(names),
            server.num_global_epochs,
            spec.nbytes,
            sum(tensor.numel() for tensor in model.parameters()),
            scheduler.counts,
            rounds.done,
            rounds.updates,
        )
    )
    beginning.look_at_endpoints(federation, planes, recorder, inbox)
    return parts


def _leave_stores(routes: Routes, kind: type[BaseException] | None, *_: object) -> None:
    """A run that could not be gone on with leaves its stores alone: sites may still work for it."""
    if kind is not None:
        routes.abandon()


def _refuse_what_is_missing(federation: Federation, options: RunOptions) -> None:
    if options.enable_server_val and federation.server_configs.val_data_configs is None:
        raise UsageError(
            "--enable_server_val asks for validation at the server, but the configuration has no "
            "server_configs.val_data_configs.",
            "Add dataset_path, dataset_name and batch_size there, as in server_fedavg_withval.yaml.",
        )


def _update_spec(model: nn.Module, spec: UpdateSpec, send_gradient: bool) -> UpdateSpec:
    """What clients send: with ``send_gradient`` parameters are differences and buffers are values."""
    if not send_gradient:
        return spec
    return spec.with_meaning(delta_names(model), Meaning.DELTA)


def _validation(federation: Federation, sources: ServerSources, seed: int) -> ServerValidation | None:
    configs = federation.server_configs.val_data_configs
    if configs is None:
        return None
    train: dict[str, Any] = federation.clients[0].train_configs.plain()
    dataset = build_validation_dataset(
        configs.plain(),
        sources.load("validation_dataset"),
        seed=derive_seed(seed, 0, "", "validation dataset"),
    )
    # A model of its own: a user's aggregator may hold on to the other one.
    model = build_model(federation.clients[0].model_configs.plain(), sources.load("model"))
    return ServerValidation(
        model,
        build_loss(train, sources.load("loss")),
        build_metric(sources.load("metric")),
        dataset,
        federation.server_configs.device,
        {"batch_size": configs.batch_size, "shuffle": configs.shuffle, "num_workers": configs.num_workers},
    )
