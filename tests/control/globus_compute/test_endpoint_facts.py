from __future__ import annotations

import pytest

from appfl_gc.control.globus_compute.endpoints.facts import EndpointState, look_up
from appfl_gc.protocol.errors import DeliveryError, EndpointError, LoginError
from appfl_gc.protocol.wire import Json

ENDPOINT = "00000000-5a4d-4b0c-8000-000000000001"


class Answers:
    """A service that gives these answers, or raises them."""

    def __init__(self, status: dict[str, Json] | Exception, document: dict[str, Json] | Exception) -> None:
        self.status, self.document = status, document
        self.asked: list[str] = []
        self.waits_for_login = True

    @property
    def identity(self) -> Answers:
        return self

    def endpoint(self, endpoint_id: str) -> dict[str, Json]:
        self.asked.append("endpoint")
        if isinstance(self.document, Exception):
            raise self.document
        return self.document

    def endpoint_status(self, endpoint_id: str) -> dict[str, Json]:
        self.asked.append("status")
        if isinstance(self.status, Exception):
            raise self.status
        return self.status


def test_what_the_agent_registered_is_found_in_either_place() -> None:
    status: dict[str, Json] = {"status": "online", "details": {}}
    metadata: dict[str, Json] = {"endpoint_version": "4.19.0", "python_version": "3.11.7"}
    for document in ({"name": "a", **metadata}, {"name": "a", "metadata": metadata}):
        facts = look_up(Answers(status, document), ENDPOINT)
        assert (facts.state, facts.described, facts.name) == (EndpointState.ONLINE, True, "a")
        assert (facts.agent_version, facts.python_version) == ("4.19.0", "3.11.7")


def test_no_schema_and_an_empty_one_are_the_same() -> None:
    for document in ({"name": "a"}, {"name": "a", "user_config_schema": {}}, {"user_config_schema": "text"}):
        assert look_up(Answers({"status": "offline"}, document), ENDPOINT).schema is None


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (LoginError("No login.", "Log in."), EndpointState.NO_LOGIN),
        (EndpointError("Unknown endpoint."), EndpointState.REFUSED),
        (DeliveryError("No route."), EndpointState.NO_ANSWER),
    ],
)
def test_an_error_becomes_a_state_with_its_words(error: DeliveryError, state: EndpointState) -> None:
    facts = look_up(Answers(error, {}), ENDPOINT)
    assert (facts.state, facts.detail, facts.hint) == (state, error.message, error.hint)


def test_an_endpoint_that_keeps_its_description_can_still_be_used() -> None:
    facts = look_up(Answers({"status": "online"}, EndpointError("Not yours.")), ENDPOINT)
    assert (facts.state, facts.described) == (EndpointState.ONLINE, False)


def test_a_status_that_is_none_of_ours_is_unknown() -> None:
    assert look_up(Answers({"status": "locked"}, {}), ENDPOINT).state is EndpointState.UNKNOWN


def test_without_a_description_there_is_one_request() -> None:
    service = Answers({"status": "online"}, {})
    look_up(service, ENDPOINT, describe=False)
    assert service.asked == ["status"]


def test_texts_are_cleaned() -> None:
    facts = look_up(Answers({"status": "online"}, {"name": "a\x1b[2J\nb", "hostname": "h" * 5000}), ENDPOINT)
    assert "\x1b" not in facts.name and "\n" not in facts.name
    assert len(facts.host) < 300
