"""CAN frames into signals by the DBC of the drive.

Belongs here: decoding one bus. Does not belong here: reading the frames out of a log (wire).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import SyncError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from av_assets.domain.sync.wire import CanFrame

MAX_DBC_BYTES = 16 << 20
# Standard and extended identifiers overlap; this bit keeps them apart, as in SocketCAN.
EXTENDED_FLAG = 1 << 31


class CanDecoder:
    """Decodes frames; counts what it cannot decode instead of failing a drive for a foreign frame.

    Raises:
        SyncError: bad_dbc, when the DBC is missing, too large or not a DBC.
    """

    def __init__(self, dbc: Path) -> None:
        self._messages = {_key(m.frame_id, m.is_extended_frame): m for m in _load(dbc).messages}
        self.unknown = 0
        self.failed: Counter[str] = Counter()

    def decode(self, frame: CanFrame) -> Iterable[tuple[str, float]]:
        """(signal, value) of one frame in the units of the DBC; nothing for unknown or broken frames.

        Of a multiplexed message only the signals that this frame carries. CAN FD frames may be padded.
        """
        message = self._messages.get(_key(frame.can_id, frame.is_extended))
        if message is None or not frame.is_data:
            self.unknown += 1
            return ()
        try:
            values = message.decode(frame.data, decode_choices=False, allow_truncated=False)
        except Exception as error:  # noqa: BLE001 - cantools raises many kinds for bad bits
            self.failed[type(error).__name__] += 1
            return ()
        return [(name, float(value)) for name, value in values.items()]


def _key(can_id: int, extended: bool) -> int:
    return can_id | EXTENDED_FLAG if extended else can_id


def _load(dbc: Path) -> Any:
    import cantools

    try:
        if dbc.stat().st_size > MAX_DBC_BYTES:
            raise SyncError("the DBC is larger than 16 MiB", code="bad_dbc", file=dbc)
        return cantools.database.load_file(str(dbc), database_format="dbc")
    except (OSError, ValueError, KeyError, UnicodeDecodeError, cantools.database.Error) as error:
        raise SyncError(f"cannot read the DBC: {error}", code="bad_dbc", file=dbc) from error
