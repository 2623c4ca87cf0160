"""A file of weights or a directory with their config -> tensors, properties, sizes, images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from frozen_clip.weights.configs import Config, hugging_face_config, open_clip_config, read_json
from frozen_clip.weights.files import Weights, hash_of, read_file

OPEN_CLIP, HUGGING_FACE = "open_clip_config.json", "config.json"
# What the weights beside a config are called, the best first.
WEIGHTS = {
    OPEN_CLIP: ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    HUGGING_FACE: (
        *("model.safetensors", "model.safetensors.index.json"),
        *("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ),
}
READERS: dict[str, Callable[[Path], Config]] = {
    OPEN_CLIP: open_clip_config,
    HUGGING_FACE: hugging_face_config,
}


class Files(NamedTuple):
    """The files of one model, several if its weights are in shards."""

    weights: list[Path]
    config: Path | None

    @property
    def all(self) -> list[Path]:
        return [*self.weights, self.config] if self.config else self.weights


def files_of(place: Path) -> Files:
    """The files that `read` reads; ValueError where there is no CLIP."""
    if place.is_file():
        beside = (place.with_name(c) for c, names in WEIGHTS.items() if place.name in names)
        return Files(shards(place), next(filter(Path.is_file, beside), None))
    for config, names in WEIGHTS.items():
        for name in names:
            if (place / config).is_file() and (place / name).is_file():
                return Files(shards(place / name), place / config)
    if (place / HUGGING_FACE).is_file():
        hugging_face_config(place / HUGGING_FACE)  # says if it is of another architecture
    allowed = "; ".join(f"{config} with {' or '.join(names)}" for config, names in WEIGHTS.items())
    raise ValueError(
        f"{place} is no directory of a CLIP. Allowed are: {allowed}. Give one that has them, or "
        "the path of a weights file"
    )


def shards(path: Path) -> list[Path]:
    """The files that an index names, which must be there; any other file by itself."""
    if not path.name.endswith(".index.json"):
        return [path]
    table = read_json(path).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise ValueError(f"{path} is no index of shards: it has no weight_map. Get it again")
    files = [path.with_name(name) for name in sorted({Path(str(v)).name for v in table.values()})]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ValueError(
            f"{path.parent} lacks {', '.join(missing)}, {len(missing)} of the {len(files)} shards "
            f"that {path.name} names: get them"
        )
    return files


def read(place: Path) -> tuple[Weights, Config | None]:
    """The weights in a file or directory, and the config beside them.

    Raises ValueError where there is no CLIP, or where file and config state other properties.
    """
    files = files_of(place)
    config = READERS[files.config.name](files.config) if files.config else None
    parts = [read_file(file) for file in files.weights]
    state = {name: tensor for part in parts for name, tensor in part.state.items()}
    found = parts[0].properties if len(parts) == 1 else None
    if found and config:
        _check_agree(found.activation, found.heads, found.source, config)
    properties = config.properties if config else found
    return Weights(state, properties, hash_of(files.all)), config


def _check_agree(
    activation: str, heads: tuple[int, int] | None, source: str, config: Config
) -> None:
    its = config.properties
    if activation != its.activation or heads not in (None, its.heads):
        raise ValueError(
            f"{its.source} says {its.activation} and heads {its.heads}, {source} {activation} and "
            f"{heads}: correct one of them"
        )
