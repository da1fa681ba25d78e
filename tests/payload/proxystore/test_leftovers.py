"""What a killed run has left at endpoints goes from both sides."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appfl_gc.payload.proxystore.granted import from_grant
from appfl_gc.payload.proxystore.leftovers import Left, Swept, model_left, sweep, update_left
from appfl_gc.payload.proxystore.making import make_store
from appfl_gc.protocol.errors import TransferError
from tests.payload.proxystore.samples import Sample, fetched
from tests.proxystore_bed import Bed, why_not

SAMPLE = Sample.of(5_000_001)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    if reason := why_not():
        pytest.skip(reason)
    bed = Bed(tmp_path / "bed", largest=3_000_000)
    try:
        bed.start()
        with bed.inside():
            yield bed
    finally:
        bed.close()


def test_models_and_updates_go_from_the_endpoints_of_both_sides(bed: Bed) -> None:
    near, far = ({"endpoints": [one.uuid], "proxystore_dir": str(one.home)} for one in (bed.a, bed.b))
    store = make_store("EndpointConnector", near, threading.Event(), site_configs=far)
    model, other = store.put(SAMPLE), store.put(SAMPLE)
    grant = store.grant([model], SAMPLE.size)
    update = from_grant(grant).put(SAMPLE)
    left = [model_left(model.to_json()), update_left(grant)]
    payloads = [one for one in left if one is not None]
    assert sweep("EndpointConnector", near, far, payloads, dry_run=True) == Swept(2)
    assert fetched(store, update) == SAMPLE.data
    assert sweep("EndpointConnector", near, far, payloads, dry_run=False) == Swept(2)
    for ref in (model, update):
        with pytest.raises(TransferError, match="does not hold the object"):
            fetched(store, ref)
    assert fetched(store, other) == SAMPLE.data
    assert sweep("EndpointConnector", near, far, payloads, dry_run=False) == Swept(0)


@pytest.mark.parametrize(
    "reference",
    [
        {"scheme": "s3", "locator": "a" * 32, "size": 1},
        {"scheme": "proxystore", "locator": "../../etc/passwd", "size": 1},
        {"scheme": "proxystore", "locator": 3, "size": 1},
        {"scheme": "proxystore"},
        {},
    ],
)
def test_only_names_that_the_store_gives_are_looked_for(reference: dict[str, object]) -> None:
    assert model_left(reference) is None
    assert update_left(reference) is None


def test_a_reference_without_a_size_is_looked_for_as_well() -> None:
    assert model_left({"scheme": "proxystore", "locator": f"{'a' * 32}@x"}) == Left("a" * 32, "x")
