"""Every source of weights: OpenAI's archives, downloads, state dicts, damaged files."""

import hashlib
import threading
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

import frozen_clip
from frozen_clip import reference

MODEL = reference.random_clip()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A TorchScript archive, as OpenAI distributes its models."""
    path = tmp_path_factory.mktemp("archive") / "ViT-tiny.pt"
    example = (torch.zeros(1, 3, 32, 32), torch.zeros(1, 77, dtype=torch.long))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(MODEL, example).save(str(path))
    return path


@pytest.fixture
def server(archive, monkeypatch):
    """Serves the archive as OpenAI does: under its SHA-256, known to the clip package."""
    from clip import clip

    handler = partial(QuietHandler, directory=str(archive.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        folder = archive.parent / digest
        folder.mkdir(exist_ok=True)
        (folder / archive.name).write_bytes(archive.read_bytes())
        url = f"http://127.0.0.1:{httpd.server_port}/{{}}/{archive.name}"
        monkeypatch.setitem(clip._MODELS, "ViT-tiny", url.format(digest))
        monkeypatch.setitem(clip._MODELS, "ViT-gone", url.format("0" * 64))
        yield folder / archive.name
        httpd.shutdown()


def assert_is_model(clip):
    state = MODEL.state_dict()
    assert {k.removeprefix("clip."): v.shape for k, v in clip.state_dict().items()} == {
        k: v.shape for k, v in state.items()
    }
    for key, value in clip.clip.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_torchscript_archive(archive, server):
    """One that the clip package knows the SHA-256 of; of others see test_hostile_files.py."""
    assert_is_model(frozen_clip.load(str(archive)))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dict_file(tmp_path, wrap, prefix):
    state = {prefix + key: value for key, value in MODEL.state_dict().items()}
    torch.save(wrap(state), tmp_path / "clip.pt")
    facts = {"activation": "quick_gelu", "heads": (1, 1)}
    assert_is_model(frozen_clip.load(str(tmp_path / "clip.pt"), **facts))


def test_download_is_checked_and_kept(server, tmp_path):
    assert_is_model(frozen_clip.load("ViT-tiny", download_root=tmp_path))
    server.unlink()
    assert_is_model(frozen_clip.load("ViT-tiny", download_root=tmp_path))  # from the disk


def test_damaged_download_is_refused(server, tmp_path):
    server.write_bytes(b"not what was promised")
    with pytest.raises(OSError, match="SHA256"):
        frozen_clip.load("ViT-tiny", download_root=tmp_path)


def test_download_that_fails_says_what_to_do(server, tmp_path):
    with pytest.raises(OSError, match=r"(?s)ViT-gone could not be downloaded.*--backbone small"):
        frozen_clip.load("ViT-gone", download_root=tmp_path)


def test_a_directory_called_like_a_name_does_not_hide_it(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ViT-tiny").mkdir()
    assert_is_model(frozen_clip.load("ViT-tiny", download_root=tmp_path / "cache"))


def test_unknown_name_lists_what_is_allowed():
    with pytest.raises(ValueError, match=r"Did you mean 'ViT-B/16'\?.*small, RN50.*ViT-L/14"):
        frozen_clip.load("vit-b/16")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"\x00" * 100),
        lambda path: path.write_bytes(b""),
        lambda path: torch.save({"weight": torch.zeros(3)}, path),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save({**MODEL.state_dict(), "extra": torch.zeros(1)}, path),
    ],
)
def test_files_that_hold_no_clip(tmp_path, write):
    write(tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"weights\.pt .*CLIP"):
        frozen_clip.load(str(tmp_path / "weights.pt"))


def test_truncated_archive(archive, tmp_path):
    (tmp_path / "half.pt").write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(ValueError, match="could not be read as CLIP weights"):
        frozen_clip.load(str(tmp_path / "half.pt"))


def test_loading_draws_no_random_number(tmp_path):
    torch.save(frozen_clip.described(MODEL), tmp_path / "clip.pt")
    before = torch.get_rng_state()
    frozen_clip.load(str(tmp_path / "clip.pt"))
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_converts_what_openai_converts(tmp_path):
    from clip.model import convert_weights

    torch.save(frozen_clip.described(MODEL), tmp_path / "clip.pt")
    half = frozen_clip.load(str(tmp_path / "clip.pt"), dtype=torch.float16)
    expected = reference.random_clip()
    convert_weights(expected)
    assert {k: v.dtype for k, v in half.clip.state_dict().items()} == {
        k: v.dtype for k, v in expected.state_dict().items()
    }
