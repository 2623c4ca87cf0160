"""Files, seeds and messages."""

import json
import os
import platform
import random
import warnings
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from .images import read_image  # noqa: F401  where Dassl.pytorch has it

StrPath = str | os.PathLike[str]


def mkdir_if_missing(dirname: StrPath) -> None:
    """Make a folder and its parents."""
    os.makedirs(dirname, exist_ok=True)


def check_isfile(fpath: StrPath) -> bool:
    """Say whether `fpath` is a file; warn when it is not."""
    found = os.path.isfile(fpath)
    if not found:
        warnings.warn(f"No file found at {os.fspath(fpath)!r}", stacklevel=2)
    return found


def listdir_nohidden(path: StrPath, sort: bool = False) -> list[str]:
    """List the names in a folder that do not begin with a dot; `sort` orders them."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def read_json(fpath: StrPath) -> Any:
    """Read a JSON file (UTF-8)."""
    return json.loads(Path(fpath).read_text(encoding="utf-8"))


def write_json(obj: Any, fpath: StrPath) -> None:
    """Write `obj` as indented JSON (UTF-8), making the folder first."""
    Path(fpath).parent.mkdir(parents=True, exist_ok=True)
    Path(fpath).write_text(json.dumps(obj, indent=4), encoding="utf-8")


def tolist_if_not(x: Any) -> list[Any]:
    """Return `x` if it is a list, a one-item list of it otherwise."""
    return x if isinstance(x, list) else [x]


def get_most_similar_str_to_a_from_b(a: str, b: Iterable[str]) -> str | None:
    """Return the string of `b` that is most like `a`, whatever the case; None if `b` is empty."""
    return max(
        b, key=lambda name: SequenceMatcher(None, a.lower(), name.lower()).ratio(), default=None
    )


def suggestion(requested: str, available: Iterable[str]) -> str:
    """Return ' (do you mean ...?)', or nothing if nothing was asked for or is there."""
    nearest = get_most_similar_str_to_a_from_b(str(requested), available)
    return f" (do you mean {nearest!r}?)" if requested and nearest else ""


def check_availability(requested: str, available: Sequence[str], what: str = "name") -> None:
    """Check that `requested` is one of `available`; `what` says in the message what it names.

    Raises:
        ValueError: it is not; the message holds the nearest available one.
    """
    if requested not in available:
        raise ValueError(
            f"Unknown {what} {requested!r}: expected one of {list(available)}"
            f"{suggestion(requested, available)}"
        )


def set_random_seed(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators, on the CPU and on every GPU."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def collect_env_info() -> str:
    """Describe the machine and the versions at work, one fact a line."""
    import numpy
    import PIL
    import torch
    import torchvision

    cuda = torch.cuda.is_available()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
    facts = {
        "Python": platform.python_version(),
        "Platform": platform.platform(),
        "CPU cores": os.cpu_count(),
        "PyTorch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
        "Pillow": PIL.__version__,
        "CUDA of PyTorch": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version() if cuda else None,
        "GPUs": ", ".join(gpus) or None,
    }
    return "\n".join(f"{name}: {value}" for name, value in facts.items())


def download_url(url: str, dst: StrPath, from_gdrive: bool = False) -> None:
    """Download `url` to the file `dst`, whole or not at all; progress goes to stderr.

    Args:
        from_gdrive: `url` is a Google Drive address, fetched with gdown.
    """
    target = Path(dst)
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"Downloading {url} to {target}")
    part = target.with_name(target.name + ".part")
    try:
        fetch = _fetch_gdrive if from_gdrive else _fetch
        fetch(url, part)
        os.replace(part, target)
    except Exception as error:
        raise OSError(
            f"Could not download {url} ({error}). Fetch it by hand and put it at {target}."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _fetch(url: str, dst: Path) -> None:
    from urllib.request import urlretrieve

    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, disable=None, desc=dst.name) as bar:

        def show(blocks: int, block_size: int, size: int) -> None:
            bar.total = size if size > 0 else None
            bar.update(blocks * block_size - bar.n)

        urlretrieve(url, dst, reporthook=show)


def _fetch_gdrive(url: str, dst: Path) -> None:
    import gdown

    if gdown.download(url, str(dst), quiet=False) is None:
        raise OSError("Google Drive gave no file")
