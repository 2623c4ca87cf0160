"""Downloads from a server that fails in many ways, and archives that mean harm."""

import hashlib
import io
import os
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tools.data import archive as archive_module
from tools.data.archive import find_by_end, unpack
from tools.data.fetch import FetchError, fetch

BODY = os.urandom(300_000)
MD5 = hashlib.md5(BODY).hexdigest()


class Server:
    """Serves BODY; `faults` says what goes wrong in the first requests, `asked` what was asked."""

    def __init__(self):
        self.faults, self.asked = [], []
        self.body, self.etag, self.ranges = BODY, '"v1"', True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file.bin"
        threading.Thread(target=self.http.serve_forever, args=[0.01], daemon=True).start()

    def answer(self, handler):
        asked = handler.headers.get("Range")
        self.asked.append(asked)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int) and fault >= 400:
            handler.send_error(fault)
            return
        start = 0
        if asked and self.ranges and handler.headers.get("If-Range") == self.etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.body):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.body)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        rest = self.body[start:]
        handler.send_response(206 if start else 200)
        if start:
            said = start + 1 if fault == "wrong range" else start
            last = len(self.body) - 1
            handler.send_header("Content-Range", f"bytes {said}-{last}/{len(self.body)}")
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest[:100_000] if fault == "dies" else rest)


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "file.bin"


def get(server, target, md5=MD5):
    fetch(server.url, target, md5, pause=0.01)


def is_whole(target):
    return target.read_bytes() == BODY and [p.name for p in target.parent.iterdir()] == [
        target.name
    ]


def test_plain(server, target):
    get(server, target)
    assert is_whole(target)
    assert server.asked == [None]


def test_server_that_dies_is_asked_for_the_rest(server, target):
    server.faults = ["dies", "dies"]
    get(server, target)
    assert is_whole(target)
    assert server.asked == [None, "bytes=100000-", "bytes=200000-"]


def test_next_call_goes_on_where_this_one_stopped(server, target):
    server.faults = ["dies", *[500] * 4]
    with pytest.raises(FetchError, match="500"):
        get(server, target)
    assert not target.exists()
    get(server, target)
    assert is_whole(target)
    assert server.asked[-1] == "bytes=100000-"


def test_file_that_changed_meanwhile_starts_anew(server, target):
    server.faults = ["dies", *[503] * 4]
    with pytest.raises(FetchError):
        get(server, target)
    server.body, server.etag = BODY[::-1], '"v2"'
    get(server, target, hashlib.md5(BODY[::-1]).hexdigest())
    assert target.read_bytes() == BODY[::-1]


@pytest.mark.parametrize("why", ["no ranges", "no tag"])
def test_server_that_cannot_resume_starts_anew(server, target, why):
    server.faults = ["dies"]
    server.ranges = why != "no ranges"
    server.etag = None if why == "no tag" else server.etag
    get(server, target)
    assert is_whole(target)


def test_wrong_range_is_not_appended(server, target):
    server.faults = ["dies", "wrong range"]
    get(server, target)
    assert is_whole(target)


@pytest.mark.parametrize("length", [300_000, 400_000])
def test_part_that_leaves_nothing_to_ask_for(server, target, length):
    target.with_name("file.bin.part").write_bytes((BODY + bytes(100_000))[:length])
    target.with_name("file.bin.tag").write_text('"v1"')
    get(server, target)
    assert is_whole(target)
    assert len(server.asked) == (1 if length == len(BODY) else 2)


def test_wrong_checksum_is_thrown_away(server, target):
    with pytest.raises(FetchError, match="MD5 is"):
        get(server, target, md5="0" * 32)
    assert not target.exists()
    assert not target.with_name("file.bin.part").exists()


def test_missing_file_is_told_at_once(server, target):
    server.faults = [404]
    with pytest.raises(FetchError, match="404"):
        get(server, target)
    assert len(server.asked) == 1


def test_busy_server_is_asked_again(server, target):
    server.faults = [503, 429]
    get(server, target)
    assert is_whole(target)


def test_no_server(server, target):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(FetchError, match="after 5 attempts"):
        get(server, target)


# ---------------------------------------------------------------- archives


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
    "link to nothing": {"link": (tarfile.SYMTYPE, "b")},
    "device": {"dev": (tarfile.CHRTYPE, "")},
    "pipe": {"pipe": (tarfile.FIFOTYPE, "")},
    "bomb": {"zeros": bytes(30 << 20)},
}


@pytest.fixture
def place(tmp_path):
    """A folder with a secret beside it that no archive may touch."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/secret").write_text("untouched")
    yield tmp_path / "in/unpacked"
    assert sorted(p.name for p in (tmp_path / "in").iterdir()) in (
        ["secret"],
        ["secret", "unpacked"],
    )
    assert (tmp_path / "in/secret").read_text() == "untouched"
    assert not os.path.exists("/tmp/evil_of_test")


@pytest.mark.parametrize("members", HOSTILE_ZIPS.values(), ids=HOSTILE_ZIPS)
def test_hostile_zip(tmp_path, place, members):
    path = make_zip(tmp_path / "a.zip", members)
    with pytest.raises(ValueError, match=str(path)):
        unpack(path, place)
    assert not place.exists()


@pytest.mark.parametrize("members", HOSTILE_TARS.values(), ids=HOSTILE_TARS)
def test_hostile_tar(tmp_path, place, members):
    path = make_tar(tmp_path / "a.tgz", {"good/1.jpg": b"1", **members})
    with pytest.raises(ValueError, match=str(path)):
        unpack(path, place)
    assert not place.exists()


def test_encrypted_zip(tmp_path, place):
    path = make_zip(tmp_path / "a.zip", {"a.jpg": b"a"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="encrypted"):
        unpack(path, place)


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
    with pytest.raises(ValueError, match="damaged or cut short"):
        unpack(path, place)
    assert not place.exists()


def test_flipped_byte_in_a_zip(tmp_path, place):
    path = make_zip(tmp_path / "a.zip", {"a.jpg": os.urandom(5000)})
    content = bytearray(path.read_bytes())
    content[2500] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        unpack(path, place)


def test_good_archives(tmp_path, place):
    members = {"set/images/a/1.jpg": b"1", "set/list.txt": b"x" * 1000, "__MACOSX/images/x": b"."}
    links = {
        "set/same.txt": (tarfile.SYMTYPE, "list.txt"),
        "set/images/up.txt": (tarfile.SYMTYPE, "../list.txt"),
        "set/hard.txt": (tarfile.LNKTYPE, "set/list.txt"),
    }
    unpack(make_tar(tmp_path / "a.tar.gz", members | links), place)
    for name in ("same.txt", "images/up.txt", "hard.txt", "list.txt"):
        assert (place / "set" / name).read_bytes() == b"x" * 1000
        assert not (place / "set" / name).is_symlink()
    assert find_by_end(place, "images") == place / "set/images"
    assert find_by_end(place, "images/a") == place / "set/images/a"
    assert find_by_end(place, "mages") is None
    unpack(make_zip(tmp_path / "a.zip", members), tmp_path / "b")
    assert (tmp_path / "b/set/images/a/1.jpg").read_bytes() == b"1"


def test_small_things_may_shrink_a_lot(tmp_path, place):
    unpack(make_zip(tmp_path / "a.zip", {"list.txt": bytes(10 << 20)}), place)
    assert (place / "list.txt").stat().st_size <= archive_module.ALWAYS_ALLOWED
