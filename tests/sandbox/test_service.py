"""What the service gives to whom, and what it refuses; no agent needed."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import httpx
import pika
import pika.exceptions
import pytest

from appfl_gc.sandbox.sandbox import Sandbox
from tests.sandbox.rest import Rest, code_of

New = Callable[[], Rest]
SCHEMA = {"type": "object", "properties": {"walltime": {"type": "string"}}, "additionalProperties": False}


def test_a_wrong_secret_and_a_made_up_token_are_refused(sandbox: Sandbox, rest: New) -> None:
    one = rest()
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        one.token(secret="guessed")
    one._token = "guessed"
    assert code_of(one.get("/v2/endpoints")) == (401, "AUTHENTICATION_FAILED")


def test_tasks_functions_groups_and_endpoints_belong_to_their_owner(rest: New) -> None:
    owner, other = rest(), rest()
    endpoint_id = str(uuid.uuid4())
    owner.register(endpoint_id)
    function = owner.function()
    answer = owner.submit(endpoint_id, function, count=2).json()
    task_id = answer["tasks"][function][0]
    assert owner.get(f"/v2/tasks/{task_id}").json()["status"] == "waiting-for-ep"
    assert code_of(other.get(f"/v2/tasks/{task_id}")) == (403, "TASK_ACCESS_FORBIDDEN")
    assert code_of(other.post("/v2/batch_status", {"task_ids": [task_id]})) == (403, "TASK_ACCESS_FORBIDDEN")
    group = answer["task_group_id"]
    assert len(owner.get(f"/v2/taskgroup/{group}").json()["tasks"]) == 2
    assert code_of(other.get(f"/v2/taskgroup/{group}")) == (403, "TASK_GROUP_ACCESS_FORBIDDEN")
    assert code_of(other.get(f"/v2/functions/{function}")) == (403, "FUNCTION_ACCESS_FORBIDDEN")
    refused = (403, "ENDPOINT_ACCESS_FORBIDDEN")
    assert code_of(other.get(f"/v2/endpoints/{endpoint_id}/status")) == refused
    assert code_of(other.submit(endpoint_id, other.function())) == refused
    assert code_of(other.request("PUT", f"/v3/endpoints/{endpoint_id}", {"endpoint_name": "mine"})) == refused
    assert code_of(other.post(f"/v3/endpoints/{endpoint_id}/lock", {})) == refused
    assert other.get("/v2/endpoints?role=any").json() == []
    assert [one["uuid"] for one in owner.get("/v2/endpoints").json()] == [endpoint_id]


def test_submit_checks_function_schema_and_group(rest: New) -> None:
    one, other = rest(), rest()
    endpoint_id, allowed = str(uuid.uuid4()), one.function()
    one.register(endpoint_id, allowed_functions=[allowed], metadata={"user_config_schema": SCHEMA})
    assert one.get(f"/v3/endpoints/{endpoint_id}/allowed_functions").json()["functions"] == [allowed]
    assert code_of(one.submit(endpoint_id, one.function())) == (403, "FUNCTION_NOT_PERMITTED")
    assert code_of(one.submit(endpoint_id, str(uuid.uuid4()))) == (404, "FUNCTION_NOT_FOUND")
    assert code_of(one.submit(str(uuid.uuid4()), allowed)) == (404, "ENDPOINT_NOT_FOUND")
    answer = one.submit(endpoint_id, allowed, user_endpoint_config={"walltime": 3600})
    assert code_of(answer) == (422, "SEMANTICALLY_INVALID")
    assert "walltime: 3600 is not of type 'string'" in answer.json()["message"]
    group = str(uuid.uuid4())
    assert one.submit(endpoint_id, allowed, task_group_id=group).status_code == 200
    theirs = str(uuid.uuid4())
    other.register(theirs)
    assert code_of(other.submit(theirs, other.function(), task_group_id=group)) == (
        403,
        "TASK_GROUP_ACCESS_FORBIDDEN",
    )


def test_a_request_over_the_payload_limit_is_refused_and_makes_no_task(sandbox: Sandbox, rest: New) -> None:
    one = rest()
    endpoint_id, function = str(uuid.uuid4()), one.function()
    one.register(endpoint_id)
    before = len(sandbox.state()["tasks"])
    body = {"tasks": {function: ["x" * 3_400_000] * 3}}
    answer = one.post(f"/v3/endpoints/{endpoint_id}/submit", body)
    assert code_of(answer) == (413, "TASK_PAYLOAD_TOO_LARGE")
    assert len(sandbox.state()["tasks"]) == before
    body = {"tasks": {function: ["x" * 3_200_000] * 3}}
    assert one.post(f"/v3/endpoints/{endpoint_id}/submit", body).status_code == 200


def test_one_request_too_many_is_a_429_for_this_identity_only(rest: New) -> None:
    one, other = rest(), rest()
    answers = [one.get("/v2/endpoints") for _ in range(21)]
    assert [answer.status_code for answer in answers] == [200] * 20 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
    assert other.get("/v2/endpoints").status_code == 200


def test_a_locked_endpoint_can_not_register(rest: New) -> None:
    one = rest()
    endpoint_id = str(uuid.uuid4())
    one.register(endpoint_id)
    assert one.post(f"/v3/endpoints/{endpoint_id}/lock", {}).status_code == 200
    answer = one.request("PUT", f"/v3/endpoints/{endpoint_id}", {"endpoint_name": "e"})
    assert code_of(answer) == (423, "ENDPOINT_LOCKED")


def test_faults_come_and_go(sandbox: Sandbox, rest: New) -> None:
    one = rest()
    sandbox.faults.fail_next(2, 502)
    assert [one.get("/v2/endpoints").status_code for _ in range(3)] == [502, 502, 200]
    sandbox.faults.fail_next(1, 502, "/version")
    assert [one.get(path).status_code for path in ("/v2/endpoints", "/v2/version")] == [200, 502]
    sandbox.faults.forget_tokens()
    assert one.get("/v2/endpoints").status_code == 401
    assert sandbox.state()["requests"][-1][1:] == ["GET", "/v2/endpoints", 401]
    one._token = one.token()
    sandbox.faults.slow(0.3)
    try:
        assert one.get("/v2/endpoints").elapsed.total_seconds() > 0.3
    finally:
        sandbox.faults.clear()


def test_results_and_tasks_are_forgotten_on_request(sandbox: Sandbox, rest: New) -> None:
    one = rest()
    endpoint_id, function = str(uuid.uuid4()), one.function()
    one.register(endpoint_id)
    answer = one.submit(endpoint_id, function, count=2).json()
    ended, waits = answer["tasks"][function]
    sandbox.inject_result(ended, "the result")
    assert one.get(f"/v2/tasks/{ended}").json()["result"] == "the result"
    sandbox.faults.forget_results()
    known = one.post("/v2/batch_status", {"task_ids": [ended, waits]}).json()["results"]
    assert (known[ended]["status"], known[waits]["status"]) == ("success", "waiting-for-ep")
    assert not {"result", "exception"} & (known[ended].keys() | known[waits].keys())
    sandbox.faults.forget_tasks()
    assert one.post("/v2/batch_status", {"task_ids": [ended, waits]}).json() == {"results": {}}
    assert code_of(one.get(f"/v2/tasks/{waits}")) == (404, "TASK_NOT_FOUND")
    assert code_of(one.get(f"/v2/taskgroup/{answer['task_group_id']}")) == (404, "TASK_GROUP_NOT_FOUND")


def test_an_amqp_account_reaches_its_own_queues_only(sandbox: Sandbox, rest: New) -> None:
    one, other = rest(), rest()
    answer = one.register(str(uuid.uuid4()))
    queue = answer["command_queue_info"]["queue"]
    mine = answer["command_queue_info"]["connection_url"]
    theirs = other.get("/v2/get_amqp_result_connection_url").json()["connection_url"]
    with pika.BlockingConnection(pika.URLParameters(mine)) as connection:
        connection.channel().basic_consume(queue, print)
    for touch in (
        lambda channel: channel.basic_consume(queue, print),
        lambda channel: channel.queue_declare("new"),
        lambda channel: _publish(channel, answer["heartbeat_queue_info"]["exchange"]),
    ):
        with pika.BlockingConnection(pika.URLParameters(theirs)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
                touch(channel)


def _publish(channel: pika.adapters.blocking_connection.BlockingChannel, exchange: str) -> None:
    channel.basic_publish(exchange, "heartbeats", b"{}")
