"""Session descriptions: writing one with audio, a data channel and perhaps video; reading the other side's.

The other side's text is hostile until proven otherwise: size, lines and sections are bounded before anything is read,
each line is looked at once, and whatever cannot be used raises ValueError. Sources: RFC 8866 (SDP), 8829 (JSEP),
8839 (ICE), 8841 (SCTP), 8843 (BUNDLE), 7587 (Opus).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

__all__ = ["AUDIO_LEVEL", "MAX_SDP_BYTES", "MID", "Local", "Remote", "Section", "answer", "offer", "parse"]

MAX_SDP_BYTES = 65_536
_MAX_SECTIONS = 16
_MAX_LINES = 2_000
_MAX_CANDIDATES = 32
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
MID = "urn:ietf:params:rtp-hdrext:sdes:mid"

_SECTION = re.compile(r"m=([a-z]{1,20}) (\d{1,5})(?:/\d{1,5})? ([A-Z/]{1,40}) (.{1,400})")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,64}")
_ICE = re.compile(r"[A-Za-z0-9+/]{4,256}")
_FINGERPRINT = re.compile(r"(sha-256|sha-384|sha-512) ([0-9A-F]{2}(?::[0-9A-F]{2}){31,63})", re.IGNORECASE)
_ROLES = {"active": "client", "passive": "server", "actpass": "auto"}
_DIRECTIONS = {
    "sendrecv": (True, True),
    "sendonly": (True, False),
    "recvonly": (False, True),
    "inactive": (False, False),
}


class Local(msgspec.Struct, frozen=True, kw_only=True):
    """What this side says of itself."""

    ufrag: str
    password: str
    fingerprint: str
    """`sha-256 AB:CD:...`"""
    candidates: tuple[str, ...]
    """Without `candidate:`."""
    ssrc: int
    cname: str
    max_message_bytes: int
    session: int = 0
    """A number for the origin line."""


class Section(msgspec.Struct, kw_only=True):
    """One m-line of the other side and its attributes, in order."""

    kind: str
    port: int
    profile: str
    formats: tuple[str, ...]
    attributes: list[tuple[str, str]]

    def first(self, name: str) -> str | None:
        return next((value for key, value in self.attributes if key == name), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]

    @property
    def mid(self) -> str:
        return self.first("mid") or ""


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """What of the other side's description matters."""

    text: str
    sections: tuple[Section, ...]
    bundled: frozenset[int]
    """Indexes of the sections that share one port."""
    audio: int
    """Index of the section with the audio that is taken."""
    channel: int
    """Index of the data channel's section."""
    video: int | None
    """Index of the first video section, if it is there and sends."""
    ufrag: str
    password: str
    lite: bool
    fingerprints: tuple[tuple[str, str], ...]
    role: str
    """The other side's DTLS role: client, server or auto."""
    candidates: tuple[str, ...]
    opus: int
    """Payload type."""
    sends: bool
    """The other side sends audio."""
    receives: bool
    sctp_port: int
    max_message_bytes: int
    """That the other side takes; 0: any."""
    extensions: tuple[tuple[str, int], ...]
    """URI and id of the header extensions of the audio section."""


def offer(local: Local) -> str:
    """One audio section both ways, one data channel, everything over one port."""
    extensions = ((AUDIO_LEVEL, 1), (MID, 2))
    return (
        _head(local, ["0", "1"])
        + _audio(local, "0", 111, "sendrecv", extensions, "actpass")
        + _channel(local, "1", "actpass")
    )


def answer(local: Local, remote: Remote, *, role: str, video: Sequence[str] = ()) -> str:
    """Takes the audio and the data channel (and the video, if lines for it are given), refuses other sections.

    Args: `role` is this side's DTLS role, client or server; `video` the codec lines of the video section, the first
    is the list of payload types.
    """
    setup = "active" if role == "client" else "passive"
    taken, text = [], ""
    known = tuple((uri, number) for uri, number in remote.extensions if uri in (AUDIO_LEVEL, MID))
    for number, section in enumerate(remote.sections):
        if number == remote.audio:
            direction = {(True, True): "sendrecv", (True, False): "recvonly", (False, True): "sendonly"}.get(
                (remote.sends, remote.receives), "inactive"
            )
            text += _audio(local, section.mid, remote.opus, direction, known, setup)
        elif number == remote.channel:
            text += _channel(local, section.mid, setup)
        elif number == remote.video and video:
            text += _lines(
                f"m=video 9 UDP/TLS/RTP/SAVPF {video[0]}", "c=IN IP4 0.0.0.0", f"a=mid:{section.mid}",
                "a=recvonly", "a=rtcp-mux", *_transport(local, setup), *video[1:],
            )  # fmt: skip
        elif number in remote.bundled and section.kind in ("audio", "video"):
            # Not refused (port 0) but idle: clients that check refused sections too would take offence.
            number_of = section.formats[0]
            text += _lines(
                f"m={section.kind} 9 UDP/TLS/RTP/SAVPF {number_of}", "c=IN IP4 0.0.0.0", f"a=mid:{section.mid}",
                "a=inactive", "a=rtcp-mux", *_transport(local, setup),
                *(f"a={key}:{value}" for key, value in section.attributes
                  if key in ("rtpmap", "fmtp") and value.startswith(f"{number_of} ")),
            )  # fmt: skip
        else:
            text += _lines(
                f"m={section.kind} 0 {section.profile} {' '.join(section.formats)}", "c=IN IP4 0.0.0.0",
                *([f"a=mid:{section.mid}"] if section.mid else []), "a=inactive",
            )  # fmt: skip
            continue
        taken.append(section.mid)
    return _head(local, taken) + text


def parse(text: str, *, is_answer: bool) -> Remote:
    """Read the other side's description. Raises ValueError, saying what is missing, when it cannot be used."""
    sections, common = _split(text)
    taken = _bundled(common, sections)
    audio = _find(taken, "audio")
    channel = _find(taken, "application")
    if audio is None:
        raise ValueError("the session description has no audio section: offer audio with Opus")
    if channel is None:
        raise ValueError("the session description has no data channel: open one before the offer is made")
    media, data = sections[audio], sections[channel]
    transport = min((audio, channel), key=lambda number: taken.index((number, sections[number])))
    first = sections[transport]

    def shared(name: str) -> list[str]:
        return first.all(name) or [value for key, value in common if key == name] or media.all(name) or data.all(name)

    ufrag, password = (next(iter(shared(name)), "") for name in ("ice-ufrag", "ice-pwd"))
    if not _ICE.fullmatch(ufrag) or not _ICE.fullmatch(password) or len(password) < 22:
        raise ValueError("the session description has no usable ice-ufrag and ice-pwd")
    fingerprints = tuple(
        (found[1].lower(), found[2].upper())
        for found in map(_FINGERPRINT.fullmatch, shared("fingerprint")[:8])
        if found
    )
    if not fingerprints:
        raise ValueError("the session description has no fingerprint of SHA-256 or better")
    role = _ROLES.get(next(iter(shared("setup")), "actpass"), "")
    if not role or (is_answer and role == "auto"):
        raise ValueError("the session description has no usable setup attribute")
    if media.first("rtcp-mux") is None:
        raise ValueError("the session description does not multiplex RTCP (rtcp-mux)")
    direction = next((key for key, _ in media.attributes if key in _DIRECTIONS), None) or next(
        (key for key, _ in common if key in _DIRECTIONS), "sendrecv"
    )
    sends, receives = _DIRECTIONS[direction]
    return Remote(
        text=text,
        sections=tuple(sections),
        bundled=frozenset(number for number, section in taken if section.mid),
        audio=audio,
        channel=channel,
        video=_find_sender(sections, _find(taken, "video")),
        ufrag=ufrag,
        password=password,
        lite=any(key == "ice-lite" for key, _ in common),
        fingerprints=fingerprints,
        role=role,
        candidates=tuple((first.all("candidate") or media.all("candidate") or data.all("candidate"))[:_MAX_CANDIDATES]),
        opus=_opus(media),
        sends=sends,
        receives=receives,
        sctp_port=_number(data.first("sctp-port") or "5000", 1, 65_535, "sctp-port"),
        max_message_bytes=_number(data.first("max-message-size") or "65536", 0, 2**64, "max-message-size"),
        extensions=tuple(_extensions(media)),
    )  # fmt: skip


def _split(text: str) -> tuple[list[Section], list[tuple[str, str]]]:
    if len(text) > MAX_SDP_BYTES:
        raise ValueError(f"a session description of {len(text)} characters: {MAX_SDP_BYTES} are enough")
    lines = text.splitlines()
    if len(lines) > _MAX_LINES or not lines or lines[0].strip() != "v=0":
        raise ValueError("this is no session description: it begins with v=0 and has at most 2000 lines")
    common: list[tuple[str, str]] = []
    sections: list[Section] = []
    into = common
    for line in lines:
        if line.startswith("m="):
            found = _SECTION.fullmatch(line)
            if found is None or len(sections) == _MAX_SECTIONS:
                raise ValueError(f"a session description has at most {_MAX_SECTIONS} sections, each begun by an m-line")
            into = []
            kind, port, profile, formats = found.groups()
            sections.append(
                Section(kind=kind, port=int(port), profile=profile, formats=tuple(formats.split()), attributes=into)
            )
        elif line.startswith("a="):
            name, _, value = line[2:].partition(":")
            into.append((name, value))
    mids = [section.mid for section in sections if section.mid]
    if len(set(mids)) != len(mids) or not all(_TOKEN.fullmatch(mid) for mid in mids):
        raise ValueError("the sections of a session description need different mids")
    return sections, common


def _bundled(common: list[tuple[str, str]], sections: list[Section]) -> list[tuple[int, Section]]:
    """The sections that share one port, the one that names the port first."""
    groups = [value.split()[1:] for key, value in common if key == "group" and value.startswith("BUNDLE ")]
    if not groups:
        return list(enumerate(sections))[:1] + [pair for pair in enumerate(sections) if pair[0] and pair[1].port]
    place = {mid: order for order, mid in enumerate(groups[0][:_MAX_SECTIONS])}
    inside = [(number, section) for number, section in enumerate(sections) if section.mid in place]
    return sorted(inside, key=lambda pair: place[pair[1].mid])


def _find(taken: list[tuple[int, Section]], kind: str) -> int | None:
    return next(
        (
            number
            for number, section in sorted(taken, key=lambda pair: pair[0])
            if section.kind == kind and (section.port or section.first("bundle-only") is not None)
        ),
        None,
    )


def _find_sender(sections: list[Section], video: int | None) -> int | None:
    if video is None:
        return None
    direction = next((key for key, _ in sections[video].attributes if key in _DIRECTIONS), "sendrecv")
    return video if _DIRECTIONS[direction][0] else None


def _opus(media: Section) -> int:
    for value in media.all("rtpmap"):
        number, _, codec = value.partition(" ")
        if codec.lower().startswith("opus/48000") and number in media.formats:
            return _number(number, 0, 127, "rtpmap")
    raise ValueError("the session description has no Opus in its audio section")


def _extensions(media: Section) -> list[tuple[str, int]]:
    found = []
    for value in media.all("extmap")[:32]:
        number, _, uri = value.partition(" ")
        number = number.partition("/")[0]
        if number.isascii() and number.isdigit() and 1 <= int(number[:4]) <= 14:
            found.append((uri.split(" ")[0], int(number)))
    return found


def _number(text: str, low: int, high: int, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,20}", text) or not low <= int(text) <= high:
        raise ValueError(f"{what} = {text[:40]!r}: use {low} to {high}")
    return int(text)


def _lines(*lines: str) -> str:
    return "".join(f"{line}\r\n" for line in lines)


def _head(local: Local, mids: Sequence[str]) -> str:
    return _lines(
        "v=0", f"o=- {local.session} {local.session} IN IP4 0.0.0.0", "s=-", "t=0 0",
        f"a=group:BUNDLE {' '.join(mids)}", "a=msid-semantic:WMS *",
    )  # fmt: skip


def _transport(local: Local, setup: str) -> list[str]:
    return [
        *(f"a=candidate:{candidate}" for candidate in local.candidates),
        "a=end-of-candidates",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:{local.fingerprint}",
        f"a=setup:{setup}",
    ]


def _audio(local: Local, mid: str, opus: int, direction: str, extensions: Sequence[tuple[str, int]], setup: str) -> str:
    return _lines(
        f"m=audio 9 UDP/TLS/RTP/SAVPF {opus}", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0", f"a=mid:{mid}",
        f"a={direction}", "a=rtcp-mux", *_transport(local, setup),
        *(f"a=extmap:{number} {uri}" for uri, number in extensions),
        f"a=rtpmap:{opus} opus/48000/2", f"a=fmtp:{opus} minptime=10;useinbandfec=1", "a=ptime:20",
        f"a=msid:{local.cname} {local.cname}-audio", f"a=ssrc:{local.ssrc} cname:{local.cname}",
    )  # fmt: skip


def _channel(local: Local, mid: str, setup: str) -> str:
    return _lines(
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", f"a=mid:{mid}",
        *_transport(local, setup), "a=sctp-port:5000", f"a=max-message-size:{local.max_message_bytes}",
    )  # fmt: skip
