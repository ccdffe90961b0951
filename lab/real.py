"""A lab cluster with real nodes: kubelet, containerd and runc, each in a network namespace.

    host ── master (API server, …) ── switch (lab.delay) ── node 1 … node n

Master and nodes have addresses 10.20.C.x, node i's pods 10.(100+C).i.x, Services 10.(200+C).x.x, C
being the cluster's number. The host reaches all of them through the master, so what runs on the
host is as far from a node as the master is. Everything is found again by folder and by name.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab import binaries, control_plane, credentials, host, images, processes, services
from lab.binaries import LabError
from lab.cluster import LabCluster, one_at_a_time, root
from lab.kubectl import kubectl
from lab.node import RealNode
from lab.nodes import NOT_READY

MARK = "real.json"
MAX_NODES, MAX_CLUSTERS = 50, 50
PARTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "coredns",
    "kubelet",
    "kube-proxy",
)
READY_TIMEOUT_S = 180.0

Tick = Callable[[], None]


class RealCluster(LabCluster):
    """A cluster of real nodes by name, whether it is up or not."""

    @classmethod
    def there(cls, name: str) -> bool:
        """Whether the cluster of this name, if there is one, has real nodes."""
        return (LabCluster(name).folder / MARK).exists()

    @property
    def number(self) -> int:
        return int(json.loads((self.folder / MARK).read_text())["number"])

    @property
    def master(self) -> str:
        """The master's network namespace."""
        return f"gsch-{self.name}.m"

    def namespace(self, index: int) -> str:
        """The network namespace of node `index` (from 1)."""
        return f"gsch-{self.name}.n{index}"

    def address(self, index: int = 0) -> str:
        """Of the master, or of node `index` (from 1)."""
        return f"10.20.{self.number}.{10 + index if index else 1}"

    def running(self) -> dict[str, int]:
        """Process id by component; those of nodes carry the node's name."""
        pids: dict[str, int] = {}
        for pid, arguments in processes.of_folder(self.folder).items():
            name = Path(arguments[0]).name
            if name in ("kubelet", "kube-proxy"):
                name = f"{name} {_node_of(arguments)}"
            if name.partition(" ")[0] in PARTS:
                pids[name] = pid
        return pids

    # -- up --------------------------------------------------------------------------------

    def bring_up(
        self,
        nodes: Sequence[Mapping[str, Any]],
        *,
        kube_scheduler: bool = False,
        image_files: Sequence[Path] = (),
        tick: Tick = lambda: None,
    ) -> None:
        """Bring up the cluster with these Node objects' names, labels, taints and sizes.

        `image_files` are docker-archives that every node gets. On any failure nothing stays. `tick`
        is called as nodes get ready. Raises LabError.
        """
        host.check()
        if self.exists:
            raise LabError(
                f"cluster {self.name} is there already: use another name, or "
                f"`gsch lab down {self.name}` first"
            )
        if not 1 <= len(nodes) <= MAX_NODES:
            raise LabError(f"real nodes: 1 to {MAX_NODES}, got {len(nodes)}")
        binary_paths = binaries.ensure((*PARTS, "kubectl", "pause"))
        self.folder.mkdir(parents=True)
        try:
            with one_at_a_time():
                (self.folder / MARK).write_text(json.dumps({"number": _free_number()}))
            self._make(binary_paths, nodes, kube_scheduler, image_files, tick)
        except BaseException:
            self.down()
            raise

    def _make(
        self,
        binary_paths: Mapping[str, Path],
        nodes: Sequence[Mapping[str, Any]],
        kube_scheduler: bool,
        image_files: Sequence[Path],
        tick: Tick,
    ) -> None:
        names = [node["metadata"]["name"] for node in nodes]
        credentials.write(self.folder, f"https://{self.address()}:6443", names)
        shutil.copy(self.credential("admin"), self.kubeconfig)
        archives = self._make_images(binary_paths["pause"], image_files)
        real = [RealNode(self, index, node) for index, node in enumerate(nodes, 1)]
        self._connect(real)
        self._control_plane(binary_paths)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda node: node.prepare(archives), real))
        self._wait_for_server()
        self._controllers(binary_paths, kube_scheduler)
        self._start_dns(binary_paths["coredns"])
        for node in real:
            node.start_kubelet(binary_paths["kubelet"])
            node.start_proxy(binary_paths["kube-proxy"])
        self._wait_for_nodes(real, tick)

    def credential(self, name: str) -> Path:
        """The kubeconfig of a component, of a node, or of `admin`."""
        return credentials.kubeconfig(self.folder, name)

    def _make_images(self, pause: Path, given: Sequence[Path]) -> list[Path]:
        made = [self.folder / "pause.tar", self.folder / "host.tar"]
        images.pause_image(pause, made[0])
        images.host_image(made[1])
        return [*made, *given]

    # -- network ---------------------------------------------------------------------------

    def _connect(self, real: Sequence[RealNode]) -> None:
        """Namespaces, the switch between them, and a link from the host to the master."""
        if int(Path("/proc/sys/fs/inotify/max_user_instances").read_text()) < 1024:
            host.run("sysctl", "-qw", "fs.inotify.max_user_instances=1024")
        for name in (self.master, *(node.namespace for node in real)):
            host.add_namespace(name)
        outside = self.outside
        everything = [
            {
                "name": "master",
                "namespace": str(host.NAMESPACES / self.master),
                "address": f"{self.address()}/32",
                # What is no node's goes to the master, which knows the host's way (`reach`).
                "prefixes": [f"{self.address()}/32", f"{outside}/32", "10.0.0.0/8"],
                "delay_ms": 0,
            },
            *(node.link() for node in real),
        ]
        self._links.write_text(json.dumps({"nodes": everything, "pairs": []}))
        self.spawn("switch", ["chrt", "-f", "50", sys.executable, "-m", "lab.delay", self._links])
        log = self.folder / "logs" / "switch.log"
        if not processes.wait_until(lambda: "ready" in log.read_text(), 20):
            raise LabError(f"the switch did not start:\n{log.read_text()[-800:]}")
        for name in (self.master, *(node.namespace for node in real)):
            host.run(*host.inside(name, "ip", "route", "add", "10.0.0.0/8", "dev", "wan0"))
        self._link_host(outside)

    @property
    def outside(self) -> str:
        """The host's address in the cluster's network."""
        return f"10.20.{self.number}.254"

    @property
    def link(self) -> str:
        """The host's device toward the master."""
        return f"gsch{self.number}"

    def _link_host(self, outside: str) -> None:
        host_veth, master_veth = self.link, "host0"
        # One of an earlier cluster of this number, of which the kernel kept the namespace.
        host.run("ip", "link", "del", host_veth, check=False)
        host.run("ip", "link", "add", host_veth, "type", "veth", "peer", "name", master_veth,
                 "netns", self.master)  # fmt: skip
        host.run("ip", "addr", "add", f"{outside}/32", "dev", host_veth)
        host.run("ip", "link", "set", host_veth, "up")
        host.run(*host.inside(self.master, "ip", "link", "set", master_veth, "up"))
        # The master answers for every address behind it.
        inside = ["sysctl", "-qw", f"net.ipv4.conf.{master_veth}.proxy_arp=1"]
        host.run(*host.inside(self.master, *inside))
        host.run(
            *host.inside(self.master, "ip", "route", "add", f"{outside}/32", "dev", master_veth)
        )
        for prefix in self.prefixes:
            host.run("ip", "route", "add", prefix, "dev", host_veth, "src", outside)

    @property
    def prefixes(self) -> tuple[str, str]:
        """Addresses of nodes, and of pods."""
        return f"10.20.{self.number}.0/24", f"10.{100 + self.number}.0.0/16"

    def reach(self, other: "RealCluster") -> None:
        """Have nodes and pods of this cluster send to those of the other one, by way of both
        masters and the host. For answers the other one has to reach this one too."""
        host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        for prefix in other.prefixes:
            via = ("via", self.outside, "dev", "host0")
            host.run(*host.inside(self.master, "ip", "route", "replace", prefix, *via))

    @property
    def _links(self) -> Path:
        return self.folder / "links.json"

    def set_delays(self, rtts_ms: Mapping[str, float]) -> None:
        """Change round-trip times between nodes and master while the cluster runs.

        Raises LabError for an unknown node.
        """
        links = json.loads(self._links.read_text())
        links_by_name = {link["name"]: link for link in links["nodes"]}
        for name, rtt in rtts_ms.items():
            if name not in links_by_name or name == "master":
                raise LabError(f"{self.name} has no node {name}")
            links_by_name[name]["delay_ms"] = rtt / 2
        fresh = self._links.with_suffix(".new")
        fresh.write_text(json.dumps(links))
        fresh.replace(self._links)
        for pid, arguments in processes.of_folder(self.folder).items():
            if "lab.delay" in arguments:
                os.kill(pid, signal.SIGHUP)

    # -- control plane ---------------------------------------------------------------------

    def _control_plane(self, binary_paths: Mapping[str, Path]) -> None:
        self.spawn("etcd", control_plane.etcd(binary_paths["etcd"], self.folder), self.master)
        command = control_plane.api_server(
            binary_paths["kube-apiserver"], self.folder, self.address(), self.number
        )
        self.spawn("kube-apiserver", command, self.master)

    def _controllers(self, binary_paths: Mapping[str, Path], kube_scheduler: bool) -> None:
        for name in ("kube-controller-manager", *(["kube-scheduler"] if kube_scheduler else ())):
            command = control_plane.controller(
                binary_paths[name], self.folder, self.credential(name)
            )
            self.spawn(name, command, self.master)

    def _start_dns(self, binary: Path) -> None:
        file = self.folder / "Corefile"
        file.write_text(services.corefile(self.credential("coredns")))
        services.publish_dns(self.kubectl, self.number, self.address())
        self.spawn("coredns", [binary, "-conf", str(file)], self.master)

    def kubectl(self, *words: str, text: str = "") -> str:
        """What kubectl printed, as admin. Raises LabError with its words."""
        return kubectl(self.kubeconfig, *words, text=text)

    def _wait_for_server(self) -> None:
        def ready() -> bool:
            # The certificate is there only once the server has made it.
            there = (self.folder / "certs" / "apiserver.crt").exists()
            return there and self._asked("get", "--raw", "/readyz") is not None

        if not processes.wait_until(ready, 60, 0.2):
            raise LabError(f"the API server did not get ready:\n{self._log_tails()}")

    def _wait_for_nodes(self, real: Sequence[RealNode], tick: Tick) -> None:
        left = {node.name: node for node in real}
        deadline = time.monotonic() + READY_TIMEOUT_S
        while left:
            said = self._asked("get", "nodes", "-o", "json")
            for item in json.loads(said)["items"] if said else ():
                node = left.get(item["metadata"]["name"])
                if node is None:
                    continue
                node.patch(self._asked)
                if _ready(item):
                    del left[node.name]
                    tick()
            if time.monotonic() > deadline:
                raise LabError(f"not ready: {', '.join(left)}\n{self._log_tails()}")
            time.sleep(0.2)

    def _asked(self, *words: str) -> str | None:
        """What it printed, None where it failed."""
        try:
            return self.kubectl(*words)
        except LabError:
            return None

    # -- down ------------------------------------------------------------------------------

    def down(self) -> None:
        """End every process, container, namespace, mount and group of the cluster."""
        groups = f"gsch-lab-{self.name}.*"
        with contextlib.suppress(OSError, ValueError):
            # Its other end goes with the master's namespace, but only in the kernel's own time.
            host.run("ip", "link", "del", self.link, check=False)
        command_lines = processes.of_folder(self.folder)
        shims = [pid for pid, words in command_lines.items() if "containerd" in Path(words[0]).name]
        host.kill({pid for pid in command_lines if pid not in shims}, signal.SIGTERM)
        containers = host.members(groups)
        inodes = host.namespaces_of(containers)
        host.kill(containers)
        processes.wait_until(lambda: not host.members(groups), 5)
        host.kill(shims)
        ended = processes.kill(self.folder)
        for process in self._started:
            process.wait()
        host.remove_namespaces(f"gsch-{self.name}.", inodes)
        host.unmount_below(self.folder)
        processes.wait_until(lambda: not host.members(groups), 5)
        host.remove_cgroups(groups)
        self._remove_traces()
        if not ended:
            raise LabError(f"processes of {self.name} would not end: {self.running()}")
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.exists:
            raise LabError(f"cannot remove {self.folder}")

    def _remove_traces(self) -> None:
        """What kubelet and CNI leave outside of their folders."""
        for link in Path("/var/log/containers").glob("*"):
            if link.is_symlink() and str(link.readlink()).startswith(f"{self.folder}/"):
                link.unlink()
        kept = Path("/var/lib/cni/results")
        for result in kept.glob(f"gsch-{self.name}.*"):
            sandbox = re.sub(r".*-([0-9a-f]{64})-eth0$", r"\1", result.name)
            for loopback in kept.glob(f"cni-loopback-{sandbox}-*"):
                loopback.unlink()
            result.unlink()

    # -- inside ----------------------------------------------------------------------------

    def spawn(self, name: str, command: Sequence[str | Path], namespace: str | None = None) -> None:
        """Start a process of the cluster, with a log of this name, in a network namespace."""
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        words = host.inside(namespace, *command) if namespace else list(map(str, command))
        with (logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                words,
                cwd=self.folder if namespace else Path(__file__).resolve().parent.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)


def _node_of(arguments: Sequence[str]) -> str:
    """The node that a kubelet or kube-proxy serves, by its arguments."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "--hostname-override":
            return value
        if key == "--config" and value.endswith("kube-proxy.yaml"):
            return str(json.loads(Path(value).read_text())["hostnameOverride"])
    return ""


def _ready(node: Mapping[str, Any]) -> bool:
    """Whether its kubelet says so, and the controllers have taken note."""
    conditions = node["status"].get("conditions", ())
    taints = [taint["key"] for taint in node["spec"].get("taints", ())]
    ready_condition = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready_condition and NOT_READY not in taints


def _free_number() -> int:
    """The least number that no cluster has."""
    taken = set()
    for mark in (root() / "clusters").glob(f"*/{MARK}"):
        taken.add(json.loads(mark.read_text())["number"])
    free = [number for number in range(1, MAX_CLUSTERS + 1) if number not in taken]
    if not free:
        raise LabError(f"{MAX_CLUSTERS} clusters of real nodes are up already")
    return free[0]
