"""Everything that is a pickle inside: checkpoints, CLIP's weights, few-shot draws. No code of a
file is run, and no small file takes much memory."""

import io
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import frozen_clip
import train
from dassl.utils import load_checkpoint, load_pretrained_weights, resume_from_checkpoint
from datasets._coop import read_pickle
from tests.helpers.hostile import Hostile, memory_of
from tests.helpers.toy_run import command
from tools import convert_checkpoint

LEARNER = "MultiModalRepresentationLearner"


class Hidden(nn.Module):
    """As TorchScript it makes a file where it is loaded."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self):
        return self.path

    @torch.jit.export
    def __setstate__(self, path: str):
        self.training = False
        made = torch.from_file(path, shared=True, size=4)
        self.path = path + str(made.numel())

    def forward(self, x):
        return x


def scripted(path: Path, marker: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Hidden(str(marker))).save(str(path))


def in_a_state(path: Path, marker: Path, **how) -> None:
    torch.save(
        {"state_dict": {"w": torch.ones(1)}, "epoch": 1, "extra": Hostile(marker)}, path, **how
    )


def by_global(name: bytes):
    """A pickle that calls what it finds under a name that is half allowed."""

    def write(path: Path, marker: Path) -> None:
        call = b"\x80\x02c" + name + b"\n(X" + len(str(marker)).to_bytes(4, "little")
        rewritten(path, call + str(marker).encode() + b"tR.")

    return write


def changing(name: bytes):
    """A good pickle that first sets an attribute of what is found under a name."""
    state = b"(dX\x04\x00\x00\x00evilK\x01s"

    def write(path: Path, marker: Path) -> None:
        rewritten(path, b"", before=b"\x80\x02c" + name + b"\nN" + state + b"\x86b0")

    return write


def rewritten(
    path: Path,
    data: bytes,
    compression=zipfile.ZIP_STORED,
    weights: int = 4,
    before: bytes = b"",
) -> None:
    """A file of torch.save with another pickle in it, or more of it, and another size of its one
    tensor."""
    stream = io.BytesIO()
    torch.save({"state_dict": {"w": torch.ones(1)}, "epoch": 1}, stream)
    with zipfile.ZipFile(stream) as good, zipfile.ZipFile(path, "w", compression) as bad:
        for name in good.namelist():
            content = good.read(name)
            if name.endswith("/data.pkl"):
                content = before + (data or content)
            bad.writestr(name, bytes(weights) if name.endswith("/data/0") else content)


def in_a_tar(path: Path, marker: Path) -> None:
    with tarfile.open(path, "w") as file:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(Hostile(marker), 2)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def doubling(path: Path, marker: Path) -> None:
    """Each of 60 calls of one that old pickles use makes twice as many bytes."""
    hexed = b"c_codecs\nencode\n(" * 60 + b"U\4aaaa" + b"U\3hextR" * 60
    rewritten(path, b"\x80\x02" + hexed + b".")


HOSTILE = {
    "a call": in_a_state,
    "a call, old format": lambda p, m: in_a_state(p, m, _use_new_zipfile_serialization=False),
    "a plain pickle": lambda p, m: p.write_bytes(pickle.dumps(Hostile(m))),
    "a tar": in_a_tar,
    "TorchScript": scripted,
    "os.mkdir": by_global(b"posix\nmkdir"),
    "eval": by_global(b"builtins\neval"),
    "a name behind dots": by_global(b"torch\nserialization.os.mkdir"),
    "an optimiser's helper": by_global(b"torch.optim.optimizer\nos.mkdir"),
    "a changed class": changing(b"collections\nCounter"),
    "a changed function": changing(b"torch._utils\n_rebuild_tensor_v2"),
    "bytes that double": doubling,
    "a table of two billion": lambda p, m: rewritten(p, b"\x80\x02]r\xff\xff\xff\x7f."),
    "a zip bomb": lambda p, m: rewritten(p, b"", zipfile.ZIP_DEFLATED, weights=30 << 20),
}


def draws(path: Path) -> object:
    return read_pickle(str(path), ["train", "val"])


def initial_weights(path: Path) -> None:
    load_pretrained_weights(nn.Linear(1, 1), path)


def run_with(path: Path) -> Path:
    """A run whose newest checkpoint is this file."""
    folder = path.parent / "run" / LEARNER
    folder.mkdir(parents=True)
    return path.rename(folder / "model.pth.tar-1").parents[1]


def resumed(path: Path) -> None:
    resume_from_checkpoint(run_with(path) / LEARNER, nn.Linear(1, 1))


READERS = {
    "load_checkpoint": load_checkpoint,
    "load_pretrained_weights": initial_weights,
    "resume": resumed,
    "CLIP": lambda path: frozen_clip.load(str(path)),
    "few-shot draws": draws,
    "convert_checkpoint": lambda path: convert_checkpoint.convert(path, path.with_name("out.pth")),
}


@pytest.mark.parametrize("write", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_hostile_pickle(read, write, tmp_path):
    marker = tmp_path / "owned"
    write(tmp_path / "file.pth", marker)
    with memory_of(600), pytest.raises(ValueError, match=r"file\.pth|model\.pth\.tar-1"):
        read(tmp_path / "file.pth")
    assert not marker.exists()
    assert not (tmp_path / "out.pth").exists()


def test_torchscript_would_run(tmp_path):
    """Why it is refused: this is what loading it does."""
    scripted(tmp_path / "file.pt", tmp_path / "owned")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(str(tmp_path / "file.pt"))
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["a call", "TorchScript", "a zip bomb"])
@pytest.mark.parametrize("how", ["--model-dir", "--resume", "OUTPUT_DIR", "MODEL.BACKBONE.NAME"])
def test_by_the_command(how, name, toy, tmp_path, capsys):
    marker, out = tmp_path / "owned", tmp_path / "out"
    HOSTILE[name](tmp_path / "file.pth", marker)
    if how == "MODEL.BACKBONE.NAME":
        arguments = command(toy, "MMRL", out, opts=(how, str(tmp_path / "file.pth")))
    else:
        run = str(run_with(tmp_path / "file.pth"))
        flags = {"--model-dir": ("--eval-only", how, run), "--resume": (how, run)}.get(how, ())
        arguments = command(toy, "MMRL", out, *flags, opts=() if flags else (how, run))
    # in its own folder a run passes over a damaged checkpoint, and says so
    assert train.main(arguments) == (0 if how == "OUTPUT_DIR" else 2)
    printed = capsys.readouterr()
    assert printed.err.count("\n") < 6
    assert ".pth" in (printed.err if how in ("--model-dir", "MODEL.BACKBONE.NAME") else printed.out)
    assert not marker.exists()


# Plain data that is not what it should be


def state(**tensors):
    return {"state_dict": tensors, "epoch": 1}


NOT_TENSORS = {
    "numbers": state(w=5),
    "no names": {"state_dict": {1: torch.ones(1)}, "epoch": 1},
    "sparse": state(w=torch.ones(2, 2).to_sparse()),
    "larger than it is": state(w=torch.ones(1, dtype=torch.float16).expand(10**12)),
    "a list": [torch.ones(1)],
}


@pytest.mark.parametrize("content", NOT_TENSORS.values(), ids=NOT_TENSORS)
def test_what_is_no_state(content, toy, tmp_path, capsys):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=r"file\.pth"):
        frozen_clip.load(str(tmp_path / "file.pth"))
    with pytest.raises(ValueError, match=r"file\.pth"):
        convert_checkpoint.convert(tmp_path / "file.pth", tmp_path / "out.pth", trainer="MMRL")
    run = run_with(tmp_path / "file.pth")
    flags = ("--eval-only", "--model-dir", str(run))
    assert train.main(command(toy, "MMRL", tmp_path / "out", *flags)) == 2
    assert "model.pth.tar-1" in capsys.readouterr().err


def test_a_pointer_that_leads_out_is_not_followed(tmp_path):
    torch.save({"state_dict": nn.Linear(1, 1).state_dict(), "epoch": 9}, tmp_path / "model-x")
    (tmp_path / "run").mkdir()
    for name in ("../model-x", str(tmp_path / "model-x"), "\xff\0", "x" * 10_000):
        (tmp_path / "run/checkpoint").write_text(name)
        with pytest.raises(FileNotFoundError, match="No checkpoint"):
            resume_from_checkpoint(tmp_path / "run", nn.Linear(1, 1))


def test_metadata_of_safetensors(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"w": torch.ones(1)}, file, metadata={"epoch": "__import__('os')"})
    with pytest.raises(ValueError, match=r"a\.safetensors says that it is of epoch"):
        convert_checkpoint.convert(file, tmp_path / "out.pth")
