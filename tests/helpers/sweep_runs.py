"""Stands in for the runs of a sweep: what train.py leaves behind, in a moment."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.toy_run import REPO
from tools.sweep.protocols import Run

RECORD = {"complete": True, "total": 2, "correct": 1, "accuracy": 50.0, "seconds": 2.0}
# Notes its start in $RECORD, prints, naps, and fails as often as a file of its folder's name in
# $FAIL says: "1" exits with 1, "9" is killed. SIGTERM ends it as it ends train.py.
FAKE = f"""#!{sys.executable}
import json, os, pathlib, signal, sys, time
if sys.argv[1:3] == ["-m", "tools.sweep.planned"]:  # no folder holds another run
    sys.exit(pathlib.Path(sys.argv[4]).write_text("null") and None)
if not sys.argv[1].endswith("train.py"):
    os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
time.sleep(float(os.environ.get("IMPORTS", 0)))  # as train.py, before it can take its lock
stopped = lambda number, frame: (print("saved", flush=True), os._exit(75))
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
    signal.signal(number, stopped)
folder = pathlib.Path(sys.argv[sys.argv.index("--output-dir") + 1])
with open(os.environ["RECORD"], "a") as file:
    file.write(f"{{folder.name}}\\n")
print(f"process {{os.getpid()}}", flush=True)
print("epoch [1/2] time 0.1", flush=True)
time.sleep(float(os.environ.get("NAP", 0)))
fails = pathlib.Path(os.environ["RECORD"]).with_name("fail-" + folder.name)
if fails.exists():
    first, _, rest = fails.read_text().partition(" ")
    fails.write_text(rest) if rest else fails.unlink()
    print("no luck", flush=True)
    os.kill(os.getpid(), 9) if first == "9" else sys.exit(int(first))
folder.mkdir(parents=True, exist_ok=True)
(folder / "results.json").write_text({json.dumps(RECORD)!r})
"""


class FakeRuns:
    """Runs below a folder of their own; `install` has sweeps call them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.output, self.record = folder, folder / "out", folder / "record"
        self.python = folder / "python"
        self.python.write_text(FAKE)
        self.python.chmod(0o755)
        self.env = {"PYTHON": str(self.python), "RECORD": str(self.record)}

    def run(self, name: str, after: str | None = None) -> Run:
        return Run(name, ("--output-dir", str(self.output / name)), after)

    def fail(self, name: str, *codes: int) -> None:
        """Have the next attempts at a run end with these codes; 9: it is killed."""
        (self.folder / f"fail-{name}").write_text(" ".join(map(str, codes)))

    def started(self) -> list[str]:
        """Names of the runs in the order in which they were started."""
        return self.record.read_text().split() if self.record.exists() else []

    def finish(self, name: str, **record: object) -> None:
        place = self.output / name
        place.mkdir(parents=True)
        (place / "results.json").write_text(json.dumps(RECORD | record))

    def sweep(self, *arguments: str, wait: bool = True, **env: str):
        """`python -m tools.sweep` with the fake runs: its process, ended if it was waited for."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.sweep", *arguments, "--output", str(self.output)],
            cwd=self.folder,
            env=os.environ | self.env | {"PYTHONPATH": str(REPO)} | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if wait:
            process.out, process.err = process.communicate(timeout=120)
        return process
