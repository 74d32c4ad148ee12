"""Our hold on aioice: another version is refused with a sentence, strangers change nothing, nothing stays behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import aioice
import aioice.ice
import aioice.stun
import msgspec
import pytest
from aiortc import RTCDtlsTransport

from providers.webrtc import sdp, seam_ice
from providers.webrtc.seam_ice import Ice, check_shape
from providers.webrtc.settings import ResolvedIceServer
from tests.fakes.leftovers import nothing_left
from tests.fakes.webrtc import until

MEND = r"install aiortc>=1\.16,<1\.17"


class User:
    """Keeps the datagrams that it is given."""

    def __init__(self) -> None:
        self.heard = 0
        self.dropped_datagrams = 0
        self.came: list[bytes] = []

    def datagram(self, data: bytes) -> None:
        self.came.append(data)


class End:
    """One side of a connection on loopback."""

    def __init__(self, *servers: ResolvedIceServer, address: str = "127.0.0.1") -> None:
        self.user = User()
        self.ice = Ice(self.user, (address,), servers)

    @property
    def port(self) -> int:
        return self.ice.local_candidates[0].port

    def described(self) -> sdp.Remote:
        """As the other side reads it."""
        local = sdp.Local(
            ufrag=self.ice.local_username,
            password=self.ice.local_password,
            fingerprint="sha-256 " + ":".join(["AB"] * 32),
            candidates=tuple(candidate.to_sdp() for candidate in self.ice.local_candidates),
            ssrc=1,
            cname="end",
            max_message_bytes=1_000,
        )
        return sdp.parse(sdp.offer(local), is_answer=False)

    def send(self, data: bytes) -> None:
        path = self.ice.path()
        assert path is not None, "connect first"
        path[0].transport.sendto(data, path[1])


@asynccontextmanager
async def listening(*servers: ResolvedIceServer) -> AsyncIterator[End]:
    """One that has its addresses. Nothing of it may be left afterwards."""
    async with nothing_left():
        end = End(*servers)
        await end.ice.gather_candidates()
        yield end
        await end.ice.close()


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[End, End]]:
    """Two that have found a path. Nothing of them may be left afterwards."""
    async with nothing_left():
        a, b = End(), End()
        await asyncio.gather(a.ice.gather_candidates(), b.ice.gather_candidates())
        assert a.ice.path() is None
        async with asyncio.timeout(5):
            await asyncio.gather(
                a.ice.find_path(b.described(), controlling=True), b.ice.find_path(a.described(), controlling=False)
            )
        yield a, b
        await a.ice.close()
        await b.ice.close()


def load_again() -> None:
    """As when it is used for the first time."""
    spec = spec_from_file_location("seam_ice_again", seam_ice.__file__)
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(module_from_spec(spec))


# --------------------------------------------------------------------------------------------------------------- shape


def test_what_has_another_shape_is_refused_by_its_version_with_all_that_is_missing_and_the_mend() -> None:
    check_shape({RTCDtlsTransport: ("_set_role",), aioice.ice: ("get_host_addresses",)})
    said = rf"^aiortc [\d.]+, aioice [\d.]+: RTCDtlsTransport\._gone, aioice\.ice\.lost is gone; {MEND}$"
    with pytest.raises(RuntimeError, match=said):
        check_shape({RTCDtlsTransport: ("_set_role", "_gone"), aioice.ice: ("lost",)})


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (aioice.Connection, "check_incoming"),
        (aioice.ice.StunProtocol, "send_stun"),
        (aioice.ice, "relayed_candidate"),
    ],
)
def test_another_aioice_is_refused_when_the_module_is_loaded_and_not_in_a_call(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_again()
    monkeypatch.delattr(owner, name)
    with pytest.raises(RuntimeError, match=rf"aioice [\d.]+: \S+\.{name} is gone; {MEND}"):
        load_again()


@pytest.mark.parametrize("made", [{}, {"_nominated": {}}, {"_nominated": {}, "_queue": []}], ids=str)
async def test_a_connection_of_another_shape_is_refused_before_it_is_used(
    made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aioice.Connection, "__init__", lambda self, ice_controlling: self.__dict__.update(made))
    with pytest.raises(RuntimeError, match=rf"aioice [\d.]+: not of the known shape; {MEND}"):
        Ice(User(), (), ())


# ----------------------------------------------------------------------------------------------------------- addresses


async def test_an_address_that_cannot_be_listened_on_is_named() -> None:
    async with nothing_left():
        end = End(address="192.0.2.1")
        with pytest.raises(OSError, match=r"no address to listen on: tried 192\.0\.2\.1"):
            await end.ice.gather_candidates()
        await end.ice.close()


class StunServer(asyncio.DatagramProtocol):
    """Says that everybody is at 203.0.113.7, or that something is wrong."""

    def __init__(self, *, sound: bool) -> None:
        self._sound = sound

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        asked = aioice.stun.parse_message(data)
        kind = aioice.stun.Class.RESPONSE if self._sound else aioice.stun.Class.ERROR
        answer = aioice.stun.Message(asked.message_method, kind, transaction_id=asked.transaction_id)
        if self._sound:
            answer.attributes["XOR-MAPPED-ADDRESS"] = ("203.0.113.7", address[1])
        else:
            answer.attributes["ERROR-CODE"] = (400, "Bad Request")
        self._transport.sendto(bytes(answer), address)


@asynccontextmanager
async def stun_server(*, sound: bool) -> AsyncIterator[ResolvedIceServer]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: StunServer(sound=sound), ("127.0.0.1", 0))
    yield ResolvedIceServer(urls=(f"stun:127.0.0.1:{transport.get_extra_info('sockname')[1]}",))
    transport.close()


async def test_an_address_that_two_servers_tell_is_offered_once_beside_our_own() -> None:
    async with stun_server(sound=True) as one, stun_server(sound=True) as other, listening(one, other) as end:
        found = [(candidate.type, candidate.host) for candidate in end.ice.local_candidates]
        assert found == [("host", "127.0.0.1"), ("srflx", "203.0.113.7")]


async def test_a_server_that_refuses_costs_nothing_and_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="providers.webrtc.seam_ice")
    async with stun_server(sound=False) as server, listening(server) as end:
        assert [candidate.type for candidate in end.ice.local_candidates] == ["host"]
    assert [record.getMessage() for record in caplog.records] == ["an ICE server gave no address: TransactionFailed"]


async def test_only_addresses_that_may_carry_audio_are_tried_and_no_name_is_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fails() -> None:
        raise ConnectionError("ICE negotiation failed")

    lines = (
        "1 1 udp 2130706431 127.0.0.1 2001 typ host",
        "2 1 UDP 2130706431 127.0.0.1 2002 typ host",
        "3 1 tcp 2130706431 127.0.0.1 2003 typ host tcptype active",
        "4 2 udp 2130706431 127.0.0.1 2004 typ host",
        "5 1 udp 2130706431 0a1b2c3d.local 2005 typ host",
        "6 1 udp many 127.0.0.1 2006 typ host",
        "no candidate",
    )
    async with listening() as end, listening() as other:
        monkeypatch.setattr(end.ice, "connect", fails)
        remote = msgspec.structs.replace(other.described(), candidates=lines)
        with pytest.raises(ConnectionError, match=r"^ice: ICE negotiation failed$"):
            await end.ice.find_path(remote, controlling=False)
        assert [candidate.port for candidate in end.ice.remote_candidates] == [2001, 2002]
        assert end.ice.role == "controlled"


async def test_whoever_talks_to_a_lite_side_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connects() -> None: ...

    async with listening() as end, listening() as other:
        monkeypatch.setattr(end.ice, "connect", connects)
        await end.ice.find_path(msgspec.structs.replace(other.described(), lite=True), controlling=False)
        assert end.ice.role == "controlling" and end.ice.remote_is_lite


async def test_checks_from_ever_new_addresses_are_not_remembered_without_end() -> None:
    async with listening() as end:
        for number in range(64):
            await end.ice.add_remote_candidate(
                aioice.Candidate.from_sdp(f"{number} 1 udp 2130706431 127.0.0.1 {2000 + number} typ host")
            )
        message: Any = None  # nobody looks into it
        end.ice.check_incoming(message, ("127.0.0.1", 9), end.ice._protocols[0])
        assert len(end.ice.remote_candidates) == 64 and end.user.heard == 0


# ----------------------------------------------------------------------------------------------------------- datagrams


async def test_two_sides_find_a_path_and_their_datagrams_take_the_short_way() -> None:
    async with connected() as (a, b):
        assert a.ice.role == "controlling" and b.ice.role == "controlled"
        assert a.user.heard and b.user.heard, "the checks are signs of life"
        a.send(b"\x80to b")
        b.send(b"\x16to a")
        await until(lambda: a.user.came and b.user.came)
        assert (a.user.came, b.user.came) == ([b"\x16to a"], [b"\x80to b"])
        assert a.user.dropped_datagrams == b.user.dropped_datagrams == 0


async def test_what_strangers_send_is_counted_and_goes_nowhere() -> None:
    async with connected() as (a, b), nothing_left():
        heard = b.user.heard
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for datagram in (b"", b"\x16", b"\x80audio", b"\x16\xfe\xfdhello", bytes(20)):
                stranger.sendto(datagram, ("127.0.0.1", b.port))
            await until(lambda: b.user.dropped_datagrams == 3)
        a.send(b"\x80audio of a")
        await until(lambda: b.user.came)
        assert b.user.came == [b"\x80audio of a"] and b.user.heard == heard
        assert b.user.dropped_datagrams == 3, "the empty one and the single byte are nothing at all"


async def test_the_slow_way_keeps_its_order_and_drops_what_nobody_reads() -> None:
    async with connected() as (a, _):
        for number in range(600):
            a.ice.put(b"%d" % number)
        assert a.user.dropped_datagrams == 600 - 512
        assert [await a.ice._recv() for _ in range(3)] == [b"0", b"1", b"2"]


async def test_a_question_is_answered_and_the_answer_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (a, b):
        monkeypatch.setattr(a.ice, "check_incoming", lambda *_: None)  # a late one would be such a sign, too
        heard = a.user.heard
        a.ice.probe()
        await until(lambda: a.user.heard == heard + 1)
        assert not a.user.came and not b.user.came


async def test_questions_that_nobody_answers_do_not_pile_up() -> None:
    async with connected() as (a, b):
        b.ice.mute(True)
        for _ in range(5):
            a.ice.probe()
        path = a.ice.path()
        assert path is not None and len(path[0].transactions) == 1
        b.ice.mute(False)


async def test_before_there_is_a_path_nobody_is_asked() -> None:
    async with listening() as end:
        end.ice.probe()
        assert end.ice.path() is None and not end.ice._protocols[0].transactions


async def test_a_muted_side_sends_nothing_until_it_is_heard_again() -> None:
    async with connected() as (a, b):
        for _ in range(2):
            a.ice.mute(True)
        a.send(b"\x80lost")
        a.ice.mute(False)
        a.send(b"\x80heard")
        await until(lambda: b.user.came)
        assert b.user.came == [b"\x80heard"]


# ------------------------------------------------------------------------------------------------------------- the end


async def test_a_check_that_begins_while_it_is_closed_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = aioice.Connection.close

    async def connects_after_all(self: Any) -> None:
        await plain(self)
        self._query_consent_task = asyncio.get_running_loop().create_task(asyncio.sleep(60), name="consent")

    monkeypatch.setattr(aioice.Connection, "close", connects_after_all)
    async with listening() as end:
        pass
    assert end.ice._query_consent_task is not None and end.ice._query_consent_task.cancelled()


async def test_sockets_that_are_cut_are_gone_at_once() -> None:
    async with nothing_left():
        end = End()
        await end.ice.gather_candidates()
        end.ice.cut()
