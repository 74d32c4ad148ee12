"""What may be imported from the two package roots, and that it is the thing itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import bridge
import providers

ROOT = Path(__file__).parents[2]
PACKAGES = [bridge, providers]


def declared(package: ModuleType) -> dict[str, str]:
    """What type checkers are told: each name and the module that it comes from."""
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name: node.module or ""
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_all_names_are_declared_to_type_checkers_and_found_where_they_live(package: ModuleType) -> None:
    assert sorted(declared(package)) == sorted(package.__all__)
    for name, home in declared(package).items():
        assert getattr(package, name) is getattr(sys.modules[home], name)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_each_name_is_public_where_it_lives(package: ModuleType) -> None:
    for name, home in declared(package).items():
        getattr(package, name)
        assert name in sys.modules[home].__all__


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_a_name_that_is_not_there_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'Bridge'"):
        _ = package.Bridge
    assert not hasattr(package, "_Nothing")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_dir_lists_what_has_not_been_loaded_yet(package: ModuleType) -> None:
    assert set(package.__all__) <= set(dir(package))


def test_a_name_loads_its_own_module_and_not_the_rest() -> None:
    code = "import sys, bridge; bridge.ConfigError; print('bridge.core.errors' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_the_packages_themselves_import_from_where_a_name_lives(package: ModuleType) -> None:
    """Through the root, the import graph would not show who uses what."""
    wrong = [
        f"{path.relative_to(ROOT)}: {alias.name}"
        for folder in PACKAGES
        for path in Path(str(folder.__file__)).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == package.__name__
        for alias in node.names
        if alias.name in package.__all__
    ]
    assert wrong == []
