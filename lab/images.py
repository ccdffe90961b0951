"""Container images made here, for nodes that have no registry to pull from."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

from lab.binaries import LabError

PAUSE = "gsch.io/lab/pause:1"
HOST = "gsch.io/lab/host:1"
"""Empty but for links into /usr: a pod mounts the machine's own /usr, and what else it needs."""

_EMPTY = ("usr", "proc", "sys", "dev", "etc", "tmp", "run", "root", "var", "opt", "work", "mnt")
_LINKS = ("bin", "sbin", "lib", "lib64")
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": b"hosts: files dns\n",
}


def host_image(target: Path) -> None:
    """An image with the outlines of a root file system."""
    with _layer(target) as layer:
        for name in _EMPTY:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            layer.addfile(entry)
        for name in _LINKS:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
            layer.addfile(entry)
        for name, body in _FILES.items():
            _add(layer, name, body)
    _wrap(HOST, target, {})


def pause_image(binary: Path, target: Path) -> None:
    """The image that holds a pod's namespaces."""
    with _layer(target) as layer:
        _add(layer, "pause", binary.read_bytes(), 0o755)
    _wrap(PAUSE, target, {"Entrypoint": ["/pause"]})


def from_folder(name: str, folder: Path, target: Path) -> None:
    """An image whose root file system is a folder of this machine. Raises LabError."""
    if not folder.is_dir():
        raise LabError(f"{folder} is no folder")
    with _layer(target) as layer:
        for path in sorted(folder.iterdir()):
            layer.add(path, path.name)
    _wrap(name, target, {})


def _add(archive: tarfile.TarFile, name: str, body: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(body), mode
    archive.addfile(entry, io.BytesIO(body))


def _layer(target: Path) -> tarfile.TarFile:
    return tarfile.open(target.with_suffix(".layer"), "w", format=tarfile.PAX_FORMAT)


def _wrap(name: str, target: Path, config: dict[str, object]) -> None:
    """A docker-archive of one layer, the one beside `target`."""
    layer = target.with_suffix(".layer")
    body = layer.read_bytes()
    digest = hashlib.sha256(body).hexdigest()
    path = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    settings = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": path, "WorkingDir": "/", **config},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    name_of_settings = f"{hashlib.sha256(settings).hexdigest()}.json"
    entry = {"Config": name_of_settings, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}
    with tarfile.open(target, "w") as archive:
        _add(archive, name_of_settings, settings)
        _add(archive, "manifest.json", json.dumps([entry]).encode())
        _add(archive, f"{digest}/layer.tar", body)
    layer.unlink()
