"""MMA: multi-modal adapter, small adapters beside the upper layers of both towers.

CVPR 2024. In every layer from ADAPTER_START to ADAPTER_END a branch reads what the layer's
attention reads, `h = ln_1(x)`, and is added to the layer's output:

    out = layer(x) + scale * (Up relu(S relu(Down h)))

Down and Up are each tower's, S is shared by the two. The parameters learn as if `scale` were 1,
while the gradient that goes on to x is that of the function: so in the published code.

Trained: Down, Up and S of each of these layers, with their biases.
Unseen classes: answered as those of training, by features of the adapted towers.

    J layers with adapters, m width of an adapter, D width of a tower, E joint space
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY
from frozen_clip import FrozenCLIP, Inside, Insides
from training.checks import check_template
from training.method import Method, cosine_logits, normalize
from training.settings import WORDS, MethodSettings, key, number, precision, whole
from training.trainer import CLIPTrainer

LAYER = whole(0, 1000)


@dataclass(frozen=True)
class MMASettings(MethodSettings):
    prec: str = precision("amp")
    text_ctx_init: str = key(
        "", WORDS, "what the prompts say in front of the class name", fixed=True
    )
    adapter_start: int = key(
        4, LAYER, "first layer with an adapter; 0: the input of a tower", fixed=True
    )
    adapter_end: int = key(12, LAYER, "last layer with one, from ADAPTER_START on", fixed=True)
    adapter_dim: int = key(32, whole(1, 2**16), "width of an adapter (m)", fixed=True)
    adapter_scale: float = key(
        0.1,
        number(0, 1e6, open_low=True),
        "of what an adapter adds to its layer's output",
        fixed=True,
    )

    @property
    def layers(self) -> range:
        return range(self.adapter_start, self.adapter_end + 1)

    @property
    def template(self) -> str:
        return f"{self.text_ctx_init.replace('_', ' ').strip()} {{}}.".strip()

    def check(self, clip: FrozenCLIP) -> None:
        check_template(self.template, self.key("TEXT_CTX_INIT"), clip)
        top = min(clip.vision.layers, clip.text.layers)
        if not self.layers or self.adapter_end > top:
            raise ValueError(
                f"{self.key('ADAPTER_START')} is {self.adapter_start} and "
                f"{self.key('ADAPTER_END')} {self.adapter_end}; allowed for {clip.name} are layers "
                f"from 0 (the input) to {top}, which both towers have, the start not above the end"
            )
        widths = clip.vision.width, clip.text.width
        if self.adapter_dim in widths:
            raise ValueError(
                f"{self.key('ADAPTER_DIM')} is {self.adapter_dim}, which is the width of a tower "
                f"of {clip.name}; allowed is any other than {' and '.join(map(str, widths))}, "
                "such as 32: an adapter is meant to be narrow"
            )


class LayerMaps(nn.Module):
    """An affine map per layer: weight (J, D_out, D_in), bias (J, D_out)."""

    def __init__(self, layers: int, width_in: int, width_out: int):
        super().__init__()
        spread = (2 / width_out) ** 0.5  # Kaiming's for a ReLU, by what goes out
        self.weight = nn.Parameter(spread * torch.randn(layers, width_out, width_in))
        self.bias = nn.Parameter(torch.zeros(layers, width_out))

    def forward(self, x: Tensor, place: int) -> Tensor:
        return F.linear(x, self.weight[place], self.bias[place])


class TowerAdapters(nn.Module):
    """Down and Up of one tower."""

    def __init__(self, layers: int, width: int, dim: int):
        super().__init__()
        self.down = LayerMaps(layers, width, dim)
        self.up = LayerMaps(layers, dim, width)


class Adapters(nn.Module):
    """Everything MMA trains."""

    def __init__(self, settings: MMASettings, clip: FrozenCLIP):
        super().__init__()
        layers, dim = len(settings.layers), settings.adapter_dim
        self.text = TowerAdapters(layers, clip.text.width, dim)
        self.vision = TowerAdapters(layers, clip.vision.width, dim)
        self.shared = LayerMaps(layers, dim, dim)

    def branch(self, tower: TowerAdapters, place: int, h: Tensor) -> Tensor:
        """What the adapter of the `place`-th of the J layers makes of rows (..., D)."""
        y = F.relu(tower.down(h, place))
        return tower.up(F.relu(self.shared(y, place)), place)


class MMAMethod(Method):
    """MMA's forward pass around a frozen CLIP."""

    Settings, Learner = MMASettings, Adapters
    settings: MMASettings

    def insides(self, tower: TowerAdapters) -> Insides:
        """What one tower computes beside its layers."""
        return {
            layer: Inside(beside=partial(self.beside, tower, place, layer > 0))
            for place, layer in enumerate(self.settings.layers)
        }

    def beside(self, tower: TowerAdapters, place: int, unscaled: bool, h: Tensor) -> Tensor:
        """Scale times branch, of rows (..., D); with `unscaled`, as in all layers but the input,
        gradients of the branch's parameters are as if the scale were 1.

        In float32, which the sum then has, too: in half precision what is so small would be
        rounded away, while the parameters go on learning as if it had an effect.
        """
        scale = self.settings.adapter_scale
        h = Scale.apply(h, 1.0, scale) if unscaled else h
        y = self.learner.branch(tower, place, h)
        y = y.to(torch.promote_types(y.dtype, torch.float32))
        added: Tensor = Scale.apply(y, scale, 1.0 if unscaled else scale)
        return added

    def text_features(self) -> Tensor:
        """w (C, E), normalized."""
        return normalize(self.clip.text(self.prompts, insides=self.insides(self.learner.text)))

    def image_features(self, images: Tensor) -> Tensor:
        """f (N, E), normalized."""
        rows = self.clip.vision(images, insides=self.insides(self.learner.vision)).edited
        return normalize(rows[:, 0] @ self.clip.vision_projection)

    def classify(self, images: Tensor, w: Tensor, seen: bool) -> Tensor:
        return cosine_logits(self.image_features(images), w, self.clip.scale)


@TRAINER_REGISTRY.register()
class MultiModalAdapter(CLIPTrainer):
    node = "MMADAPTER"
    Method = MMAMethod
    model_name = "adapter_learner"


class Scale(torch.autograd.Function):
    """x times one number on the way forward, its gradient times another on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: float, backward: float) -> Tensor:
        ctx.factor = backward
        return x * forward

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * ctx.factor, None, None
