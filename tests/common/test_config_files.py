"""Config files that build on others."""

from collections import Counter

import pytest

from common.config_files import MOST_FILES, config_layers, read_config
from tests.helpers.toy_run import REPO, config


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def test_later_files_win_and_the_file_itself_over_all(tmp_path):
    (tmp_path / "_base_").mkdir()
    write(tmp_path / "_base_", one="A: {B: 1, C: 1}\nD: [1, 1]\n", two="A: {C: 2, E: 2}\n")
    write(
        tmp_path,
        parent="_BASE_: [_base_/one.yaml, _base_/two.yaml]\n",
        mine="D: [3]\n_BASE_: parent.yaml\nA: {E: 3}\n",
    )
    assert read_config(tmp_path / "mine.yaml") == {"A": {"B": 1, "C": 2, "E": 3}, "D": [3]}
    names = [file.stem for file, _ in config_layers(tmp_path / "mine.yaml")]
    assert names == ["one", "two", "parent", "mine"]


@pytest.mark.parametrize(
    ("bases", "says"),
    [
        ("nowhere.yaml", r"no config file .*nowhere.yaml \(_BASE_: .*a.yaml -> .*b.yaml -> .*now"),
        ("a.yaml", r"_BASE_ goes in a circle: .*a.yaml -> .*b.yaml -> .*a.yaml; take it out"),
        ("b.yaml", "_BASE_ goes in a circle"),
        ("{A: 1}", r"_BASE_ in .*b.yaml must be a path or a list of paths"),
        ("[[c.yaml]]", r"_BASE_ in .*b.yaml must be a path"),
        ("broken.yaml", r"broken.yaml is not valid YAML"),
        (str(["c.yaml"] * MOST_FILES), f"more than {MOST_FILES} files"),
    ],
)
def test_what_cannot_be_built_on(bases, says, tmp_path):
    write(tmp_path, a="_BASE_: [b.yaml]", b=f"_BASE_: {bases}", c="A: 1", broken="A: [")
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        config_layers(tmp_path / "a.yaml")


def test_a_mistake_is_told_of_the_file_that_holds_it(tmp_path):
    write(tmp_path, base="OPTIM:\n  LRR: 1\n", mine="_BASE_: base.yaml\n")
    with pytest.raises(ValueError, match=r"OPTIM.LRR' in .*base.yaml, line 2; did you mean OPTIM"):
        config("--trainer", "CoOp", "--config-file", str(tmp_path / "mine.yaml"))


def test_files_of_trainers_say_only_what_differs():
    """A setting stands in a file of another trainer or variant for less than 15 % of the lines."""
    files = [file.read_text().splitlines() for file in REPO.glob("configs/trainers/*/*.yaml")]
    said = [[line.strip() for line in lines] for lines in files]
    said = [[x for x in lines if x and not x.startswith(("#", "_BASE_"))] for lines in said]
    places = Counter(line for lines in said for line in set(lines))
    lines = [line for lines in said for line in lines]
    assert sum(places[line] > 1 for line in lines) < 0.15 * len(lines)
