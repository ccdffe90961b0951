"""Limits, weights and pipelines of a gschConfig: what is read, what is refused, and where."""

import json
from typing import Any

import pytest

from filters.common.member import Dependency, DependencyKind
from scheduler.config.gschconfig import InvalidGschConfig, parse


def config(**option: Any) -> str:
    return json.dumps({"priority": "GLowLatencyPriority", "option": option})


def test_a_stage_says_what_it_talks_to() -> None:
    found = parse(
        config(
            pipeline="video",
            stage="infer",
            stages=["decode", "infer"],
            dependsOn=[
                "decode",
                {"service": "db", "callsPerSecond": 10, "differentNode": True},
                {"pod": "other/cache", "bytesPerSecond": 65536 * 3},
                {"node": "camera", "callsPerSecond": 1, "bytesPerSecond": 65536},
            ],
        ),
        "shop",
    ).member
    assert found is not None
    assert (found.pipeline, found.stage) == ("shop/video", "infer")
    assert found.depends_on == (
        Dependency(DependencyKind.STAGE, "decode"),
        Dependency(DependencyKind.SERVICE, "shop/db", 10, different_nodes=True),
        Dependency(DependencyKind.POD, "other/cache", 3),
        Dependency(DependencyKind.NODE, "camera", 2),
    )
    assert found.named == {"decode", "infer"}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"dependsOn": ["a"]}, "$.option.dependsOn: stages are those of a pipeline"),
        ({"pipeline": "p"}, "which stage of it is this pod"),
        ({"pipeline": "P", "stage": "a"}, "$.option.pipeline"),
        ({"pipeline": "p", "stage": "a", "dependsOn": ["a"]}, "stage a depends on itself"),
        ({"pipeline": "p", "stage": "a", "stages": ["b"]}, "lacks this pod's own stage"),
        ({"pipeline": "p", "stage": "a", "stages": "a"}, "expected a list"),
        ({"pipeline": "p", "stage": "a", "differentNodes": 1}, "true or false"),
        ({"sourceNode": "n", "stage": "a"}, "$.option.stage: belongs to a pipeline"),
        ({"dependsOn": [{"node": "a", "pod": "b"}]}, "name one stage, pod, service or node"),
        ({"dependsOn": [{"node": "a"}, {"node": "a"}]}, "$.option.dependsOn[1]: node a is named"),
        ({"dependsOn": [{"node": "a", "calls": 1}]}, "$.option.dependsOn[0].calls: no such field"),
        ({"dependsOn": [{"node": "a", "callsPerSecond": -1}]}, "callsPerSecond: a number"),
        ({"dependsOn": [{"node": "a", "callsPerSecond": True}]}, "callsPerSecond: a number"),
        ({"dependsOn": [{"node": "a", "differentNode": "no"}]}, "differentNode: true or false"),
        ({"dependsOn": [{"node": 3}]}, "$.option.dependsOn[0].node: expected a name"),
        ({"dependsOn": [3]}, "$.option.dependsOn[0]: expected the name of a stage"),
        ({"dependsOn": [{"node": f"n{i}"} for i in range(65)]}, "more than 64 entries"),
        ({"sourceNode": "n", "maxLatencyMs": 0}, "above 0"),
        ({"sourceNode": "n", "maxLatencyMs": 10**400}, "above 0"),
        ({"dependsOn": [{"node": "a", "callsPerSecond": 10**400}]}, "a number from 0"),
        ({"sourceNode": "n", "maxLatencyMs": "5"}, "$.option.maxLatencyMs"),
        ({"mode": "default", "maxLatencyMs": 5}, "from where?"),
        ({"sourceNode": "n", "weights": {"latency": 0, "packing": 0}}, "has to be above 0"),
        ({"sourceNode": "n", "weights": {"speed": 1}}, "expected an object like"),
        ({"sourceNode": "n", "weights": {"latency": 101}}, "from 0 to 100"),
        ({"weights": {"latency": 1}, "dependsOn": [{"node": "a"}]}, "exclude one another"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_place(option: Any, words: str) -> None:
    with pytest.raises(InvalidGschConfig) as caught:
        parse(config(**option))
    assert words in str(caught.value)


def test_tuning_under_another_policy_is_a_mistake_and_not_ignored() -> None:
    text = json.dumps(
        {"priority": "GMostRequestedPriority", "option": {"pipeline": "p", "stage": "a"}}
    )
    with pytest.raises(InvalidGschConfig, match="belong to priority GLowLatencyPriority"):
        parse(text)
