"""The page's camera, in a real browser, both ways: the model sees it while it is on, and no longer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridge.demo.server import LocalServer
from bridge.video.settings import VideoSettings
from tests.e2e.browser import browser_with, new_page
from tests.e2e.calls import until
from tests.e2e.page_calls import microphone, served_page
from tests.fakes.pictures import opened
from tests.fakes.stills import stills

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

SEES = VideoSettings(sources=("camera", "screen"), idle_interval_s=1.0)


@pytest.mark.parametrize("path", ["livekit", "direct"])
async def test_the_camera_reaches_the_model_while_it_is_on(path: str, server: LocalServer, tmp_path: Path) -> None:
    async with (
        served_page(server, video=SEES) as served,
        browser_with(microphone(tmp_path / "mic.wav", 30.0)) as browser,
        new_page(browser, served.address) as page,
    ):
        await page.check(f"input[name=path][value={path}]", force=True)
        await page.click("#talk")
        await page.wait_for_selector("body[data-call=live]", timeout=20_000)
        await asyncio.sleep(1.5)
        assert stills(served.emulator) == []
        await page.click("#camera")
        await page.wait_for_selector("#preview:not([hidden])")
        assert await page.get_attribute("#camera", "aria-pressed") == "true"
        await until(lambda: len(stills(served.emulator)) >= 2, 20)
        picture = opened(stills(served.emulator)[-1])
        width, height = picture.size
        assert 1024 >= width > height >= 64
        # Chromium's fake camera: a field of green with a figure in it.
        pixel: Any = picture.getpixel((width // 20, height // 20))
        assert pixel[1] > pixel[0] + 60 and pixel[1] > pixel[2] + 60, pixel

        await page.click("#camera")
        await page.wait_for_selector("#preview", state="hidden")
        await asyncio.sleep(1.0)
        shown = len(stills(served.emulator))
        await asyncio.sleep(2.5)
        assert len(stills(served.emulator)) == shown
        await page.click("#hang-up")
        await served.nothing_runs()


@pytest.mark.parametrize("path", ["livekit", "direct"])
async def test_without_video_the_page_offers_no_camera(path: str, server: LocalServer, tmp_path: Path) -> None:
    async with (
        served_page(server) as served,
        browser_with(microphone(tmp_path / "mic.wav", 30.0)) as browser,
        new_page(browser, served.address) as page,
    ):
        await page.check(f"input[name=path][value={path}]", force=True)
        await page.click("#talk")
        await page.wait_for_selector("body[data-call=live]", timeout=20_000)
        assert await page.is_hidden("#camera") and await page.is_hidden("#screen")


async def test_what_the_model_may_not_see_is_not_offered(tmp_path: Path) -> None:
    async with (
        served_page(None, video=VideoSettings(sources=("screen",))) as served,
        browser_with(microphone(tmp_path / "mic.wav", 30.0)) as browser,
        new_page(browser, served.address) as page,
    ):
        await page.click("#talk")
        await page.wait_for_selector("body[data-call=live]", timeout=20_000)
        assert await page.is_hidden("#camera") and await page.is_visible("#screen")


async def test_a_camera_pressed_twice_is_opened_once_and_closed_with_the_call(tmp_path: Path) -> None:
    async with (
        served_page(None, video=SEES) as served,
        browser_with(microphone(tmp_path / "mic.wav", 30.0)) as browser,
        new_page(browser, served.address) as page,
    ):
        await page.click("#talk")
        await page.wait_for_selector("body[data-call=live]", timeout=20_000)
        await page.evaluate("() => { const { camera } = window; camera.click(); camera.click(); }")
        await page.wait_for_selector("#camera[aria-pressed=true]")
        assert await page.evaluate("__opened.tracks.filter(track => track.kind === 'video').length") == 1
        await page.click("#hang-up")
        await page.wait_for_selector("body[data-call=none]")
        assert await page.evaluate("__opened.tracks.every(track => track.readyState === 'ended')")
