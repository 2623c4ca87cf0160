"""One run in several processes, as `torchrun` starts them. Without it there is one, of rank 0.

What the processes tell each other on a CPU goes over gloo, on GPUs over nccl. Process 0 is the one
that prints and writes; the others are heard only where it does not know what went wrong.
"""

import os
import pickle
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

ENVIRONMENT = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LONGEST = timedelta(hours=2)  # that they wait for one that downloads, say
SECONDS = 10.0  # that one waits for another to say why the run ends


class _State:
    rank = 0
    local_rank = 0
    world_size = 1
    store: Any = None  # where they leave each other words; it outlives each of them


def rank() -> int:
    """Return the number of this process, from 0."""
    return _State.rank


def world_size() -> int:
    """Return the number of processes of this run; 1 outside `processes`."""
    return _State.world_size


def is_main() -> bool:
    """Say whether this is the process that prints and writes."""
    return _State.rank == 0


def local_world_size() -> int:
    """Return how many processes of this run are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if _State.world_size > 1 else 1


# --- beginning and end


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that torchrun started; nothing happens where it did not.

    Within, all but process 0 print nothing, and 'cuda' is the GPU of this process.
    """
    several = all(name in os.environ for name in ENVIRONMENT) and os.environ["WORLD_SIZE"] != "1"
    if not several or _State.world_size > 1:
        yield
        return
    _join()
    try:
        if is_main():
            yield
        else:
            with redirect_stdout(open(os.devnull, "w")), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
    except Exception as error:  # a traceback: one of it is enough
        if not _is_to_speak(repr(error), 1):
            raise SystemExit(1) from None
        _said()
        raise
    finally:
        _leave()


def _join() -> None:
    import torch
    from torch import distributed

    cuda = torch.cuda.is_available()
    _State.local_rank = int(os.environ["LOCAL_RANK"])
    if cuda and _State.local_rank < torch.cuda.device_count():
        torch.cuda.set_device(_State.local_rank)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=LONGEST)
    _State.rank, _State.world_size = distributed.get_rank(), distributed.get_world_size()
    default: Any = distributed.distributed_c10d._get_default_store()
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    _State.store = distributed.PrefixStore(f"dassl/{attempt}", default)


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
    _State.rank, _State.local_rank, _State.world_size, _State.store = 0, 0, 1, None


def check_gpu() -> None:
    """Find out whether this process has a GPU of its own.

    Raises:
        ValueError: there are fewer GPUs than processes.
    """
    import torch

    count = torch.cuda.device_count()
    if world_size() > 1 and local_world_size() > count:
        raise ValueError(
            f"{local_world_size()} processes were started on a machine with {count} GPU"
            f"{'s' * (count > 1)}: each needs one. Start as many with --nproc-per-node, or set "
            "USE_CUDA False"
        )


def report(message: str, code: int) -> None:
    """Say on stderr, once for all processes, why the run ends with the exit code `code`."""
    if _is_to_speak(message, code):
        print(message, file=sys.stderr, flush=True)
        _said()


def _said() -> None:
    if world_size() > 1:
        _State.store.set("said", "1")


def _is_to_speak(message: str, code: int) -> bool:
    """Say whether this process is to say why the run ends: the first one, if it finds out."""
    if world_size() == 1 or is_main():
        return True
    with suppress(RuntimeError):  # the store went with the first process
        _State.store.set("error", pickle.dumps((message, code)))
    _let_go()
    return not _wait_for("said")


def _let_go() -> None:
    """Those that wait for something from this process learn that nothing will come."""
    from torch import distributed

    if "nccl" not in distributed.get_backend_config():  # which may wait for the others itself
        distributed.destroy_process_group()


def _wait_for(key: str) -> bool:
    end, found = time.monotonic() + SECONDS, False
    try:
        while not (found := _State.store.check([key])) and time.monotonic() < end:
            time.sleep(0.05)
    except RuntimeError:  # the first process has the store where torchrun has not, and has ended
        return not is_main()
    return found


def _end(error: RuntimeError) -> NoReturn:
    """End this process because another one has ended, in its words where it left some."""
    if not is_main():
        raise SystemExit(1) from None
    if not _wait_for("error"):
        raise RuntimeError(
            "another process of this run ended without a word, or they disagree on what comes "
            "next. What was saved is sound: the same command continues"
        ) from error
    message, code = pickle.loads(_State.store.get("error"))
    kinds = {2: ValueError, 3: FloatingPointError}
    if code not in kinds:  # it shows its traceback itself
        raise SystemExit(code) from None
    raise kinds[code](message.removeprefix("error: ")) from None


# --- what they tell each other; each of these is called by all of them at the same place


@contextmanager
def _in_contact() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        _end(error)


def sum_of_all(values: "Tensor") -> "Tensor":
    """Replace `values` by their sum over all processes, in place."""
    if world_size() > 1:
        from torch import distributed

        with _in_contact():
            distributed.all_reduce(values)
    return values


def largest_of_all(*numbers: int) -> list[int]:
    """Return each number's largest value in any process."""
    if world_size() == 1:
        return list(numbers)
    import torch
    from torch import distributed

    values = torch.tensor(numbers)
    with _in_contact():
        distributed.all_reduce(values, op=distributed.ReduceOp.MAX)
    return [int(value) for value in values]


def first_of_all(value: T | None) -> T | None:
    """Return the smallest value that is not None in any process."""
    if world_size() == 1:
        return value
    from torch import distributed

    values: list[Any] = [None] * world_size()
    with _in_contact():
        distributed.all_gather_object(values, value)
    return min((value for value in values if value is not None), default=None)


def gathered(values: "Tensor") -> "list[Tensor]":
    """Return the values of every process; they have one shape."""
    import torch
    from torch import distributed

    plain = values.contiguous().flatten().view(torch.uint8)  # gloo does not know every type
    parts = [torch.empty_like(plain) for _ in range(world_size())]
    with _in_contact():
        distributed.all_gather(parts, plain)
    return [part.view(values.dtype).view(values.shape) for part in parts]


def from_main(make: Callable[[], T]) -> T:
    """Return what `make` returns in process 0, which alone calls it."""
    if world_size() == 1:
        return make()
    from torch import distributed

    made: list[Any] = [make() if is_main() else None]
    with _in_contact():
        distributed.broadcast_object_list(made)
    return made[0]


def weights_from_main(tensors: "list[Tensor]") -> None:
    """Give tensors the values that they have in process 0."""
    if world_size() > 1:
        from torch import distributed

        for tensor in tensors:
            there = tensor.detach().contiguous()
            with _in_contact():
                distributed.broadcast(there, 0)
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
