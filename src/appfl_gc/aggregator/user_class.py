"""A user's aggregator class, as ``server_configs.aggregator_path`` names it; published ones fold whole models."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from appfl_gc.aggregator.base import NO_ROWS
from appfl_gc.aggregator.user_blocks import UserBlockAggregator
from appfl_gc.payload.codec import difference, spec_of, tensor_bytes
from appfl_gc.payload.soundness import all_sound, describe, first_unsound, numbers_of
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.protocol.update_spec import FLOATING, UpdateSpec
from appfl_gc.site.user_errors import user_errors


class UserClassAggregator:
    """Feeds ``aggregate(local_models, **kwargs) -> state_dict`` and checks what comes back.

    The local models are the class's own: it may keep them and write to them. So all of them are in memory at
    once; a class with ``weights`` and ``reduce`` needs a few blocks only. ``set_client_sample_size(client_id, n)``
    is called before each aggregation where the class has it. Keyword arguments are passed as far as ``aggregate``
    takes them: ``staleness``, ``local_steps``, ``sample_sizes`` and ``shares`` (the part of its work that a client did,
    1 for all of it), each by client.

    Args:
        instance: an object of the user's class.
    """

    state = NO_ROWS
    """What the class keeps, it keeps itself."""

    def __init__(self, instance: Any) -> None:
        self.instance = instance
        self.name = type(instance).__name__

    def aggregate(
        self,
        spec: UpdateSpec,
        local_models: Mapping[str, Mapping[str, torch.Tensor]],
        metas: Sequence[UpdateMeta],
        staleness: Sequence[int],
    ) -> dict[str, torch.Tensor]:
        """The new model's state, of ``spec``, in its order.

        Args:
            spec: the global model's.
            local_models: tensors by name, by client, in client order; no views of anything that changes or goes.
            metas: of the same clients.
            staleness: of the same clients, in versions.

        Raises:
            UserCodeError: if the class fails, or returns something else than a finite state of ``spec``.
        """
        clients = [meta.update.client for meta in metas]
        by_client: dict[str, Any] = {
            "staleness": dict(zip(clients, staleness, strict=True)),
            "local_steps": {meta.update.client: meta.steps for meta in metas},
            "sample_sizes": {meta.update.client: meta.sample_size for meta in metas},
            "shares": {meta.update.client: meta.share for meta in metas},
        }
        if callable(getattr(self.instance, "set_client_sample_size", None)):
            with user_errors(f"{self.name}.set_client_sample_size failed"):
                for meta in metas:
                    self.instance.set_client_sample_size(meta.update.client, meta.sample_size)
        models = {client: dict(state) for client, state in local_models.items()}
        with user_errors(f"{self.name}.aggregate failed"), torch.no_grad():
            taken = _keywords(self.instance.aggregate)
            result = self.instance.aggregate(
                models, **{key: value for key, value in by_client.items() if taken is None or key in taken}
            )
        if result is None and callable(getattr(self.instance, "get_parameters", None)):
            with user_errors(f"{self.name}.get_parameters failed"), torch.no_grad():
                result = self.instance.get_parameters()
        with user_errors(f"{self.name}.aggregate returned a state that can't be read"):
            return self._checked(result, spec)

    def _checked(self, result: Any, spec: UpdateSpec) -> dict[str, torch.Tensor]:
        where = f"{self.name}.aggregate"
        if not isinstance(result, Mapping):
            raise UserCodeError(
                f"{where} returned {type(result).__name__}, not the new model's state.",
                "Return a dict of tensors by name with the entries of model.state_dict().",
            )
        result = dict(result)
        tensors = {tensor.name: tensor for tensor in spec_of(result).tensors}
        ordered = [tensors.pop(tensor.name) for tensor in spec.tensors if tensor.name in tensors]
        problem = difference(spec, UpdateSpec((*ordered, *tensors.values())))
        if problem:
            raise UserCodeError(f"{where} returned a state that is not the model's. {problem}")
        for tensor in spec.tensors:
            if tensor.dtype not in FLOATING or not tensor.numel:
                continue
            values = numbers_of(tensor_bytes(result[tensor.name]), tensor.dtype)
            if not all_sound(values, tensor.dtype):
                index = first_unsound(values, tensor.dtype)
                problem = describe(tensor, index, values[index])
                raise UserCodeError(f"{where} returned a model that is not finite. {problem}")
        return {tensor.name: result[tensor.name] for tensor in spec.tensors}


def by_client(
    states: Iterable[Mapping[str, torch.Tensor]], metas: Sequence[UpdateMeta]
) -> dict[str, dict[str, torch.Tensor]]:
    """Copies of updates by client, for a class that knows one of each.

    Of a client that has several in one fold it is their mean; of what is not floating, the last.

    Args:
        states: tensors by name, one update after the other.
        metas: of the same updates.
    """
    models: dict[str, dict[str, torch.Tensor]] = {}
    counts: dict[str, int] = {}
    for state, meta in zip(states, metas, strict=True):
        client = meta.update.client
        known, counts[client] = models.get(client), counts.get(client, 0) + 1
        if known is None:
            models[client] = {name: tensor.clone() for name, tensor in state.items()}
            continue
        for name, tensor in state.items():
            if tensor.is_floating_point():
                known[name] += (tensor - known[name]) / counts[client]
            else:
                known[name] = tensor.clone()
    return models


def adapt(
    cls: type, kwargs: Mapping[str, Any], model: Any = None, logger: Any = None
) -> UserBlockAggregator | UserClassAggregator:
    """An aggregator from a user's class.

    A class with ``weights`` and ``reduce`` folds by blocks and is called with ``**kwargs``. Any other
    needs ``aggregate`` and is constructed as published ones are: ``cls(model, aggregator_configs, logger)``, as
    far as its constructor takes these, else with ``**kwargs``.

    Args:
        cls: the class.
        kwargs: ``aggregator_kwargs`` of the configuration.
        model: a module with the initial global model's values, or None.
        logger: what the class may log to, or None.

    Raises:
        UserCodeError: if the class has neither interface, or its constructor fails.
    """
    if callable(getattr(cls, "weights", None)) and callable(getattr(cls, "reduce", None)):
        accepted = _parameters(cls)
        return UserBlockAggregator(
            _construct(
                cls, {key: value for key, value in kwargs.items() if accepted is None or key in accepted}
            )
        )
    if not callable(getattr(cls, "aggregate", None)):
        raise UserCodeError(
            f"Aggregator class {cls.__name__} has neither aggregate nor the pair weights and reduce.",
            "Give it aggregate(self, local_models, **kwargs), which returns the new model's state.",
        )
    taken = _parameters(cls)
    offered = {"model": model, "aggregator_configs": _configs(kwargs), "logger": logger}
    if taken is not None and "aggregator_configs" in taken:
        return UserClassAggregator(_construct(cls, {k: v for k, v in offered.items() if k in taken}))
    if taken is None:
        return UserClassAggregator(_construct(cls, kwargs))
    everything = {**kwargs, "model": model, "logger": logger}
    return UserClassAggregator(_construct(cls, {k: v for k, v in everything.items() if k in taken}))


def _parameters(cls: type) -> set[str] | None:
    with user_errors(f"Aggregator class {cls.__name__} can't be constructed"):
        return _keywords(cls)


def _construct(cls: type, kwargs: Mapping[str, Any]) -> Any:
    with user_errors(
        f"Aggregator class {cls.__name__} can't be constructed",
        "Its constructor gets aggregator_kwargs of the configuration.",
    ):
        return cls(**kwargs)


def _configs(kwargs: Mapping[str, Any]) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.create(dict(kwargs))


def _keywords(function: Any) -> set[str] | None:
    """Names that ``function`` takes by keyword; None if it takes any."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {parameter.name for parameter in parameters if parameter.kind in kinds}
