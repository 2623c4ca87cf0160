"""One run in several processes, as `torchrun` starts them. Without it there is one, of rank 0.

Process 0 is the one that prints and writes; the others are heard only where it does not know what
went wrong. What they tell each other is in `collectives`.
"""

import os
import pickle
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import timedelta
from typing import Any, NoReturn

ENVIRONMENT = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LONGEST = timedelta(hours=2)  # that they wait for one that downloads, say
SECONDS = 10.0  # that one waits for another to say why the run ends


class _State:
    rank = 0
    local_rank = 0
    world_size = 1
    store: Any = None  # where they leave each other words; it outlives each of them
    gloo: Any = None  # the group that talks about what is on CPUs; None: the default one


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
            with redirect_stdout(open(os.devnull, "w", errors="ignore")), warnings.catch_warnings():
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
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=LONGEST)
    _State.gloo = distributed.new_group(backend="gloo", timeout=LONGEST) if cuda else None
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

    group, _State.gloo = _State.gloo, None  # it ends with the last that knows it
    distributed.destroy_process_group(group)  # nccl's might wait for the others


def _wait_for(key: str) -> bool:
    end, found = time.monotonic() + SECONDS, False
    try:
        while not (found := _State.store.check([key])) and time.monotonic() < end:
            time.sleep(0.05)
    except RuntimeError:  # the first process has the store where torchrun has not, and has ended
        return not is_main()
    return found


def gloo() -> Any:
    """Return the group for what is on CPUs, as `torch.distributed` takes it."""
    return _State.gloo


def end_with_others(error: RuntimeError) -> NoReturn:
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
