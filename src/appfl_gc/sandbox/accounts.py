"""One AMQP account per identity: an identity's processes reach their own queues and nobody else's."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COUNT = 32
RESULTS = "results"
HEARTBEATS = "heartbeats"


@dataclass(frozen=True)
class Account:
    """A user of the broker.

    Attributes:
        name: prefix of the names of all its queues and exchanges.
        password: random.
    """

    name: str
    password: str

    def url(self, host: str, port: int) -> str:
        """The connection URL by way of a port."""
        return f"amqp://{self.name}:{self.password}@{host}:{port}/%2F"

    def commands(self, endpoint_id: str) -> str:
        """The queue with commands for a core endpoint."""
        return f"{self.name}.commands.{endpoint_id}"

    def tasks(self, user_endpoint_id: str) -> str:
        """The queue with tasks for a user endpoint."""
        return f"{self.name}.tasks.{user_endpoint_id}"

    @property
    def groups(self) -> str:
        """Prefix of the queues with results, one per task group."""
        return f"{self.name}.groups."

    def exchange(self, kind: str) -> str:
        """Where its endpoints publish ``RESULTS`` or ``HEARTBEATS``; only this account can, so it names the sender."""
        return f"{self.name}.{kind}"


def make_accounts(count: int = COUNT) -> list[Account]:
    """Accounts with random passwords, to be given out one by one (RabbitMQ's own tools take seconds for each)."""
    return [Account(f"a{number:02}", secrets.token_urlsafe(24)) for number in range(count)]


def broker_definitions(service: Account, accounts: Sequence[Account]) -> dict[str, Any]:
    """What the broker loads when it boots: users, what each may touch, exchanges and the service's two queues."""
    permissions = [{"user": service.name, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}]
    for account in accounts:
        permissions.append(
            {
                "user": account.name,
                "vhost": "/",
                "configure": "^$",
                "write": rf"^{account.name}\.({RESULTS}|{HEARTBEATS})$",
                "read": rf"^{account.name}\.(commands|tasks|groups)\.",
            }
        )
    links = [(account.exchange(kind), kind) for account in accounts for kind in (RESULTS, HEARTBEATS)]
    return {
        "users": [_user(service, "administrator"), *(_user(account, "") for account in accounts)],
        "vhosts": [{"name": "/"}],
        "permissions": permissions,
        "exchanges": [
            {
                "name": exchange, "vhost": "/", "type": "fanout", "durable": True, "auto_delete": False,
                "internal": False, "arguments": {},
            }
            for exchange, _ in links
        ],
        "queues": [
            {"name": kind, "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}
            for kind in (RESULTS, HEARTBEATS)
        ],
        "bindings": [
            {
                "source": exchange, "vhost": "/", "destination": kind, "destination_type": "queue",
                "routing_key": "", "arguments": {},
            }
            for exchange, kind in links
        ],
    }  # fmt: skip


def _user(account: Account, tags: str) -> dict[str, str]:
    salt = os.urandom(4)
    digest = hashlib.sha256(salt + account.password.encode()).digest()
    return {
        "name": account.name,
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags,
    }
