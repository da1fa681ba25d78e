"""How the tests are shared out when several processes run them; no example of Hypothesis has a time limit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `pytest -n N`: tests that share a fixture stay together, the others go where there is room."""
    if config.getoption("dist") != "load":
        return None
    from tests.sharing import Together

    return Together(config, log)
