"""One real node of a lab cluster: its namespace, containerd and kubelet."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cluster.objects.quantity import milli_value, value
from lab import host, images, processes, services
from lab.binaries import LabError

RTT = "lab.gsch.io/rtt-ms"
"""Annotation of a Node in the node file: its round-trip time to the master, in ms."""
HELD_BACK = 64 * 1024 * 1024
"""Bytes that kubelet keeps for itself whatever a node is to offer."""


class NodeOwner(Protocol):
    """What a node needs of its cluster."""

    @property
    def name(self) -> str: ...

    @property
    def number(self) -> int: ...

    @property
    def folder(self) -> Path: ...

    def address(self, index: int = 0) -> str: ...

    def namespace(self, index: int) -> str: ...

    def credential(self, name: str) -> Path: ...

    def spawn(
        self, name: str, command: Sequence[str | Path], namespace: str | None = None
    ) -> None: ...


class RealNode:
    """Node `index` (from 1) of a cluster, made after a Node object."""

    def __init__(self, cluster: NodeOwner, index: int, wanted: Mapping[str, Any]) -> None:
        self._cluster, self._index, self._wanted = cluster, index, wanted
        self.name: str = wanted["metadata"]["name"]
        self.namespace = cluster.namespace(index)
        self.folder = cluster.folder / f"n{index}"
        self._group = f"gsch-lab-{cluster.name}.n{index}"
        self._patched = False

    @property
    def _socket(self) -> Path:
        return self.folder / "cd.sock"

    def link(self) -> dict[str, Any]:
        """The node's entry in the switch's file."""
        address = self._cluster.address(self._index)
        rtt = (self._wanted["metadata"].get("annotations") or {}).get(RTT, "0")
        try:
            delay = float(rtt) / 2
        except ValueError:
            raise LabError(f"node {self.name}: annotation {RTT}: {rtt!r} is no number") from None
        return {
            "name": self.name,
            "namespace": str(host.NAMESPACES / self.namespace),
            "address": f"{address}/32",
            "prefixes": [f"{address}/32", self._pods],
            "delay_ms": delay,
        }

    @property
    def _pods(self) -> str:
        return f"10.{100 + self._cluster.number}.{self._index}.0/24"

    def prepare(self, archives: Sequence[Path]) -> None:
        """Everything but the kubelet: group, configuration, containerd with its images."""
        self.folder.mkdir()
        host.add_cgroup(self._group)
        self._write_cni()
        self._write_containerd()
        config = self.folder / "containerd.toml"
        self._cluster.spawn(
            f"containerd-{self._index}", ["containerd", "-c", config, "-l", "warn"], self.namespace
        )
        if not processes.wait_until(lambda: self._ctr("version"), 20):
            raise LabError(f"containerd of {self.name} did not start")
        for archive in archives:
            if not self._ctr("-n", "k8s.io", "images", "import", str(archive)):
                raise LabError(f"{archive} cannot be imported into {self.name}")

    def _ctr(self, *words: str) -> bool:
        command = ["ctr", "-a", str(self._socket), *words]
        return not subprocess.run(command, capture_output=True, check=False).returncode

    def _write_cni(self) -> None:
        ranges = [[{"subnet": self._pods}]]
        ipam = {"type": "host-local", "dataDir": f"{self.folder}/ipam", "ranges": ranges}
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "mtu": 1500,
            "ipam": {**ipam, "routes": [{"dst": "0.0.0.0/0"}]},
        }
        sysctl = {"net.ipv4.tcp_wmem": host.WINDOW, "net.ipv4.ping_group_range": "0 2147483647"}
        tuning = {"type": "tuning", "sysctl": sysctl}
        plugins = [bridge, tuning, {"type": "loopback"}]
        (self.folder / "cni").mkdir()
        (self.folder / "cni" / "10-lab.conflist").write_text(
            json.dumps({"cniVersion": "0.4.0", "name": self.namespace, "plugins": plugins})
        )

    def _write_containerd(self) -> None:
        (self.folder / "containerd.toml").write_text(
            _CONTAINERD.format(
                folder=self.folder, socket=self._socket, pause=images.PAUSE, cni=host.CNI
            )
        )

    def start_kubelet(self, binary: Path) -> None:
        """Start it with what the Node object offers as allocatable."""
        config = self.folder / "kubelet.yaml"
        config.write_text(json.dumps(self._kubelet()))
        self._cluster.spawn(
            f"kubelet-{self._index}",
            [
                binary,
                f"--config={config}",
                f"--kubeconfig={self._cluster.credential(self.name)}",
                f"--root-dir={self.folder}/kubelet",
                f"--cert-dir={self.folder}/certs",
                f"--hostname-override={self.name}",
                f"--node-ip={self._cluster.address(self._index)}",
            ],
            self.namespace,
        )

    def start_proxy(self, binary: Path) -> None:
        """Have the node's pods reach Services."""
        config = self.folder / "kube-proxy.yaml"
        kubeconfig = self._cluster.credential("kube-proxy")
        pods = f"10.{100 + self._cluster.number}.0.0/16"
        config.write_text(json.dumps(services.proxy_config(kubeconfig, self.name, pods)))
        self._cluster.spawn(
            f"kube-proxy-{self._index}", [binary, f"--config={config}"], self.namespace
        )

    def _kubelet(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "failSwapOn": False,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._group}",
            "cgroupsPerQOS": True,
            "enforceNodeAllocatable": [],
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            # Its port can be reached from the lab's own namespaces and this host alone.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "resolvConf": "",
            "clusterDNS": [services.dns_address(self._cluster.number)],
            "clusterDomain": services.DOMAIN,
            "podLogsDir": f"{self.folder}/podlogs",
            "systemReserved": self._reserved(),
            "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%",
                             "memory.available": "50Mi"},
            "imageGCHighThresholdPercent": 100,
            "nodeStatusUpdateFrequency": "10s",
        }  # fmt: skip

    def _reserved(self) -> dict[str, str]:
        """What to hold back of the machine, so that the node offers what it is to offer."""
        offered = (self._wanted.get("status") or {}).get("allocatable") or {}
        cpus = sum(1 for line in _lines("/proc/cpuinfo") if line.startswith("processor"))
        memory = next(
            int(line.split()[1]) for line in _lines("/proc/meminfo") if "MemTotal" in line
        )
        reserved: dict[str, str] = {}
        if "cpu" in offered:
            reserved["cpu"] = f"{max(cpus * 1000 - milli_value(offered['cpu']), 0)}m"
        if "memory" in offered:
            left = memory * 1024 - value(offered["memory"]) - 50 * 1024 * 1024
            reserved["memory"] = str(max(left, HELD_BACK))
        return reserved

    def patch(self, kubectl: Callable[..., str | None]) -> None:
        """Give the registered Node its labels and taints: kubelets may not set all of them."""
        if self._patched:
            return
        labels = self._wanted["metadata"].get("labels") or {}
        body: dict[str, Any] = {"metadata": {"labels": labels}}
        if labels:
            kubectl("patch", "node", self.name, "--type=merge", "-p", json.dumps(body))
        for taint in (self._wanted.get("spec") or {}).get("taints") or ():
            text = f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
            kubectl("taint", "node", self.name, text, "--overwrite")
        self._patched = True


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


_CONTAINERD = """\
version = 2
root = "{folder}/cd-root"
state = "{folder}/cd-state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{pause}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
"""
