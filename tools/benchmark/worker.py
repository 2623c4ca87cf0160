"""One measurement, in a process of its own: one side, method, precision and size.

    python -m tools.benchmark.worker '{"side": "ours", "method": "MMRL", ...}'

prints one line of JSON: what `Case` describes -> what `Measured` holds.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, reference
from frozen_clip.weights.load import cast_matmul_weights
from run.config import default_config, merge_file
from tools.sweep.protocols import CONFIGS, known_methods, variant
from training.compiled import CompiledStep
from training.feature_fit import FeatureFit, Features
from training.method import Method
from training.settings import MethodSettings

VIT_B16 = (512, 224, 12, 768, 16, 77, 49408, 512, 8, 12)  # arguments of clip.model.CLIP
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# How many words a class name has, roughly as in ImageNet's list.
WORDS_PER_NAME = (0.35, 0.40, 0.17, 0.06, 0.02)
Step = Callable[[Tensor, Tensor], Tensor]


class Case(NamedTuple):
    side: str  # 'ours', 'compiled' (ours with TRAIN.COMPILE) or 'plain'
    method: str  # a trainer's name
    precision: str  # 'fp32', or autocast: 'bf16', 'fp16'
    classes: int
    batch: int
    steps: int
    device: str


class Measured(NamedTuple):
    """`step`: median seconds of a training step; `images`: per second in evaluation, text
    features given; `memory`: peak bytes above the loaded model; `loss` of the first step and
    `gradient`, the norm of all its gradients; `floor`: the seconds that a step's matmuls
    would take at the speed of one large matrix product."""

    step: float
    images: float
    memory: int
    loss: float
    gradient: float
    floor: float


def class_names(count: int) -> list[str]:
    """Names of whole words of CLIP's vocabulary, seeded."""
    from clip.simple_tokenizer import SimpleTokenizer

    words = [w[:-4] for w in SimpleTokenizer().encoder if w.endswith("</w>") and w[:-4].isalpha()]
    generator = torch.Generator().manual_seed(0)
    share = torch.tensor(WORDS_PER_NAME)
    lengths = torch.multinomial(share, count, replacement=True, generator=generator) + 1
    picks = torch.randint(len(words), (count, len(WORDS_PER_NAME)), generator=generator)
    return [
        " ".join(words[i] for i in row[:length])
        for row, length in zip(picks.tolist(), lengths.tolist(), strict=True)
    ]


def settings_of(trainer: str, classnames: Sequence[str]) -> MethodSettings:
    """A method's settings as its authors' config for ViT-B/16 has them, but for dropout, whose
    masks two sides cannot share, and sentences about each class, which are drawn."""
    file = CONFIGS / "trainers" / trainer / f"{variant(trainer)}.yaml"
    cfg = default_config()
    merge_file(cfg, file)
    settings: Any = TRAINER_REGISTRY.get(trainer).settings_of(cfg)
    if hasattr(settings, "dropout_rate"):
        settings = replace(settings, dropout_rate=0.0)
    if hasattr(settings, "sentences"):
        with NamedTemporaryFile("w", suffix=".json", delete=False) as drawn:
            json.dump({name: [f"a photo of a {name}."] * 50 for name in classnames}, drawn)
        settings = replace(settings, sentences=drawn.name)
    return settings


def with_steps() -> list[str]:
    """The trainers that learn by steps of gradient descent."""
    default_config()  # registers them
    known = {name: TRAINER_REGISTRY.get(name) for name in known_methods()}
    return [n for n, cls in known.items() if cls.model_name and not issubclass(cls, FeatureFit)]


def views_of(trainer: str) -> int:
    return TRAINER_REGISTRY.get(trainer).views


def build_method(case: Case) -> Method:
    """The method around a random CLIP of ViT-B/16's size; the same for both sides."""
    from clip.model import CLIP

    names = class_names(case.classes)
    settings, cls = settings_of(case.method, names), TRAINER_REGISTRY.get(case.method).Method
    kind = reference.PlainCLIP if case.side == "plain" else FrozenCLIP
    torch.manual_seed(0)
    clip = kind(CLIP(*VIT_B16).to(case.device), "random ViT-B/16")
    if case.side != "plain" and case.precision != "fp32":  # as `frozen_clip.load` does
        cast_matmul_weights(clip.clip, DTYPES[case.precision])
    torch.manual_seed(1)
    with autocast(case):
        method = cls(settings, clip, names, "a photo of a {}.").to(case.device)
    if hasattr(method, "remember"):  # a cache of 16 images for each class
        labels = torch.arange(case.classes, device=case.device).repeat(16)
        random = torch.randn(len(labels), clip.embed_dim, device=case.device)
        method.remember([Features(random, labels)])
    return method


class Memory:
    """Peak above what is held when it is made: of the allocator on CUDA, else of the process."""

    def __init__(self, device: str):
        self.cuda = device == "cuda"
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            self.start = self._status("VmRSS")

    def peak(self) -> int:
        now = torch.cuda.max_memory_allocated() if self.cuda else self._status("VmHWM")
        return now - self.start

    @staticmethod
    def _status(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(case: Case) -> Measured:
    method = build_method(case)
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(case.batch, 3, 224, 224, generator=generator).to(case.device)
    labels = torch.randint(case.classes, (case.batch,), generator=generator).to(case.device)
    if views_of(case.method) > 1:
        images = torch.stack([images, images.flip(-1)])
    optimizer = torch.optim.AdamW(method.learner.parameters(), lr=1e-3, weight_decay=5e-4)
    take_step = step_of(case, method)
    memory = Memory(case.device)
    seconds, loss, gradient = [], 0.0, 0.0
    for step in range(case.steps + 1):  # the first warms up
        start = clock(case.device)
        optimizer.zero_grad()
        value = take_step(images, labels)
        if step == 0:
            loss, gradient = value.item(), total_norm(method)
        optimizer.step()
        seconds.append(clock(case.device) - start)
    step_time = torch.tensor(seconds[1:]).median().item()
    evaluation = images_per_second(case, method)
    peak = memory.peak()
    floor = 0.0 if case.side == "plain" else floor_of(case, take_step, images, labels)
    return Measured(step_time, evaluation, peak, loss, gradient, floor)


def autocast(case: Case) -> AbstractContextManager[None]:
    enabled = case.precision != "fp32"
    return torch.autocast(case.device, DTYPES[case.precision], enabled=enabled)


def step_of(case: Case, method: Method) -> Step:
    """The step of a side: from images and labels to the loss, the gradients left behind."""

    def terms(images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        with autocast(case):
            outputs = method(images)
            return method.losses(outputs, labels), method.training_logits(outputs)

    forward = terms
    if case.side == "compiled":
        forward = CompiledStep(terms, method.learner, DTYPES[case.precision])
    return lambda images, labels: method.backward(forward(images, labels)[0], lambda loss: loss)


def floor_of(case: Case, step: Step, images: Tensor, labels: Tensor, size: int = 4096) -> float:
    """Seconds of a step's matmuls, as torch counts them, at the speed of one large matmul."""
    with FlopCounterMode(display=False) as counter:
        step(images, labels)
    a = torch.randn(size, size, device=case.device, dtype=DTYPES[case.precision])
    seconds = []
    for _ in range(4):
        start = clock(case.device)
        torch.mm(a, a)
        seconds.append(clock(case.device) - start)
    return counter.get_total_flops() / (2 * size**3) * min(seconds)


def total_norm(method: Method) -> float:
    found = [p.grad.norm() for p in method.learner.parameters() if p.grad is not None]
    return torch.stack(found).norm().item()


@torch.inference_mode()
def images_per_second(case: Case, method: Method) -> float:
    """Of an evaluation, the text features given: both sides compute these once."""
    images = torch.randn(case.batch, 3, 224, 224, device=case.device)
    method.eval()
    seconds = []
    with autocast(case):
        w = method.text_features()
        for _ in range(3):
            start = clock(case.device)
            method.classify(images, w, seen=True)
            seconds.append(clock(case.device) - start)
    return case.batch / min(seconds)


if __name__ == "__main__":
    print(json.dumps(measure(Case(**json.loads(sys.argv[1])))._asdict()))
