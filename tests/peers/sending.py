"""Puts an answer on the wire, with the fault that a behaviour asks for."""

from __future__ import annotations

import gzip
import http
from typing import TYPE_CHECKING

from tests.peers.answers import Answer
from tests.peers.behaviour import Behaviour, Fault
from tests.peers.wire import ServerWire

if TYPE_CHECKING:
    from tests.peers.provider import SeenRequest

HUGE_BYTES = 10 << 20
_SLOW_PIECES = 8


async def send_answer(wire: ServerWire, seen: SeenRequest, behaviour: Behaviour, answer: Answer) -> bool:
    """Send it. Returns whether the connection may carry another request; raises ClientGone when the client went."""
    fault = behaviour.fault
    if fault is Fault.HANG_BEFORE_HEAD:
        await wire.hang()
    if fault is Fault.RESET_BEFORE_HEAD:
        wire.reset()
        return False
    if fault is Fault.CLOSE_BEFORE_HEAD:
        return False
    if fault is Fault.GARBAGE:
        await wire.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n\x00\xff")
        return False
    if fault is Fault.INFORMATIONAL:
        await wire.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await wire.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n")
    _shape(answer, behaviour)
    await wire.write(_head(answer, fault))
    if fault is Fault.HANG_AFTER_HEAD:
        await wire.hang()
    if seen.method == "HEAD":
        return True
    if not await _send_body(wire, seen, behaviour, answer):
        return False
    if fault is Fault.TRAILING_DATA:
        await wire.pause(0.02)
        await wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\npoison!")
        return False
    return fault not in (Fault.CLOSE_AFTER, Fault.NO_FRAMING)


def _shape(answer: Answer, behaviour: Behaviour) -> None:
    """Change the answer itself where the fault is in its content."""
    fault = behaviour.fault
    if fault is Fault.WRONG_TYPE:
        answer.content_type = "text/html; charset=utf-8"
    elif fault is Fault.GZIP:
        answer.pieces = [gzip.compress(b"".join(answer.pieces))]
        answer.headers.append(("content-encoding", "gzip"))
        answer.length = True
    elif fault is Fault.ERROR_EVENT_FIRST:
        answer.pieces = [answer.error_event]
    elif fault is Fault.ERROR_EVENT_MID:
        answer.pieces = [*answer.pieces[: behaviour.after_chunks], answer.error_event]
    elif fault is Fault.HUGE_LINE:
        answer.pieces.insert(1, b'data: {"choices":[],"padding":"' + b"x" * HUGE_BYTES + b'"}\n\n')
    elif fault is Fault.REDIRECT:
        answer.status = 307
        answer.pieces = []
        answer.length = True
        answer.headers.append(("location", "https://elsewhere.invalid/v1/chat/completions"))
    if answer.length and behaviour.delay_seconds and answer.pieces:
        body = b"".join(answer.pieces)
        step = max(1, -(-len(body) // _SLOW_PIECES))
        answer.pieces = [body[start : start + step] for start in range(0, len(body), step)]


def _head(answer: Answer, fault: Fault | None) -> bytes:
    phrase = http.HTTPStatus(answer.status).phrase if answer.status in set(http.HTTPStatus) else "Overloaded"
    phrase = phrase if answer.reason is None else answer.reason
    lines = [f"HTTP/1.1 {answer.status} {phrase}", f"content-type: {answer.content_type}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    if fault is Fault.HUGE_HEAD:
        lines.append("x-huge: " + "x" * (1 << 20))
    elif fault is Fault.MANY_HEADERS:
        lines += [f"x-many-{number}: {number}" for number in range(1000)]
    if fault is Fault.NO_FRAMING:
        lines.append("connection: close")
    elif answer.length:
        lines.append(f"content-length: {sum(map(len, answer.pieces))}")
    else:
        lines.append("transfer-encoding: chunked")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _send_body(wire: ServerWire, seen: SeenRequest, behaviour: Behaviour, answer: Answer) -> bool:
    """The pieces in their framing, up to a fault in their midst. Whether the body came to its regular end."""
    fault = behaviour.fault
    chunked = not answer.length and fault is not Fault.NO_FRAMING
    pieces = answer.pieces
    if answer.length and fault in (Fault.HALF_CLOSE_MID, Fault.RESET_MID, Fault.HANG_MID):
        body = b"".join(pieces)
        pieces = [body[: len(body) // 2], body[len(body) // 2 :]]
    strikes_at = min(behaviour.after_chunks, len(pieces) - 1)
    if fault is Fault.HANG_BEFORE_END:
        strikes_at = len(pieces) - 1
    for number, piece in enumerate(pieces):
        if number:
            await wire.pause(behaviour.delay_seconds)
        if number == strikes_at:
            if fault in (Fault.HANG_MID, Fault.HANG_BEFORE_END):
                await wire.hang()
            if fault is Fault.HALF_CLOSE_MID:
                return False
            if fault is Fault.RESET_MID:
                await wire.pause(0.02)  # What was written must have left: a reset discards it.
                wire.reset()
                return False
            if fault is Fault.GARBAGE_MID:
                await wire.write(b"zz not a chunk size\r\n")
                return False
        await wire.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        seen.pieces_sent += 1
    if chunked:
        trailers = "".join(f"{name}: {value}\r\n" for name, value in answer.trailers)
        await wire.write(b"0\r\n%b\r\n" % trailers.encode())
    return True
