"""What the service says of an endpoint, parsed without trusting it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from appfl_gc.protocol.errors import DeliveryError, EndpointError, LoginError
from appfl_gc.protocol.wire import Json, clean_text

SHORT = 200


class EndpointState(str, enum.Enum):
    """Whether calls can go to an endpoint now."""

    ONLINE = "online"
    OFFLINE = "offline"
    REFUSED = "refused"
    """It does not exist, or is not shared with the identity that asks."""
    NO_LOGIN = "no login"
    """A login in another shell gives what is missing."""
    BAD_LOGIN = "login refused"
    """The identity is not accepted, and no other login would help."""
    NO_ANSWER = "no answer"
    """The service could not be asked."""
    UNKNOWN = "unknown"
    """The service does not say."""

    @property
    def may_change(self) -> bool:
        """Whether waiting may help."""
        return self in {EndpointState.OFFLINE, EndpointState.NO_LOGIN, EndpointState.NO_ANSWER}

    @property
    def known(self) -> bool:
        """Whether the service told this identity about the endpoint."""
        return self in {EndpointState.ONLINE, EndpointState.OFFLINE, EndpointState.UNKNOWN}


class Asker(Protocol):
    """Who asks."""

    @property
    def waits_for_login(self) -> bool:
        """Whether a login in another shell gives this identity what it lacks."""


class EndpointDirectory(Protocol):
    """The service as one identity sees it.

    Each method raises ``LoginError`` without a valid login, ``EndpointError`` for an endpoint that does not exist
    or is not shared with the identity, and another ``DeliveryError`` if the service can't be asked.
    """

    @property
    def identity(self) -> Asker:
        """Who asks."""

    def endpoint(self, endpoint_id: str) -> Mapping[str, Json]:
        """How the endpoint describes itself (``GET /v2/endpoints/{id}``)."""

    def endpoint_status(self, endpoint_id: str) -> Mapping[str, Json]:
        """``status`` and ``details`` (``GET /v2/endpoints/{id}/status``)."""


@dataclass(frozen=True)
class EndpointFacts:
    """One endpoint, as far as the service tells one identity; texts are cleaned.

    Attributes:
        endpoint_id: its UUID.
        state: whether calls can go there now.
        detail: why not, as sentences, or "".
        hint: what to do about it, or "".
        described: whether the service told what follows.
        name: as its owner calls it, or "".
        host: where its agent runs, or "".
        multi_user: whether an administrator runs it for several people.
        agent_version, python_version: of its agent, or "".
        schema: JSON schema of ``user_endpoint_config``, or None.
    """

    endpoint_id: str
    state: EndpointState
    detail: str = ""
    hint: str = ""
    described: bool = False
    name: str = ""
    host: str = ""
    multi_user: bool = False
    agent_version: str = ""
    python_version: str = ""
    schema: Mapping[str, Json] | None = None


def look_up(directory: EndpointDirectory, endpoint_id: str, *, describe: bool = True) -> EndpointFacts:
    """Ask for the status and, with ``describe``, for the description: one or two requests. Never raises
    ``DeliveryError``: what went wrong is a state with a detail.
    """
    try:
        state = _state(directory.endpoint_status(endpoint_id))
        document = _description(directory, endpoint_id) if describe else {}
    except DeliveryError as error:
        state = _state_of_error(error, directory.identity.waits_for_login)
        return EndpointFacts(endpoint_id, state, clean_text(error.message, 1000), error.hint)
    return _facts(endpoint_id, state, document)


def _description(directory: EndpointDirectory, endpoint_id: str) -> Mapping[str, Json]:
    """The description, or nothing where the service keeps it from this identity."""
    try:
        return directory.endpoint(endpoint_id)
    except EndpointError:
        return {}


def _state(status: Mapping[str, Json]) -> EndpointState:
    said = {"online": EndpointState.ONLINE, "offline": EndpointState.OFFLINE}
    return said.get(str(status.get("status")).lower(), EndpointState.UNKNOWN)


def _state_of_error(error: DeliveryError, waits_for_login: bool) -> EndpointState:
    if isinstance(error, LoginError):
        return EndpointState.NO_LOGIN if waits_for_login else EndpointState.BAD_LOGIN
    return EndpointState.REFUSED if isinstance(error, EndpointError) else EndpointState.NO_ANSWER


def _facts(endpoint_id: str, state: EndpointState, document: Mapping[str, Json]) -> EndpointFacts:
    metadata = document.get("metadata")
    # What the agent registered may lie beside the service's own fields or in a block of its own.
    fields = {**(metadata if isinstance(metadata, dict) else {}), **document}
    schema = fields.get("user_config_schema")
    detail = "" if state is not EndpointState.UNKNOWN else "The service does not say whether it is online."
    return EndpointFacts(
        endpoint_id,
        state,
        detail,
        described=bool(document),
        name=_text(fields, "display_name") or _text(fields, "name"),
        host=_text(fields, "hostname"),
        multi_user=fields.get("multi_user") is True,
        agent_version=_text(fields, "endpoint_version"),
        python_version=_text(fields, "python_version"),
        schema=schema if isinstance(schema, dict) and schema else None,
    )


def _text(fields: Mapping[str, Json], name: str) -> str:
    value = fields.get(name)
    return " ".join(clean_text(value, SHORT).split()) if isinstance(value, str) else ""
