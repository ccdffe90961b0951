"""The lab's binaries: Go modules pinned under tools/, built once and kept.

They lie in `$XDG_CACHE_HOME/gsch/lab/<module>-<pins>`, where <pins> is a digest of the module's
go.mod and go.sum, and of its own code where it has any. A binary found in `GSCH_LAB_BIN` or
`KUBEBUILDER_ASSETS` is used instead of a built one.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.errors import GschError

TOOLS = Path(__file__).resolve().parent.parent / "tools"
GO_AT_LEAST = (1, 26)
OVERRIDES = ("GSCH_LAB_BIN", "KUBEBUILDER_ASSETS")

Advance = Callable[[int, int], None]
"""Called as (packages compiled since the last call, packages to compile in all)."""


class LabError(GschError):
    """The lab cannot do this; the text says what is missing and what to do."""


@dataclass(frozen=True, slots=True)
class Binary:
    """A main package of one of the modules under tools/, with what the linker is printed."""

    module: str
    package: str
    ldflags: str = "-s -w"


def _kubernetes(command: str) -> Binary:
    version = re.search(r"k8s\.io/kubernetes v(\d+)\.(\d+)\.(\d+)", _pin("kubernetes"))
    if version is None:
        raise LabError(f"{TOOLS}/kubernetes/go.mod names no version of k8s.io/kubernetes")
    major, minor, patch = version.groups()
    base = "k8s.io/component-base/version"
    flags = f"-s -w -X {base}.gitVersion=v{major}.{minor}.{patch}"
    flags += f" -X {base}.gitMajor={major} -X {base}.gitMinor={minor}"
    return Binary("kubernetes", f"k8s.io/kubernetes/cmd/{command}", flags)


def _pin(module: str) -> str:
    try:
        return (TOOLS / module / "go.mod").read_text()
    except OSError as error:
        raise LabError(
            f"{TOOLS}/{module}/go.mod is not here: the lab works from a checkout of the project"
        ) from error


def catalogue() -> dict[str, Binary]:
    """Every binary by name. Raises LabError outside a checkout."""
    names = (
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubectl",
        "kubelet",
        "kube-proxy",
    )
    binaries = {name: _kubernetes(name) for name in names}
    binaries["pause"] = Binary("pause", "gsch.io/tools/pause")
    binaries["coredns"] = Binary("coredns", "gsch.io/tools/coredns")
    binaries["etcd"] = Binary("etcd", "go.etcd.io/etcd/server/v3")
    for name in ("kwok", "kwokctl"):
        binaries[name] = Binary("kwok", f"sigs.k8s.io/kwok/cmd/{name}")
    binaries["toxiproxy"] = Binary("toxiproxy", "github.com/Shopify/toxiproxy/v2/cmd/server")
    return binaries


# What a control plane with fake nodes and its tests need.
CONTROL_PLANE = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
    "etcd",
    "kwok",
    "kwokctl",
    "toxiproxy",
)


def cache(module: str) -> Path:
    """Where the built binaries of a module are kept, for the pins of this checkout."""
    digest = hashlib.sha256()
    for path in sorted((*(TOOLS / module).glob("go.*"), *(TOOLS / module).glob("*.go"))):
        digest.update(path.read_bytes())
    return cache_root() / f"{module}-{digest.hexdigest()[:16]}"


def cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gsch" / "lab"


def locate(name: str) -> Path | None:
    """The binary, from an override or the cache; None where it is still to be built."""
    given = [Path(value) for key in OVERRIDES if (value := os.environ.get(key))]
    for folder in (*given, cache(catalogue()[name].module)):
        path = folder / name
        if path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def ensure(names: Iterable[str] = CONTROL_PLANE, console: Console | None = None) -> dict[str, Path]:
    """Every named binary, built where it is missing. Raises LabError.

    A cold build takes some ten minutes on two cores; progress goes to `console`.
    """
    console = console or Console(stderr=True)
    wanted = list(names)
    missing = [name for name in wanted if locate(name) is None]
    if missing:
        check_go()
        with _alone(console):
            for number, name in enumerate(missing, 1):
                if locate(name) is None:
                    _build(name, f"{number} of {len(missing)}", console)
    paths = {name: locate(name) for name in wanted}
    return {name: path for name, path in paths.items() if path is not None}


def check_go() -> None:
    """Raises LabError, saying what to install, without a Go that can build the lab."""
    need = ".".join(map(str, GO_AT_LEAST))
    advice = (
        f"The lab builds Kubernetes from source, which needs Go {need} or newer (go on PATH). "
        "Install it, or point GSCH_LAB_BIN at a folder with the binaries. With no Go and no "
        "cluster at all, `gsch simulate -f examples/` shows the scheduler at work."
    )
    if shutil.which("go") is None:
        raise LabError(f"Go is not installed. {advice}")
    # Asked inside a module, so that a Go that fetches newer toolchains may answer with one.
    answer = subprocess.run(
        ["go", "version"], cwd=TOOLS / "kubernetes", capture_output=True, text=True, check=False
    )
    version = re.search(r"go(\d+)\.(\d+)", answer.stdout)
    if version is None or tuple(map(int, version.groups())) < GO_AT_LEAST:
        raise LabError(f"Go is too old: {(answer.stdout or answer.stderr).strip()}. {advice}")


@contextmanager
def _alone(console: Console) -> Iterator[None]:
    """Keep a second build waiting: it would do the same work twice."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print("another build is under way: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(name: str, position: str, console: Console) -> None:
    binary = catalogue()[name]
    folder = TOOLS / binary.module
    flags = ["-trimpath", "-ldflags", binary.ldflags]
    target = cache(binary.module) / name
    target.parent.mkdir(exist_ok=True)
    fresh = target.with_suffix(".new")
    title = f"{name} ({position})"
    with _progress(title, console) as advance:
        total = _stale_packages(folder, flags, binary.package, title)
        advance(0, total)
        process = subprocess.Popen(
            ["go", "build", "-v", *flags, "-o", str(fresh), binary.package],
            cwd=folder,
            env={**os.environ, "CGO_ENABLED": "0"},
            stderr=subprocess.PIPE,
            text=True,
        )
        output: list[str] = []
        try:
            for line in process.stderr or ():
                output.append(line)
                advance(1, total)
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    if code:
        raise LabError(f"go build of {name} failed:\n{''.join(output[-20:])}")
    fresh.replace(target)


def _stale_packages(folder: Path, flags: list[str], package: str, title: str) -> int:
    """How many packages are still to be compiled (modules are fetched on the way)."""
    answer = subprocess.run(
        ["go", "list", *flags, "-deps", "-f", "{{.Stale}}", package],
        cwd=folder,
        env={**os.environ, "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise LabError(f"{title}: cannot resolve its modules:\n{answer.stderr[-2000:]}")
    return max(answer.stdout.count("true"), 1)


@contextmanager
def _progress(title: str, console: Console) -> Iterator[Advance]:
    """A bar on a terminal; without one, a line at the start and at every fifth of the way."""
    if console.is_terminal:
        columns = (
            TextColumn("building {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("packages"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(title, total=None)

            def bar(step: int, total: int) -> None:
                progress.update(task, advance=step, total=total)

            yield bar
        return
    done, printed = 0, -1
    console.print(f"building {title}: fetching modules")

    def line(step: int, total: int) -> None:
        nonlocal done, printed
        done += step
        fifth = min(done * 5 // total, 5)
        if fifth > printed:
            printed = fifth
            console.print(f"building {title}: {min(done, total)} of {total} packages")

    yield line
