"""The configuration that a command's option names."""

from pathlib import Path

import pytest
import yaml

from cluster.errors import ConfigError
from scheduler.cli.options import configuration
from scheduler.config.configuration import API_VERSION, KIND, Configuration


def written(folder: Path, **fields: object) -> Path:
    path = folder / "gsch.yaml"
    path.write_text(yaml.safe_dump({"apiVersion": API_VERSION, "kind": KIND, **fields}))
    return path


def test_without_a_file_the_default_holds(tmp_path: Path) -> None:
    assert configuration(None) == Configuration()
    assert configuration(written(tmp_path, seed=3)).seed == 3


def test_a_plugin_that_is_not_there_is_a_mistake_at_once(tmp_path: Path) -> None:
    profile = {
        "schedulerName": "gsch",
        "plugins": {"multiPoint": {"enabled": [{"name": "NoSuchPlugin"}]}},
    }
    with pytest.raises(ConfigError, match="NoSuchPlugin"):
        configuration(written(tmp_path, profiles=[profile]))
