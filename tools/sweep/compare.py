"""Compares the runs of a plan with those that their folders hold, before any is started.

What the settings of a run are only train.py's own code can say, which takes torch. So a process
looks, `tools.sweep.planned`, with the interpreter of the runs.
"""

import json
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.sweep.child import INTERRUPTED, STOPPED, Children, interpreter
from tools.sweep.protocols import REPO, Run


def compared(runs: Sequence[Run]) -> int | None:
    """None, or an exit code if a signal came.

    Raises ValueError where train.py would refuse the settings of a run, or where its folder, or
    that of the training run that it tests, holds a run with others.
    """
    children = Children()
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder, children.listening():
        files = [Path(folder, name) for name in ("request.json", "answer.json", "log")]
        files[0].write_text(json.dumps([(run.arguments, run.training) for run in runs]))
        paths = os.pathsep.join(filter(None, (str(REPO), os.environ.get("PYTHONPATH"))))
        words = [interpreter(), "-m", "tools.sweep.planned", *map(str, files[:2])]
        with open(files[2], "wb") as log:
            try:
                children.call(words, env=os.environ | {"PYTHONPATH": paths}, output=log, every=0.1)
            except OSError as error:
                raise OSError(
                    f"the Python of the runs, {words[0]}, cannot be started ({error.strerror}): "
                    "set PYTHON to another, or leave it unset"
                ) from error
        if children.signal is not None:
            return INTERRUPTED if children.signal == signal.SIGINT else STOPPED
        if not files[1].exists():
            words = files[2].read_text(errors="replace").strip()
            raise OSError(f"the settings of the runs could not be found out:\n{words[-2000:]}")
        if refusal := json.loads(files[1].read_text()):
            raise ValueError(refusal)
    return None
