"""What an agent is configured with: measured times decide, and what cannot be is named."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from lab.measure import PrometheusProcess, free_port
from tests.harness.kube import wait_for
from tests.harness.layer import Layer, Member, clear, pod
from tests.harness.process import ROOT

pytestmark = [pytest.mark.lab, pytest.mark.needs("prometheus")]


@contextmanager
def latency_agent(folder: Path) -> Iterator[str]:
    """A latency agent of c1 that measures c2; where Prometheus finds it."""
    peers = [{"name": "gate", "address": "127.0.0.3", "cluster": "c2"}]
    (folder / "peers.yaml").write_text(json.dumps(peers))
    port = free_port()
    command = [sys.executable, "-m", "gsch", "agent", "--node", "here", "--cluster", "c1",
               "--peers", str(folder / "peers.yaml"), "--interval", "0.3",
               "--port", str(port)]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def test_the_measured_time_stands_in_the_record_and_not_the_configured_one(
    clusters: list[Member], tmp_path: Path
) -> None:
    with (
        latency_agent(tmp_path) as target,
        PrometheusProcess(tmp_path / "p", [target], "1s") as server,
    ):
        latency = {"prometheus": {"url": server.url}, "intervalSeconds": 1}
        own = {"latency": latency, "rttsMs": {"c2": 250.0}}
        first = replace(clusters[0], settings=own)
        with Layer(tmp_path, [first, clusters[1]]) as layer:

            def measured() -> float | None:
                rows = {row["name"]: row for row in layer.ok("GET", "/clusters")["items"]}
                ms = rows["c1"]["rttsMs"]["c2"]
                return ms if ms < 250.0 else None

            ms = wait_for(measured)
            record = layer.ended(
                layer.submit(pod("near"), "GLowLatencyPriority", sourceCluster="c1",
                             clusters=["c2"])
            )  # fmt: skip
            assert record["state"] == "completed"
            (attempt,) = record["attempts"]
            assert 0 < attempt["rttMs"] < 50.0
            assert 0 < ms < 50.0
    clear(clusters)


def refused(tmp_path: Path, clusters: list[Member]) -> str:
    """What the layer logs that does not start: a message, and no trace."""
    layer = Layer(tmp_path, clusters, wait=False)
    layer.launch()
    assert layer.process.wait(60) == 1
    log = layer.log.read_text()
    assert "Traceback" not in log
    return log


def test_a_latency_setting_that_does_not_hold_is_named(
    clusters: list[Member], tmp_path: Path
) -> None:
    latency = {"prometheus": {"url": "ftp://server"}}
    log = refused(tmp_path, [replace(clusters[0], settings={"latency": latency})])
    assert "clusters: c1: latency.prometheus.url: http:// or https://" in log


def test_a_latency_file_that_is_not_there_is_named_with_its_cluster(
    clusters: list[Member], tmp_path: Path
) -> None:
    missing = {"latency": {"file": str(tmp_path / "none.yaml")}}
    log = refused(tmp_path, [clusters[0], replace(clusters[1], settings=missing)])
    assert "cluster c2" in log
    assert "none.yaml: No such file or directory" in log


def test_a_kubelet_port_that_is_taken_is_named_with_its_cluster(
    clusters: list[Member], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        kubelet = {"kubelet": {"address": "127.0.0.1", "port": taken.getsockname()[1]}}
        log = refused(tmp_path, [replace(clusters[0], settings=kubelet)])
    assert "cluster c1" in log
    assert "address already in use" in log
