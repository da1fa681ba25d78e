"""A submit request: checked, then turned into tasks in a user endpoint's queue."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema

from appfl_gc.sandbox.accounts import Account
from appfl_gc.sandbox.dispatch import Dispatch
from appfl_gc.sandbox.errors import ServiceError
from appfl_gc.sandbox.identities import Identity
from appfl_gc.sandbox.messages import task_message
from appfl_gc.sandbox.model import Endpoint, Function, Group, Model, Task, UserEndpoint
from appfl_gc.sandbox.settings import SandboxSettings

NAMESPACE = uuid.UUID("6c1e5e0c-5a4d-4b0c-8000-7a2f0f4b9d11")


@dataclass(frozen=True)
class Submission:
    """Accepts submit requests.

    Attributes:
        client_url: the connection URL of an account, by the way that submitters take.
    """

    settings: SandboxSettings
    model: Model
    dispatch: Dispatch
    client_url: Callable[[Account], str]

    def submit(self, identity: Identity, endpoint: Endpoint, document: Mapping[str, Any]) -> dict[str, Any]:
        """Check a request and send its tasks; the answer has their ids in order. Callers hold ``model.changed``.

        Raises:
            ServiceError: with the status and code of what is wrong; then no task was made.
        """
        batches = self._batches(identity, endpoint, document.get("tasks"))
        options = document.get("user_endpoint_config") or {}
        self._check_options(endpoint, options)
        group = self._group(identity, document.get("task_group_id"))
        user_endpoint = self._user_endpoint(identity, endpoint, options, document.get("user_runtime") or {})
        self.dispatch.start(user_endpoint)
        self._wait_for_start(user_endpoint)
        if document.get("create_queue") and group.queue is None:
            group.queue = f"{identity.account.groups}{group.id}"
            self.dispatch.publisher.declare(group.queue)
        headers = {
            "resource_specification": json.dumps(document.get("resource_specification")),
            "result_serializers": document.get("result_serializers") or [],
        }
        ids = {
            function.id: [
                self._send(identity, group, function, user_endpoint, text, headers) for text in texts
            ]
            for function, texts in batches
        }
        return {
            "request_id": str(uuid.uuid4()),
            "task_group_id": group.id,
            "endpoint_id": endpoint.id,
            "tasks": ids,
        }

    def _batches(
        self, identity: Identity, endpoint: Endpoint, tasks: Any
    ) -> list[tuple[Function, list[str]]]:
        if not isinstance(tasks, dict) or not tasks:
            raise ServiceError(422, "INVALID_REQUEST", "The request has no tasks.")
        allowed = endpoint.allowed_functions
        batches = []
        for function_id, texts in tasks.items():
            function = self.model.functions.get(function_id)
            if function is None:
                raise ServiceError(
                    404, "FUNCTION_NOT_FOUND", f"Function {function_id} could not be resolved."
                )
            if function.owner.id != identity.id and not function.public:
                raise ServiceError(
                    403, "FUNCTION_ACCESS_FORBIDDEN", f"Unauthorized access to function {function_id}."
                )
            if allowed is not None and function_id not in allowed:
                text = f"Function {function_id} not permitted on endpoint {endpoint.id}."
                raise ServiceError(403, "FUNCTION_NOT_PERMITTED", text)
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise ServiceError(422, "INVALID_REQUEST", "A task's payload is not text.")
            batches.append((function, texts))
        return batches

    def _check_options(self, endpoint: Endpoint, options: Any) -> None:
        if not isinstance(options, dict):
            raise ServiceError(422, "SEMANTICALLY_INVALID", "user_endpoint_config is not a mapping.")
        schema = endpoint.metadata.get("user_config_schema")
        if not self.settings.check_schema or not isinstance(schema, dict):
            return
        try:
            jsonschema.Draft202012Validator(schema).validate(options)
        except jsonschema.ValidationError as error:
            where = ".".join(str(part) for part in error.absolute_path) or "user_endpoint_config"
            text = f"The endpoint's schema does not allow this user_endpoint_config: {where}: {error.message}"
            raise ServiceError(422, "SEMANTICALLY_INVALID", text) from None

    def _group(self, identity: Identity, group_id: Any) -> Group:
        try:
            id_ = str(uuid.UUID(str(group_id))) if group_id is not None else str(uuid.uuid4())
        except ValueError:
            raise ServiceError(422, "INVALID_UUID", "task_group_id is not a UUID.") from None
        group = self.model.groups.setdefault(id_, Group(id_, identity))
        if group.owner.id != identity.id:
            raise ServiceError(
                403, "TASK_GROUP_ACCESS_FORBIDDEN", f"Unauthorized access to task group {id_}."
            )
        return group

    def _user_endpoint(
        self, identity: Identity, endpoint: Endpoint, options: dict[str, Any], runtime: dict[str, Any]
    ) -> UserEndpoint:
        key = f"{endpoint.id}/{identity.id}/{json.dumps(options, sort_keys=True)}"
        id_ = str(uuid.uuid5(NAMESPACE, key))
        known = self.model.user_endpoints.setdefault(
            id_, UserEndpoint(id_, endpoint, identity, options, runtime)
        )
        known.runtime = runtime
        return known

    def _wait_for_start(self, user_endpoint: UserEndpoint) -> None:
        seconds = self.settings.start_wait_seconds
        if seconds > 0:
            self.model.changed.wait_for(
                lambda: bool(user_endpoint.pulse.online or user_endpoint.start_error), seconds
            )
            if user_endpoint.start_error:
                raise ServiceError(422, "SEMANTICALLY_INVALID", user_endpoint.start_error)

    def _send(
        self,
        identity: Identity,
        group: Group,
        function: Function,
        user_endpoint: UserEndpoint,
        text: str,
        headers: Mapping[str, Any],
    ) -> str:
        task = Task(str(uuid.uuid4()), group.id, identity, function.id, user_endpoint)
        self.dispatch.publisher.publish(
            identity.account.tasks(user_endpoint.id),
            task_message(task.id, function.code + text),
            {**headers, "function_uuid": function.id, "task_uuid": task.id},
        )
        self.model.tasks[task.id] = task
        user_endpoint.unfinished[task.id] = None
        group.tasks.append(task.id)
        return task.id
