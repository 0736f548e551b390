"""What is kept of a run's course besides its results: the log file, and the cause of a failure in words."""

from __future__ import annotations

import logging
import sysconfig
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resweep.errors import RequestError
from resweep.record import LOG_FILE

LOGGED = ("resweep", "pytorch_lightning", "lightning_fabric", "py.warnings", "torch")


def describe(error: BaseException) -> dict[str, Any]:
    """Return the innermost cause of a failure and the place in the user's or this package's code, for the record."""
    while error.__cause__ is not None and not isinstance(error, RequestError):
        error = error.__cause__
    text = f"sys.exit({error}) was called" if isinstance(error, SystemExit) else str(error).strip()
    described = {"type": type(error).__name__, "message": text.splitlines()[0] if text else type(error).__name__}
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)] or list(frames)
    if own:
        described["where"] = f"{Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name}"
    return described


def _is_own(filename: str) -> bool:
    """Tell this package's and the user's files from those of libraries."""
    library = "site-packages" in filename or filename.startswith((sysconfig.get_path("stdlib"), "<"))
    return not library or filename.startswith(str(Path(__file__).parent))


@contextmanager
def log_to(run_dir: Path) -> Iterator[None]:
    """Send what libraries log, and their warnings, to the run's log file instead of the terminal."""
    handler = logging.FileHandler(run_dir / LOG_FILE, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in LOGGED]
    before = [(logger, logger.handlers[:], logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            # Where SLURM is installed Lightning recommends to start with srun; a run is one process, whoever starts it.
            warnings.filterwarnings("ignore", message="The `srun` command is available")
            yield
    finally:
        logging.captureWarnings(False)
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
        handler.close()
