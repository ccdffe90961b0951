"""The lab's clusters on this machine, with fake nodes or with real ones."""

from lab.cluster import LabCluster, root
from lab.real import RealCluster


def clusters() -> list[LabCluster]:
    """Every cluster of which anything is left."""
    folder = root() / "clusters"
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    return [by_name(name) for name in names]


def by_name(name: str) -> LabCluster:
    """The cluster of this name, of whichever kind it is. Raises LabError."""
    return RealCluster(name) if RealCluster.there(name) else LabCluster(name)
