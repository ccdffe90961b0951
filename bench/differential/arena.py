"""A lab cluster on which a world is laid out, and both schedulers are offered its pods in turns."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import msgspec

from bench import schedulers
from bench.differential.worlds import NAMESPACES, PRIORITIES, Json, World
from cluster.api.access import Access
from cluster.api.client import MERGE_PATCH, ApiClient
from cluster.api.reflector import EventType, Reflector
from cluster.objects.core import Pod
from cluster.objects.keys import ObjectKey
from cluster.state.resource_types import RESOURCES
from cluster.state.storage import SELECTED_NODE
from lab.cluster import LabCluster, Options

STOCK, OURS = "stock", "gsch-diff"
GATES = {"TaintTolerationComparisonOperators": True}
ANSWER_WITHIN = 120.0
IN_FLIGHT = 16
NO_PORT = 0

PROFILE: Json = {
    "schedulerName": OURS,
    "plugins": {"multiPoint": {"disabled": [{"name": "LowLatency"}]}},
}


class Refused(Exception):
    """The API server does not take an object of the world: the world is at fault."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The node that a scheduler took, or its message."""

    node: str = ""
    message: str = ""


class Arena:
    """Schedulers (both, or one) on one control plane of their own. An async context manager."""

    def __init__(
        self, name: str, schedulers: Sequence[str] = (STOCK, OURS), controllers: bool = False
    ) -> None:
        self._cluster, self._controllers = LabCluster(name), controllers
        self._schedulers = schedulers
        self._processes = ExitStack()
        self._closing = AsyncExitStack()
        self._pods: dict[str, Pod] = {}
        self._seen = asyncio.Condition()
        self._made: list[str] = []
        self._offers = 0

    async def __aenter__(self) -> "Arena":
        self._cluster.down()
        self._cluster.up(Options(bare=not self._controllers, feature_gates=GATES))
        self._processes.callback(self._cluster.down)
        try:
            await self._start()
        except BaseException:
            self._processes.close()
            raise
        return self

    async def _start(self) -> None:
        if STOCK in self._schedulers:
            gates = ",".join(f"{name}={str(on).lower()}" for name, on in GATES.items())
            profile = {"schedulerName": STOCK, "percentageOfNodesToScore": 100}
            self._processes.enter_context(
                schedulers.run(
                    "kube-scheduler",
                    self._cluster,
                    NO_PORT,
                    [f"--feature-gates={gates}"],
                    profiles=[profile],
                )
            )
        if OURS in self._schedulers:
            self._processes.enter_context(
                schedulers.run("gsch", self._cluster, NO_PORT, profiles=[PROFILE], seed=1)
            )
        client = ApiClient(Access(str(self._cluster.kubeconfig)))
        self._client = await self._closing.enter_async_context(client)
        for name, value in PRIORITIES.items():
            body = {"metadata": {"name": name}, "value": value}
            await self._post("/apis/scheduling.k8s.io/v1/priorityclasses", body)
        for name, labels in NAMESPACES.items():
            await self._post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        if self._controllers:
            for name in NAMESPACES:
                await self._until(f"/api/v1/namespaces/{name}/serviceaccounts", bool)
        reflector = Reflector(self._client, "/api/v1/pods", Pod, self._on_pod)
        watching = asyncio.create_task(reflector.run())
        self._closing.callback(watching.cancel)
        await reflector.synced.wait()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._closing.aclose()
        self._processes.close()

    def _on_pod(self, kind: EventType, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            if old is not None:
                self._pods.pop(old.key, None)
        else:
            self._pods[new.key] = new
        self._notified = asyncio.create_task(self._notify())

    async def _notify(self) -> None:
        async with self._seen:
            self._seen.notify_all()

    # -- the world -------------------------------------------------------------------------

    async def lay_out(self, world: World) -> None:
        """Make the world's objects, and wait until both schedulers see its nodes."""
        await self._make(world.others)
        await self._make(world.nodes)
        if self._controllers:
            await self._until("/api/v1/nodes", lambda nodes: not any(map(_new, nodes)))
            await self._until("/api/v1/persistentvolumes", lambda found: not any(map(_new, found)))
        await self._make(world.placed)
        for scheduler in self._schedulers:
            await self._agree(scheduler, f"0/{len(world.nodes)} nodes are available: ")

    async def clear(self) -> None:
        """Remove everything, and wait until both schedulers know."""
        paths = [f"/api/v1/namespaces/{name}/pods" for name in NAMESPACES]
        await self._delete(paths)
        async with self._seen:
            await self._seen.wait_for(lambda: not self._pods)
        await self._delete(reversed(self._made))
        self._made.clear()
        if self._controllers:
            # Protected until no pod uses them: what is made next may have the same names.
            for name in NAMESPACES:
                await self._until(f"/api/v1/namespaces/{name}/persistentvolumeclaims", _none)
            await self._until("/api/v1/persistentvolumes", _none)
        for scheduler in self._schedulers:
            await self._agree(scheduler, "no nodes available to schedule pods")

    async def _agree(self, scheduler: str, beginning: str) -> None:
        """Ask about a pod that fits nowhere until the answer begins so."""
        probe: Json = {
            "metadata": {"name": "probe", "namespace": "diff-a"},
            "spec": {
                "containers": [
                    {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1M"}}}
                ],
            },
        }
        for _ in range(100):
            verdict = await self.offer(probe, scheduler)
            if verdict.message.startswith(beginning):
                return
        raise TimeoutError(f"{scheduler} says {verdict.message!r}, not {beginning!r}")

    async def _make(self, objects: Iterable[Json]) -> None:
        limit = asyncio.Semaphore(IN_FLIGHT)

        async def make(item: Json) -> None:
            async with limit:
                await self._create(item)

        await asyncio.gather(*map(make, objects))

    async def _create(self, item: Json) -> None:
        path = _collection(item)
        # A node's status counts from the start; of other kinds it has to be written afterwards.
        whole = item["kind"] == "Node"
        made = await self._post(path, {k: v for k, v in item.items() if whole or k != "status"})
        own = f"{path}/{item['metadata']['name']}"
        if item["kind"] != "Pod":
            self._made.append(own)
        if item.get("status") and not whole and made.get("status") != item["status"]:
            reply = await self._client.request(
                "PATCH", f"{own}/status", {"status": item["status"]}, MERGE_PATCH
            )
            if not reply.ok:
                raise Refused(f"{own}/status: {reply.error.message}")

    async def _post(self, path: str, body: Json) -> Any:
        reply = await self._client.request("POST", path, body)
        if not reply.ok:
            raise Refused(f"{path}: {reply.error.message}")
        return msgspec.json.decode(reply.body)

    async def _delete(self, paths: Iterable[str]) -> None:
        limit = asyncio.Semaphore(IN_FLIGHT)

        async def delete(path: str) -> None:
            async with limit:
                body = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
                await self._client.request("DELETE", path, body)

        await asyncio.gather(*map(delete, paths))

    @property
    def present(self) -> set[str]:
        """`namespace/name` of every pod that is there."""
        return set(self._pods)

    # -- one pod ---------------------------------------------------------------------------

    async def offer(self, pod: Json, scheduler: str, node: str = "") -> Verdict:
        """What the scheduler makes of a copy of the pod; the copy is gone afterwards.

        With `node`, the copy may go there only.
        """
        key = await self._create_copy(pod, scheduler, node)
        found = await self._wait_for(key, _answer)
        await self.remove(key)
        return found

    async def offer_until_placed(self, pod: Json, scheduler: str) -> list[Verdict]:
        """As `offer`, but a pod for which room is made is followed to its node; stays there.

        The first verdict, and the node in a second where there is one.
        """
        key = await self._create_copy(pod, scheduler)
        verdicts = [await self._wait_for(key, _answer)]
        if self._pods[key].status.nominated_node_name:
            verdicts.append(await self._wait_for(key, _placed))
        return verdicts

    async def offer_with_claims(self, pod: Json, scheduler: str) -> tuple[str, str]:
        """The node, bound or selected for provisioning, and the message where there is none."""
        key = await self._create_copy(pod, scheduler)
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/persistentvolumeclaims"
        named = {v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"]}
        for _ in range(300):
            found = _answer(self._pods.get(key))
            if found is not None:
                return found.node, found.message
            mine = [c for c in await self._items(path) if c["metadata"]["name"] in named]
            chosen = [(c["metadata"].get("annotations") or {}).get(SELECTED_NODE) for c in mine]
            settled = all(
                c["spec"].get("volumeName") or node for c, node in zip(mine, chosen, strict=True)
            )
            if settled and any(chosen):
                return next(filter(None, chosen)), ""
            await asyncio.sleep(0.1)
        return "", "no answer"

    async def claims(self, namespace: str) -> dict[str, str]:
        """Each claim's volume, empty while it has none."""
        items = await self._items(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")
        return {c["metadata"]["name"]: c["spec"].get("volumeName", "") for c in items}

    async def _items(self, path: str) -> list[Json]:
        found: list[Json] = msgspec.json.decode((await self._client.request("GET", path)).body)[
            "items"
        ]
        return found

    async def _until(self, path: str, holds: Callable[[list[Json]], bool]) -> None:
        async with asyncio.timeout(300):
            while not holds(await self._items(path)):
                await asyncio.sleep(0.05)

    async def _create_copy(self, pod: Json, scheduler: str, node: str = "") -> str:
        self._offers += 1
        meta, spec = dict(pod["metadata"]), dict(pod["spec"])
        meta["name"] = f"{meta['name']}-{self._offers}"
        spec["schedulerName"] = scheduler
        if node:
            spec["affinity"] = _pinned(spec.get("affinity") or {}, node)
        path = f"/api/v1/namespaces/{meta['namespace']}/pods"
        await self._post(path, {"metadata": meta, "spec": spec})
        return f"{meta['namespace']}/{meta['name']}"

    async def _wait_for(self, key: str, answer: Callable[[Pod | None], Verdict | None]) -> Verdict:
        try:
            async with asyncio.timeout(ANSWER_WITHIN), self._seen:
                await self._seen.wait_for(lambda: answer(self._pods.get(key)) is not None)
            return answer(self._pods[key]) or Verdict()
        except TimeoutError:
            return Verdict(message="no answer")

    async def remove(self, key: str) -> None:
        """Delete a pod and see it gone."""
        namespace, name = ObjectKey.parse(key)
        await self._delete([f"/api/v1/namespaces/{namespace}/pods/{name}"])
        async with self._seen:
            await self._seen.wait_for(lambda: key not in self._pods)


def _none(items: list[Json]) -> bool:
    return not items


def _new(item: Json) -> bool:
    """A node that no controller has called ready yet, or a volume that none has looked at."""
    taints = item["spec"].get("taints") or ()
    unready = any(taint["key"] == "node.kubernetes.io/not-ready" for taint in taints)
    return unready or item["status"].get("phase") == "Pending"


def _answer(pod: Pod | None) -> Verdict | None:
    if pod is None:
        return None
    if pod.spec.node_name:
        return Verdict(pod.spec.node_name)
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return Verdict("", condition.message)
    return None


def _placed(pod: Pod | None) -> Verdict | None:
    return Verdict(pod.spec.node_name) if pod is not None and pod.spec.node_name else None


def _pinned(affinity: Json, node: str) -> Json:
    """The affinity with every term narrowed to one node."""
    found = dict(affinity.get("nodeAffinity") or {})
    required = found.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = [
        {**term, "matchFields": [*term.get("matchFields", ()), field]}
        for term in required.get("nodeSelectorTerms") or [{}]
    ]
    found["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    return {**affinity, "nodeAffinity": found}


def _collection(item: Json) -> str:
    kind = item["kind"]
    path = {"Node": "/api/v1/nodes", "Pod": "/api/v1/pods"}.get(kind) or RESOURCES[kind].path
    namespace = item["metadata"].get("namespace")
    if namespace:
        base, _, plural = path.rpartition("/")
        return f"{base}/namespaces/{namespace}/{plural}"
    return path
