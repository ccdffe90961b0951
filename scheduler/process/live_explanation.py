"""Explanations by a running scheduler, over HTTP."""

from collections.abc import Mapping

import msgspec

from cluster.api.client import ApiClient, ApiError
from cluster.errors import PodRejected
from cluster.state.snapshot import Snapshot
from cluster.state.what_if import without
from scheduler.cycle.framework import Framework
from scheduler.offline import live
from scheduler.offline.explain import CannotExplain, explain_with
from scheduler.queue.nominator import Nominator


class LiveExplanation:
    """Answers from the snapshot that the scheduler decides by, and leaves it as it was."""

    def __init__(
        self,
        client: ApiClient,
        snapshot: Snapshot,
        nominator: Nominator,
        frameworks: Mapping[str, Framework],
    ) -> None:
        self._client, self._snapshot = client, snapshot
        self._nominator, self._frameworks = nominator, frameworks

    async def explain(self, key: str) -> bytes:
        """The Explanation of a pod as JSON, from the cluster as this scheduler sees it.

        Raises CannotExplain, TransportError.
        """
        try:
            pod = await live.pending(self._client, key)
        except ApiError as error:
            raise CannotExplain(str(error)) from error
        framework = self._frameworks.get(pod.spec.scheduler_name)
        if framework is None:
            raise CannotExplain(f"pod {key} is for scheduler {pod.spec.scheduler_name}")
        # From here on without an await: the snapshot is as it was when this returns.
        record = self._snapshot.pods.get(key)
        try:
            with without(self._snapshot, [record] if record is not None else []):
                explanation = explain_with(framework, pod, self._snapshot, self._nominator)
        except PodRejected as error:
            raise CannotExplain(str(error)) from error
        return msgspec.json.encode(explanation)
