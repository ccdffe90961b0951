"""What a process of the layer connects to."""

from pathlib import Path

import pytest
from federation.connections import open_front_session
from federation.settings import FrontAccess, GlobalConfiguration

from cluster.errors import ConfigError


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "No such file"), ("no certificate", "ca.crt")]
)
async def test_an_authority_that_cannot_be_read_is_named(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_text(content)
    configuration = GlobalConfiguration(
        "config.gsch.io/v1alpha1",
        "GlobalConfiguration",
        front=FrontAccess("https://front", ca_file=str(path)),
    )
    with pytest.raises(ConfigError, match=problem):
        async with open_front_session(configuration):
            pass
