"""Who asks: bearer tokens of a file, each of one user in one workspace and project.

- {token: <at least 16 characters>, user: ann, workspace: ws1, project: p1}
- {token: …, user: ann, admin: true}
- {token: …, agent: c1}
"""

import hmac
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cluster.errors import ConfigError
from federation.request import Owner
from serving.security import MIN_TOKEN

MAX_BYTES = 1024 * 1024


class TokenEntry(msgspec.Struct, forbid_unknown_fields=True):
    """One line of the token file."""

    token: str
    user: str = ""
    workspace: str = ""
    project: str = ""
    admin: bool = False
    """Whether this user may register policies: images that run in the layer's cluster."""
    agent: str = ""
    """The cluster whose agent has this token: it may read YAML, and nothing else."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a token belongs to."""

    owner: Owner
    agent: str = ""
    named: bool = True
    """Whether a token says so; otherwise nobody has to show one."""
    admin: bool = False
    forwards: bool = False
    """Whether this is an agent that forwards pods of its cluster."""


class Tokens:
    """The token file, read once. Without a file everybody is `anonymous` (loopback only)."""

    def __init__(self, entries: list[TokenEntry] | None) -> None:
        self._entries = entries

    @property
    def open(self) -> bool:
        """Whether nobody has to show a token."""
        return self._entries is None

    def identify(self, authorization: str) -> Identity | None:
        """By the Authorization header; None for a token that is nobody's."""
        if self._entries is None:
            return Identity(Owner("anonymous"), named=False, admin=True)
        given = authorization.encode("utf-8", "replace")
        matched = None
        for entry in self._entries:
            # All of them, so that the time says nothing about which one came close.
            if hmac.compare_digest(given, b"Bearer " + entry.token.encode()):
                matched = entry
        if matched is None:
            return None
        owner = Owner(matched.user, matched.workspace, matched.project)
        return Identity(owner, matched.agent, admin=matched.admin)


def of_file(path: str) -> Tokens:
    """Raises ConfigError."""
    if not path:
        return Tokens(None)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: {len(data):,} bytes, at most {MAX_BYTES:,} are read")
    try:
        entries = msgspec.yaml.decode(data, type=list[TokenEntry])
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    for number, entry in enumerate(entries, 1):
        if len(entry.token) < MIN_TOKEN:
            raise ConfigError(
                f"{path}: entry {number}: a token has at least {MIN_TOKEN} characters"
            )
        if bool(entry.user) == bool(entry.agent):
            raise ConfigError(f"{path}: entry {number}: say either user or agent")
        if entry.admin and entry.agent:
            raise ConfigError(f"{path}: entry {number}: admin is for users")
    return Tokens(entries)
