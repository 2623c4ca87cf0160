"""What the tests of Slurm submit, and how they look at it."""

import os
import re
import signal

from tests.slurm.cluster import ask, wait_for

SIGNAL_DELAY = 60  # seconds before the end of a job's time, of jobs whose time ends in a test


def sbatch(command: str, *flags: str) -> str:
    """The number of a new job, whose output nobody reads."""
    return ask("sbatch", "--parsable", "--output=/dev/null", *flags, "--wrap", command).strip()


def facts(job: str) -> dict[str, str]:
    """What Slurm knows of a job or of one task of an array (`12_3`): JobState, Restarts, ..."""
    return dict(re.findall(r"(\w+)=(\S*)", ask("scontrol", "show", "--oneliner", "job", job)))


def state(job: str) -> str:
    return facts(job)["JobState"]


def restarts(job: str) -> int:
    return int(facts(job)["Restarts"])


def run_out_of_time(job: str) -> None:
    """Have a job's time end, and wait until it is back in the queue; it then has its time again.

    Slurm looks at it every 30 s, and gives the signal up to as much too early.
    """
    before, limit = restarts(job), facts(job)["TimeLimit"]
    ask("scontrol", "update", f"JobId={job}", f"EndTime=now+{SIGNAL_DELAY + 20}")
    wait_for(f"job {job} to be requeued", lambda: restarts(job) > before)
    ask("scontrol", "update", f"JobId={job}", f"TimeLimit={limit}")


def kill(job: str) -> None:
    """SIGKILL to all processes that srun started in a job, as if memory were short."""
    number = facts(job)["JobId"]  # of an array's task, too: listpids knows no 12_3
    for line in ask("scontrol", "listpids", f"{number}.0").splitlines()[1:]:
        os.kill(int(line.split()[0]), signal.SIGKILL)
