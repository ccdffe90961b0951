"""What a pod asks for; each case is worked out by hand from KEP-753, KEP-2837 and KEP-1287."""

from typing import Any

import msgspec
import pytest

from cluster.objects.core import Pod
from cluster.objects.requests import CEILING, nonzero_requests, pod_requests, written

Json = dict[str, Any]


def container(name: str, always: bool = False, **requests: str) -> Json:
    if gpus := requests.pop("gpus", None):
        requests["nvidia.com/gpu"] = gpus
    found: Json = {"name": name, "resources": {"requests": requests}}
    return found | ({"restartPolicy": "Always"} if always else {})


def pod(spec: Json, status: Json | None = None) -> Pod:
    raw = {"metadata": {"name": "p", "namespace": "n"}, "spec": spec, "status": status or {}}
    return msgspec.json.decode(msgspec.json.encode(raw), type=Pod)


CASES: dict[str, tuple[Json, Json, dict[str, int]]] = {
    "containers add up": (
        {"containers": [container("a", cpu="100m", memory="1Ki"), container("b", cpu="200m")]},
        {},
        {"cpu": 300, "memory": 1024},
    ),
    "sums are exact before they are rounded": (
        {"containers": [container("a", cpu="0.4m"), container("b", cpu="0.4m")]},
        {},
        {"cpu": 1},
    ),
    "the largest init container counts if it is larger": (
        {
            "containers": [container("a", cpu="1")],
            "initContainers": [container("i", cpu="3"), container("j", cpu="2")],
        },
        {},
        {"cpu": 3000},
    ),
    "a sidecar adds to the containers": (
        {
            "containers": [container("a", cpu="1")],
            "initContainers": [container("s", always=True, cpu="2")],
        },
        {},
        {"cpu": 3000},
    ),
    "a sidecar adds to later init containers, not to earlier ones": (
        {
            "containers": [container("a", cpu="1")],
            "initContainers": [
                container("early", cpu="5"),
                container("s", always=True, cpu="2"),
                container("late", cpu="4"),
            ],
        },
        {},
        {"cpu": 6000},
    ),
    "overhead is added": (
        {"containers": [container("a", cpu="1")], "overhead": {"cpu": "250m", "memory": "64Mi"}},
        {},
        {"cpu": 1250, "memory": 64 * 2**20},
    ),
    "pod-level requests take the place of cpu, memory and hugepages only": (
        {
            "containers": [container("a", cpu="1", memory="1Gi", gpus="2")],
            "resources": {"requests": {"cpu": "3", "hugepages-2Mi": "4Mi", "nvidia.com/gpu": "9"}},
            "overhead": {"cpu": "1"},
        },
        {},
        {"cpu": 4000, "memory": 2**30, "nvidia.com/gpu": 2, "hugepages-2Mi": 4 * 2**20},
    ),
    "a resize counts with the most of wanted, actual and allocated": (
        {"containers": [container("a", cpu="1")]},
        {
            "containerStatuses": [
                {
                    "name": "a",
                    "resources": {"requests": {"cpu": "2"}},
                    "allocatedResources": {"cpu": "1500m"},
                }
            ]
        },
        {"cpu": 2000},
    ),
    "an infeasible resize asks in vain": (
        {"containers": [container("a", cpu="8")]},
        {
            "containerStatuses": [{"name": "a", "resources": {"requests": {"cpu": "2"}}}],
            "conditions": [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}],
        },
        {"cpu": 2000},
    ),
    "more than any machine has is cut to the ceiling": (
        {"containers": [container("a", memory="8Ei")]},
        {},
        {"memory": CEILING},
    ),
    "best effort asks for nothing": ({"containers": [{"name": "a"}]}, {}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_requests(case: str) -> None:
    spec, status, wanted = CASES[case]
    assert pod_requests(pod(spec, status)) == wanted


def test_scores_count_a_container_without_requests_as_100m_and_200mi() -> None:
    found = nonzero_requests(pod({"containers": [{"name": "a"}, container("b", cpu="0")]}))
    assert found == {"cpu": 100, "memory": 2 * 200 * 2**20}


@pytest.mark.parametrize(
    ("resource", "amount", "text"),
    [
        ("cpu", 500, "500m"),
        ("cpu", 2000, "2"),
        ("cpu", 2001, "2001m"),
        ("memory", 512, "512"),
        ("memory", 1024, "1Ki"),
        ("memory", 3 * 1024**3 // 2, "1.5Gi"),
        ("ephemeral-storage", 10 * 1024**2, "10Mi"),
        ("hugepages-2Mi", 4 * 1024**2, "4Mi"),
        ("nvidia.com/gpu", 2048, "2048"),
    ],
)
def test_amounts_are_written_as_people_write_them(resource: str, amount: int, text: str) -> None:
    assert written(resource, amount) == text


def test_what_the_pod_asks_for_as_a_whole_goes_before_its_containers() -> None:
    """KEP-2837: only cpu, memory and huge pages may be set for the pod."""
    level = {"requests": {"cpu": "3", "example.com/x": "9"}}
    containers = [container("c", cpu="1", memory="1Gi")]
    found = pod({"containers": containers, "resources": level, "overhead": {"cpu": "100m"}})
    assert pod_requests(found) == {"cpu": 3100, "memory": 1024**3}


def test_a_pod_that_is_being_resized_as_a_whole_holds_the_most_of_both() -> None:
    level = {"requests": {"cpu": "2"}}
    status = {"resources": {"requests": {"cpu": "3"}}, "allocatedResources": {"cpu": "2500m"}}
    found = pod({"containers": [container("c", cpu="1")], "resources": level}, status)
    assert pod_requests(found) == {"cpu": 3000}
