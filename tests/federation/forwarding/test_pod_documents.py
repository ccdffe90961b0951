"""The YAML of forwarded pods."""

from typing import Any

import yaml
from federation import documents
from federation.forwarding.local_pods import own_proxy
from federation.forwarding.pod_documents import Origin, references_of, text_of

from tests.harness.make import pod_json

ORIGIN = Origin("c1", "team", "web-0", "0b5fa1c2-1111-2222-3333-444455556666")


def proxy(**spec: Any) -> dict[str, Any]:
    """As the API server has it: with the token's volume, defaults and what admission added."""
    pod = pod_json("web-0", {"cpu": "1"}, namespace="team", **spec)
    pod["metadata"]["labels"] = {"app": "web"}
    pod["metadata"]["annotations"] = {
        "note": "ours",
        "gsch.io/request-id": "req-1",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    pod["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "web", "uid": "x"}]
    token = {"name": "kube-api-access-x7k2p", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "kube-root-ca.crt"}},
    ]}}  # fmt: skip
    pod["spec"]["volumes"] = [*pod["spec"].get("volumes", []), token]
    mount = {"name": "kube-api-access-x7k2p", "mountPath": "/var/run/secrets"}
    container = pod["spec"]["containers"][0]
    container["volumeMounts"] = [*container.get("volumeMounts", []), mount]
    pod["spec"]["tolerations"] = [
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
        {"key": "dedicated", "operator": "Exists"},
    ]
    pod["spec"]["serviceAccount"] = pod["spec"].setdefault("serviceAccountName", "default")
    pod["spec"]["nodeName"] = "gsch-c2"
    pod["status"] = {"phase": "Pending"}
    return pod


def copy_of(pod: dict[str, Any], *objects: dict[str, Any]) -> list[dict[str, Any]]:
    along = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    return list(yaml.safe_load_all(text_of(pod, ORIGIN, along)))


def test_a_copy_is_the_users_own_part_of_the_pod() -> None:
    (copy,) = copy_of(proxy())
    assert copy["metadata"] == {
        "name": "web-0",
        "labels": {"app": "web", "gsch.io/forwarded-from": "c1"},
        "annotations": {"note": "ours", "gsch.io/proxy": f"team/web-0/{ORIGIN.uid}"},
    }
    spec = copy["spec"]
    assert "nodeName" not in spec
    assert "serviceAccount" not in spec
    assert "serviceAccountName" not in spec
    assert spec["volumes"] == []
    assert spec["containers"][0]["volumeMounts"] == []
    assert spec["tolerations"] == [{"key": "dedicated", "operator": "Exists"}]
    assert spec["hostname"] == "web-0"


def test_a_copy_is_a_document_that_the_front_takes() -> None:
    read = documents.read(text_of(proxy(), ORIGIN, {}))
    assert [(one.kind, one.name, one.replicas) for one in read] == [("Pod", "web-0", 1)]


def test_what_a_pod_refers_to_is_found_wherever_it_is_named() -> None:
    pod = proxy(
        serviceAccountName="robot",
        imagePullSecrets=[{"name": "pull"}],
        volumes=[
            {"name": "a", "configMap": {"name": "settings", "optional": True}},
            {"name": "b", "secret": {"secretName": "keys"}},
            {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "d", "projected": {"sources": [{"secret": {"name": "more"}}]}},
        ],
    )
    pod["spec"]["containers"][0] |= {
        "envFrom": [{"configMapRef": {"name": "env"}}],
        "env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "word", "key": "p"}}}],
    }
    references = references_of(pod)
    assert list(references.by_kind()) == [
        ("ConfigMap", "env"), ("ConfigMap", "settings"),
        ("Secret", "keys"), ("Secret", "more"), ("Secret", "pull"), ("Secret", "word"),
        ("PersistentVolumeClaim", "data"), ("ServiceAccount", "robot"),
    ]  # fmt: skip
    assert references.optional == {("ConfigMap", "settings")}


def test_what_goes_along_has_a_name_of_its_own_and_claims_keep_theirs() -> None:
    pod = proxy(
        serviceAccountName="robot",
        volumes=[
            {"name": "a", "configMap": {"name": "settings"}},
            {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
        ],
    )
    made = copy_of(
        pod,
        {"kind": "ConfigMap", "metadata": {"name": "settings", "uid": "u"}, "data": {"a": "1"}},
        {"kind": "ServiceAccount", "metadata": {"name": "robot"}, "secrets": [{"name": "t"}]},
        {"kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "volumeName": "pv-1"}, "status": {"phase": "Bound"}},
    )  # fmt: skip
    by_kind = {one["kind"]: one for one in made}
    assert by_kind["ConfigMap"]["metadata"]["name"] == "settings-0b5fa1c2"
    assert by_kind["ConfigMap"]["data"] == {"a": "1"}
    assert by_kind["ServiceAccount"]["metadata"]["name"] == "robot-0b5fa1c2"
    assert "secrets" not in by_kind["ServiceAccount"]
    assert by_kind["PersistentVolumeClaim"]["metadata"]["name"] == "data"
    assert by_kind["PersistentVolumeClaim"]["spec"] == {"accessModes": ["ReadWriteOnce"]}
    spec = by_kind["Pod"]["spec"]
    assert spec["serviceAccountName"] == "robot-0b5fa1c2"
    assert spec["volumes"][0]["configMap"]["name"] == "settings-0b5fa1c2"
    assert spec["volumes"][1]["persistentVolumeClaim"]["claimName"] == "data"


def test_making_a_copy_changes_nothing_of_the_pod() -> None:
    pod = proxy(volumes=[{"name": "a", "configMap": {"name": "settings"}}])
    before = yaml.safe_dump(pod)
    copy_of(pod, {"kind": "ConfigMap", "metadata": {"name": "settings"}})
    assert yaml.safe_dump(pod) == before


def test_a_clusters_own_pod_is_recognised_in_its_namespace_alone() -> None:
    read = documents.read(text_of(proxy(), ORIGIN, {}))
    own = own_proxy(read, "c1", "team")
    assert own is not None
    assert (own.name, own.uid) == ("web-0", ORIGIN.uid)
    assert own_proxy(read, "c2", "team") is None
    assert own_proxy(read, "c1", "another") is None
