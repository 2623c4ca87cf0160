"""What the processes of a run tell each other; each of these is called by all at the same place.

What is on a CPU goes over gloo, what is on GPUs over nccl. With one process nothing happens.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from .distributed import end_with_others, gloo, is_main, world_size

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@contextmanager
def _in_contact() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        end_with_others(error)


def _group(values: "Tensor") -> Any:
    return gloo() if values.device.type == "cpu" else None


def sum_of_all(values: "Tensor") -> "Tensor":
    """Replace `values` by their sum over all processes, in place."""
    if world_size() > 1:
        from torch import distributed

        with _in_contact():
            distributed.all_reduce(values, group=_group(values))
    return values


def largest_of_all(*numbers: int) -> list[int]:
    """Return each number's largest value in any process."""
    if world_size() == 1:
        return list(numbers)
    import torch
    from torch import distributed

    values = torch.tensor(numbers)
    with _in_contact():
        distributed.all_reduce(values, op=distributed.ReduceOp.MAX, group=gloo())
    return [int(value) for value in values]


def first_of_all(value: T | None) -> T | None:
    """Return the smallest value that is not None in any process."""
    if world_size() == 1:
        return value
    from torch import distributed

    values: list[Any] = [None] * world_size()
    with _in_contact():
        distributed.all_gather_object(values, value, group=gloo())
    return min((value for value in values if value is not None), default=None)


def gathered(values: "Tensor") -> "list[Tensor]":
    """Return the values of every process; they have one shape."""
    import torch
    from torch import distributed

    plain = values.contiguous().flatten().view(torch.uint8)  # gloo does not know every type
    parts = [torch.empty_like(plain) for _ in range(world_size())]
    with _in_contact():
        distributed.all_gather(parts, plain, group=_group(plain))
    return [part.view(values.dtype).view(values.shape) for part in parts]


def from_main(make: Callable[[], T]) -> T:
    """Return what `make` returns in process 0, which alone calls it."""
    if world_size() == 1:
        return make()
    from torch import distributed

    made: list[Any] = [make() if is_main() else None]
    with _in_contact():
        distributed.broadcast_object_list(made, group=gloo())
    return made[0]


def weights_from_main(tensors: "list[Tensor]") -> None:
    """Give tensors the values that they have in process 0."""
    if world_size() > 1:
        from torch import distributed

        for tensor in tensors:
            there = tensor.detach().contiguous()
            with _in_contact():
                distributed.broadcast(there, 0, group=_group(there))
            tensor.copy_(there)


def barrier() -> None:
    """Wait until all processes are here."""
    largest_of_all(0)


@contextmanager
def main_first() -> Iterator[None]:
    """Let process 0 go through the block before the others, which find what it left on disk."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()
