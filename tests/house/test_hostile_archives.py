"""Archives that mean harm, are damaged, or are fine."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from dassl.data.datasets.download import extract_archive
from tests.helpers.hostile import memory_of
from tools.data.archive import find_by_end, unpack
from tools.data.catalogue import catalogue
from tools.data.download import place as fill


def make_zip(path, members):
    """Members: name -> bytes; a tuple (mode, bytes) sets the Unix mode."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if isinstance(content, tuple):
                info.external_attr = content[0] << 16
                content = content[1]
            file.writestr(info, content)
    return path


def make_tar(path, members, mode="w:gz"):
    """Members: name -> bytes, or a TarInfo type with a link's target."""
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                file.addfile(info)
            else:
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return path


LINK = stat.S_IFLNK | 0o777
HOSTILE_ZIPS = {
    "parent": {"../evil": b"x"},
    "deep parent": {"a/../../evil": b"x"},
    "absolute": {"/tmp/evil_of_test": b"x"},
    "windows": {"..\\evil": b"x"},
    "drive": {"C:/evil": b"x"},
    "link out": {"link": (LINK, b"../..")},
    "link absolute": {"link": (LINK, b"/etc/passwd")},
    "through a link": {"link": (LINK, b".."), "link/evil": b"x"},
    "device": {"dev": (stat.S_IFCHR | 0o600, b"")},
    "bomb": {"zeros": bytes(30 << 20)},
}
HOSTILE_TARS = {
    "parent": {"../evil": b"x"},
    "absolute": {"/tmp/evil_of_test": b"x"},
    "link out": {"link": (tarfile.SYMTYPE, "../../x")},
    "link absolute": {"link": (tarfile.SYMTYPE, "/etc/passwd")},
    "hard link out": {"link": (tarfile.LNKTYPE, "../secret")},
    "through a link": {"d": (tarfile.SYMTYPE, "."), "d/e": (tarfile.SYMTYPE, "..")},
    "device": {"dev": (tarfile.CHRTYPE, "")},
    "pipe": {"pipe": (tarfile.FIFOTYPE, "")},
    "bomb": {"zeros": bytes(30 << 20)},
}


@pytest.fixture
def place(tmp_path):
    """A directory with a secret beside it that no archive may touch."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/secret").write_text("untouched")
    yield tmp_path / "in/unpacked"
    assert sorted(p.name for p in (tmp_path / "in").iterdir()) in (
        ["secret"],
        ["secret", "unpacked"],
    )
    assert (tmp_path / "in/secret").read_text() == "untouched"
    assert not os.path.exists("/tmp/evil_of_test")


def refused(path, place, message: str) -> None:
    """The archive is not unpacked, and nothing is left of it."""
    with pytest.raises(ValueError, match=message):
        unpack(path, place)
    assert not place.exists()


@pytest.mark.parametrize("members", HOSTILE_ZIPS.values(), ids=HOSTILE_ZIPS)
def test_hostile_zip(tmp_path, place, members):
    path = make_zip(tmp_path / "a.zip", members)
    refused(path, place, str(path))


@pytest.mark.parametrize("members", HOSTILE_TARS.values(), ids=HOSTILE_TARS)
def test_hostile_tar(tmp_path, place, members):
    path = make_tar(tmp_path / "a.tgz", {"good/1.jpg": b"1", **members})
    refused(path, place, str(path))


def test_encrypted_zip(tmp_path, place):
    path = make_zip(tmp_path / "a.zip", {"a.jpg": b"a"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    refused(path, place, "encrypted")


@pytest.mark.parametrize("kind", ["zip", "tgz", "tar"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_archive(tmp_path, place, kind, share):
    members = {f"{n}.jpg": os.urandom(5000) for n in range(4)}
    path = tmp_path / f"a.{kind}"
    make_zip(path, members) if kind == "zip" else make_tar(
        path, members, f"w:{kind[1:-1]}z" * (kind == "tgz") or "w"
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share * (0.7 if kind == "tar" else 1))])
    refused(path, place, "damaged or cut short|damaged, it is empty")


def test_flipped_byte_in_a_zip(tmp_path, place):
    path = make_zip(tmp_path / "a.zip", {"a.jpg": os.urandom(5000)})
    content = bytearray(path.read_bytes())
    content[2500] ^= 255
    path.write_bytes(content)
    refused(path, place, "damaged")


def test_good_archives(tmp_path, place):
    members = {"set/images/a/1.jpg": b"1", "set/list.txt": b"x" * 1000, "__MACOSX/images/x": b"."}
    links = {
        "set/same.txt": (tarfile.SYMTYPE, "list.txt"),
        "set/hard.txt": (tarfile.LNKTYPE, "set/list.txt"),
    }
    unpack(make_tar(tmp_path / "a.tar.gz", members | links), place)
    for name in ("same.txt", "hard.txt", "list.txt"):
        assert (place / "set" / name).read_bytes() == b"x" * 1000
    assert find_by_end(place, "images") == place / "set/images"
    assert find_by_end(place, "images/a") == place / "set/images/a"
    assert find_by_end(place, "mages") is None
    small = members | {"shrinks.txt": bytes(10 << 20)}
    unpack(make_zip(tmp_path / "a.zip", small), tmp_path / "b")
    assert (tmp_path / "b/set/images/a/1.jpg").read_bytes() == b"1"


def test_a_bomb_of_members(tmp_path, place):
    """A hundred thousand empty files in some 300 KB."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        file.addfile(tarfile.TarInfo("a"))
    header = stream.getvalue()[:512]
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(header * 100_000 + bytes(1024))
    with memory_of(100):
        refused(tmp_path / "a.tar.gz", place, "as a bomb does")


def test_a_bomb_of_a_header(tmp_path, place):
    """A name of half a gigabyte, which tarfile would read at once."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 512 << 20
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            file.write(bytes(1 << 20))
    with memory_of(100):
        refused(tmp_path / "a.tar.gz", place, "declares a header")


def test_a_bomb_in_an_archive_is_bounded_by_the_outer_one(tmp_path, place):
    inner = make_zip(tmp_path / "inner.zip", {"images/zeros": bytes(17 << 20)})
    outer = make_zip(tmp_path / "outer.zip", {"images.zip": inner.read_bytes()})
    (place / "dtd").mkdir(parents=True)
    with pytest.raises(ValueError, match="bomb"):
        fill(outer, {"images": "images"}, catalogue()["dtd"], place)
    assert not any((place / "dtd").iterdir())


def unpacked_for_a_plugin(path) -> list[Path]:
    """What `download_data` of datasets that plugins bring leaves beside the archive."""
    try:
        extract_archive(path)
    except (ValueError, OSError) as error:
        assert str(path.parent) in str(error)
    inside = [file for file in path.parent.rglob("*") if file != path]
    assert sum(file.stat().st_size for file in inside if file.is_file()) < 1 << 20
    return inside


@pytest.mark.parametrize("members", HOSTILE_TARS.values(), ids=HOSTILE_TARS)
def test_hostile_tar_for_a_plugin(tmp_path, place, members):
    place.mkdir()
    inside = unpacked_for_a_plugin(make_tar(place / "a.tgz", members))
    assert all(place in (file.resolve(), *file.resolve().parents) for file in inside)


@pytest.mark.parametrize("members", HOSTILE_ZIPS.values(), ids=HOSTILE_ZIPS)
def test_hostile_zip_for_a_plugin(tmp_path, place, members):
    place.mkdir()
    inside = unpacked_for_a_plugin(make_zip(place / "a.zip", members))
    assert not any(file.is_symlink() for file in inside)
