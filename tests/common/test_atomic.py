"""Atomic writes."""

import threading

import pytest

from common.atomic import atomic_write


def test_two_writers_never_leave_a_mixed_file(tmp_path):
    path, contents = tmp_path / "a.txt", [str(writer) * 100_000 for writer in range(4)]

    def write(content):
        for _ in range(10):
            with atomic_write(path) as draft:
                draft.write_text(content)

    threads = [threading.Thread(target=write, args=[content]) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert path.read_text() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as draft:
        draft.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
