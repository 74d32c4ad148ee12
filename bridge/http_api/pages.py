"""The files of the page: a fixed list, made once; what is not on it does not exist. No path of a request is opened."""

from __future__ import annotations

from pathlib import Path

import msgspec

__all__ = ["PageFile", "Pages", "find_web"]

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_NOT_SERVED = {"node_modules", "test", "tests"}
_LONGEST_FILE = 8 << 20
_LIVEKIT_CLIENT = "livekit-client.esm.mjs"


class PageFile(msgspec.Struct, frozen=True):
    """One file and how it is called."""

    path: Path
    content_type: str


def find_web() -> Path | None:
    """The folder of the page: beside the packages in a checkout, inside `bridge` in an installed wheel."""
    bridge = Path(__file__).parents[1]
    for folder in (bridge.parent / "web", bridge / "web"):
        if (folder / "index.html").is_file():
            return folder
    return None


class Pages:
    """URL paths of the page to files. `folder` None: there is no page, and nothing is found."""

    def __init__(self, folder: Path | None) -> None:
        self._files: dict[str, PageFile] = {}
        self.livekit_client = False
        """The page can join LiveKit rooms: its client is there."""
        if folder is None:
            return
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if inside.parts[0] in _NOT_SERVED or any(part.startswith(".") for part in inside.parts):
                continue
            kind = _TYPES.get(path.suffix)
            if kind is not None and path.is_file() and not path.is_symlink() and path.stat().st_size <= _LONGEST_FILE:
                self._files[f"/assets/{inside.as_posix()}"] = PageFile(path, kind)
        if (folder / "index.html").is_file():
            self._files["/"] = PageFile(folder / "index.html", _TYPES[".html"])
        for client in (
            folder / "node_modules" / "livekit-client" / "dist" / _LIVEKIT_CLIENT,
            folder / "vendor" / _LIVEKIT_CLIENT,
        ):
            if client.is_file():
                self._files[f"/vendor/{_LIVEKIT_CLIENT}"] = PageFile(client, _TYPES[".mjs"])
                self.livekit_client = True
                break

    def find(self, path: str) -> PageFile | None:
        """The file of this URL path, which is compared and never taken apart."""
        return self._files.get(path)
