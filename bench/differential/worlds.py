"""Random clusters and pods that use everything that a default kube-scheduler honours.

A world is plain objects, made from a seed alone: the same seed is the same world everywhere.
Every number is drawn so that nodes differ: on nodes that are alike even kube-scheduler's own
choice is a matter of chance.
"""

from bench.differential.constraints import APPS, NAMESPACES, ZONE, Json
from bench.differential.maker import PRIORITIES, Maker, World

__all__ = ["NAMESPACES", "PRIORITIES", "Json", "World", "crowded", "stored", "world"]


def world(seed: int, pods: int) -> World:
    """5 to 60 nodes with what runs on them, and so many pods to offer."""
    return Maker(seed).make(pods)


def crowded(seed: int, pods: int) -> World:
    """A small cluster full of pods of low priority, and pods of higher priority to offer."""
    maker = Maker(seed)
    rng, found = maker.rng, maker.world
    names = [f"n{i}" for i in range(rng.choice((3, 5, 8, 12)))]
    found.nodes = [maker.node(name) for name in names]
    for number in range(len(names) * rng.randint(2, 8)):
        placed = maker.pod(f"old-{number}", running=True)
        placed["spec"] |= {
            "nodeName": rng.choice(names),
            "priorityClassName": f"p{rng.randint(0, 6)}",
        }
        started = f"2026-01-{rng.randint(1, 28):02}T{rng.randint(0, 23):02}:00:{number % 60:02}Z"
        placed["status"] = {"startTime": started}
        found.placed.append(placed)
    for app in APPS:
        if maker.chance(0.5):
            found.others.append(maker.budget(app))
    found.pods = [maker.pod(f"new-{number}") for number in range(pods)]
    for pod in found.pods:
        pod["spec"]["priorityClassName"] = f"p{rng.randint(3, 9)}"
    return found


def stored(seed: int) -> World:
    """A few nodes with local volumes of all sizes, and one pod whose claims wait for it."""
    maker = Maker(seed)
    rng, found = maker.rng, maker.world
    names = [f"s{seed}-n{i}" for i in range(rng.randint(3, 7))]
    found.nodes = [maker.node(name) for name in names]
    for node in found.nodes:
        node["status"]["allocatable"]["pods"] = "110"
    zones = [{"matchLabelExpressions": [{"key": ZONE, "values": ["z1", "z2"]}]}]
    for name, provisioner, more in (
        (f"local-{seed}", "kubernetes.io/no-provisioner", {}),
        (f"made-{seed}", "example.com/none", {"allowedTopologies": zones}),
    ):
        found.others.append(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": name},
                "provisioner": provisioner,
                "volumeBindingMode": "WaitForFirstConsumer",
                **more,
            }
        )
    classes = [found.others[0]["metadata"]["name"], found.others[1]["metadata"]["name"]]
    for number in range(rng.randint(2, 9)):
        volume = maker.local_volume(f"pv-{seed}-{number}", rng.choice(names), 1 + number)
        volume["spec"]["storageClassName"] = rng.choices(classes, (5, 1))[0]
        found.others.append(volume)
    claims = [f"claim-{seed}-{number}" for number in range(rng.choice((1, 1, 2)))]
    for name in claims:
        size, storage_class = rng.randint(1, 8), rng.choices(classes, (4, 1))[0]
        request = {"resources": {"requests": {"storage": f"{size}Gi"}}}
        maker.claim(name, request | {"storageClassName": storage_class}, {})
    pod = maker.pod(f"new-{seed}", running=True)
    pod["metadata"]["namespace"] = "diff-a"
    pod["metadata"].pop("ownerReferences", None)
    pod["spec"]["volumes"] = [
        {"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims
    ]
    if maker.chance(0.3):
        pod["spec"]["nodeSelector"] = {"disk": rng.choice(("ssd", "hdd"))}
    found.pods = [pod]
    return found
