"""A Slurm of one node, this machine, for as long as it is needed.

    python -m tests.slurm.cluster -- COMMAND ...     # COMMAND sees it, through SLURM_CONF

munged, slurmctld and slurmd run from a temporary folder that holds all they write: no systemd, no
file in /etc, no account, no database (`sacct` has no answer). What it does sooner than a real one:
jobs start within a second or two, and a requeued one is held back for six seconds, not two minutes.
What it cannot do sooner: it looks at time limits, which are minutes, twice a minute.
"""

import argparse
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from unittest import mock

DAEMONS = ("munged", "slurmctld", "slurmd")
CPUS = max(2, os.cpu_count() or 1)  # of the node, whatever the machine has
GRACE = 30  # seconds that a preempted job of partition low has
PATIENCE = 60  # seconds for a daemon to start, and for all jobs to end

CONF = """
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5

StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid

ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=5
OverTimeLimit=0
JobRequeue=1
MaxArraySize=10001
MaxJobCount=20000
MinJobAge=86400

SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal

GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Gres=gpu:2 RealMemory={memory} State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime={grace}
PartitionName=high Nodes={host} MaxTime=INFINITE PriorityTier=2 PreemptMode=OFF
"""
# Two that jobs can ask for, not use: Slurm wants devices.
GRES = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"


def missing() -> list[str]:
    """The programs of Slurm that are needed and not there."""
    return [name for name in (*DAEMONS, "sbatch", "srun") if not program(name)]


def program(name: str) -> str | None:
    """Its path; daemons lie in folders that not everyone has in PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def ask(*command: str) -> str:
    """What a command of Slurm prints; RuntimeError with its complaint if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def wait_for(
    what: str, holds: Callable[[], object], seconds: float = PATIENCE, rest: float = 0.1
) -> None:
    """Ask every `rest` seconds; TimeoutError that says `what` if it does not hold in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(rest)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def write_files(folder: Path) -> Path:
    """The key of munge, Slurm's folders, and slurm.conf, which is returned."""
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    controller_port, node_port = free_ports(2)
    text = CONF.format(
        folder=folder,
        host=socket.gethostname().partition(".")[0],
        user=getpass.getuser(),
        controller_port=controller_port,
        node_port=node_port,
        cpus=CPUS,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        grace=GRACE,
    )
    conf = folder / "slurm.conf"
    conf.write_text(text)
    (folder / "gres.conf").write_text(GRES)
    return conf


@contextmanager
def daemon(folder: Path, ready: Callable[[], object], name: str, *flags: str) -> Iterator[None]:
    """A daemon in the foreground of a session of its own, where no Ctrl-C reaches it."""
    log = folder / f"{name}.out"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program(name), *flags],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for(f"{name} to start", lambda: process.poll() is not None or ready())
        if process.poll() is not None:
            raise RuntimeError(
                f"{name} ended with {process.returncode}:\n{log.read_text()[-2000:]}"
            )
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def controller_answers() -> bool:
    return " UP" in subprocess.run(["scontrol", "ping"], capture_output=True, text=True).stdout


def node_is_idle() -> bool:
    return "idle" in ask("sinfo", "--noheader", "--format=%T")


def end_jobs() -> None:
    """With what Slurm has for it; kill_left is for those that do not end by it."""
    with suppress(RuntimeError, TimeoutError):
        ask("scancel", f"--user={getpass.getuser()}")
        wait_for("all jobs to end", lambda: not ask("squeue", "--noheader"))


def processes_of(conf: Path) -> list[int]:
    """What was started in this Slurm and is there still: its environment says so."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended, or is someone else's
            if f"SLURM_CONF={conf}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def kill_left(conf: Path) -> None:
    for process in processes_of(conf):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@contextmanager
def running() -> Iterator[Path]:
    """Its folder; as long, SLURM_CONF is in os.environ. Ends all jobs and leaves nothing behind."""
    with ExitStack() as stack:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: cleans up
        stack.callback(signal.signal, signal.SIGTERM, before)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        folder.chmod(0o755)  # for munged: everyone must be able to reach its socket
        conf = write_files(folder)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
        variables = {**kept, "SLURM_CONF": str(conf)}
        stack.enter_context(mock.patch.dict(os.environ, variables, clear=True))
        stack.callback(kill_left, conf)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
        munge_flags = [f"--{flag}={folder}/munge.{end}" for flag, end in files.items()]
        munge_socket = folder / "munge.socket"
        stack.enter_context(
            daemon(folder, munge_socket.exists, "munged", "--foreground", *munge_flags)
        )
        stack.enter_context(daemon(folder, controller_answers, "slurmctld", "-D"))
        stack.enter_context(daemon(folder, node_is_idle, "slurmd", "-D"))
        stack.callback(end_jobs)
        yield folder


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.slurm.cluster", description=__doc__)
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    command = parser.parse_args(argv).command
    if missing():
        parser.error(f"not found: {', '.join(missing())}; apt-get install slurm-wlm munge")
    try:
        with running():
            return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
