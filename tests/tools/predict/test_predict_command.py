"""`python -m tools.predict`: its table, and what it says of wrong runs and commands."""

import functools
import shutil
import subprocess
import sys

import pytest
import yaml

import train
from tests.helpers.plugin_files import forgotten  # noqa: F401
from tests.helpers.predict_runs import answers, refused
from tests.helpers.toy_run import REPO, command
from tests.run.test_plugins import TRAINER, tiles  # noqa: F401
from tests.run.test_plugins import command as plugin_command
from tools.predict.__main__ import main

pytestmark = pytest.mark.usefixtures("forgotten")


def test_the_table(run, picture, capsys):
    assert main(["--model-dir", str(run), "--topk", "2", picture]) == 0
    header, _, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["image", "1", "2"]
    path, first, *_ = line.split()
    assert path == picture and float(first.removesuffix("%")) > 30


def test_folders_that_are_no_runs(run, runs, picture, tmp_path, capsys):
    assert "no config.yaml" in refused(capsys, "--model-dir", tmp_path / "nowhere", picture)
    shutil.rmtree(run / "MultiModalRepresentationLearner")
    assert "no checkpoint of any epoch" in refused(capsys, "--model-dir", run, picture)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("NAME: MMRL", "NAME: Mine"))
    assert "--plugin FILE" in refused(capsys, "--model-dir", run, picture)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TRAINER.MMRL.REP_LAYERS", [2, 13], "REP_LAYERS is [2, 13]; allowed for"),
        ("DATALOADER.TEST.BATCH_SIZE", 0, "DATALOADER.TEST.BATCH_SIZE is 0; allowed is"),
    ],
)
def test_values_that_are_not_allowed(key, value, message, run, picture, capsys):
    tree = yaml.safe_load((run / "config.yaml").read_text())
    *above, name = key.split(".")
    functools.reduce(dict.__getitem__, above, tree)[name] = value
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    assert message in refused(capsys, "--model-dir", run, picture)


def test_damaged_names(run, picture, capsys):
    for content in ("{", '["a"]', '{"classnames": [], "template": null}'):
        (run / "classes.json").write_text(content)
        assert "classes.json is damaged" in refused(capsys, "--model-dir", run, picture)


def test_a_run_from_before_names_were_kept(run, toy, picture, capsys):
    expected = answers(capsys, "--model-dir", run, picture)
    (run / "classes.json").unlink()
    assert answers(capsys, "--model-dir", run, picture) == expected
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(f"ROOT: {toy}", "ROOT: /nowhere"))
    assert answers(capsys, "--model-dir", run, "--root", toy, picture) == expected
    capsys.readouterr()
    assert main(["--model-dir", str(run), picture]) == 2
    message = capsys.readouterr().err
    assert "has no classes.json" in message and "--root" in message and "--classes" in message
    names = ("--classes", "red circle,red square")
    assert "give --template" in refused(capsys, "--model-dir", run, *names, picture)
    sentence = ("--template", "a photo of a {}.")
    found = answers(capsys, "--model-dir", run, *names, *sentence, picture)
    assert found["classes"] == ["red circle", "red square"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give images or directories"),
        (("x.png", "--export", "y"), "one of the two"),
        (("x.png", "--topk", "0"), "--topk is 0"),
        (("x.png", "--workers", "-1"), "--workers is -1"),
        (("x.png", "--device", "cuda:99"), "this machine has cpu"),
        (("x.png", "--device", "tpu"), "this machine has cpu"),
        (("x.png", "--precision", "fp64"), "allowed is one of fp32, amp, fp16"),
        (("x.png", "--load-epoch", "9"), "no checkpoint of epoch 9"),
    ],
)
def test_wrong_commands(arguments, message, run, capsys):
    assert message in refused(capsys, "--model-dir", run, *arguments)


@pytest.mark.filterwarnings("ignore")  # of what plugins of that age call
def test_a_trainer_that_is_none_of_ours(tiles, tmp_path, picture, capsys):  # noqa: F811
    plugins = ("--plugin", str(TRAINER), "--plugin", str(TRAINER.with_name("tiles.py")))
    assert train.main(plugin_command(tiles, tmp_path / "run", *plugins)) == 0
    message = refused(capsys, "--model-dir", tmp_path / "run", *plugins[:2], picture)
    assert "not built on training.trainer.CLIPTrainer" in message and "SAVE_PREDICTIONS" in message


@pytest.mark.filterwarnings("ignore")
def test_a_plugin_built_on_ours(toy, tmp_path, picture, capsys):
    (tmp_path / "mine.py").write_text(
        "from dassl.engine import TRAINER_REGISTRY\nfrom trainers.coop import CoOp\n"
        "@TRAINER_REGISTRY.register()\nclass Mine(CoOp): ...\n"
    )
    arguments = command(toy, "CoOp", tmp_path / "run", "--plugin", str(tmp_path / "mine.py"))
    arguments[arguments.index("--trainer") + 1] = "Mine"
    assert train.main(arguments) == 0
    plugin = ("--plugin", tmp_path / "mine.py")
    assert answers(capsys, "--model-dir", tmp_path / "run", *plugin, picture)["trainer"] == "Mine"


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["--debug", "--model-dir", str(tmp_path), "x.png"])


def test_help_does_not_wait_for_torch():
    program = (
        "import sys; from tools.predict.__main__ import parse_args, check_args\n"
        "check_args(parse_args(['--model-dir', 'x', 'y'])); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
