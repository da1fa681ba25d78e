"""The REST side of Globus Compute for one identity."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import globus_sdk
from globus_compute_sdk import Client, __version__
from globus_sdk.scopes import AuthScopes
from globus_sdk.transport import RetryConfig

from appfl_gc.control.globus_compute.identity import Identity
from appfl_gc.control.globus_compute.rest.errors import Request, translate
from appfl_gc.protocol.errors import DeliveryError, LoginError
from appfl_gc.protocol.wire import Json, WireError, as_key, as_object, as_text


@dataclass(frozen=True)
class ResultQueue:
    """Where results are pushed: an AMQP address with its own user and password."""

    prefix: str
    url: str = field(repr=False)


@dataclass(frozen=True)
class ServiceVersions:
    """The oldest versions that the service works with, and the SDK's that is installed here."""

    min_sdk: str
    min_endpoint: str
    sdk: str


@dataclass(frozen=True)
class Account:
    """Whose an identity is.

    Attributes:
        identity_id: UUID of the identity.
        username: such as ``ada@example.org``; "" where Globus does not tell.
        name: of the person; "" likewise.
        provider: the identity provider's name; "" likewise.
        linked: UUIDs of all identities of this account, this one included.
    """

    identity_id: str
    username: str
    name: str
    provider: str
    linked: tuple[str, ...]


class _Connection:
    """An app and the clients over it."""

    def __init__(self, identity: Identity, retries: int, timeout: float) -> None:
        self.app = identity.app()
        patience = RetryConfig(max_retries=retries)
        base = Client(app=self.app, do_version_check=False).web_service_address
        self.v2 = globus_sdk.ComputeClientV2(base_url=base, app=self.app, retry_config=patience)
        self.v3 = globus_sdk.ComputeClientV3(base_url=base, app=self.app, retry_config=patience)
        self.auth = globus_sdk.AuthClient(app=self.app, app_scopes=[AuthScopes.openid], retry_config=patience)
        for client in (self.v2, self.v3, self.auth):
            client.transport.http_timeout = timeout

    def close(self) -> None:
        for client in (self.v2, self.v3, self.auth):
            client.close()
        self.app.close()


class ComputeService:
    """What Globus Compute's REST service knows and does for one identity. Thread safe; one request at a time.

    Every method that asks the service raises:

        LoginError: if the identity has no valid login; the next call reads the storage again.
        EndpointError: if the endpoint is unknown, refuses this identity or can't take what was sent.
        RequestTooLargeError, ThrottledError: as they say; both are ``DeliveryError``.
        DeliveryError: if the service can't be reached, fails, or answers what is not understood.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        retries: int = 3,
        timeout: float = 30.0,
        turn: Callable[[], None] | None = None,
    ) -> None:
        """``retries`` of a failed request, with growing pauses, and ``timeout`` of each in seconds.

        A token that the service no longer takes is renewed by a retry, so there should be at least one.
        ``turn`` is called before each request; it may wait, and raise what the request then raises.
        """
        self.identity = identity
        self._turn = turn
        self._retries, self._timeout = retries, timeout
        self._lock = threading.Lock()
        self._connection: _Connection | None = None

    def sdk_client(self) -> Client:
        """A new SDK ``Client`` for an Executor, with an app of its own that never prompts.

        Its ``fx_serializer`` is the SDK's own: replace it before anything is read with it.

        Raises:
            LoginError: if what the identity is made from is missing.
        """
        return Client(app=self.identity.app(), do_version_check=False)

    def endpoint(self, endpoint_id: str) -> dict[str, Json]:
        """What the service has registered for an endpoint: owner, metadata, schema; text in it is the site's."""
        with self._asking(f"describe endpoint {endpoint_id}", endpoint_id) as api:
            return _object(api.v2.get_endpoint(endpoint_id).data)

    def endpoint_status(self, endpoint_id: str) -> dict[str, Json]:
        """``status`` (online, offline) and ``details`` (the last heartbeat) of an endpoint or user endpoint."""
        with self._asking(f"tell the status of endpoint {endpoint_id}", endpoint_id) as api:
            return _object(api.v2.get_endpoint_status(endpoint_id).data)

    def endpoints(self, role: str = "owner") -> list[dict[str, Json]]:
        """The endpoints of this identity; with role ``any`` also those that are shared with it."""
        with self._asking("list the endpoints") as api:
            found = api.v2.get_endpoints(role=role).data
            if not isinstance(found, list):
                raise WireError("The list of endpoints is not a list.")
            return [_object(item) for item in found]

    def owns(self, endpoint_id: str) -> bool:
        """Whether an endpoint is this identity's own."""
        mine = {str(item.get("uuid", item.get("id", ""))).lower() for item in self.endpoints("owner")}
        return endpoint_id.lower() in mine

    def allowed_functions(self, endpoint_id: str) -> tuple[str, ...] | None:
        """UUIDs of the functions that an endpoint runs; None where it runs any."""
        with self._asking(f"list the functions that endpoint {endpoint_id} allows", endpoint_id) as api:
            answer = api.v3.get_endpoint_allowlist(endpoint_id).data
            if isinstance(answer, dict):
                answer = None if answer.get("restricted") is False else answer.get("functions")
            if answer is None:
                return None
            if not isinstance(answer, list):
                raise WireError("The allowed functions are not a list.")
            return tuple(as_key(item, "An allowed function", 50).lower() for item in answer)

    def register(self, source: str, name: str, *, public: bool = False, group: str | None = None) -> str:
        """Register ``source``, whose entry is the function ``name``; returns the function's UUID.

        Args:
            source: plain Python text, so that any Python version runs it.
            name: of the function in it.
            public: whether any identity may submit it.
            group: UUID of a Globus group whose members may submit it.
        """
        data: dict[str, Json] = {"function_name": name, "function_code": source, "serialized": False}
        data["meta"] = {"python_version": _python_version(), "sdk_version": __version__}
        if public:
            data["public"] = True
        if group is not None:
            data["group"] = group
        with self._asking("register the entry function") as api:
            fields = _object(api.v3.register_function(data).data)
            return as_key(fields.get("function_uuid"), "The function's UUID", 50)

    def function(self, function_id: str) -> dict[str, Json]:
        """What the service has registered as a function."""
        with self._asking(f"describe the function {function_id}") as api:
            return _object(api.v2.get_function(function_id).data)

    def task_batch(self, task_ids: Iterable[str]) -> dict[str, dict[str, Json]]:
        """State, and result or exception as raw text, of each task that the service knows, by id.

        Nothing in it is deserialised; results and exceptions are the site's.

        Raises:
            ForgottenError: if the service refuses to tell of one of them.
        """
        wanted = list(task_ids)
        with self._asking(f"tell the state of {len(wanted)} tasks", about_tasks=True) as api:
            results = _object(_object(api.v2.get_task_batch(wanted).data).get("results"))
            return {task: value for task, value in results.items() if isinstance(value, dict)}

    def task_group(self, group: str) -> list[str]:
        """Ids of all tasks that a task group ever had.

        Raises:
            ForgottenError: if the service does not know the group, or it is another identity's.
        """
        with self._asking("list the tasks of a task group", about_tasks=True) as api:
            tasks = _object(api.v2.get_task_group(group).data).get("tasks")
            if not isinstance(tasks, list):
                raise WireError("The tasks of the group are not a list.")
            return [as_key(_object(task).get("id"), "A task's id", 100) for task in tasks]

    def result_queue(self) -> ResultQueue:
        """Where results are pushed; the service makes credentials for it each time."""
        with self._asking("say where results are pushed") as api:
            fields = _object(api.v2.get_result_amqp_url().data)
            return ResultQueue(
                as_key(fields.get("queue_prefix"), "The queue's prefix"),
                as_key(fields.get("connection_url"), "The queue's address", 2000),
            )

    def stop_endpoint(self, endpoint_id: str) -> None:
        """Disconnect an endpoint of this identity: it stops, with what it runs."""
        with self._asking(f"stop endpoint {endpoint_id}", endpoint_id) as api:
            api.v3.lock_endpoint(endpoint_id)

    def versions(self) -> ServiceVersions:
        """Which versions the service works with."""
        with self._asking("tell its versions") as api:
            fields = _object(api.v2.get_version(service="all").data)
            return ServiceVersions(
                as_text(fields.get("min_sdk_version"), "The least version of the SDK", 50),
                as_text(fields.get("min_ep_version"), "The least version of endpoints", 50),
                __version__,
            )

    def userinfo(self) -> Account:
        """Whose this identity is, asked of Globus Auth: a login that has ended shows here."""
        with self._asking("tell whose this identity is") as api:
            fields = _object(api.auth.userinfo().data)
            linked = fields.get("identity_set")
            return Account(
                as_key(fields.get("sub"), "The identity", 100),
                _optional(fields, "preferred_username"),
                _optional(fields, "name"),
                _optional(fields, "identity_provider_display_name"),
                tuple(
                    as_key(item["sub"], "A linked identity", 100)
                    for item in (linked if isinstance(linked, list) else [])
                    if isinstance(item, dict) and "sub" in item
                ),
            )

    def seconds_of_clock(self) -> float:
        """By how many seconds the service's clock is ahead of ours (its Date header, whole seconds)."""
        with self._asking("tell its time") as api:
            from email.utils import parsedate_to_datetime

            answer = api.v2.get_version()
            return parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()

    def close(self) -> None:
        """Close the connections. A later call opens them again."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _asking(
        self, purpose: str, endpoint_id: str | None = None, about_tasks: bool = False
    ) -> Iterator[_Connection]:
        request = Request(purpose, self.identity, endpoint_id, about_tasks)
        if self._turn is not None:
            self._turn()
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _Connection(self.identity, self._retries, self._timeout)
                yield self._connection
            except WireError as error:
                raise DeliveryError(
                    f"The Globus Compute service answered what is not understood when it was to {purpose}: {error}"
                ) from None
            except Exception as error:
                ours = translate(error, request)
                if isinstance(ours, LoginError):
                    self._drop()  # so that the next call reads what another shell has stored
                if ours is None or ours is error:
                    raise
                raise ours from None


def _object(value: object) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise WireError(f"It is {type(value).__name__}, not an object.")
    return as_object(value, "The answer")


def _optional(fields: Mapping[str, Json], name: str) -> str:
    value = fields.get(name)
    return as_text(value, name, 200) if isinstance(value, str) else ""


def _python_version() -> str:
    import platform

    return platform.python_version()
