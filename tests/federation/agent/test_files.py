"""YAML is fetched and parsed once, as long as there is room for it."""

import pytest
from federation.agent import files
from federation.agent.files import FileMissing, Files
from federation.documents import BadDocument

YAML = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


async def test_a_file_is_fetched_once_and_the_oldest_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched = []

    async def fetch(file_id: str) -> str:
        fetched.append(file_id)
        return YAML

    monkeypatch.setattr(files, "MAX_CHARACTERS", 2 * len(YAML))
    made = Files(fetch)
    for file_id in ("a", "b", "a", "c", "a", "b"):
        [document] = await made.read(file_id)
        assert document.kind == "ConfigMap"
    assert fetched == ["a", "b", "c", "b"]


async def test_what_cannot_be_had_is_not_kept() -> None:
    answers: list[str | Exception] = [FileMissing("none"), "kind: 1", YAML]

    async def fetch(file_id: str) -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    made = Files(fetch)
    with pytest.raises(FileMissing):
        await made.read("f")
    with pytest.raises(BadDocument):
        await made.read("f")
    assert len(await made.read("f")) == 1
