"""Which identity a run or a client uses."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Sequence
from pathlib import Path

import yaml

from appfl_gc.control.globus_compute.identity.access_token import AccessToken
from appfl_gc.control.globus_compute.identity.application import Application
from appfl_gc.control.globus_compute.identity.base import Identity
from appfl_gc.control.globus_compute.identity.private_file import read_private_file
from appfl_gc.control.globus_compute.identity.token_source import TokenSource
from appfl_gc.control.globus_compute.identity.user_login import UserLogin
from appfl_gc.protocol.errors import LoginError, UsageError

PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,100}")
SDK_PREFIX = "GLOBUS_COMPUTE"
# Looks like a path or a name in capitals: anything else could be a secret that was put in the wrong place.
SHOWABLE = re.compile(r"[A-Z][A-Z0-9_]{0,60}|[\w.~/-]{1,200}\.(json|ya?ml)|[/~.][\w.~/-]{0,200}")


def default_identity(token_source: str | None = None, openid_source: str | None = None) -> Identity:
    """The identity of this machine's user: a token if one is named, the application of the environment, the login.

    Args:
        token_source: an environment variable or private file with a token for Globus Compute.
        openid_source: likewise for Globus Auth, to tell whose the token is.

    Raises:
        UsageError: if a source names neither, or only the second is given.
        LoginError: if the environment has half of an application.
    """
    if token_source is None and openid_source is not None:
        raise UsageError(
            "--openid_token does nothing without --compute_token.", "Leave it out, or give both."
        )
    if token_source is not None:
        openid = None if openid_source is None else TokenSource.parse("--openid_token", openid_source)
        return AccessToken(TokenSource.parse("--compute_token", token_source), openid)
    if os.environ.get(f"{SDK_PREFIX}_CLIENT_SECRET"):
        return _of_environment(SDK_PREFIX)
    return UserLogin.of_environment()


def identity_from(credentials: str | None, beside: Sequence[Path] = ()) -> Identity:
    """The identity that ``clients[].credentials`` names.

    Args:
        credentials: the prefix P of P_CLIENT_ID and P_CLIENT_SECRET, or the path of a private file (JSON or YAML)
            with client_id and client_secret; a prefix that is set wins. None means ``default_identity()``.
        beside: directories where a relative path is looked for after the working directory: that of the YAML
            file, then its parents.

    Raises:
        LoginError: if it names nothing, half of an application, or a file that others can use. Values are not shown.
    """
    if credentials is None:
        return default_identity()
    is_prefix = PREFIX.fullmatch(credentials) is not None
    if is_prefix and any(name in os.environ for name in _variables(credentials)):
        return _of_environment(credentials)
    path = Path(credentials).expanduser()
    places = list(dict.fromkeys(place / path for place in (Path.cwd(), *beside)))
    found = next((place for place in places if place.exists()), None)
    if found is not None:
        return _of_file(found)
    if not SHOWABLE.fullmatch(credentials):
        raise LoginError(
            "A client's `credentials` names neither environment variables nor a file. It is not shown, for it may be "
            "a secret.",
            "Give a prefix such as SITE_A, for SITE_A_CLIENT_ID and SITE_A_CLIENT_SECRET, or a file of mode 0600.",
        )
    variables = f"{' and '.join(_variables(credentials))} are not set, and " if is_prefix else ""
    raise LoginError(
        f"`credentials: {credentials}` names no Globus application: {variables}there is no file "
        f"{', '.join(str(place) for place in places)}.",
        "Set both variables, or write client_id and client_secret into a file of mode 0600.",
    )


def _variables(prefix: str) -> tuple[str, str]:
    return f"{prefix}_CLIENT_ID", f"{prefix}_CLIENT_SECRET"


def _of_environment(prefix: str) -> Application:
    for name in _variables(prefix):
        if not os.environ.get(name, "").strip():
            raise LoginError(
                f"The environment variable {name} is not set or empty; {' and '.join(_variables(prefix))} make one "
                "Globus application together.",
                f"Set {name}, or unset the other.",
            )
    id_name, secret_name = _variables(prefix)
    return _application(os.environ[id_name], os.environ[secret_name], f"{id_name} and _SECRET")


def _of_file(path: Path) -> Application:
    text = read_private_file(path)
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        # The parser's own words quote the file.
        raise LoginError(f"The file {path} is neither JSON nor YAML.") from None
    if not isinstance(values, dict):
        raise LoginError(f"The file {path} is not a block with client_id and client_secret.")
    for name in ("client_id", "client_secret"):
        if not isinstance(values.get(name), str) or not values[name].strip():
            raise LoginError(f"The file {path} has no text under {name}.", "Quote the value.")
    return _application(values["client_id"], values["client_secret"], str(path))


def _application(client_id: str, client_secret: str, source: str) -> Application:
    try:
        canonical = str(uuid.UUID(client_id.strip()))
    except ValueError:
        raise LoginError(
            f"The client id of {source} is not a UUID.",
            "https://app.globus.org/settings/developers shows it.",
        ) from None
    return Application(canonical, client_secret.strip(), source)
