"""Checks the runs of a plan before any is started.

Only train.py's own code can say what the settings of a run are, and that takes torch. So this is
done by a process of its own, `tools.sweep.planned`, with the interpreter of the runs.
"""

import json
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.sweep.process import (
    INTERRUPTED,
    STOPPED,
    Child,
    environment,
    handle_signals,
    interpreter,
)
from tools.sweep.protocols import Run


def check_plan(runs: Sequence[Run], need_data: Sequence[bool]) -> int | None:
    """None, or an exit code if a signal came.

    Raises ValueError where train.py would refuse the settings of a run, where its directory or
    that of the training run that it tests holds a run with others, and where its data are missing
    though it needs them here (`need_data`).
    """
    request = [
        (run.arguments, run.training, need) for run, need in zip(runs, need_data, strict=True)
    ]
    child = Child()
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        files = [Path(folder, name) for name in ("request.json", "reply.json", "log")]
        files[0].write_text(json.dumps(request))
        command = [interpreter(), "-m", "tools.sweep.planned", *map(str, files[:2])]
        with open(files[2], "wb") as log, handle_signals(child.on_signal):
            try:
                child.run(command, env=environment(), output=log, poll_s=0.1)
            except OSError as error:
                raise OSError(
                    f"the Python of the runs, {command[0]}, cannot be started "
                    f"({error.strerror}): set PYTHON to another, or leave it unset"
                ) from error
        if child.signal is not None:
            return INTERRUPTED if child.signal == signal.SIGINT else STOPPED
        if not files[1].exists():
            text = files[2].read_text(errors="replace").strip()
            raise OSError(f"the settings of the runs could not be found out:\n{text[-2000:]}")
        if refusal := json.loads(files[1].read_text()):
            raise ValueError(refusal)
    return None
