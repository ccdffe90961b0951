"""Connections that are cut: toxiproxy before a lab cluster's API server."""

import subprocess
from pathlib import Path

import httpx
import yaml

from lab import binaries
from lab.cluster import LabCluster
from tests.harness.kube import wait_for


class Proxy:
    """toxiproxy between a scheduler and the API server."""

    def __init__(self, lab: LabCluster, folder: Path) -> None:
        binary = binaries.ensure(["toxiproxy"])["toxiproxy"]
        log = folder / "toxiproxy.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(binary), "-host", "127.0.0.1", "-port", "0"], stdout=output, stderr=output
            )
        port = wait_for(lambda: _listening(self._process.pid))
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}")
        upstream = lab.server().removeprefix("https://")
        body = {"name": "api", "listen": "127.0.0.1:0", "upstream": upstream, "enabled": True}
        answer = self._http.post("/proxies", json=body)
        assert answer.is_success, answer.text
        self._listen = answer.json()["listen"]
        config = yaml.safe_load(lab.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://{self._listen}"
        self.kubeconfig = folder / "proxied.yaml"
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def enable(self, enabled: bool) -> None:
        """Cut every connection and refuse new ones, or take them again."""
        body = {"enabled": enabled, "listen": self._listen}
        assert self._http.post("/proxies/api", json=body).is_success

    def toxic(self, kind: str, stream: str, **attributes: int) -> None:
        body = {"name": kind, "type": kind, "stream": stream, "attributes": attributes}
        answer = self._http.post("/proxies/api/toxics", json=body)
        assert answer.is_success, answer.text

    def heal(self) -> None:
        for toxic in self._http.get("/proxies/api/toxics").json():
            self._http.delete(f"/proxies/api/toxics/{toxic['name']}")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._http.close()


def _listening(pid: int) -> int | None:
    """The port on which a process listens, by its sockets in /proc."""
    inodes = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            return int(fields[1].rpartition(":")[2], 16)
    return None
