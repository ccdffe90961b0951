"""`gsch extender` as a process, and plain HTTP requests to it."""

import http.client
import json
from typing import Any

from tests.harness.kube import wait_for
from tests.harness.make import Json
from tests.harness.process import Gsch


class Extender(Gsch):
    """An extender process with its configuration and its log. A context manager."""

    COMMAND = "extender"
    STARTED = SERVING = "serving"

    @property
    def port(self) -> int:
        return int(self.wait_for_log(self.SERVING)[0]["port"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until its caches are in step."""
        super().start()
        wait_for(lambda: self.status("/readyz") == 200)

    def status(self, path: str) -> int:
        try:
            return self.call(path, method="GET")[0]
        except OSError:
            return 0

    def call(
        self, path: str, body: Any = None, method: str = "POST", **headers: str
    ) -> tuple[int, Any]:
        """Status and decoded answer; a body that is no bytes goes out as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        return answer.status, json.loads(text) if text.startswith(("{", "[")) else text


def args(pod: Json, *names: str) -> Json:
    """What kube-scheduler sends to an extender with caches of its own."""
    return {"Pod": pod, "Nodes": None, "NodeNames": list(names)}
