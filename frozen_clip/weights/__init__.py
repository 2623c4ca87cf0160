"""Where the frozen weights come from: a name, file or directory -> `FrozenCLIP`.

load.py            every kind of name; OpenAI's and the small model
hub.py             hf-hub:OWNER/NAME -> a directory
directories.py     a directory -> its files: weights, shards, config
configs.py         open_clip_config.json, config.json -> properties, sizes, images
files.py           one file -> tensors by name
state_dict.py      tensors -> `clip.model.CLIP`
open_clip.py       open_clip:... -> `FeatureCLIP`
"""

from frozen_clip.weights.files import file_hash
from frozen_clip.weights.load import (
    SMALL_FILE,
    cast_matmul_weights,
    load,
    names,
    weights_file,
    weights_hash,
)
from frozen_clip.weights.open_clip import features_only
from frozen_clip.weights.state_dict import build

__all__ = [
    "SMALL_FILE",
    "build",
    "cast_matmul_weights",
    "features_only",
    "file_hash",
    "load",
    "names",
    "weights_file",
    "weights_hash",
]
