"""The HTTP API on a real socket: what it answers, whom it refuses, and that no request holds it up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.core.errors import BridgeError, ConfigError, RoomError
from bridge.core.words import EndReason
from bridge.http_api.admission import Admission
from bridge.http_api.desk import CallDesk, Choice, DirectCall, RoomAccess
from bridge.http_api.pages import Pages
from bridge.http_api.server import ApiServer
from bridge.http_api.settings import ServeSettings
from bridge.http_api.tokens import Caller, Tokens
from bridge.transports.loopback import LoopbackRoom
from tests.fakes.leftovers import nothing_left

SECRET = "0123456789abcdef0123456789abcdef"
SDP = {"Content-Type": "application/sdp"}
OFFER = "v=0\r\nand so on"


class FakeCall(LoopbackRoom):
    def __init__(self) -> None:
        super().__init__()
        self.hung_up = self.closed = 0
        self.answers: str | Exception = "v=0\r\nour answer"

    async def answer(self, offer_sdp: str) -> str:
        if isinstance(self.answers, Exception):
            raise self.answers
        return self.answers

    def hang_up(self) -> None:
        self.hung_up += 1

    def ends_because(self, why: EndReason | BridgeError) -> None: ...

    async def close(self) -> None:
        self.closed += 1


class FakeMaker:
    def __init__(self) -> None:
        self.choices = [
            Choice(name="scripted", model="script", title="offline", ready=True),
            Choice(name="openai", model="", title="OpenAI", ready=False),
        ]
        self.default = "scripted"
        self.stopping = False
        self.direct = self.livekit = True
        self.ice_servers: list[Mapping[str, Any]] = [{"urls": ["stun:stun.example.com"]}]
        self.livekit_client = True
        self.video_sources: list[str] = ["screen"]
        self.answers: str | Exception = "v=0\r\nour answer"
        self.calls: dict[str, FakeCall] = {}
        self.callers: list[Caller] = []
        self.ended: dict[str, Callable[[], None]] = {}
        self.room_error: BridgeError | None = None

    def check_offer(self, offer_sdp: str) -> None:
        if not offer_sdp.startswith("v=0"):
            raise ValueError("it does not begin with v=0")

    def direct_call(self, call: str, caller: Caller, provider: str) -> DirectCall:
        self.callers.append(caller)
        made = self.calls[call] = FakeCall()
        made.answers = self.answers
        return made

    def begin(self, call: str, transport: DirectCall, provider: str, ended: Callable[[], None]) -> None:
        self.ended[call] = ended

    def begin_room(self, room: str, caller: Caller, provider: str, ended: Callable[[], None]) -> RoomAccess:
        if self.room_error is not None:
            raise self.room_error
        self.ended[room] = ended
        return RoomAccess("ws://127.0.0.1:7880", "a join token", room, caller.identity)


class Served:
    """A running server, and a client that brings the right tokens."""

    def __init__(self, server: ApiServer, maker: FakeMaker, tokens: Tokens, client: aiohttp.ClientSession) -> None:
        self.server, self.maker, self.tokens, self.client = server, maker, tokens, client

    def page_token(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens.page(ttl_s=60, now=now())}"}

    def call_token(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens.call(identity='ada', ttl_s=60, now=now())}"}

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any, Mapping[str, str]]:
        async with self.client.request(method, self.server.address + path, **more) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if is_json else answer.text()), answer.headers

    async def call(self, **more: Any) -> tuple[int, Any, Mapping[str, str]]:
        headers = {**self.call_token(), **SDP, **more.pop("headers", {})}
        return await self.ask("POST", "/api/calls", headers=headers, data=more.pop("data", OFFER), **more)


def now() -> float:
    return datetime.now(UTC).timestamp()


@asynccontextmanager
async def serving(web: Path | None = None, budget: float = 10.0, **settings: Any) -> AsyncIterator[Served]:
    maker, tokens, own = FakeMaker(), Tokens(SECRET), ServeSettings(port=0, **settings)
    desk = CallDesk(maker, own, tokens, Admission(budget))
    async with nothing_left(), ApiServer(desk, own, Pages(web)) as server:
        async with aiohttp.ClientSession() as client:
            yield Served(server, maker, tokens, client)


async def test_the_page_its_parts_and_their_headers(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "main.js").write_text("export {}")
    async with serving(tmp_path) as served:
        status, text, headers = await served.ask("GET", "/")
        assert (status, text) == (200, "<!doctype html>")
        assert "script-src 'self'" in headers["Content-Security-Policy"] and "unsafe" not in str(headers)
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Frame-Options"] == "DENY" and "microphone=(self)" in headers["Permissions-Policy"]
        status, text, headers = await served.ask("GET", "/assets/main.js")
        assert (status, headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
        status, _, _ = await served.ask("GET", "/assets/main.js", headers={"If-None-Match": headers["ETag"]})
        assert status == 304
        status, body, _ = await served.ask("GET", "/vendor/livekit-client.esm.mjs")
        assert (status, body["error"]["code"]) == (404, "not_found") and "npm ci" in body["error"]["mend"]


async def test_the_configuration_is_for_whoever_holds_the_pages_token() -> None:
    async with serving() as served:
        status, body, headers = await served.ask("GET", "/api/config")
        assert (status, body["error"]["code"], headers["WWW-Authenticate"]) == (401, "no_token", "Bearer")
        status, body, _ = await served.ask("GET", "/api/config", headers=served.call_token())
        assert (status, body["error"]["code"]) == (401, "token_audience")
        status, body, headers = await served.ask("GET", "/api/config", headers=served.page_token())
        assert status == 200 and headers["Cache-Control"] == "no-store"
        assert body == {
            "providers": [
                {"name": "scripted", "model": "script", "title": "offline", "ready": True, "video": False},
                {"name": "openai", "model": "", "title": "OpenAI", "ready": False, "video": False},
            ],
            "default": "scripted",
            "direct": True,
            "livekit": True,
            "ice_servers": [{"urls": ["stun:stun.example.com"]}],
            "livekit_client": True,
            "video_sources": ["screen"],
        }


async def test_a_page_gets_a_token_calls_once_and_hangs_up() -> None:
    async with serving() as served:
        status, given, _ = await served.ask("POST", "/api/tokens", headers=served.page_token(), json={"name": "Ada"})
        assert (status, given["expires_in_s"]) == (200, 60.0)
        bearer = {"Authorization": f"Bearer {given['token']}"}
        status, answer, headers = await served.call(headers=bearer)
        assert (status, answer, headers["Content-Type"]) == (201, "v=0\r\nour answer", "application/sdp")
        (call,) = served.maker.calls
        assert headers["Location"] == f"/api/calls/{call}"
        assert served.maker.callers[0].name == "Ada" and served.maker.callers[0].identity.startswith("guest-")
        status, body, _ = await served.call(headers=bearer)
        assert (status, body["error"]["code"]) == (401, "token_used")
        status, body, _ = await served.ask("DELETE", headers["Location"], headers=served.call_token())
        assert (status, body["error"]["code"]) == (404, "no_such_call"), "another token does not end it"
        assert served.maker.calls[call].hung_up == 0
        status, _, _ = await served.ask("DELETE", headers["Location"], headers=bearer)
        assert (status, served.maker.calls[call].hung_up) == (204, 1)
        served.maker.ended[call]()
        status, body, _ = await served.ask("DELETE", headers["Location"], headers=bearer)
        assert (status, body["error"]["code"]) == (404, "no_such_call")


async def test_a_full_process_says_when_to_come_again_and_the_token_is_not_lost() -> None:
    async with serving(budget=1.0) as served:
        status, _, _ = await served.call()
        bearer = served.call_token()
        refused, body, headers = await served.call(headers=bearer)
        assert (status, refused, body["error"]["code"], headers["Retry-After"]) == (201, 503, "full", "20")
        served.maker.ended[next(iter(served.maker.calls))]()
        status, _, _ = await served.call(headers=bearer)
        assert status == 201


async def test_an_offer_that_cannot_be_used_costs_nothing() -> None:
    async with serving(budget=1.0) as served:
        status, body, _ = await served.call(data="hello")
        assert (status, body["error"]["code"], body["error"]["message"]) == (
            400,
            "bad_offer",
            "it does not begin with v=0",
        )
        served.maker.answers = ValueError("no usable candidate")
        status, body, _ = await served.call()
        assert (status, body["error"]["code"]) == (400, "bad_offer")
        assert [call.closed for call in served.maker.calls.values()] == [1]
        served.maker.answers = RuntimeError("a bug")
        status, body, _ = await served.call()
        assert (status, body["error"]["code"], "bug" in str(body)) == (500, "internal", False)
        served.maker.answers = OSError("no address to listen on: tried 192.0.2.7")
        status, body, _ = await served.call()
        assert (status, body["error"]["code"], "192.0.2.7" in str(body)) == (502, "not_begun", False)
        served.maker.answers = "v=0"
        status, _, _ = await served.call()
        assert status == 201, "nothing of the failed ones is still charged"


async def test_who_chooses_a_model_gets_that_one_or_a_reason() -> None:
    async with serving() as served:
        for provider, expected, code in (("nobody", 400, "unknown_provider"), ("openai", 409, "provider_not_ready")):
            status, body, _ = await served.call(params={"provider": provider})
            assert (status, body["error"]["code"]) == (expected, code) and "nobody" not in str(body)


async def test_a_room_is_made_where_there_is_a_server() -> None:
    async with serving() as served:
        status, room, _ = await served.ask("POST", "/api/rooms", headers=served.call_token(), json={})
        assert (status, room["url"], room["identity"]) == (201, "ws://127.0.0.1:7880", "ada")
        served.maker.room_error = RoomError("no way")
        status, body, _ = await served.ask("POST", "/api/rooms", headers=served.call_token())
        assert (status, body["error"]["code"], "no way" in str(body)) == (502, "not_begun", False)
        served.maker.livekit = False
        status, body, _ = await served.ask("POST", "/api/rooms", headers=served.call_token())
        assert (status, body["error"]["code"]) == (404, "no_livekit")


async def test_health_needs_no_token_and_tells_of_the_end() -> None:
    async with serving() as served:
        assert (await served.ask("GET", "/healthz"))[:2] == (200, {"status": "ok", "load": 0.0, "budget": 10.0})
        served.maker.stopping = True
        assert (await served.ask("GET", "/healthz"))[0] == 503
        status, body, _ = await served.call()
        assert (status, body["error"]["code"]) == (503, "stopping")


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"data": "x" * 70_000}, 413, "too_large"),
        ({"data": OFFER, "headers": {"Content-Type": "text/plain"}}, 415, "not_sdp"),
        ({"data": OFFER, "headers": {"Content-Encoding": "gzip"}}, 415, "encoded"),
        ({"data": b"v=0\xff\xfe"}, 400, "bad_offer"),
        ({"data": ""}, 400, "bad_offer"),
        ({"headers": {"Authorization": "Basic eHg6eHg="}}, 401, "no_token"),
        ({"headers": {"Authorization": "Bearer " + "x" * 6_000}}, 401, "token_invalid"),
        ({"headers": {"Authorization": "Bearer a.b.c"}}, 401, "token_invalid"),
    ],
    ids=["huge", "no SDP", "packed", "no text", "empty", "another scheme", "a long token", "a forged token"],
)
async def test_hostile_requests_get_a_typed_4xx(request_: dict[str, Any], status: int, code: str) -> None:
    async with serving() as served:
        got, body, _ = await served.call(**request_)
        assert (got, body["error"]["code"]) == (status, code)
        assert len(str(body)) < 400 and set(body["error"]) == {"code", "message", "mend"}
        assert not served.maker.calls


async def test_a_huge_body_without_a_length_is_refused_too() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"v=0" * 1_000

    async with serving() as served:
        status, body, _ = await served.call(data=endless())
        assert (status, body["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize("body", ["[]", "{", '{"nam":"x"}', '{"name":7}', "[" * 5_000, '"\\ud800"', "\0"])
async def test_json_that_is_not_asked_for_is_refused(body: str) -> None:
    async with serving() as served:
        status, told, _ = await served.ask("POST", "/api/tokens", headers=served.page_token(), data=body)
        assert (status, told["error"]["code"]) == (400, "bad_json")


async def test_offers_in_a_loop_are_slowed_down() -> None:
    async with serving(budget=100.0, offers_per_s=2.0) as served:
        answers = [await served.call() for _ in range(12)]
        refused = [headers for status, _, headers in answers if status == 429]
        assert len(refused) >= 6 and all(headers["Retry-After"] for headers in refused)
        assert {status for status, _, _ in answers} == {201, 429}


async def test_a_name_that_was_pointed_here_is_refused() -> None:
    async with serving() as served:
        status, body, _ = await served.ask("GET", "/healthz", headers={"Host": "evil.example.com"})
        assert (status, body["error"]["code"]) == (403, "host_refused")
        for name in ("localhost:1", "[::1]", "127.0.0.1"):
            assert (await served.ask("GET", "/healthz", headers={"Host": name}))[0] == 200


async def test_only_named_origins_may_call_from_elsewhere() -> None:
    ours = "https://app.example.com"
    async with serving(allowed_origins=(ours,)) as served:
        for origin in ("https://evil.example.com", "null", "http://[", "x" * 3_000):
            status, body, headers = await served.call(headers={"Origin": origin})
            assert (status, body["error"]["code"]) == (403, "origin_refused")
            assert "Access-Control-Allow-Origin" not in headers
        status, _, headers = await served.call(headers={"Origin": ours})
        assert (status, headers["Access-Control-Allow-Origin"]) == (201, ours)
        assert "Location" in headers["Access-Control-Expose-Headers"]
        status, _, headers = await served.ask("OPTIONS", "/api/calls", headers={"Origin": ours})
        assert (status, headers["Access-Control-Allow-Headers"]) == (204, "Authorization, Content-Type")
        assert (await served.call(headers={"Origin": served.server.address}))[0] == 201, "our own page"


async def raw(served: Served, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    writer.write(sent)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ", b"", b"POST /api/calls HT"])
async def test_a_request_that_does_not_arrive_is_not_waited_for(sent: bytes) -> None:
    async with serving(request_timeout_s=1.0) as served:
        began = asyncio.get_running_loop().time()
        assert await raw(served, sent) == b""
        assert asyncio.get_running_loop().time() - began < 3
        assert served.server.counters()["http.too_slow"] == 1


async def test_an_answer_that_nobody_reads_is_not_kept_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.http_api.server._ANSWER_S", 0.2)
    (tmp_path / "large.js").write_text("x" * (8 << 20))
    async with serving(tmp_path) as served:
        with socket.socket() as reads_nothing:
            reads_nothing.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reads_nothing.connect(("127.0.0.1", served.server.port))
            reads_nothing.sendall(b"GET /assets/large.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 2)
            async with asyncio.timeout(5):
                while not served.server.counters()["http.too_slow"]:  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.02)
        status, text, headers = await served.ask("GET", "/assets/large.js")
        assert (status, len(text), headers["Server"]) == (200, 8 << 20, "roombridge"), "who reads gets all of it"


async def test_a_body_that_drips_is_not_waited_for() -> None:
    async with serving(request_timeout_s=1.0) as served:
        token = served.call_token()["Authorization"].encode()
        head = (
            b"POST /api/calls HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/sdp\r\nAuthorization: " + token
        )
        assert b" 408 " in await raw(served, head + b"\r\nContent-Length: 100\r\n\r\nv=0")


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\x01", b"GET " + b"/x" * 20_000 + b" HTTP/1.1\r\n\r\n", b"A B C D\r\n\r\n", b"\0" * 5_000],
    ids=["TLS", "a long line", "no HTTP", "zeros"],
)
async def test_what_is_no_http_is_answered_briefly(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(request_timeout_s=1.0) as served:
        told = await raw(served, sent)
        assert len(told) < 400 and (not told or b" 400 " in told)
        assert (await served.ask("GET", "/healthz"))[0] == 200
    assert caplog.records == []


async def test_connections_are_bounded() -> None:
    async with serving(max_connections=4) as served:
        held = [await asyncio.open_connection("127.0.0.1", served.server.port) for _ in range(4)]
        assert await raw(served, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") == b""
        assert served.server.counters()["http.connections_refused"] == 1
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        assert (await served.ask("GET", "/healthz"))[0] == 200


async def test_a_path_of_another_folder_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("page")
    async with serving(tmp_path) as served:
        for path in (
            "/assets/../../etc/passwd",
            "/assets/%2e%2e/%2e%2e/etc/passwd",
            "/%00",
            "/assets/..%2f..%2fetc/passwd",
        ):
            sent = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            assert b" 404 " in await raw(served, sent.encode())
        assert (await served.ask("PUT", "/api/calls"))[0] == 405


async def test_a_port_that_is_taken_is_named() -> None:
    async with serving() as served:
        desk = CallDesk(FakeMaker(), ServeSettings(), Tokens(SECRET), Admission(1.0))
        with pytest.raises(ConfigError, match=r"serve.port = \d+: is taken"):
            await ApiServer(desk, ServeSettings(port=served.server.port), Pages(None)).start()
        with pytest.raises(ConfigError, match=r"serve.host = '203.0.113.1'"):
            await ApiServer(desk, ServeSettings(host="203.0.113.1"), Pages(None)).start()
