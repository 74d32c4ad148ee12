"""Debian's Chromium, headless, with a WAV for a microphone; and what a test wants to know of the page in it.

The page is served with a policy that forbids scripts from elsewhere; what is added here comes through the browser's own
debugger, which the policy does not bind.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.e2e.audio import Samples

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

__all__ = [
    "NAMES",
    "Heard",
    "browser_with",
    "listen",
    "new_page",
    "overflowing",
    "reception",
    "serious_findings",
    "tab_to",
]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)

# Keeps what the page opens, to be asked afterwards whether it was closed.
_WATCH = """
(() => {
  window.__opened = { peers: [], tracks: [] };
  const Peer = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Peer {
    constructor(...given) { super(...given); window.__opened.peers.push(this); }
  };
  const devices = navigator.mediaDevices;
  for (const name of devices ? ["getUserMedia", "getDisplayMedia"] : []) {
    const ask = devices[name].bind(devices);
    devices[name] = async (wanted) => {
      const stream = await ask(wanted);
      window.__opened.tracks.push(...stream.getTracks());
      return stream;
    };
  }
})();
"""

# Frames of the agent's voice as WebRTC hands them out, before any loudspeaker: 48 kHz, and when each came.
_LISTEN = """
() => {
  const [track] = document.getElementById("voice").srcObject.getAudioTracks();
  // A deep queue: a page that is late to read must not lose what was received.
  const { readable } = new MediaStreamTrackProcessor({ track: track.clone(), maxBufferSize: 3000 });
  const reader = readable.getReader();
  window.__heard = { rate: 0, parts: [], times: [], samples: 0 };
  (async () => {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const frame = new Float32Array(value.numberOfFrames);
      value.copyTo(frame, { planeIndex: 0, format: "f32-planar" });
      window.__heard.rate = value.sampleRate;
      window.__heard.parts.push(Int16Array.from(frame, (one) => Math.max(-32768, Math.min(32767, one * 32768))));
      window.__heard.times.push([performance.now(), window.__heard.samples]);
      window.__heard.samples += frame.length;
      value.close();
    }
  })();
}
"""
_TAKE = """
() => {
  const { rate, parts, times, samples } = window.__heard;
  const whole = new Int16Array(samples);
  let at = 0;
  for (const part of parts) { whole.set(part, at); at += part.length; }
  const bytes = new Uint8Array(whole.buffer);
  let text = "";
  for (let from = 0; from < bytes.length; from += 32768) {
    text += String.fromCharCode(...bytes.subarray(from, from + 32768));
  }
  return { rate, times, pcm: btoa(text) };
}
"""

_RECEPTION = """
async () => {
  const told = {};
  for (const peer of __opened.peers) {
    if (peer.connectionState !== "connected") continue;
    for (const one of (await peer.getStats()).values()) {
      if (one.type !== "inbound-rtp" || one.kind !== "audio") continue;
      const { totalSamplesReceived, concealedSamples, silentConcealedSamples, packetsLost, packetsDiscarded } = one;
      Object.assign(told, { totalSamplesReceived, concealedSamples, silentConcealedSamples, packetsLost });
      Object.assign(told, { packetsDiscarded });
    }
  }
  return told;
}
"""

_OVERFLOWING = """
() => {
  const root = document.documentElement;
  const found = root.scrollWidth > root.clientWidth ? [`document ${root.scrollWidth} > ${root.clientWidth}`] : [];
  const inScroller = (element) => {
    for (let up = element.parentElement; up; up = up.parentElement) {
      if (["auto", "scroll", "hidden"].includes(getComputedStyle(up).overflowX)) return true;
    }
    return false;
  };
  for (const element of document.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    if (box.width <= 1 || box.height <= 1 || getComputedStyle(element).visibility === "hidden") continue;
    if ((box.right > root.clientWidth + 0.5 || box.left < -0.5) && !inScroller(element)) {
      found.push(`${element.tagName} #${element.id} .${element.getAttribute("class")} ${box.left}..${box.right}`);
    }
  }
  return found;
}
"""


class Heard:
    """What the page has received of the agent's voice."""

    def __init__(self, taken: dict[str, Any]) -> None:
        self.rate_hz: int = taken["rate"]
        self.samples: Samples = np.frombuffer(base64.b64decode(taken["pcm"]), dtype="<i2").astype(np.float64) / 32768
        self._times = taken["times"]

    def after(self, moment_ms: float) -> Samples:
        """Samples that came after this time of the page's clock (`performance.now()`)."""
        first = next((sample for at, sample in self._times if at > moment_ms), len(self.samples))
        return self.samples[first:]


def missing() -> str:
    """Why there is no browser, or nothing."""
    try:
        import playwright.async_api  # noqa: F401
    except ImportError:
        return "no playwright: it is in the locked packages (make install)"
    if not any(shutil.which(name) for name in NAMES):
        return "no Chromium on PATH: apt install chromium"
    return ""


@asynccontextmanager
async def browser_with(microphone: Path) -> AsyncIterator[Browser]:
    """A browser whose microphone plays this WAV once each time it is opened. Skips the test where there is none."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    from playwright.async_api import async_playwright

    executable = next(found for name in NAMES if (found := shutil.which(name)))
    arguments = [*_ARGUMENTS, f"--use-file-for-fake-audio-capture={microphone}%noloop"]
    async with async_playwright() as player:
        browser = await player.chromium.launch(executable_path=executable, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def new_page(
    browser: Browser,
    address: str,
    *,
    dark: bool = False,
    size: tuple[int, int] = (1440, 900),
    expects_errors: bool = False,
    **more: Any,
) -> AsyncIterator[Page]:
    """The page, opened. Fails if it logs an error or throws, unless errors are what a test is about."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light", **more
    )
    try:
        await context.add_init_script(_WATCH)
        page = await context.new_page()
        troubles: list[str] = []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda told: troubles.append(told.text) if told.type == "error" else None)
        await page.goto(address)
        yield page
        assert expects_errors or not troubles, troubles
    finally:
        await context.close()


async def listen(page: Page) -> None:
    """Keep what is received of the agent's voice from now on."""
    await page.evaluate(_LISTEN)


async def heard(page: Page) -> Heard:
    """What was kept so far."""
    return Heard(await page.evaluate(_TAKE))


async def reception(page: Page) -> dict[str, float]:
    """How the voice came, in the browser's own figures: what it lacked and made up, of all samples."""
    told: dict[str, float] = await page.evaluate(_RECEPTION)
    return told


async def tab_to(page: Page, wanted: str, *, within: int = 40) -> None:
    """Press Tab until the element with this id has the focus, as somebody without a mouse does."""
    for _ in range(within):
        if await page.evaluate("document.activeElement.id") == wanted:
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"#{wanted} is not reached by {within} presses of Tab")


async def overflowing(page: Page) -> list[str]:
    """What reaches beyond the sides of the window."""
    found: list[str] = await page.evaluate(_OVERFLOWING)
    return found


async def serious_findings(page: Page) -> list[str]:
    """What axe-core calls serious or critical, one line each."""
    if not AXE.exists():
        pytest.skip("no axe-core: make page")
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    result = await page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{found['id']} ({found['impact']}): {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for found in result["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]
