"""What random worlds are drawn from. Every number is drawn so that nodes differ."""

import random
from dataclasses import dataclass, field

from bench.differential.constraints import APPS, HOST, REGION, ZONE, Constraints, Json

PRIORITIES = {f"p{rank}": rank * 100 for rank in range(10)}
GPU = "nvidia.com/gpu"
IMAGES = tuple(f"registry.example/{name}:1" for name in ("small", "medium", "large"))
SIZES = dict(zip(IMAGES, (50_000_000, 400_000_000, 1_900_000_000), strict=True))
BOUND = {"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"}
IQN = "iqn.2001-04.com.example:disk"
CLASSES = {"late": "kubernetes.io/no-provisioner", "now": "example.com/none"}
EBS_ZONE = "topology.ebs.csi.aws.com/zone"
MIGRATED_PLUGINS = "storage.alpha.kubernetes.io/migrated-plugins"


@dataclass(slots=True)
class World:
    """A cluster: `others` first, then `nodes`, then the pods `placed` on them; `pods` to offer."""

    seed: int
    others: list[Json] = field(default_factory=list)
    nodes: list[Json] = field(default_factory=list)
    placed: list[Json] = field(default_factory=list)
    pods: list[Json] = field(default_factory=list)


class Maker:
    """Draws nodes, what pods lean on, and pods, into one world."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.rng = random.Random(seed)
        self.draw = Constraints(self.rng)
        self.claims: list[str] = []

    def make(self, pods: int) -> World:
        rng, found = self.rng, self.world
        count = rng.choice((5, 8, 12, 20, 35, 60))
        names = [f"n{i}" for i in range(count)]
        found.nodes = [self.node(name) for name in names]
        self.storage(names)
        self.services()
        load = rng.uniform(0.2, 3)
        for number in range(int(count * load)):
            home = rng.choice(names)
            placed = self.pod(f"old-{number}", running=True)
            placed["spec"]["nodeName"] = home
            found.placed.append(placed)
        found.pods = [self.pod(f"new-{number}") for number in range(pods)]
        return found

    def chance(self, probability: float) -> bool:
        return self.draw.chance(probability)

    # -- nodes -----------------------------------------------------------------------------

    def node(self, name: str) -> Json:
        rng = self.rng
        labels = {HOST: name, "cores": str(rng.randint(1, 9)), "disk": rng.choice(("ssd", "hdd"))}
        if self.chance(0.9):
            labels[ZONE] = rng.choice(("z1", "z2", "z3"))
        if self.chance(0.3):
            labels[REGION] = rng.choice(("r1", "r2"))
        if self.chance(0.3):
            labels[EBS_ZONE] = rng.choice(("z1", "z2"))
        cpu = str(rng.randint(1000, 9000)) + "m"
        offered = {
            "cpu": cpu,
            "memory": f"{rng.randint(2000, 32000)}Mi",
            "ephemeral-storage": f"{rng.randint(5, 100)}Gi",
            "pods": str(rng.choice((2, 3, 5, 30, 110))),
        }
        if self.chance(0.3):
            offered[GPU] = str(rng.randint(1, 4))
        if self.chance(0.1):
            offered["nvidia.com/gpu.shared"] = str(rng.randint(1, 8))
        images = rng.sample(IMAGES, rng.randint(0, 2))
        status: Json = {
            "allocatable": offered,
            "capacity": offered,
            "images": [{"names": [image], "sizeBytes": SIZES[image]} for image in images],
        }
        if self.chance(0.3):
            status["declaredFeatures"] = ["RestartAllContainersOnContainerExits"]
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": self.taints(),
            "status": status,
        }

    def taints(self) -> Json:
        rng = self.rng
        taints = []
        if self.chance(0.3):
            for key in rng.sample(("k", "level", "soft"), rng.randint(1, 2)):
                effects = ("PreferNoSchedule",) if key == "soft" else ("NoSchedule", "NoExecute")
                value = rng.choice(("3", "7")) if key == "level" else rng.choice(("v", "w"))
                taints.append({"key": key, "value": value, "effect": rng.choice(effects)})
        spec: Json = {"taints": taints} if taints else {}
        if self.chance(0.08):
            spec["unschedulable"] = True
        return spec

    # -- what pods lean on -----------------------------------------------------------------

    def services(self) -> None:
        for app in APPS:
            if self.chance(0.4):
                self.world.others.append(
                    {
                        "apiVersion": "v1",
                        "kind": "Service",
                        "metadata": {"name": f"svc-{app}", "namespace": "diff-a"},
                        "spec": {"selector": {"app": app}, "ports": [{"port": 80}]},
                    }
                )
            selector = {"matchLabels": {"app": app, "owned": "yes"}}
            template: Json = {
                "metadata": {"labels": selector["matchLabels"]},
                "spec": {"containers": [{"name": "c", "image": IMAGES[0]}]},
            }
            self.world.others.append(
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "metadata": {"name": f"rs-{app}", "namespace": "diff-a"},
                    "spec": {"replicas": 0, "selector": selector, "template": template},
                }
            )

    def storage(self, names: list[str]) -> None:
        for name, provisioner in CLASSES.items():
            mode = "WaitForFirstConsumer" if name == "late" else "Immediate"
            self.world.others.append(
                {
                    "apiVersion": "storage.k8s.io/v1",
                    "kind": "StorageClass",
                    "metadata": {"name": name},
                    "provisioner": provisioner,
                    "volumeBindingMode": mode,
                }
            )
        for name in names:
            if self.chance(0.5):
                drivers = [
                    {
                        "name": driver,
                        "nodeID": name,
                        "allocatable": {"count": self.rng.randint(1, 2)},
                    }
                    for driver in ("csi.example", "ebs.csi.aws.com")
                ]
                migrated = {MIGRATED_PLUGINS: "kubernetes.io/aws-ebs,kubernetes.io/cinder"}
                notes = migrated if self.chance(0.6) else {}
                self.world.others.append(
                    {
                        "apiVersion": "storage.k8s.io/v1",
                        "kind": "CSINode",
                        "metadata": {"name": name, "annotations": notes},
                        "spec": {"drivers": drivers},
                    }
                )
        for number in range(8):
            self.bound_claim(number, names)
        for name, storage_class in (("unbound", "now"), ("waiting", "late"), ("lost", "gone")):
            self.claim(name, {"storageClassName": storage_class}, {})

    def bound_claim(self, number: int, names: list[str]) -> None:
        """A claim with its volume: local, zonal, of a CSI driver, or for one pod alone."""
        rng = self.rng
        name = f"data-{number}"
        mode = "ReadWriteOncePod" if self.chance(0.2) else "ReadWriteOnce"
        volume: Json = {
            "capacity": {"storage": "1Gi"},
            "accessModes": [mode],
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": "diff-a",
                "name": name,
            },
        }
        labels = {}
        kind = rng.random()
        if kind < 0.4:
            volume["csi"] = {"driver": "csi.example", "volumeHandle": name}
        elif kind < 0.7:
            volume["awsElasticBlockStore"] = {"volumeID": f"aws://z1/vol-{number}"}
        else:
            volume["hostPath"] = {"path": "/tmp/x"}  # noqa: S108
        if self.chance(0.4):
            key, values = rng.choice(
                ((HOST, rng.sample(names, min(len(names), 3))), (ZONE, ["z1"]), (ZONE, ["z9"]))
            )
            terms = [{"matchExpressions": [{"key": key, "operator": "In", "values": values}]}]
            volume["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
        if self.chance(0.3):
            labels = {ZONE: rng.choice(("z1", "z2__z3"))}
        self.world.others.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"pv-{number}", "labels": labels},
                "spec": volume,
                "status": {"phase": "Bound"},
            }
        )
        self.claim(name, {"volumeName": f"pv-{number}", "accessModes": [mode]}, BOUND, "Bound")

    def local_volume(self, name: str, node: str, size: int) -> Json:
        terms = [{"matchExpressions": [{"key": HOST, "operator": "In", "values": [node]}]}]
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": f"{size}Gi"},
                "accessModes": ["ReadWriteOnce"],
                "local": {"path": "/mnt/x"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
            },
            "status": {"phase": "Available"},
        }

    def claim(self, name: str, spec: Json, annotations: Json, phase: str = "Pending") -> None:
        self.claims.append(name)
        base = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "",
        }
        self.world.others.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": "diff-a", "annotations": annotations},
                "spec": base | spec,
                "status": {"phase": phase},
            }
        )

    def budget(self, app: str) -> Json:
        return {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": f"pdb-{app}", "namespace": "diff-a"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}},
            "status": {
                "disruptionsAllowed": self.rng.randint(0, 2),
                "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1,
            },
        }  # fmt: skip

    # -- pods ------------------------------------------------------------------------------

    def pod(self, name: str, running: bool = False) -> Json:
        rng = self.rng
        namespace = "diff-a" if self.chance(0.8) else "diff-b"
        meta: Json = {"name": name, "namespace": namespace, "labels": {"app": rng.choice(APPS)}}
        if self.chance(0.3):
            meta["labels"]["owned"] = "yes"
            if namespace == "diff-a":
                meta["ownerReferences"] = [
                    {
                        "apiVersion": "apps/v1",
                        "kind": "ReplicaSet",
                        "name": f"rs-{meta['labels']['app']}",
                        "uid": "00000000-0000-0000-0000-000000000001",
                        "controller": True,
                    }
                ]
        if self.chance(0.3):
            meta["labels"]["version"] = rng.choice(("1", "2"))
        spec: Json = {"containers": self.containers(running), "terminationGracePeriodSeconds": 0}
        self.constraints(spec, running)
        if namespace == "diff-a" and self.claims and self.chance(0.15):
            choices = self.claims[:8] if running else [*self.claims, "missing"]
            name = rng.choice(choices)
            source = {"name": "v", "persistentVolumeClaim": {"claimName": name}}
            spec.setdefault("volumes", []).append(source)
        if self.chance(0.05):
            disk = {"volumeID": f"vol-{rng.randint(10, 14)}", "readOnly": True}
            source = {"name": "ebs", "awsElasticBlockStore": disk}
            spec.setdefault("volumes", []).append(source)
        return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}

    def containers(self, running: bool) -> list[Json]:
        rng = self.rng
        containers = []
        most = 1500 if running else rng.choice((400, 3000, 12000))
        for number in range(rng.choice((1, 1, 1, 2))):
            container: Json = {"name": f"c{number}", "image": rng.choice(IMAGES)}
            requests = {}
            if self.chance(0.8):
                requests["cpu"] = f"{rng.randint(50, most)}m"
            if self.chance(0.7):
                requests["memory"] = f"{rng.randint(50, most * 2)}Mi"
            if self.chance(0.1):
                requests["ephemeral-storage"] = f"{rng.randint(1, 20)}Gi"
            limits = {}
            if self.chance(0.1):
                resource = rng.choice((GPU, GPU, "nvidia.com/gpu.shared"))
                limits[resource] = str(rng.randint(1, 1 if running else 5))
            container["resources"] = {"requests": requests | limits, "limits": limits}
            if self.chance(0.12):
                port: Json = {"containerPort": 80, "hostPort": 80 + number}
                if self.chance(0.4):
                    port["hostIP"] = rng.choice(("10.0.0.1", "10.0.0.2"))
                if self.chance(0.3):
                    port["protocol"] = "UDP"
                container["ports"] = [port]
            if not running and self.chance(0.03):
                container["restartPolicy"] = "Never"
                codes = {"operator": "In", "values": [1]}
                container["restartPolicyRules"] = [
                    {"action": "RestartAllContainers", "exitCodes": codes}
                ]
            containers.append(container)
        return containers

    def constraints(self, spec: Json, running: bool) -> None:
        rng = self.rng
        if not running and self.chance(0.15):
            spec["nodeSelector"] = {"disk": rng.choice(("ssd", "hdd"))}
        affinity: Json = {}
        if not running and self.chance(0.2):
            affinity["nodeAffinity"] = self.draw.node_affinity()
        for kind in ("podAffinity", "podAntiAffinity"):
            if self.chance(0.15):
                affinity[kind] = self.draw.pod_affinity()
        if affinity:
            spec["affinity"] = affinity
        if self.chance(0.4):
            spec["tolerations"] = self.draw.tolerations()
        if not running and self.chance(0.3):
            keys = rng.sample((ZONE, HOST, "disk"), rng.choice((1, 1, 2)))
            spec["topologySpreadConstraints"] = [self.draw.spread(key) for key in keys]
        if self.chance(0.08):
            disk = rng.choice(
                (
                    {"gcePersistentDisk": {"pdName": "d", "readOnly": self.chance(0.5)}},
                    {"awsElasticBlockStore": {"volumeID": "d"}},
                    {
                        "iscsi": {
                            "targetPortal": "p",
                            "iqn": IQN,
                            "lun": 0,
                        }
                    },
                    {"rbd": {"monitors": ["m"], "image": "i"}},
                )
            )
            spec.setdefault("volumes", []).append({"name": "disk", **disk})
