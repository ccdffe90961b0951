"""The front door: version and the `gsch` command."""

from importlib.metadata import version

__version__ = version("gsch")
