"""What a random pod asks of nodes and of other pods."""

import random
from typing import Any

Json = dict[str, Any]

ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
HOST = "kubernetes.io/hostname"
APPS = ("web", "api", "db")
NAMESPACES = {"diff-a": {"team": "red"}, "diff-b": {"team": "blue"}}


class Constraints:
    """Draws affinities, spread constraints and tolerations."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def node_affinity(self) -> Json:
        found: Json = {}
        if self.chance(0.7):
            terms = [self.node_term() for _ in range(self.rng.choice((1, 1, 2)))]
            found["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
        if self.chance(0.6):
            found["preferredDuringSchedulingIgnoredDuringExecution"] = [
                {"weight": self.rng.randint(1, 100), "preference": self.node_term()}
                for _ in range(2)
            ]
        return found

    def node_term(self) -> Json:
        rng = self.rng
        if self.chance(0.1):
            names = [f"n{rng.randint(0, 70)}"]
            return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": names}]}
        operator = rng.choice(("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
        if operator in ("Gt", "Lt"):
            values, key = [str(rng.randint(1, 9))], "cores"
        elif operator in ("In", "NotIn"):
            key, values = rng.choice(((ZONE, ["z1", "z2"]), ("disk", ["ssd"]), (REGION, ["r1"])))
        else:
            key, values = rng.choice((ZONE, REGION)), []
        expression: Json = {"key": key, "operator": operator}
        if values:
            expression["values"] = values
        return {"matchExpressions": [expression]}

    def selector(self) -> Json | None:
        rng = self.rng
        app = rng.choice(APPS)
        choices: tuple[Json, ...] = (
            {"matchLabels": {"app": app}},
            {"matchLabels": {"app": app}},
            {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [app]}]},
            {"matchExpressions": [{"key": "version", "operator": "Exists"}]},
            {},
        )
        return rng.choice(choices)

    def pod_affinity(self) -> Json:
        found: Json = {}
        if self.chance(0.6):
            found["requiredDuringSchedulingIgnoredDuringExecution"] = [self.pod_term()]
        if self.chance(0.6):
            found["preferredDuringSchedulingIgnoredDuringExecution"] = [
                {"weight": self.rng.randint(1, 100), "podAffinityTerm": self.pod_term()}
            ]
        return found

    def pod_term(self) -> Json:
        term: Json = {"topologyKey": self.rng.choice((ZONE, HOST, REGION, "disk"))}
        term["labelSelector"] = self.selector()
        if self.chance(0.2):
            term["namespaces"] = [self.rng.choice(list(NAMESPACES))]
        if self.chance(0.2):
            term["namespaceSelector"] = self.rng.choice(({}, {"matchLabels": {"team": "blue"}}))
        if self.chance(0.15):
            # The API server wants the keys to be free of the selector's own.
            term["labelSelector"] = {"matchLabels": {"app": self.rng.choice(APPS)}}
            term[self.rng.choice(("matchLabelKeys", "mismatchLabelKeys"))] = ["version"]
        return term

    def spread(self, key: str) -> Json:
        rng = self.rng
        constraint: Json = {
            "topologyKey": key,
            "maxSkew": rng.randint(1, 3),
            "whenUnsatisfiable": rng.choice(("DoNotSchedule", "ScheduleAnyway")),
            "labelSelector": self.selector(),
        }
        if constraint["whenUnsatisfiable"] == "DoNotSchedule" and self.chance(0.3):
            constraint["minDomains"] = rng.randint(1, 5)
        if self.chance(0.3):
            constraint["nodeAffinityPolicy"] = rng.choice(("Honor", "Ignore"))
        if self.chance(0.3):
            constraint["nodeTaintsPolicy"] = rng.choice(("Honor", "Ignore"))
        if self.chance(0.2):
            constraint["labelSelector"] = {"matchLabels": {"app": rng.choice(APPS)}}
            constraint["matchLabelKeys"] = ["version"]
        return constraint

    def tolerations(self) -> list[Json]:
        choices: tuple[Json, ...] = (
            {"key": "k", "operator": "Exists"},
            {"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"},
            {"key": "level", "operator": "Gt", "value": "5"},
            {"key": "level", "operator": "Lt", "value": "5", "effect": "NoSchedule"},
            {"key": "soft", "operator": "Exists", "effect": "PreferNoSchedule"},
            {"operator": "Exists"},
        )
        weights = (4, 3, 3, 3, 3, 1)
        count = self.rng.choice((1, 2))
        return self.rng.choices(choices, weights, k=count)
