"""The block ``server_configs``: what the server does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from appfl_gc.config.schema.block import ANY_VALUE, Block, KwargsBlock, ignored, key, not_yet
from appfl_gc.config.schema.comm_configs import CommConfigs
from appfl_gc.config.schema.data_configs import ValDataConfigs
from appfl_gc.config.schema.train_configs import DEVICE_FORM

UUID_FORM = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"


class ControlConfigs(Block):
    """The control planes: `local`, and Globus Compute for endpoints that have a UUID."""

    engine: Literal["ProcessPoolEngine", "GlobusComputeEngine"] = key(
        "Engine that runs the calls of `local` endpoints.", "ProcessPoolEngine"
    )
    slots: int | None = key("Workers on this machine; the lesser of clients and cores if left out.", ge=1)
    inline_limit_bytes: int = key(
        "Payloads up to this many encoded bytes travel inside the call, larger ones by a store.",
        5_000_000,
        ge=0,
    )
    request_limit_bytes: int = key(
        "Globus Compute: the service's limit on one request; calls are grouped so that none exceeds it.",
        10_000_000,
        ge=10_000,
    )
    results: Literal["auto", "push", "poll"] = key(
        "Globus Compute: results pushed over AMQP, or polled over HTTPS where a firewall blocks AMQP; `auto` probes.",
        "auto",
    )
    amqp_port: Literal[443, 5671, 5672] | None = key(
        "Globus Compute: port of the result queue; the service chooses (443) if left out.",
    )
    function_id: str | None = key(
        "Globus Compute: UUID of the entry function as `appfl-gc function register` printed it; registered anew if "
        "left out.",
        pattern=UUID_FORM,
    )
    endpoint_wait_seconds: float = key(
        "Globus Compute: how long to wait for endpoints that are offline before the first round.", 300.0, ge=0
    )
    lost_after_seconds: float = key(
        "Globus Compute: calls at an endpoint that has been silent for so long are given up and tried again.",
        600.0,
        gt=0,
    )


class FaultToleranceConfigs(Block):
    """What happens when a client fails, is late or sends what can't be used."""

    quorum: int | float = key(
        "Updates that a round needs: a number, or a share (above 0, at most 1.0) of those that it asks for. Where "
        "updates are folded as they come: clients that must take part.",
        0.5,
        gt=0,
    )
    deadline_seconds: float | None = key(
        "How long a client may take for one dispatch, from when its site begins with it where that is known, else "
        "from when it was sent. Who is late is not waited for once the round has its quorum. No limit if left out.",
        gt=0,
        allow_inf_nan=False,
    )
    retries: Annotated[int, Field(ge=0)] | KwargsBlock = key(
        "How often a call is tried again after a failure of the infrastructure: a number, or a block with the number "
        "of each class, such as `transfer: 5`. `walltime` and `queue_limit` have 20 and other classes 2 unless the "
        "block says otherwise; a single number is for all but these two.",
        2,
    )
    retry_seconds: float = key(
        "Pause before the second retry of a call; the first goes out at once. Doubled for each further one, up to "
        "600.",
        5.0,
        gt=0,
        allow_inf_nan=False,
    )
    on_missing: Literal["wait", "drop", "replace"] = key(
        "When a call's retries are used up: `drop` goes on without the client, `replace` draws another one that is "
        "up for the round, `wait` tries again for as long as it takes.",
        "drop",
    )
    set_aside_after: int = key(
        "Dispatches in a row that must fail for good, or be late, until a client is set aside.", 1, ge=1
    )
    try_again_seconds: float = key(
        "After how long a client that was set aside for a failure of the infrastructure is greeted again, doubled "
        "while that does not help; 0 for never.",
        600.0,
        ge=0,
        allow_inf_nan=False,
    )
    stop_below: int = key("The run ends when fewer clients than this take part.", 1, ge=1)
    max_update_norm: float | None = key(
        "Largest Euclidean norm of the change that an update may make to the model; a larger one is refused. No "
        "limit if left out.",
        gt=0,
        allow_inf_nan=False,
    )
    max_sample_size: int | None = key(
        "Largest number of training examples that a client may claim: it is what its updates weigh. No limit if left "
        "out.",
        ge=1,
    )


class ServerConfigs(Block):
    """What the server does."""

    num_clients: int = key("Number of clients; equal to the length of `clients`.", 0, required=True, ge=1)
    scheduler: str = key(
        "Class of the scheduler: a published name, or a class in `scheduler_path`.", "", required=True
    )
    scheduler_path: str | None = key("Python file with your own scheduler.")
    scheduler_kwargs: KwargsBlock = key("Its settings.", {}, validate_default=True)
    aggregator: str = key(
        "Class of the aggregator: a published name, or a class in `aggregator_path`.", "", required=True
    )
    aggregator_path: str | None = key("Python file with your own aggregator.")
    aggregator_kwargs: KwargsBlock = key("Its settings.", {}, validate_default=True)
    num_global_epochs: int = key(
        "SyncScheduler and QueueScheduler: rounds. AsyncScheduler and CompassScheduler: client updates.",
        0,
        required=True,
        ge=1,
    )
    device: str = key("Where the server validates the global model.", "cpu", pattern=DEVICE_FORM)
    server_validation: bool = ignored(
        "Stands in published sample files, where nothing reads it.",
        "The block `val_data_configs` switches validation at the server on.",
        False,
        quiet=True,
    )
    val_data_configs: ValDataConfigs | None = key(
        "Test data of the server; the block switches its validation on."
    )
    logging_output_dirname: str = key("Directory of the run directories.", "./output")
    logging_output_filename: str = key("First part of the server log's name.", "result")
    control_configs: ControlConfigs = key("How calls reach the sites.", ControlConfigs())
    fault_tolerance_configs: FaultToleranceConfigs = key(
        "What happens when a client fails.", FaultToleranceConfigs()
    )
    comm_configs: CommConfigs = key("How models travel, as the server sees it.", CommConfigs())
    optimize_memory: bool = ignored(
        "Published switch of memory optimisations.", "Memory is always used sparingly.", True, quiet=True
    )
    deepspeed: KwargsBlock | bool | str | None = not_yet(
        "DeepSpeed settings.", refused=(ANY_VALUE,), why="Training over several nodes is not built yet."
    )
