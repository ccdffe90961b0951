"""Garbage collection that does not stop the event loop: what stays for long is left out of it.

A full collection goes through every object of the process, which in a large cluster takes tenths of
a second. Almost nothing here is part of a reference cycle, so collections may be rare and small.
"""

import gc
from collections.abc import Awaitable

THRESHOLDS = (20_000, 10, 1000)
"""Net allocations before the youngest generation is collected, and how many collections of one
generation come before one of the next."""


async def leave_out_when(synced: Awaitable[None]) -> None:
    """Once the first lists are in, exempt them from all later collections."""
    await synced
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
