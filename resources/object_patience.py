"""How long a bucket that fails is asked again.

Belongs here: bounds of retries and timeouts. Does not belong here: the requests.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple


class Patience(NamedTuple):
    """How long a bucket that fails is asked again: 5xx, SlowDown, dropped connections, silence.

    A read that breaks off goes on from where it was. A store that stays down is given up after at most
    `keep_trying_s + silence_s` (or `retries + 1` silences, if that is less), a server that drips after `request_s`
    for each of its tries.
    """

    retries: int = 8
    first_pause_s: float = 0.1
    longest_pause_s: float = 10.0
    keep_trying_s: float = 90.0
    connect_s: float = 5.0
    silence_s: float = 30.0
    request_s: float = 900.0

    def options(self) -> dict[str, Any]:
        """The same in obstore's words; pauses double, with jitter."""
        pauses = {
            "init_backoff": timedelta(seconds=self.first_pause_s),
            "max_backoff": timedelta(seconds=self.longest_pause_s),
            "base": 2,
        }
        timeouts = {
            "connect_timeout": timedelta(seconds=self.connect_s),
            "read_timeout": timedelta(seconds=self.silence_s),
            "timeout": timedelta(seconds=self.request_s),
        }
        retry = {
            "max_retries": self.retries,
            "retry_timeout": timedelta(seconds=self.keep_trying_s),
            "backoff": pauses,
        }
        return {"client_options": timeouts, "retry_config": retry}


PATIENCE = Patience()
