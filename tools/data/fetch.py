"""Gets one file over HTTP(S), going on where an earlier attempt stopped, or from Google Drive."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

ATTEMPTS = 5
PAUSE = 2.0  # seconds before the second attempt, doubled for each further one
TIMEOUT = 60  # seconds without a byte
CHUNK = 1 << 20
WORTH_WAITING = (408, 425, 429)  # HTTP: timeout, too early, too many requests
_BROKEN = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)


class FetchError(OSError):
    """A file that could not be got; the message says why, without advice."""


def fetch(url: str, target: Path, md5: str = "", pause: float = PAUSE) -> None:
    """Downloads `url` to `target`, which exists only when it is whole.

    What has arrived stays in `target`.part, with the server's version tag in `target`.tag, so
    that the next attempt, or the next call, asks for the rest. FetchError when it does not work.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(target, ".part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch_rest(url, part, _beside(target, ".tag"))
            break
        except urllib.error.HTTPError as error:
            error.close()
            if attempt == ATTEMPTS or (error.code < 500 and error.code not in WORTH_WAITING):
                raise FetchError(f"{url}: the server says {error.code} {error.reason}") from error
        except _BROKEN as error:
            if attempt == ATTEMPTS:
                reason = getattr(error, "reason", error)
                raise FetchError(f"{url}: {reason}, after {ATTEMPTS} attempts") from error
        time.sleep(pause * 2 ** (attempt - 1))
    finish(part, target, md5, url)


def finish(part: Path, target: Path, md5: str, source: str) -> None:
    """Checks a whole file and gives it its name; a wrong one is deleted."""
    if md5 and (found := md5_of(part)) != md5:
        part.unlink()
        raise FetchError(f"{source}: MD5 is {found}, expected {md5}: damaged, or another version")
    os.replace(part, target)
    _beside(target, ".tag").unlink(missing_ok=True)


def md5_of(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def _fetch_rest(url: str, part: Path, tag: Path) -> None:
    """One request for what `part` lacks. ConnectionError when the answer stops too early."""
    have = part.stat().st_size if part.exists() and tag.exists() else 0
    headers = {"User-Agent": "tools.data", "Accept-Encoding": "identity"}
    if have:  # the tag makes the server start anew if the file has changed meanwhile
        headers |= {"Range": f"bytes={have}-", "If-Range": tag.read_text()}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            start = have if answer.status == 206 else 0
            if start and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise http.client.HTTPException("the server sent another range than asked for")
            _note_tag(answer, tag)
            _write(answer, part, start)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # 416: nothing lies behind what is here
            raise
        error.close()
        if not error.headers.get("Content-Range", "").endswith(f"/{have}"):
            part.unlink()
            raise ConnectionError("what was here does not fit the file") from error


def _note_tag(answer: Any, tag: Path) -> None:
    """Remembers what tells this version of the file from others; without it, no resuming."""
    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    if version and not version.startswith("W/"):
        tag.write_text(version)
    else:
        tag.unlink(missing_ok=True)


def _write(answer: Any, part: Path, start: int) -> None:
    length = answer.headers.get("Content-Length")
    total = start + int(length) if length else None
    name = part.name.removesuffix(".part")
    bar = tqdm(desc=name, initial=start, total=total, unit="B", unit_scale=True, disable=None)
    with open(part, "ab" if start else "wb") as file, bar:
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
        arrived = file.tell()
    if total is not None and arrived != total:
        raise ConnectionError(f"the connection ended after {arrived:,} of {total:,} bytes")


def fetch_drive(file_id: str, target: Path, md5: str = "") -> None:
    """Downloads a Google Drive file to `target`, going on where an earlier call stopped."""
    import gdown  # here: the rest of the tool works without it

    target.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(target, ".part")
    try:
        got = gdown.download(id=file_id, output=str(part), quiet=False, resume=True)
    except Exception as error:  # gdown, requests and the proxy each have their own errors
        reason = " ".join(str(error).split())[:120]
        raise FetchError(f"Google Drive: {reason or type(error).__name__}") from error
    if got is None or not part.exists():
        raise FetchError("Google Drive sent nothing")
    finish(part, target, md5, "Google Drive")
