"""Which pods belong together by default: those of one Service, ReplicaSet, StatefulSet, …"""

from cluster.objects.core import Labels, Pod
from cluster.objects.label_selectors import EVERYTHING, NOTHING, Selector, equal_to

# (kind, API version) of the owners that upstream's DefaultSelector knows.
CONTROLLERS = {
    "ReplicationController": "v1",
    "ReplicaSet": "apps/v1",
    "StatefulSet": "apps/v1",
}


class DefaultSelectors:
    """Selectors of Services and controllers, as the API server has them."""

    def __init__(self) -> None:
        self._services: dict[str, dict[str, Labels]] = {}
        self._controllers: dict[tuple[str, str, str], Selector] = {}

    def set_service(self, namespace: str, name: str, selector: Labels | None) -> None:
        """None where the Service is gone or selects nothing."""
        if selector is not None:
            self._services.setdefault(namespace, {})[name] = selector
            return
        services = self._services.get(namespace, {})
        services.pop(name, None)
        if not services:
            self._services.pop(namespace, None)

    def service(self, namespace: str, name: str) -> Labels | None:
        """The Service's selector; None where there is no such Service, or it selects nothing."""
        return self._services.get(namespace, {}).get(name)

    def set_controller(
        self, kind: str, namespace: str, name: str, selector: Selector | None
    ) -> None:
        """None where the controller is gone."""
        if selector is None:
            self._controllers.pop((kind, namespace, name), None)
        else:
            self._controllers[kind, namespace, name] = selector

    def selector(self, pod: Pod) -> Selector | None:
        """What pods that belong together with this one have in common (upstream DefaultSelector).

        None where it belongs to nothing known.
        """
        meta = pod.metadata
        labels = meta.labels or {}
        merged: Labels = {}
        for selector in self._services.get(meta.namespace, {}).values():
            if equal_to(selector).matches(labels):
                merged |= selector
        combined = equal_to(merged) if merged else EVERYTHING
        owner = next((o for o in meta.owner_references or () if o.controller), None)
        if owner is not None and CONTROLLERS.get(owner.kind) == owner.api_version:
            owner_selector = self._controllers.get(
                (owner.kind, meta.namespace, owner.name), EVERYTHING
            )
            combined = combined if owner_selector == NOTHING else combined.both(owner_selector)
        return None if combined.everything else combined
