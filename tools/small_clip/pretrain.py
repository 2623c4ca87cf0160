"""Pre-train the small CLIP: python -m tools.small_clip.pretrain [--seed 0 --steps 2500].

Contrastive training of images against class prompts. A step takes a few images of every seen
combination and one prompt per combination with a random template; the loss is the mean of
image-to-text and text-to-image cross-entropy, where every image of a class is a positive.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import clip
import numpy as np
import torch
import torch.nn.functional as F
from clip.model import CLIP
from torch.nn.attention import SDPBackend, sdpa_kernel

from run.command import Parser, guarded, path, piped, positive, printing_stops_nothing
from tools.small_clip import weights
from tools.small_clip.evaluate import GROUPS, TEMPLATE, accuracy, report
from tools.small_clip.images import augment, draw_pool
from tools.small_clip.templates import random_template, vocabulary
from tools.toy.dataset import SEEN

WARMUP = 200  # steps
FIRST_SCALE = 20.0
# The largest float16 that is at most ln 100: methods that use the constant 100 agree with it.
LAST_LOG_SCALE = 4.6015625


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog="python -m tools.small_clip.pretrain", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=positive, default=2500)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--images", type=positive, default=600, help="drawn per seen class")
    parser.add_argument("--per-class", type=positive, default=2, help="images a class in a step")
    parser.add_argument(
        "--threads", type=positive, default=2, help="torch threads, drawing processes"
    )
    parser.add_argument("--out", type=path, default=weights.WEIGHTS)
    return parser.parse_args(argv)


class Log:
    """Prints, and writes the same lines to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text("", encoding="utf-8")
        self.start = time.monotonic()

    def __call__(self, line: str) -> None:
        print(line, flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def minutes(self) -> float:
        return (time.monotonic() - self.start) / 60


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    return guarded(lambda: pretrain(args), args)


@printing_stops_nothing()
def pretrain(args: argparse.Namespace) -> None:
    if not args.out.parent.is_dir():
        raise FileNotFoundError(f"--out {args.out}: there is no folder {args.out.parent}; make it")
    torch.set_num_threads(args.threads)
    log = Log(args.out.with_suffix(".log"))
    log(f"settings {vars(args) | {'out': args.out.name}}")
    log(f"torch {torch.__version__} numpy {np.__version__}")
    ids = vocabulary()
    pool = draw_pool(SEEN, args.images, args.seed, args.threads)
    log(f"{len(SEEN)} seen classes x {args.images} images, {log.minutes():.1f} min")
    torch.manual_seed(args.seed)
    # Token k is ids[k]. The order is kept, so the end token, which CLIP looks for, stays largest.
    model = weights.build(len(ids))
    log(f"{len(ids)} tokens, {sum(p.numel() for p in model.parameters()):,} parameters")
    train(model, pool, ids, args, log)
    weights.save(model.state_dict(), ids, args.out)
    log(f"saved {args.out.stat().st_size:,} bytes after {log.minutes():.1f} min; as read back:")
    for line in report(weights.load(args.out), strengths=(0.0,)):
        log(line)


def train(
    model: CLIP, pool: torch.Tensor, ids: np.ndarray, args: argparse.Namespace, log: Log
) -> None:
    """Update `model` in place for `args.steps` steps."""
    optimizer = torch.optim.AdamW(decayed(model, args.weight_decay), lr=args.lr, betas=(0.9, 0.98))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: rate(k, args.steps))
    rng = np.random.default_rng(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    labels = torch.arange(len(SEEN)).repeat_interleave(args.per_class)
    for step in range(args.steps):
        with torch.no_grad():
            model.logit_scale.fill_(log_scale(step, args.steps))
        picks = torch.randint(0, pool.shape[1], labels.shape, generator=generator)
        images = augment(pool[labels, picks], generator)
        tokens = compact([random_template(rng).format(name) for name in SEEN], ids)
        loss = contrastive_loss(model, images, tokens, labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        if (step + 1) % 200 == 0:
            log(progress(model, ids, step + 1, loss.item(), log))


def contrastive_loss(
    model: CLIP, images: torch.Tensor, tokens: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Symmetric cross-entropy of N images and C prompts; labels (N,) index the prompts."""
    # Plain attention: on a CPU the fused kernel's backward pass takes twice as long.
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", dtype=torch.bfloat16):
        image, text = model.encode_image(images), model.encode_text(tokens)
    image, text = F.normalize(image.float(), dim=1), F.normalize(text.float(), dim=1)
    logits_NC = model.logit_scale.exp() * image @ text.T
    to_text = F.cross_entropy(logits_NC, labels)
    share_CN = F.one_hot(labels, len(text)).T.float()
    to_image = F.cross_entropy(logits_NC.T, share_CN / share_CN.sum(dim=1, keepdim=True))
    return (to_text + to_image) / 2


def compact(prompts: list[str], ids: np.ndarray) -> torch.Tensor:
    """Token rows as indices into `ids`, cut behind the longest prompt's end. (C, L)."""
    tokens = clip.tokenize(prompts).numpy()
    tokens = tokens[:, : int(tokens.argmax(axis=1).max()) + 1]
    places = np.searchsorted(ids, tokens)
    assert (ids[places] == tokens).all(), "a prompt holds a token outside the vocabulary"
    return torch.from_numpy(places)


def decayed(model: CLIP, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices decay, gains and biases do not, the scale is set by schedule."""
    model.logit_scale.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero, as a factor of the peak learning rate."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / max(1, steps - WARMUP)))


def log_scale(step: int, steps: int) -> float:
    """The logit scale rises from 20 to its final value over the first half of the steps."""
    share = min(1.0, 2 * step / steps)
    return (1 - share) * math.log(FIRST_SCALE) + share * LAST_LOG_SCALE


def progress(model: CLIP, ids: np.ndarray, step: int, loss: float, log: Log) -> str:
    model.eval()
    parts = []
    for group in ("seen", "held-out"):
        names = GROUPS[group]
        tokens = compact([TEMPLATE.format(name) for name in names], ids)
        parts.append(f"{group} {accuracy(model, names, 5, 10_000, tokens=tokens)['class']:.1f}%")
    model.train()
    return f"step {step} loss {loss:.3f} {' '.join(parts)} {log.minutes():.1f} min"


if __name__ == "__main__":
    sys.exit(piped(main))
