"""The page for everybody: light and dark, phone width, screen readers; and what it says when something is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from bridge.demo.server import LocalServer
from providers.scripted.scenario import Call, Quota, Scenario, Text, TurnScript
from tests.e2e.browser import browser_with, new_page, overflowing, serious_findings
from tests.e2e.page_calls import ServedPage, microphone, served_page

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, Route

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

PHONE = (360, 740)
LONG_WORD = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
TURN = TurnScript(
    turn=1,
    calls=(Call(name="look_up_the_timetable_of_the_" + LONG_WORD, arguments={}),),
    answer=Text(text=f"{LONG_WORD}. " * 4, ms_per_letter=5),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """One for all tests of this module; its microphone is silent."""
    mic = microphone(tmp_path_factory.mktemp("mic") / "mic.wav", 60.0)
    async with browser_with(mic) as running:
        yield running


@asynccontextmanager
async def opened(
    server: LocalServer | None, browser: Browser, **page_settings: Any
) -> AsyncIterator[tuple[ServedPage, Page]]:
    async with (
        served_page(server, Scenario(turns=(TURN,))) as served,
        new_page(browser, served.address, **page_settings) as page,
    ):
        yield served, page


async def in_a_call(page: Page, path: str = "direct") -> None:
    """A call with everything in it that the page can show."""
    await page.check(f"input[name=path][value={path}]", force=True)
    await page.click("#talk")
    await page.wait_for_selector("body[data-call=live]", timeout=20_000)
    await page.fill("#say-text", LONG_WORD)
    await page.keyboard.press("Enter")
    await page.wait_for_selector(".line-tool:not([data-state=started])")
    await page.wait_for_selector(".line[data-who=agent][data-final=true]", timeout=20_000)
    await page.wait_for_selector(".timeline-picture")
    await page.click("#as-table summary")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [(1440, 900), PHONE], ids=["wide", "phone"])
async def test_axe_finds_nothing_serious_and_nothing_overflows(
    dark: bool, size: tuple[int, int], server: LocalServer, browser: Browser
) -> None:
    async with opened(server, browser, dark=dark, size=size) as (_, page):
        await page.wait_for_selector("#talk:not([disabled])")
        found = {"lobby": await serious_findings(page) + await overflowing(page)}
        for dialog in ("settings", "help"):
            await page.click(f"#open-{dialog}")
            found[dialog] = await serious_findings(page) + await overflowing(page)
            await page.click(f"#{dialog}-done")
        await in_a_call(page)
        found["call"] = await serious_findings(page) + await overflowing(page)
        await page.click("#hang-up")
        await page.wait_for_selector("body[data-call=none]")
        found["after"] = await serious_findings(page) + await overflowing(page)
        assert not any(found.values()), found


async def test_what_is_said_to_screen_readers(server: LocalServer, browser: Browser) -> None:
    async with opened(server, browser) as (_, page):
        # Every word that is put into the polite region, in order.
        await page.evaluate(
            """() => {
              window.__announced = [];
              const region = document.getElementById("announcer");
              new MutationObserver(() => __announced.push(region.textContent)).observe(region, { childList: true });
            }"""
        )
        await in_a_call(page)
        await page.click("#mute")
        await page.click("#hang-up")
        await page.wait_for_selector("body[data-call=none]")
        announced = await page.evaluate("__announced")
        assert announced[0] == "Connected. You can speak now."
        assert f"Model: {LONG_WORD}" in announced[1]
        assert announced[2:] == ["Microphone muted", "Call ended. You hung up."]
        landmarks = await page.eval_on_selector_all("header, main, section[aria-labelledby]", "all => all.length")
        assert landmarks >= 5
        unnamed = await page.eval_on_selector_all(
            "button", "all => all.filter(one => !(one.textContent.trim() || one.ariaLabel)).map(one => one.id)"
        )
        assert unnamed == []


async def test_less_motion_is_respected(server: LocalServer, browser: Browser) -> None:
    async with opened(server, browser, reduced_motion="reduce") as (_, page):
        await in_a_call(page)
        moving = await page.evaluate("document.getAnimations().filter(one => one.playState === 'running').length")
        assert moving == 0


# ------------------------------------------------------------------------------------------------- what may be missing


async def test_without_a_token_the_address_can_be_pasted(browser: Browser) -> None:
    async with served_page(None) as served:
        bare = served.address.partition("#")[0]
        async with new_page(browser, bare) as page:
            await page.wait_for_selector("#problem[data-code=no_token]")
            assert await page.is_disabled("#talk")
            assert not await serious_findings(page)
            await page.fill("#pasted", "not a token")
            await page.keyboard.press("Enter")
            await page.wait_for_selector("#problem[data-code=no_token]")
            await page.fill("#pasted", served.address)
            await page.keyboard.press("Enter")
            await page.wait_for_selector("#talk:not([disabled])")
            assert await page.is_hidden("#problem")
        async with new_page(browser, served.address) as page:
            await page.wait_for_selector("#talk:not([disabled])")
            assert page.url == bare, "the token is in no screenshot"
            await page.reload()
            await page.wait_for_selector("#talk:not([disabled])")


async def test_a_token_that_is_not_ours_is_refused_with_a_mend(browser: Browser) -> None:
    async with served_page(None) as served:
        address = served.address.partition("#")[0] + "#token=somebody.elses.token"
        async with new_page(browser, address, expects_errors=True) as page:
            await page.wait_for_selector("#problem[data-code=token_refused]")
            assert "Open the address that it printed last" in await page.inner_text("#problem-mend")


async def test_a_forbidden_microphone_is_explained_and_one_can_join_without(
    server: LocalServer, browser: Browser
) -> None:
    async with opened(server, browser) as (served, page):
        await page.wait_for_selector("#talk:not([disabled])")
        await page.evaluate(
            """() => {
              navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", "NotAllowedError"));
            }"""
        )
        await page.click("#talk")
        await page.wait_for_selector("#problem[data-code=microphone_refused]")
        assert not served.process.bridges
        await page.click("#problem-actions button:has-text('Join without')")
        await page.wait_for_selector("body[data-call=live]", timeout=20_000)
        assert await page.inner_text("#voice-you-said") == "no microphone"
        assert await page.is_disabled("#mute")
        assert await page.evaluate("document.activeElement.id") == "say-text"
        await page.keyboard.type("Hello")
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".line[data-who=agent]", timeout=20_000)


async def test_a_room_that_is_lost_is_tried_again_and_then_given_up(browser: Browser) -> None:
    async with LocalServer() as mortal, opened(mortal, browser, expects_errors=True) as (_, page):
        await in_a_call(page, "livekit")
        await mortal.kill()
        await page.wait_for_selector("#connection[data-tone=bad]", timeout=20_000)
        assert await page.inner_text("#state-word") == "Reconnecting"
        await page.wait_for_selector("#problem[data-code=lost], #problem[data-code=removed]", timeout=60_000)
        assert await page.inner_text("#talk-text") == "Talk again"
        assert not await page.is_disabled("#talk")


async def test_without_a_livekit_server_the_direct_call_is_offered(browser: Browser) -> None:
    async with opened(None, browser) as (_, page):
        await page.wait_for_selector("#talk:not([disabled])")
        assert await page.is_disabled("input[name=path][value=livekit]")
        assert await page.is_checked("input[name=path][value=direct]")
        assert "No LiveKit server here" in await page.inner_text("#path-hint")


async def test_without_livekits_client_the_page_says_so_before_the_call(server: LocalServer, browser: Browser) -> None:
    async with opened(server, browser) as (_, page):

        async def without_client(route: Route) -> None:
            config = await (await route.fetch()).json()
            assert config["livekit"] and config["livekit_client"]
            await route.fulfill(json={**config, "livekit_client": False})

        await page.route("**/api/config", without_client)
        await page.reload()
        await page.wait_for_selector("#talk:not([disabled])")
        assert await page.is_disabled("input[name=path][value=livekit]")
        assert "make page" in await page.inner_text("#path-hint")


async def test_a_bridge_that_is_full_says_so_and_takes_the_call_later(browser: Browser) -> None:
    async with (
        served_page(None, max_calls=1) as served,
        new_page(browser, served.address) as first,
        new_page(browser, served.address, expects_errors=True) as second,
    ):
        await first.click("#talk")
        await first.wait_for_selector("body[data-call=live]", timeout=20_000)
        await second.click("#talk")
        await second.wait_for_selector("#problem[data-code=full]")
        assert await second.inner_text("#state-word") == "The call did not start"
        assert await second.evaluate("__opened.tracks.every(track => track.readyState === 'ended')")
        await first.click("#hang-up")
        await served.nothing_runs()
        await second.click("#problem-actions button:has-text('Try again')")
        await second.wait_for_selector("body[data-call=live]", timeout=20_000)
        assert await second.is_hidden("#problem")


async def test_a_call_that_the_bridge_ends_says_why(browser: Browser) -> None:
    async with opened(None, browser) as (served, page):
        await in_a_call(page)
        served.bridge.stop()
        await page.wait_for_selector("body[data-call=none]", timeout=20_000)
        assert await page.inner_text("#state-note") == "The bridge ended the call."


async def test_a_service_that_fails_is_named_as_the_reason(browser: Browser) -> None:
    scenario = Scenario(faults=(Quota(reply=1),))
    async with served_page(None, scenario) as served, new_page(browser, served.address) as page:
        await page.click("#talk")
        await page.wait_for_selector("body[data-call=live]", timeout=20_000)
        await page.fill("#say-text", "Hello")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#problem[data-code=provider_failed]", timeout=60_000)
        assert await page.inner_text("#talk-text") == "Talk again"
