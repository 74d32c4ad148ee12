"""What the documents name is there: files, commands, counters, make targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridge.app import Process
from bridge.cli import main
from bridge.core.words import ParticipantId, RoomEvent
from bridge.facade import RoomBridge
from bridge.transports.livekit_room.call import RoomCall
from bridge.transports.livekit_room.settings import LiveKitSettings
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


class _Nobody:
    """Listens to a room that nobody enters."""

    def on_audio(self, participant: ParticipantId, pcm: bytes, now: float) -> None: ...
    def on_event(self, event: RoomEvent) -> None: ...


async def test_every_counter_is_explained_to_operators_and_none_that_is_not_there() -> None:
    told = await _counters()
    explained: set[str] = set()
    for row in re.findall(r"^\| (`[^|]+) \|", (ROOT / "docs" / "operations.md").read_text(), re.M):
        # `sessions.changes`, `changes_forced`: what comes first in a row gives those without one their prefix.
        first, *others = re.findall(r"`([a-z_.]+)`", row)
        prefix = first.rpartition(".")[0]
        explained |= {first, *(name if "." in name else f"{prefix}.{name}".lstrip(".") for name in others)}
    assert sorted(told - explained) == [], "not explained"
    assert sorted(explained - told) == [], "not there"


async def test_every_counter_that_documents_and_benchmarks_name_exists() -> None:
    told = await _counters()
    # Of these names no setting begins.
    kinds = "absence|control|fast|first_words|endpoints|loop|orders|outbox|pace|provider|results|turns"
    present = [document for document in DOCUMENTS if document.name != "CHANGELOG.md"]  # which tells of the past
    for document in (*present, *(ROOT / "bench").glob("*.py")):
        named = set(re.findall(rf"[`\"]((?:{kinds})\.(?!wav)[a-z_]+)[`\"]", document.read_text(encoding="utf-8")))
        assert sorted(named - told) == [], document.name


async def _counters() -> set[str]:
    told = {*await _counters_of_a_call(), *await _counters_of_serving()}
    return told | {f"room.{name}" for name in (*_counters_of_a_livekit_room(), *await _counters_of_a_direct_call())}


async def _counters_of_a_call() -> set[str]:
    async with RoomBridge(LoopbackRoom(paces_itself=False), ScriptedModel()) as bridge:
        return set(bridge.snapshot().counters)


async def _counters_of_serving() -> set[str]:
    async with started(Process(), {}, {}) as here:
        return {*here.server.counters(), *Process().counters()}


def _counters_of_a_livekit_room() -> set[str]:
    settings = LiveKitSettings(room="lobby", ffi="public")
    call = RoomCall(settings, lambda _: "", _Nobody(), credential="", may_show_state=False)
    return set(call.counters())


async def _counters_of_a_direct_call() -> set[str]:
    call = WebRtcCall(DirectCallSettings(addresses=("127.0.0.1",)), identity="ada")
    with pytest.raises(ValueError):
        await call.answer("")
    counters = set(call.counters())
    await call.close()
    return counters
