"""The documents about the configuration say what the settings say. `make docs` writes them anew."""

from __future__ import annotations

import tomllib

import msgspec
import pytest

from bridge.config import read
from bridge.config.environment import STANDARD
from bridge.config.settings import Config
from tools.config_reference import ROOT, Section, example, sections, with_tables


def test_every_key_is_documented_with_its_default() -> None:
    document = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert document == with_tables(document), "run: make docs"


def test_the_example_file_shows_every_key_with_its_default() -> None:
    assert (ROOT / "roombridge.example.toml").read_text(encoding="utf-8") == example(), "run: make docs"


def test_the_example_file_is_the_default_configuration() -> None:
    shown = read(tomllib.loads(example()), {})
    default = read({}, {})
    for field in msgspec.structs.fields(Config):
        if field.name != "providers":
            assert getattr(shown, field.name) == getattr(default, field.name), field.name
    assert shown.providers["scripted"] == default.providers["scripted"]


def test_a_copied_example_leaves_the_well_known_variables_in_force() -> None:
    environ = {name: f"ws://{name.lower().replace('_', '-')}.example" for name in STANDARD}
    config = read(tomllib.loads(example()), environ)
    for name, path in STANDARD.items():
        found: object = config
        for key in path:
            found = getattr(found, key)
        assert found == environ[name], name


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.path or "top")
def test_every_key_says_what_it_means(section: Section) -> None:
    assert section.meaning
    assert [key.name for key in section.keys if not key.meaning] == []
