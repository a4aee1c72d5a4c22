"""Bytes nobody would send on purpose: no layer crashes, no driver and no connection stays behind."""

from __future__ import annotations

import asyncio
import random
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from hyperframe.frame import DataFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from tests.listeners.mitm.h2client import client_context
from tests.listeners.mitm.harness import listener, running, until

HTTP1 = (
    b"POST /v1/chat/completions?x=y HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nAuthorization: Bearer k\r\n\r\nhello"
    b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3\r\nabc\r\n0\r\n"
    b"T: x\r\n\r\n"
    b"GET http://h/ HTTP/1.0\r\n\r\n"
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ROUNDS = 25


def mutated(data: bytes, dice: random.Random) -> bytes:
    """A few bytes changed, removed, doubled or moved."""
    result = bytearray(data)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(result))
        match dice.randrange(5):
            case 0:
                result[at] = dice.randrange(256)
            case 1:
                del result[at : at + dice.randint(1, 8)]
            case 2:
                result[at:at] = result[at : at + dice.randint(1, 40)]
            case 3:
                result[at:at] = dice.choice([b"\r\n", b"\r", b"\n", b"\0", b" ", b":", b"\r\n\r\n", b"0\r\n\r\n"])
            case 4:
                del result[dice.randrange(len(result)) :]
        if not result:
            return b"x"
    return bytes(result)


def frames(dice: random.Random) -> bytes:
    """Frames that are well formed one by one, and nonsense together."""
    made = []
    for _ in range(dice.randint(1, 12)):
        stream = dice.choice([0, 1, 1, 3, 3, 5, 2, 2**31 - 1])
        kind = dice.randrange(6)
        block = b"\x82\x86\x84\x41\x01h" if dice.random() < 0.8 else dice.randbytes(12)
        flags = [flag for flag in ("END_STREAM", "END_HEADERS") if dice.random() < 0.7]
        if kind == 0:
            made.append(HeadersFrame(stream or 1, block, flags=flags).serialize())
        elif kind == 1:
            made.append(DataFrame(stream or 1, dice.randbytes(dice.randrange(50)), flags=flags[:0]).serialize())
        elif kind == 2:
            made.append(RstStreamFrame(stream or 1, dice.randrange(20)).serialize())
        elif kind == 3:
            made.append(WindowUpdateFrame(stream, dice.randint(1, 2**31 - 1)).serialize())
        elif kind == 4:
            made.append(PingFrame(0, dice.randbytes(8)).serialize())
        else:
            made.append(SettingsFrame(0, {dice.randint(1, 6): dice.randrange(2**16)}).serialize())
    data = b"".join(made)
    return mutated(data, dice) if dice.random() < 0.4 else data


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
async def test_nonsense_leaves_nothing_behind(
    confdir: Path, authority: trustme.CA, certificate: tuple[Path, Path], protocol: str, seed: int
) -> None:
    """Whatever arrives is answered or cut; the next client is served."""
    dice = random.Random(f"{protocol} {seed}")
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    secure = listener("secure", cert_file=certificate[0], key_file=certificate[1])
    limits = {"head_seconds": 1.0, "body_idle_seconds": 1.0, "keepalive_seconds": 1.0}
    async with running(confdir, listeners=(listener(), secure), **limits) as engine:
        context: ssl.SSLContext | None = None
        if protocol == "h2":
            context = client_context(authority, "h2")
        for _ in range(ROUNDS):
            if context is None:
                client = await engine.connect()
                client.send(mutated(HTTP1, dice))
            else:
                client = await engine.connect("secure", context, server_hostname="localhost")
                client.send(PREFACE + SettingsFrame(0).serialize() + frames(dice))
            await asyncio.sleep(0.002)
            if dice.random() < 0.5:
                client.close()
        for client in engine.clients:
            client.close()
        await until(lambda: engine.engine.active == 0)
        await until(lambda: engine.open_connections == 0)
        assert [context for context in errors if "exception" in context] == []
        assert [event for event, _ in engine.log.lines if event == "driver_failed"] == []
        good = await engine.connect()
        assert (await good.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")).status == 200
