"""The SDK's client as the plane uses it: patient, quiet, and telling which call became which task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import globus_sdk
from globus_compute_sdk.sdk.batch import Batch, create_user_runtime

from appfl_gc.control.globus_compute.identity import Identity
from appfl_gc.control.globus_compute.rest.patience import Patience
from appfl_gc.control.globus_compute.rest.turnstile import Turnstile
from appfl_gc.control.globus_compute.sending.sdk_internals import CallBatch, QuietClient
from appfl_gc.control.globus_compute.sending.serializer import Envelope, JsonOnlySerializer
from appfl_gc.control.plane import CallState
from appfl_gc.protocol.errors import DeliveryError


class Submissions(Protocol):
    """Hears what becomes of requests, from the SDK's threads."""

    def waits(self, envelopes: Sequence[Envelope], state: CallState, detail: str) -> None:
        """A request has to wait."""

    def regrouped(self, envelopes: Sequence[Envelope], old: str, new: str) -> None:
        """The service took the calls into a task group of its own making in place of ours."""

    def taken(self, envelopes: Sequence[Envelope], tasks: Sequence[str]) -> None:
        """The service took the calls as these tasks, in order."""

    def refused(self, envelopes: Sequence[Envelope], error: Exception) -> None:
        """The service did not take the calls."""


class PlaneClient(QuietClient):
    """Submits for one ``Executor``; results go through as text.

    Args:
        identity: who submits.
        patience, turnstile: of that identity.
        submissions: hears what becomes of each request.
    """

    def __init__(
        self, identity: Identity, patience: Patience, turnstile: Turnstile, submissions: Submissions
    ) -> None:
        self._identity = identity
        self._patience = patience
        self._turnstile = turnstile
        self._submissions = submissions
        self._connect()

    def _connect(self) -> None:
        """Read what is stored of the login, and connect with it; again after a login in another shell."""
        super().__init__(app=self._identity.app(), do_version_check=False)
        self.fx_serializer = JsonOnlySerializer()

    def create_batch(
        self,
        task_group_id: Any = None,
        resource_specification: dict[str, Any] | None = None,
        user_endpoint_config: dict[str, Any] | None = None,
        create_websocket_queue: bool = False,
        result_serializers: list[str] | None = None,
    ) -> CallBatch:
        """As the SDK's, remembering the calls."""
        return CallBatch(
            task_group_id,
            resource_specification,
            user_endpoint_config,
            create_websocket_queue,
            serializer=self.fx_serializer,
            user_runtime=create_user_runtime(),
            result_serializers=result_serializers,
        )

    def batch_run(self, endpoint_id: Any, batch: Batch) -> dict[str, Any]:
        """As the SDK's, waiting out what passes, so that no Executor dies of it."""
        envelopes = tuple(batch.envelopes)
        group = str(batch.task_group_id)
        try:
            response = self._patience.request(
                "submit calls",
                lambda: self._submit(endpoint_id, batch),
                lambda state, detail: self._submissions.waits(envelopes, state, detail),
                self._connect,
            )
            tasks = [task for ids in response["tasks"].values() for task in ids]
            if len(tasks) != len(envelopes):
                raise DeliveryError(f"The service made {len(tasks)} tasks of {len(envelopes)} calls.")
        except Exception as error:
            self._submissions.refused(envelopes, error)
            raise
        if response["task_group_id"] != group:
            self._submissions.regrouped(envelopes, group, response["task_group_id"])
        self._submissions.taken(envelopes, tasks)
        return response

    def _submit(self, endpoint_id: Any, batch: Batch) -> dict[str, Any]:
        """One request; where the service takes groups of its own making alone, it makes one."""
        self._turnstile.turn()
        try:
            return dict(super().batch_run(endpoint_id, batch))
        except globus_sdk.GlobusAPIError as error:
            if "TASK_GROUP" not in (error.code or "") or batch.task_group_id is None:
                raise
        batch.task_group_id = None
        self._turnstile.turn()
        return dict(super().batch_run(endpoint_id, batch))

    def get_result_amqp_url(self) -> dict[str, str]:
        """As the SDK's, within the rate limit."""
        self._turnstile.turn()
        return dict(super().get_result_amqp_url())
