"""torchvision's residual networks without their classifier."""

from typing import Any

from torch import Tensor, nn
from torchvision.models import get_model

from .backbone import Backbone
from .build import BACKBONE_REGISTRY


class ResNet(Backbone):
    """From (N, 3, H, W) images to (N, `out_features`) features."""

    def __init__(self, name: str, pretrained: bool) -> None:
        """`pretrained`: with torchvision's ImageNet weights, fetched once and kept by torch."""
        super().__init__()
        self.body = get_model(name, weights="DEFAULT" if pretrained else None)
        self._out_features = self.body.fc.in_features
        self.body.fc = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@BACKBONE_REGISTRY.register()
def resnet18(pretrained: bool = True, **kwargs: Any) -> ResNet:
    return ResNet("resnet18", pretrained)


@BACKBONE_REGISTRY.register()
def resnet34(pretrained: bool = True, **kwargs: Any) -> ResNet:
    return ResNet("resnet34", pretrained)


@BACKBONE_REGISTRY.register()
def resnet50(pretrained: bool = True, **kwargs: Any) -> ResNet:
    return ResNet("resnet50", pretrained)


@BACKBONE_REGISTRY.register()
def resnet101(pretrained: bool = True, **kwargs: Any) -> ResNet:
    return ResNet("resnet101", pretrained)


@BACKBONE_REGISTRY.register()
def resnet152(pretrained: bool = True, **kwargs: Any) -> ResNet:
    return ResNet("resnet152", pretrained)
