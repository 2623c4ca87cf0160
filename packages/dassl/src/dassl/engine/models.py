"""The models of a trainer: kept by name, with what trains them, saved and loaded together."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from dassl.utils import check_availability, load_checkpoint, save_checkpoint, tolist_if_not
from dassl.utils.checkpoints import BEST, checkpoint_name, common_epochs, describe, restore
from dassl.utils.collectives import from_main

from .finite import check_weights
from .resuming import Progress, find_progress
from .run_state import collect_run_state, restore_run_state


class ModelKeeper:
    """Named models, each with an optimiser and a schedule if it is trained."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, Optimizer | None] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()
        self._interrupted: dict[str, Any] | None = None  # the epoch that is to be gone on with
        self._first_step: int | None = 0  # in TensorBoard's files; None: not known

    def register_model(
        self,
        name: str = "model",
        model: nn.Module | None = None,
        optim: Optimizer | None = None,
        sched: Any = None,
    ) -> None:
        """Take a model, and what trains it, into the care of the trainer.

        Raises:
            ValueError: there is no model, or one of that name already.
        """
        if model is None:
            raise ValueError(f"register_model({name!r}) was called without a model")
        if name in self._models:
            raise ValueError(f"A model called {name!r} is registered already; choose another name")
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names: str | list[str] | None = None) -> list[str]:
        """Return the names of all models, or `names` as a list after checking them."""
        if names is None:
            return list(self._models)
        for name in tolist_if_not(names):
            check_availability(name, list(self._models), what="model")
        return tolist_if_not(names)

    def set_model_mode(self, mode: str = "train", names: str | list[str] | None = None) -> None:
        """Put models into the mode 'train', or 'eval' (also called 'test')."""
        check_availability(mode, ["train", "eval", "test"], what="mode")
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def save_model(
        self,
        epoch: int,
        directory: str,
        is_best: bool = False,
        val_result: float | None = None,
        model_name: str = "",
    ) -> None:
        """Write every model's checkpoint to `directory`/<its name>.

        Args:
            epoch: the epoch, from 0, that was just finished.
            is_best, model_name: see `dassl.utils.save_checkpoint`.
            val_result: accuracy on the validation set, if it was measured.
        """
        check_weights(self._models, "saved")
        run_state = collect_run_state(self)
        for name in self.get_model_names():
            state = {
                **self._model_state(name),
                "epoch": epoch + 1,
                "val_result": None if val_result is None else float(val_result),
                **run_state,
            }
            folder = Path(directory) / name
            save_checkpoint(state, folder, is_best=is_best, model_name=model_name)

    def _model_state(self, name: str) -> dict[str, Any]:
        optim, sched = self._optims[name], self._scheds[name]
        return {
            "state_dict": self._models[name].state_dict(),
            "optimizer": None if optim is None else optim.state_dict(),
            "scheduler": None if sched is None else sched.state_dict(),
        }

    def extra_state(self) -> dict[str, Any]:
        """What a trainer keeps beside its registered models and is to come back on resuming.

        Trainers that keep something say so here, with numbers, text, tensors, and lists and
        dicts of them, and take it back in `load_extra_state`.
        """
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `extra_state` gave in the run that is resumed."""

    def resume_model_if_exist(self, directory: str) -> int:
        """Go on from the newest in `directory` that holds all models: checkpoints or a snapshot.

        What is damaged is named and passed over. From a snapshot, the epoch that was under way
        is gone on with where it was.

        Returns:
            The number of epochs that are done; 0 if there is nothing to go on from.
        """
        found = from_main(lambda: find_progress(Path(directory), self.get_model_names()))
        if found is None:
            print(f"No checkpoint in {directory}: training starts from scratch")
            return 0
        for name, checkpoint in found.models.items():
            parts = self._models[name], self._optims[name], self._scheds[name]
            restore(checkpoint, found.path, *parts)
        restore_run_state(self, found.state)
        self._interrupted = found.state if found.steps else None
        batches = found.state.get("num_batches")
        self._first_step = found.epochs * batches + found.steps if batches else None
        self._announce(found)
        return found.epochs

    def _announce(self, found: Progress) -> None:
        within = f" and {found.steps} batches of the next" if found.steps else ""
        print(
            f"*** RESUMING after epoch {found.epochs}{within} from {found.files}"
            " (to train anew instead, choose another OUTPUT_DIR or delete this one) ***"
        )

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the models' weights from `directory`/<model name>.

        Args:
            epoch: the one to load (epochs counted from 1); by default the newest that all
                models have.

        Raises:
            FileNotFoundError: there is no such checkpoint.
            ValueError: a checkpoint is damaged, or does not fit its model.
        """
        if not directory:
            print("No folder to load a model from is given: the model stays as it is")
            return
        folders = {name: Path(directory) / name for name in self.get_model_names()}
        for name, folder in folders.items():
            path = folder / self._choose_checkpoint(list(folders.values()), epoch)
            if not path.is_file():
                raise FileNotFoundError(f"No checkpoint at {str(path)!r}: {describe(folder)}")
            checkpoint = load_checkpoint(path)
            restore(checkpoint, path, self._models[name])
            result = checkpoint.get("val_result")
            shown = "" if result is None else f", val_result={result:.1f}"
            print(f"Loaded {path} into {name} (epoch={checkpoint.get('epoch')}{shown})")

    def _choose_checkpoint(self, folders: list[Path], epoch: int | None) -> str:
        """Return the file name to load from every folder; it may not exist."""
        if epoch is not None:
            return checkpoint_name(epoch)
        epochs = common_epochs(folders)
        return checkpoint_name(epochs[0]) if epochs else BEST
