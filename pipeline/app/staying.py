"""What is left of a worker process that stays after a HALT: it does nothing, and says why.

RECOUNT_HALT=stay. For an orchestrator that would start the process again for ever: it sees a
process that is alive and not ready. Nothing is looked at again; whoever mends it restarts it.
"""

import os
import signal
from typing import Final

from ..errors import ExitCode
from ..settings import Settings
from ..telemetry.answer import Sampled, answer
from ..telemetry.logs import LOG, begin
from ..telemetry.names import NAMES

STAYING: Final = "worker-staying"


def stay(settings: Settings, number: int, reason: str) -> None:
    """Answer that the process has halted, until SIGTERM.

    Args:
        number: Which of the supervisor's processes this was.
    """
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: os._exit(ExitCode.DONE))
    begin(settings.log, settings.log_level, process=number)
    LOG.error("stays", why=f"it does nothing until it is restarted: {reason}")
    port = settings.telemetry_port_of(number)
    if port is not None:
        answer(
            settings.telemetry_host,
            port,
            Sampled(NAMES, lambda: ()),
            is_alive=lambda: True,
            readiness=lambda: (False, f"halted: {reason}"),
        )
    while True:
        signal.pause()
