"""The README of an exported method, with a program that uses it."""

from pathlib import Path
from string import Template
from typing import Any

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
SEEN = "These are the classes that were trained on, predicted by all that the method learned."
UNSEEN = "These are classes that were not trained on, predicted by class features alone."


def readme(manifest: dict[str, Any]) -> str:
    """The README for a manifest; its text is export_readme.md."""
    graph, fusion = manifest["graph"], manifest["answer"]
    _, _, height, width = manifest["inputs"]["images"]
    values = (f"{name} = {value:.6g}" for name, value in fusion.items() if name != "logits")
    text = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    return Template(text).substitute(
        trainer=manifest["trainer"],
        graph=graph,
        height=height,
        width=width,
        width_e=manifest["class_features"]["shape"][1],
        count=len(manifest["classes"]),
        formula=f"logits = {fusion['logits']}, with {', '.join(values)}",
        seen=SEEN if manifest["seen_classes"] else UNSEEN,
        **(ONNX if graph.endswith(".onnx") else PROGRAM),
    )
