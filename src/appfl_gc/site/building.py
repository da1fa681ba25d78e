"""Model, loss, metric and datasets from a configuration and the user's files, at a site or on the server."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.update_spec import ITEM_SIZE
from appfl_gc.site.nearest_name import nearest_name
from appfl_gc.site.source_loader import LoadedSource
from appfl_gc.site.trainer.base import LossFn, Metric
from appfl_gc.site.trainer.batches import make_loader
from appfl_gc.site.trainer.device import choose_devices
from appfl_gc.site.trainer.model_copy import fresh_copy
from appfl_gc.site.trainer.random_state import isolated
from appfl_gc.site.trainer.validation import validate
from appfl_gc.site.user_errors import shown_kwargs, user_errors

DEFAULT_SEED = 42


def build_model(model_configs: Mapping[str, Any], source: LoadedSource | None) -> nn.Module:
    """The model that ``model_configs`` describes; the same configuration gives the same bits.

    Args:
        model_configs: ``model_kwargs`` (default none) and ``seed`` (default 42) are read.
        source: the class or function from the model file.

    Raises:
        UserCodeError: there is no source, it does not take the arguments or fails, or what it gives is not a
            module with floating tensors whose dtypes can be sent.
    """
    if source is None:
        raise UserCodeError("model_configs names no model file.", "Set model_path and model_name.")
    seed = model_configs.get("seed")
    with isolated(DEFAULT_SEED if seed is None else int(seed)):
        model = _call("model", source, _kwargs(model_configs, "model_kwargs"))
    if not isinstance(model, nn.Module):
        raise UserCodeError(
            f"The model {source.title} gave {_shape(model)}; expected a torch.nn.Module.",
            "Name the model's class, or a function that returns an instance of it, with model_name.",
        )
    _check_state(model, source)
    return model


def _check_state(model: nn.Module, source: LoadedSource) -> None:
    state = model.state_dict()
    for name, value in state.items():
        dtype = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
        if dtype not in ITEM_SIZE:
            raise UserCodeError(
                f"The model {source.title} has {name} of type {dtype} in its state_dict; it can't be sent.",
                f"Tensors can be {', '.join(ITEM_SIZE)}.",
            )
    if not any(value.is_floating_point() for value in state.values()):
        raise UserCodeError(
            f"The model {source.title} has no floating tensor in its state_dict: there is nothing to train.",
            "Register layers as attributes of the module, or parameters with torch.nn.Parameter.",
        )


def build_loss(train_configs: Mapping[str, Any], source: LoadedSource | None) -> LossFn | None:
    """The loss: from the user's file, or ``loss_fn``, a name in ``torch.nn``; None if neither is configured.

    A class is instantiated with ``loss_fn_kwargs``, under a fixed seed, so that a loss that draws random numbers
    there is the same wherever and whenever it is built; a function gets them in every call.

    Raises:
        UserCodeError: the name is unknown, or the class can't be instantiated.
    """
    kwargs = _kwargs(train_configs, "loss_fn_kwargs")
    if source is not None:
        if inspect.isclass(source.target):
            with isolated(DEFAULT_SEED):
                loss = _call("loss", source, kwargs)
            if not callable(loss):
                raise UserCodeError(
                    f"The loss {source.title} can't be called.",
                    "Derive it from torch.nn.Module, with a forward method.",
                )
            from_file: LossFn = loss
            return from_file
        return functools.partial(source.target, **kwargs) if kwargs else source.target
    name = train_configs.get("loss_fn")
    return None if name is None else _torch_loss(str(name), kwargs)


def _torch_loss(name: str, kwargs: Mapping[str, Any]) -> LossFn:
    known = {
        key: value
        for key, value in vars(nn).items()
        if inspect.isclass(value) and issubclass(value, nn.Module)
    }
    if name not in known:
        losses = sorted(key for key in known if key.endswith("Loss"))
        near = nearest_name(name, losses)
        raise UserCodeError(
            f"loss_fn: torch.nn has no loss {name!r}.",
            f"Did you mean {near}?" if near else f"It has {', '.join(losses)}.",
        )
    what = f"The loss torch.nn.{name} can't be made with {shown_kwargs(kwargs)}"
    with isolated(DEFAULT_SEED), user_errors(what):
        loss: LossFn = known[name](**kwargs)
    return loss


def build_metric(source: LoadedSource | None) -> Metric | None:
    """The metric function of the user's file, or None.

    Raises:
        UserCodeError: what the configuration names is a class.
    """
    if source is None:
        return None
    if inspect.isclass(source.target):
        raise UserCodeError(
            f"The metric {source.title} is a class; a metric is a function metric(y_true, y_pred).",
            "Name a function of the file with metric_name.",
        )
    metric: Metric = source.target
    return metric


def build_datasets(
    data_configs: Mapping[str, Any], source: LoadedSource | None, *, seed: int = DEFAULT_SEED
) -> tuple[Any, Any]:
    """The training dataset and the validation dataset (or None) of a client.

    Args:
        data_configs: ``dataset_kwargs`` (default none) is read.
        source: the function from the dataset file.
        seed: of the random generators while the function runs; the same for every task of a client, so that a
            dataset built again is the same.

    Raises:
        UserCodeError: there is no source, it does not take the arguments or fails, or it returns something
            else than two datasets.
    """
    result = _call_dataset(data_configs, source, seed)
    title = "" if source is None else source.title
    if not isinstance(result, tuple | list) or len(result) != 2:
        shape = f"{len(result)} values" if isinstance(result, tuple | list) else _shape(result)
        raise UserCodeError(
            f"The dataset function {title} returned {shape}; expected two: (train_dataset, val_dataset).",
            "Is its return statement missing?"
            if result is None
            else "Return (train_dataset, None) where there is no validation data.",
        )
    train, val = result
    _check_dataset(train, "training", title)
    if val is not None:
        _check_dataset(val, "validation", title)
    return train, val


def build_validation_dataset(
    val_data_configs: Mapping[str, Any], source: LoadedSource | None, *, seed: int = DEFAULT_SEED
) -> Any:
    """The server's validation dataset: the one that the function returns. Arguments as ``build_datasets``.

    Raises:
        UserCodeError: as ``build_datasets``; also if the function returns several values.
    """
    dataset = _call_dataset(val_data_configs, source, seed)
    title = "" if source is None else source.title
    if isinstance(dataset, tuple):
        raise UserCodeError(
            f"The server's validation dataset {title} gave {len(dataset)} values; expected one dataset.",
            "Name a function that returns the test set alone with val_data_configs.dataset_name.",
        )
    _check_dataset(dataset, "validation", title)
    return dataset


def _call_dataset(configs: Mapping[str, Any], source: LoadedSource | None, seed: int) -> Any:
    if source is None:
        raise UserCodeError("data_configs names no dataset file.", "Set dataset_path and dataset_name.")
    with isolated(seed):
        return _call("dataset", source, _kwargs(configs, "dataset_kwargs"))


def _check_dataset(dataset: Any, what: str, title: str) -> None:
    if isinstance(dataset, DataLoader):
        raise UserCodeError(
            f"The {what} dataset from {title} is a DataLoader; expected a dataset.",
            "Return its dataset; batch sizes and shuffling are keys of train_configs.",
        )
    indexable = isinstance(dataset, IterableDataset) or hasattr(type(dataset), "__getitem__")
    if not hasattr(type(dataset), "__len__") or not indexable or isinstance(dataset, str | Mapping):
        raise UserCodeError(
            f"The {what} dataset from {title} is {_shape(dataset)}; expected a dataset.",
            "Return a torch.utils.data.Dataset with __len__ and __getitem__.",
        )


def evaluate(
    model: nn.Module,
    loss_fn: LossFn | None,
    metric: Metric | None,
    dataset: Any,
    *,
    batch_size: int = 1,
    shuffle: bool = False,
    num_workers: int = 0,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, float]:
    """``val_loss`` and ``val_<metric>`` of a model on a dataset, as the server's validation reports them.

    What is run is a copy, where one can be made, so that nothing but the model's tensors decides the result.
    Random generators and settings are left as they were.

    Raises:
        UserCodeError: the device is absent, the dataset empty, or user code failed.
    """
    place = choose_devices(device).first
    loader = make_loader(dataset, batch_size=batch_size, shuffle=shuffle, seed=seed, num_workers=num_workers)
    with isolated(seed), user_errors("The validation failed"):
        copied = fresh_copy(model)
        runner = model if copied is None else copied
        runner.to(place)
        if isinstance(loss_fn, nn.Module):
            loss_fn.to(place)
        return validate(runner, runner, loss_fn, metric, loader, place)


def _kwargs(configs: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = configs.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserCodeError(f"{key} is {value!r}; expected names with values.")
    return {str(name): item for name, item in value.items()}


def _call(what: str, source: LoadedSource, kwargs: Mapping[str, Any]) -> Any:
    """Call the user's class or function with ``kwargs``; a misfit is told before it is tried."""
    label = f"The {what} {source.title}"
    try:
        signature = inspect.signature(source.target)
    except (TypeError, ValueError):
        signature = None
    if signature is not None:
        try:
            signature.bind(**kwargs)
        except TypeError as error:
            names = [name for name in signature.parameters if name != "self"]
            unknown = [name for name in kwargs if name not in names]
            near = nearest_name(unknown[0], names) if unknown else None
            raise UserCodeError(
                f"{label} can't be called with {shown_kwargs(kwargs)}: {error}.",
                f"Did you mean {near}?" if near else f"It takes {', '.join(names) or 'no arguments'}.",
            ) from None
    with user_errors(f"{label} failed with {shown_kwargs(kwargs)}"):
        return source.target(**kwargs)


def _shape(value: object) -> str:
    return "nothing (None)" if value is None else f"one value ({type(value).__name__})"
