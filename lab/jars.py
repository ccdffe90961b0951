"""Java parts of the lab: Maven projects pinned under tools/, fetched once and kept."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from lab.binaries import TOOLS, LabError, cache_root


def ensure(name: str) -> Path:
    """The folder with the jars of tools/<name>/pom.xml, fetched by Maven where it is missing.

    Raises LabError.
    """
    pom = TOOLS / name / "pom.xml"
    try:
        digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise LabError(
            f"{pom} is not here: the lab works from a checkout of the project"
        ) from error
    folder = cache_root() / f"{name}-{digest}"
    if folder.exists():
        return folder
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise LabError(f"{program} is not installed: scripts/system-packages")
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    answer = subprocess.run(
        ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies",
         f"-DoutputDirectory={fresh}", "-DincludeScope=runtime"],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    if answer.returncode:
        raise LabError(f"the jars of {name} could not be fetched:\n{answer.stdout[-1500:]}")
    fresh.rename(folder)
    return folder
