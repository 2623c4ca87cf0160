"""A stack of linear layers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from dassl.utils import check_availability

from .build import HEAD_REGISTRY

_ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


class MLP(nn.Module):
    """Linear, batch norm, activation, dropout for every width; to (N, `out_features`)."""

    def __init__(
        self,
        in_features: int,
        hidden_layers: Sequence[int],
        activation: str = "relu",
        bn: bool = True,
        dropout: float = 0.0,
    ) -> None:
        """
        Raises:
            ValueError: no layers, or an unknown activation.
        """
        super().__init__()
        if not hidden_layers:
            raise ValueError("The head mlp needs widths in MODEL.HEAD.HIDDEN_LAYERS")
        check_availability(activation, list(_ACTIVATIONS), what="MODEL.HEAD.ACTIVATION")
        self.out_features = hidden_layers[-1]
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise([in_features, *hidden_layers]):
            layers.append(nn.Linear(width_in, width_out))
            if bn:
                layers.append(nn.BatchNorm1d(width_out))
            layers.append(_ACTIVATIONS[activation]())
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@HEAD_REGISTRY.register()
def mlp(in_features: int = 2048, hidden_layers: Sequence[int] = (), **kwargs: Any) -> MLP:
    """`kwargs`: activation, bn, dropout."""
    return MLP(in_features, hidden_layers, **kwargs)
