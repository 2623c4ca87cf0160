"""Commands of tools.predict, and the tests' own numbers to compare with."""

import csv
import json

import pytest

from tools.predict.__main__ import main


def answers(capsys, *arguments, code=0) -> dict:
    capsys.readouterr()
    assert main(["--json", *map(str, arguments)]) == code
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments) -> str:
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") < 6
    return message


def compare(folder, toy, found) -> None:
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found) == 9
    for row, item in zip(rows, found, strict=True):
        assert item["image"] == str(toy / "colored_shapes" / row["impath"])
        (best,) = item["top"]
        assert best["label"] == int(row["prediction"])
        assert best["probability"] == pytest.approx(float(row["probability"]), rel=1e-6)


def listed(folder, toy) -> list[str]:
    with (folder / "predictions.csv").open(newline="") as file:
        return [str(toy / "colored_shapes" / row["impath"]) for row in csv.DictReader(file)]
