"""Keeping what a run has come to: during epochs, and when it is told to stop."""

from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from dassl.data.seeding import loader_seed
from dassl.utils.collectives import barrier
from dassl.utils.distributed import is_main
from dassl.utils.interval import Interval
from dassl.utils.stopping import Stopped, at_once, heed, stop, stop_requested
from dassl.utils.whole_files import check_room

from .base import TrainerBase
from .finite import check_weights
from .run_state import collect_run_state, generators, set_generators, train_loaders
from .snapshots import Place, clean_up, remove_snapshots, serialise, write_snapshot


class ProgressKeeper(TrainerBase):
    """Writes snapshots every now and then, and one when a signal ends the run.

    Attributes:
        output_dir: where they go.
        num_batches, batch_idx: of the loop over batches, which asks `_save_if_due` after each.
    """

    output_dir: str
    num_batches: int
    batch_idx: int

    def __init__(self) -> None:
        super().__init__()
        self._interval = Interval("0")
        self._looped = -1  # the epoch that a loop of ours went through last
        self._drawn_from: dict[str, Any] | None = None

    # --- in the loop over batches

    def _first_batch(self) -> int:
        """Return how many batches of this epoch were done before the run was interrupted.

        The generators are put to where the epoch's order of images was drawn.

        Raises:
            ValueError: the epoch had another number of batches then.
        """
        self._looped = self.epoch
        found = self._interrupted
        if found is not None and found["epoch"] == self.epoch:
            if found["num_batches"] != self.num_batches:
                raise ValueError(
                    f"the run that is resumed had {found['num_batches']} batches an epoch, this "
                    f"one has {self.num_batches}: data or configuration differ. To train anew "
                    "choose another OUTPUT_DIR"
                )
            if found["drawn_from"]:
                set_generators(found["drawn_from"])
        # loaders without a seed of their own draw the order from the global generators
        seeded = all(loader is None or loader_seed(loader) for loader in train_loaders(self))
        self._drawn_from = None if seeded else generators()
        return 0 if found is None or found["epoch"] != self.epoch else int(found["step"])

    def _take_interrupted(self) -> dict[str, Any]:
        """Return what the loop itself had saved, and put the generators to where it was."""
        found, self._interrupted = self._interrupted, None
        if found is None or found["epoch"] != self.epoch:
            return {}
        set_generators(found["generators"])
        loop: dict[str, Any] = found["loop"]
        return loop

    def _is_due(self, steps: int = 1) -> bool:
        due = heed(self._interval.due(steps))
        return stop_requested() or due

    def _save_progress(self, loop: dict[str, Any]) -> None:
        """Write a snapshot after a batch; go no further if a signal came. `loop` is its own."""
        self._write((self.epoch, self.batch_idx + 1), loop)
        if stop_requested():
            stop(f"epoch {self.epoch + 1}, batch {self.batch_idx + 1} of {self.num_batches}")

    # --- between epochs

    def _end_epoch(self) -> None:
        """Run `after_epoch`, in which a validation may be cut short."""
        if self._looped == self.epoch and self._validates() and self._models:
            # what it changes must not be in the state that it is begun with again
            place = (self.epoch, self.num_batches)
            before = serialise(self._state(place, {})) if is_main() else b""
            try:
                with at_once():
                    self.after_epoch()
            except (Stopped, KeyboardInterrupt):
                if is_main():
                    write_snapshot(Path(self.output_dir), place, before)
                raise
        else:
            self.after_epoch()
        if self._is_due(steps=0):
            self._write((self.epoch + 1, 0), {})
            if stop_requested():
                stop(f"epoch {self.epoch + 1}")

    def _validates(self) -> bool:
        """Say whether `after_epoch` may take long."""
        return False

    # --- files

    def _state(self, place: Place, loop: dict[str, Any]) -> dict[str, Any]:
        check_weights(self._models, "saved")
        return {
            "epoch": place[0],
            "step": place[1],
            "models": {name: self._model_state(name) for name in self.get_model_names()},
            "drawn_from": self._drawn_from,
            "loop": loop,
            **collect_run_state(self),
        }

    def _write(self, place: Place, loop: dict[str, Any]) -> None:
        if self._models and is_main():
            path = write_snapshot(Path(self.output_dir), place, self._state(place, loop))
            print(f"Snapshot saved to {path}")
        barrier()  # one that stops would take the others along
        self._interval.restart()

    def _prepare_folder(self, frequency: int, keeps_best: bool) -> None:
        """Clean up behind a killed run, and find out whether the checkpoints have room.

        Args:
            frequency: epochs from checkpoint to checkpoint; 0: only the last epoch has one.

        Raises:
            OSError: they have not.
        """
        if not is_main():
            return
        directory = Path(self.output_dir)
        clean_up(directory, self.get_model_names())
        epochs = self.max_epoch - self.start_epoch
        if epochs <= 0 or not self._models:
            return
        snapshots = 0 if self._interval.never else 2
        numbered = 1 + (epochs // frequency if frequency > 0 else 0)
        size = self._checkpoint_size()
        check_room(directory, size, size * (1 + snapshots + numbered + int(keeps_best)))

    def _remove_snapshots(self) -> None:
        if is_main():
            remove_snapshots(Path(self.output_dir))

    def _checkpoint_size(self) -> int:
        """Return the bytes that all models take in files, with full-grown optimisers."""
        size = 0
        for name, model in self._models.items():
            values = model.state_dict().values()
            size += 50_000 + sum(v.nbytes for v in values if isinstance(v, torch.Tensor))
            size += _optimizer_size(self._optims[name])
        return size


def _optimizer_size(optim: Optimizer | None) -> int:
    groups = [] if optim is None else optim.param_groups
    return sum(
        value.nbytes * (3 if group.get("amsgrad") else 2)
        for group in groups
        for value in group["params"]
    )
