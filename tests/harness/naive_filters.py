"""Topology spread and inter-pod affinity said once more, pod by pod and node by node.

Slow and plain on purpose: property tests compare the array code with it.
"""

from typing import Any

from tests.harness.make import Json


def selects(selector: Json | None, labels: dict[str, str]) -> bool:
    if selector is None:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions") or ():
        here, values = labels.get(expression["key"]), expression.get("values") or ()
        met = {
            "In": here in values,
            "NotIn": here not in values,
            "Exists": here is not None,
            "DoesNotExist": here is None,
        }
        if not met[expression["operator"]]:
            return False
    return True


def labels(item: Json) -> dict[str, str]:
    return item["metadata"].get("labels") or {}


def spread_refuses(pod: Json, nodes: list[Json], placed: list[Json]) -> dict[str, bool]:
    """By node, whether a DoNotSchedule constraint keeps the pod away."""
    constraints = pod["spec"].get("topologySpreadConstraints") or []
    keys = [c["topologyKey"] for c in constraints]
    eligible = [n for n in nodes if all(k in labels(n) for k in keys)]
    refused = {n["metadata"]["name"]: n not in eligible for n in nodes} if constraints else {}
    for constraint in constraints:
        key = constraint["topologyKey"]
        domains: dict[str, int] = {labels(n)[key]: 0 for n in eligible}
        for other in placed:
            home = next(n for n in nodes if n["metadata"]["name"] == other["spec"]["nodeName"])
            if home in eligible and selects(constraint["labelSelector"], labels(other)):
                domains[labels(home)[key]] += 1
        least = min(domains.values(), default=0)
        if len(domains) < constraint.get("minDomains", 1):
            least = 0
        own = selects(constraint["labelSelector"], labels(pod))
        for node in eligible:
            if domains[labels(node)[key]] + own - least > constraint["maxSkew"]:
                refused[node["metadata"]["name"]] = True
    return refused


def affinity_refuses(pod: Json, nodes: list[Json], placed: list[Json]) -> dict[str, bool]:
    """By node, whether required pod (anti-)affinity keeps the pod away."""
    homes = {n["metadata"]["name"]: n for n in nodes}
    wanted, unwanted = _terms(pod, "podAffinity"), _terms(pod, "podAntiAffinity")
    matching = [p for p in placed if all(selects(t["labelSelector"], labels(p)) for t in wanted)]
    anywhere = any(
        t["topologyKey"] in labels(homes[p["spec"]["nodeName"]]) for p in matching for t in wanted
    )
    first = not anywhere and all(selects(t["labelSelector"], labels(pod)) for t in wanted)
    refused = {}
    for name, node in homes.items():
        near = all(
            t["topologyKey"] in labels(node)
            and (first or any(_together(node, homes[p["spec"]["nodeName"]], t) for p in matching))
            for t in wanted
        )
        clash = any(
            selects(t["labelSelector"], labels(p))
            and _together(node, homes[p["spec"]["nodeName"]], t)
            for t in unwanted
            for p in placed
        )
        guarded = any(
            selects(t["labelSelector"], labels(pod))
            and _together(node, homes[p["spec"]["nodeName"]], t)
            for p in placed
            for t in _terms(p, "podAntiAffinity")
        )
        refused[name] = not near or clash or guarded
    return refused


def _terms(pod: Json, kind: str) -> list[Any]:
    affinity = (pod["spec"].get("affinity") or {}).get(kind) or {}
    terms: list[Any] = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or []
    return terms


def _together(one: Json, other: Json, term: Json) -> bool:
    key = term["topologyKey"]
    return key in labels(one) and labels(one).get(key) == labels(other).get(key)
