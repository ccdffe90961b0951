"""A pod that is to be forwarded, and what it asks of the global layer."""

from cluster.errors import PodRejected
from cluster.objects.core import AnnotatedMeta, Labels, Pod
from federation.forwarding.pod_documents import FINALIZER, Origin
from federation.request import LOW_LATENCY, POLICIES
from federation.submit import Submission
from scheduler.config import gschconfig
from scheduler.config.gschconfig import GschConfig

REQUEST = "gsch.io/request-id"
"""Annotation of a proxy: the id of its request."""
TRY = "gsch.io/request-number"
"""Annotation of a proxy: which try its request is."""


class ProxyMeta(AnnotatedMeta, frozen=True):
    finalizers: list[str] | None = None


class ProxyPod(Pod, frozen=True):
    """A pod of a namespace from which pods may be forwarded."""

    metadata: ProxyMeta

    @property
    def path(self) -> str:
        meta = self.metadata
        return f"/api/v1/namespaces/{meta.namespace}/pods/{meta.name}"

    @property
    def annotations(self) -> Labels:
        return self.metadata.annotations or {}

    @property
    def managed(self) -> bool:
        """Whether it is a proxy already."""
        return FINALIZER in (self.metadata.finalizers or ())

    @property
    def number(self) -> int:
        """Of the try that is under way, from 1."""
        text = self.annotations.get(TRY, "1")
        return int(text) if text.isascii() and text.isdigit() else 1


def global_config(pod: Pod) -> GschConfig | None:
    """The gschConfig of a pod that asks for the global layer; None for any other."""
    try:
        config = gschconfig.of_pod(pod)
    except PodRejected:
        # Its scheduler says what is wrong with it.
        return None
    return config if config is not None and config.scope == "global" else None


def submission_of(config: GschConfig, text: str, origin: Origin) -> Submission:
    """The request for the pod, whose YAML is `text`."""
    source_pod = config.pod_name if config.mode != "fromnode" else ""
    if source_pod and "/" not in source_pod:
        source_pod = f"{origin.namespace}/{source_pod}"
    return Submission(
        text,
        config.priority if config.priority in POLICIES else LOW_LATENCY,
        [level if isinstance(level, str) else list(level) for level in config.clusters],
        source_cluster=config.source_cluster or origin.cluster,
        source_node="" if source_pod else config.source_node,
        source_pod=source_pod,
        namespace=origin.namespace,
    )
