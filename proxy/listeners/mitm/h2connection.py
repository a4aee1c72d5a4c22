"""The HTTP/2 state machine: mitmproxy's buffering one with bounded windows and a count of what floods send."""

from __future__ import annotations

from typing import Any, Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event
from h2.exceptions import DenialOfServiceError, FrameTooLargeError
from hyperframe.frame import (
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
)
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection

from proxy.config.schema import LimitsEntry

STREAM_WINDOW_BYTES: Final = 256 << 10
"""What a client may send of one upload before somebody reads it."""
FRAME_BYTES_MAX: Final = 64 << 10
RESETS_MAX: Final = 200
"""RST_STREAM frames of a client within FLOOD_SECONDS (Rapid Reset, CVE-2023-44487)."""
CONTROL_FRAMES_MAX: Final = 1000
"""PING, SETTINGS, PRIORITY, unknown and empty DATA frames within FLOOD_SECONDS (CVE-2019-9512 and kin)."""
FLOOD_SECONDS: Final = 10.0

_CONTROL: Final = (PingFrame, SettingsFrame, PriorityFrame, ExtensionFrame)


class EngineH2(BufferedH2Connection):
    """Server side. Raises h2's ProtocolError out of `receive_data`; GOAWAY is then ready to be sent."""

    def __init__(self, limits: LimitsEntry) -> None:
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=False,
                validate_inbound_headers=True,
                normalize_inbound_headers=True,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        settings = self.local_settings
        settings.initial_window_size = STREAM_WINDOW_BYTES
        settings.max_frame_size = self.max_inbound_frame_size = FRAME_BYTES_MAX
        settings.max_concurrent_streams = limits.http2_streams_max
        settings.max_header_list_size = limits.head_bytes_max
        settings.acknowledge()  # they hold from the start, not from the client's acknowledgement
        self.decoder.max_header_list_size = limits.head_bytes_max
        self._window_bytes = STREAM_WINDOW_BYTES * limits.http2_streams_max
        self.peer_leaving = False
        """The client sent GOAWAY: it opens no more streams, but waits for those it has."""
        self._resets = 0
        self._controls = 0

    def initiate_connection(self) -> None:
        """Our settings, and a connection window that never is narrower than those of all streams together."""
        H2Connection.initiate_connection(self)
        self.increment_flow_control_window(self._window_bytes - self.inbound_flow_control_window)

    def calm(self) -> None:
        """A new window of FLOOD_SECONDS begins."""
        self._resets = self._controls = 0

    def backlog(self, stream_id: int) -> int:
        """Bytes of one stream that wait for the client's window."""
        waiting = self.stream_buffers.get(stream_id)
        return sum([len(piece.data) for piece in waiting]) if waiting else 0

    def farewell(self) -> bytes:
        """A GOAWAY that ends no stream; h2's own would forbid to send anything after it."""
        return GoAwayFrame(0, last_stream_id=self.highest_inbound_stream_id, error_code=0).serialize()

    def receive_data(self, data: bytes) -> list[Event]:
        """As h2's, but a frame that is too large is refused by its header, not collected first."""
        events: list[Event] = super().receive_data(data)
        ahead = self.incoming_buffer._data  # noqa: SLF001
        if len(ahead) >= 3 and int.from_bytes(ahead[:3]) > FRAME_BYTES_MAX:
            self._terminate_connection(ErrorCodes.FRAME_SIZE_ERROR)
            raise FrameTooLargeError("a frame is larger than SETTINGS_MAX_FRAME_SIZE")
        return events

    def _receive_frame(self, frame: Frame) -> list[Event]:
        if isinstance(frame, RstStreamFrame):
            self._resets += 1
        elif isinstance(frame, DataFrame):
            if not frame.data and "END_STREAM" not in frame.flags:
                self._controls += 1
        elif isinstance(frame, _CONTROL):
            self._controls += 1
        if self._resets > RESETS_MAX or self._controls > CONTROL_FRAMES_MAX:
            raise DenialOfServiceError("too many frames that carry nothing")
        return super()._receive_frame(frame)

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Any]]:
        if frame.error_code:
            return super()._receive_goaway_frame(frame)
        self.peer_leaving = True
        return [], []
