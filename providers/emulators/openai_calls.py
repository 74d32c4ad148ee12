"""What a client asks of OpenAI by HTTP about a call over WebRTC: the two forms of a request, and the hang-up."""

from __future__ import annotations

import re
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import msgspec

from providers.emulators.openai_schema import CLIENT_EVENTS, Problem
from providers.emulators.openai_session import EffectiveSession
from providers.scripted.scenario import ServerVad

__all__ = ["hung_up_call", "is_call_path", "offered", "session_problem"]

_BOTH = "Expected multipart/form-data with the parts 'sdp' and 'session', or application/sdp."


def is_call_path(path: str) -> bool:
    return path.endswith("/realtime/calls")


def hung_up_call(path: str) -> str | None:
    """The call id in `.../realtime/calls/{id}/hangup`; None: another path."""
    found = re.search(r"/realtime/calls/([^/]+)/hangup$", path)
    return found[1] if found else None


def offered(content_type: str, body: bytes) -> tuple[str, dict[str, Any] | None] | Problem:
    """The SDP, and the session that came with it, unchecked; None: it is the client secret's."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/sdp":
        return _text(body, None)
    if kind != "multipart/form-data":
        return Problem("unsupported_content_type", f"Unsupported content type: '{kind}'. {_BOTH}")
    parts = _parts(content_type, body)
    if "sdp" not in parts:
        return Problem("missing_required_parameter", "Missing required parameter: 'sdp'.", "sdp")
    session: Any = None
    if "session" in parts:
        try:
            session = msgspec.json.decode(parts["session"])
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return Problem("invalid_json", "We could not parse the JSON of the part 'session'.", "session")
        if not isinstance(session, dict):
            return Problem("invalid_type", "Invalid type for 'session': expected an object.", "session")
    return _text(parts["sdp"], session)


def session_problem(session: dict[str, Any]) -> Problem | None:
    """What is wrong with the session that a call begins with. Its `model` is checked by the service."""
    problem = CLIENT_EVENTS.check({"type": "session.update", "session": session}, "")
    if problem is not None:
        return problem
    return EffectiveSession("", session.get("model", ""), ServerVad()).refusal(session, spoke=False)


def _text(sdp: bytes, session: dict[str, Any] | None) -> tuple[str, dict[str, Any] | None] | Problem:
    try:
        text = sdp.decode()
    except UnicodeDecodeError:
        text = ""
    if not text.startswith("v=0"):
        return Problem("invalid_offer", "The SDP offer could not be parsed.", "sdp")
    if "\nm=audio " not in text:
        return Problem("invalid_offer", "The SDP offer has no audio media section.", "sdp")
    return text, session


def _parts(content_type: str, body: bytes) -> dict[str, bytes]:
    """Parts of a form by their names; empty for what is no form."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", errors="replace")
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    found: dict[str, bytes] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            found[name] = content
    return found
