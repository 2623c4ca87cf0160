"""Downloads from a server that fails in many ways."""

import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

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
