from __future__ import annotations

import subprocess
import sys

import pytest

from bridge.core.errors import ConfigError, RoomRejected
from bridge.transports.livekit_room import LiveKitRoom, LiveKitSettings, sign

KEYS = {"api_key": "k", "api_secret": "a secret of thirty-two characters"}


class Deaf:
    def on_audio(self, participant: object, pcm: bytes, now: float) -> None: ...
    def on_event(self, event: object) -> None: ...


@pytest.mark.parametrize("url", ["", "localhost:7880", "ftp://host", "ws://", "http:///path"])
def test_a_wrong_address_is_refused_before_anything_is_opened(url: str) -> None:
    with pytest.raises(ConfigError, match="ws://HOST:PORT") as error:
        LiveKitRoom(LiveKitSettings(url=url, room="r"), **KEYS)
    assert error.value.field == "livekit.url"


def test_missing_room_and_keys_are_named() -> None:
    with pytest.raises(ConfigError, match=r"livekit\.room"):
        LiveKitRoom(LiveKitSettings(), **KEYS)
    with pytest.raises(ConfigError, match="LIVEKIT_API_SECRET"):
        LiveKitRoom(LiveKitSettings(room="r"), api_key="k")


def test_junk_for_a_token_is_refused_without_quoting_it() -> None:
    with pytest.raises(ConfigError, match="not a JWT") as error:
        LiveKitRoom(LiveKitSettings(), token="hunter2")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("room", "grants", "said"),
    [
        ("r", {"room": "other"}, "video.room other"),
        ("r", {"room": "r", "canPublish": False}, "video.canPublish"),
        ("", {}, "names no room"),
    ],
)
def test_a_token_that_cannot_do_is_refused_before_anything_is_opened(
    room: str, grants: dict[str, object], said: str
) -> None:
    token = sign("k", "s" * 32, grants=grants, identity="a")
    with pytest.raises(ConfigError, match=said) as error:
        LiveKitRoom(LiveKitSettings(room=room), token=token)
    assert error.value.field == "LIVEKIT_TOKEN"
    assert token not in str(error.value)


def test_a_room_that_nobody_named_is_called_as_the_token_says() -> None:
    token = sign("k", "s" * 32, grants={"room": "lobby"}, identity="a")
    assert LiveKitRoom(LiveKitSettings(), token=token).settings.room == "lobby"


async def test_an_expired_token_is_refused_before_the_server_is_asked() -> None:
    token = sign("k", "s" * 32, grants={"room": "r"}, identity="a", ttl_s=-3600)
    room = LiveKitRoom(LiveKitSettings(url="ws://127.0.0.1:9", room="r"), token=token)
    with pytest.raises(RoomRejected) as error:
        await room.open(Deaf())
    assert error.value.field == "LIVEKIT_TOKEN"
    assert token not in str(error.value)
    await room.close()


def test_no_secret_shows_in_the_repr() -> None:
    token = sign("k", "s" * 32, grants={"room": "r"}, identity="a")
    assert token not in repr(LiveKitRoom(LiveKitSettings(room="r"), token=token))
    assert KEYS["api_secret"] not in repr(LiveKitRoom(LiveKitSettings(room="r"), **KEYS))


def test_a_room_never_opened_is_harmless() -> None:
    room = LiveKitRoom(LiveKitSettings(room="r", input_rate_hz=16_000), **KEYS)
    room.play(b"\0\0")
    room.flush()
    assert room.queued_ms(0.0) == 0.0
    assert room.counters() == {}
    assert room.capabilities.input_format.rate_hz == 16_000


def test_importing_the_transport_loads_nothing_of_livekit() -> None:
    code = "import sys, bridge.transports.livekit_room; print([m for m in sys.modules if m.startswith('livekit')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_sdk_is_loaded_beside_the_loop() -> None:
    code = """
import asyncio, os, sys, threading
loaded_in = []
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "livekit.rtc":
            loaded_in.append(threading.current_thread() is threading.main_thread())
sys.meta_path.insert(0, Watch())
from bridge.core.errors import RoomError, RoomInUse
from bridge.transports.livekit_room import LiveKitRoom, LiveKitSettings
class Deaf:
    def on_audio(self, participant, pcm, now): ...
    def on_event(self, event): ...
async def main():
    settings = LiveKitSettings(url="ws://127.0.0.1:1", room="a", connect_timeout_s=2)
    room = LiveKitRoom(settings, api_key="key", api_secret="a-secret-of-the-server")
    for _ in range(2):
        try:
            await room.open(Deaf())
        except RoomInUse:
            print("in use")
        except RoomError:
            print("refused")
    await room.close()
asyncio.run(main())
print(loaded_in, flush=True)
os._exit(0)  # the SDK's native threads abort one interpreter in forty as it is taken down
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=True)
    assert done.stdout.splitlines() == ["refused", "in use", "[False]"]
