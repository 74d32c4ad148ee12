"""Trusting: the store is read once, and a bad file is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from providers.errors import SettingRefused
from providers.tls import client_context


def test_the_context_is_built_once() -> None:
    assert client_context(None) is client_context(None)


def test_a_file_without_authorities_is_refused_by_its_setting(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    with pytest.raises(SettingRefused, match=r"connection\.ca_file"):
        client_context(str(file))
