"""What backbones derive from."""

from torch import nn


class Backbone(nn.Module):
    """A module from images to (N, `out_features`) features; subclasses set `_out_features`."""

    _out_features: int

    @property
    def out_features(self) -> int:
        return self._out_features
