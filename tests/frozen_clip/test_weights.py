"""OpenAI's archives and downloads, plain state dicts, damaged files."""

import hashlib
import warnings

import pytest
import torch

import frozen_clip
from frozen_clip import reference

MODEL = reference.random_clip()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A TorchScript archive, as OpenAI distributes its models: in a directory named by SHA-256."""
    folder = tmp_path_factory.mktemp("archive")
    example = (torch.zeros(1, 3, 32, 32), torch.zeros(1, 77, dtype=torch.long))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(MODEL, example).save(str(folder / "ViT-tiny.pt"))
    content = (folder / "ViT-tiny.pt").read_bytes()
    path = folder / hashlib.sha256(content).hexdigest() / "ViT-tiny.pt"
    path.parent.mkdir()
    path.write_bytes(content)
    return path


@pytest.fixture
def known(archive, monkeypatch):
    """The package clip knows the archive, and another that is not where it says."""
    from clip import clip

    monkeypatch.setitem(clip._MODELS, "ViT-tiny", archive.as_uri())
    gone = archive.with_name("gone.pt").as_uri()
    monkeypatch.setitem(clip._MODELS, "ViT-gone", gone)
    return archive


def assert_is_model(clip):
    ours, theirs = clip.clip.state_dict(), MODEL.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dict_file(tmp_path, wrap, prefix):
    state = {prefix + key: value for key, value in MODEL.state_dict().items()}
    torch.save(wrap(state), tmp_path / "clip.pt")
    before = torch.get_rng_state()
    path = str(tmp_path / "clip.pt")
    assert_is_model(frozen_clip.load(path, activation="quick_gelu", heads=(1, 1)))
    assert torch.equal(torch.get_rng_state(), before)


def test_archive_and_download(known, tmp_path, monkeypatch):
    """By its path, downloaded by name, and then from the disk, which a directory does not hide."""
    assert_is_model(frozen_clip.load(str(known)))
    assert_is_model(frozen_clip.load("ViT-tiny", download_root=tmp_path / "cache"))
    monkeypatch.setattr("urllib.request.urlopen", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ViT-tiny").mkdir()
    assert_is_model(frozen_clip.load("ViT-tiny", download_root=tmp_path / "cache"))


def test_downloads_that_fail(known, tmp_path):
    with pytest.raises(OSError, match=r"(?s)ViT-gone could not be downloaded.*--backbone small"):
        frozen_clip.load("ViT-gone", download_root=tmp_path)
    content = known.read_bytes()
    try:
        known.write_bytes(b"not what was promised")
        with pytest.raises(OSError, match="SHA256"):
            frozen_clip.load("ViT-tiny", download_root=tmp_path)
    finally:
        known.write_bytes(content)


def test_unknown_name_lists_what_is_allowed():
    with pytest.raises(ValueError, match=r"Did you mean 'ViT-B/16'\?.*small, RN50.*ViT-L/14"):
        frozen_clip.load("vit-b/16")


@pytest.mark.parametrize(
    "write",
    [
        lambda path, _: path.write_bytes(b""),
        lambda path, _: torch.save({"weight": torch.zeros(3)}, path),
        lambda path, _: torch.save([1, 2], path),
        lambda path, _: torch.save({**MODEL.state_dict(), "extra": torch.zeros(1)}, path),
        lambda path, archive: path.write_bytes(archive.read_bytes()[:100_000]),
    ],
)
def test_files_that_hold_no_clip(tmp_path, archive, write):
    write(tmp_path / "weights.pt", archive)
    with pytest.raises(ValueError, match=r"weights\.pt .*CLIP"):
        frozen_clip.load(str(tmp_path / "weights.pt"))


def test_half_precision_converts_what_openai_converts(tmp_path):
    from clip.model import convert_weights

    torch.save(frozen_clip.described(MODEL), tmp_path / "clip.pt")
    half = frozen_clip.load(str(tmp_path / "clip.pt"), dtype=torch.float16)
    expected = reference.random_clip()
    convert_weights(expected)
    assert {k: v.dtype for k, v in half.clip.state_dict().items()} == {
        k: v.dtype for k, v in expected.state_dict().items()
    }
