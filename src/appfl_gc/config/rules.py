"""Rules that join several keys of one client or of the server."""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from appfl_gc.config.document import KeyPath
from appfl_gc.config.fault_tolerance import check_fault_tolerance
from appfl_gc.config.federation import LOCAL
from appfl_gc.config.findings import did_you_mean, nearest
from appfl_gc.config.names import (
    AGGREGATORS,
    SCHEDULERS,
    STALENESS_ARGUMENTS,
    TORCH_LOSSES,
    TORCH_OPTIMISERS,
    TRAINERS,
)
from appfl_gc.config.schema.aggregator_kwargs import AGGREGATOR_KWARGS, FedQueueKwargs
from appfl_gc.config.schema.block import Block, freeze
from appfl_gc.config.schema.client import Client
from appfl_gc.config.schema.scheduler_kwargs import (
    SCHEDULER_KWARGS,
    CompassSchedulerKwargs,
    QueueSchedulerKwargs,
    SyncSchedulerKwargs,
)
from appfl_gc.config.schema.server_configs import ServerConfigs
from appfl_gc.config.schema.train_configs import TrainConfigs
from appfl_gc.config.typing_check import TypedCheck

ADMM_TRAINERS = ("IIADMMTrainer", "ICEADMMTrainer")
READ_BY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mu": ("FedProxTrainer",),
        "init_penalty": ADMM_TRAINERS,
        "init_proximity": ADMM_TRAINERS,
        "residual_balancing": ADMM_TRAINERS,
    }
)
"""Settings that some trainers read, by key."""


def check_client(client: Client, check: TypedCheck) -> None:
    """Report what the keys of one client say against each other."""
    train = client.train_configs
    if not train.trainer_path:
        _check_builtin("trainer", train.trainer, ("train_configs", "trainer"), TRAINERS, check)
        if TRAINERS.get(train.trainer or "VanillaTrainer"):
            _check_local_training(client, check)
            _check_idle_keys(train, check)
    _check_torch_names(train, check)
    _check_walltime(train, check)
    _check_endpoint(client.endpoint_id, check)
    for key in ("user_endpoint_config", "resource_specification", "credentials"):
        if getattr(client, key) and not is_uuid(client.endpoint_id):
            check.note((key,), f"`{key}` has no effect here: it belongs to Globus Compute endpoints.")
    if client.client_id is not None and (not client.client_id.isprintable() or len(client.client_id) > 200):
        check.error(("client_id",), "Expected printable text of at most 200 characters.")


def _check_local_training(client: Client, check: TypedCheck) -> None:
    train = client.train_configs
    trainer = train.trainer or "VanillaTrainer"
    at = "train_configs"
    if train.mode is None:
        check.error((at, "mode"), f"{trainer} needs `mode`.", "Give `epoch` or `step`.")
    elif train.mode in {"fit", "partial_fit"}:
        check.error((at, "mode"), f"{trainer} has no mode `{train.mode}`.", "Give `epoch` or `step`.")
    else:
        needed = "num_local_epochs" if train.mode == "epoch" else "num_local_steps"
        if getattr(train, needed) is None:
            check.error(
                (at, needed), f"`mode: {train.mode}` needs `{needed}`.", "Give a whole number of at least 1."
            )
    if train.optim is None and trainer not in ADMM_TRAINERS:
        check.error((at, "optim"), f"{trainer} needs `optim`.", "Give a name in torch.optim, such as `Adam`.")
    if train.loss_fn is None and train.loss_fn_path is None:
        check.error(
            (at, "loss_fn"),
            f"{trainer} needs a loss.",
            "Give `loss_fn_path`, or `loss_fn` with a name in torch.nn.",
        )
    if train.loss_fn is not None and train.loss_fn_path is not None:
        check.warning((at, "loss_fn"), "`loss_fn` has no effect beside `loss_fn_path`.", "Keep one.")
    if train.clip_grad and train.clip_value is None:
        check.error(
            (at, "clip_value"),
            "`clip_grad: True` needs `clip_value`.",
            "Give the bound of the gradient's norm.",
        )
    if client.model_configs.model_path is None:
        check.error(
            ("model_configs", "model_path"),
            f"{trainer} needs `model_path`.",
            "Give the file of the model.",
        )


def _check_idle_keys(train: TrainConfigs, check: TypedCheck) -> None:
    """Warn of settings of another algorithm's trainer."""
    trainer = train.trainer or "VanillaTrainer"
    for key, readers in READ_BY.items():
        if getattr(train, key) is not None and trainer not in readers:
            check.warning(
                ("train_configs", key),
                f"`{key}` has no effect: `{trainer}` does not read it.",
                f"It belongs to {' and '.join(f'`{reader}`' for reader in readers)}.",
            )


def _check_walltime(train: TrainConfigs, check: TypedCheck) -> None:
    length, margin = train.walltime_seconds, train.walltime_margin_seconds
    if length is not None and margin >= length:
        check.error(
            ("train_configs", "walltime_margin_seconds"),
            f"Every task would stop at once: it is to stop {margin:g} s before the end of a job of {length:g} s.",
            "Make `walltime_margin_seconds` smaller than `walltime_seconds`.",
        )


def _check_torch_names(train: TrainConfigs, check: TypedCheck) -> None:
    if train.trainer_path:
        return
    loss = train.loss_fn if train.loss_fn_path is None else None
    names: tuple[tuple[str, str | None, tuple[str, ...], str], ...] = (
        ("optim", train.optim, TORCH_OPTIMISERS, "torch.optim"),
        ("loss_fn", loss, TORCH_LOSSES, "torch.nn"),
    )
    for key, value, known, module in names:
        if value is None or value in known:
            continue
        if nearest(value, known):
            check.error(("train_configs", key), f"{module} has no `{value}`.", did_you_mean(value, known))
        else:
            check.warning(
                ("train_configs", key), f"`{value}` is not a name in {module} that this version knows.",
                f"It knows {', '.join(known)}.",
            )  # fmt: skip


def is_uuid(endpoint: object) -> bool:
    """Whether ``endpoint`` is the UUID of a Globus Compute endpoint."""
    try:
        uuid.UUID(str(endpoint))
    except ValueError:
        return False
    return True


def _check_endpoint(endpoint: str, check: TypedCheck) -> None:
    if endpoint not in {"", LOCAL} and not is_uuid(endpoint):
        check.error(
            ("endpoint_id",),
            f"Expected the UUID of a Globus Compute endpoint or `{LOCAL}`, found {endpoint!r}.",
            did_you_mean(endpoint, [LOCAL]) or "A UUID looks like 4f53131b-e59d-465f-9153-efe9b02d9f3e.",
        )


def check_server(server: ServerConfigs, check: TypedCheck, *, send_gradient: bool) -> None:
    """Report what the keys of the server say against each other."""
    for what, names, path in (
        ("scheduler", SCHEDULERS, server.scheduler_path),
        ("aggregator", AGGREGATORS, server.aggregator_path),
    ):
        if not path:
            _check_builtin(what, getattr(server, what), (what,), names, check)
    check_fault_tolerance(server, check)
    given = server.aggregator_kwargs.get("gradient_based")
    if isinstance(given, bool) and given is not send_gradient:
        check.warning(
            ("aggregator_kwargs", "gradient_based"),
            f"`gradient_based: {given}` has no effect: `send_gradient` is {send_gradient}.",
            "Set `train_configs.send_gradient`.",
        )
    if server.server_validation and server.val_data_configs is None:
        check.note(
            ("server_validation",), "`server_validation` switches nothing on.",
            "The block `val_data_configs` switches validation at the server on.",
        )  # fmt: skip


def builtin_kwargs(server: ServerConfigs, check: TypedCheck) -> ServerConfigs:
    """The settings with the kwargs of built-in classes checked: defaults filled in, ignored keys gone."""
    changes: dict[str, object] = {}
    tables: tuple[tuple[str, Mapping[str, type[Block]], str | None], ...] = (
        ("scheduler", SCHEDULER_KWARGS, server.scheduler_path),
        ("aggregator", AGGREGATOR_KWARGS, server.aggregator_path),
    )
    for what, schemas, path in tables:
        schema = schemas.get(getattr(server, what))
        if schema is None or path:
            continue
        typed = check.typed(schema, (f"{what}_kwargs",))
        _check_kwargs(typed, (f"{what}_kwargs",), check)
        changes[f"{what}_kwargs"] = freeze(typed.working())
    return server.model_copy(update=changes)


def _check_kwargs(kwargs: Block, path: KeyPath, check: TypedCheck) -> None:
    """Report settings of one scheduler or aggregator that contradict each other or lack one."""
    if isinstance(kwargs, SyncSchedulerKwargs):
        drawn = kwargs.clients_per_round
        if drawn is not None and (not 0 < drawn <= 1 if isinstance(drawn, float) else drawn < 1):
            check.error(
                (*path, "clients_per_round"),
                f"Expected a whole number of at least 1, or a share above 0 and at most 1.0, found {drawn}.",
            )
    if isinstance(kwargs, QueueSchedulerKwargs):
        margin = kwargs.safety_buffer if kwargs.theta is None else kwargs.theta
        if margin >= kwargs.t_sync:
            check.warning(
                (*path, "t_sync"),
                f"A round of {kwargs.t_sync:g} s leaves no time to train beside a margin of {margin:g} s (`theta` or "
                "`safety_buffer`), so that all train `warm_up_steps`.",
                "Set a longer `t_sync` or a smaller margin.",
            )
    if isinstance(kwargs, CompassSchedulerKwargs):
        least, most = kwargs.min_local_steps, kwargs.max_local_steps
        if least is not None and most is not None and least > most:
            check.error(
                (*path, "min_local_steps"),
                f"`min_local_steps` is {least} and `max_local_steps` {most}.",
                "Make the first at most the second.",
            )
    broken = any(place[: len(path)] == path for place in check.broken)
    if isinstance(kwargs, FedQueueKwargs) and not broken:
        given = kwargs.staleness_fn_kwargs
        missing = [name for name in STALENESS_ARGUMENTS[kwargs.staleness_fn] if getattr(given, name) is None]
        if missing:
            needed = " and ".join(f"`{name}`" for name in missing)
            check.error(
                (*path, "staleness_fn_kwargs"),
                f"`staleness_fn: {kwargs.staleness_fn}` needs {needed}.",
                f"Give `staleness_fn_kwargs: {{{missing[0]}: 0.5}}`, for example.",
            )


def _meant(name: str, built: Sequence[str], ending: str) -> str:
    """``Did you mean X?``. All names end alike: but for a slip, what comes before the ending decides."""
    slip = difflib.get_close_matches(name.lower(), [known.lower() for known in built], n=1, cutoff=0.9)
    if slip:
        return did_you_mean(slip[0], built)
    near = nearest(name.removesuffix(ending), [known.removesuffix(ending) for known in built], alike=0.7)
    return f"Did you mean `{near}{ending}`?" if near else ""


def _check_builtin(what: str, name: str, path: KeyPath, names: Mapping[str, bool], check: TypedCheck) -> None:
    if not name:
        return
    built = [known for known, works in names.items() if works]
    choice = f"Supported: {', '.join(built)}, or `{what}_path` for a class of your own."
    if name not in names:
        check.error(path, f"There is no {what} `{name}`.", _meant(name, built, what.capitalize()) or choice)
    elif not names[name]:
        check.error(path, f"The {what} `{name}` is not supported yet.", choice)
