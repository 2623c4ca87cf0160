"""A directory of weights and their config, open_clip's or Hugging Face's -> tensors and facts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from frozen_clip.configs import Config, hugging_face_config, open_clip_config, read_json
from frozen_clip.files import Weights, hash_of, read_file

# config: its reader, and what the weights beside it are called, the best first
KINDS: dict[str, tuple[Callable[[Path], Config], tuple[str, ...]]] = {
    "open_clip_config.json": (
        open_clip_config,
        ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    ),
    "config.json": (
        hugging_face_config,
        (
            *("model.safetensors", "model.safetensors.index.json"),
            *("pytorch_model.bin", "pytorch_model.bin.index.json"),
        ),
    ),
}


class _Place(NamedTuple):
    """The files of a model; config: the one that says its facts, if there is one."""

    weights: list[Path]
    config: Path | None = None

    @property
    def files(self) -> list[Path]:
        return self.weights if self.config is None else [*self.weights, self.config]


def files_of(place: Path) -> list[Path]:
    """What `read` reads; ValueError where there is no CLIP."""
    return _files(place).files


def read(place: Path) -> Weights:
    """The weights in a file or directory, with what a config beside them says.

    Raises ValueError that says what was looked for.
    """
    weights, path = found = _files(place)
    config = KINDS[path.name][0](path) if path else None
    parts = [read_file(file) for file in weights]
    state = {name: tensor for part in parts for name, tensor in part.state.items()}
    facts = parts[0].facts if len(parts) == 1 else None
    whole = Weights(state, facts, hash_of(found.files))
    return _with_config(whole, config) if config else whole


def _files(place: Path) -> _Place:
    if place.is_file():
        return _Place(_shards(place), _config_of(place))
    for config, (_, names) in KINDS.items():
        for name in names:
            if (place / config).is_file() and (place / name).is_file():
                return _Place(_shards(place / name), place / config)
    if (place / "config.json").is_file():
        hugging_face_config(place / "config.json")  # of another architecture?
    wanted = "; ".join(f"{config} with {' or '.join(kind[1])}" for config, kind in KINDS.items())
    raise ValueError(
        f"{place} is no directory of a CLIP. Allowed are: {wanted}. Give one that has them, or "
        "the path of a weights file"
    )


def _config_of(file: Path) -> Path | None:
    """The config beside a file whose name says that it is of that kind."""
    configs = (file.with_name(config) for config, (_, names) in KINDS.items() if file.name in names)
    return next((config for config in configs if config.is_file()), None)


def _shards(path: Path) -> list[Path]:
    """The files that an index names; a file that is none, by itself."""
    if not path.name.endswith(".index.json"):
        return [path]
    table = read_json(path).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise ValueError(f"{path} is no index of shards: it has no weight_map. Get it again")
    shards = [path.with_name(name) for name in sorted({Path(str(v)).name for v in table.values()})]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise ValueError(
            f"{path.parent} lacks {', '.join(missing)}, {len(missing)} of the {len(shards)} shards "
            f"that {path.name} names: get them"
        )
    return shards


def _with_config(found: Weights, config: Config) -> Weights:
    facts = found.facts
    if facts and facts != config.facts._replace(
        source=facts.source, heads=facts.heads and config.facts.heads
    ):
        raise ValueError(
            f"{config.facts.source} says {config.facts.activation} and heads {config.facts.heads}, "
            f"{facts.source} {facts.activation} and {facts.heads}: correct one of them"
        )
    return found._replace(facts=config.facts, expected=config.expected, images=config.images)
