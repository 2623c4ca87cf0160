"""The README of an exported method, with a program that uses it."""

TEXT = '''# {trainer}, exported

`{graph}` is the image side: it takes `images` (N, 3, {height}, {width}) and `class_features`
(C, {width_e}) and gives `logits` (N, C), for any N and C. `class_features.npy` has the features of
the {count} classes that `manifest.json` names, one in each row: f is a picture's feature, w theirs,

    {formula}

{seen} All of it is in the graph. {shown}

    {install}

```python
import json
import sys
from pathlib import Path

import numpy as np
{imports}
from PIL import Image, ImageOps

here = Path(__file__).parent
manifest = json.loads((here / "manifest.json").read_text(encoding="utf-8"))
class_features = np.load(here / "class_features.npy")
{load}


def prepare(path):
    """A picture as the array (3, H, W) that the graph takes."""
    how = manifest["preprocess"]
    with open(path, "rb") as file, Image.open(file, formats=how["formats"]) as image:
        if image.mode[0] in "IF" or ";16" in str(image.tile):
            sys.exit(f"{{path}} has more than 8 bits (mode {{image.mode}}): convert it first")
        if how["exif_orientation"] == "apply":
            image = ImageOps.exif_transpose(image)
        image, size = image.convert("RGB"), how["resize_shorter_side"]
    sides = [int(size * side / min(image.size)) for side in image.size]
    if how["resize"] == "squash":
        sides = how["center_crop"][::-1]
    image = image.resize(sides, Image.Resampling[how["interpolation"].upper()])
    (height, width), (x, y) = how["center_crop"], sides
    left, top = round((x - width) / 2), round((y - height) / 2)
    pixels = np.asarray(image.crop((left, top, left + width, top + height)), np.float32)
    return ((pixels / how["divide_by"] - how["mean"]) / how["std"]).transpose(2, 0, 1)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


images = np.stack([prepare(path) for path in sys.argv[1:]]).astype(np.float32)
{run}
for path, row in zip(sys.argv[1:], softmax(logits)):
    print(path, manifest["classes"][row.argmax()], f"{{row.max():.4f}}", sep="\\t")
```
'''

ONNX = {
    "install": "pip install onnxruntime numpy pillow",
    "imports": "import onnxruntime",
    "load": 'graph = onnxruntime.InferenceSession(here / manifest["graph"])',
    "run": (
        'inputs = {"images": images, "class_features": class_features}\n'
        'logits = graph.run(["logits"], inputs)[0]'
    ),
}
PROGRAM = {
    "install": "pip install torch numpy pillow",
    "imports": "import torch",
    "load": 'graph = torch.export.load(here / manifest["graph"]).module()',
    "run": (
        "inputs = torch.from_numpy(images), torch.from_numpy(class_features)\n"
        "with torch.no_grad():\n    logits = graph(*inputs).numpy()"
    ),
}
SEEN = "These are the classes that were trained on, answered by all that the method learned."
UNSEEN = "These are classes that were not trained on, answered by class features alone."


def readme(manifest: dict) -> str:
    """The text for a manifest."""
    graph, answer = manifest["graph"], manifest["answer"]
    _, _, height, width = manifest["inputs"]["images"]
    values = (f"{name} = {value:.6g}" for name, value in answer.items() if name != "logits")
    return TEXT.format(
        trainer=manifest["trainer"],
        graph=graph,
        height=height,
        width=width,
        width_e=manifest["class_features"]["shape"][1],
        count=len(manifest["classes"]),
        formula=f"logits = {answer['logits']}, with {', '.join(values)}",
        seen=SEEN if manifest["seen_classes"] else UNSEEN,
        shown="This names the pictures it is given:",
        **(ONNX if graph.endswith(".onnx") else PROGRAM),
    )
