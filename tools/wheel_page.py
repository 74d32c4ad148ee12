"""Puts the page into the wheel as bridge/web: its own files, and LiveKit's client where npm has fetched it.

Hatch loads this while it builds; an editable install finds web/ beside the packages and needs none of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

__all__ = ["PageHook", "page_files"]

_LEFT_OUT = {"node_modules", "test", "package.json", "package-lock.json", ".npmrc"}
_CLIENT = Path("node_modules", "livekit-client", "dist", "livekit-client.esm.mjs")


def page_files(web: Path) -> dict[str, str]:
    """Files of the page to where they go in the wheel."""
    found = {
        str(path): f"bridge/web/{path.relative_to(web).as_posix()}"
        for path in sorted(web.rglob("*"))
        if path.is_file() and path.relative_to(web).parts[0] not in _LEFT_OUT
    }
    for client in (web / _CLIENT, web / "vendor" / _CLIENT.name):
        if client.is_file():
            found[str(client)] = f"bridge/web/vendor/{_CLIENT.name}"
    return found


class PageHook(BuildHookInterface[Any]):
    """Named in pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is built; `version` is `editable` for one that points back here."""
        if version != "editable":
            build_data["force_include"].update(page_files(Path(self.root) / "web"))
