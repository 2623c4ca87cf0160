"""Operations on probabilities and weights."""

from .utils import create_onehot, ema_model_update, sharpen_prob

__all__ = ["create_onehot", "ema_model_update", "sharpen_prob"]
