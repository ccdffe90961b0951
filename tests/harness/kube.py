"""A plain, synchronous view of the API server for tests: not gsch's own client."""

import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml

from tests.harness.make import Json

T = TypeVar("T")


class Kube:
    """Requests with the admin's credentials of a lab cluster's kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cafile=cluster["certificate-authority"])
        if "client-certificate" in user:
            context.load_cert_chain(user["client-certificate"], user["client-key"])
        self._headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        transport = httpx.HTTPTransport(verify=context, retries=3)
        self.server: str = cluster["server"]
        self._http = httpx.Client(base_url=self.server, transport=transport, timeout=180)

    def request(self, method: str, path: str, body: Any = None, type_: str = "json") -> Json:
        """The decoded answer; AssertionError with the server's words for a refusal."""
        types = {"json": "application/json", "merge": "application/merge-patch+json"}
        answer = self._http.request(
            method,
            path,
            content=None if body is None else json.dumps(body),
            headers={"content-type": types[type_], **self._headers},
        )
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        found: Json = answer.json() if answer.text.startswith("{") else {"text": answer.text}
        return found

    def create(self, *objects: Json) -> None:
        for body in objects:
            self.request("POST", collection(body), body)

    def get(self, path: str) -> Json:
        return self.request("GET", path)

    def items(self, path: str) -> list[Json]:
        items: list[Json] = []
        token = ""
        while True:
            mark = "&" if "?" in path else "?"
            page = self.get(f"{path}{mark}limit=500&continue={token}")
            items += page["items"]
            token = page["metadata"].get("continue", "")
            if not token:
                return items

    def patch(self, path: str, body: Json) -> Json:
        return self.request("PATCH", path, body, "merge")

    def delete(self, path: str) -> None:
        body = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
        self._http.request("DELETE", path, content=json.dumps(body), headers=self._headers)

    def serves(self, path: str) -> bool:
        """Whether there is such a collection, or object."""
        return self._http.get(path, headers=self._headers).is_success

    def remove(self, body: Json) -> None:
        self.delete(f"{collection(body)}/{body['metadata']['name']}")

    def pod(self, namespace: str, name: str) -> Json:
        return self.get(f"/api/v1/namespaces/{namespace}/pods/{name}")

    def pods(self, namespace: str) -> dict[str, Json]:
        items = self.items(f"/api/v1/namespaces/{namespace}/pods")
        return {pod["metadata"]["name"]: pod for pod in items}

    def events(self, namespace: str, pod: str, reason: str = "") -> list[Json]:
        """events.k8s.io events about the pod, oldest first."""
        items = self.items(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")
        of_pod = [
            event
            for event in items
            if event.get("regarding", {}).get("name") == pod
            and event.get("reason") == (reason or event.get("reason"))
            and event.get("reportingController") != "kwok"
        ]
        return sorted(of_pod, key=lambda event: event["eventTime"] or "")

    def node_of(self, namespace: str, name: str, seconds: float = 120) -> str:
        """The pod's node, once it has one."""
        return str(wait_for(lambda: self.pod(namespace, name)["spec"].get("nodeName"), seconds))

    def refusal(self, namespace: str, name: str, seconds: float = 120) -> Json:
        """The PodScheduled condition, once somebody has written that it is False."""

        def look() -> Json | None:
            conditions = self.pod(namespace, name)["status"].get("conditions", [])
            return next(
                (c for c in conditions if c["type"] == "PodScheduled" and c["status"] == "False"),
                None,
            )

        return wait_for(look, seconds)


def collection(body: Json) -> str:
    """The path under which an object is made."""
    group, kind = body["apiVersion"], body["kind"]
    base = "/api/v1" if group == "v1" else f"/apis/{group}"
    one = kind.lower()
    plural = f"{one[:-1]}ies" if one.endswith("y") else one + ("es" if one.endswith("s") else "s")
    namespace = body["metadata"].get("namespace")
    return f"{base}/namespaces/{namespace}/{plural}" if namespace else f"{base}/{plural}"


def wait_for(look: Callable[[], T | None], seconds: float = 120, pause: float = 0.05) -> T:
    """What `look` returns, once that is true. AssertionError when it takes too long."""
    deadline = time.monotonic() + seconds
    while True:
        result = look()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"still {result!r} after {seconds:g} s")
        time.sleep(pause)


def all_bound(kube: Kube, namespace: str, number: int) -> bool:
    pods = kube.pods(namespace).values()
    return len(pods) == number and all(pod["spec"].get("nodeName") for pod in pods)
