"""The files of the page hold together: what they name is there, nothing is inline, no registry is named."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

WEB = Path(__file__).parents[3] / "web"
HTML = (WEB / "index.html").read_text(encoding="utf-8")
MODULES = sorted((WEB / "js").glob("*.js"))
STYLES = sorted((WEB / "css").glob("*.css"))


class Page(HTMLParser):
    """The elements of the page: name and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(HTML)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))


PAGE = Page().elements
IDS = [attributes["id"] for _, attributes in PAGE if "id" in attributes]


def test_nothing_is_inline_for_the_policy_of_the_server_forbids_it() -> None:
    for tag, attributes in PAGE:
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name == "style" or name.startswith("on")], attributes
    for module in MODULES:
        made = r"innerHTML|outerHTML|insertAdjacentHTML|\beval\b|new Function"
        assert not re.search(made, module.read_text()), module


def test_everything_that_is_named_is_there() -> None:
    texts = [HTML, *(path.read_text(encoding="utf-8") for path in (*MODULES, *STYLES))]
    for named in {found for text in texts for found in re.findall(r"assets/([\w./-]+)", text)}:
        assert (WEB / named).is_file(), named
    for module in MODULES:
        for named in re.findall(r"""(?:from|import) "(\./[^"]+)";""", module.read_text()):
            assert (module.parent / named).is_file(), f"{module.name}: {named}"
    icons = set(re.findall(r'<symbol id="([\w-]+)"', (WEB / "icons.svg").read_text()))
    used = set(re.findall(r"icons\.svg#([\w-]+)", HTML))
    for module in MODULES:
        used |= set(re.findall(r'\bicon\("([\w-]+)"\)', module.read_text()))
    assert used <= icons
    assert icons - used <= {"mic-off"}, "an icon that nobody uses"


def test_every_element_that_a_module_asks_for_is_on_the_page() -> None:
    assert len(IDS) == len(set(IDS)), "an id twice"
    for module in MODULES:
        asked = set(re.findall(r'byId\("([\w-]+)"\)', module.read_text()))
        assert asked <= set(IDS), f"{module.name}: {asked - set(IDS)}"
    for _, attributes in PAGE:
        for name in ("for", "aria-labelledby"):
            assert set(attributes.get(name, "").split()) <= set(IDS), attributes


def test_the_lock_names_no_registry_and_the_client_is_pinned() -> None:
    wanted = json.loads((WEB / "package.json").read_text())
    locked = json.loads((WEB / "package-lock.json").read_text())["packages"]
    for name, version in {**wanted["dependencies"], **wanted["devDependencies"]}.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
        assert locked[f"node_modules/{name}"]["version"] == version
    assert list(wanted["dependencies"]) == ["livekit-client"]
    for path, package in locked.items():
        assert "resolved" not in package, path
        assert not path or package["integrity"].startswith("sha512-"), path


def test_the_modules_pass_their_own_tests() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node: the page's modules are not tested by themselves")
    tests = sorted(str(path) for path in (WEB / "test").glob("*.test.js"))
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap", *tests], cwd=WEB, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    passed = re.search(r"^# pass (\d+)", done.stdout, re.M)
    assert passed and int(passed[1]) > 20, done.stdout[-500:]
