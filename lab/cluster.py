"""One lab cluster: a real control plane, brought up by kwokctl's binary runtime.

All that a cluster owns lies in `$XDG_STATE_HOME/gsch/lab/clusters/<name>`, which is also how its
processes are found again after a crash.
"""

import fcntl
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab import binaries, processes
from lab.binaries import LabError

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", re.ASCII)
_PORT = re.compile(r"--(?:secure-port=|server-address=127\.0\.0\.1:)(\d+)")
"""Arguments of components that say where they listen."""
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
VIRTUAL_NODE = "gsch.io/cluster"
"""Label of nodes that stand for another cluster."""
READY_TIMEOUT = "120s"


def checked_name(name: str) -> str:
    """A name that can be a folder. Raises LabError."""
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} is no name: lower-case letters, digits and -, at most 40")
    return name


@dataclass(frozen=True, slots=True)
class Options:
    """What runs beside the API server. `bare` leaves controllers and kwok out, for benchmarks."""

    kube_scheduler: bool = False
    kube_scheduler_config: Path | None = None
    bare: bool = False
    extra_args: Sequence[str] = ()
    feature_gates: Mapping[str, bool] = field(default_factory=dict)


def root() -> Path:
    """Where the lab keeps its clusters."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "gsch" / "lab"


PARTS = ("kube-apiserver", "kube-controller-manager", "kubectl", "etcd", "kwok", "kwokctl")
"""Binaries that every cluster needs."""


class LabCluster:
    """A cluster by name, whether it is up or not. Raises LabError for a name that cannot be one."""

    def __init__(self, name: str) -> None:
        self.name = checked_name(name)
        self.folder = root() / "clusters" / name
        self.kubeconfig = self.folder / "kubeconfig.yaml"
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def exists(self) -> bool:
        return self.folder.exists()

    def running(self) -> dict[str, int]:
        """Process id by component."""
        pids: dict[str, int] = {}
        for pid, arguments in processes.of_folder(self.folder).items():
            name = Path(arguments[0]).name.removesuffix("-controller")
            if name in COMPONENTS:
                pids[name] = pid
        return pids

    def up(self, options: Options = Options()) -> None:
        """Bring the cluster up; on any failure, Ctrl-C included, nothing of it stays."""
        if self.exists:
            raise LabError(
                f"cluster {self.name} is there already: use another name, or "
                f"`gsch lab down {self.name}` first"
            )
        binary_paths = binaries.ensure(
            (*PARTS, *(["kube-scheduler"] if options.kube_scheduler else ()))
        )
        try:
            with one_at_a_time():
                self._create(binary_paths, options)
                self._wait_for_ports()
        except BaseException:
            self.down()
            raise

    def _create(self, binary_paths: Mapping[str, Path], options: Options) -> None:
        disabled = [] if options.kube_scheduler else ["kube-scheduler"]
        if options.bare:
            disabled += ["kube-controller-manager", "kwok-controller"]
        identity = self.folder / "pki" / "admin"
        extra = [
            "etcd=unsafe-no-fsync=true",
            # As whom the API server asks kubelets that want to know.
            f"kube-apiserver=kubelet-client-certificate={identity}.crt",
            f"kube-apiserver=kubelet-client-key={identity}.key",
            *options.extra_args,
        ]
        if options.bare:
            # With no controllers nothing would make accounts, or take taints and finalizers off.
            unwanted = ("ServiceAccount", "TaintNodesByCondition", "StorageObjectInUseProtection")
            extra.append(f"kube-apiserver=disable-admission-plugins={','.join(unwanted)}")
        command = ["create", "cluster", "--runtime", "binary", "--wait", READY_TIMEOUT]
        for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
            if name in binary_paths:
                command += [f"--{name}-binary", str(binary_paths[name])]
        command += ["--kwok-controller-binary", str(binary_paths["kwok"])]
        command += ["--kubeconfig", str(self.folder / "merged.yaml"), "--disable-qps-limits"]
        if disabled:
            command += ["--disable", ",".join(disabled)]
        if options.kube_scheduler_config:
            command += ["--kube-scheduler-config", str(options.kube_scheduler_config)]
        if options.feature_gates:
            gates = ",".join(f"{k}={str(v).lower()}" for k, v in options.feature_gates.items())
            command += ["--kube-feature-gates", gates]
        if not options.bare:
            # Virtual nodes stand for other clusters: their agents are their kubelets.
            fake = f"manage-nodes-with-label-selector=!{VIRTUAL_NODE}"
            extra += ["kwok-controller=manage-all-nodes=false", f"kwok-controller={fake}"]
        root().mkdir(parents=True, exist_ok=True)
        self._kwokctl(binary_paths, command, _settings(extra))

    def _wait_for_ports(self) -> None:
        """Components take their ports long after these were chosen: until then no other cluster may
        choose."""
        if not processes.wait_until(self._all_listen, 60):
            raise LabError(f"not all of {self.name} listens:\n{self._log_tails()}")

    def _all_listen(self) -> bool:
        chosen = [
            match[1]
            for arguments in processes.of_folder(self.folder).values()
            for argument in arguments
            if (match := _PORT.fullmatch(argument))
        ]
        return all(_listens(int(port)) for port in chosen)

    def _kwokctl(self, binary_paths: Mapping[str, Path], command: list[str], config: str) -> None:
        settings = root() / "kwokctl.yaml"
        settings.write_text(config)
        path = f"{binary_paths['kubectl'].parent}{os.pathsep}{os.environ.get('PATH', '')}"
        answer = subprocess.run(
            [
                # It must not go on choosing ports after us, when the lock is another's.
                "setpriv",
                "--pdeathsig",
                "KILL",
                str(binary_paths["kwokctl"]),
                "--name",
                self.name,
                "--config",
                str(settings),
                *command,
            ],
            env={**os.environ, "KWOK_WORKDIR": str(root()), "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise LabError(
                f"kwokctl could not bring up {self.name}:\n{answer.stderr[-1500:]}\n"
                f"{self._log_tails()}"
            )

    def _log_tails(self) -> str:
        tails = []
        for path in sorted((self.folder / "logs").glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-3:]
            tails.append(f"{path.name}: " + "\n  ".join(lines))
        return "\n".join(tails)

    def down(self) -> None:
        """End every process of the cluster and remove its folder; nothing there is no error."""
        ended = processes.kill(self.folder)
        if not ended:
            raise LabError(f"processes of {self.name} would not end: {self.running()}")
        for process in self._started:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.exists:
            raise LabError(f"cannot remove {self.folder}")

    def kill(self, component: str) -> list[str]:
        """End one component by SIGKILL, as a crash would; returns its command line."""
        pid = self.running().get(component)
        if pid is None:
            raise LabError(f"{component} of {self.name} is not running")
        arguments = processes.of_folder(self.folder)[pid]
        os.kill(pid, 9)
        if not processes.wait_until(lambda: processes.ended(pid), 10):
            raise LabError(f"{component} of {self.name} would not end")
        return arguments

    def start(self, component: str, arguments: Sequence[str]) -> None:
        """Start a component again with the command line that `kill` returned."""
        with (self.folder / "logs" / f"{component}.again.log").open("ab") as log:
            process = subprocess.Popen(
                list(arguments),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)

    def server(self) -> str:
        """The API server's URL."""
        config: dict[str, Any] = yaml.safe_load(self.kubeconfig.read_text())
        return str(config["clusters"][0]["cluster"]["server"])


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """kwokctl looks for free ports before it uses them: two at once may choose the same. So do
    clusters of real nodes with their numbers. Ports are the machine's, wherever a lab's folder
    is."""
    root().mkdir(parents=True, exist_ok=True)
    with (Path(tempfile.gettempdir()) / f"gsch-lab-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _settings(extra: Iterable[str]) -> str:
    """kwokctl's configuration; `extra` are arguments, `component=argument=value`. (Its own option
    for them fails on several of one component.)"""
    arguments: dict[str, list[dict[str, str]]] = {}
    for text in extra:
        component, key, value = text.split("=", 2)
        arguments.setdefault(component, []).append({"key": key, "value": value})
    configuration = {
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
        "kind": "KwokctlConfiguration",
        # The lab's etcd asks nobody for a password.
        "options": {"bindAddress": "127.0.0.1"},
        "componentsPatches": [
            {"name": name, "extraArgs": given} for name, given in arguments.items()
        ],
    }
    return yaml.safe_dump(configuration)
