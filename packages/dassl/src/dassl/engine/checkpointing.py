"""Checkpoints of models, snapshots of whole runs, and how a run resumes from them.

    OUTPUT_DIR/<model>/model.pth.tar-<E>                      a registered model after E epochs
    OUTPUT_DIR/<model>/model-best.pth.tar                     the best on the validation images
    OUTPUT_DIR/in_progress/epoch-<E>-step-<S>.pth.tar         the run, S steps after epoch E

All of them hold the state of the run beside the models (`run_state`). The last two snapshots are
kept; they go when training is over.
"""

import io
import random
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from dassl.data.seeding import batches_from, loader_seed, set_loader_seed
from dassl.utils.atomic_io import atomic_write, check_free_space, remove_partial_files
from dassl.utils.checkpoints import (
    BEST,
    checkpoint_name,
    common_epochs,
    describe,
    load_checkpoint,
    load_intact,
    restore,
    resume_candidates,
    save_checkpoint,
)
from dassl.utils.distributed import barrier, broadcast_object, is_main, world_size
from dassl.utils.stopping import (
    Stopped,
    immediate_signals,
    stop,
    stop_requested,
    sync_stop_flag,
)

from .hooks import Hook

if TYPE_CHECKING:
    from .trainer import TrainerBase

SNAPSHOTS = "in_progress"
KEPT = 2

Position = tuple[int, int]  # epochs done, steps done of the next


# The state of a run


def run_state(trainer: "TrainerBase") -> dict[str, Any]:
    """Return what a run needs beside models and optimizers to go on, as plain data. Collective."""
    scaler = getattr(trainer, "scaler", None)
    best = getattr(trainer, "best_result", None)
    return {
        "best_result": None if best is None else float(best),
        "scaler": None if scaler is None else scaler.state_dict(),
        "generators": rng_state(),
        "loader_seeds": [loader_seed(loader) for loader in train_loaders(trainer)],
        "num_batches": trainer.num_batches,
        "extra": trainer.extra_state(),
        "hooks": {type(hook).__name__: hook.state_dict() for hook in trainer.registered_hooks},
    }


def restore_run_state(trainer: "TrainerBase", state: dict[str, Any]) -> None:
    """Put back what `run_state` returned; what `state` lacks stays as it is."""
    if state.get("best_result") is not None:
        trainer.best_result = state["best_result"]
    scaler = getattr(trainer, "scaler", None)
    if state.get("scaler") and scaler is not None:
        scaler.load_state_dict(state["scaler"])
    for loader, seed in zip(train_loaders(trainer), state.get("loader_seeds") or (), strict=False):
        set_loader_seed(loader, seed)
    trainer.load_extra_state(state.get("extra") or {})
    for hook in trainer.registered_hooks:
        if saved := (state.get("hooks") or {}).get(type(hook).__name__):
            hook.load_state_dict(saved)
    if state.get("generators"):
        set_rng_state(state["generators"])


def train_loaders(trainer: "TrainerBase") -> list[Any]:
    """Return the loaders of labeled and unlabeled images; None for one that does not exist."""
    return [getattr(trainer, name, None) for name in ("train_loader_x", "train_loader_u")]


def rng_state() -> dict[str, Any]:
    """Return the states of Python's, numpy's and torch's generators."""
    state: Any = np.random.get_state()
    kind, keys, position, has_gauss, gauss = state
    used_cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if used_cuda else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what `rng_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    cuda = state["cuda"][: torch.cuda.device_count()]
    if world_size() > 1:  # each process draws on a GPU of its own, as rank 0 did
        cuda = cuda[:1] * len(cuda)
    for device, device_state in enumerate(cuda):
        torch.cuda.set_rng_state(device_state, device)


def broadcast_rng_state() -> None:
    """Give all processes the generators of rank 0. Collective."""
    if world_size() > 1:
        set_rng_state(broadcast_object(rng_state))


# Models


def model_state(trainer: "TrainerBase", name: str) -> dict[str, Any]:
    """Return the states of a registered model, its optimizer and its schedule."""
    optim, sched = trainer._optims[name], trainer._scheds[name]
    return {
        "state_dict": trainer._models[name].state_dict(),
        "optimizer": None if optim is None else optim.state_dict(),
        "scheduler": None if sched is None else sched.state_dict(),
    }


def save_models(
    trainer: "TrainerBase",
    epoch: int,
    directory: str,
    is_best: bool,
    val_result: float | None,
    model_name: str,
) -> None:
    """Write a checkpoint of every registered model; for the arguments see `save_model`."""
    trainer.call_hooks("before_save")
    state = run_state(trainer)
    for name in trainer.get_model_names():
        content = {
            **model_state(trainer, name),
            "epoch": epoch + 1,
            "val_result": None if val_result is None else float(val_result),
            **state,
        }
        save_checkpoint(content, Path(directory) / name, is_best=is_best, model_name=model_name)


def load_models(trainer: "TrainerBase", directory: str, epoch: int | None, best: bool) -> None:
    """Load the weights of every registered model: of `epoch`, the best, or the newest."""
    folders = {name: Path(directory) / name for name in trainer.get_model_names()}
    if epoch is not None:
        file = checkpoint_name(epoch)
    else:
        epochs = [] if best or not folders else common_epochs(list(folders.values()))
        file = checkpoint_name(epochs[0]) if epochs else BEST
    for name, folder in folders.items():
        path = folder / file
        if not path.is_file():
            raise FileNotFoundError(f"No checkpoint at {str(path)!r}: {describe(folder)}")
        checkpoint = load_checkpoint(path)
        restore(checkpoint, path, trainer._models[name])
        result = checkpoint.get("val_result")
        shown = "" if result is None else f", val_result={result:.1f}"
        print(f"Loaded {path} into {name} (epoch={checkpoint.get('epoch')}{shown})")


def checkpoint_size(trainer: "TrainerBase") -> int:
    """Return the bytes that all models take in files, with the states of their optimizers."""
    size = 0
    for name, model in trainer._models.items():
        values = model.state_dict().values()
        size += 50_000 + sum(v.nbytes for v in values if isinstance(v, torch.Tensor))
        size += _optimizer_size(trainer._optims[name])
    return size


def _optimizer_size(optim: Optimizer | None) -> int:
    groups = [] if optim is None else optim.param_groups
    return sum(
        value.nbytes * (3 if group.get("amsgrad") else 2)
        for group in groups
        for value in group["params"]
    )


# Snapshots


def serialize(state: dict[str, Any]) -> bytes:
    """Return what `torch.save` makes of `state`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def write_snapshot(directory: Path, position: Position, content: bytes) -> Path:
    """Write a `serialize`d snapshot, and remove all but it and the one before it.

    Raises:
        OSError: there is no room for it.
    """
    folder = directory / SNAPSHOTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "epoch-{}-step-{}.pth.tar".format(*position)
    atomic_write(path, lambda part: part.write_bytes(content))
    found = find_snapshots(directory)
    ahead = [other for there, other in found if there > position]  # damaged, or of another run
    before = [other for there, other in found if there < position]
    for old in ahead + before[KEPT - 1 :]:
        old.unlink()
    return path


def find_snapshots(directory: Path) -> list[tuple[Position, Path]]:
    """Return the snapshots of a run, those with most done first."""
    found = []
    for path in directory.glob(f"{SNAPSHOTS}/*"):
        if match := re.fullmatch(r"epoch-(\d+)-step-(\d+)\.pth\.tar", path.name):
            found.append(((int(match[1]), int(match[2])), path))
    return sorted(found, reverse=True)


# Where a run resumes


class ResumePoint(NamedTuple):
    """The state of a run that was read from files.

    path: a file it was read from, for messages; `files` names them all.
    epochs, steps: epochs done, and steps done of the next.
    models: for each model state_dict, optimizer and scheduler.
    state: of the run, see `run_state`.
    """

    path: Path
    files: str
    epochs: int
    steps: int
    models: dict[str, dict[str, Any]]
    state: dict[str, Any]


def can_resume(directory: Path, names: list[str]) -> bool:
    """Say whether there is a checkpoint or a snapshot to resume from, sound or not."""
    folders = [directory / name for name in names]
    return bool(find_snapshots(directory) or (names and resume_candidates(folders)))


def find_resume_point(directory: Path, names: list[str]) -> ResumePoint | None:
    """Return the sound state with most done; damaged files are reported and skipped."""
    if not names:
        return None
    finished = next(_checkpoints(directory, names), None)
    least = (finished.epochs, 0) if finished else (0, 0)
    for position, path in find_snapshots(directory):
        if position < least:
            break
        state = _load(path)
        if state is not None and set(names) <= set(state.get("models", ())):
            return ResumePoint(path, str(path), *position, state["models"], state)
    return finished


def _checkpoints(directory: Path, names: list[str]) -> Iterator[ResumePoint]:
    """Yield the models' newest checkpoints, all of one epoch, best first."""
    for file in resume_candidates([directory / name for name in names]):
        paths = {name: directory / name / file for name in names}
        found = {name: state for name, path in paths.items() if (state := _load(path)) is not None}
        epochs = {state.get("epoch") for state in found.values()}
        if len(found) == len(names) and len(epochs) == 1:
            files = ", ".join(str(path) for path in paths.values())
            first = found[names[0]]
            yield ResumePoint(paths[names[0]], files, int(first.get("epoch", 0)), 0, found, first)


def _load(path: Path) -> dict[str, Any] | None:
    try:
        return load_intact(path)
    except ValueError as error:
        print(f"*** {error}. It is passed over: the run goes on from the one before it ***")
        return None


# During a run


class Interval:
    """Says when something is due that is done at intervals of time or of steps."""

    FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:ours?)?)?")

    def __init__(self, text: str, key: str = "the interval") -> None:
        """
        Args:
            text: such as '10m', '90s', '1h', '200 steps'; a bare number is minutes; '0' and ''
                are never.
            key: what messages call it.

        Raises:
            ValueError: `text` is nothing of that kind.
        """
        self._steps = self._seconds = float("inf")
        given = text.strip().lower() or "0"
        if steps := re.fullmatch(r"(\d+)\s*steps?", given):
            self._steps = int(steps[1]) or float("inf")
        elif match := self.FORM.fullmatch(given):
            unit = {"s": 1, "m": 60, "h": 3600}[(match[2] or "m")[0]]
            self._seconds = float(match[1]) * unit or float("inf")
        else:
            raise ValueError(
                f"{key} is {text!r}; allowed are a time such as 10m, 90s or 1h (a bare number is "
                "minutes), a number of steps such as '200 steps', and 0 for never"
            )
        self.restart()

    @property
    def never(self) -> bool:
        """Whether it is never due."""
        return self._steps == self._seconds == float("inf")

    def restart(self) -> None:
        """Count from now."""
        self._done = 0
        self._next = time.monotonic() + self._seconds

    def due(self, steps: int = 1) -> bool:
        """Say after `steps` more whether the interval is over."""
        self._done += steps
        return self._done >= self._steps or time.monotonic() >= self._next


class Checkpointer(Hook):
    """Takes snapshots at an interval and when a signal ends the run; resumes a run.

    Attributes:
        first_step: the step of the whole run that comes first; None where it is not known.
        within_epoch: whether the run goes on within an epoch.
    """

    def __init__(self, every: str = "0") -> None:
        """`every`: the interval, see `Interval`."""
        self._interval = Interval(every, "TRAIN.CHECKPOINT_EVERY")
        self._resumed: dict[str, Any] | None = None  # the state of the epoch to go on with
        self._drawn_from: dict[str, Any] | None = None
        self._looped = -1  # the epoch whose batches `batches` yielded last
        self.first_step: int | None = 0

    @property
    def within_epoch(self) -> bool:
        return self._resumed is not None

    # Resuming

    def resume(self, trainer: "TrainerBase", directory: str) -> int:
        """Load the newest state in `directory`; for what is returned see `resume_model_if_exist`.

        The batches of an epoch that was interrupted go on where they were.
        """
        names = trainer.get_model_names()
        found = broadcast_object(lambda: find_resume_point(Path(directory), names))
        if found is None:
            print(f"No checkpoint in {directory}: training starts from scratch")
            return 0
        for name, checkpoint in found.models.items():
            parts = trainer._models[name], trainer._optims[name], trainer._scheds[name]
            restore(checkpoint, found.path, *parts)
        restore_run_state(trainer, found.state)
        self._resumed = found.state if found.steps else None
        batches = found.state.get("num_batches")
        self.first_step = _steps_done(trainer, found.epochs, found.steps, batches)
        within = f" and {found.steps} batches of the next" if found.steps else ""
        print(
            f"*** RESUMING after epoch {found.epochs}{within} from {found.files}"
            " (to train anew instead, choose another OUTPUT_DIR or delete this one) ***"
        )
        return found.epochs

    def batches(self, trainer: "TrainerBase", loader: DataLoader[Any]) -> Iterator[tuple[int, Any]]:
        """Yield the batches of an epoch with their numbers, from where it was interrupted.

        Raises:
            ValueError: the epoch had another number of batches then.
        """
        found, self._resumed = self._resumed, None
        if found is not None and found["epoch"] != trainer.epoch:
            found = None
        if found is not None:
            _check_same_length(found["num_batches"], trainer.num_batches)
            if found["drawn_from"]:
                set_rng_state(found["drawn_from"])
        # loaders without a seed of their own draw the order from the global generators
        seeded = all(x is None or loader_seed(x) for x in train_loaders(trainer))
        self._drawn_from = None if seeded else rng_state()
        self._looped = trainer.epoch
        start = 0 if found is None else int(found["step"])
        batches = batches_from(loader, start)
        if found is not None:
            set_rng_state(found["generators"])
        yield from enumerate(batches, start)

    # Snapshots

    def prepare(self, trainer: "TrainerBase", frequency: int, keeps_best: bool) -> None:
        """Remove what a killed run left half written, and check that there is room to save.

        Args:
            frequency: epochs from checkpoint to checkpoint; 0: only the last epoch has one.

        Raises:
            OSError: there is none.
        """
        self._interval.restart()
        if not is_main():
            return
        directory = Path(trainer.output_dir)
        for name in ("", SNAPSHOTS, *trainer.get_model_names()):
            remove_partial_files(directory / name)
        epochs = trainer.max_epoch - trainer.start_epoch
        if epochs <= 0 or not trainer._models:
            return
        numbered = 1 + (epochs // frequency if frequency > 0 else 0)
        count = 1 + (0 if self._interval.never else KEPT) + numbered + int(keeps_best)
        size = checkpoint_size(trainer)
        check_free_space(directory, size, size * count)

    def after_batch(self, trainer: "TrainerBase", summary: Any) -> None:
        done = trainer.batch_idx + 1
        if self._is_due(steps=1):
            self._snapshot(trainer, (trainer.epoch, done))
        if stop_requested():
            stop(f"epoch {trainer.epoch + 1}, batch {done} of {trainer.num_batches}")

    def end_epoch(self, trainer: "TrainerBase") -> None:
        """Take a snapshot between two epochs, if one is due."""
        if self._is_due(steps=0):
            self._snapshot(trainer, (trainer.epoch + 1, 0))
        if stop_requested():
            stop(f"epoch {trainer.epoch + 1}")

    @contextmanager
    def validation(self, trainer: "TrainerBase") -> Iterator[None]:
        """Let a signal end a validation within at once, and repeat it when the run resumes."""
        if self._looped != trainer.epoch or not (trainer._models and trainer._validates()):
            yield
            return
        position = (trainer.epoch, trainer.num_batches)
        state = self._state(trainer, position)
        before = serialize(state) if is_main() else b""
        try:
            with immediate_signals():
                yield
        except (Stopped, KeyboardInterrupt):
            if is_main():
                write_snapshot(Path(trainer.output_dir), position, before)
            raise

    def after_train(self, trainer: "TrainerBase") -> None:
        if is_main() and trainer.output_dir:
            shutil.rmtree(Path(trainer.output_dir) / SNAPSHOTS, ignore_errors=True)

    def _is_due(self, steps: int) -> bool:
        due = sync_stop_flag(self._interval.due(steps))
        return stop_requested() or due

    def _snapshot(self, trainer: "TrainerBase", position: Position) -> None:
        if trainer._models:
            state = self._state(trainer, position)
            if is_main():
                path = write_snapshot(Path(trainer.output_dir), position, serialize(state))
                print(f"Snapshot saved to {path}")
        barrier()  # a process that stops would end the others
        self._interval.restart()

    def _state(self, trainer: "TrainerBase", position: Position) -> dict[str, Any]:
        trainer.call_hooks("before_save")
        return {
            "epoch": position[0],
            "step": position[1],
            "models": {name: model_state(trainer, name) for name in trainer.get_model_names()},
            "drawn_from": self._drawn_from,
            **run_state(trainer),
        }


def _steps_done(trainer: "TrainerBase", epochs: int, steps: int, batches: int | None) -> int | None:
    """Count the steps of a run that resumes, whose epoch had `batches`; None if not known."""
    if trainer.max_steps and epochs >= trainer.max_epoch:
        return trainer.max_steps
    if trainer.max_steps and batches and steps and epochs + 1 == trainer.max_epoch:
        return trainer.max_steps - batches + steps
    return epochs * batches + steps if batches else None


def _check_same_length(before: int, now: int) -> None:
    if before != now:
        raise ValueError(
            f"the run that is resumed had {before} batches an epoch, this one has {now}: data or "
            "configuration differ. To train anew choose another OUTPUT_DIR"
        )
