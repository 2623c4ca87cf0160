"""One run in several processes, as `torchrun` starts them. Without it there is one, of rank 0.

Rank 0 prints and writes. The others are heard only where it does not know what went wrong. The
collectives here must be called by all processes at the same place; with one process they return
what they are given. Tensors on a CPU travel over gloo, those on GPUs over nccl.
"""

import os
import pickle
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
ENVIRONMENT = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
TIMEOUT = timedelta(hours=2)  # of a collective: one process may have to download first
ERROR_TIMEOUT_S = 10.0  # how long a process waits to learn why another one ended


class _State:
    rank = 0
    local_rank = 0
    world_size = 1
    store: Any = None  # where processes leave each other messages; it outlives each of them
    gloo: Any = None  # the group for tensors on CPUs; None: the default one


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


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that torchrun started; do nothing where it did not.

    Within, all but rank 0 print nothing, and 'cuda' is the GPU of this process.
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
            with redirect_stdout(open(os.devnull, "w", errors="ignore")), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
    except Exception as error:  # one traceback is enough
        if not _should_report(repr(error), 1):
            raise SystemExit(1) from None
        _mark_reported()
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
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=TIMEOUT)
    _State.gloo = distributed.new_group(backend="gloo", timeout=TIMEOUT) if cuda else None
    _State.rank, _State.world_size = distributed.get_rank(), distributed.get_world_size()
    default: Any = distributed.distributed_c10d._get_default_store()
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    _State.store = distributed.PrefixStore(f"dassl/{attempt}", default)


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
    _State.rank, _State.local_rank, _State.world_size = 0, 0, 1
    _State.store = _State.gloo = None


def check_gpu() -> None:
    """Check that this process has a GPU of its own.

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


# Why a run ends


def report_once(message: str, code: int) -> None:
    """Print on stderr, once for all processes, why the run ends with the exit code `code`."""
    if _should_report(message, code):
        print(message, file=sys.stderr, flush=True)
        _mark_reported()


def _mark_reported() -> None:
    if world_size() > 1:
        _State.store.set("reported", "1")


def _should_report(message: str, code: int) -> bool:
    """Say whether this process reports the error: rank 0, unless it does not learn of it."""
    if world_size() == 1 or is_main():
        return True
    with suppress(RuntimeError):  # the store ended with rank 0
        _State.store.set("error", pickle.dumps((message, code)))
    _leave_group()
    return not _wait_for("reported")


def _leave_group() -> None:
    """Let processes that wait for this one learn that it has ended."""
    from torch import distributed

    group, _State.gloo = _State.gloo, None  # it ends with its last reference
    distributed.destroy_process_group(group)  # nccl's might wait for the others


def _wait_for(key: str) -> bool:
    end, found = time.monotonic() + ERROR_TIMEOUT_S, False
    try:
        while not (found := _State.store.check([key])) and time.monotonic() < end:
            time.sleep(0.05)
    except RuntimeError:  # rank 0 holds the store where torchrun does not, and has ended
        return not is_main()
    return found


@contextmanager
def _peer_errors() -> Iterator[None]:
    """End this process, with the error of another one, when a collective fails."""
    try:
        yield
    except RuntimeError as error:
        _exit_with_peer_error(error)


def _exit_with_peer_error(error: RuntimeError) -> NoReturn:
    if not is_main():
        raise SystemExit(1) from None
    if not _wait_for("error"):
        raise RuntimeError(
            "another process of this run ended without a word, or they disagree on what comes "
            "next. What was saved is sound: the same command continues"
        ) from error
    message, code = pickle.loads(_State.store.get("error"))
    kinds = {2: ValueError, 3: FloatingPointError}
    if code not in kinds:  # that process shows its traceback itself
        raise SystemExit(code) from None
    raise kinds[code](message.removeprefix("error: ")) from None


# Collectives


def _group(values: "Tensor") -> Any:
    return _State.gloo if values.device.type == "cpu" else None


def all_reduce_sum(values: "Tensor") -> "Tensor":
    """Replace `values` by their sum over all processes, in place."""
    if world_size() > 1:
        from torch import distributed

        with _peer_errors():
            distributed.all_reduce(values, group=_group(values))
    return values


def all_reduce_max(*numbers: int) -> list[int]:
    """Return the largest value of each number over all processes."""
    if world_size() == 1:
        return list(numbers)
    import torch
    from torch import distributed

    values = torch.tensor(numbers)
    with _peer_errors():
        distributed.all_reduce(values, op=distributed.ReduceOp.MAX, group=_State.gloo)
    return [int(value) for value in values]


def all_reduce_min_object(value: T | None) -> T | None:
    """Return the smallest value that is not None of any process."""
    if world_size() == 1:
        return value
    from torch import distributed

    values: list[Any] = [None] * world_size()
    with _peer_errors():
        distributed.all_gather_object(values, value, group=_State.gloo)
    return min((value for value in values if value is not None), default=None)


def all_gather(values: "Tensor") -> "list[Tensor]":
    """Return the values of every process, which must have one shape."""
    import torch
    from torch import distributed

    plain = values.contiguous().flatten().view(torch.uint8)  # gloo does not know every type
    parts = [torch.empty_like(plain) for _ in range(world_size())]
    with _peer_errors():
        distributed.all_gather(parts, plain, group=_group(plain))
    return [part.view(values.dtype).view(values.shape) for part in parts]


def broadcast_object(make: Callable[[], T]) -> T:
    """Return what `make` returns in rank 0, which alone calls it."""
    if world_size() == 1:
        return make()
    from torch import distributed

    made: list[Any] = [make() if is_main() else None]
    with _peer_errors():
        distributed.broadcast_object_list(made, group=_State.gloo)
    return made[0]


def broadcast_tensors(tensors: "Iterable[Tensor]") -> None:
    """Give tensors the values that they have in rank 0."""
    if world_size() == 1:
        return
    from torch import distributed

    for tensor in tensors:
        values = tensor.detach().contiguous()
        with _peer_errors():
            distributed.broadcast(values, 0, group=_group(values))
        tensor.copy_(values)


def barrier() -> None:
    """Wait until all processes are here."""
    all_reduce_max(0)


@contextmanager
def main_first() -> Iterator[None]:
    """Let rank 0 go through the block before the others, which find what it left on disk."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()
