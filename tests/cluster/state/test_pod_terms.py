"""Affinity terms of a pod: whom each of them means."""

from typing import Any

import pytest

from cluster.objects.label_selectors import EVERYTHING, NOTHING
from cluster.state.pod_terms import Term, TermKind, terms_of
from tests.harness.make import labelled, pod

WEB: Any = {"matchLabels": {"app": "web"}}


def only(term: Any, **labels: str) -> Term:
    """The pod's one required affinity term."""
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    (found,) = terms_of(labelled(pod("p", namespace="shop", affinity=affinity), **labels))
    return found


def test_a_pod_without_affinity_has_no_terms() -> None:
    assert terms_of(pod()) == ()
    assert terms_of(pod(affinity={"podAffinity": {}})) == ()


def test_terms_of_all_four_kinds_come_with_their_weights() -> None:
    term = {"topologyKey": "zone", "labelSelector": WEB}
    both = {
        "requiredDuringSchedulingIgnoredDuringExecution": [term],
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 30, "podAffinityTerm": term}
        ],
    }
    found = terms_of(pod(affinity={"podAffinity": both, "podAntiAffinity": both}))
    assert [(one.kind, one.weight) for one in found] == [
        (TermKind.AFFINITY, 0),
        (TermKind.PREFERRED, 30),
        (TermKind.ANTI_AFFINITY, 0),
        (TermKind.PREFERRED_ANTI, 30),
    ]
    assert {one.topology_key for one in found} == {"zone"}


@pytest.mark.parametrize(
    ("term", "shop", "bank"),
    [
        # Without namespaces and selector of namespaces, the pod's own namespace is meant.
        ({}, True, False),
        ({"namespaces": ["bank"]}, False, True),
        ({"namespaceSelector": {}}, True, True),
        ({"namespaceSelector": {"matchLabels": {"money": "yes"}}}, False, True),
        ({"namespaces": ["shop"], "namespaceSelector": {"matchLabels": {"money": "yes"}}},
         True, True),
    ],
)  # fmt: skip
def test_a_term_means_pods_of_its_namespaces(term: Any, shop: bool, bank: bool) -> None:
    found = only({"topologyKey": "zone", "labelSelector": WEB, **term})
    assert found.matches("shop", {"app": "web"}, {}) is shop
    assert found.matches("bank", {"app": "web"}, {"money": "yes"}) is bank
    assert not found.matches("shop", {"app": "db"}, {})


def test_a_term_without_a_selector_means_no_pod_and_an_empty_one_every_pod() -> None:
    assert only({"topologyKey": "zone"}).selector == NOTHING
    assert only({"topologyKey": "zone", "labelSelector": {}}).selector == EVERYTHING


def test_keys_to_match_add_the_pod_s_own_values_where_it_has_them() -> None:
    term = {"topologyKey": "zone", "labelSelector": WEB}
    more = {"matchLabelKeys": ["hash", "lacking"], "mismatchLabelKeys": ["tenant"]}
    found = only({**term, **more}, hash="1", tenant="a")
    assert found.matches("shop", {"app": "web", "hash": "1", "tenant": "b"}, {})
    assert not found.matches("shop", {"app": "web", "hash": "2", "tenant": "b"}, {})
    assert not found.matches("shop", {"app": "web", "hash": "1", "tenant": "a"}, {})
