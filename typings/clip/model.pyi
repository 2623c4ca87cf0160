# What `frozen_clip` reads of CLIP's modules. The package `clip` has no annotations, and to
# a type checker the submodules of a torch module are otherwise tensors as well as modules.
from collections.abc import Iterator

import torch
from torch import Tensor, nn

class QuickGELU(nn.Module): ...

class _MLP(nn.Sequential):
    c_fc: nn.Linear
    gelu: nn.Module
    c_proj: nn.Linear

class ResidualAttentionBlock(nn.Module):
    attn: nn.MultiheadAttention
    ln_1: nn.LayerNorm
    ln_2: nn.LayerNorm
    mlp: _MLP
    attn_mask: Tensor | None

class _Blocks(nn.Sequential):
    def __getitem__(self, index: int) -> ResidualAttentionBlock: ...  # type: ignore[override]  # one is asked for at a time
    def __iter__(self) -> Iterator[ResidualAttentionBlock]: ...  # type: ignore[override]  # see above

class Transformer(nn.Module):
    resblocks: _Blocks

class VisionTransformer(nn.Module):
    input_resolution: int
    conv1: nn.Conv2d
    class_embedding: nn.Parameter
    positional_embedding: nn.Parameter
    ln_pre: nn.LayerNorm
    transformer: Transformer
    ln_post: nn.LayerNorm
    proj: nn.Parameter
    def __call__(self, images: Tensor) -> Tensor: ...

class AttentionPool2d(nn.Module):
    num_heads: int
    positional_embedding: nn.Parameter

class ModifiedResNet(nn.Module):
    input_resolution: int
    attnpool: AttentionPool2d
    def __call__(self, images: Tensor) -> Tensor: ...

class CLIP(nn.Module):
    context_length: int
    visual: VisionTransformer | ModifiedResNet
    transformer: Transformer
    token_embedding: nn.Embedding
    positional_embedding: nn.Parameter
    ln_final: nn.LayerNorm
    text_projection: nn.Parameter
    logit_scale: nn.Parameter
    def __init__(
        self,
        embed_dim: int,
        image_resolution: int,
        vision_layers: tuple[int, int, int, int] | int,
        vision_width: int,
        vision_patch_size: int | None,
        context_length: int,
        vocab_size: int,
        transformer_width: int,
        transformer_heads: int,
        transformer_layers: int,
    ) -> None: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def encode_image(self, image: Tensor) -> Tensor: ...
    def encode_text(self, text: Tensor) -> Tensor: ...
    def build_attention_mask(self) -> Tensor: ...
