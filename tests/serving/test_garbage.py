"""What stays for long is left out of garbage collection, in a process of its own."""

import subprocess
import sys

from tests.harness.process import ROOT

PROGRAM = """
import asyncio, gc
from serving.garbage import THRESHOLDS, leave_out_when

async def main():
    before = gc.get_freeze_count()  # not 0 in some releases of Python 3.12
    synced = asyncio.Event()
    task = asyncio.create_task(leave_out_when(synced.wait()))
    await asyncio.sleep(0)
    assert not task.done() and gc.get_freeze_count() == before
    synced.set()
    await task
    assert gc.get_freeze_count() > before + 1000
    assert gc.get_threshold() == THRESHOLDS

asyncio.run(main())
"""


def test_objects_are_frozen_once_the_first_lists_are_in() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
