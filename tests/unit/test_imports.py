"""Imports point one way, and heavy libraries wait until they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

NEVER_IMPORTS = {
    "bridge": {"livekit.api"},
    "providers": {"bridge"},
    "providers.signal": {"asyncio", "websockets", "providers.gemini", "providers.openai", "providers.scripted"},
    "providers.gemini": {"providers.openai", "providers.scripted", "providers.emulators", "google.genai"},
    "providers.openai": {"providers.gemini", "providers.scripted", "providers.emulators", "openai"},
    "providers.scripted": {"providers.gemini", "providers.openai"},
    "bridge.core": {"asyncio", "bridge.audio", "bridge.conversation", "bridge.transports", "bridge.lanes", "time"},
    "bridge.audio": {"asyncio", "bridge.conversation", "bridge.sessions", "bridge.transports", "bridge.lanes", "time"},
    "bridge.video": {"asyncio", "bridge.conversation", "bridge.sessions", "bridge.transports", "bridge.lanes", "time"},
    "bridge.conversation": {
        "asyncio",
        "bridge.lanes",
        "bridge.sessions",
        "bridge.transports",
        "providers.gemini",
        "providers.openai",
    },
    "bridge.sessions": {"bridge.lanes", "bridge.transports", "providers.gemini", "providers.openai"},
    "bridge.transports": {"bridge.lanes", "bridge.sessions", "providers.gemini", "providers.openai"},
    "bridge.lanes": {"bridge.config", "bridge.facade", "bridge.app", "livekit", "providers.gemini", "providers.openai"},
    "bridge.facade": {"bridge.config", "bridge.app", "bridge.cli", "livekit", "providers.gemini", "providers.openai"},
    "bridge.http_api": {"bridge.app", "bridge.cli", "bridge.config", "bridge.facade", "bridge.lanes", "livekit"},
    "bridge.config": {"asyncio", "bridge.app", "bridge.cli", "livekit"},
    "bridge.app": {"bridge.cli", "click", "rich"},
}
"""A package, and what neither it nor anything below it may import, directly or deep inside a function."""

ABOVE = ("bridge.cli", "bridge.app", "bridge.config", "bridge.facade", "bridge.lanes")
"""What the packages named below must not know of, from the top down."""


OF_PROVIDERS = {
    "bridge.core": {"contract", "errors"},
    "bridge.audio": {"signal"},
    "bridge.conversation": {"contract"},
    "bridge.sessions": {"contract", "errors", "signal"},
    "bridge.transports": {"signal", "webrtc"},
    "bridge.lanes": {"contract", "errors", "health", "retry", "signal"},
    "bridge.facade": {"contract", "errors", "health", "signal"},
    "bridge.config": {"catalog", "errors", "health", "settings"},
    "bridge.app": {"catalog", "contract", "errors", "health"},
    "bridge.diagnosis": {"catalog", "errors", "settings"},
    "bridge.cli": {"catalog", "errors"},
    "bridge.demo": {"catalog", "contract", "signal"},
    "bridge.serve": {"catalog", "contract", "webrtc"},
    "bridge.emulate": {"catalog", "emulators", "errors", "scripted.scenario"},
}
"""What each part of the bridge may import from `providers`: the catalog is for those who choose a model by name, the
emulators are for the command that runs them, and nobody else knows one provider from another. A part that is not named
here imports nothing."""


@cache
def modules() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for package in ("bridge", "providers"):
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """Every module that this one names in an import, wherever it stands; type-checking blocks too."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: write the whole name of what you import"
            assert node.module is not None
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(named)


def below(package: str, name: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("package", NEVER_IMPORTS)
def test_imports_point_one_way(package: str) -> None:
    wrong = [
        f"{module} imports {name}"
        for module in modules()
        if below(package, module)
        for name in imports(module)
        for never in NEVER_IMPORTS[package]
        if below(never, name)
    ]
    assert wrong == []


def modules_of_providers(module: str) -> set[str]:
    """The modules of `providers` that this one imports, names taken from a module left out."""
    named = {name for name in imports(module) if below("providers", name)}
    return {name for name in named if name in modules() and not any(below(name, other) for other in named - {name})} | {
        name.rpartition(".")[0] for name in named if name not in modules()
    }


@pytest.mark.parametrize("module", sorted(name for name in modules() if below("bridge", name)))
def test_the_bridge_knows_only_the_neutral_part_of_the_providers(module: str) -> None:
    part = ".".join(module.split(".")[:2])
    allowed = {f"providers.{name}" for name in OF_PROVIDERS.get(part, ())}
    assert {name for name in modules_of_providers(module) if not any(below(one, name) for one in allowed)} == set()


def test_every_part_and_module_of_the_list_exists() -> None:
    named = {f"providers.{name}" for names in OF_PROVIDERS.values() for name in names}
    assert (named | set(OF_PROVIDERS)) - set(modules()) == set()


@pytest.mark.parametrize("package", ["bridge.sessions", "bridge.transports", "bridge.conversation", "bridge.audio"])
def test_nothing_below_knows_what_stands_above(package: str) -> None:
    wrong = [
        f"{module} imports {name}"
        for module in modules()
        if below(package, module)
        for name in imports(module)
        for above in ABOVE
        if below(above, name)
    ]
    assert wrong == []


LAZY = {
    "bridge.http_api.routes",
    "bridge.http_api.server",
    "providers.webrtc.opus",
    "providers.webrtc.seam",
    "providers.webrtc.seam_ice",
    "providers.webrtc.video",
}
"""Modules that exist for an extra and import it at their top; they are themselves imported only inside functions."""


def imported_at_the_top(module: str) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(modules()[module].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_modules_for_an_extra_are_imported_on_first_use() -> None:
    wrong = [
        f"{module} imports {name}" for module in set(modules()) - LAZY for name in imported_at_the_top(module) & LAZY
    ]
    assert wrong == [] and set(modules()) >= LAZY


def test_the_core_imports_no_optional_library() -> None:
    """Extras are imported on first use, inside a function: never at the top of a module."""
    optional = {
        "aiohttp", "aioice", "aiortc", "av", "cryptography", "google", "openai", "PIL", "pylibsrtp", "requests",
        "uvloop", "webrtcvad",
    }  # fmt: skip
    wrong = [
        f"{module} imports {name}"
        for module in set(modules()) - LAZY
        for node in ast.parse(modules()[module].read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if name.partition(".")[0] in optional
    ]
    assert wrong == []


HEAVY = (
    "PIL",
    "livekit",
    "aioice",
    "aiortc",
    "av",
    "google.genai",
    "google.auth",
    "openai",
    "requests",
    "aiohttp",
    "cryptography",
    "soxr",
)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("bridge", (*HEAVY, "numpy", "websockets", "asyncio", "rich", "click")),
        ("providers", (*HEAVY, "numpy", "websockets", "asyncio")),
        ("providers.catalog", (*HEAVY, "numpy", "websockets", "asyncio")),
        ("bridge.cli", (*HEAVY, "numpy", "websockets", "rich", "asyncio")),
        ("bridge.app", HEAVY),
        ("bridge.serve", HEAVY),
        ("bridge.config", (*HEAVY, "websockets")),
        ("providers.webrtc.settings", (*HEAVY, "numpy", "websockets", "asyncio")),
        ("providers.webrtc.peer", HEAVY),
    ],
)
def test_importing_loads_nothing_heavy(module: str, heavy: tuple[str, ...]) -> None:
    if module not in modules():
        pytest.fail(f"{module} is gone: mend this list")
    code = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
