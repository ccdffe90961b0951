"""What real nodes need of this machine: tools, network namespaces, control groups, mounts."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.binaries import LabError

TOOLS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "iptables": "iptables",
    "nsenter": "util-linux",
    "chrt": "util-linux",
}
CNI = Path("/usr/lib/cni")
NAMESPACES = Path("/run/netns")
CGROUPS = Path("/sys/fs/cgroup")
WINDOW = "4096 16384 33554432"
"""net.ipv4.tcp_wmem: with the default, a stream over a long link is bound by its window."""


def check() -> None:
    """Raises LabError, saying what to install, where real nodes cannot run here."""
    missing = {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    if not (CNI / "bridge").exists():
        missing.add("containernetworking-plugins")
    if missing:
        raise LabError(
            "real nodes need more of this machine (Debian's names): "
            f"apt-get install {' '.join(sorted(missing))}"
        )
    if os.geteuid() != 0:
        raise LabError("real nodes need root: they make network namespaces and control groups")
    if not Path("/dev/net/tun").exists():
        raise LabError("real nodes need /dev/net/tun (modprobe tun)")


def run(*arguments: str | Path, check: bool = True) -> str:
    """A command's output. Raises LabError with what it said."""
    answer = subprocess.run(
        [str(argument) for argument in arguments], capture_output=True, text=True, check=False
    )
    if check and answer.returncode:
        raise LabError(
            f"{' '.join(map(str, arguments))}: {(answer.stderr or answer.stdout)[-800:]}"
        )
    return answer.stdout


def inside(namespace: str, *words: str | Path) -> list[str]:
    """The command line that runs `words` in a network namespace, with all mounts as they are."""
    return ["nsenter", f"--net={NAMESPACES / namespace}", *map(str, words)]


def add_namespace(name: str) -> None:
    """A network namespace that forwards packets."""
    run("ip", "netns", "add", name)
    run(*inside(name, "ip", "link", "set", "lo", "up"))
    # Whoever runs pods without privileges may still ping from them.
    settings = ["net.ipv4.ip_forward=1", f"net.ipv4.tcp_wmem={WINDOW}"]
    run(*inside(name, "sysctl", "-qw", *settings))


def hierarchies() -> list[Path]:
    """The roots of all control group hierarchies: one a controller (v1), or just one (v2)."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in sorted(CGROUPS.iterdir()) if path.is_dir() and not path.is_symlink()]


def add_cgroup(name: str) -> None:
    """A group of this name in every hierarchy, with the parent's CPUs and memory nodes."""
    for root in hierarchies():
        group = root / name
        group.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            if root.name == "cpuset":
                (group / file).write_text((root / file).read_text())


def members(pattern: str) -> set[int]:
    """Processes in the groups that `pattern` names, and below."""
    pids: set[int] = set()
    for root in hierarchies():
        for top in root.glob(pattern):
            # Groups come and go while they are looked at, which os.walk takes in its stride.
            for folder, _, _ in os.walk(top):
                with contextlib.suppress(OSError):
                    pids |= set(map(int, (Path(folder) / "cgroup.procs").read_text().split()))
    return pids


def remove_cgroups(pattern: str) -> None:
    """Remove the groups, innermost first; those that are not empty stay."""
    for root in hierarchies():
        for top in root.glob(pattern):
            for group, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(group).rmdir()


def unmount_below(folder: Path) -> None:
    """Take off everything that is mounted below the folder."""
    for _ in range(3):
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        below = [mount for mount in mounts if mount.startswith(f"{folder}/")]
        for mount in reversed(below):
            run("umount", "-l", mount, check=False)
        if not below:
            return


def namespaces_of(pids: set[int]) -> set[int]:
    """The inodes of these processes' network namespaces."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            inodes.add(Path(f"/proc/{pid}/ns/net").stat().st_ino)
    return inodes


def remove_namespaces(prefix: str, inodes: set[int]) -> None:
    """Remove namespaces whose name begins so, and those that CNI made for the given inodes."""
    if not NAMESPACES.exists():
        return
    for path in NAMESPACES.iterdir():
        ours = path.name.startswith(prefix)
        with contextlib.suppress(OSError):
            ours = ours or (path.name.startswith("cni-") and path.stat().st_ino in inodes)
        if ours:
            run("ip", "netns", "del", path.name, check=False)


def kill(pids: Sequence[int] | set[int], number: signal.Signals = signal.SIGKILL) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
