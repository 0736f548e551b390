"""What every process does that carries out a run for an executor, on this machine or on a node of a cluster."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from resweep.record import LOG_FILE

DONE, BUSY, STOPPED = 0, 75, 143


def carry_out(run_dir: Path) -> int:
    """Execute a run whose words go to its log.

    Args:
        run_dir: folder with the frozen config.

    Returns:
        Exit status for the process: ``DONE`` the record is final, ``BUSY`` another process carries this run out,
        ``STOPPED`` a signal interrupted the run after it was saved.
    """
    log = os.open(run_dir / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    from resweep.claim import Busy
    from resweep.stopping import Interrupted
    from resweep.train import execute

    try:
        execute(run_dir)
    except Interrupted:
        return STOPPED
    except Busy:
        return BUSY
    return DONE
