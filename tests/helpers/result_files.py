"""Logs, results.json and tables as text, for the tests of reading them."""

import json
from pathlib import Path

EPOCHS = "".join(
    f"epoch [{epoch}/3] batch [{batch}/2] time 0.1 (0.1) loss 1.2 (1.3) lr 1.0000e-03 eta 0:00:01\n"
    for epoch in (1, 2, 3)
    for batch in (1, 2)
)


def block(correct: int, total: int = 8100, f1: float = 80.2) -> str:
    accuracy = 100 * correct / total
    return (
        f"=> result\n* total: {total:,}\n* correct: {correct:,}\n* accuracy: {accuracy:.1f}%\n"
        f"* error: {100 - accuracy:.1f}%\n* macro_f1: {f1:.1f}%\n"
    )


def trained(correct: int, total: int = 8100) -> str:
    return f"arguments\n{EPOCHS}Finish training\nDeploy the last model\n{block(correct, total)}"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def results(correct: int, total: int = 8100, /, **changes: object) -> str:
    accuracy = 100 * correct / total
    values = {
        "accuracy": accuracy,
        "error_rate": 100 - accuracy,
        "macro_f1": 80.25,
        "total": total,
        "correct": correct,
        "complete": True,
    }
    return json.dumps(values | changes)


def seeds(directory: Path, *corrects: int, total: int = 8100) -> Path:
    for seed, correct in enumerate(corrects, 1):
        write(directory / f"seed{seed}" / "log.txt", trained(correct, total))
    return directory


def place(root: Path, split: str, dataset: str, seed: int, method: str = "MMRL/vit_b16") -> Path:
    return root / split / dataset / "shots_16" / method / f"seed{seed}"


def base_and_new(
    root: Path,
    dataset: str,
    seed: int,
    base: float,
    new: float,
    method: str = "MMRL/vit_b16",
    **changes: object,
) -> None:
    """One seed's two runs, with results in percent of 10,000 images."""
    for split, percent in (("train_base", base), ("test_new", new)):
        folder = place(root / "base2new", split, dataset, seed, method)
        write(folder / "results.json", results(round(100 * percent), 10_000, **changes))


def rows(text: str) -> dict[str, list[str]]:
    """Cells of the lines of a table by the first one, which must be unique in `text`."""
    cells = (
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.split("\n")
    )
    return {first: rest for first, *rest in (line for line in cells if line)}


def config_text(tree: dict, indent: str = "") -> str:
    """A config as logs of Dassl print it."""
    lines = [
        f"{indent}{key}:\n{config_text(value, indent + '  ')}"
        if isinstance(value, dict)
        else f"{indent}{key}: {value}\n"
        for key, value in sorted(tree.items())
    ]
    return "".join(lines)


def foreign(
    correct: int,
    dataset: str,
    trainer: str,
    classes: str = "all",
    *,
    shots: int = 16,
    seed: int = 1,
    total: int = 1000,
    **settings: object,
) -> str:
    """A log of other code, with its config and a result without macro_f1; `settings` of OPTIM."""
    stars = "*" * 12
    config = {
        "DATASET": {"NAME": dataset, "NUM_SHOTS": shots, "SUBSAMPLE_CLASSES": classes},
        "MODEL": {"BACKBONE": {"NAME": "ViT-B/16", "PRETRAINED": True}, "INIT_WEIGHTS": ""},
        "OPTIM": {"BETAS": (0.9, 0.999), "LR": 0.002, "STEPSIZE": (-1,)} | settings,
        "OUTPUT_DIR": f"output/{dataset}/{seed}",
        "SEED": seed,
        "TRAINER": {"NAME": trainer},
    }
    head = f"{stars}\n** Arguments **\n{stars}\nload_epoch: None\n{stars}\n** Config **\n{stars}\n"
    result = block(correct, total).partition("* macro_f1")[0]
    return f"{head}{config_text(config)}Collecting env info ...\n** System info **\n{result}"
