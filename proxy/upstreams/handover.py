"""A socket given to uvloop that fails to become a connection is closed once, not twice.

uvloop up to 0.22 closes the descriptor when `create_connection(sock=...)` fails or is cancelled, and leaves the socket
object in the belief that it is still its own: collected, it closes whatever connection has been given that number
since (MagicStack/uvloop#738).
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket


class Handover:
    """The sockets of one dial, and those of them that the loop was given."""

    __slots__ = ("_given", "_made")

    def __init__(self) -> None:
        self._made: list[socket.socket] = []
        self._given: list[socket.socket] = []

    def made(self, made: socket.socket) -> None:
        """A socket that the dialler still owns, and closes where it does not connect."""
        self._made.append(made)

    def give(self) -> None:
        """The loop takes the one that is connected: all others are closed by now."""
        self._given += [made for made in self._made if made.fileno() >= 0]
        self._made.clear()

    def failed(self) -> None:
        """The loop has closed what it was given: those objects must not do so again."""
        for given in self._given:
            given.detach()


CURRENT: Final[ContextVar[Handover | None]] = ContextVar("handover", default=None)
"""That of the dial under way in this task, and in those that it tries its addresses in."""
