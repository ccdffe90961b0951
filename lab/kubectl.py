"""kubectl against a cluster of the lab."""

import subprocess
from pathlib import Path

from lab import binaries
from lab.binaries import LabError


def kubectl(kubeconfig: Path, *words: str, text: str = "") -> str:
    """What kubectl printed; `text` is its input. Raises LabError with its words."""
    path = str(binaries.ensure(["kubectl"])["kubectl"])
    answer = subprocess.run(
        [path, "--kubeconfig", str(kubeconfig), *words],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise LabError(f"kubectl {' '.join(words[:4])}: {answer.stderr.strip()[-800:]}")
    return answer.stdout
