from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.webrtc import sdp

HERE = sdp.Local(
    ufrag="abcd",
    password="p" * 22,
    fingerprint="sha-256 " + ":".join(["AB"] * 32),
    candidates=("1 1 udp 2130706431 127.0.0.1 50000 typ host",),
    ssrc=1234,
    cname="name",
    max_message_bytes=262_144,
)
BROWSER = """\
v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1 2
a=extmap-allow-mixed
a=msid-semantic: WMS stream
m=audio 60000 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
c=IN IP4 192.0.2.7
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:1 1 udp 2122260223 3d2e8f4a-0f5b-4b3e-8a8e-3f0e4d1c2b1a.local 60000 typ host generation 0
a=candidate:2 1 udp 1686052607 192.0.2.7 60000 typ srflx raddr 0.0.0.0 rport 0 generation 0
a=candidate:3 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active generation 0
a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
a=ice-options:trickle
a=fingerprint:sha-256 D2:FA:0E:C3:22:59:5E:14:95:69:92:3D:13:B4:84:24:2C:C2:A2:C0:3E:FD:34:8E:5E:EA:6F:AF:52:CE:E6:0F
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=sendrecv
a=msid:stream track
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=ssrc:3735928559 cname:ada
m=video 9 UDP/TLS/RTP/SAVPF 96 97
c=IN IP4 0.0.0.0
a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
a=fingerprint:sha-256 D2:FA:0E:C3:22:59:5E:14:95:69:92:3D:13:B4:84:24:2C:C2:A2:C0:3E:FD:34:8E:5E:EA:6F:AF:52:CE:E6:0F
a=setup:actpass
a=mid:1
a=sendonly
a=rtcp-mux
a=rtpmap:96 VP8/90000
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
a=fingerprint:sha-256 D2:FA:0E:C3:22:59:5E:14:95:69:92:3D:13:B4:84:24:2C:C2:A2:C0:3E:FD:34:8E:5E:EA:6F:AF:52:CE:E6:0F
a=setup:actpass
a=mid:2
a=sctp-port:5000
a=max-message-size:262144
""".replace("\n", "\r\n")


def without(text: str, *starts: str) -> str:
    return "\r\n".join(line for line in text.split("\r\n") if not line.startswith(starts))


def test_a_browsers_offer_is_understood() -> None:
    remote = sdp.parse(BROWSER, is_answer=False)
    assert (remote.audio, remote.video, remote.channel, remote.opus) == (0, 1, 2, 111)
    assert remote.ufrag == "EsAw" and remote.role == "auto" and not remote.lite
    assert len(remote.candidates) == 3 and remote.sends and remote.receives
    assert dict(remote.extensions) == {sdp.AUDIO_LEVEL: 1, sdp.MID: 4}
    assert (remote.sctp_port, remote.max_message_bytes) == (5000, 262_144)


def test_our_answer_keeps_the_order_and_idles_what_is_not_wanted() -> None:
    text = sdp.answer(HERE, sdp.parse(BROWSER, is_answer=False), role="client")
    back = sdp.parse(text, is_answer=True)
    assert [(section.kind, section.mid) for section in back.sections] == [
        ("audio", "0"), ("video", "1"), ("application", "2"),
    ]  # fmt: skip
    assert back.role == "client" and back.opus == 111 and "a=group:BUNDLE 0 1 2\r\n" in text
    assert back.sections[1].first("inactive") is not None
    assert dict(back.extensions) == {sdp.AUDIO_LEVEL: 1, sdp.MID: 4}


def test_video_that_the_other_side_only_wants_to_see_is_not_taken() -> None:
    remote = sdp.parse(BROWSER.replace("a=sendonly", "a=recvonly"), is_answer=False)
    assert remote.video is None and "a=inactive" in sdp.answer(HERE, remote, role="client", video=["96"])


def test_our_offer_is_understood_by_ourselves() -> None:
    remote = sdp.parse(sdp.offer(HERE), is_answer=False)
    assert (remote.audio, remote.channel, remote.video, remote.opus) == (0, 1, None, 111)
    assert remote.candidates == HERE.candidates and remote.password == HERE.password


def test_an_answer_of_a_media_server_is_understood() -> None:
    """ICE lite, credentials for the whole session, no mid extension."""
    own = without(BROWSER, "m=video", "a=rtpmap:9", "a=fmtp:97").replace("BUNDLE 0 1 2", "BUNDLE 0 2")
    lite = own.replace("a=setup:actpass", "a=setup:active").replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n")
    remote = sdp.parse(lite.replace("a=mid:1\r\na=sendonly\r\n", ""), is_answer=True)
    assert remote.lite and remote.role == "client"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "v=0"),
        ("garbage", "v=0"),
        ("v=0\r\n" + "a=x\r\n" * 3_000, "2000 lines"),
        (BROWSER + "a=x" * 40_000, "65536"),
        (BROWSER + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n" * 20, "16 sections"),
        (BROWSER.replace("m=audio", "m=text"), "no audio"),
        (BROWSER.replace("m=application", "m=text"), "no data channel"),
        (BROWSER.replace("opus/48000/2", "PCMU/8000"), "no Opus"),
        (without(BROWSER, "a=fingerprint"), "fingerprint"),
        (BROWSER.replace("sha-256", "md5"), "fingerprint"),
        (BROWSER.replace("sha-256 D2", "sha-256 X2"), "fingerprint"),
        (without(BROWSER, "a=ice-pwd"), "ice-ufrag"),
        (BROWSER.replace("P2uYro0UCOQ4zxjKXaWCBui1", "short"), "ice-ufrag"),
        (BROWSER.replace("a=setup:actpass", "a=setup:holdconn"), "setup"),
        (without(BROWSER, "a=rtcp-mux"), "rtcp-mux"),
        (BROWSER.replace("a=mid:2", "a=mid:0"), "mids"),
        (BROWSER.replace("a=sctp-port:5000", "a=sctp-port:99999999999999999999999"), "sctp-port"),
        (BROWSER.replace("m=audio 60000", "m=audio x"), "m-line"),
        (BROWSER.replace("m=audio 60000", "m=audio 0"), "no audio"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_refused_with_a_sentence(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        sdp.parse(text, is_answer=False)


def test_an_answer_that_leaves_the_role_open_is_refused() -> None:
    with pytest.raises(ValueError, match="setup"):
        sdp.parse(BROWSER, is_answer=True)


@pytest.mark.parametrize(
    "line",
    ["a=candidate:" + "9 " * 12_000, "a=extmap:" + "1" * 30_000, "a=group:BUNDLE " + "0 " * 15_000,
     "a=ssrc:" + "9" * 30_000,
     "m=" + "a" * 30_000, "a=rtpmap:111 " + "opus/" * 6_000, "a=fingerprint:sha-256 " + "AB:" * 10_000],
)  # fmt: skip
def test_hostile_lines_cost_next_to_nothing(line: str) -> None:
    text = BROWSER + line + "\r\n"
    began = time.thread_time()
    try:
        sdp.answer(HERE, sdp.parse(text, is_answer=False), role="client")
    except ValueError:
        pass
    assert time.thread_time() - began < 0.05


LINES = BROWSER.split("\r\n")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(LINES) - 1), st.sampled_from(["drop", "double", "cut", "mix", "noise"]), st.text()
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_any_damage_is_a_value_error_or_a_usable_description(
    damage: list[tuple[int, str, str]], is_answer: bool
) -> None:
    lines = list(LINES)
    for at, how, noise in damage:
        at %= len(lines)
        line = lines[at]
        lines[at] = {"drop": "", "double": f"{line}\r\n{line}", "cut": line[: len(line) // 2], "mix": line[::-1], "noise": line[:6] + noise}[how]  # fmt: skip  # noqa: E501
    try:
        remote = sdp.parse("\r\n".join(lines), is_answer=is_answer)
    except ValueError:
        return
    assert 0 <= remote.opus <= 127 and remote.fingerprints and len(remote.password) >= 22
    again = sdp.answer(HERE, remote, role="client")
    assert again.startswith("v=0\r\n") and again.count("\r\nm=") == len(remote.sections)
