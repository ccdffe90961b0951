"""Which taints a pod tolerates (k8s.io/component-helpers/scheduling/corev1, core/v1 Toleration)."""

from collections.abc import Sequence

from cluster.objects import Taint, Toleration

NO_SCHEDULE = ("NoSchedule", "NoExecute")


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether this one toleration covers the taint. An unknown operator covers nothing."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator in ("", "Equal"):
        # An empty key with Equal is refused by the API server; it must not match every taint.
        return bool(toleration.key) and toleration.value == taint.value
    return toleration.operator == "Exists"


def any_tolerates(tolerations: Sequence[Toleration], taint: Taint) -> bool:
    return any(tolerates(toleration, taint) for toleration in tolerations)
