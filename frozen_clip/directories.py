"""A directory of weights and their config, open_clip's or Hugging Face's -> tensors and facts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from frozen_clip.configs import Config, hugging_face_config, open_clip_config, read_json
from frozen_clip.files import Weights, read_file, sha256
from frozen_clip.openai_names import is_hugging_face

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


def read(place: Path) -> Weights:
    """The weights in a file or directory, with what a config beside them says.

    Raises ValueError that says what was looked for.
    """
    return _read_directory(place) if place.is_dir() else _read_beside_config(place)


def _read_directory(folder: Path) -> Weights:
    for config, (read_config, names) in KINDS.items():
        for name in names:
            if (folder / config).is_file() and (folder / name).is_file():
                found = read_config(folder / config)
                return _with_config(_read_weights(folder / name), found)
    if (folder / "config.json").is_file():
        hugging_face_config(folder / "config.json")  # of another architecture?
    wanted = "; ".join(
        f"{config} with {' or '.join(names)}" for config, (_, names) in KINDS.items()
    )
    raise ValueError(
        f"{folder} is no directory of a CLIP. Allowed are: {wanted}. Give one that has them, or "
        "the path of a weights file"
    )


def _read_beside_config(path: Path) -> Weights:
    """A file of its own, or one whose name says that the config beside it is its own."""
    found = read_file(path)
    for config, (read_config, names) in KINDS.items():
        of_this_kind = is_hugging_face(found.state) == (config == "config.json")
        if of_this_kind and path.name in names and (path.parent / config).is_file():
            return _with_config(found, read_config(path.parent / config))
    return found


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


def _read_weights(path: Path) -> Weights:
    """A file, or the shards of an index."""
    if not path.name.endswith(".index.json"):
        return read_file(path)
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
    state = {}
    for shard in shards:
        state.update(read_file(shard).state)
    lost = sorted(table.keys() - state.keys())
    if lost:
        raise ValueError(f"the shards of {path} lack {lost[0]}: get them again")
    return Weights(state, None, sha256(shards))
