"""What the wheel holds beside the package: suites, baselines, and the kept tables without their pictures."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TABLES = (".csv", ".json", ".md", ".yaml")  # the pictures beside them are for the documentation


class KeptTables(BuildHookInterface):
    """Puts the files of results/reference that are no pictures into ganbench/_shipped."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        for path in sorted((root / "results/reference").rglob("*")):
            if path.suffix in TABLES:
                build_data["force_include"][str(path)] = (
                    f"ganbench/_shipped/{path.relative_to(root).as_posix()}"
                )
