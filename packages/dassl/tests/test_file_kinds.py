"""Files that are not what their name says are named for what they are; the advice works."""

import gzip
import io
import pickle
import shutil
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import save
from torch import nn

from dassl.utils import load_checkpoint, what_it_is


def saved(**options) -> bytes:
    stream = io.BytesIO()
    torch.save({"state_dict": {"w": torch.ones(3000)}, "epoch": 2}, stream, **options)
    return stream.getvalue()


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model.pth.tar-2", content)
    return stream.getvalue()


def tarred(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("model.pth.tar-2")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


GOOD = saved()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n"
PAGE = b"\n<!DOCTYPE html><html><TITLE>Google Drive - Quota\n exceeded</TITLE>"
KINDS = {
    "page": (PAGE, r"a web page \('Google Drive - Quota exceeded'\), not the file: fetch it again"),
    "page of Windows": (b"\xef\xbb\xbf<html>", "a web page, not the file"),
    "page of XML": (b'<?xml version="1.0"?><Error>', "a web page, not the file"),
    "pointer": (POINTER, "a Git LFS pointer, not the file: fetch that with 'git lfs pull'"),
    "text": (b"Entry not found", r"a text \('Entry not found'\), not the file: fetch it again"),
    "empty": (b"", "damaged, it is empty: fetch it again"),
    "zeros": (bytes(9000), "damaged, it begins with zeros"),
    "three bytes": (GOOD[:3], "damaged, its end is missing or broken: fetch it again"),
    "half": (GOOD[: len(GOOD) // 2], "damaged, its end is missing or broken: fetch it again"),
    "zip": (zipped(GOOD), "a zip archive of other things: unpack it"),
    "tar": (tarred(GOOD), "a tar archive: unpack it"),
    "tar.gz": (gzip.compress(tarred(GOOD)), "compressed: unpack it"),
    "gz": (gzip.compress(GOOD), "compressed: unpack it"),
    "safetensors": (
        save({"w": torch.ones(3)}),
        r"a safetensors file: rename it to \*\.safetensors",
    ),
}


@pytest.mark.parametrize(("content", "says"), KINDS.values(), ids=KINDS)
def test_the_message_says_what_it_is(tmp_path, content, says):
    path = tmp_path / "model.pth.tar-2"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\.pth\.tar-2 is {says}.*, or train it again$"):
        load_checkpoint(path)
    path.write_bytes(GOOD)  # fetched again
    assert load_checkpoint(path)["epoch"] == 2


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        saved(_use_new_zipfile_serialization=False),
        saved(_use_new_zipfile_serialization=False)[:-99],
        GOOD.replace(b"state_dict", b"state_dikt"),
        pickle.dumps({"a": print}, protocol=0),  # all of it is text
        bytes(range(256)) * 20,
    ],
)
def test_what_is_not_told(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert what_it_is(tmp_path / "file") is None
    assert what_it_is(tmp_path / "none") is None


def test_an_archive_where_one_is_expected(tmp_path):
    for name, content in (("a.zip", zipped(GOOD)[:99]), ("a.tar", tarred(GOOD)[:999])):
        (tmp_path / name).write_bytes(content)
        assert what_it_is(tmp_path / name, archive=True) is None
    (tmp_path / "a.zip").write_bytes(PAGE)
    assert "web page" in what_it_is(tmp_path / "a.zip", archive=True)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("zip", zipped(GOOD)),
        ("tar", tarred(GOOD)),
        ("gztar", gzip.compress(tarred(GOOD))),
    ],
)
def test_unpacking_as_the_message_says(tmp_path, kind, content):
    (tmp_path / "model").write_bytes(content)
    shutil.unpack_archive(tmp_path / "model", tmp_path / "unpacked", kind)
    assert load_checkpoint(tmp_path / "unpacked" / "model.pth.tar-2")["epoch"] == 2


def test_a_directory_is_not_called_a_file(tmp_path):
    with zipfile.ZipFile(io.BytesIO(GOOD)) as archive:  # as some browsers do
        archive.extractall(tmp_path / "model.pth.tar-2")
    with pytest.raises(ValueError, match=r"tar-2 is a directory, not a file: fetch the file again"):
        load_checkpoint(tmp_path / "model.pth.tar-2")


def test_other_epochs_beside_it_are_named(tmp_path):
    for epoch in (1, 3):
        (tmp_path / f"model.pth.tar-{epoch}").write_bytes(GOOD)
    (tmp_path / "model.pth.tar-2").write_bytes(PAGE)
    with pytest.raises(ValueError, match=r"use another epoch beside it: \[3, 1\]$"):
        load_checkpoint(tmp_path / "model.pth.tar-2")


def test_saving_anew_as_the_message_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = nn.Linear(2, 2)
    torch.save(model, "whole.pth")
    with pytest.raises(ValueError, match=r"whole\.pth was not loaded") as error:
        load_checkpoint("whole.pth")
    assert "weights_only" not in str(error.value)
    command = str(error.value).split("read: ")[1].split(". Else")[0]
    exec(command, {"torch": torch, "model": model})
    assert load_checkpoint("model.pth.tar-5")["state_dict"].keys() == {"weight", "bias"}


def test_a_damaged_directory_of_a_zip_is_no_fault_of_ours(tmp_path):
    """In it stands what is needed to unpack an entry; here, a version of the future."""
    place = GOOD.rindex(b"PK\1\2") + 6
    (tmp_path / "file").write_bytes(GOOD[:place] + b"\xff" + GOOD[place + 1 :])
    assert what_it_is(tmp_path / "file") == "damaged, its end is missing or broken: fetch it again"


def test_a_safetensors_file_is_one_whatever_is_wrong_with_it(tmp_path):
    content = save({"w": torch.ones(3)})
    for name, what in (("a.pt", "a safetensors file: rename it"), ("a.safetensors", None)):
        (tmp_path / name).write_bytes(content[:-4])
        found = what_it_is(tmp_path / name)
        assert found is None if what is None else found.startswith(what)
