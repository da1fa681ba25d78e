"""The service, put together."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from appfl_gc.sandbox.accounts import Account, make_accounts
from appfl_gc.sandbox.admin_routes import admin_router
from appfl_gc.sandbox.amqp_gate import AmqpGate
from appfl_gc.sandbox.auth_routes import auth_router
from appfl_gc.sandbox.caller import Caller
from appfl_gc.sandbox.children import ReservedPort
from appfl_gc.sandbox.dispatch import Dispatch
from appfl_gc.sandbox.endpoint_routes import endpoint_router
from appfl_gc.sandbox.errors import ServiceError
from appfl_gc.sandbox.faults import App, Faults, FaultyApp
from appfl_gc.sandbox.identities import Identities
from appfl_gc.sandbox.inbox import Inbox, Watchdog
from appfl_gc.sandbox.link import Listener, Publisher
from appfl_gc.sandbox.login_routes import login_router
from appfl_gc.sandbox.logins import Logins, Signer
from appfl_gc.sandbox.model import Model
from appfl_gc.sandbox.rate import RateLimit
from appfl_gc.sandbox.settings import SandboxSettings
from appfl_gc.sandbox.submission import Submission
from appfl_gc.sandbox.task_routes import task_router

CLIENTS, CLIENTS_443, AGENTS = "clients", "clients-443", "agents"
"""The ways to the broker: the SDK's own, the one for its ``amqp_port`` setting, the endpoint agents'."""
MINIMUM_VERSION = "4.0.0"
PERSON = "person"
"""Who logs in by the login page."""


@dataclass
class Service:
    """Model, broker link and routes of one sandbox.

    Attributes:
        account: the service's own user of the broker.
        accounts: the users for identities.
        gates: the ways to the broker.
    """

    settings: SandboxSettings
    admin_token: str
    account: Account = field(default_factory=lambda: make_accounts(1)[0])
    accounts: list[Account] = field(default_factory=make_accounts)
    gates: dict[str, AmqpGate] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    model: Model = field(default_factory=Model)

    def __post_init__(self) -> None:
        self.account = Account("service", self.account.password)
        self.identities = Identities(list(self.accounts), self.settings.token_seconds)
        self.logins = Logins(secrets.token_urlsafe(9))
        self.person = self.identities.add_person(PERSON)

    def connect(self, broker_port: int, ports: Mapping[str, ReservedPort]) -> None:
        """Connect to the broker at its own port, and name the ports by which others come to it."""
        host = self.settings.host
        self.gates = {name: AmqpGate(port, broker_port) for name, port in ports.items()}
        url = self.account.url(host, broker_port)
        self.dispatch = Dispatch(self.model, Publisher(url), lambda one: one.url(host, ports[AGENTS].number))
        self._client_port = ports[CLIENTS].number
        inbox = Inbox(self.model, self.dispatch)
        Listener(url, inbox.on_result, inbox.on_heartbeat).start()
        seconds = self.settings.lost_after_seconds
        if seconds is not None:
            watchdog = Watchdog(self.model, self.dispatch, seconds)
            threading.Thread(target=watchdog.run, args=(threading.Event(),), daemon=True).start()

    def app(self) -> App:
        """The ASGI application."""
        host, settings = self.settings.host, self.settings
        caller = Caller(self.identities, RateLimit(settings.requests, settings.requests_seconds))
        submission = Submission(
            settings, self.model, self.dispatch, lambda one: one.url(host, self._client_port)
        )
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.include_router(login_router(self.identities, self.logins, Signer(), self.person))
        app.include_router(auth_router(self.identities))
        app.include_router(endpoint_router(self.model, self.dispatch, caller))
        app.include_router(task_router(self.model, submission, caller, settings.payload_limit_bytes))
        app.include_router(
            admin_router(
                self.admin_token, self.model, self.dispatch, self.identities, self.faults, self.gates
            )
        )

        @app.get("/v2/version")
        def version() -> dict[str, str]:
            return {
                "api": "appfl-gc sandbox",
                "min_ep_version": MINIMUM_VERSION,
                "min_sdk_version": MINIMUM_VERSION,
            }

        app.add_exception_handler(ServiceError, _refusal)
        app.add_exception_handler(RequestValidationError, _invalid)
        return FaultyApp(app, self.faults)


def _refusal(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ServiceError):
        raise error
    body = {"code": error.code, "error": error.code, "message": error.message}
    return JSONResponse(body, error.status, error.headers)


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"code": "INVALID_REQUEST", "message": "The request is not valid."}, 422)
