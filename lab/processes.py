"""Processes of a lab cluster, found by the folder that they were started for."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def of_folder(folder: Path) -> dict[int, list[str]]:
    """Command line by process id, of every process that names a file below `folder`."""
    prefix = f"{folder}/"
    command_lines: dict[int, list[str]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if any(prefix in argument for argument in arguments):
                command_lines[int(entry.name)] = arguments[:-1]
    return command_lines


def ended(pid: int) -> bool:
    """Whether the process has ended for good, its ports included.

    A process loses its command line first, and its sockets only with its last thread.
    """
    entry = Path(f"/proc/{pid}")
    try:
        state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        threads = len(list((entry / "task").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in ("Z", "X") and threads <= 1


def kill(folder: Path, seconds: float = 5.0) -> bool:
    """End the processes of a folder: kindly, then by force. Returns whether none is left."""
    seen: set[int] = set()
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in of_folder(folder):
            seen.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if wait_until(lambda: not of_folder(folder) and all(map(ended, seen)), seconds):
            return True
    return False


def kill_now(folder: Path, seconds: float = 10.0) -> bool:
    """End the processes of a folder, and all of their process groups, by SIGKILL; whether none is
    left."""
    groups = {os.getpgid(pid) for pid in of_folder(folder)}
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    return wait_until(lambda: not any(map(_in_group, groups)), seconds)


def _in_group(group: int) -> bool:
    """Whether a process of the group still runs."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            if os.getpgid(pid) == group and not ended(pid):
                return True
    return False


def wait_until(done: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Whether `done` came true in time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
