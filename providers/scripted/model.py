"""The offline model behind the contract: a mind in the process, without a key, a network or a task.

Its sessions are driven by the loop's timers and by what they are sent. Events reach listeners in a turn of the loop of
their own, never inside a command, as with a model behind a socket.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Self
from weakref import ReferenceType, WeakSet, ref

from providers.contract import Capabilities, SessionReady, SessionStart, Truncation, TurnDetector
from providers.errors import ProviderUnavailable, ResumeRefused, ResumeTooSoon, SessionEnded, SetupTimeout
from providers.scripted.faults import Drop, NoSetup, Refuse
from providers.scripted.memory import Line, Memory
from providers.scripted.scenario import Scenario
from providers.scripted.session import ScriptedSession
from providers.scripted.settings import ScriptedSettings, plan
from providers.seeding import seed
from providers.settings import ConnectionSettings, SpeechSettings
from providers.signal.formats import PCM16_24K, AudioFormat, Encoding

__all__ = ["ScriptedModel", "ScriptedStandby"]

_HANDLES = 64
"""Resumption handles that one model keeps. Full: the oldest is forgotten, and refused from then on."""


class ScriptedModel:
    """A `SpeechModel` that follows a scenario."""

    name = "scripted"

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        speech: SpeechSettings | None = None,
        input_rate_hz: int = 24_000,
        connection: ConnectionSettings | None = None,
    ) -> None:
        """Args: scenario as it is (`from_config` applies the settings of `speech` to it first)."""
        self.scenario = scenario or Scenario()
        self._connection = connection or ConnectionSettings()
        self._speech = speech or SpeechSettings()
        self._input = AudioFormat(Encoding.PCM16, input_rate_hz)
        self._opened = 0
        self._handles: OrderedDict[str, tuple[Memory, ReferenceType[ScriptedSession]]] = OrderedDict()
        self._sessions: WeakSet[ScriptedSession] = WeakSet()

    @classmethod
    def from_config(
        cls, speech: SpeechSettings, own: ScriptedSettings, connection: ConnectionSettings, environ: Mapping[str, str]
    ) -> Self:
        """The configured model. There is no network and no key: of `connection` it keeps to the times, and `environ` is
        that of every provider, unused. Raises SettingRefused.
        """
        del environ
        return cls(plan(own, speech), speech=speech, input_rate_hz=own.input_rate_hz, connection=connection)

    @property
    def endpoint(self) -> str:
        """See `SpeechModel.endpoint`."""
        return f"{self.name} {self.scenario.name}"

    @property
    def sessions(self) -> list[ScriptedSession]:
        """Those that somebody still holds, in the order in which they were opened: for tests."""
        return sorted(self._sessions, key=lambda session: session.connection)

    @property
    def dialled(self) -> int:
        """Connections so far, refused ones too: for tests."""
        return self._opened

    @property
    def capabilities(self) -> Capabilities:
        scenario = self.scenario
        duplex = scenario.mode == "duplex"
        detector = TurnDetector.PROVIDER if scenario.vad.enabled else TurnDetector.CLIENT
        return Capabilities(
            provider=self.name,
            model=scenario.name,
            input_formats=(self._input,),
            output_format=PCM16_24K,
            speech=self._speech.modality == "audio",
            async_tools=True,
            truncation=Truncation.CLIENT,
            resumption=scenario.session.resumption,
            overlapping_resume=scenario.session.overlap,
            repairable_memory=True,
            in_place_update=frozenset({"instructions", "tools", "voice"}),
            turn_detector=TurnDetector.NOBODY if duplex else detector,
            interrupts_on_speech=scenario.barge_in and not duplex,
            answers_turns=self._speech.turn_detection.create_response,
            needs_continuous_input=True,
            duplex=duplex,
            max_session_s=scenario.session.limit_s,
        )

    async def connect(self, start: SessionStart | None = None) -> ScriptedSession:
        """See `SpeechModel.connect`. Takes as long as the scenario says."""
        return await self.set_up(await self.dial(), start or SessionStart())

    async def stand_by(self) -> ScriptedStandby:
        """See `SpeechModel.stand_by`. Takes as long as a connection does by the scenario."""
        return ScriptedStandby(self, await self.dial(), self._connection.standby_s)

    async def dial(self) -> int:
        """The first half of a connect: returns the number of the connection. For `ScriptedStandby`."""
        self._opened += 1
        number = self._opened
        await _within(
            self._connection.connect_timeout_s, self.scenario.session.connect_delay_ms, ProviderUnavailable, "connected"
        )
        for fault in self.scenario.faults:
            if isinstance(fault, Refuse | Drop) and fault.connection in (None, number):
                raise _refusal(fault, number)
        return number

    async def set_up(self, number: int, start: SessionStart) -> ScriptedSession:
        """The second half, on connection `number`. For `ScriptedStandby`."""
        deaf = any(isinstance(fault, NoSetup) and fault.connection in (None, number) for fault in self.scenario.faults)
        delay_ms = math.inf if deaf else self.scenario.session.setup_delay_ms
        await _within(self._connection.setup_timeout_s, delay_ms, SetupTimeout, "ready")
        memory, notice = self._remembered(start)
        opened = ScriptedSession(
            self.scenario,
            start,
            speech=self._speech,
            capabilities=self.capabilities,
            connection=number,
            memory=memory,
            issue_handle=self._issue,
            expire_handles=self._expire,
            connection_settings=self._connection,
        )
        self._sessions.add(opened)
        opened.begin(SessionReady(start.number, opened.id, resumed=bool(start.resume)), notice)
        return opened

    def _remembered(self, start: SessionStart) -> tuple[Memory, str]:
        """What the new session knows, and what of it was too much."""
        if not start.resume:
            seeded = seed(start.history, self.capabilities)
            lines = [Line(role=item.role, number=0, text=item.text) for item in seeded.items]
            return Memory(lines=lines), seeded.cut
        if start.resume not in self._handles:
            raise ResumeRefused("the scripted model does not know this handle: open a fresh session")
        memory, reference = self._handles[start.resume]
        earlier = reference()
        if earlier is not None and not earlier.ended and not self.scenario.session.overlap:
            raise ResumeTooSoon("the session's earlier connection is still open: close it first", code=1011)
        return memory.snapshot(), ""

    def _issue(self, session: ScriptedSession, memory: Memory) -> str:
        handle = secrets.token_urlsafe(12)
        self._handles[handle] = (memory.snapshot(), ref(session))
        if len(self._handles) > _HANDLES:
            self._handles.popitem(last=False)
        return handle

    def _expire(self, session: ScriptedSession) -> None:
        for handle in [handle for handle, (_, issuer) in self._handles.items() if issuer() is session]:
            del self._handles[handle]


class ScriptedStandby:
    """A `Standby` in the process. There is no connection that could die: `lose` stands for it in tests."""

    def __init__(self, model: ScriptedModel, number: int, standby_s: float) -> None:
        self._model = model
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._best_before = self._loop.time() + standby_s
        self._spent = self._lost = False

    @property
    def alive(self) -> bool:
        return not self._spent and not self._lost and self._loop.time() < self._best_before

    def lose(self) -> None:
        """The connection is gone, as if the other side had ended it."""
        self._lost = True

    async def connect(self, start: SessionStart | None = None) -> ScriptedSession:
        """See `Standby.connect`."""
        if self._spent:
            raise SessionEnded("this standby was used or closed: ask for another one")
        waiting = self.alive
        self._spent = True
        number = self._number if waiting else await self._model.dial()
        return await self._model.set_up(number, start or SessionStart())

    async def close(self) -> None:
        """See `Standby.close`."""
        self._spent = True


async def _within(timeout_s: float, delay_ms: float, error: type[ProviderUnavailable], what: str) -> None:
    """The scenario's delay, as long as a connection waits for it."""
    await asyncio.sleep(min(delay_ms / 1000, timeout_s))
    if delay_ms / 1000 > timeout_s:
        raise error(f"not {what} within {timeout_s:g} s")


def _refusal(fault: Refuse | Drop, number: int) -> ProviderUnavailable:
    if isinstance(fault, Drop):
        return ProviderUnavailable(f"the scenario drops connection {number}")
    why = fault.body or f"the scenario refuses connection {number} with {fault.status}"
    return ProviderUnavailable(why, code=fault.status, retry_after_s=fault.retry_after_s)
