"""Pods of project code on real nodes, without building an image.

The host image is empty but for links into /usr. The machine's /usr, its Python, the virtual
environment and the checkout are mounted read-only at the paths that they have here.
"""

import sys
from pathlib import Path
from typing import Any

from lab import images

CHECKOUT = Path(__file__).resolve().parent.parent

Json = dict[str, Any]


def python_command(*arguments: str) -> list[str]:
    """The command line of this Python with these arguments, as it is inside such a pod."""
    return [str(Path(sys.prefix) / "bin" / "python"), *arguments]


def mount_host(pod_spec: Json, *further: Path) -> Json:
    """The pod spec with the host image in every container, and the machine's folders in it."""
    paths = [Path("/usr"), Path(sys.base_prefix), Path(sys.prefix), CHECKOUT, *further]
    volumes: list[Json] = []
    mounts: list[Json] = []
    for path in _without_nested(paths):
        name = f"host-{len(volumes)}"
        volumes.append({"name": name, "hostPath": {"path": str(path), "type": "Directory"}})
        mounts.append({"name": name, "mountPath": str(path), "readOnly": True})
    containers = [
        {
            **container,
            "image": images.HOST,
            "imagePullPolicy": "Never",
            "workingDir": str(CHECKOUT),
            "env": [
                {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
                *container.get("env", ()),
            ],
            "volumeMounts": [*mounts, *container.get("volumeMounts", ())],
        }
        for container in pod_spec["containers"]
    ]
    return {
        **pod_spec,
        "containers": containers,
        "volumes": [*volumes, *pod_spec.get("volumes", ())],
    }


def _without_nested(paths: list[Path]) -> list[Path]:
    """Without folders that lie in another one of them, and without doubles."""
    unique = list(dict.fromkeys(paths))
    return [p for p in unique if not any(folder in p.parents for folder in unique)]
