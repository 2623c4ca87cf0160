"""`TRAIN.COMPILE`: a training step's forward and backward pass, compiled.

On CUDA they are replayed as CUDA graphs: a step of few images is bound by the launches of its
kernels. The first batch is computed both ways, and a compiler that changes a number is refused.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

Terms = dict[str, Tensor]
Step = Callable[[Tensor, Tensor], tuple[Terms, Tensor]]

# Of the largest gradient of a parameter: rounding in another order, where weights are in half too.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 5e-2}


class CompiledStep:
    """Like the step it is made of: images and labels -> named loss terms and logits.

    The first call is the uncompiled step, which fills what the towers keep, beside the compiled
    one; ValueError if the two differ in a loss term or a gradient by more than `TOLERANCE`, or
    if there is nothing to compile with.
    """

    def __init__(self, step: Step, learner: nn.Module, precision: torch.dtype):
        self.plain, self.learner, self.tolerance = step, learner, TOLERANCE[precision]
        graphs = next(learner.parameters()).device.type == "cuda"
        self.compiled = torch.compile(
            step, dynamic=False, mode="reduce-overhead" if graphs else "default"
        )
        self.checked = False

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Terms, Tensor]:
        if not self.checked:
            self._check(images, labels)
            self.checked = True
        return self._run(images, labels)

    def _run(self, images: Tensor, labels: Tensor) -> tuple[Terms, Tensor]:
        torch.compiler.cudagraph_mark_step_begin()
        terms, logits = self.compiled(images, labels)
        # a graph's outputs are overwritten by its next replay; these are read when printed
        return {name: term.clone() for name, term in terms.items()}, logits.clone()

    def _check(self, images: Tensor, labels: Tensor) -> None:
        expected = self._numbers(self.plain, images, labels)
        try:
            compiled = self._numbers(self._run, images, labels)
        except TorchDynamoException as error:
            raise ValueError(
                f"TRAIN.COMPILE: PyTorch could not compile the step ({type(error).__name__}: "
                f"{str(error).splitlines()[0]}). It needs a C++ compiler such as g++, on a GPU "
                "Triton: install it, or train with TRAIN.COMPILE False"
            ) from error
        for name, got in compiled.items():
            if not expected[name].isfinite().all():
                raise FloatingPointError(
                    f"the {name} of the first batch is infinite or NaN, compiled or not. Set "
                    "PREC to fp32, or train with TRAIN.COMPILE False to see which"
                )
            largest = expected[name].abs().max().clamp(min=1e-6)
            off = (got - expected[name]).abs().max() / largest
            if not off <= self.tolerance:
                raise ValueError(
                    f"TRAIN.COMPILE: the compiled step's {name} differs from the uncompiled "
                    f"one's by {off:.1e} of its size; at most {self.tolerance:.0e} is rounding. "
                    f"PyTorch {torch.__version__} miscompiles it: train with TRAIN.COMPILE False"
                )

    def _numbers(self, step: Step, images: Tensor, labels: Tensor) -> Terms:
        """Loss terms and gradients of a step, which leaves the learner as it was."""
        terms, _ = step(images, labels)
        named = dict(self.learner.named_parameters())
        total: Any = sum(terms.values())
        gradients = torch.autograd.grad(total, list(named.values()))
        losses = {name: term.detach().float() for name, term in terms.items()}
        found = zip(named, gradients, strict=True)
        return losses | {f"gradient of {name}": value.clone() for name, value in found}
