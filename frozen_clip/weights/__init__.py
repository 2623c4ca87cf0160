"""Where the frozen weights come from: a name, file or directory -> `FrozenCLIP`.

load.py            every kind of name; OpenAI's and the small model
hub.py             hf-hub:OWNER/NAME -> a directory
directories.py     a directory -> its files: weights, shards, config
configs.py         open_clip_config.json, config.json -> properties, sizes, images
files.py           one file -> tensors by name
state_dict.py      tensors -> `clip.model.CLIP`
open_clip.py       open_clip:... -> `FeatureCLIP`
"""
