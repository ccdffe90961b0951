"""GS's own routes, under `/GEP`: requests by form, the queue of a policy's workers, and what
clusters there are. Off beyond loopback unless `legacy: true`."""

import json
import time
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from sqlalchemy import Connection
from store.transactions import Transactions

from federation import dispatch, gs, nodes, policies, registered_policies, repository, work_queue
from federation.fleet import Fleet
from federation.front.errors import json_response
from federation.front.tokens import Identity
from federation.nodes import NodeState
from federation.platform_services import NoService, PlatformServices
from federation.progress import Effects, Progress
from federation.request import LOW_LATENCY, MOST_REQUESTED, SELECTED, SET, Owner, State
from federation.scaling import WorkerCounts
from federation.submit import BadRequest, Submission

PREFIX = "/GEP/GSCH"
FORMS = {"low": LOW_LATENCY, "most": MOST_REQUESTED, "select": SELECTED[0], "set": SET}
ENDED = {"completed": State.COMPLETED, "failed": State.FAILED, "canceled": State.CANCELED}
NODE_TYPES: dict[str, Callable[[NodeState], bool]] = {
    "master": lambda node: node.master,
    "worker": lambda node: not node.master,
    "gpu": lambda node: node.gpus > 0,
    "cpu": lambda node: node.gpus == 0,
}
TRUE = ("true", "1", "yes", "on", "fast")

Create = Callable[[Identity, Submission, bytes, str | None], Awaitable[str]]
"""Takes a request; its id."""


class LegacyFront:
    """The handlers, beside those of `/api/v1`."""

    def __init__(
        self,
        transactions: Transactions,
        fleet: Fleet,
        progress: Progress,
        create: Create,
        identify: Callable[[web.Request], Identity],
        console_url: str,
        workers: WorkerCounts,
        services: PlatformServices | None,
    ) -> None:
        """`services`: of the layer's own cluster, where there is one."""
        self._transactions, self._fleet, self._progress = transactions, fleet, progress
        self._create, self._identify = create, identify
        self._console_url, self._workers = console_url.rstrip("/"), workers
        self._services = services

    def add_to(self, routes: web.UrlDispatcher) -> None:
        for method in ("GET", "POST"):
            routes.add_route(method, f"{PREFIX}/page/{{form}}", self.page)
        routes.add_post(f"{PREFIX}/test/{{form}}", self.submit)
        routes.add_get(f"{PREFIX}/policyNameList", self.policies)
        sizes = f"{PREFIX}/policys/{{policy}}/replicas"
        for path in (sizes, f"{sizes}/{{replicas}}"):
            routes.add_put(path, self.scale)
        routes.add_get(sizes, self.scale)
        for queue in ("dispatched-queue", "dispatchedqueue"):
            routes.add_get(f"{PREFIX}/{queue}/policies/{{policy}}", self.take)
        status = "/dispatched-queue/request_jobs/{id}/status"
        routes.add_put(f"{PREFIX}{status}/{{status}}", self.set_status)
        routes.add_get(f"{PREFIX}{status}", self.status)
        older = f"{PREFIX}/dispatchedqueue/requestjobs/{{id}}/status"
        routes.add_put(older, self.set_status)
        routes.add_get(older, self.status)
        routes.add_get("/GEP/INFO/clusters", self.clusters)
        routes.add_get("/GEP/INFO/clusters/{cluster}", self.clusters)
        routes.add_get("/GEP/INFO/clusters/{cluster}/nodes", self.nodes)
        routes.add_get("/GEP/INFO/clusters/{cluster}/nodes/{node}", self.nodes)
        service = "/platformServices/namespaces/{namespace}/services/{service}"
        for path in (service, f"/GEP/INFO{service}"):
            routes.add_get(path, self.service)

    # -- requests --------------------------------------------------------------------------

    async def page(self, http: web.Request) -> web.StreamResponse:
        """The job page is the console's."""
        form = http.match_info["form"]
        if form not in FORMS:
            raise web.HTTPNotFound(reason=f"there is no page {form!r}: one of {', '.join(FORMS)}")
        if not self._console_url:
            raise web.HTTPNotFound(
                reason="the page is the console's: set consoleUrl, and run `gsch console`"
            )
        raise web.HTTPSeeOther(f"{self._console_url}/jobs/new?policy={FORMS[form]}")

    async def submit(self, http: web.Request) -> web.StreamResponse:
        """Multipart: `yaml_file` and what goes with it."""
        form = http.match_info["form"]
        if form not in FORMS:
            raise web.HTTPNotFound(reason=f"there is no form {form!r}: one of {', '.join(FORMS)}")
        given = await http.post()

        def text(name: str) -> str:
            value = given.get(name, "")
            return value.strip() if isinstance(value, str) else ""

        yaml = given.get("yaml_file", "")
        raw = yaml.file.read() if isinstance(yaml, web.FileField) else str(yaml).encode()
        try:
            content = raw.decode()
        except UnicodeDecodeError as error:
            raise BadRequest(f"yaml_file: no UTF-8: {error}") from error
        if not content.strip():
            raise BadRequest("yaml_file: is missing or empty")
        submission = Submission(
            yaml=content,
            policy=FORMS[form],
            clusters=gs.clusters_of_text(text("select_clusters")),
            mode=text("mode") or "default",
            source_cluster=text("source_cluster"),
            source_node="" if text("mode") == "frompod" else text("source_node"),
            source_pod=_pod(text("pod_name")) if text("mode") != "fromnode" else "",
            node=text("select_node") if text("mode") == "node" else "",
            fast=text("fast_option").lower() in TRUE,
            callback_url=text("callback_url"),
        )
        who = self._identify(http)
        owner = Owner(
            text("user_name") or who.owner.user, text("workspace_name"), text("project_name")
        )
        if who.named:
            # A token says who it is, not a form.
            owner = who.owner
        body = msgspec.json.encode(submission)
        made = await self._create(Identity(owner, named=who.named), submission, body, None)
        return json_response({"result": f"request_id:{made}"})

    # -- workers that are not ours ---------------------------------------------------------

    async def take(self, http: web.Request) -> web.StreamResponse:
        """The policy's next dispatched request, as JSON text within a JSON text."""
        self._identify(http)
        policy = http.match_info["policy"]
        job = ""

        def work(connection: Connection) -> Effects:
            nonlocal job
            # A work may run twice, and only the last time counts.
            job = ""
            now = time.time()
            if policy not in policies.names():
                registered_policies.check_registered(connection, policy)
            work_queue.ask_externally(connection, policy, now)
            work_queue.dispatch_round(connection, now, 1, 50)
            for request_id in work_queue.take_dispatched(connection, [policy], 1):
                effects = self._progress.move_on(connection, request_id, dispatch.begin_external)
                case = repository.case(connection, request_id)
                if case is not None:
                    job = json.dumps(gs.job(case.request))
                return effects
            return Effects()

        await self._progress.run(work)
        if not job:
            raise web.HTTPInternalServerError(reason=f"no request of {policy} is dispatched")
        return json_response(job)

    async def set_status(self, http: web.Request) -> web.StreamResponse:
        self._identify(http)
        name = http.match_info.get("status") or http.query.get("changed_status", "")
        if name not in ENDED:
            raise BadRequest(f"status: {name!r} is none of {', '.join(ENDED)}")
        ended, request_id = ENDED[name], http.match_info["id"]
        limits = self._progress.limits
        changed = await self._progress.change(
            request_id, lambda case, now: dispatch.end_external(case, ended, now, limits)
        )
        state = await self._state(request_id)
        if not changed.changed and state != ended:
            raise web.HTTPConflict(
                reason=f"the request is {state}: no worker outside the layer has it"
            )
        return json_response({"result": name})

    async def status(self, http: web.Request) -> web.StreamResponse:
        self._identify(http)
        return json_response({"result": await self._state(http.match_info["id"])})

    async def _state(self, request_id: str) -> State:
        state = await self._transactions.run(lambda c: repository.state(c, request_id))
        if state is None:
            raise web.HTTPNotFound(reason="there is no such request")
        return state

    # -- policies and clusters -------------------------------------------------------------

    async def policies(self, http: web.Request) -> web.StreamResponse:
        self._identify(http)
        registered = await self._transactions.run(registered_policies.registered_names)
        return json_response({"result": [*policies.names(), *registered]})

    async def scale(self, http: web.Request) -> web.StreamResponse:
        """`replicas` in the path, or `replicas_size` as a parameter, whatever the verb."""
        who, policy = self._identify(http), http.match_info["policy"]
        text = http.match_info.get("replicas") or http.query.get("replicas_size", "")
        if not text.isascii() or not text.isdigit():
            raise BadRequest(f"replicas_size: a number is expected, not {text[:40]!r}")
        await self._workers.fix(policy, int(text[:9]), admin=who.admin)
        return json_response({"result": "success"})

    async def clusters(self, http: web.Request) -> web.StreamResponse:
        """One cluster, or all of them."""
        self._identify(http)
        now = time.time()
        name = self._cluster(http) if "cluster" in http.match_info else None
        entries = []
        for one in [name] if name is not None else sorted(self._fleet.clusters):
            report = self._fleet.clusters[one].report
            entries.append(
                {
                    "cluster_name": one,
                    "cluster_type": report.location,
                    "status": "lost" if self._fleet.lost(one, now) else "ready",
                    "node_count": sum(shape.count for shape in report.shapes),
                }
            )
        return json_response({"result": entries[0] if name is not None else entries})

    async def nodes(self, http: web.Request) -> web.StreamResponse:
        """A cluster's nodes, those of one type, or one of them."""
        self._identify(http)
        cluster, wanted = self._cluster(http), http.query.get("nodetype", "")
        if wanted and wanted not in NODE_TYPES:
            raise BadRequest(f"nodetype: {wanted[:40]!r} is none of {', '.join(NODE_TYPES)}")
        body = await self._transactions.run(lambda c: nodes.of_cluster(c, cluster))
        entries = [gs.node(one) for one in body.nodes if not wanted or NODE_TYPES[wanted](one)]
        if "node" not in http.match_info:
            return json_response({"result": entries})
        name = http.match_info["node"]
        for entry in entries:
            if entry["node_name"] == name:
                return json_response({"result": entry})
        raise web.HTTPNotFound(reason=f"there is no node {name[:80]!r} in cluster {cluster}")

    async def service(self, http: web.Request) -> web.StreamResponse:
        """Address and port of a Service of the cluster in which the layer runs."""
        self._identify(http)
        if self._services is None:
            raise NoService("the layer knows no cluster of its own: set scaling.kubeconfig")
        match = http.match_info
        return json_response(
            {"result": await self._services.read(match["namespace"], match["service"])}
        )

    def _cluster(self, http: web.Request) -> str:
        name = http.match_info["cluster"]
        if name not in self._fleet.clusters:
            raise web.HTTPNotFound(reason=f"there is no cluster {name[:80]!r}")
        return name


def _pod(name: str) -> str:
    """A pod by name is one of the default namespace."""
    return f"default/{name}" if name and "/" not in name else name
