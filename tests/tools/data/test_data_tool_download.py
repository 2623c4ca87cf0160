"""Downloads from a server that fails, and from Google Drive."""

import hashlib
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.tools.data.test_data_tool import run
from tests.tools.data.test_data_tool_files import SPLIT, zipped
from tools.data import download as download_module
from tools.data.catalogue import Source
from tools.data.download import FetchError, check_md5, fetch

BODY = os.urandom(1_200_000)
MD5 = hashlib.md5(BODY).hexdigest()


class Server:
    """Serves BODY; `faults` says what goes wrong in the first requests, `asked` what was asked."""

    def __init__(self):
        self.faults, self.asked = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.reply(self)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        url = f"http://127.0.0.1:{self.http.server_port}/file.bin"
        self.source = Source("file.bin", {}, url=url, md5=MD5)
        threading.Thread(target=self.http.serve_forever, args=[0.01], daemon=True).start()

    def reply(self, handler):
        asked = handler.headers.get("Range")
        self.asked.append(asked)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            handler.send_error(fault)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        rest = BODY[start:]
        handler.send_response(206 if asked else 200)
        handler.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest[:600_000] if fault == "dies" else rest)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download_module, "RETRIES", 0)
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def test_the_next_call_resumes(server, tmp_path):
    target = tmp_path / "get/file.bin"
    server.faults = ["dies"]
    with pytest.raises(FetchError, match=server.source.url):
        fetch(server.source, target)
    assert not target.exists()
    fetch(server.source, target)
    assert target.read_bytes() == BODY
    assert server.asked[-1].startswith("bytes=")
    assert list(target.parent.iterdir()) == [target]
    check_md5(target, server.source)


def test_a_file_that_is_not_there(server, tmp_path):
    server.faults = [404]
    with pytest.raises(FetchError, match="404"):
        fetch(server.source, tmp_path / "file.bin")


def test_a_wrong_checksum(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(BODY[:-1])
    with pytest.raises(FetchError, match=r"MD5 is .*, expected"):
        check_md5(tmp_path / "file.bin", server.source)


class Drive:
    """In place of gdown: writes the id into a split file, and refuses one."""

    @staticmethod
    def download(output, id=None, url=None, **options):
        if url:
            Path(output).write_bytes(b"no archive")
            return
        if id.startswith("1-61f"):
            raise RuntimeError("Cannot retrieve the public link of the file.\n  Too many users")
        Path(output).write_text(SPLIT.replace("a/1", id))


def test_a_drive_that_refuses_is_a_clear_problem(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", Drive)
    code, _, err = run(capsys, "download", "imagenet_a", "--root", tmp_path)
    assert code == 1
    assert "classnames.txt: Google Drive: Cannot retrieve the public link of the file. Too" in err
    assert "is a text ('no archive'), not the file: fetch it again" in err
    assert not list(tmp_path.iterdir())


def test_drive_files_get_into_place(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", Drive)
    (tmp_path / "dtd/images").mkdir(parents=True)
    assert run(capsys, "download", "dtd", "--root", tmp_path)[0] == 0
    split = (tmp_path / "dtd/split_zhou_DescribableTextures.json").read_text()
    assert "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x.jpg" in split
    assert not (tmp_path / "dtd/.downloads").exists()


def test_stopped_while_unpacking_does_not_download_again(tmp_path, capsys, monkeypatch):
    (tmp_path / "packed/images").mkdir(parents=True)
    fetched = []

    def get(source, target):
        fetched.append(source.file)
        target.parent.mkdir(parents=True)
        zipped(target, tmp_path / "packed")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download_module, "fetch", get)
    monkeypatch.setattr(download_module, "check_md5", lambda *_: None)
    split = tmp_path / "split_zhou_DescribableTextures.json"
    split.write_text(SPLIT)
    command = ("download", "dtd", "--root", tmp_path, "--from", split)
    with monkeypatch.context() as patch:
        patch.setattr(download_module, "unpack", full_disk)
        assert run(capsys, *command)[0] == 2
    assert run(capsys, *command)[0] == 0
    assert len(fetched) == 1
    assert (tmp_path / "dtd/images").is_dir()
