"""The image side of a method as a file that runs without this repository.

The graph takes images (N, 3, H, W) and class features (C, E) and gives logits (N, C), for any
N and C. It is what the method itself computes, traced: all branches, fusion and scale are in it.
"""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from dassl.utils.images import IMAGE_FORMATS
from frozen_clip.finite import is_finite
from run.record import versions
from tools.predict.classifier import Classifier
from tools.predict.export_readme import readme

MANIFEST, FEATURES = "manifest.json", "class_features.npy"
ONNX, PROGRAM = "image_side.onnx", "image_side.pt2"
TOLERANCE = 1e-2  # of logits, that are up to about 100
NEEDED = ("onnx", "onnxscript")
FIRST_TORCH = (2, 6)  # whose ONNX exporter takes exported programs


class ImageSide(nn.Module):
    """A method as a function of images and class features."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.method = classifier.method
        self.seen = classifier.seen

    def forward(self, images: Tensor, class_features: Tensor) -> Tensor:
        return self.method.classify(images, class_features, self.seen)


Graph: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # images, class features -> logits


class Exported(NamedTuple):
    """The name of the graph's file, and the graph."""

    file: str
    run: Graph


def export(classifier: Classifier, folder: Path) -> str:
    """Write graph, class matrix, manifest and README; check them, and say what was written.

    The classifier must be on the CPU, in fp32. Raises ValueError for a method whose class
    features depend on the image, and for a directory that holds other things.
    """
    w = class_features(classifier)
    check_folder(folder)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        side = ImageSide(classifier).eval()
        graph, run = write_graph(side, classifier, part)
        difference, shown = largest_difference(side, run, classifier)
        content = manifest(classifier, graph, difference)
        np.save(part / FEATURES, w.numpy())
        (part / MANIFEST).write_text(json.dumps(content, indent=1), encoding="utf-8")
        (part / "README.md").write_text(readme(content), encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for name in (ONNX, PROGRAM):  # of an earlier export in the other format
            (folder / name).unlink(missing_ok=True)
        for file in part.iterdir():
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    files = ", ".join((graph, FEATURES, MANIFEST, "README.md"))
    return f"{shown}\n{folder}: {files}"


def class_features(classifier: Classifier) -> Tensor:
    """w (C, E); ValueError for a method whose features or image preparation cannot be exported."""
    if classifier.text_features is None:
        raise ValueError(
            f"{classifier.trainer_name} cannot be exported: its class features depend on the "
            "image, so that there is no class matrix beside an image side"
        )
    strange = set(classifier.cfg.INPUT.TRANSFORMS) & {"instance_norm"}
    if strange or classifier.cfg.INPUT.NO_TRANSFORM:
        raise ValueError("the run prepares images in a way that an export cannot describe")
    return classifier.text_features


def check_folder(folder: Path) -> None:
    """ValueError for a directory with anything but an earlier export."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--export {folder} is a file: give a directory")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise ValueError(f"--export {folder} holds other things: give a new or empty directory")


# The graph


def write_graph(side: ImageSide, classifier: Classifier, folder: Path) -> Exported:
    """As ONNX where that can be written, else as a program of torch.export."""
    height, width = classifier.cfg.INPUT.SIZE
    example = torch.zeros(2, 3, height, width), torch.zeros(3, class_features(classifier).shape[1])
    dynamic = {"images": {0: Dim("N")}, "class_features": {0: Dim("C")}}
    with torch.no_grad():
        program = torch.export.export(side, example, dynamic_shapes=dynamic)
    for node in program.graph.nodes:  # lines of our code, with paths of this machine
        node.meta.pop("stack_trace", None)
    if why_no_onnx():
        print(f"{PROGRAM} is written in place of ONNX: {why_no_onnx()}")
        torch.export.save(program, folder / PROGRAM)
        return Exported(PROGRAM, torch.export.load(folder / PROGRAM).module())
    write_onnx(program, example, dynamic, folder / ONNX)
    return Exported(ONNX, onnx_runner(folder / ONNX) or program.module())


def why_no_onnx() -> str:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed (pip install {' '.join(NEEDED)} onnxruntime)"
    has = tuple(int(part) for part in torch.__version__.split(".")[:2])
    needs = ".".join(map(str, FIRST_TORCH))
    return "" if has >= FIRST_TORCH else f"torch is {torch.__version__}, needed is {needs}"


def write_onnx(
    program: ExportedProgram, example: tuple[Tensor, ...], dynamic: Any, file: Path
) -> None:
    onnx: Any = torch.onnx.export(
        program,
        example,
        dynamo=True,
        verbose=False,
        input_names=["images", "class_features"],
        output_names=["logits"],
        dynamic_shapes=dynamic,  # N and C by name
    )
    onnx.save(file, external_data=False)  # one file: no image tower comes near ONNX's 2 GB


def onnx_runner(file: Path) -> Graph | None:
    """The file as a function; None where onnxruntime is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(images: Tensor, class_features: Tensor) -> Tensor:
        inputs = {"images": images.numpy(), "class_features": class_features.numpy()}
        return torch.from_numpy(session.run(["logits"], inputs)[0])

    return run


def largest_difference(side: ImageSide, run: Graph, classifier: Classifier) -> tuple[float, str]:
    """Between the graph's logits and the method's, on random images.

    RuntimeError if it is large, FloatingPointError if the method's are not finite.
    """
    generator, w = torch.Generator().manual_seed(0), class_features(classifier)
    differences = []
    for count in (1, 5):
        images = torch.randn(count, 3, *classifier.cfg.INPUT.SIZE, generator=generator)
        with torch.no_grad():
            expected, found = side(images, w), run(images, w)
        if not is_finite(expected):
            raise FloatingPointError(
                "the method's logits of random images are infinite or NaN, so that no export can "
                f"be compared with them. {classifier.remedy}"
            )
        differences.append((found - expected).abs().max())
    largest = float(torch.stack(differences).max())  # NaN if one of them is
    if not largest < TOLERANCE:
        raise RuntimeError(f"the exported graph is wrong: its logits differ by up to {largest:g}")
    return largest, f"largest difference to the method's logits on random images: {largest:.2e}"


def manifest(classifier: Classifier, graph: str, difference: float) -> dict[str, object]:
    node, (classes, width) = classifier.cfg.INPUT, class_features(classifier).shape
    normalized = "normalize" in node.TRANSFORMS
    return {
        "trainer": classifier.trainer_name,
        "graph": graph,
        "inputs": {"images": ["N", 3, *node.SIZE], "class_features": ["C", width]},
        "output": {"logits": ["N", "C"]},
        "class_features": {"file": FEATURES, "shape": [classes, width]},
        "classes": classifier.classes,
        "seen_classes": classifier.seen,
        "answer": classifier.method.describe(classifier.seen),
        "preprocess": {
            "formats": list(IMAGE_FORMATS),
            "exif_orientation": node.EXIF_ORIENTATION,
            "resize": node.RESIZE,
            "resize_shorter_side": max(node.SIZE),
            "interpolation": node.INTERPOLATION,
            "center_crop": list(node.SIZE),
            "divide_by": 255,
            "mean": list(node.PIXEL_MEAN) if normalized else [0.0] * 3,
            "std": list(node.PIXEL_STD) if normalized else [1.0] * 3,
        },
        "largest_difference": difference,
        "versions": versions(),
    }
