"""Reading text files, whatever program wrote them; what is said of those that cannot be read."""

import shlex
import subprocess

import pytest

from common.text_files import decode, plain_spaces, read_text

TEXT = "red_maple 红枫\ncrème brûlée\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"], ids=str
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_one_text_whatever_the_editor(encoding, end, tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(TEXT.replace("\n", end).encode(encoding))
    assert read_text(path) == TEXT


def test_a_big_endian_mark():
    assert decode(b"\xfe\xff" + TEXT.encode("utf-16-be"), "names.txt") == TEXT


@pytest.mark.parametrize("text", ["", "a", "木", "\n", "红枫\n", "\ufeff"])
def test_short_texts(text):
    assert decode(text.encode(), "names.txt") == text.removeprefix("\ufeff")


@pytest.mark.parametrize(
    ("text", "encoding", "line", "named"),
    [
        ("oak 橡树\n红枫\n", "gbk", 1, "GBK"),
        ("oak\ncrème brûlée\n", "latin-1", 2, "LATIN1"),
        ("oak\n“crème”\n", "cp1252", 2, "CP1252"),
    ],
)
def test_the_advice_for_another_encoding_works(text, encoding, line, named, tmp_path):
    path = tmp_path / "my names.txt"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=f"not UTF-8: byte .* in line {line}, .*{named}") as error:
        read_text(path)
    command = str(error.value).splitlines()[-1]
    assert shlex.quote(str(path)) in command
    subprocess.run(command, shell=True, check=True)
    assert read_text(path) == text
    assert (tmp_path / "my names.txt.old").read_bytes() == text.encode(encoding)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"oak\0\0\0fir", "no text: it holds zero bytes"),
        (bytes(range(128)), "no text: it holds zero bytes"),
        (b"\xff\xfeo\0a", "damaged: byte 4 is no UTF-16-LE"),
        (b"x" * 101, "larger than any file of its kind"),
    ],
    ids=["zeros", "binary", "half a letter", "large"],
)
def test_what_is_no_text(content, says, tmp_path):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ValueError, match=f"names.txt is .*{says}|names.txt is {says}"):
        read_text(tmp_path / "names.txt", most_bytes=150 if len(content) != 101 else 100)


def test_spaces_of_web_pages():
    assert plain_spaces("red\u00a0maple\u3000tree") == "red maple tree"
