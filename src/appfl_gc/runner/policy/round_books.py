"""The books of one round: what has arrived, what may still come, and who could take a lost call's place."""

from __future__ import annotations

from appfl_gc.protocol.schedule import UpdateId
from appfl_gc.runner.policy.awaited_call import AwaitedCall
from appfl_gc.runner.policy.roll import Roll


class RoundBooks:
    """Calls of one version of the model. All operations take constant time.

    Args:
        roll: the clients.

    Attributes:
        version: which one.
        arrived: updates that were accepted.
    """

    def __init__(self, roll: Roll) -> None:
        self._roll = roll
        self._empty(0)

    def _empty(self, version: int) -> None:
        self.version = version
        self.arrived = 0
        self._open = 0
        self._promised = 0
        self._called: set[str] = set()
        self._called_and_up = 0
        self._late: dict[UpdateId, AwaitedCall] = {}

    @property
    def possible(self) -> int:
        """Updates that the round can have: those that arrived, and those that may still come."""
        return self.arrived + self._open + self._promised

    @property
    def spare(self) -> int:
        """Clients that are up, have no call of this round, and are not to take another one's place already."""
        return self._roll.up_count - self._called_and_up - self._promised

    def begin(self, version: int) -> list[AwaitedCall]:
        """The round of ``version`` begins; the calls of the one before that are late still."""
        late = list(self._late.values())
        self._empty(version)
        return late

    def has(self, call: AwaitedCall) -> bool:
        """Whether ``call`` belongs to this round."""
        return call.version == self.version and not call.greeting

    def opened(self, call: AwaitedCall) -> None:
        """A call went out."""
        client = call.update.client
        if not self.has(call):
            return
        self._open += 1
        if client not in self._called:
            self._called.add(client)
            self._called_and_up += self._roll.is_up(client)
            self._promised = max(0, self._promised - 1)

    def accepted(self, call: AwaitedCall) -> None:
        """``call`` brought an update."""
        if self.has(call):
            self._open -= 1
            self.arrived += 1
            self._late.pop(call.update, None)

    def lost(self, call: AwaitedCall, *, replace: bool) -> None:
        """Nothing comes of ``call``; ``replace``: a spare client takes its place. With nothing left it begins anew."""
        if not self.has(call):
            return
        self._open -= 1
        self._promised += replace
        self._late.pop(call.update, None)
        if self.possible == 0:
            self._empty(self.version)

    def is_late(self, call: AwaitedCall) -> None:
        """``call`` missed its deadline."""
        call.late = True
        self._late[call.update] = call

    def in_time(self, call: AwaitedCall) -> None:
        """``call`` turns out not to be late."""
        call.late = False
        self._late.pop(call.update, None)

    def next_late(self) -> AwaitedCall | None:
        """The call that has been late for longest."""
        return next(iter(self._late.values()), None)

    def came_up(self, client: str) -> None:
        """``client`` is up."""
        self._called_and_up += client in self._called

    def went_down(self, client: str) -> None:
        """``client``, which was up, is not any more."""
        self._called_and_up -= client in self._called
