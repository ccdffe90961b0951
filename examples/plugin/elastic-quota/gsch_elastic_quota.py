"""ElasticQuota: a namespace is guaranteed `min` and may use up to `max` of each resource.

What it uses beyond its `min` is borrowed from what others leave of theirs (KEP-9 of
scheduler-plugins). Quotas are objects of a kind of their own (crd.yaml), which the plugin watches.
"""

import numpy as np

from cluster.objects.core import ObjectMeta, Quantities, Struct
from cluster.objects.requests import amounts, written
from cluster.state.snapshot import Ints, Snapshot, View
from filters.common.handle import WatchedKind
from filters.common.plugin import Event, Plugin, PodInfo, Prepared, Rejected

PATH = "/apis/scheduling.gsch.io/v1alpha1/elasticquotas"


class QuotaSpec(Struct, frozen=True):
    min: Quantities | None = None
    max: Quantities | None = None


class Quota(Struct, frozen=True):
    metadata: ObjectMeta
    spec: QuotaSpec = QuotaSpec()


class ElasticQuota(Plugin):
    NAME = "ElasticQuota"
    # What may make a refused pod schedulable: a pod that ends, or a quota that changes.
    events = Event.POD_GONE | Event.PLUGIN
    # The answer depends on other pods: it is asked anew for every pod.
    LOCAL = False
    WATCHES = (WatchedKind(PATH, Quota),)

    def pre_filter(self, info: PodInfo, snapshot: Snapshot) -> Rejected | None:
        """Refuses the pod as a whole; the nodes are none of this plugin's business."""
        quotas = {q.metadata.namespace: q.spec for q in self.handle.objects(PATH).values()}
        namespace = info.pod.metadata.namespace
        own = quotas.get(namespace)
        if own is None:
            return None
        used = snapshot.ledger.requested_in(namespace)
        limits, guaranteed = amounts(own.max), amounts(own.min)
        for name, asked in info.needs.requests.items():
            wanted = used.get(name, 0) + asked
            if name in limits and wanted > limits[name]:
                text = f"{written(name, wanted)} {name} of at most {written(name, limits[name])}"
                return Rejected(f"pod would bring its namespace to {text} (ElasticQuota)")
            if name in guaranteed and wanted > guaranteed[name]:
                left = _left(name, quotas, snapshot)
                if asked > left:
                    return Rejected(f"nobody has {name} left to lend (ElasticQuota)")
        return None

    def filter(self, prepared: Prepared[None], view: View) -> Ints:
        return np.zeros(len(view), np.int64)


def _left(name: str, quotas: dict[str, QuotaSpec], snapshot: Snapshot) -> int:
    """What all namespaces with a quota leave of what is guaranteed to them together."""
    guaranteed = sum(amounts(spec.min).get(name, 0) for spec in quotas.values())
    used = sum(snapshot.ledger.requested_in(namespace).get(name, 0) for namespace in quotas)
    return guaranteed - used
