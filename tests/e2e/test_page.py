"""The page in a real browser, both ways to the model: what the model hears, what the page plays and shows, the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bridge.core.words import AgentState
from bridge.demo.server import LocalServer
from providers.scripted.scenario import Call, Marker, Scenario, Text, Transcripts, TurnScript, Wav
from tests.e2e.audio import level_dbfs, likeness, resampled
from tests.e2e.browser import browser_with, heard, listen, new_page, reception, tab_to
from tests.e2e.calls import until
from tests.e2e.page_calls import DATA, MIC_HZ, ServedPage, microphone, served_page, speech

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

PATHS = pytest.mark.parametrize("path", ["livekit", "direct"])
ASKED = "Could you please tell me what the weather will be like tomorrow?"
ANSWER = "Tomorrow will be mostly sunny, with a light wind from the west."
QUESTION_TURN = TurnScript(turn=1, answer=Wav(file=str(DATA / "answer.wav"), transcript=ANSWER))
WORDS = [f"w{n:02}" for n in range(24)]
LONG = Marker(duration_ms=12_000, seed=7, transcript=" ".join(WORDS))
LEAD_S = 6.0
"""Silence before the microphone's speech: it plays from when it is opened, a second or two before the call stands."""


@asynccontextmanager
async def on_the_page(server: LocalServer, mic: Path, scenario: Scenario) -> AsyncIterator[tuple[ServedPage, Page]]:
    """The page before a call, its microphone not cleaned up: what it says is to be compared with what is heard."""
    async with (
        served_page(server, scenario) as served,
        browser_with(mic) as browser,
        new_page(browser, served.address) as page,
    ):
        await page.click("#open-settings")
        await page.uncheck("#clean-voice")
        await page.click("#settings-done")
        yield served, page


async def join(page: Page, path: str) -> None:
    await page.check(f"input[name=path][value={path}]", force=True)
    await page.click("#talk")
    await page.wait_for_selector("body[data-call=live]", timeout=20_000)


async def state_is(page: Page, word: str, timeout_s: float = 15.0) -> None:
    await page.wait_for_function(
        "word => document.getElementById('state-word').textContent === word", arg=word, timeout=timeout_s * 1000
    )


async def lines(page: Page, who: str) -> list[str]:
    texts: list[str] = await page.eval_on_selector_all(
        f".line[data-who={who}] .line-text", "all => all.map(one => one.textContent.trim())"
    )
    return texts


async def everything_is_let_go(page: Page) -> None:
    """The page holds no device, no connection and no sound."""
    await page.wait_for_selector("body[data-call=none]")
    await page.wait_for_function(
        """() => __opened.peers.every(peer => peer.connectionState === "closed")
              && __opened.tracks.every(track => track.readyState === "ended")
              && document.getElementById("voice").srcObject === null"""
    )
    assert await page.evaluate("__opened.peers.length > 0 && __opened.tracks.length > 0")


@PATHS
async def test_a_question_is_heard_answered_and_captioned(path: str, server: LocalServer, tmp_path: Path) -> None:
    question = speech("question")
    mic = microphone(tmp_path / "mic.wav", LEAD_S, question, 60.0)
    scenario = Scenario(turns=(QUESTION_TURN,), transcripts=Transcripts(input=ASKED))
    async with on_the_page(server, mic, scenario) as (served, page):
        await join(page, path)
        await listen(page)
        assert await page.inner_text("#connection-text") != "Not connected"
        await page.wait_for_selector("#voice-you[data-speaking=true]")
        await state_is(page, "Speaking")
        await page.wait_for_selector("#voice-agent[data-speaking=true]")
        await state_is(page, "Listening")
        await page.wait_for_function("() => document.querySelectorAll('.line[data-final=true]').length >= 2")
        assert await lines(page, "me") == [ASKED]
        assert await lines(page, "agent") == [ANSWER]
        order = await page.eval_on_selector_all(".line", "all => all.map(one => one.dataset.who)")
        assert order == ["me", "agent"]

        # The turn's timeline: a picture with words, and the table.
        told = await page.get_attribute(".timeline-picture", "aria-label")
        assert told is not None and "audible after" in told
        assert await page.eval_on_selector_all(".bar", "all => all.length") >= 2
        cells = await page.eval_on_selector_all("#turn-table tbody td", "all => all.map(one => one.textContent)")
        assert len(cells) == 4 and cells[-1].endswith("s")

        await page.wait_for_timeout(500)  # the recording ends later than what is looked for in it
        ear = await heard(page)
        page_heard = resampled(ear.samples, ear.rate_hz, MIC_HZ)
        # The browser's jitter buffer moves speech about while it finds its delay.
        assert likeness(speech("answer"), page_heard, MIC_HZ, slack_ms=200) >= 0.9, await reception(page)
        model_heard, rate_hz = served.model_heard()
        assert likeness(question, resampled(model_heard, rate_hz, MIC_HZ), MIC_HZ) >= 0.9

        await page.click("#hang-up")
        await everything_is_let_go(page)
        assert await page.inner_text("#state-word") == "Call ended"
        await served.nothing_runs()


@PATHS
async def test_the_voice_stops_when_interrupted(path: str, server: LocalServer, tmp_path: Path) -> None:
    mic = microphone(tmp_path / "mic.wav", LEAD_S, speech("question"), 60.0)
    async with on_the_page(server, mic, Scenario(answer=LONG)) as (served, page):
        await join(page, path)
        await listen(page)
        await state_is(page, "Speaking")
        await page.wait_for_selector("#voice-agent[data-speaking=true]")
        began_ms = await page.evaluate("performance.now()")
        await page.wait_for_timeout(2000)
        await page.click("#interrupt")
        pressed_ms = await page.evaluate("performance.now()")
        await state_is(page, "Listening", 5.0)
        await page.wait_for_timeout(1500)
        ear = await heard(page)
        before = ear.samples[: len(ear.samples) - len(ear.after(pressed_ms))]
        assert level_dbfs(before[-ear.rate_hz // 4 :]) > -40, "it was speaking"
        assert level_dbfs(ear.after(pressed_ms + 500)) < -60, "half a second later it is silent"
        assert served.bridge.state is AgentState.LISTENING
        # The caption kept step with the voice, and holds what was heard of it: two words a second.
        (caption,) = await lines(page, "agent")
        spoken_s = (pressed_ms - began_ms) / 1000
        assert len(caption.split()) == pytest.approx(2 * spoken_s, abs=3)
        assert WORDS[: len(caption.split())] == caption.split()


@PATHS
async def test_typed_text_is_answered_and_tool_calls_are_shown(path: str, server: LocalServer, tmp_path: Path) -> None:
    mic = microphone(tmp_path / "mic.wav", 60.0)
    turn = TurnScript(turn=1, calls=(Call(name="get_weather", arguments={"city": "Oslo"}),), answer=Text(text="Sunny."))
    async with on_the_page(server, mic, Scenario(turns=(turn,))) as (served, page):
        await join(page, path)
        await page.fill("#say-text", "What about Oslo?")
        await page.click("#say-send")
        await until(lambda: served.model_read() == ["What about Oslo?"])
        await page.wait_for_selector(".line-tool:not([data-state=started])")
        assert await page.inner_text(".line-tool .tool-name") == "get_weather"
        await page.wait_for_function("() => document.querySelector('.line[data-who=agent][data-final=true]') !== null")
        assert await lines(page, "me") == ["What about Oslo?"]
        assert await page.input_value("#say-text") == ""


@PATHS
async def test_a_whole_call_by_keyboard_alone(path: str, server: LocalServer, tmp_path: Path) -> None:
    mic = microphone(tmp_path / "mic.wav", LEAD_S, speech("question"), 60.0)
    async with (
        served_page(server, Scenario(answer=LONG)) as served,
        browser_with(mic) as browser,
        new_page(browser, served.address) as page,
    ):
        keys = page.keyboard
        await page.wait_for_selector("#talk:not([disabled])")
        await page.wait_for_function("() => document.querySelector('input[name=path]:checked') !== null")
        # Tab reaches the group of radio buttons, arrows choose in it.
        while not await page.evaluate("document.activeElement.name === 'path'"):
            await keys.press("Tab")
        if await page.evaluate("document.activeElement.value") != path:
            await keys.press("ArrowRight")
        assert await page.evaluate("document.querySelector('input[name=path]:checked').value") == path
        await tab_to(page, "talk")
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "the focus is to be seen"
        await keys.press("Enter")
        await page.wait_for_selector("body[data-call=live]", timeout=20_000)
        assert await page.evaluate("document.activeElement.id") == "mute", "where the next key is likely to go"

        await state_is(page, "Speaking")
        await keys.press("Escape")
        await state_is(page, "Listening", 5.0)

        await keys.press("m")
        await page.wait_for_selector("#mute[aria-pressed=true]")
        assert await page.inner_text("#announcer") == "Microphone muted"
        assert await page.inner_text("#voice-you-said") == "muted"
        await keys.press("m")
        await page.wait_for_selector("#mute[aria-pressed=false]")

        await keys.press("/")
        await keys.type("Hello m/?")
        await keys.press("Enter")
        await until(lambda: served.model_read()[-1:] == ["Hello m/?"])
        assert await page.get_attribute("#mute", "aria-pressed") == "false", "letters that are typed are no shortcuts"
        await state_is(page, "Speaking")
        await keys.press("Escape")  # works from the text box, too
        await state_is(page, "Listening", 5.0)

        await keys.press("Shift+Tab")
        await keys.press("?")
        await page.wait_for_selector("#help[open]")
        await keys.press("Escape")
        await page.wait_for_selector("#help:not([open])", state="attached")

        await tab_to(page, "hang-up")
        await keys.press("Enter")
        await everything_is_let_go(page)
        assert await page.evaluate("document.activeElement.id") == "talk"
        await served.nothing_runs()


@PATHS
async def test_who_is_muted_is_not_heard_and_another_microphone_is(
    path: str, server: LocalServer, tmp_path: Path
) -> None:
    question = speech("question")
    mic = microphone(tmp_path / "mic.wav", LEAD_S + 2, question, 60.0)
    async with on_the_page(server, mic, Scenario()) as (served, page):
        await join(page, path)
        await page.click("#mute")
        # The voice passes by while the microphone is off.
        await page.wait_for_timeout((LEAD_S + 6) * 1000)
        heard_muted, _ = served.model_heard()
        assert level_dbfs(heard_muted[-len(heard_muted) // 2 :]) < -70
        assert await lines(page, "me") == []

        await page.click("#mute")
        await page.click("#open-settings")
        others = await page.eval_on_selector_all("#microphone option", "all => all.map(one => one.value)")
        await page.select_option("#microphone", [one for one in others if one][-1])
        await page.wait_for_function("() => __opened.tracks.length === 2")
        await page.click("#settings-done")
        # The other one plays the same file from its beginning.
        await state_is(page, "Speaking")
        now_heard, rate_hz = served.model_heard()
        assert likeness(question, resampled(now_heard, rate_hz, MIC_HZ), MIC_HZ) >= 0.7, (
            "the same words, not its fidelity"
        )
        assert await page.evaluate("__opened.tracks.map(track => track.readyState)") == ["ended", "live"]


@PATHS
async def test_closing_the_tab_ends_the_call_at_once(path: str, server: LocalServer, tmp_path: Path) -> None:
    mic = microphone(tmp_path / "mic.wav", 60.0)
    async with on_the_page(server, mic, Scenario()) as (served, page):
        await join(page, path)
        assert served.process.bridges
        await page.goto("about:blank")
        await served.nothing_runs()
