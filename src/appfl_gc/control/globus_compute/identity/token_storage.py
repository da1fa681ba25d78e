"""The SDK's own token storage, opened under the name of one identity."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from typing import Any

from globus_compute_sdk.sdk.compute_dir import ensure_compute_dir
from globus_sdk.token_storage import SQLiteTokenStorage

from appfl_gc.hpc.endpoint.token_file import TOKENS, make_token_file
from appfl_gc.protocol.errors import LoginError


@dataclass(frozen=True)
class StoragePlace:
    """Where one identity's tokens lie: a namespace of the file that `globus-compute-endpoint` uses too."""

    namespace: str

    def open(self) -> SQLiteTokenStorage:
        """The storage; close it.

        Raises:
            LoginError: if the file can't be opened.
        """
        try:
            directory = ensure_compute_dir()
            make_token_file(directory)
            return SQLiteTokenStorage(
                directory / TOKENS, namespace=self.namespace, connect_params={"check_same_thread": False}
            )
        except (OSError, sqlite3.Error) as error:
            raise storage_error(error) from None

    def for_globus_app(self, **_: Any) -> SQLiteTokenStorage:
        """The storage for an app, which closes it: globus_sdk's protocol of storage providers."""
        return self.open()


def storage_error(error: Exception) -> LoginError:
    """The error for a storage that can't be used."""
    reason = error.strerror if isinstance(error, OSError) else None
    return LoginError(
        f"The file of Globus tokens ({TOKENS} in ~/.globus_compute or $GLOBUS_COMPUTE_USER_DIR) can't be used: "
        f"{reason or error}.",
        "Check that it is yours and that its disk has room; removing it means to log in again.",
    )


def environment_name() -> str:
    """The Globus environment, as the SDK names it in its namespaces."""
    return os.environ.get("GLOBUS_SDK_ENVIRONMENT", "production")
