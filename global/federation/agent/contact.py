"""Whether the layer hears this agent: by its acknowledgements of reports, on our own clock."""

import asyncio
import time
from collections.abc import Callable

from federation.fleet import LEASE_S

MAX_UNHEARD = 100


class Contact:
    """A lease that counts from when a report was sent which the layer has acknowledged.

    The layer counts from when the report arrived, which is later: where it takes a cluster for
    lost, the cluster's agent knows already that it is cut off.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sent: dict[int, float] = {}
        self._number = 0
        self._heard_until = clock() + LEASE_S
        self._confirmed = 0
        self._heard = asyncio.Event()
        self.wanted = asyncio.Event()
        """Set where somebody waits for a report to be sent and heard."""

    def restart(self) -> None:
        """Count a lease from now: what was reported before was not ours to report."""
        self._sent.clear()
        self._heard_until = self._clock() + LEASE_S

    def next_report(self) -> int:
        """The number of a report that is about to be sent."""
        self._number += 1
        self.wanted.clear()
        self._sent[self._number] = self._clock()
        while len(self._sent) > MAX_UNHEARD:
            del self._sent[min(self._sent)]
        return self._number

    def heard(self, number: int) -> bool:
        """The layer has heard this report; whether that ends a time of being cut off."""
        at = self._sent.get(number)
        if at is None:
            return False
        was = self.cut_off
        self._confirmed = max(self._confirmed, number)
        self._heard.set()
        self._heard_until = max(self._heard_until, at + LEASE_S)
        for older in [n for n in self._sent if n <= number]:
            del self._sent[older]
        return was and not self.cut_off

    @property
    def cut_off(self) -> bool:
        """Whether nothing was heard of the layer for a lease."""
        return self._clock() >= self._heard_until

    async def confirm(self) -> None:
        """Until the layer has heard a report that is sent after this call. Whatever it had sent us
        before it heard that has arrived by then, since messages to a cluster stay in order."""
        since = self._number
        while self._confirmed <= since:
            self.wanted.set()
            self._heard.clear()
            await self._heard.wait()
