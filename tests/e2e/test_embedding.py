"""The code that docs/direct-calls.md gives to a team, in a page of another origin, in a real browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from bridge.app import Process
from bridge.core.words import EndReason
from bridge.http_api.tokens import sign_call
from tests.e2e.browser import browser_with
from tests.e2e.page_calls import microphone, speech
from tests.fakes.caller import started
from tests.fakes.webrtc import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

DOCUMENT = Path(__file__).parents[2] / "docs" / "direct-calls.md"
SECRET = "0123456789abcdef0123456789abcdef"


def module_of_the_document() -> str:
    """The JavaScript, as a team would copy it."""
    (code,) = re.findall(r"```js\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)
    return str(code)


def test_the_code_is_as_short_as_it_claims_to_be() -> None:
    assert len(module_of_the_document().strip().splitlines()) <= 40


@asynccontextmanager
async def page_of_a_team() -> AsyncIterator[str]:
    """A page of its own origin with the module beside it. Gives the origin."""
    app = web.Application()
    files = {
        "/": ("<!doctype html><title>ours</title>", "text/html"),
        "/call.js": (module_of_the_document(), "text/javascript"),
    }

    async def serve(request: web.Request) -> web.Response:
        body, kind = files.get(request.path, ("", "text/plain"))
        return web.Response(text=body, content_type=kind)

    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://localhost:{site.port}"
    finally:
        await runner.cleanup()


async def test_a_page_of_another_origin_calls_with_the_code_of_the_document(tmp_path: Path) -> None:
    mic = microphone(tmp_path / "mic.wav", 1.0, speech("question"), 30.0)
    environ = {"ROOMBRIDGE_CALL_SECRET": SECRET}
    process = Process()
    async with page_of_a_team() as origin:
        config = {"serve": {"allowed_origins": [origin]}, "webrtc": {"addresses": []}}
        async with started(process, config, environ) as here, browser_with(mic) as browser:
            page = await browser.new_page()
            await page.goto(f"{origin}/")
            token = sign_call(SECRET, identity="ada", ttl_s=60, now=datetime.now(UTC).timestamp())
            await page.evaluate(
                """async ([base, token]) => {
                  const { call } = await import("./call.js");
                  window.told = [];
                  window.end = await call(base, token, (message) => window.told.push(message));
                }""",
                [here.server.address, token],
            )
            await page.wait_for_function("() => told.some((one) => one.type === 'hello' && one.identity === 'ada')")
            await page.wait_for_function("() => told.some((one) => one.state === 'speaking')", timeout=20_000)
            refused = await page.evaluate(
                """async ([base, token]) => {
                  const { call } = await import("./call.js");
                  return call(base, token).then(() => "", (error) => error.message);
                }""",
                [here.server.address, token],
            )
            assert refused == "this token has had its call"
            await page.evaluate("end()")
            await until(lambda: process.ended, 10)
            assert process.ended[0].reason is EndReason.PARTICIPANT_LEFT
