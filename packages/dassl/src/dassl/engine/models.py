"""The models of a trainer: kept by name, with what trains them, saved and loaded together."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from dassl.utils import check_availability, load_checkpoint, save_checkpoint, tolist_if_not
from dassl.utils.checkpoints import (
    BEST,
    checkpoint_name,
    common_epochs,
    describe,
    restore,
    resume_candidates,
)

from .run_state import collect_run_state, restore_run_state


class ModelKeeper:
    """Named models, each with an optimiser and a schedule if it is trained."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, Optimizer | None] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()

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
        run_state = collect_run_state(self)
        for name in self.get_model_names():
            optim, sched = self._optims[name], self._scheds[name]
            state = {
                "state_dict": self._models[name].state_dict(),
                "epoch": epoch + 1,
                "optimizer": None if optim is None else optim.state_dict(),
                "scheduler": None if sched is None else sched.state_dict(),
                "val_result": None if val_result is None else float(val_result),
                **run_state,
            }
            folder = Path(directory) / name
            save_checkpoint(state, folder, is_best=is_best, model_name=model_name)

    def resume_model_if_exist(self, directory: str) -> int:
        """Go on from the newest checkpoints in `directory`, if all models have one of one epoch.

        Returns:
            The number of epochs that are done; 0 if there is nothing to go on from.
        """
        found = self._find_resumable(Path(directory))
        if not found:
            print(f"No checkpoint in {directory}: training starts from scratch")
            return 0
        for name, (path, checkpoint) in found.items():
            restore(checkpoint, path, self._models[name], self._optims[name], self._scheds[name])
        path, checkpoint = next(iter(found.values()))
        restore_run_state(self, checkpoint)
        done = int(checkpoint["epoch"])
        print(
            f"*** RESUMING after epoch {done} from {', '.join(str(p) for p, _ in found.values())}"
            " (to train anew instead, choose another OUTPUT_DIR or delete this one) ***"
        )
        return done

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

    def _find_resumable(self, directory: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
        """Return path and content of every model's newest checkpoint, all of one epoch."""
        names = self.get_model_names()
        for file in resume_candidates([directory / name for name in names]) if names else []:
            paths = {name: directory / name / file for name in names}
            found = {name: (path, load_checkpoint(path)) for name, path in paths.items()}
            if len({checkpoint.get("epoch") for _, checkpoint in found.values()}) == 1:
                return found
        return {}
