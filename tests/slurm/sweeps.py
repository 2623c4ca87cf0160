"""Sweeps of MMRL over some seeds, as a user starts them, and what disturbs their runs."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.helpers.toy_run import REPO
from tests.slurm.cluster import wait_for
from tests.slurm.jobs import SIGNAL_DELAY
from tools.sweep.store import RunStore

EPOCHS, BATCHES = 30, 6
SETTINGS = (
    *("OPTIM.MAX_EPOCH", str(EPOCHS), "DATALOADER.TRAIN_X.BATCH_SIZE", "2"),
    *("TRAIN.CHECKPOINT_EVERY", "5 steps", "DATALOADER.NUM_WORKERS", "1"),
    *("USE_CUDA", "False"),  # the numbers are compared to the bit
)
LONG = 300  # seconds that no run should take


class Sweep(NamedTuple):
    """Base to new on the toy pictures in `data`, one thread for each run."""

    data: Path
    output: Path
    seeds: tuple[int, ...] = (1, 2, 3)

    def start(self, *flags: str) -> subprocess.Popen:
        return tool(
            *("tools.sweep", "base2new", "--methods", "MMRL", "--datasets", "colored_shapes"),
            *("--seeds", *map(str, self.seeds), "--shots", "4", "--cfg", "small", "--cpus", "1"),
            *("--backbone", str(self.data / "narrow.pt"), "--root", str(self.data)),
            *("--output", str(self.output), *flags, "--", *SETTINGS),
        )

    def start_on_slurm(self) -> subprocess.Popen:
        options = self.data / "slurm.yaml"
        options.write_text(f"signal_delay_s: {SIGNAL_DELAY}\naccount: nobody\n")
        return self.start(
            *("--on", "slurm", "--partition", "low", "--time", "10", "--workers", "2"),
            *("--mem-gb", "1", "--gpus", "1", "--slurm-file", str(options)),
        )

    def say(self, command: str) -> str:
        """What `status` or `cancel` prints."""
        process = tool("tools.sweep", command, "--output", str(self.output))
        text, _ = process.communicate(timeout=LONG)
        assert process.returncode == 0, text
        return text

    def folders(self, part: str) -> list[str]:
        tail = "colored_shapes/shots_4/MMRL/small"
        return [f"base2new/{part}/{tail}/seed{seed}" for seed in self.seeds]

    def training(self, seed: int) -> str:
        return self.folders("train_base")[seed - 1]

    def job(self, seed: int) -> str:
        """The last Slurm job of a seed's training."""
        return RunStore(self.output).jobs()[self.training(seed)]

    def log(self, folder: str) -> str:
        """What all attempts at a run printed."""
        return RunStore(self.output).log(folder).read_text()

    def freeze(self, *seeds: int) -> None:
        """Stop trainings where they are, as soon as each has saved something.

        However fast this machine: a signal finds them in the middle. Slurm wakes what it signals.
        """
        going = set(seeds)

        def all_frozen() -> bool:
            for seed in sorted(going):
                if list((self.output / self.training(seed)).glob("in_progress/epoch-*")):
                    self.signal(seed, signal.SIGSTOP)
                    going.remove(seed)
            return not going

        wait_for(f"seeds {seeds} to save", all_frozen, LONG)

    def signal(self, seed: int, number: signal.Signals) -> None:
        """To all processes of a seed's training."""
        wanted = str(self.output / self.training(seed)).encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it ended
                continue
            if wanted in words:
                os.kill(int(process.name), number)


def tool(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    """What a command printed that ended well."""
    text, _ = process.communicate(timeout=LONG)
    assert process.returncode == 0, text
    return text
