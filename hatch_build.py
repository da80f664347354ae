"""What a build takes of plugins/: the package of each entry point `NAME = mmcl_NAME`, which stands in plugins/mmcl-NAME/mmcl_NAME.

Neither the tests nor the README beside it go into a wheel; an editable install finds it where it stands.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuiltIns(BuildHookInterface):
    """The one list is `[project.entry-points.mmcl]`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the packages to a wheel, or the folders that they stand in to the paths of an editable install."""
        self._scratch = tempfile.TemporaryDirectory()
        folders = {
            package: Path(self.root, "plugins", f"mmcl-{name}")
            for name, package in sorted(self.metadata.core.entry_points["mmcl"].items())
        }
        for package, folder in folders.items():
            if not (folder / package / "__init__.py").is_file():
                raise FileNotFoundError(f"{folder / package}: is not there, and an entry point of pyproject.toml names it")
        if version == "editable":
            paths = Path(self._scratch.name, "_mmcl_plugins.pth")
            paths.write_text("\n".join(map(str, folders.values())), encoding="utf-8")
            build_data["force_include"][str(paths)] = paths.name
        else:
            build_data["force_include"] |= {str(folder / package): package for package, folder in folders.items()}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Clean up."""
        self._scratch.cleanup()
