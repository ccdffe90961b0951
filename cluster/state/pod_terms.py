"""The pod affinity and anti-affinity terms of a pod, ready to be compared with other pods."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from cluster.objects.core import Labels, Pod, PodAffinity, PodAffinityTerm
from cluster.objects.label_selectors import NOTHING, Selector, same_values, selector_of


class TermKind(Enum):
    AFFINITY = "required affinity"
    ANTI_AFFINITY = "required anti-affinity"
    PREFERRED = "preferred affinity"
    PREFERRED_ANTI = "preferred anti-affinity"


@dataclass(frozen=True, slots=True)
class Term:
    """Pods of these namespaces, or of namespaces so labelled, that the selector matches.

    `topology_key` is the node label whose equal values mean "together"; `weight` is 1..100 for
    preferred terms, 0 for required ones.
    """

    kind: TermKind
    topology_key: str
    selector: Selector
    namespaces: frozenset[str]
    namespace_selector: Selector
    weight: int = 0

    def matches(self, namespace: str, labels: Mapping[str, str], of_namespace: Labels) -> bool:
        """Whether a pod with these labels, in a namespace labelled `of_namespace`, is meant."""
        return (
            namespace in self.namespaces or self.namespace_selector.matches(of_namespace)
        ) and self.selector.matches(labels)


def terms_of(pod: Pod) -> tuple[Term, ...]:
    """All terms of the pod. A namespace-less term without namespace selector means its own."""
    affinity = pod.spec.affinity
    if affinity is None:
        return ()
    return (
        *_terms(pod, affinity.pod_affinity, TermKind.AFFINITY, TermKind.PREFERRED),
        *_terms(pod, affinity.pod_anti_affinity, TermKind.ANTI_AFFINITY, TermKind.PREFERRED_ANTI),
    )


def _terms(pod: Pod, given: PodAffinity | None, hard: TermKind, soft: TermKind) -> Iterator[Term]:
    if given is None:
        return
    for term in given.required_during_scheduling_ignored_during_execution or ():
        yield _term(pod, term, hard, 0)
    for weighted in given.preferred_during_scheduling_ignored_during_execution or ():
        yield _term(pod, weighted.pod_affinity_term, soft, weighted.weight)


def _term(pod: Pod, term: PodAffinityTerm, kind: TermKind, weight: int) -> Term:
    selector = selector_of(term.label_selector)
    labels = pod.metadata.labels
    # The API server merges these keys into the selector (KEP-3633); files come unmerged.
    selector = selector.both(same_values(labels, term.match_label_keys or ()))
    selector = selector.both(same_values(labels, term.mismatch_label_keys or (), "NotIn"))
    namespaces = frozenset(term.namespaces or ())
    if not namespaces and term.namespace_selector is None:
        namespaces = frozenset((pod.metadata.namespace,))
    among = NOTHING if term.namespace_selector is None else selector_of(term.namespace_selector)
    return Term(kind, term.topology_key, selector, namespaces, among, weight)
