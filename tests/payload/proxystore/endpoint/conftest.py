"""A relay with two endpoints for the tests of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from appfl_gc.payload.proxystore.endpoint.client import EndpointClient
from appfl_gc.payload.retry import Patience
from tests.proxystore_bed import Bed, Endpoint, why_not

HASTY = Patience(tries=1)

ClientOf = Callable[..., EndpointClient]


@pytest.fixture(scope="module")
def whole_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    if reason := why_not():
        pytest.skip(reason)
    bed = Bed(tmp_path_factory.mktemp("bed"))
    try:
        yield bed.start()
    finally:
        bed.close()


@pytest.fixture
def bed(whole_bed: Bed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    """The test runs in the bed's network, behind a proxy that is not there."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with whole_bed.inside():
        yield whole_bed


@pytest.fixture
def client_of(bed: Bed) -> ClientOf:
    """A client whose own endpoint is the one given; one try unless ``patience`` is given."""

    def make(endpoint: Endpoint, **options: object) -> EndpointClient:
        arguments = {"patience": HASTY} | options
        return EndpointClient(bed.endpoints, str(endpoint.home), **arguments)  # type: ignore[arg-type]

    return make
