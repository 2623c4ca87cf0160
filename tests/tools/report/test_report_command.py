"""python -m tools.report: the command, and what it refuses."""

import pytest

from tests.helpers.report_page import accuracy
from tools.report.__main__ import main


def test_debug_and_an_interrupt(tmp_path, monkeypatch, capsys):
    with pytest.raises(FileNotFoundError):
        main([str(tmp_path), "--debug"])

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tools.report.__main__.find_runs", interrupted)
    assert main([str(tmp_path)]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["outptu"], "there is no folder 'outptu'; did you mean 'output'?"),
        (["output"], "no runs in 'output'"),
        (["file"], "is a file; give a folder of runs"),
        (["output", "-o", "there/report.html"], "there is no folder 'there' for the page"),
        (["output", "-o", "output"], "is a folder; give a file"),
        (["few", "--run", "CoOp"], "--run 'CoOp' fits none of the 1 runs; paths look like 'dtd"),
    ],
)
def test_wrong_arguments(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output").mkdir()
    (tmp_path / "file").touch()
    accuracy(tmp_path / "few" / "dtd" / "shots_1" / "MMRL" / "x" / "seed1", 500)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("flag", ["--details", "--classes"])
def test_counts_that_are_none(flag, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["output", flag, "3x"])
    assert stop.value.code == 2 and "a whole number or 'all'" in capsys.readouterr().err
