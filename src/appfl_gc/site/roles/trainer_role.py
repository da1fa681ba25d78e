"""The role ``trainer``: a client's data, its model, and local training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from appfl_gc.payload import codec
from appfl_gc.payload.compression.installed import check_installed
from appfl_gc.payload.receive import state_of
from appfl_gc.payload.stores import from_grant
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import StorageError, UserCodeError
from appfl_gc.protocol.update_spec import UpdateSpec
from appfl_gc.protocol.wire import Json, as_count, as_object
from appfl_gc.site.building import build_datasets, build_loss, build_metric, build_model
from appfl_gc.site.delivery import coding_of, compression_of
from appfl_gc.site.roles.context import Answer, CallContext
from appfl_gc.site.roles.task_checkpoint import checkpoint_of
from appfl_gc.site.session import cache_key
from appfl_gc.site.source_loader import LoadedSource, SourceLoader
from appfl_gc.site.state import ClientStates, StateLostError
from appfl_gc.site.trainer import dataset_state
from appfl_gc.site.trainer.device import choose_devices
from appfl_gc.site.trainer.model_copy import fresh_copy
from appfl_gc.site.trainer.run import TrainTask, check_trainer, find_trainer, run_trainer
from appfl_gc.site.trainer.user_class import keeps_state
from appfl_gc.site.watch import stopped


def sample_size(context: CallContext) -> Answer:
    """How many training samples the client has."""
    return Answer({"sample_size": len(_Client(context).data.train)})


def describe_training(context: CallContext) -> dict[str, Json]:
    """The sample size and the CPU threads of training; builds dataset and model and tries what training will need.

    Raises:
        UserCodeError: if dataset, model, loss, metric, device or optimiser can't be had, or the model is not
            the server's.
        VersionError: if a package for the configured compression is missing.
    """
    client = _Client(context)
    size = len(client.data.train)
    spec = codec.spec_of(client.skeleton.state_dict())
    expected = context.call.args.get("spec")
    if expected is not None and spec != UpdateSpec.from_json(expected):
        raise UserCodeError(
            "The model that this site builds differs from the server's in names, shapes or dtypes of its tensors.",
            "Versions of torch or of a model library differ, or the model depends on the machine.",
        )
    if size == 0:
        raise UserCodeError(
            "The training dataset is empty.", "Check dataset_kwargs, or what the loader finds at this site."
        )
    client.check()
    for what in ("update", "model"):
        settings = compression_of(context.call, what)
        if settings is not None:
            check_installed(settings)
    return {"sample_size": size, "threads": context.call.threads or torch.get_num_threads()}


def train(context: CallContext) -> Answer:
    """Train the global model on the client's data; the answer's tensors are the update.

    Its values hold ``sample_size``, ``steps`` and ``metrics``, and ``share`` where the task was stopped and the
    configuration asks for what was done until then. Where it was stopped without an update, the answer has an error,
    and ``checkpoint_steps`` says how far the checkpoint is that a later attempt goes on from.

    What the client's trainer remembers goes on from ``args["state_of"]``, the last dispatch whose update the server
    has accepted (0: none). The metric ``client_state_lost`` is 1 where the site has lost that; ``resumed_steps`` are
    those that an earlier attempt had done.
    """
    stopwatch, call = context.stopwatch, context.call
    client = _Client(context)
    memory = _Memory(context, client.trainer)
    with stopwatch.measure("load"):
        data, model = client.data, client.fresh_model()
        remembered = memory.recall()
    with stopwatch.measure("transfer"):
        received = _received(call)
    task = TrainTask(
        model=model,
        train_dataset=data.train,
        val_dataset=data.validation,
        train_configs=client.train_configs,
        received=received,
        loss_fn=client.loss,
        metric=client.metric,
        trainer=client.trainer,
        seed=context.seed("train"),
        round=call.identity.round,
        args=as_object(call.args.get("task", {}), "The task"),
        logger=context.logger,
        threads=call.threads,
        client_state=remembered,
        stop=context.watch,
        checkpoint=checkpoint_of(context),
        on_step=context.watch.reached,
    )
    data.restore()
    with stopwatch.measure("train"):
        outcome = run_trainer(task)
    stopwatch.count_steps(outcome.steps - outcome.steps_before, outcome.validation_seconds)
    if outcome.stopped is not None and not outcome.answers:
        return Answer({"checkpoint_steps": outcome.checkpoint_steps}, error=stopped(outcome.stopped))
    with stopwatch.measure("encode"):
        encoding = codec.Encoding(outcome.state, codec.spec_of(outcome.state, outcome.deltas))
        memory.keep(outcome.client_state)
    told: dict[str, Json] = {**outcome.metrics}
    if memory.lost:
        told["client_state_lost"] = 1.0
    if outcome.steps_before:
        told["resumed_steps"] = float(outcome.steps_before)
    values: dict[str, Json] = {
        "sample_size": outcome.sample_size,
        "steps": outcome.steps,
        "metrics": told,
        **({} if outcome.stopped is None else {"share": outcome.share}),
    }
    return Answer(values, tensors=encoding)


class _Memory:
    """What the trainer of one call remembers, at the site; of no effect for a trainer without such a state."""

    def __init__(self, context: CallContext, trainer: str | type[Any]) -> None:
        self._context = context
        self._base = as_count(context.call.args.get("state_of", 0), "The dispatch of the client's state")
        self.lost = False
        self._states: ClientStates | None = None
        trainer_class = find_trainer(trainer)
        if keeps_state(trainer_class):
            identity = context.call.identity
            self._states = ClientStates.of(context.paths.clients, identity, trainer_class.__name__)

    def recall(self) -> dict[str, torch.Tensor] | None:
        """What the trainer goes on from; None for the client's first task, or where it is lost."""
        if self._states is None or self._base == 0:
            return None
        try:
            return self._states.load(self._base)
        except StateLostError as error:
            self.lost = True
            self._context.logger.warning("%s It begins anew.", error.message)
            return None

    def keep(self, state: Mapping[str, torch.Tensor] | None) -> None:
        """Keep what the trainer remembers, and forget what no later task goes on from."""
        if self._states is None or state is None:
            return
        dispatch = self._context.call.identity.round
        self._states.forget_before(self._base, dispatch)
        try:
            self._states.save(dispatch, state)
        except StorageError as error:
            # The update is worth more than what is lost here, and is sent all the same.
            self._context.logger.warning("%s", error)
        self._states.keep_within(self._context.policy.outbox, self._context.logger)


def _received(call: Call) -> dict[str, torch.Tensor]:
    """The global model that the call refers to."""
    store = from_grant(as_object(call.args.get("grant"), "The grant"))
    try:
        spec = UpdateSpec.from_json(call.args.get("spec"))
        return state_of(store, call.payloads["model"], spec, coding_of(call, "model"))
    finally:
        store.close()


@dataclass(frozen=True)
class _Data:
    """Built datasets (validation may be None), and what puts their own random generators back."""

    train: Any
    validation: Any
    restore: Callable[[], None]


@dataclass(frozen=True)
class _Client:
    """What one client needs, built or found in the session."""

    context: CallContext

    @cached_property
    def _loader(self) -> SourceLoader:
        return SourceLoader(self.context.paths.state)

    def _source(self, kind: str) -> LoadedSource | None:
        source = self.context.sources.get(kind)
        if source is None:
            return None
        named = self.context.policy.named
        return self._loader.load(source, {name: path for (of, name), path in named.items() if of == kind})

    def _configs(self, name: str) -> dict[str, Any]:
        return as_object(self.context.config.get(name), name)

    def _key(self, kind: str, configs: str, *more: object) -> str:
        """What a built object depends on: the source's text, what is taken from it, its configuration."""
        source = self.context.sources.get(kind)
        identity: list[str] = []
        if source is not None:
            offered = self.context.policy.named.get((kind, source.name), "") if source.text is None else ""
            path = Path(offered.rpartition(":")[0] or offered)
            text = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else source.sha256
            identity = [text, source.name, offered]
        return cache_key(kind, identity, self._configs(configs), *more)

    @cached_property
    def train_configs(self) -> Mapping[str, Any]:
        """The client's training configuration; in a rehearsal an absent device becomes the CPU."""
        configs = self._configs("train_configs")
        if self.context.call.args.get("device_fallback"):
            try:
                choose_devices(str(configs.get("device") or "cpu"))
            except UserCodeError as error:
                self.context.logger.warning("%s The rehearsal trains on the CPU instead.", error.message)
                return {**configs, "device": "cpu"}
        return configs

    @cached_property
    def data(self) -> _Data:
        """The client's datasets, from the session if they were built before."""

        def build() -> _Data:
            self.context.logger.info("The dataset is built.")
            seed = self.context.seed("dataset", round_=0)
            train, validation = build_datasets(
                self._configs("data_configs"), self._source("dataset"), seed=seed
            )
            return _Data(train, validation, dataset_state.capture(train, validation))

        key = self._key("dataset", "data_configs", self.context.seed("dataset", round_=0))
        return self.context.session.get(key, build, self.context.policy.max_cached)

    @cached_property
    def skeleton(self) -> nn.Module:
        """The model as it was built; its parameters' values are of no meaning."""
        return self.context.session.get(
            self._key("model", "model_configs"),
            lambda: build_model(self._configs("model_configs"), self._source("model")),
            self.context.policy.max_cached,
        )

    def fresh_model(self) -> nn.Module:
        """A model that no earlier task has touched, but for the tensors that the received model overwrites."""
        copied = fresh_copy(self.skeleton)
        if copied is None:
            return build_model(self._configs("model_configs"), self._source("model"))
        return copied

    @property
    def loss(self) -> Any:
        """The loss."""
        return build_loss(self._configs("train_configs"), self._source("loss"))

    @property
    def metric(self) -> Any:
        """The metric, or None."""
        return build_metric(self._source("metric"))

    @property
    def trainer(self) -> str | type[Any]:
        """The trainer's name, or the user's class."""
        source = self._source("trainer")
        return str(self.train_configs.get("trainer") or "VanillaTrainer") if source is None else source.target

    def check(self) -> None:
        """Build what is cheap, so that errors show before the first round."""
        _ = self.loss, self.metric
        configs = self.train_configs
        choose_devices(str(configs.get("device") or "cpu"))
        # torch loads much of itself with the first optimiser; here it does not count as training time.
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.0)
        check_trainer(self.trainer, self.skeleton, configs)
