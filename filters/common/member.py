"""What a pod talks to, and with which others it makes up a pipeline."""

from dataclasses import dataclass
from enum import Enum


class DependencyKind(Enum):
    """What a dependency names: a stage of the pipeline, a pod, a Service, a node."""

    STAGE = "stage"
    POD = "pod"
    SERVICE = "service"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Dependency:
    """`weight` is in round trips a second; `different_nodes` where the two may not share a node.

    Names of pods and Services are `namespace/name`.
    """

    kind: DependencyKind
    name: str
    weight: float = 1.0
    different_nodes: bool = False


@dataclass(frozen=True, slots=True)
class PipelineMember:
    """A pod's part in a pipeline. `pipeline` is `namespace/name`, empty for a pod of its own.

    `stages`, where given, are all stages of the pipeline; `different_nodes` where no two of
    them may share a node.
    """

    pipeline: str = ""
    stage: str = ""
    stages: frozenset[str] = frozenset()
    depends_on: tuple[Dependency, ...] = ()
    different_nodes: bool = False

    @property
    def named(self) -> frozenset[str]:
        """The stages that this one knows of."""
        dependency_stages = {d.name for d in self.depends_on if d.kind is DependencyKind.STAGE}
        return self.stages | dependency_stages | {self.stage}
