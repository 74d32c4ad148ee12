"""The wheel holds the page, and nothing that only its makers need."""

from __future__ import annotations

from pathlib import Path

from tools.wheel_page import page_files

WEB = Path(__file__).parents[3] / "web"


def test_the_page_of_this_checkout_goes_into_the_wheel() -> None:
    files = page_files(WEB)
    assert files[str(WEB / "index.html")] == "bridge/web/index.html"
    assert files[str(WEB / "js" / "main.js")] == "bridge/web/js/main.js"
    assert not [path for path in files.values() if "test" in path or "package" in path]
    there = [path for path in WEB.rglob("*") if path.suffix in (".js", ".css", ".html", ".svg")]
    own = [path for path in there if path.relative_to(WEB).parts[0] not in ("node_modules", "test")]
    assert {str(path) for path in own} <= files.keys()


def test_livekits_client_goes_along_where_npm_has_put_it(tmp_path: Path) -> None:
    dist = tmp_path / "node_modules" / "livekit-client" / "dist"
    dist.mkdir(parents=True)
    (dist / "livekit-client.umd.js").write_text("")
    (tmp_path / "index.html").write_text("")
    assert list(page_files(tmp_path).values()) == ["bridge/web/index.html"]
    (dist / "livekit-client.esm.mjs").write_text("")
    assert "bridge/web/vendor/livekit-client.esm.mjs" in page_files(tmp_path).values()
    assert len(page_files(tmp_path)) == 2
