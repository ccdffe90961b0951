"""The pipeline's pods, as each of the three ways of placing wants them."""

import json
from pathlib import Path
from typing import Any

from bench.pipeline.wire import PORT
from lab.pods import mount_host, python_command

STAGES = ("decode", "infer", "draw")
STOCK, PING, JOINT = "kube-scheduler", "ping", "joint"
WAYS = (STOCK, PING, JOINT)
SCHEDULERS = {STOCK: "default-scheduler", PING: "gsch", JOINT: "gsch"}
CLIENT = "client"
"""The name under which the place of the video's sender, beside the master, is measured."""
RATE = 25.0
"""Frames a second that cross from stage to stage, for the weights."""

Json = dict[str, Any]


def pods(way: str, run: str, apart: bool, model: Path) -> list[Json]:
    """The three pods of a run."""
    return [
        pod(
            run,
            stage,
            model,
            _config(way, stage, apart),
            scheduler=SCHEDULERS[way],
            different_nodes=apart and way != JOINT,
        )
        for stage in STAGES
    ]


def pod(
    run: str,
    stage: str,
    model: Path,
    config: Json | None,
    *,
    scheduler: str = "gsch",
    different_nodes: bool = False,
) -> Json:
    """One stage's pod. `different_nodes`: by required anti-affinity to the run's other stages."""
    arguments = [stage, str(model)] if stage == "infer" else [stage]
    container: Json = {
        "name": stage,
        "command": python_command("-m", "bench.pipeline.stage", *arguments),
        "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
        "resources": {"requests": {"cpu": "300m", "memory": "256Mi"}},
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    if config is not None:
        container["env"].append({"name": "gschConfig", "value": json.dumps(config)})
    spec: Json = {
        "schedulerName": scheduler,
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    if different_nodes:
        term = {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"run": run}},
        }
        required = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
        spec["affinity"] = {"podAntiAffinity": required}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{run}-{stage}",
            "namespace": "default",
            "labels": {"run": run, "stage": stage},
        },
        "spec": mount_host(spec, model.parent),
    }


def _config(way: str, stage: str, apart: bool) -> Json | None:
    """None for kube-scheduler; by ping, nearness to the client alone; jointly, the whole graph."""
    if way == STOCK:
        return None
    config: Json = {"type": "local", "priority": "GLowLatencyPriority"}
    if way == PING:
        return {**config, "option": {"mode": "fromnode", "sourceNode": CLIENT}}
    # One round trip to the client for the whole video, one a frame from stage to stage.
    talks: dict[str, list[Json]] = {
        "decode": [{"node": CLIENT, "callsPerSecond": 1}],
        "infer": [{"stage": "decode", "callsPerSecond": RATE}],
        "draw": [{"stage": "infer", "callsPerSecond": RATE}],
    }
    return {
        **config,
        "option": {
            "pipeline": "video",
            "stage": stage,
            "stages": list(STAGES),
            "dependsOn": talks[stage],
            "differentNodes": apart,
        },
    }
