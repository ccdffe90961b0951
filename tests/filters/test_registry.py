"""Plugins by name: those of the package and those that others install."""

from pathlib import Path

import pytest

from filters.registry import IN_TREE, OUR_OWN, plugins
from tests.harness.plugins import install

CODE = """
from filters.common.plugin import Plugin

class Quota(Plugin):
    NAME = "Quota"
"""


def test_every_plugin_is_known_by_its_own_name() -> None:
    assert all(name == plugin.NAME for name, plugin in IN_TREE.items())
    assert set(IN_TREE) >= OUR_OWN


def test_an_installed_plugin_comes_after_those_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(install(tmp_path, "gsch_test_quota", CODE, Quota="Quota"))
    found = plugins()
    assert list(found)[: len(IN_TREE)] == list(IN_TREE)
    assert found["Quota"].NAME == "Quota"


def test_two_plugins_of_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(install(tmp_path, "gsch_test_twice", CODE, NodeName="Quota"))
    with pytest.raises(ValueError, match=r"NodeName of gsch_test_twice:Quota is already there"):
        plugins()
