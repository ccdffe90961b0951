"""The finer options of the low-latency policy: a limit, weights, and a pipeline's shape."""

import re
from collections.abc import Mapping
from typing import Any

from filters.common.member import Dependency, DependencyKind, PipelineMember
from scheduler.config.dependencies import BadDependency, parse

_STAGE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
MAX_STAGES = 64
MAX_WEIGHT = 100
MAX_MS = 1e9

Given = Mapping[str, tuple[str, Any]]
"""Fields of a gschConfig with the path at which each was found."""


class BadTuning(ValueError):
    """An option that cannot be followed; the text says where and the mend."""


def max_latency_ms(given: Given) -> float | None:
    """The most milliseconds from the source that the pod bears."""
    path, value = given.get("max_latency_ms", ("", None))
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_MS:
        raise BadTuning(f"{path}: a number of milliseconds above 0, and at most {MAX_MS:g}")
    return float(value)


def weights(given: Given) -> tuple[int, int] | None:
    """(latency, packing), each 0..100."""
    path, value = given.get("weights", ("", None))
    if value is None:
        return None
    if not isinstance(value, dict) or not value.keys() <= {"latency", "packing"}:
        raise BadTuning(f'{path}: expected an object like {{"latency": 70, "packing": 30}}')
    pair = value.get("latency", 0), value.get("packing", 0)
    for weight in pair:
        if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= MAX_WEIGHT:
            raise BadTuning(f"{path}: whole numbers from 0 to {MAX_WEIGHT}")
    if not any(pair):
        raise BadTuning(f"{path}: one of latency and packing has to be above 0")
    return pair


def member(given: Given, namespace: str) -> PipelineMember | None:
    """The pod's part in a pipeline, and what it depends on; None where it names neither."""
    pipeline, stage = _stage(given, "pipeline"), _stage(given, "stage")
    depends_on = _depends_on(given, namespace)
    if not pipeline:
        _refuse_without_pipeline(given, depends_on)
        return PipelineMember(depends_on=depends_on) if depends_on else None
    if not stage:
        raise BadTuning(f"{given['pipeline'][0]}: which stage of it is this pod? Add option.stage")
    if any(d.kind is DependencyKind.STAGE and d.name == stage for d in depends_on):
        raise BadTuning(f"{given['depends_on'][0]}: stage {stage} depends on itself")
    path, different_nodes = given.get("different_nodes", ("", False))
    if not isinstance(different_nodes, bool):
        raise BadTuning(f"{path}: true or false")
    stages = _stages(given)
    if stages and stage not in stages:
        raise BadTuning(f"{given['stages'][0]}: lacks this pod's own stage, {stage}")
    return PipelineMember(f"{namespace}/{pipeline}", stage, stages, depends_on, different_nodes)


def _refuse_without_pipeline(given: Given, depends_on: tuple[Dependency, ...]) -> None:
    for field in ("stage", "stages", "different_nodes"):
        if field in given:
            raise BadTuning(f"{given[field][0]}: belongs to a pipeline; add option.pipeline")
    if any(d.kind is DependencyKind.STAGE for d in depends_on):
        path = given["depends_on"][0]
        raise BadTuning(f"{path}: stages are those of a pipeline; add option.pipeline and stage")


def _depends_on(given: Given, namespace: str) -> tuple[Dependency, ...]:
    path, value = given.get("depends_on", ("", []))
    try:
        return parse(path, value, namespace)
    except BadDependency as error:
        raise BadTuning(str(error)) from error


def _stage(given: Given, field: str) -> str:
    path, value = given.get(field, ("", ""))
    if not isinstance(value, str) or (value and not _STAGE.fullmatch(value)):
        raise BadTuning(f"{path}: expected a name of a-z, 0-9 and -")
    return value


def _is_stage(name: object) -> bool:
    return isinstance(name, str) and _STAGE.fullmatch(name) is not None


def _stages(given: Given) -> frozenset[str]:
    path, value = given.get("stages", ("", []))
    good = isinstance(value, list) and all(
        isinstance(s, str) and _STAGE.fullmatch(s) for s in value
    )
    if not good or len(value) > MAX_STAGES:
        raise BadTuning(f"{path}: expected a list of at most {MAX_STAGES} names of stages")
    return frozenset(value)
