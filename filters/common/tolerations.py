"""Which taints a pod tolerates (k8s.io/component-helpers/scheduling/corev1, core/v1 Toleration)."""

import re
from collections.abc import Sequence

from cluster.objects.core import Taint, Toleration

_DECIMAL = re.compile(r"0|-?[1-9][0-9]*", re.ASCII)

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
    if toleration.operator in ("Lt", "Gt"):
        return _compares(toleration, taint)
    return toleration.operator == "Exists"


def _compares(toleration: Toleration, taint: Taint) -> bool:
    """Whether the taint's value is less, or greater, than the toleration's (KEP-5471)."""
    toleration_value, taint_value = _integer(toleration.value), _integer(taint.value)
    if toleration_value is None or taint_value is None:
        return False
    return (
        taint_value < toleration_value
        if toleration.operator == "Lt"
        else taint_value > toleration_value
    )


def _integer(text: str) -> int | None:
    """A decimal int64 without leading zeros or plus sign."""
    if len(text) > 20 or not _DECIMAL.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def any_tolerates(tolerations: Sequence[Toleration], taint: Taint) -> bool:
    return any(tolerates(toleration, taint) for toleration in tolerations)
