"""Routes about functions and tasks."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request

from appfl_gc.sandbox.caller import Caller
from appfl_gc.sandbox.endpoint_routes import visible_endpoint
from appfl_gc.sandbox.errors import ServiceError
from appfl_gc.sandbox.identities import Identity
from appfl_gc.sandbox.messages import source_buffer
from appfl_gc.sandbox.model import Function, Model, Task
from appfl_gc.sandbox.submission import Submission

Document = Annotated[dict[str, Any], Body()]


def task_router(model: Model, submission: Submission, caller: Caller, payload_limit: int) -> APIRouter:
    """The routes; a submit request of more than ``payload_limit`` bytes is refused."""
    router = APIRouter()
    signed_in = Depends(caller)

    async def within_limit(request: Request) -> None:
        size = len(await request.body())
        if size > payload_limit:
            text = f"Task payload is too large: {size} bytes of {payload_limit}."
            raise ServiceError(413, "TASK_PAYLOAD_TOO_LARGE", text)

    @router.post("/v3/functions")
    def register_function(document: Document, identity: Identity = signed_in) -> dict[str, Any]:
        name, code = document.get("function_name"), document.get("function_code")
        if not isinstance(name, str) or not isinstance(code, str):
            raise ServiceError(422, "INVALID_REQUEST", "The function has no name or no code.")
        buffer = code if document.get("serialized", True) else source_buffer(name, code)
        id_ = str(uuid.uuid4())
        with model.changed:
            model.functions[id_] = Function(id_, identity, buffer, bool(document.get("public")), document)
        return {"function_uuid": id_}

    @router.get("/v2/functions/{function_id}")
    def function(function_id: uuid.UUID, identity: Identity = signed_in) -> dict[str, Any]:
        with model.changed:
            known = _function(model, identity, str(function_id))
            return {"function_uuid": known.id, "owner_id": known.owner.id, **known.document}

    @router.delete("/v2/functions/{function_id}")
    def delete_function(function_id: uuid.UUID, identity: Identity = signed_in) -> dict[str, Any]:
        with model.changed:
            known = _function(model, identity, str(function_id))
            if known.owner.id != identity.id:
                raise ServiceError(403, "FUNCTION_ACCESS_FORBIDDEN", "The function belongs to somebody else.")
            del model.functions[known.id]
        return {"result": 302}

    @router.post("/v3/endpoints/{endpoint_id}/submit", dependencies=[Depends(within_limit)])
    def submit(endpoint_id: uuid.UUID, document: Document, identity: Identity = signed_in) -> dict[str, Any]:
        with model.changed:
            endpoint = visible_endpoint(model, identity, str(endpoint_id))
            return submission.submit(identity, endpoint, document)

    @router.get("/v2/tasks/{task_id}")
    def task(task_id: uuid.UUID, identity: Identity = signed_in) -> dict[str, Any]:
        with model.changed:
            return _document(_task(model, identity, str(task_id)))

    @router.post("/v2/batch_status")
    def batch_status(document: Document, identity: Identity = signed_in) -> dict[str, Any]:
        with model.changed:
            ids = [str(task_id) for task_id in document.get("task_ids", [])]
            found = [_task(model, identity, id_) for id_ in ids if id_ in model.tasks]
            return {"results": {one.id: _document(one) for one in found}}

    @router.get("/v2/taskgroup/{group_id}")
    def task_group(group_id: uuid.UUID, identity: Identity = signed_in) -> dict[str, Any]:
        with model.changed:
            group = model.groups.get(str(group_id))
            if group is None:
                raise ServiceError(
                    404, "TASK_GROUP_NOT_FOUND", f"Task group {group_id} could not be resolved."
                )
            if group.owner.id != identity.id:
                text = f"Unauthorized access to task group {group_id}."
                raise ServiceError(403, "TASK_GROUP_ACCESS_FORBIDDEN", text)
            return {"taskgroup_id": group.id, "tasks": [{"id": id_} for id_ in group.tasks]}

    @router.get("/v2/get_amqp_result_connection_url")
    def amqp_url(identity: Identity = signed_in) -> dict[str, Any]:
        url = submission.client_url(identity.account)
        return {"queue_prefix": identity.account.groups, "connection_url": url}

    return router


def _function(model: Model, identity: Identity, function_id: str) -> Function:
    function = model.functions.get(function_id)
    if function is None:
        raise ServiceError(404, "FUNCTION_NOT_FOUND", f"Function {function_id} could not be resolved.")
    if function.owner.id != identity.id and not function.public:
        raise ServiceError(
            403, "FUNCTION_ACCESS_FORBIDDEN", f"Unauthorized access to function {function_id}."
        )
    return function


def _task(model: Model, identity: Identity, task_id: str) -> Task:
    task = model.tasks.get(task_id)
    if task is None:
        raise ServiceError(404, "TASK_NOT_FOUND", f"Task {task_id} could not be resolved.")
    if task.owner.id != identity.id:
        raise ServiceError(403, "TASK_ACCESS_FORBIDDEN", f"Unauthorized access to task {task_id}.")
    return task


def _document(task: Task) -> dict[str, Any]:
    document: dict[str, Any] = {"task_id": task.id, "status": task.status}
    outcome = task.outcome
    if outcome is None:
        return {**document, "details": {"endpoint_id": task.user_endpoint.id}}
    document |= {"completion_t": str(outcome.completed), "details": outcome.details}
    if outcome.data is None:
        return {**document, "reason": "The result is not kept any more."}
    return {**document, "exception" if outcome.failed else "result": outcome.data}
