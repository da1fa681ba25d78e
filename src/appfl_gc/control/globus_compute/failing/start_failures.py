"""What follows from endpoints that can't start what runs calls: the guard, applied."""

from __future__ import annotations

import threading
import time

from appfl_gc.control.globus_compute.failing.failures import located
from appfl_gc.control.globus_compute.failing.guard import StartGuard
from appfl_gc.control.globus_compute.sending.lane import Lane
from appfl_gc.control.globus_compute.sending.open_call import OpenCall, OpenCalls
from appfl_gc.hpc.facility import facility_of_endpoint
from appfl_gc.protocol.errors import AppflGcError, EndpointError, StartFailedError
from appfl_gc.protocol.wire import clean_text

# An agent that is told to start a user endpoint while a failed one still ends does nothing at all.
PAUSE = 5.0


class StartFailures:
    """Stops sending to a lane whose start failed twice in a row, and its endpoint if that is ours."""

    def __init__(self, calls: OpenCalls) -> None:
        self._calls = calls
        self._guard = StartGuard()
        self._lock = threading.Lock()
        self._why: dict[Lane, EndpointError] = {}
        self._healthy: set[str] = set()

    def answered(self, lane: Lane) -> None:
        """A worker of ``lane`` answered."""
        with self._lock:
            self._guard.answered(lane)
            self._healthy.add(lane.target.endpoint_id)

    def refusal(self, lane: Lane) -> EndpointError | None:
        """Why nothing is sent to ``lane`` any more; None if it is."""
        with self._lock:
            return self._why.get(lane)

    def failed(self, call: OpenCall, error: StartFailedError) -> None:
        """A start failed for ``call``; it fails with ``error``, or with what was done about it."""
        call.lane.not_before = time.monotonic() + PAUSE
        with self._lock:
            trips = self._guard.failed(call.lane, call.request)
            stopped = self._why.get(call.lane)
        if trips:
            # Stopping the endpoint asks the service; the SDK's threads must not wait for that.
            threading.Thread(target=self._stop, args=(call, error), daemon=True).start()
        else:
            self._calls.fail([call], lambda one: located(stopped or error, one.place))

    def _stop(self, call: OpenCall, error: StartFailedError) -> None:
        lane = call.lane
        try:
            done, hint = self._stop_endpoint(lane)
        except Exception as refusal:  # noqa: BLE001  the call must fail whatever becomes of the endpoint
            reason = refusal.message if isinstance(refusal, AppflGcError) else clean_text(repr(refusal), 500)
            done, hint = f"It could not be stopped: {reason}", "Stop it at the site."
        said = error.message.removesuffix(f" ({call.place})")
        why = EndpointError(
            f"Endpoint {lane.target.endpoint_id} failed to start twice in a row; nothing more is sent to it, so that "
            f"no jobs are started in a loop. {done} {said}",
            hint or error.hint,
        )
        with self._lock:
            self._why[lane] = why
        same_lane = self._calls.matching(lambda one: one.lane is lane and (one is call or one.taken is None))
        self._calls.fail(same_lane, lambda one: located(why, one.place))

    def _stop_endpoint(self, lane: Lane) -> tuple[str, str]:
        """Stop the endpoint if it is ours and serves nobody else; what was done, and what to do."""
        endpoint = lane.target.endpoint_id
        known = facility_of_endpoint(endpoint)
        if known is not None:
            facility, shared = known
            return (
                f"It is run by {facility.title}.",
                f"Jobs that go on there are stopped so: {shared.stop} Their logs: {shared.job_logs}",
            )
        if endpoint in self._healthy:
            return "Other calls run there, so it was not stopped.", ""
        service = lane.submitter.service
        if not service.owns(endpoint):
            return "It is another identity's, so it was not stopped.", "Tell its owner."
        service.stop_endpoint(endpoint)
        return "It was stopped.", "Mend its template at the site, then start it again."
