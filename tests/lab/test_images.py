"""Container images made here: docker-archives of one layer."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lab import images
from lab.binaries import LabError


def opened(target: Path) -> tuple[dict[str, Any], dict[str, Any], tarfile.TarFile]:
    """The manifest's entry, the image's configuration, and its layer."""
    with tarfile.open(target) as archive:

        def content(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file is not None
            return file.read()

        (entry,) = json.loads(content("manifest.json"))
        settings = content(entry["Config"])
        (layer,) = (content(name) for name in entry["Layers"])
        assert entry["Config"] == f"{hashlib.sha256(settings).hexdigest()}.json"
        config = json.loads(settings)
        digest = hashlib.sha256(layer).hexdigest()
        assert config["rootfs"]["diff_ids"] == [f"sha256:{digest}"]
    return entry, config, tarfile.open(fileobj=io.BytesIO(layer))


def test_the_pause_image_runs_its_one_program(tmp_path: Path) -> None:
    binary, target = tmp_path / "pause-binary", tmp_path / "pause.tar"
    binary.write_bytes(b"\x7fELF")
    images.pause_image(binary, target)
    entry, config, layer = opened(target)
    assert entry["RepoTags"] == [images.PAUSE]
    assert config["config"]["Entrypoint"] == ["/pause"]
    with layer:
        (member,) = layer.getmembers()
        assert (member.name, member.mode) == ("pause", 0o755)
        program = layer.extractfile(member)
        assert program is not None
        assert program.read() == b"\x7fELF"


def test_the_host_image_links_into_usr_and_knows_root(tmp_path: Path) -> None:
    target = tmp_path / "host.tar"
    images.host_image(target)
    entry, _, layer = opened(target)
    assert entry["RepoTags"] == [images.HOST]
    with layer:
        found = {member.name: member for member in layer.getmembers()}
        assert found["bin"].issym()
        assert found["bin"].linkname == "usr/bin"
        assert found["usr"].isdir()
        assert found["tmp"].mode == 0o1777
        passwd = layer.extractfile("etc/passwd")
        assert passwd is not None
        assert passwd.read().startswith(b"root:x:0:0:")


def test_a_folder_becomes_a_root_file_system(tmp_path: Path) -> None:
    root, target = tmp_path / "root", tmp_path / "image.tar"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "name").write_text("x")
    (root / "run.sh").write_text("exit 0")
    images.from_folder("example/app:1", root, target)
    entry, _, layer = opened(target)
    assert entry["RepoTags"] == ["example/app:1"]
    with layer:
        assert layer.getnames() == ["etc", "etc/name", "run.sh"]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".layer"] == []


def test_what_is_no_folder_becomes_no_image(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is no folder"):
        images.from_folder("x", tmp_path / "gone", tmp_path / "image.tar")
    assert list(tmp_path.iterdir()) == []
