"""Routes about endpoints: registration, status, lists."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends

from appfl_gc.sandbox.caller import Caller
from appfl_gc.sandbox.dispatch import Dispatch
from appfl_gc.sandbox.errors import ServiceError
from appfl_gc.sandbox.identities import Identity
from appfl_gc.sandbox.model import Endpoint, Model, Pulse, UserEndpoint

LOCK_SECONDS = 30.0
Document = Annotated[dict[str, Any], Body()]


def visible_endpoint(model: Model, identity: Identity, endpoint_id: str) -> Endpoint:
    """An endpoint that this identity may see and send to; raises ``ServiceError`` 404 or 403."""
    endpoint = model.endpoints.get(endpoint_id)
    if endpoint is None:
        raise ServiceError(404, "ENDPOINT_NOT_FOUND", f"Endpoint {endpoint_id} could not be resolved.")
    if endpoint.owner.id != identity.id and not endpoint.multi_user:
        raise ServiceError(
            403, "ENDPOINT_ACCESS_FORBIDDEN", f"Unauthorized access to endpoint {endpoint_id}."
        )
    return endpoint


def own_endpoint(model: Model, identity: Identity, endpoint_id: str) -> Endpoint:
    """An endpoint that this identity registered; raises ``ServiceError`` 404 or 403."""
    endpoint = visible_endpoint(model, identity, endpoint_id)
    if endpoint.owner.id != identity.id:
        raise ServiceError(
            403, "ENDPOINT_ACCESS_FORBIDDEN", f"Endpoint {endpoint_id} belongs to somebody else."
        )
    return endpoint


def endpoint_router(model: Model, dispatch: Dispatch, caller: Caller) -> APIRouter:
    """The routes."""
    router = APIRouter()
    signed_in = Depends(caller)

    def register(identity: Identity, endpoint_id: str, document: dict[str, Any]) -> dict[str, Any]:
        if not document.get("endpoint_name"):
            raise ServiceError(422, "INVALID_REQUEST", "The registration has no endpoint_name.")
        with model.changed:
            if endpoint_id in model.endpoints:
                endpoint = own_endpoint(model, identity, endpoint_id)
                if endpoint.locked_until > time.monotonic():
                    raise ServiceError(423, "ENDPOINT_LOCKED", f"Endpoint {endpoint_id} is locked.")
                endpoint.registration = document
            else:
                endpoint = model.endpoints[endpoint_id] = Endpoint(endpoint_id, identity, document)
            return dispatch.open_endpoint(endpoint)

    @router.post("/v3/endpoints")
    def register_new(document: Document, identity: Identity = signed_in) -> dict[str, Any]:
        return register(identity, str(uuid.uuid4()), document)

    @router.put("/v3/endpoints/{endpoint_id}")
    def register_again(
        endpoint_id: uuid.UUID, document: Document, identity: Identity = signed_in
    ) -> dict[str, Any]:
        # The cloud knows only ids that it gave. Here an id may be chosen, so that an example's files can name it.
        return register(identity, str(endpoint_id), document)

    @router.post("/v3/endpoints/{endpoint_id}/lock")
    def lock(endpoint_id: uuid.UUID, identity: Identity = signed_in) -> dict[str, Any]:
        with model.changed:
            endpoint = own_endpoint(model, identity, str(endpoint_id))
            endpoint.locked_until = time.monotonic() + LOCK_SECONDS
            dispatch.close_endpoint(endpoint)
            return {"endpoint_id": endpoint.id, "lock_seconds": LOCK_SECONDS}

    @router.delete("/v2/endpoints/{endpoint_id}")
    def delete(endpoint_id: uuid.UUID, identity: Identity = signed_in) -> dict[str, Any]:
        with model.changed:
            endpoint = own_endpoint(model, identity, str(endpoint_id))
            dispatch.close_endpoint(endpoint)
            for user_endpoint in [one for one in model.user_endpoints.values() if one.core is endpoint]:
                dispatch.fail_all(user_endpoint, f"Endpoint {endpoint.id} was deleted.")
                del model.user_endpoints[user_endpoint.id]
            del model.endpoints[endpoint.id]
            return {"result": 302}

    @router.get("/v3/endpoints/{endpoint_id}/allowed_functions")
    def allowed_functions(endpoint_id: uuid.UUID, identity: Identity = signed_in) -> dict[str, Any]:
        with model.changed:
            allowed = visible_endpoint(model, identity, str(endpoint_id)).allowed_functions
            return {
                "endpoint_id": str(endpoint_id),
                "restricted": allowed is not None,
                "functions": allowed or [],
            }

    @router.get("/v2/endpoints")
    def endpoints(role: str = "owner", identity: Identity = signed_in) -> list[dict[str, Any]]:
        with model.changed:
            return [
                _document(one)
                for one in model.endpoints.values()
                if one.owner.id == identity.id or (role == "any" and (one.multi_user and one.public))
            ]

    @router.get("/v2/endpoints/{endpoint_id}")
    def endpoint(endpoint_id: uuid.UUID, identity: Identity = signed_in) -> dict[str, Any]:
        with model.changed:
            return _document(visible_endpoint(model, identity, str(endpoint_id)))

    @router.get("/v2/endpoints/{endpoint_id}/status")
    def status(endpoint_id: uuid.UUID, identity: Identity = signed_in) -> dict[str, Any]:
        with model.changed:
            user_endpoint = model.user_endpoints.get(str(endpoint_id))
            if user_endpoint is not None:
                _check_party(user_endpoint, identity)
                return _status(user_endpoint.pulse)
            return _status(visible_endpoint(model, identity, str(endpoint_id)).pulse)

    return router


def _check_party(user_endpoint: UserEndpoint, identity: Identity) -> None:
    if identity.id not in (user_endpoint.identity.id, user_endpoint.core.owner.id):
        text = f"Unauthorized access to endpoint {user_endpoint.id}."
        raise ServiceError(403, "ENDPOINT_ACCESS_FORBIDDEN", text)


def _status(pulse: Pulse) -> dict[str, Any]:
    return {"status": "online" if pulse.online else "offline", "details": pulse.report}


def _document(endpoint: Endpoint) -> dict[str, Any]:
    registration = endpoint.registration
    metadata = endpoint.metadata
    return {
        "uuid": endpoint.id,
        "name": registration["endpoint_name"],
        "display_name": registration.get("display_name") or registration["endpoint_name"],
        "owner_id": endpoint.owner.id,
        "multi_user": endpoint.multi_user,
        "public": endpoint.public,
        "high_assurance": bool(registration.get("high_assurance")),
        "authentication_policy": registration.get("authentication_policy"),
        "subscription_uuid": registration.get("subscription_uuid"),
        "allowed_functions": endpoint.allowed_functions,
        "hostname": metadata.get("hostname"),
        "local_user": metadata.get("local_user"),
        "endpoint_version": metadata.get("endpoint_version"),
        "python_version": metadata.get("python_version"),
        "user_config_schema": metadata.get("user_config_schema"),
        "metadata": metadata,
    }
