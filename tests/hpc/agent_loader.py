"""Render an endpoint's template and load it with the installed agent's own functions, as it does for a submitter."""

from __future__ import annotations

import contextlib
import os
import pwd
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def render(directory: Path, options: dict[str, Any]) -> str:
    from globus_compute_endpoint.endpoint.config.utils import (
        get_config,
        load_user_config_schema,
        load_user_config_template,
        render_config_user_template,
    )
    from globus_compute_endpoint.endpoint.identity_mapper import MappedPosixIdentity

    template = directory / "user_config_template.yaml.j2"
    identity = MappedPosixIdentity(
        local_user_record=pwd.getpwuid(os.getuid()),
        matched_identity=uuid.UUID(int=0),
        globus_identity_candidates=[],
    )
    text: str = render_config_user_template(
        parent_config=get_config(directory),
        user_config_template=load_user_config_template(template),
        user_config_template_path=template,
        mapped_identity=identity,
        user_config_schema=load_user_config_schema(directory / "user_config_schema.json"),
        user_opts=options,
        user_runtime={},
    )
    return text


@contextlib.contextmanager
def loaded(directory: Path, options: dict[str, Any]) -> Iterator[Any]:
    """The user endpoint's configuration object, with its engine; shut down at the end."""
    from globus_compute_endpoint.endpoint.config.utils import load_config_yaml

    config = load_config_yaml(render(directory, options))
    try:
        yield config
    finally:
        engine = getattr(config, "engine", None)
        if engine is not None:
            engine.shutdown()
