"""What the documents name is there: files, commands, counters, make targets."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from bridge.app import Process
from bridge.cli import main
from bridge.facade import RoomBridge
from bridge.transports.loopback import LoopbackRoom
from bridge.transports.webrtc_call import DirectCallSettings, WebRtcCall
from providers.scripted.model import ScriptedModel
from tests.fakes.caller import started

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith(("https://", "http://", "#")):
            assert (document.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_and_option_that_is_shown_exists(document: Path) -> None:
    for name, rest in re.findall(r"\broombridge ([a-z]+)((?: [^`\n|]*)?)", document.read_text(encoding="utf-8")):
        if name not in main.commands:
            assert f"`roombridge {name}" not in document.read_text(encoding="utf-8"), name
            continue
        known = {option for parameter in main.commands[name].params for option in (*parameter.opts, "--help")}
        assert {word for word in re.findall(r"--[a-z-]+", rest)} <= known, f"{name} {rest}"


def test_every_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    for document in DOCUMENTS:
        # In a code block or in backquotes, where variables may stand before the target.
        for words in re.findall(r"(?:^|`)make((?: [A-Z_]+=\S+)*) ([a-z0-9-]+)", document.read_text(), re.M):
            assert words[1] in targets, f"{document.name}: make {words[1]}"


async def test_every_counter_that_operators_are_told_of_exists() -> None:
    alarms = (ROOT / "docs" / "operations.md").read_text().partition("Worth an alarm")[2]
    named = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", alarms))
    counters = {name for name in named if re.match(r"(outbox|playout|first_words|control|loop)\.", name)}
    room = LoopbackRoom()
    async with RoomBridge(room, ScriptedModel()) as bridge:
        while bridge.leader is None:  # noqa: ASYNC110 - the lead has no event of its own
            await asyncio.sleep(0.01)
        told = bridge.snapshot().counters
    assert counters and counters <= told.keys()


async def test_every_counter_of_direct_calls_that_operators_are_told_of_exists() -> None:
    text = (ROOT / "docs" / "operations.md").read_text().partition("## Calls from browsers")[2].partition("\n## ")[0]
    rows = [line.partition(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`([a-z_.]+)`", " ".join(rows)))
    async with started(Process(), {}, {}) as here:
        of_serving = here.server.counters().keys()
    call = WebRtcCall(DirectCallSettings(addresses=("127.0.0.1",)), identity="ada")
    with pytest.raises(ValueError):
        await call.answer("")
    assert len(named) > 15
    assert named <= {*of_serving, *(f"room.{name}" for name in call.counters())}
    await call.close()
