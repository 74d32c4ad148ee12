from __future__ import annotations

from email.message import Message
from email.parser import BytesParser
from typing import cast

import msgspec
import pytest

from providers.http_post import HttpAnswer
from providers.openai.call_link import CallPlan, call_body, call_id_of

OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\n"


def test_the_unified_request_is_a_form_of_offer_and_session() -> None:
    kind, body = call_body(OFFER, "gpt-realtime-2.1", unified=True)
    form = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    assert form.get_content_type() == "multipart/form-data"
    sdp, session = cast(list[Message], form.get_payload())
    assert (sdp.get_content_type(), sdp.get_param("name", header="content-disposition")) == ("application/sdp", "sdp")
    assert sdp.get_payload(decode=True) == OFFER.encode()
    assert session.get_content_type() == "application/json"
    wanted = {"type": "realtime", "model": "gpt-realtime-2.1"}
    assert msgspec.json.decode(cast(bytes, session.get_payload(decode=True))) == wanted


def test_the_other_request_is_the_offer_alone() -> None:
    assert call_body(OFFER, "m", unified=False) == ("application/sdp", OFFER.encode())


@pytest.mark.parametrize(
    ("location", "call_id"),
    [
        ("/v1/realtime/calls/rtc_u1_9c6574da8b8a41a18da9308f4ad974ce", "rtc_u1_9c6574da8b8a41a18da9308f4ad974ce"),
        ("https://api.openai.com/v1/realtime/calls/rtc_1?x=y", "rtc_1"),
        ("/v1/realtime/calls/rtc_1/", "rtc_1"),
        ("/v1/realtime/calls/rtc_1%2Fhangup", ""),
        ("", ""),
    ],
)
def test_the_call_id_is_the_last_part_of_the_location(location: str, call_id: str) -> None:
    headers = {"location": location} if location else {}
    assert call_id_of(HttpAnswer(201, headers, b"")) == call_id


def test_a_plan_shows_no_key() -> None:
    plan = CallPlan(
        base_url="https://api.openai.com/v1",
        model="m",
        headers={"Authorization": "Bearer sk-1"},
        hang_up={"Authorization": "Bearer sk-1"},
        unified=True,
    )
    assert "sk-1" not in repr(plan)
