"""`gsch demo` without Go, and on a control plane."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.process import ROOT


def demo(*options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "gsch", "demo", *options],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "300", **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_without_go_the_core_decides_the_examples_and_says_what_would_show_more(
    tmp_path: Path,
) -> None:
    nothing = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "GSCH_LAB_BIN": ""}
    done = demo(**nothing, KUBEBUILDER_ASSETS="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pods ended as expected" in done.stdout
    assert "placed jointly" in done.stdout
    assert "with Go" in done.stdout


@pytest.mark.lab
def test_the_demo_ends_as_its_examples_promise(tmp_path: Path) -> None:
    done = demo(XDG_STATE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("pods ended as expected") == 2
    assert "3 Insufficient nvidia.com/gpu" in done.stdout
    assert "all requests ended as expected" in done.stdout
    assert "forwarded pod camera: made in c1, where it is Running on gsch-c2" in done.stdout
    assert list((tmp_path / "gsch" / "lab" / "clusters").iterdir()) == []


@pytest.mark.lab
@pytest.mark.needs("servers")
def test_the_scene_of_five_clusters_ends_as_its_examples_promise(tmp_path: Path) -> None:
    done = demo("--global", XDG_STATE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("all requests ended as expected") == 2
    assert list((tmp_path / "gsch" / "lab" / "clusters").iterdir()) == []
    assert not [
        path for path in (tmp_path / "gsch" / "lab" / "backing").rglob("*") if path.is_file()
    ]
