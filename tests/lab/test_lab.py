"""The lab leaves nothing behind, whatever happens to it."""

import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import yaml

from lab import binaries, processes
from lab.binaries import LabError
from lab.cluster import LabCluster
from lab.clusters import clusters
from lab.nodes import wanted
from tests.harness.kube import Kube, wait_for
from tests.harness.process import ROOT, gsch

NODES = ROOT / "examples" / "cluster" / "nodes.yaml"


@pytest.fixture
def name() -> str:
    return f"lab-{uuid.uuid4().hex[:6]}"


def nothing_left(cluster: LabCluster, port: int | None = None) -> bool:
    open_ports = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            open_ports.add(int(fields[1].rpartition(":")[2], 16))
    return (
        not cluster.folder.exists()
        and not processes.of_folder(cluster.folder)
        and port not in open_ports
    )


@pytest.mark.lab
def test_up_list_env_and_down(name: str) -> None:
    cluster = LabCluster(name)
    answer = gsch("lab", "up", name, "--nodes", "14", "--node-file", str(NODES))
    try:
        assert answer.returncode == 0, answer.stderr
        line = gsch("lab", "env", name).stdout.strip()
        assert answer.stdout.strip() == line == f"export KUBECONFIG={cluster.kubeconfig}"
        nodes = Kube(cluster.kubeconfig).items("/api/v1/nodes")
        assert len(nodes) == 14
        assert {"edge-gpu-1", "core-db", "node-0", "node-1"} < {
            n["metadata"]["name"] for n in nodes
        }
        assert [n["metadata"]["name"] for n in nodes if n["spec"].get("unschedulable")] == [
            "edge-b-3"
        ]
        listed = gsch("lab", "list").stdout
        assert name in listed
        assert "kube-apiserver" in listed
        # Others' clusters are in the list too, and may have one.
        assert "kube-scheduler" not in cluster.running()
        again = gsch("lab", "up", name)
        assert again.returncode == 1
        assert "is there already" in again.stderr
        port = int(cluster.server().rpartition(":")[2])
    finally:
        assert gsch("lab", "down", name).returncode == 0
    assert nothing_left(cluster, port)
    assert name not in gsch("lab", "list").stdout
    assert gsch("lab", "down", name).stdout == f"{name}: was not there\n"


@pytest.mark.lab
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_takes_away_what_it_began(name: str, number: signal.Signals) -> None:
    cluster = LabCluster(name)
    # Where the tests run in the background, SIGINT is ignored, and children would ignore it too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "gsch", "lab", "up", name, "--nodes", "3"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    wait_for(lambda: processes.of_folder(cluster.folder), pause=0.01)
    process.send_signal(number)
    assert process.wait(30) != 0
    assert nothing_left(cluster)


@pytest.mark.lab
def test_what_a_crash_leaves_is_listed_and_goes_with_down(name: str) -> None:
    cluster = LabCluster(name)
    process = subprocess.Popen(
        [sys.executable, "-m", "gsch", "lab", "up", name],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: "etcd" in cluster.running(), pause=0.01)
    process.kill()
    process.wait()
    try:
        assert name in [found.name for found in clusters()]
    finally:
        # kwokctl itself was left running and may start more while it is being cleaned away.
        wait_for(lambda: gsch("lab", "down", name).returncode == 0 and nothing_left(cluster))


@pytest.mark.parametrize("name", ["", "UPPER", "a/b", "../x", "x" * 50, "-x"])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(LabError):
        LabCluster(name)


def test_nodes_of_a_file_are_filled_up_with_plain_ones() -> None:
    assert len(wanted(None, NODES)) == 12
    assert [n["metadata"]["name"] for n in wanted(14, NODES)][-2:] == ["node-0", "node-1"]
    assert len(wanted(3, None)) == 3
    with pytest.raises(LabError, match="has 12 nodes"):
        wanted(5, NODES)


def test_without_go_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LabError) as caught:
        binaries.check_go()
    for words in ("Go 1.26", "GSCH_LAB_BIN", "gsch simulate -f examples/"):
        assert words in str(caught.value)


@pytest.mark.parametrize("variable", ["GSCH_LAB_BIN", "KUBEBUILDER_ASSETS"])
def test_binaries_at_hand_are_used(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "etcd"
    binary.write_text("#!/bin/sh\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(variable, str(tmp_path))
    assert binaries.locate("etcd") is None
    binary.chmod(0o755)
    assert binaries.locate("etcd") == binary
    assert binaries.locate("kube-apiserver") is None


def test_the_cache_is_keyed_by_the_pins() -> None:
    folders = {binaries.cache(module) for module in ("kubernetes", "etcd", "kwok", "toxiproxy")}
    assert len(folders) == 4
    assert all(folder.parent.name == "lab" for folder in folders)


def test_the_examples_name_their_expectations() -> None:
    count = 0
    for path in sorted((ROOT / "examples" / "pods").glob("*.yaml")):
        for pod in yaml.safe_load_all(path.read_text()):
            assert pod["metadata"]["annotations"]["gsch.io/expect"]
            count += 1
    assert count >= 10
