"""OpenAI Realtime as a `SpeechModel`: settings in, sessions out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit

from providers.contract import Capabilities, ModelSession, SessionStart, Standby
from providers.driver import open_session
from providers.errors import ProviderRejected, ResumeRefused
from providers.handshake import retry_after_s
from providers.http_post import check_proxy, post
from providers.link import Link, WebSocketLink, check_connection
from providers.openai.auth import Credential, find_credential, read_client_secret, secret_request
from providers.openai.call_protocol import OpenAICallProtocol
from providers.openai.endpoint import find_base_url, headers, is_official, secret_url, websocket_url
from providers.openai.input import UserInput
from providers.openai.protocol import OpenAIProtocol
from providers.openai.settings import OpenAISettings
from providers.openai.setup import MAX_CALL_MESSAGE_BYTES, capabilities_of, problems, settings_for
from providers.settings import ConnectionSettings, SpeechSettings
from providers.standby import stand_by
from providers.webrtc.ice import resolve

__all__ = ["OpenAIModel"]


class OpenAIModel:
    """Opens sessions with one model at OpenAI or a compatible server. Made by `from_config`."""

    name = "openai"

    def __init__(
        self,
        speech: SpeechSettings,
        own: OpenAISettings,
        connection: ConnectionSettings,
        environ: Mapping[str, str],
    ) -> None:
        """Raises: SettingRefused, the first of what `setup.problems` finds. `environ` is read here and not kept."""
        for problem in problems(speech, own, environ):
            raise problem
        check_connection(connection)
        if own.auth == "client_secret" or own.transport == "webrtc":
            check_proxy(connection)
        base_url = find_base_url(own.base_url, environ)
        self._speech = speech
        self._own = own
        self._connection = connection
        self._environ_base = {"OPENAI_BASE_URL": base_url}
        self._base_url = base_url
        self._credential = find_credential(environ)
        self._ice_servers = resolve(own.ice_servers, environ)
        self._dialled = 0
        self._url = websocket_url(base_url, own.model)
        self._secret_url = secret_url(base_url)
        self._official = is_official(base_url)
        self._organization = own.organization or environ.get("OPENAI_ORG_ID")
        self._project = own.project or environ.get("OPENAI_PROJECT_ID")
        self.capabilities: Capabilities = capabilities_of(speech, own, environ)
        account = self._project or self._organization
        self.endpoint = f"{urlsplit(self._url).netloc} {own.model}" + (f" of {account}" if account else "")

    @classmethod
    def from_config(
        cls,
        speech: SpeechSettings,
        own: OpenAISettings,
        connection: ConnectionSettings,
        environ: Mapping[str, str],
    ) -> Self:
        """A model from its sections of the configuration. Raises: SettingRefused."""
        return cls(speech, own, connection, environ)

    def __repr__(self) -> str:
        return f"OpenAIModel({self._own.model!r})"

    async def connect(self, start: SessionStart | None = None) -> ModelSession:
        """See `SpeechModel.connect`. There is no resumption: a handle is refused, history seeds a fresh session."""
        start = start or SessionStart()
        return await open_session(await self._protocol(start), self._dial, start, self._connection)

    async def stand_by(self) -> Standby:
        """See `SpeechModel.stand_by`. Also worth it where sessions overlap: most of the time goes into the dialling."""
        return await stand_by(self._dial, self._protocol, self._connection)

    async def _protocol(self, start: SessionStart) -> OpenAIProtocol:
        if start.resume:
            raise ResumeRefused("OpenAI Realtime cannot resume: open a fresh session with the history")
        speech = settings_for(self._speech, start)
        if speech is not self._speech:
            for problem in problems(speech, self._own, self._session_environ()):
                raise problem
        own, acknowledged = self._own, self._own.acknowledges_update
        if acknowledged is None:
            acknowledged = self._official
        if own.transport == "websocket":
            return OpenAIProtocol(
                start.number, speech, own, self.capabilities, history=start.history, acknowledged=acknowledged
            )
        return OpenAICallProtocol(
            start.number,
            speech,
            own,
            self.capabilities,
            history=start.history,
            acknowledged=acknowledged,
            max_message_bytes=None if own.sideband else MAX_CALL_MESSAGE_BYTES,
        )

    async def _dial(self) -> Link:
        credential = self._credential
        if self._own.auth == "client_secret" and credential is not None:
            credential = await self._mint(credential)
        try:
            if self._own.transport == "webrtc":
                return await self._call(credential)
            return await WebSocketLink.connect(self._url, self._headers(credential), self._connection)
        except ProviderRejected as refused:
            raise self._named(refused) from refused

    async def _call(self, credential: Credential | None) -> Link:
        from providers.openai.call_link import CallPlan, open_call  # the way of few: on first use

        own, turns = self._own, self._speech.turn_detection
        ephemeral = credential is not None and credential.ephemeral
        # A secret may ask for a call, but neither join nor end it. A server that wants no key wants none there either.
        is_secret = self._credential is not None and self._credential.ephemeral
        lasting = None if is_secret else self._headers(self._credential)
        plan = CallPlan(
            base_url=self._base_url,
            model=own.model,
            headers=self._headers(credential),
            unified=not ephemeral if own.webrtc_request == "auto" else own.webrtc_request == "unified",
            hang_up=lasting,
            sideband=lasting if own.sideband else None,
            bitrate_bps=own.opus_bitrate_bps,
            ice_servers=self._ice_servers,
            kept_silence_ms=UserInput.silence_that_ends_a_turn_ms(turns),
        )
        self._dialled += 1
        return await open_call(plan, self._connection, name=f"openai-call-{self._dialled}")

    def _named(self, refused: ProviderRejected) -> ProviderRejected:
        """The refusal with the setting that is to be mended."""
        mend = {
            401: "set OPENAI_API_KEY to a valid key",
            403: "the key may not use this model or project: see providers.openai.project",
            404: f"check providers.openai.model = {self._own.model!r} and the base URL",
        }.get(refused.code or 0, refused.mend)
        said = str(refused).removesuffix(f" ({refused.mend})")
        return ProviderRejected(said, code=refused.code, mend=mend, endpoint_wide=refused.endpoint_wide)

    def _headers(self, credential: Credential | None) -> dict[str, str]:
        return headers(
            credential,
            organization=self._organization,
            project=self._project,
            safety_identifier=self._own.safety_identifier,
        )

    def _session_environ(self) -> dict[str, str]:
        # The secrets were checked when the model was made; only what kind they are matters to the second check.
        key = "" if self._credential is None else "ek_checked" if self._credential.ephemeral else "checked"
        relays = {server.credential_env: "checked" for server in self._own.ice_servers if server.credential_env}
        return {**self._environ_base, **relays, "OPENAI_API_KEY": key}

    async def _mint(self, credential: Credential) -> Credential:
        """A client secret for one session. The blocking request runs off the loop, bounded by the connect timeout."""
        answer = await asyncio.to_thread(
            post,
            self._secret_url,
            {**self._headers(credential), "Content-Type": "application/json"},
            secret_request(self._own.model, self._own.client_secret_ttl_s),
            self._connection,
        )
        return read_client_secret(answer.status, answer.body, retry_after_s(answer.headers.get("retry-after")))
