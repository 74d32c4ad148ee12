"""Both ends of a call through the proxy read the addresses of the relay, and the rest passes as it is."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from tests.fakes.netem import Impairment
from tests.fakes.sdp_proxy import SdpProxy
from tests.fakes.udp_relay import UdpRelay

_OFFER = "v=0\r\na=candidate:1 1 udp 1 127.0.0.1 4000 typ host\r\na=end-of-candidates\r\n"
_ANSWER = "v=0\r\na=candidate:1 1 udp 1 127.0.0.1 5000 typ host\r\n"


@pytest.mark.parametrize("form", [False, True])
async def test_offer_and_answer_are_rewritten_and_the_rest_is_not(form: bool) -> None:
    read: list[tuple[str, str, str]] = []

    async def service(request: web.Request) -> web.Response:
        read.append((request.path, request.headers.get("Authorization", ""), await request.text()))
        if request.path.endswith("/hangup"):
            return web.Response(status=200)
        return web.Response(status=201, text=_ANSWER, headers={"Location": "/v1/realtime/calls/rtc_1"})

    application = web.Application()
    application.router.add_post("/{path:.*}", service)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
    body = _OFFER if not form else f'--b\r\nname="sdp"\r\n\r\n{_OFFER}\r\n--b\r\n\r\n{{"type":"realtime"}}\r\n--b--\r\n'
    try:
        async with (
            UdpRelay(Impairment(1), Impairment(2)) as relay,
            SdpProxy(relay, url) as proxy,
            aiohttp.ClientSession() as http,
        ):
            asked = proxy.base_url.replace("ws://", "http://") + "/v1/realtime/calls"
            async with http.post(asked, data=body, headers={"Authorization": "Bearer key"}) as told:
                assert (told.status, told.headers["Location"]) == (201, "/v1/realtime/calls/rtc_1")
                answer = await told.text()
            async with http.post(f"{asked}/rtc_1/hangup") as told:
                assert told.status == 200
    finally:
        await runner.cleanup()
    path, key, offer = read[0]
    assert (path, key) == ("/v1/realtime/calls", "Bearer key")
    assert (
        " 4000 " not in offer
        and offer.count("a=candidate") == 1
        and len(offer.split("\r\n")) == len(body.split("\r\n"))
    )
    assert " 5000 " not in answer and answer.count("a=candidate") == 1
    assert proxy.asked == ["/v1/realtime/calls 201", "/v1/realtime/calls/rtc_1/hangup 200"]
