"""Label selectors over one object's labels (apimachinery's `labels.Selector`)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cluster.objects.core import Labels, LabelSelector


class Requirement(NamedTuple):
    """One requirement; the operator is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that must all hold. Hashable, so that counts are kept by selector."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def everything(self) -> bool:
        return not self.requirements and not self.nothing

    def matches(self, labels: Mapping[str, str]) -> bool:
        if self.nothing:
            return False
        for key, operator, values in self.requirements:
            value = labels.get(key)
            match operator:
                case "In":
                    met = value in values
                case "NotIn":
                    met = value is None or value not in values
                case "Exists":
                    met = value is not None
                case "DoesNotExist":
                    met = value is None
                case _:
                    met = False
            if not met:
                return False
        return True

    def both(self, other: "Selector") -> "Selector":
        """What both select."""
        if self.nothing or other.nothing:
            return NOTHING
        return Selector(tuple(sorted({*self.requirements, *other.requirements}, key=_order)))


NOTHING = Selector(nothing=True)
EVERYTHING = Selector()


def equal_to(labels: Labels | None) -> Selector:
    """Objects that carry all of these labels."""
    return Selector(
        tuple(Requirement(k, "In", frozenset((v,))) for k, v in sorted((labels or {}).items()))
    )


def selector_of(given: LabelSelector | None) -> Selector:
    """The API's LabelSelector: absent selects nothing, an empty one everything."""
    if given is None:
        return NOTHING
    requirements = list(equal_to(given.match_labels).requirements)
    requirements += [
        Requirement(r.key, r.operator, frozenset(r.values or ()))
        for r in given.match_expressions or ()
    ]
    return Selector(tuple(sorted(requirements, key=_order)))


def same_values(labels: Labels | None, keys: Iterable[str], operator: str = "In") -> Selector:
    """Objects that share (or, with NotIn, differ in) the values of these keys, where present."""
    own = labels or {}
    return Selector(tuple(Requirement(k, operator, frozenset((own[k],))) for k in keys if k in own))


def _order(requirement: Requirement) -> tuple[str, str, list[str]]:
    key, operator, values = requirement
    return key, operator, sorted(values)
