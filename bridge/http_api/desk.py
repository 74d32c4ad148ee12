"""Where a caller asks for his call: tokens, choice of the model, admission, a call begun or ended. No HTTP in here."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from bridge.core.errors import BridgeError
from bridge.core.words import EndReason
from bridge.http_api.admission import Admission, Leg, Refusal
from bridge.http_api.limits import OfferGate
from bridge.http_api.refusal import Refused
from bridge.http_api.settings import ServeSettings
from bridge.http_api.tokens import Caller, Tokens
from bridge.transports.contract import Transport

__all__ = ["CallDesk", "CallMaker", "Choice", "DeskStats", "DirectCall", "RoomAccess"]

log = logging.getLogger(__name__)

_ANSWER_TIMEOUT_S = 8.0
"""For our answer to an offer, s: mostly a look around for our own addresses."""
_BUSY_S = 5.0
_FULL_S = 20.0


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One model that a caller may choose."""

    name: str
    model: str
    title: str
    ready: bool
    """Its key is there, and nothing in its settings is wrong."""
    legs: tuple[Leg, ...] = ()
    """What a call with it costs besides its own."""
    video: bool = False
    """It is shown the caller's camera or screen, if he shares one."""


class DirectCall(Transport, Protocol):
    """A transport that answers an offer, as the desk sees it."""

    async def answer(self, offer_sdp: str) -> str:
        """Raises: ValueError for an offer that no call can be made of, OSError where no address can be listened on."""
        ...

    def hang_up(self) -> None:
        """The caller is done."""
        ...

    def ends_because(self, why: EndReason | BridgeError) -> None:
        """To be told to the caller with the goodbye."""
        ...


class RoomAccess(msgspec.Struct, frozen=True):
    """What a person needs to join the room that was made for him."""

    url: str
    token: str
    room: str
    identity: str


class CallMaker(Protocol):
    """What makes and runs the calls: the process, as the desk sees it."""

    @property
    def choices(self) -> Sequence[Choice]: ...
    @property
    def default(self) -> str: ...
    @property
    def stopping(self) -> bool: ...
    @property
    def direct(self) -> bool:
        """Direct calls can be made here."""
        ...

    @property
    def livekit(self) -> bool:
        """There is a LiveKit server whose key we have."""
        ...

    @property
    def ice_servers(self) -> Sequence[Mapping[str, Any]]:
        """For the caller's own side, as browsers take them."""
        ...

    @property
    def livekit_client(self) -> bool:
        """The page has what it needs to join rooms."""
        ...

    @property
    def video_sources(self) -> Sequence[str]:
        """What of a caller some model here may be shown; see `Choice.video`."""
        ...

    def check_offer(self, offer_sdp: str) -> None:
        """Raises: ValueError for an offer that no call can be made of. Cheap."""
        ...

    def direct_call(self, call: str, caller: Caller, provider: str) -> DirectCall: ...

    def begin(self, call: str, transport: DirectCall, provider: str, ended: Callable[[], None]) -> None:
        """Run it from here on; `ended` is told once it is over."""
        ...

    def begin_room(self, room: str, caller: Caller, provider: str, ended: Callable[[], None]) -> RoomAccess:
        """Put the model into this LiveKit room. Raises: `BridgeError`."""
        ...


class DeskStats(msgspec.Struct):
    calls: int = 0
    """Direct calls begun."""
    rooms: int = 0
    """LiveKit rooms begun."""
    bad_offers: int = 0
    tokens_given: int = 0
    failed: int = 0
    """Calls that could not be begun though they were admitted."""


class _Running(msgspec.Struct):
    transport: DirectCall
    token: bytes
    """Digest of the call token: its holder may end the call."""


class CallDesk:
    """One desk for all callers of a process. Everything that it keeps is bounded: calls by the admission, used tokens
    by `Tokens`, offers by `OfferGate`."""

    def __init__(self, maker: CallMaker, settings: ServeSettings, tokens: Tokens, admission: Admission) -> None:
        self.stats = DeskStats()
        self.tokens = tokens
        self.admission = admission
        self._maker = maker
        self._settings = settings
        self._gate = OfferGate(settings.offers_per_s, settings.offers_in_flight)
        self._running: dict[str, _Running] = {}

    def counters(self) -> dict[str, int | float]:
        """All of them, by name."""
        admission, desk = self.admission, self.stats
        return {
            "serve.calls": desk.calls,
            "serve.rooms": desk.rooms,
            "serve.calls_now": len(self._running),
            "serve.load_now": self.admission.load,
            "serve.refused_full": admission.stats.refused_full,
            "serve.refused_busy": admission.stats.refused_busy,
            "serve.bad_offers": desk.bad_offers,
            "serve.offers_refused": self._gate.refused,
            "serve.calls_not_begun": desk.failed,
            "serve.tokens_given": desk.tokens_given,
            "serve.tokens_refused": self.tokens.refused,
            "serve.tokens_replayed": self.tokens.replayed,
            "serve.tokens_full": self.tokens.refused_full,
        }

    # ------------------------------------------------------------------------------------------------ what is here

    def config(self, page_token: str) -> dict[str, Any]:
        """What the page may offer."""
        self.tokens.check_page(page_token, _now())
        maker = self._maker
        return {
            "providers": [
                {
                    "name": choice.name,
                    "model": choice.model,
                    "title": choice.title,
                    "ready": choice.ready,
                    "video": choice.video,
                }
                for choice in maker.choices
            ],
            "default": maker.default,
            "direct": maker.direct,
            "livekit": maker.livekit,
            "livekit_client": maker.livekit_client,
            "ice_servers": list(maker.ice_servers),
            "video_sources": list(maker.video_sources),
        }

    def health(self) -> dict[str, Any]:
        """For a load balancer: no token is asked for, and nothing is told of callers."""
        status = "stopping" if self._maker.stopping else "ok"
        load, budget = round(self.admission.load, 2), self.admission.budget
        return {"status": status, "load": load, "budget": budget}

    # ------------------------------------------------------------------------------------------------------ tokens

    def call_token(self, page_token: str, name: str = "") -> dict[str, Any]:
        """A token for one call of whoever holds the page's."""
        now = _now()
        self.tokens.check_page(page_token, now)
        ttl_s = self._settings.token_ttl_s
        identity = f"guest-{secrets.token_hex(4)}"
        self.stats.tokens_given += 1
        token = self.tokens.call(identity=identity, name=name or "Guest", ttl_s=ttl_s, now=now)
        return {"token": token, "expires_in_s": ttl_s}

    # ------------------------------------------------------------------------------------------------------- calls

    async def begin_call(self, offer_sdp: str, provider: str | None, call_token: str) -> tuple[str, str]:
        """Answer an offer and run the call from there. Returns its id and our answer. Raises: `Refused`."""
        caller = self.tokens.check_call(call_token, _now())
        if not self._maker.direct:
            raise Refused(404, "no_direct", "there are no direct calls here", "install the extra: roombridge[webrtc]")
        choice = self._choice(provider)
        try:
            self._maker.check_offer(offer_sdp)
        except ValueError as error:
            raise self._bad_offer(error) from None
        self._gate.enter(asyncio.get_running_loop().time())
        try:
            call = f"call-{secrets.token_urlsafe(9)}"
            self._admit(call, (Leg.DIRECT, *choice.legs))
            self.tokens.use(caller)
            return call, await self._answer(call, offer_sdp, caller, choice, call_token)
        finally:
            self._gate.leave()

    async def _answer(self, call: str, offer_sdp: str, caller: Caller, choice: Choice, token: str) -> str:
        transport: DirectCall | None = None
        try:
            transport = self._maker.direct_call(call, caller, choice.name)
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                answer = await transport.answer(offer_sdp)
            if self._maker.stopping:
                raise _stopping()
            self._maker.begin(call, transport, choice.name, lambda: self._over(call))
        except BaseException as error:
            self.admission.release(call)
            if transport is not None:
                await transport.close()
            if isinstance(error, ValueError):
                raise self._bad_offer(error) from None
            self.stats.failed += not isinstance(error, Refused)
            if isinstance(error, TimeoutError):
                raise Refused(503, "busy", "no answer in time", "try again", retry_after_s=_BUSY_S) from None
            if isinstance(error, BridgeError | OSError):  # OSError: none of webrtc.addresses is this machine's
                log.warning("call not begun call=%s: %s", call, error)
                raise Refused(502, "not_begun", "the call could not be begun", "see the log of the server") from None
            raise
        self._running[call] = _Running(transport, _digest(token))
        self.stats.calls += 1
        return answer

    def end_call(self, call: str, call_token: str) -> None:
        """The holder of the call's own token hangs up. Raises: `Refused`."""
        running = self._running.get(call)
        if running is None or not hmac.compare_digest(running.token, _digest(call_token)):
            # The same for both: who has no token of it learns nothing of a call.
            raise Refused(404, "no_such_call", "no such call of this token", "it may have ended already")
        running.transport.hang_up()

    def begin_room(self, provider: str | None, call_token: str) -> RoomAccess:
        """Make a LiveKit room with the model in it, for whoever holds the token. Raises: `Refused`."""
        caller = self.tokens.check_call(call_token, _now())
        if not self._maker.livekit:
            raise Refused(404, "no_livekit", "there is no LiveKit server here", "call directly, or configure [livekit]")
        choice = self._choice(provider)
        self._gate.enter(asyncio.get_running_loop().time())
        try:
            room = f"room-{secrets.token_urlsafe(9)}"
            self._admit(room, (Leg.LIVEKIT, *choice.legs))
            self.tokens.use(caller)
            try:
                access = self._maker.begin_room(room, caller, choice.name, lambda: self._over(room))
            except BaseException as error:
                self.admission.release(room)
                self.stats.failed += 1
                if isinstance(error, BridgeError):
                    log.warning("room not begun room=%s: %s", room, error)
                    raise Refused(502, "not_begun", "the room could not be made", "see the log of the server") from None
                raise
        finally:
            self._gate.leave()
        self.stats.rooms += 1
        return access

    # ------------------------------------------------------------------------------------------------------ inside

    def _choice(self, provider: str | None) -> Choice:
        name = provider or self._maker.default
        choice = next((choice for choice in self._maker.choices if choice.name == name), None)
        if choice is None:
            known = ", ".join(choice.name for choice in self._maker.choices)
            raise Refused(400, "unknown_provider", "no such provider here", f"choose one of: {known}")
        if not choice.ready:
            raise Refused(409, "provider_not_ready", f"{choice.name} has no key here", "choose another one")
        return choice

    def _admit(self, call: str, legs: tuple[Leg, ...]) -> None:
        if self._maker.stopping:
            raise _stopping()
        match self.admission.admit(call, legs):
            case Refusal.FULL:
                mend = "try again when a call has ended"
                raise Refused(503, "full", "there is no room for another call", mend, retry_after_s=_FULL_S)
            case Refusal.BUSY:
                raise Refused(503, "busy", "this machine is busy", "try again soon", retry_after_s=_BUSY_S)

    def _over(self, call: str) -> None:
        self.admission.release(call)
        self._running.pop(call, None)

    def _bad_offer(self, error: ValueError) -> Refused:
        self.stats.bad_offers += 1
        return Refused(400, "bad_offer", str(error)[:300], "offer audio with Opus and a data channel, as browsers do")


def _stopping() -> Refused:
    return Refused(503, "stopping", "this server is being stopped", "try again", retry_after_s=_BUSY_S)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


def _now() -> float:
    return datetime.now(UTC).timestamp()
