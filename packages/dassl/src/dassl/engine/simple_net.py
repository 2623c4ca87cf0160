"""The model of trainers that bring none of their own."""

from typing import Any

from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.modeling import build_backbone, build_head


class SimpleNet(nn.Module):
    """Backbone, head if MODEL.HEAD.NAME is set, linear classifier if there are classes."""

    def __init__(self, cfg: CfgNode, model_cfg: CfgNode, num_classes: int, **kwargs: Any) -> None:
        """`kwargs` go to the backbone."""
        super().__init__()
        node = model_cfg.BACKBONE
        self.backbone = build_backbone(
            node.NAME, verbose=cfg.VERBOSE, pretrained=node.PRETRAINED, **kwargs
        )
        self._fdim: int = self.backbone.out_features
        self.head = self._build_head(cfg, model_cfg.HEAD)
        self.classifier = nn.Linear(self._fdim, num_classes) if num_classes > 0 else None

    def _build_head(self, cfg: CfgNode, node: CfgNode) -> nn.Module | None:
        if not (node.NAME and node.HIDDEN_LAYERS):
            return None
        head: Any = build_head(
            node.NAME,
            verbose=cfg.VERBOSE,
            in_features=self._fdim,
            hidden_layers=node.HIDDEN_LAYERS,
            activation=node.ACTIVATION,
            bn=node.BN,
            dropout=node.DROPOUT,
        )
        self._fdim = head.out_features
        return head

    @property
    def fdim(self) -> int:
        """The width of the features before the classifier."""
        return self._fdim

    def forward(self, x: Tensor, return_feature: bool = False) -> Any:
        """From (N, 3, H, W) images to (N, C) logits, or (logits, features) on request."""
        features = self.backbone(x)
        if self.head is not None:
            features = self.head(features)
        if self.classifier is None:
            return features
        logits = self.classifier(features)
        return (logits, features) if return_feature else logits
