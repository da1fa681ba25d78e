"""A model for one task made from the model that a session keeps."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy


def fresh_copy(skeleton: nn.Module) -> nn.Module | None:
    """A copy of ``skeleton`` that shares the storage of its parameters and persistent buffers.

    Everything else (attributes, hooks, buffers outside the state dict) is copied deeply, so what a task's
    ``forward`` changes there does not reach the next task; the shared tensors are overwritten whole when
    that task loads its model. Gradients are absent and ``requires_grad`` is the skeleton's. The skeleton
    itself must never be run, and one copy used at a time.

    Returns:
        None where such a copy would not behave like a model built anew, so that the caller has to build one:
        a tensor attribute is a view of a shared tensor, a function closes over the model, or something can't
        be copied.
    """
    memo: dict[int, Any] = {}
    shared: list[torch.Tensor] = []
    for tensor in _state_tensors(skeleton):
        plain = type(tensor) in {torch.Tensor, nn.Parameter} and tensor.layout is torch.strided
        if is_lazy(tensor) or not plain:
            return None
        if id(tensor) not in memo:
            shared.append(tensor)
            memo[id(tensor)] = _same_storage(tensor)
    if any(_closes_over_model(value) for value in _attributes(skeleton)):
        return None
    try:
        result: nn.Module = copy.deepcopy(skeleton, memo)
    except Exception:  # noqa: BLE001 - any class may refuse to be copied in its own way
        return None
    # deepcopy lists under id(memo) what it copied; a tensor there that views a shared one lost that link.
    copied = memo.get(id(memo), [])
    storages = {tensor.untyped_storage().data_ptr() for tensor in shared if tensor.numel()}
    views = (value for value in copied if isinstance(value, torch.Tensor) and value.layout is torch.strided)
    if any(value.numel() and value.untyped_storage().data_ptr() in storages for value in views):
        return None
    return result


def _state_tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if name not in part._non_persistent_buffers_set:
                yield buffer


def _same_storage(tensor: torch.Tensor) -> torch.Tensor:
    if isinstance(tensor, nn.Parameter):
        twin: torch.Tensor = nn.Parameter(tensor.detach(), tensor.requires_grad)
    else:
        twin = tensor.detach()
    twin.__dict__.update(copy.deepcopy(tensor.__dict__))
    return twin


def _attributes(module: nn.Module) -> Iterator[object]:
    for part in module.modules():
        for value in vars(part).values():
            yield from value.values() if isinstance(value, dict) else (value,)


def _closes_over_model(value: object) -> bool:
    if not isinstance(value, FunctionType):
        return False
    held: list[object] = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    for cell in value.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # an empty cell
            continue
    return any(isinstance(item, nn.Module | torch.Tensor) for item in held)
