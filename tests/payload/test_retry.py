"""Trying again."""

import random
import threading
import time

import pytest

from appfl_gc.payload.retry import PassingError, Patience, retry
from appfl_gc.protocol.errors import TransferError

FAST = Patience(tries=4, first=0.001, longest=0.01)


class Work:
    """Fails with the given errors, then returns."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def lost(**more):
    return PassingError("The connection was lost.", "Look at the network.", **more)


def test_what_passes_is_tried_again():
    work = Work(lost(), lost())
    assert retry(work, "The upload", threading.Event(), FAST) == "done"
    assert work.calls == 3


def test_patience_ends_with_the_last_sentence_and_its_hint():
    work = Work(*(lost() for _ in range(9)))
    with pytest.raises(TransferError) as caught:
        retry(work, "The upload", threading.Event(), FAST)
    assert work.calls == 4
    assert caught.value.message == "The connection was lost. It was tried 4 times."
    assert caught.value.hint == "Look at the network."
    assert not isinstance(caught.value, PassingError)


def test_progress_begins_the_count_anew():
    work = Work(*(lost() for _ in range(3)), lost(progressed=True), *(lost() for _ in range(2)))
    assert retry(work, "The upload", threading.Event(), FAST) == "done"


def test_another_error_is_not_tried_again():
    work = Work(TransferError("The bucket is not there."))
    with pytest.raises(TransferError, match="The bucket"):
        retry(work, "The upload", threading.Event(), FAST)
    assert work.calls == 1


def test_stop_ends_a_pause_at_once():
    stop = threading.Event()
    work = Work(*(lost() for _ in range(9)))
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(TransferError, match=r"^The upload was interrupted\.$"):
        retry(work, "The upload", stop, Patience(first=60, longest=60))
    timer.join()
    assert time.monotonic() - begun < 10
    assert work.calls == 1


def test_pauses_grow_up_to_the_longest_and_heed_what_is_asked():
    patience = Patience(first=1, longest=10)
    assert [patience.pause(n, None, 1.0) for n in (1, 2, 3, 4, 5, 99)] == [1, 2, 4, 8, 10, 10]
    assert patience.pause(3, None, 0.0) == 2
    assert patience.pause(1, 7.0, 0.5) == 7
    assert patience.pause(1, 3600.0, 0.5) == 10


def test_the_users_random_numbers_stay_as_they_were():
    random.seed(1)
    expected = random.random()
    random.seed(1)
    retry(Work(lost(), lost()), "The upload", threading.Event(), FAST)
    assert random.random() == expected
