"""Connections that are cut, by toxiproxy."""

import subprocess
from pathlib import Path
from typing import Self

import httpx
import yaml

from lab import binaries
from lab.cluster import LabCluster
from tests.harness.kube import wait_for


class Toxiproxy:
    """One proxied address. A context manager."""

    def __init__(self, folder: Path, upstream: str, listen: str = "127.0.0.1:0") -> None:
        binary = binaries.ensure(["toxiproxy"])["toxiproxy"]
        log = folder / f"toxiproxy-{upstream.rpartition(':')[2]}.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(binary), "-host", "127.0.0.1", "-port", "0"], stdout=output, stderr=output
            )
        port = wait_for(lambda: _listening(self._process.pid))
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}")
        body = {"name": "api", "listen": listen, "upstream": upstream, "enabled": True}
        answer = self._http.post("/proxies", json=body)
        assert answer.is_success, answer.text
        self.listen = str(answer.json()["listen"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def enable(self, enabled: bool) -> None:
        """Cut every connection and refuse new ones, or take them again."""
        body = {"enabled": enabled, "listen": self.listen}
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


class Proxy(Toxiproxy):
    """Between a scheduler and the API server."""

    def __init__(self, lab: LabCluster, folder: Path) -> None:
        super().__init__(folder, lab.server().removeprefix("https://"))
        config = yaml.safe_load(lab.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://{self.listen}"
        self.kubeconfig = folder / "proxied.yaml"
        self.kubeconfig.write_text(yaml.safe_dump(config))


def _listening(pid: int) -> int | None:
    """The port on which a process listens, by its sockets in /proc."""
    inodes = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            return int(fields[1].rpartition(":")[2], 16)
    return None
