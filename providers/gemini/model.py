"""Gemini Live as a `SpeechModel`: settings in, sessions out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from providers.contract import Capabilities, ModelSession, SessionStart, Standby
from providers.driver import open_session
from providers.errors import ProviderUnavailable
from providers.gemini.auth import ApiKey, Credential, EphemeralToken, credential
from providers.gemini.checks import problems
from providers.gemini.endpoint import Endpoint, endpoint
from providers.gemini.protocol import GeminiProtocol
from providers.gemini.settings import GeminiSettings
from providers.gemini.setup import capabilities, plan_session
from providers.link import Link, WebSocketLink, check_connection
from providers.settings import ConnectionSettings, SpeechSettings
from providers.standby import stand_by

__all__ = ["GeminiModel"]


class GeminiModel:
    """A configured Gemini Live model; `connect` opens any number of sessions side by side."""

    def __init__(
        self,
        speech: SpeechSettings,
        own: GeminiSettings,
        connection: ConnectionSettings,
        place: Endpoint,
        credential: Credential,
    ) -> None:
        """For settings that are known to be sound; `from_config` checks them."""
        self._speech = speech
        self._own = own
        self._connection = connection
        self._place = place
        self._credential = credential
        self._capabilities = capabilities(speech, own, place.backend)

    def __repr__(self) -> str:
        return f"GeminiModel({self._own.model!r}, {self._place.backend})"

    @classmethod
    def from_config(
        cls, speech: SpeechSettings, own: GeminiSettings, connection: ConnectionSettings, environ: Mapping[str, str]
    ) -> GeminiModel:
        """A model from checked settings; opens nothing. `environ` holds keys and Google's own variables.

        Raises: SettingRefused for the first thing that Gemini would refuse, the others as notes.
        """
        refused = problems(speech, own, environ)
        if refused:
            for further in refused[1:]:
                refused[0].add_note(str(further))
            raise refused[0]
        check_connection(connection)
        signed = credential(own, environ)
        place = endpoint(own, environ, ephemeral=isinstance(signed, EphemeralToken), express=isinstance(signed, ApiKey))
        return cls(speech, own, connection, place, signed)

    @property
    def name(self) -> str:
        return "gemini"

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def endpoint(self) -> str:
        """See `SpeechModel.endpoint`. On Vertex the project is part of the model's path."""
        key = f" by {self._own.api_key_env}" if self._own.api_key_env else ""
        return f"{urlsplit(self._place.url).netloc} {self._place.model_path}{key}"

    async def connect(self, start: SessionStart | None = None) -> ModelSession:
        """See `SpeechModel.connect`. Raises SettingRefused too, for an override that the model cannot serve."""
        start = start or SessionStart()
        return await open_session(await self._protocol(start), self._dial, start, self._connection)

    async def stand_by(self) -> Standby:
        """See `SpeechModel.stand_by`."""
        return await stand_by(self._dial, self._protocol, self._connection)

    async def _protocol(self, start: SessionStart) -> GeminiProtocol:
        planned = (self._speech, self._own, self._place, start)
        if self._own.cloned_voice is None and self._own.avatar is None:
            return GeminiProtocol(plan_session(*planned))
        # Voice samples and pictures are files: read off the loop, afresh for each session; a network drive may hang.
        try:
            async with asyncio.timeout(self._connection.connect_timeout_s):
                return GeminiProtocol(await asyncio.to_thread(plan_session, *planned))
        except TimeoutError as error:
            said = f"the files of the voice or avatar were not read within {self._connection.connect_timeout_s:g} s"
            raise ProviderUnavailable(said) from error

    async def _dial(self) -> Link:
        # Asked for again at each connect: tokens of Vertex live an hour, calls may live longer.
        headers = await self._credential.headers()
        return await WebSocketLink.connect(self._place.url, headers, self._connection)
