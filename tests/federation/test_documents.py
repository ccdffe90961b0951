"""What many threads do at once with the YAML of requests, in a process of its own."""

import subprocess
import sys

from tests.harness.process import ROOT

PROGRAM = """
import sys, threading
from federation import documents

sys.setswitchinterval(1e-6)
TEXT = "apiVersion: v1\\nkind: Pod\\nmetadata: {name: p}\\nspec: {containers: [{name: c}]}\\n"
together = threading.Barrier(8)
counts = []

def read():
    together.wait()
    counts.append(len(documents.read(TEXT)))

threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert counts == [1] * 8
"""


def test_the_first_requests_of_a_process_may_come_at_once() -> None:
    for _ in range(8):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, (done.returncode, done.stderr)
