"""Carries attempts out in one cluster, and undoes them: once each, however often it is told."""

import asyncio

import msgspec
import structlog

from federation.agent.contact import Contact
from federation.agent.files import FileMissing, Files
from federation.agent.objects import ObjectRefused, Objects
from federation.agent.orders import Orders
from federation.agent.pods import RequestPods
from federation.agent.rewrite import Target, rewrite
from federation.agent.room import Room
from federation.agent.works import (
    CLUSTER_LOST_LABEL,
    REVOKED,
    STOPPED,
    Reference,
    Work,
    WorkConflict,
    WorkMeta,
    WorkResult,
    Works,
    WorkSpec,
)
from federation.documents import FORWARDED_FROM, BadDocument, Document
from federation.forwarding.local_pods import LocalPods, Proxy, own_proxy
from federation.request import ClusterLost
from federation.wire import ApplyBody, AskBody, ResultBody, RevokeBody

log = structlog.get_logger(__name__)

DELETION_TIMEOUT_S = 60.0
"""Seconds within which the pods of a revoked attempt have to be gone; told again after that."""
SUCCESS, FAIL = "success", "fail"


class Carrier:
    """One cluster's hands."""

    def __init__(
        self,
        target: Target,
        files: Files,
        works: Works,
        objects: Objects,
        pods: RequestPods,
        room: Room,
        contact: Contact,
        local_pods: LocalPods,
    ) -> None:
        self._local_pods = local_pods
        self._target, self._files = target, files
        self._works, self._objects, self._pods, self._room = works, objects, pods, room
        self._contact, self._orders = contact, Orders()

    # -- asking ----------------------------------------------------------------------------

    async def ask(self, order: AskBody) -> ResultBody:
        """Whether the request fits; the room is held for it."""
        try:
            documents = rewrite(await self._files.read(order.file_id), order, self._target)
        except (BadDocument, FileMissing) as error:
            return ResultBody(status=FAIL, error_msg=str(error))
        result = self._room.ask(
            order.request_id, order.attempt, documents, mode=order.mode, partial=order.partial
        )
        return msgspec.structs.replace(result, cluster_name=self._target.cluster)

    # -- applying --------------------------------------------------------------------------

    async def apply(self, order: ApplyBody) -> ResultBody:
        """Carry an attempt out, or say again how it ended."""
        async with self._orders.of(order.request_id):
            if order.cluster_lost == ClusterLost.STOP_AND_MOVE:
                # The order may have been on its way while another copy was started.
                await self._contact.confirm()
            if self._orders.revoked(order.request_id, order.attempt):
                return _refused(f"attempt {order.attempt} was revoked")
            try:
                documents = rewrite(await self._files.read(order.file_id), order, self._target)
            except (BadDocument, FileMissing) as error:
                return _refused(str(error))
            # Almost always there is none yet.
            own = own_proxy(documents, self._target.cluster, order.namespace)
            work = await self._works.create(_planned(order, [] if own else documents, None))
            if work is None:
                work = await self._works.get(order.request_id)
                if work is None:
                    raise WorkConflict(f"Work {order.request_id} went meanwhile")
                answer = self._answer_from(work, order)
                if answer is not None:
                    return answer
                if work.spec.attempt < order.attempt and work.spec.state != REVOKED:
                    work = await self._remove_objects(work, keep_claims=True)
                work = await self._works.put(_planned(order, [] if own else documents, work))
            if own is not None:
                result = await self._leave_here(order, own)
            else:
                result = await self._carry_out(order, documents, work)
            # Held room is real pods by now, or nothing.
            self._room.release(order.request_id)
            work.spec.result = result
            return self._result(await self._works.put(work))

    def _answer_from(self, work: Work, order: ApplyBody) -> ResultBody | None:
        """What the Work says of this attempt already."""
        if order.attempt < work.spec.attempt:
            return _refused(f"attempt {order.attempt} is over: {work.spec.attempt} is in force")
        if order.attempt == work.spec.attempt:
            if work.spec.state == REVOKED:
                return _refused(f"attempt {order.attempt} was revoked")
            if work.finished:
                return self._result(work)
        return None

    async def _carry_out(
        self, order: ApplyBody, documents: list[Document], work: Work
    ) -> WorkResult:
        try:
            for index, document in enumerate(documents):
                reference = await self._objects.apply(document.body, order.request_id)
                work.spec.objects[index] = reference
        except ObjectRefused as error:
            return WorkResult(FAIL, str(error))
        return await self._scheduled(
            order, sum(d.replicas for d in documents if d.template is not None)
        )

    async def _leave_here(self, order: ApplyBody, proxy: Proxy) -> WorkResult:
        """The pod is one of this cluster's own: nothing is made, its scheduler may bind it now."""
        left = await self._local_pods.leave(proxy, order.request_id)
        if left:
            return WorkResult(FAIL, left)
        result = await self._scheduled(order, 1)
        if result.status == SUCCESS:
            return result
        node = await self._local_pods.take_back(proxy)
        # It may have been bound at the very end: then it runs here, and nowhere else.
        return WorkResult(SUCCESS, node=node) if node else result

    async def _scheduled(self, order: ApplyBody, expected: int) -> WorkResult:
        """Whether so many pods of the request get a node in time."""
        revoked = await self._orders.unless_revoked(
            order.request_id,
            order.attempt,
            self._pods.wait_until_scheduled(order.request_id, expected),
            order.accept_within_s,
        )
        if revoked:
            return WorkResult(FAIL, f"attempt {order.attempt} was revoked")
        if len(self._pods.scheduled(order.request_id)) < expected:
            there = len(self._pods.scheduled(order.request_id))
            why = self._pods.problem(order.request_id) or "no scheduler took them"
            return WorkResult(
                FAIL,
                f"{there} of {expected} pods were scheduled within {order.accept_within_s:g} s: "
                f"{why}",
            )
        nodes = list(self._pods.scheduled(order.request_id).values())
        return WorkResult(SUCCESS, node=nodes[0] if nodes else "")

    def _result(self, work: Work) -> ResultBody:
        result = work.spec.result
        return ResultBody(
            status=result.status,
            error_msg=result.message,
            cluster_name=self._target.cluster,
            node_name=result.node,
        )

    # -- undoing ---------------------------------------------------------------------------

    async def revoke(self, order: RevokeBody) -> ResultBody:
        """Undo an attempt for good. Raises GschError or TimeoutError where something is left: it
        has to be told again."""
        # Said before anything is awaited, so that what carries the attempt out stops.
        with self._orders.revoking(order.request_id, order.attempt):
            async with self._orders.of(order.request_id):
                return await self._revoke(order)

    async def _revoke(self, order: RevokeBody) -> ResultBody:
        self._room.release(order.request_id, None if order.close else order.attempt)
        if order.close:
            await self._works.remove(order.request_id)
            self._pods.forget(order.request_id)
            return ResultBody(cluster_name=self._target.cluster)
        if not order.held_only:
            work = await self._works.get(order.request_id)
            if work is None:
                spec = WorkSpec(order.attempt, REVOKED)
                await self._works.put(Work(WorkMeta(order.request_id), spec))
            elif work.spec.attempt <= order.attempt:
                work.spec.attempt = order.attempt
                await self._remove_objects(work, order.keep_claims)
        return ResultBody(cluster_name=self._target.cluster)

    async def stop(self, request_id: str, attempt: int) -> None:
        """The layer is out of reach, and may start the request elsewhere: remove the copy, and
        remember that this was nobody's order."""
        with self._orders.revoking(request_id, attempt):
            async with self._orders.of(request_id):
                work = await self._works.get(request_id)
                if work is None or work.spec.attempt != attempt:
                    return
                if work.spec.state != REVOKED:
                    work.spec.state, work.spec.result = REVOKED, WorkResult(STOPPED)
                    work = await self._works.put(work)
                await self._remove_objects(work, keep_claims=True)

    async def _remove_objects(self, work: Work, keep_claims: bool) -> Work:
        """Leave a tombstone. Revoked is said first: what comes of the attempt meanwhile is refused;
        the references go last: what failed half-way is done again."""
        request_id = work.metadata.name
        if work.spec.state != REVOKED:
            work.spec.state = REVOKED
            work = await self._works.put(work)
        for reference in reversed(work.spec.objects):
            await self._objects.remove(reference, request_id, keep_claims)
        async with asyncio.timeout(DELETION_TIMEOUT_S):
            await self._pods.wait_for_deletion(request_id)
        if work.spec.objects:
            work.spec.objects = []
            work = await self._works.put(work)
        self._pods.forget(request_id)
        return work


def _planned(order: ApplyBody, documents: list[Document], before: Work | None) -> Work:
    """What is about to be applied, by reference, before any of it is."""
    references = [
        Reference(
            d.body["apiVersion"],
            d.kind,
            d.body["metadata"]["name"],
            d.body["metadata"]["namespace"],
        )
        for d in documents
    ]
    spec = WorkSpec(
        order.attempt,
        namespace=order.namespace,
        cluster_lost=order.cluster_lost,
        objects=references,
    )
    if before is not None and before.spec.attempt == order.attempt:
        uids = {(r.kind, r.name): r.uid for r in before.spec.objects}
        for reference in references:
            reference.uid = uids.get((reference.kind, reference.name), "")
    metadata = before.metadata if before is not None else WorkMeta(order.request_id)
    metadata.labels = {CLUSTER_LOST_LABEL: order.cluster_lost, **_forwarded_from(documents)}
    return Work(metadata, spec)


def _forwarded_from(documents: list[Document]) -> dict[str, str]:
    """The label of a request that stands for another cluster's pod."""
    for document in documents:
        source = (document.body["metadata"].get("labels") or {}).get(FORWARDED_FROM)
        if source:
            return {FORWARDED_FROM: str(source)}
    return {}


def _refused(message: str) -> ResultBody:
    return ResultBody(status=FAIL, error_msg=message)
