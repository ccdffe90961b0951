"""What some tests need beside Python: whether this machine has it, and what would bring it."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab import binaries

REQUIRE_ALL = "GSCH_TEST_EVERYTHING"
"""Set where a test that is left out is a failure, as in CI."""
SYSTEM = "as root on Debian or Ubuntu: scripts/system-packages"


@dataclass(frozen=True, slots=True)
class Need:
    """`missing` names what is not there, empty if all is; `install` is the line that helps."""

    missing: Callable[[], str]
    install: str


def _commands(*names: str) -> Callable[[], str]:
    # Some lie in sbin, which is not on everybody's PATH.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return lambda: ", ".join(name for name in names if shutil.which(name, path=path) is None)


def _real_nodes() -> str:
    if os.geteuid():
        return "root"
    missing = _commands("containerd", "runc", "ip", "iptables", "nsenter", "mount")()
    return missing or ("" if Path("/usr/lib/cni/bridge").exists() else "CNI plugins")


def _lab() -> str:
    try:
        missing = [name for name in binaries.CONTROL_PLANE if binaries.locate(name) is None]
        if missing:
            binaries.check_go()
    except binaries.LabError:
        return f"Go {'.'.join(map(str, binaries.GO_AT_LEAST))} or newer"
    return ""


def _postgres() -> str:
    return "" if any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) else "PostgreSQL"


def _servers() -> str:
    return _commands("java", "mvn", "redis-server")() or _postgres()


NEEDS = {
    "lab": Need(_lab, "install Go (go on PATH), or point GSCH_LAB_BIN at the binaries"),
    "real nodes": Need(_real_nodes, SYSTEM),
    "prometheus": Need(_commands("prometheus", "promtool"), SYSTEM),
    "chromium": Need(_commands("chromium"), SYSTEM),
    "image tools": Need(_commands("buildah", "mmdebstrap"), SYSTEM),
    "postgres": Need(_postgres, SYSTEM),
    "servers": Need(_servers, SYSTEM),
    "openssl": Need(_commands("openssl"), SYSTEM),
}
