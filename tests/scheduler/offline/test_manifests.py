"""Objects from files: every form that kubectl prints or takes, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from latency.pairs import Pair
from scheduler.offline import manifests
from scheduler.offline.manifests import ManifestError, Objects, read
from tests.harness.make import node_json, pod_json


def written(folder: Path, *documents: Any, name: str = "objects.yaml") -> Objects:
    path = folder / name
    path.write_text(yaml.safe_dump_all(documents))
    return read([path])


def names(objects: Objects) -> tuple[list[str], list[str]]:
    nodes = [node.metadata.name for node in objects.nodes]
    return nodes, [pod.key for pod in objects.pods]


def test_documents_lists_and_typed_lists_are_all_read(tmp_path: Path) -> None:
    bare = pod_json("bare")
    del bare["kind"], bare["metadata"]["namespace"]
    found = written(
        tmp_path,
        node_json("a"),
        None,
        {"kind": "List", "items": [node_json("b"), {"kind": "List", "items": [pod_json("p")]}]},
        {"kind": "PodList", "items": [bare]},
        {"kind": "ConfigMap", "metadata": {"name": "x"}},
        {"kind": "ConfigMap", "metadata": {"name": "y"}},
        {"kind": "StorageClass", "metadata": {"name": "late"}, "provisioner": "x"},
        {"kind": "PersistentVolumeClaim", "metadata": {"name": "data"}},
        [{"source": "a", "target": "b", "rtt_ms": 2}],
    )
    assert names(found) == (["a", "b"], ["default/p", "default/bare"])
    assert found.skipped == {"ConfigMap": 2}
    assert found.pairs == [Pair("a", "b", 2.0)]
    kinds = {kind: item.metadata.namespace for kind, item in found.others}
    assert kinds == {"StorageClass": "", "PersistentVolumeClaim": "default"}


def test_a_folder_is_read_with_all_below_it(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b.json").write_text(json.dumps(node_json("b")))
    (tmp_path / "a.yml").write_text(yaml.safe_dump(node_json("a")))
    (tmp_path / "notes.txt").write_text("{")
    assert names(read([tmp_path])) == (["a", "b"], [])


def test_a_limit_without_a_request_is_a_request(tmp_path: Path) -> None:
    """As the API server sets it (core/v1 defaults)."""
    pod = pod_json("p")
    pod["spec"]["containers"][0]["resources"] = {
        "limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"},
    }  # fmt: skip
    pod["spec"]["initContainers"] = [{"name": "i", "resources": {"limits": {"cpu": "3"}}}]
    (found,) = written(tmp_path, pod).pods
    (container,), (init,) = found.spec.containers, found.spec.init_containers or []
    assert container.resources is not None
    assert container.resources.requests == {"cpu": "1", "memory": "1Gi"}
    assert init.resources is not None
    assert init.resources.requests == {"cpu": "3"}


def test_a_field_that_is_null_is_not_there(tmp_path: Path) -> None:
    pod = pod_json("p", nodeSelector=None, tolerations=None)
    pod["metadata"]["creationTimestamp"] = None
    (found,) = written(tmp_path, pod).pods
    assert found.spec.node_selector is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a: [", "objects.yaml: not YAML"),
        (b"\xff\xff", "objects.yaml: not YAML"),
        (b"just words", "objects.yaml: no Kubernetes object: it has no kind"),
        (b"kind: Pod\n---\nkind: 3\n", "objects.yaml, document 1: Pod without metadata.name"),
        (b"a: 1\n---\nb: 1\n", "objects.yaml, document 1: no Kubernetes object"),
        (b"kind: List\nitems: [{kind: Node}]\n", "items[0]: Node without metadata.name"),
        (b"kind: List\nitems: [3]\n", "items[0]: no Kubernetes object"),
        (b"kind: List\nitems: [{}]\n", "items[0]: no Kubernetes object"),
        (b"kind: Pod\nmetadata: {name: p}\nspec: {containers: 3}\n", "Pod p: Expected `array`"),
        (b"kind: Pod\nmetadata: {name: p}\n", "Pod p: Object missing required field `spec`"),
        (b"kind: Pod\nmetadata: {name: p}\nspec: 3\n", "Pod p: Expected `object`"),
        (b"- {source: a, target: b}\n", "expected a list of {source, target, rtt_ms}"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    text: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "objects.yaml"
    path.write_bytes(text)
    with pytest.raises(ManifestError) as caught:
        read([path])
    assert words in str(caught.value)


def test_paths_that_hold_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ManifestError, match=r"no \.yaml, \.yml or \.json file in this folder"):
        read([tmp_path])
    with pytest.raises(ManifestError, match="gone: No such file"):
        read([tmp_path / "gone"])
    monkeypatch.setattr(manifests, "MAX_BYTES", 3)
    with pytest.raises(ManifestError, match="larger than 3 bytes"):
        written(tmp_path, {"kind": "X"})
