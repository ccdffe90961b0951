"""Packages of out-of-tree plugins, as users install them."""

from pathlib import Path


def install(
    folder: Path, module: str, code: str, group: str = "gsch.plugins", **plugins: str
) -> Path:
    """A folder that looks like site-packages with one package of plugins."""
    (folder / f"{module}.py").write_text(code)
    metadata = folder / f"{module}-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    lines = [f"{name} = {module}:{target}" for name, target in plugins.items()]
    (metadata / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))
    return folder
