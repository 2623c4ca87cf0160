"""What the tests of Slurm submit, and how they look at it."""

import os
import re
import signal
import time
from pathlib import Path

from submitit.helpers import DelayedSubmission

from tests.slurm.cluster import ask


class Nap:
    """Until `folder` has a file `wake`; writes down what happens to it."""

    def __call__(self, folder: Path, answer: int) -> int:
        note(folder, "starts")
        while not (folder / "wake").exists():
            time.sleep(0.1)
        return answer

    def checkpoint(self, folder: Path, answer: int) -> DelayedSubmission:
        note(folder, "saves")
        return DelayedSubmission(self, folder, answer)


def note(folder: Path, word: str) -> None:
    with (folder / "notes").open("a") as file:
        file.write(word + "\n")


def notes(folder: Path) -> list[str]:
    file = folder / "notes"
    return file.read_text().split() if file.exists() else []


def sbatch(command: str, *flags: str) -> str:
    """The number of a new job, whose output nobody reads."""
    return ask("sbatch", "--parsable", "--output=/dev/null", *flags, "--wrap", command).strip()


def facts(job: str) -> dict[str, str]:
    """What Slurm knows of a job or of one task of an array (`12_3`): JobState, Restarts, ..."""
    return dict(re.findall(r"(\w+)=(\S*)", ask("scontrol", "show", "--oneliner", "job", job)))


def state(job: str) -> str:
    return facts(job)["JobState"]


def kill(job: str) -> None:
    """SIGKILL to all processes that srun started in a job, as if memory were short."""
    number = facts(job)["JobId"]  # of an array's task, too: listpids knows no 12_3
    for line in ask("scontrol", "listpids", f"{number}.0").splitlines()[1:]:
        os.kill(int(line.split()[0]), signal.SIGKILL)
