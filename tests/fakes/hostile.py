"""Somebody who means ill, in a process of his own: `python -m tests.fakes.hostile ADDRESS PAGE_TOKEN SECONDS`.

Prints one JSON object: what each kind of request was answered with, by status.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import jwt

from tests.e2e.plain_peer import PlainPeer
from tests.fakes.webrtc import on_loopback

SDP = "application/sdp"


class Attack:
    """Requests in a loop, as fast as they are answered."""

    def __init__(self, address: str, page_token: str) -> None:
        self.host = urlsplit(address).netloc
        self.page = page_token
        self.answers: dict[str, Counter[int]] = {}
        self.longest = 0

    def ask(self, kind: str, method: str, path: str, token: str, body: bytes, content_type: str = SDP) -> bytes:
        """One request on a connection of its own, which is what costs the server most."""
        connection = http.client.HTTPConnection(self.host, timeout=10)
        try:
            headers = {"Content-Type": content_type, **({"Authorization": f"Bearer {token}"} if token else {})}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            told = answer.read()
            status = answer.status
        except (ConnectionError, http.client.HTTPException):
            told, status = b"", 0  # cut: it was too long to be read to its end
        finally:
            connection.close()
        self.answers.setdefault(kind, Counter())[status] += 1
        if status >= 400:
            self.longest = max(self.longest, len(told))
        return told

    def call_token(self) -> str:
        return str(json.loads(self.ask("token", "POST", "/api/tokens", self.page, b"{}"))["token"])

    def kinds(self, offer: bytes) -> Iterator[Callable[[], object]]:
        """One of each."""
        used = self.call_token()
        other = jwt.encode({"aud": "roombridge:call", "sub": "eve", "jti": "1", "exp": 9e9}, "x" * 32, "HS256")
        calls = "/api/calls"
        yield lambda: self.ask("no token", "POST", calls, "", offer)
        yield lambda: self.ask("forged", "POST", calls, other, offer)
        yield lambda: self.ask("page token", "POST", calls, self.page, offer)
        yield lambda: self.ask("call token", "POST", "/api/tokens", used, b"{}")
        yield lambda: self.ask("huge", "POST", calls, used, b"v=0\r\n" + b"a=x\r\n" * 200_000)
        yield lambda: self.ask("malformed", "POST", calls, used, b"v=0\r\n" + b"m=audio x\r\n" * 100)
        yield lambda: self.ask("many lines", "POST", calls, used, b"v=0\r\n" + b"a=candidate:1\r\n" * 4_000)
        yield lambda: self.ask("no SDP", "POST", calls, used, b"\0" * 1_000)
        yield lambda: self.ask("bad JSON", "POST", "/api/tokens", self.page, b"[" * 60_000, "application/json")
        yield lambda: self.ask("no such call", "DELETE", f"{calls}/x", used, b"")
        yield lambda: self.ask("offer", "POST", calls, self.call_token(), offer)
        yield lambda: self.ask("replayed", "POST", calls, used, offer)


async def flood(attack: Attack, seconds: float) -> int:
    """A call of his own, and as many messages on its channel as it takes."""
    async with PlainPeer() as eve:
        channel = eve.connection.createDataChannel("roombridge")
        token = await asyncio.to_thread(attack.call_token)

        async def answers(offer: str) -> str:
            told = await asyncio.to_thread(attack.ask, "own call", "POST", "/api/calls", token, offer.encode())
            return told.decode()

        await eve.connect(answers)
        while channel.readyState != "open":  # noqa: ASYNC110 - aiortc's own event would do no more
            await asyncio.sleep(0.01)
        channel.transport._remote_max_message_size = 0  # what we take does not trouble him
        until, sent = time.monotonic() + seconds, 0
        while time.monotonic() < until and channel.readyState == "open":
            for message in ('{"type":"text"}', "[" * 2_000, b"\0" * 500, '{"type":"mute","muted":1}', "x" * 70_000):
                if channel.bufferedAmount < 1 << 20:
                    channel.send(message)
                    sent += 1
            await asyncio.sleep(0.001)
        return sent


async def main(address: str, page_token: str, seconds: float) -> None:
    attack = Attack(address, page_token)
    with on_loopback():
        async with PlainPeer() as nobody:
            offer = (await nobody.offer("roombridge")).encode()
        flooding = asyncio.get_running_loop().create_task(flood(attack, seconds), name="flood")

        def requests() -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for kind in attack.kinds(offer):
                    kind()

        await asyncio.to_thread(requests)
        sent = await flooding
    answers = {kind: dict(counted) for kind, counted in attack.answers.items()}
    sys.stdout.write(json.dumps({"answers": answers, "longest": attack.longest, "sent": sent}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
