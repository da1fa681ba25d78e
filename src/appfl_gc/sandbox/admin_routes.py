"""The sandbox's own routes: faults, identities, what is inside. They ask for the sandbox's token."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request

from appfl_gc.sandbox.amqp_gate import AmqpGate
from appfl_gc.sandbox.dispatch import Dispatch
from appfl_gc.sandbox.errors import ServiceError
from appfl_gc.sandbox.faults import OWN_ROUTES, Faults
from appfl_gc.sandbox.identities import Identities
from appfl_gc.sandbox.model import Model, Outcome

TOKEN_HEADER = "x-sandbox-token"
Document = Annotated[dict[str, Any], Body()]
Ways = Annotated[list[str], Body()]


def admin_router(
    token: str,
    model: Model,
    dispatch: Dispatch,
    identities: Identities,
    faults: Faults,
    gates: Mapping[str, AmqpGate],
) -> APIRouter:
    """The routes, under ``OWN_ROUTES``."""

    def check(request: Request) -> None:
        if not hmac.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), token.encode()):
            raise ServiceError(401, "AUTHENTICATION_FAILED", "The sandbox's token is missing or wrong.")

    router = APIRouter(prefix=OWN_ROUTES.rstrip("/"), dependencies=[Depends(check)])

    @router.post("/faults")
    async def set_faults(values: Document) -> dict[str, Any]:
        for name, value in values.items():
            if name not in ("failures", "status", "path", "slow_seconds"):
                raise ServiceError(422, "INVALID_REQUEST", f"There is no fault {name}.")
            setattr(faults, name, value)
        return {}

    @router.post("/amqp/{action}")
    async def amqp(action: str, ways: Ways) -> dict[str, Any]:
        for way in ways:
            gate = gates[way]
            if action == "drop":
                gate.drop()
            elif action == "refuse":
                await gate.refuse()
            else:
                await gate.open()
        return {}

    @router.post("/forget-tokens")
    def forget_tokens(values: Document) -> dict[str, Any]:
        identities.forget_tokens(bool(values.get("refresh")))
        return {}

    @router.post("/forget-results")
    def forget_results() -> dict[str, Any]:
        with model.changed:
            model.forget_results()
        return {}

    @router.post("/forget-tasks")
    def forget_tasks() -> dict[str, Any]:
        with model.changed:
            model.forget_tasks()
        return {}

    @router.post("/applications")
    def add_application(values: Document) -> dict[str, Any]:
        return asdict(identities.add_application(str(values["name"])))

    @router.post("/results")
    def inject(values: Document) -> dict[str, Any]:
        with model.changed:
            task = model.tasks.get(str(values["task_id"]))
            if task is None or task.outcome is not None:
                raise ServiceError(404, "TASK_NOT_FOUND", "There is no such task without a result.")
            details = {"endpoint_id": task.user_endpoint.id, **values.get("details", {})}
            dispatch.finish(task, Outcome(values["data"], bool(values["failed"]), details, time.time()))
        return {}

    @router.get("/state")
    def state() -> dict[str, Any]:
        with model.changed:
            return {
                "amqp_connections": {name: gate.connections for name, gate in gates.items()},
                "amqp_accepted": {name: gate.accepted for name, gate in gates.items()},
                "requests": list(faults.requests),
                "endpoints": [
                    {"id": one.id, "name": one.registration["endpoint_name"], "online": one.pulse.online}
                    for one in model.endpoints.values()
                ],
                "user_endpoints": [
                    {
                        "id": one.id,
                        "endpoint_id": one.core.id,
                        "online": one.pulse.online,
                        "pid": one.pulse.report.get("posix_pid"),
                        "options": one.options,
                        "unfinished": list(one.unfinished),
                    }
                    for one in model.user_endpoints.values()
                ],
                "tasks": [
                    {"id": one.id, "status": one.status, "owner": one.owner.id, "group": one.group}
                    for one in model.tasks.values()
                ],
            }

    return router
