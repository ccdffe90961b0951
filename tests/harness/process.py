"""`gsch run` as a process, as its users run it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.harness.kube import wait_for
from tests.harness.make import Json

ROOT = Path(__file__).resolve().parents[2]


class Gsch:
    """A scheduler process with its configuration and its log. A context manager."""

    COMMAND = "run"
    STARTED = "scheduling"
    SERVING = "serving"

    def __init__(self, folder: Path, kubeconfig: Path, name: str = "gsch", **config: Any) -> None:
        self.folder, self.kubeconfig = folder, kubeconfig
        self.config = folder / f"{name}.yaml"
        self.log = folder / f"{name}.log"
        self.configure(**config)
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self.profile = ""
        self.plugins: Path | None = None
        """A folder with out-of-tree plugins, as an installed package would bring them."""

    def configure(self, **config: Any) -> None:
        """Write the configuration file: the default but for these fields."""
        base: dict[str, Any] = {
            "apiVersion": "config.gsch.io/v1alpha1",
            "kind": "GschConfiguration",
            "leaderElection": {"leaderElect": False},
            "server": {"port": 0},
            "seed": 1,
        }
        self.config.write_text(yaml.safe_dump(base | config))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def launch(self) -> None:
        """Start the process without waiting for it to do anything."""
        self._starts += 1
        self.log = self.log.with_suffix(f".{self._starts}.log")
        command = [sys.executable, "-m", "gsch", self.COMMAND, "--config", str(self.config)]
        command += ["--kubeconfig", str(self.kubeconfig)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, env=self._environment()
            )

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, "KUBECONFIG": ""}
        if self.plugins is not None:
            environment["PYTHONPATH"] = f"{self.plugins}:{environment.get('PYTHONPATH', '')}"
        return environment

    def start(self) -> None:
        """Start, and wait until it does its work."""
        self.launch()
        self.wait_for_log(self.STARTED)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log's entries of this event."""
        entries = []
        for line in self.log.read_text().splitlines():
            if line.startswith("{"):
                entry = json.loads(line)
                if entry["event"] == event:
                    entries.append(entry)
        return entries

    def wait_for_log(self, event: str, seconds: float = 30) -> list[dict[str, Any]]:
        def look() -> list[dict[str, Any]]:
            if self.process.poll() is not None and not self.lines(event):
                raise AssertionError(f"ended with {self.process.returncode}: {self.text()}")
            return self.lines(event)

        return wait_for(look, seconds)

    def text(self) -> str:
        return self.log.read_text()[-3000:]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(40)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def get(self, path: str) -> str:
        """The body of a page of its HTTP server."""
        port = self.wait_for_log(self.SERVING)[0]["port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as reply:
            body: bytes = reply.read()
        return body.decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of a metric that carry these labels."""
        total = 0.0
        for line in self.get("/metrics").splitlines():
            match = re.fullmatch(rf"{name}(\{{.*\}})? (\S+)", line)
            if match and all(f'{k}="{v}"' in (match[1] or "") for k, v in labels.items()):
                total += float(match[2])
        return total


def gsch(*arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A `gsch` command, run to its end."""
    environment = {**os.environ, "COLUMNS": "160"}
    if kubeconfig:
        environment["KUBECONFIG"] = str(kubeconfig)
    return subprocess.run(
        [sys.executable, "-m", "gsch", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def alive(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the process is still there after so many seconds of trying to see it end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        time.sleep(0.05)
    return True


def name_of_profile() -> str:
    """A schedulerName that no other test's scheduler answers to."""
    return f"s-{uuid.uuid4().hex[:8]}"


def profiles(name: str) -> Json:
    return {"profiles": [{"schedulerName": name}]}
