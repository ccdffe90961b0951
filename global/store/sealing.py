"""Encryption of what users hand in: YAML lies in the database sealed, under the layer's key file.

A key file has one Fernet key a line: the first one seals, all of them open, so that keys are
rotated by putting a new line first."""

import os
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from cluster.errors import ConfigError


class SealError(ConfigError):
    """The key file cannot be used, or opens nothing of this database."""


class Seal:
    """Seals and opens texts with the keys of one file."""

    def __init__(self, keys: list[bytes]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, text: str) -> bytes:
        return self._fernet.encrypt(text.encode())

    def open(self, sealed: bytes) -> str:
        """Raises SealError for what was sealed with another key."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as error:
            raise SealError("the key file does not open what lies in the database") from error


def of_file(path: Path) -> Seal:
    """The seal of a key file, which is made, for its owner alone, where there is none.

    Raises SealError.
    """
    keys = [line for line in key_file(path, Fernet.generate_key).split() if line]
    if not keys:
        raise SealError(f"{path}: has no key; delete the file to have one made")
    try:
        return Seal(keys)
    except ValueError as error:
        raise SealError(f"{path}: {error}; one Fernet key a line is expected") from error


def key_file(path: Path, make: Callable[[], bytes]) -> bytes:
    """What the file has; made, for its owner alone, where there is none. Raises SealError."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(make() + b"\n")
        return path.read_bytes()
    except OSError as error:
        raise SealError(f"{path}: {error.strerror}") from error
