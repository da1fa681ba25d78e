"""What the installed agent makes of an endpoint's template."""

from __future__ import annotations

import contextlib
import os
import pwd
import uuid
from collections.abc import Mapping
from pathlib import Path

from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.wire import Json, clean_text


def rendered(directory: Path, options: Mapping[str, Json]) -> str:
    """The user endpoint's configuration as the agent renders it for these ``user_endpoint_config`` options.

    Raises:
        UsageError: with the agent's words, if it refuses the files or the options.
    """
    from globus_compute_endpoint.endpoint.config.utils import (
        get_config,
        load_user_config_schema,
        load_user_config_template,
        render_config_user_template,
    )
    from globus_compute_endpoint.endpoint.endpoint import Endpoint
    from globus_compute_endpoint.endpoint.identity_mapper import MappedPosixIdentity

    try:
        core = get_config(directory)
        template = Endpoint.user_config_template_path(directory, core)
        identity = MappedPosixIdentity(
            local_user_record=pwd.getpwuid(os.getuid()),
            matched_identity=uuid.UUID(int=0),
            globus_identity_candidates=[],
        )
        text: str = render_config_user_template(
            parent_config=core,
            user_config_template=load_user_config_template(template),
            user_config_template_path=template,
            mapped_identity=identity,
            user_config_schema=load_user_config_schema(Endpoint.user_config_schema_path(directory, core)),
            user_opts=dict(options),
            user_runtime={},
        )
    except Exception as error:  # noqa: BLE001  the agent's own code, with errors of several libraries
        raise UsageError(_words("render", directory, error)) from None
    return text


def load(directory: Path, text: str) -> None:
    """Make the engine that a rendered configuration names, and put it away again.

    Raises:
        UsageError: with the agent's words, if it can't be made.
    """
    from globus_compute_endpoint.endpoint.config.utils import load_config_yaml

    try:
        engine = getattr(load_config_yaml(text), "engine", None)
    except Exception as error:  # noqa: BLE001  the agent's own code, with errors of several libraries
        raise UsageError(_words("load", directory, error)) from None
    if engine is None:
        raise UsageError(f"The template in {directory} has no engine.")
    with contextlib.suppress(Exception):  # it was never started
        engine.shutdown()


def _words(what: str, directory: Path, error: Exception) -> str:
    # A schema's error goes on with the whole schema; its first paragraph says what is wrong.
    words = str(getattr(error, "message", "") or error).strip().split("\n\n", 1)[0]
    return f"The agent can't {what} the template in {directory}: {clean_text(words, 1000)}"
