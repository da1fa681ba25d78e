"""The installed agent's own object for a rendered configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from appfl_gc.hpc.endpoint.loading import rendered
from appfl_gc.protocol.wire import Json


@contextlib.contextmanager
def loaded(directory: Path, options: Mapping[str, Json]) -> Iterator[Any]:
    """What a user endpoint is made from, with its engine; put away at the end."""
    from globus_compute_endpoint.endpoint.config.utils import load_config_yaml

    config = load_config_yaml(rendered(directory, options))
    try:
        yield config
    finally:
        config.engine.shutdown()
