"""The soak of `make soak`, reduced: memory of a leader and a standby stays flat."""

import subprocess
import sys

import pytest

from tests.harness.process import ROOT

PODS = 3000


@pytest.mark.lab
def test_memory_stays_flat_while_pods_come_and_go() -> None:
    command = [sys.executable, "-m", "bench.soak", "--pods", str(PODS), "--batch", "500"]
    done = subprocess.run(
        [*command, "--nodes", "20"], cwd=ROOT, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{PODS:,}" in done.stdout
