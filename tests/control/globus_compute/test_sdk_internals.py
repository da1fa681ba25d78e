"""Names of the SDK that are not public: a new version without one of them shows here first."""

from __future__ import annotations

import inspect
import uuid

import globus_sdk
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.sdk import client as sdk_client
from globus_compute_sdk.sdk import executor as sdk_executor
from globus_compute_sdk.sdk.batch import Batch


def test_every_private_name_is_still_there() -> None:
    assert isinstance(sdk_executor._RESULT_WATCHERS, dict)
    assert isinstance(sdk_executor._REGISTERED_EXECUTORS, dict)
    assert callable(Executor._get_result_watcher)
    assert callable(Client._log_version_mismatch) and callable(Client._raise_ha_warning)
    source = inspect.getsource(Executor)
    for name in ("_stopped", "_task_submitter"):
        assert f"self.{name} =" in source
    assert "_get_result_watcher()" in source and "watch_for_task_results(self, to_watch)" in source
    watcher = sdk_executor._ResultWatcher(uuid.uuid4(), None)
    sdk_executor._RESULT_WATCHERS.pop(watcher.task_group_id)
    for name in (
        *("_new_futures_lock", "_closed", "_open_futures", "_open_futures_empty", "_time_to_stop"),
        *("_received_results", "_to_ack", "_time_to_check_results", "_queue_prefix", "port"),
        *("_on_message", "_on_connection_open", "_on_open_failed", "_on_connection_closed"),
    ):
        assert hasattr(watcher, name), name
    assert not watcher.daemon
    assert sdk_executor.messagepack is messagepack and sdk_executor.Result is Result
    assert "self._connect()" in inspect.getsource(sdk_executor._ResultWatcher.run)
    assert "self._time_to_stop" in inspect.getsource(sdk_executor._ResultWatcher._event_watcher)
    assert "port" in inspect.signature(sdk_executor._ResultWatcher).parameters


def test_what_the_client_overrides_is_what_the_executor_calls() -> None:
    source = inspect.getsource(Executor._submit_tasks)
    assert "self.client.create_batch(" in source and "self.client.batch_run(" in source
    ours = inspect.signature(Client.create_batch).parameters
    from appfl_gc.control.globus_compute.sending.sdk_client import PlaneClient

    assert list(inspect.signature(PlaneClient.create_batch).parameters) == list(ours)
    assert list(inspect.signature(Batch.add).parameters) == ["self", "function_id", "args", "kwargs"]
    assert "pika.SelectConnection(" in inspect.getsource(sdk_executor._ResultWatcher._connect)
    assert "get_result_amqp_url()" in inspect.getsource(sdk_executor._ResultWatcher._connect)


def test_the_retries_of_requests_can_be_set() -> None:
    clients = sdk_client._ComputeWebClient(authorizer=globus_sdk.NullAuthorizer())
    for api in (clients.v2, clients.v3):
        api.retry_config.max_retries = 1
