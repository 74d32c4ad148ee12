"""Makes the pictures of docs/page.md anew: a real call on the page, its provider emulated and its microphone a WAV.

`python -m tools.page_pictures` writes docs/img/page-*.png; `make pictures` calls it. Needs Chromium, as the tests of
the page do.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from providers.scripted.scenario import Call, Pace, Scenario, Text, TurnScript
from tests.e2e.browser import browser_with, missing, new_page
from tests.e2e.page_calls import microphone, served_page, speech

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

__all__ = ["main"]

PLACE = Path(__file__).parents[1] / "docs" / "img"
TURNS = (
    ("What will the weather be like in Oslo tomorrow?", "get_weather", "Mostly sunny, fourteen degrees, a light wind."),
    ("And do I need an umbrella on Friday?", "get_weather", "Take one along: rain is likely from noon on."),
    ("Thanks. When are you open on Sunday?", "opening_hours", "From eight to noon on Sundays."),
)
TYPED, LAST = "And on Saturday?", "Saturdays we are open from eight to six, and the garden stays open until seven."
WIDE, PHONE = (1360, 850), (360, 780)


async def get_weather(city: str) -> dict[str, str]:
    """The weather to come."""
    await asyncio.sleep(0.32)
    return {"weather": city}


async def opening_hours(day: str) -> dict[str, str]:
    """When the house is open."""
    await asyncio.sleep(0.08)
    return {"hours": day}


def _scenario() -> Scenario:
    arguments = {"get_weather": {"city": "Oslo"}, "opening_hours": {"day": "Sunday"}}
    turns = [
        TurnScript(
            turn=number,
            input_transcript=asked,
            calls=(Call(name=tool, arguments=arguments[tool]),) if tool and number != 2 else (),
            answer=Text(text=answer, ms_per_letter=50),
        )
        for number, (asked, tool, answer) in enumerate(TURNS, 1)
    ]
    last = TurnScript(turn=len(TURNS) + 1, answer=Text(text=LAST, ms_per_letter=70))
    return Scenario(turns=(*turns, last), pace=Pace(latency_ms=180, jitter_ms=40))


async def _call(browser: Browser, name: str, *, dark: bool, size: tuple[int, int]) -> None:
    """One call; its picture is taken while the last answer is spoken."""
    tools = (get_weather, opening_hours)
    served = served_page(None, _scenario(), tools=tools, providers=("openai", "scripted", "gemini"))
    async with (
        served as serving,
        new_page(browser, serving.address, dark=dark, size=size, device_scale_factor=2) as page,
    ):
        await page.wait_for_selector("#talk:not([disabled])")
        if name == "light":
            await _shoot(page, "lobby")
        await page.click("#talk")
        for number in range(1, len(TURNS) + 1):
            await page.wait_for_function(
                "n => document.querySelectorAll('.line[data-who=agent][data-final=true]').length >= n",
                arg=number,
                timeout=60_000,
            )
        await page.fill("#say-text", TYPED)
        await page.keyboard.press("Enter")
        await page.wait_for_function("() => document.getElementById('state-word').textContent === 'Speaking'")
        await page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
        await page.wait_for_timeout(2_500)
        await page.wait_for_selector("#voice-agent[data-speaking=true]")
        await _shoot(page, name)
        await page.click("#hang-up")


async def _shoot(page: Page, name: str) -> None:
    from PIL import Image

    path = PLACE / f"page-{name}.png"
    await page.screenshot(path=path, animations="allow")
    with Image.open(path) as picture:
        # A page has few colours: a third of the bytes, and no eye sees it.
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


async def main() -> None:
    reason = missing()
    if reason:
        raise SystemExit(reason)
    PLACE.mkdir(exist_ok=True)
    asked = speech("question")
    with tempfile.TemporaryDirectory() as folder:
        mic = microphone(Path(folder) / "mic.wav", 3.0, asked, 6.5, asked, 6.5, asked, 60.0)
        for name, dark, size in (("light", False, WIDE), ("dark", True, WIDE), ("phone", False, PHONE)):
            async with browser_with(mic) as browser:
                await _call(browser, name, dark=dark, size=size)
            sys.stdout.write(f"docs/img/page-{name}.png\n")


if __name__ == "__main__":
    asyncio.run(main())
