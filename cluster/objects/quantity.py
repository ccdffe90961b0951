"""Kubernetes resource quantities, exactly as the API server reads them.

Source: k8s.io/apimachinery/pkg/api/resource. A quantity is a decimal number with an optional
binary (Ki…Ei), decimal (n, u, m, k…E) or exponent (e3, E-3) suffix. Precision finer than a
nano-unit is rounded away from zero; magnitudes beyond 2**63-1 are capped, as upstream does.
"""

import re
from functools import lru_cache

from cluster.errors import GschError

NANO = 10**9
MAX_INT64 = 2**63 - 1

_FORM = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[0-9]*)(?:\.(?P<fraction>[0-9]*))?"
    r"(?:(?P<binary>[KMGTPE]i)|(?P<decimal>[numkMGTPE])|[eE](?P<exponent>[+-]?[0-9]+))?",
    re.ASCII,
)
_BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", 1)}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
# No exponent beyond this changes the outcome (cap or least nano); it bounds the big-integer work.
_EXPONENT_BOUND = 60

type_ = str | int | float
"""A quantity as it stands in JSON (text) or in hand-written YAML (text or number)."""


class QuantityError(GschError, ValueError):
    """The text is no quantity that Kubernetes accepts."""


def ceil_div(numerator: int, denominator: int) -> int:
    """Integer division rounded away from zero (`denominator` > 0)."""
    if numerator >= 0:
        return -(-numerator // denominator)
    return numerator // denominator


MAX_CHARS = 1000
"""Characters that a quantity has at most: Python refuses to read far longer numbers."""


@lru_cache(maxsize=65536)
def nano(quantity: type_) -> int:
    """The quantity in nano-units, exact.

    Raises QuantityError, naming the text, when Kubernetes would refuse it.
    """
    text = str(quantity)
    match = _FORM.fullmatch(text)
    if match is None or isinstance(quantity, bool) or len(text) > MAX_CHARS:
        raise QuantityError(
            f"{text[:MAX_CHARS]!r} is not a quantity: expected a number with an optional suffix "
            "such as 250m, 1.5, 64Mi, 2G or 1e3"
        )
    whole, fraction = match["whole"], match["fraction"] or ""
    if not whole and not fraction:
        raise QuantityError(f"{text!r} is not a quantity: it has no digits")
    digits = (whole + fraction).lstrip("0") or "0"
    exponent = int(match["exponent"]) if match["exponent"] else _DECIMAL[match["decimal"] or ""]
    multiplier = _BINARY.get(match["binary"] or "", 1)
    magnitude = _scaled(digits, exponent - len(fraction) + 9, multiplier)
    magnitude = min(magnitude, MAX_INT64 * NANO)
    return -magnitude if match["sign"] == "-" else magnitude


def _scaled(digits: str, power: int, multiplier: int) -> int:
    """`int(digits) * multiplier * 10**power`, rounded up, without building huge integers."""
    if digits == "0":
        return 0
    # The decimal point lies `reach` digits right of the first significant one.
    reach = len(digits) + power
    if reach > _EXPONENT_BOUND:
        return MAX_INT64 * NANO
    if reach < -_EXPONENT_BOUND:
        return 1
    value = int(digits) * multiplier
    return value * 10**power if power >= 0 else ceil_div(value, 10**-power)


def value(quantity: type_) -> int:
    """Whole units, rounded away from zero (bytes, counts)."""
    return ceil_div(nano(quantity), NANO)


def milli_value(quantity: type_) -> int:
    """Thousandths, rounded away from zero (milli-CPU)."""
    return ceil_div(nano(quantity), NANO // 1000)
