"""What is asked again after a failure."""

from __future__ import annotations

import pytest

from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.update_spec import UpdateSpec
from appfl_gc.runner.calls import SEND, TRAIN, CallFactory

TRAINED = Call(CallId("run", 3, "A"), TRAIN, {"grant": {"scheme": "s3"}, "task": {}}, nonce="n", seed=1)


@pytest.fixture
def factory() -> CallFactory:
    return CallFactory("run", 1, {"A": 1}, UpdateSpec(()), {}, device_fallback=False)


def test_an_update_that_the_site_still_has_is_only_sent_again(factory: CallFactory) -> None:
    send = factory.again(TRAINED, ErrorClass.TRANSFER, held=True)
    assert (send.channel, send.args["of"]) == (SEND, TRAIN)
    assert (send.identity.round, send.identity.attempt) == (3, 2)
    assert send.nonce != TRAINED.nonce
    assert "grant" not in send.args

    # The worker was lost while it sent: it may still have the update.
    lost = factory.again(send, ErrorClass.WORKER_LOST, held=False)
    assert (lost.channel, lost.args["of"], lost.identity.attempt) == (SEND, TRAIN, 3)


def test_an_update_that_nobody_has_any_more_is_computed_again(factory: CallFactory) -> None:
    send = factory.again(TRAINED, ErrorClass.TRANSFER, held=True)
    for failed in (TRAINED, send):
        again = factory.again(failed, ErrorClass.TRANSFER, held=False)
        assert again.channel == TRAIN
        assert again.args["compute_again"] is True
        assert "of" not in again.args


def test_a_lost_worker_may_have_stored_its_answer(factory: CallFactory) -> None:
    again = factory.again(TRAINED, ErrorClass.WORKER_LOST, held=False)
    assert again.channel == TRAIN
    assert "compute_again" not in again.args
