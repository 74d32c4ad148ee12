"""The page's own files are found, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.http_api.pages import Pages


@pytest.fixture
def web(tmp_path: Path) -> Path:
    folder = tmp_path / "web"
    for name in ("index.html", "js/main.js", "css/base.css", "package.json", "test/some.test.js", ".secret.js"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    client = folder / "node_modules" / "livekit-client" / "dist" / "livekit-client.esm.mjs"
    client.parent.mkdir(parents=True)
    client.write_text("export {}")
    (client.parent / "livekit-client.umd.js").write_text("x")
    (tmp_path / "outside.js").write_text("outside")
    (folder / "js" / "link.js").symlink_to(tmp_path / "outside.js")
    return folder


def test_the_page_its_modules_and_livekits_client_are_found(web: Path) -> None:
    pages = Pages(web)
    for path, name, kind in (
        ("/", "index.html", "text/html"),
        ("/assets/js/main.js", "main.js", "text/javascript"),
        ("/assets/css/base.css", "base.css", "text/css"),
        ("/vendor/livekit-client.esm.mjs", "livekit-client.esm.mjs", "text/javascript"),
    ):
        file = pages.find(path)
        assert file is not None and file.path.name == name and file.content_type.startswith(kind)
    assert pages.livekit_client


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../outside.js",
        "/assets/js/../../outside.js",
        "/assets//js/main.js",
        "/assets/js/link.js",
        "/assets/package.json",
        "/assets/test/some.test.js",
        "/assets/.secret.js",
        "/assets/node_modules/livekit-client/dist/livekit-client.umd.js",
        "/vendor/livekit-client.umd.js",
        "/assets/js",
        "/etc/passwd",
        "//etc/passwd",
        "/assets/js/main.js\0",
        "/assets/js\\main.js",
    ],
)
def test_nothing_else_is(web: Path, path: str) -> None:
    assert Pages(web).find(path) is None


def test_a_client_inside_a_wheel_is_found_and_a_missing_one_is_known(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("page")
    assert not Pages(tmp_path).livekit_client
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "livekit-client.esm.mjs").write_text("export {}")
    assert Pages(tmp_path).find("/vendor/livekit-client.esm.mjs") is not None


def test_without_a_page_nothing_is_found() -> None:
    assert Pages(None).find("/") is None
