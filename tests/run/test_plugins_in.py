"""Files of published code: in place of ours, with modules and a `clip` of their own."""

import hashlib
import json
import pickle
import shutil
import sys

import pytest

import train
from dassl.engine import TRAINER_REGISTRY
from datasets._coop import LEFT
from run.plugins import import_plugins
from tests.helpers.plugin_files import REGISTERED, forgotten, python, written  # noqa: F401
from tests.helpers.toy_run import REPO, command, trainer_names
from tools.predict.runs import read_run
from tools.results.alike import among_seeds
from tools.results.reader import read_run as read_result

pytestmark = pytest.mark.usefixtures("forgotten")

# In place of ours

REPLACED = """
import contextlib, io, sys
import trainers
trainers.__path__ = [sys.argv[2]]
import train
from dassl.engine import TRAINER_REGISTRY
from run.config import default_config
default_config()
print(*TRAINER_REGISTRY.registered_names())
for name in ("CoCoOp", "MMRLPlus", "PromptSRC", "VPT"):
    config = f"{sys.argv[1]}/configs/trainers/{name}/small.yaml"
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = train.main(["--trainer", name, "--config-file", config])
    print(code, said.getvalue().replace("\\n", " "))
"""


def test_files_that_replace_ours_take_only_what_builds_on_them(tmp_path):
    folder = tmp_path / "trainers"
    shutil.copytree(REPO / "trainers", folder, ignore=shutil.ignore_patterns("__pycache__"))
    for stem, name in (("coop", "CoOp"), ("mmrl", "MMRL"), ("ivlp", "IVLP")):
        (folder / f"{stem}.py").write_text(REGISTERED.format(name))
    names, *messages = python(REPLACED, REPO, folder, cwd=tmp_path)
    gone = {"CoCoOp", "KgCoOp", "ProGrad", "MMRLPlus", "MMRLpp", "PromptSRC", "VPT"}
    assert set(names.split()) == set(trainer_names()) - gone
    files = [("cocoop", "coop"), ("mmrl_plus", "mmrl"), ("promptsrc", "ivlp"), ("vpt", "ivlp")]
    for message, (child, parent) in zip(messages, files, strict=True):
        assert message.startswith("2 error: ")
        assert f"{folder / child}.py" in message and f"{folder / parent}.py" in message
        assert "give yours as --plugin" in message


def test_two_plugins_of_one_name(tmp_path):
    written(tmp_path, {"a.py": REGISTERED.format("CoOp"), "b.py": REGISTERED.format("CoOp")})
    with pytest.raises(
        ValueError, match=r"'CoOp' is already in the TRAINER registry, from trainers\.a"
    ):
        import_plugins([tmp_path / "a.py", tmp_path / "b.py"])


def test_what_a_plugin_took_is_given_back_where_it_fails(tmp_path):
    ours = TRAINER_REGISTRY.get("CoOp")
    written(tmp_path, {"a.py": REGISTERED.format("CoOp") + "1 / 0\n"})
    with pytest.raises(ValueError, match="ZeroDivisionError"):
        import_plugins([tmp_path / "a.py"])
    assert TRAINER_REGISTRY.get("CoOp") is ours


# With what lies beside them

CODE_BASE = {
    "trainers/maple.py": "from .words import WORD\nBASE = 'theirs'\n",
    "trainers/words.py": "WORD = 'a word of theirs'\n",
    "trainers/method.py": "METHOD = 'theirs'\n",
    "trainers/kit/__init__.py": "from trainers.maple import BASE\n",
    "trainers/first.py": """
from dassl.engine import TRAINER_REGISTRY, TrainerX
from trainers.maple import BASE
from .method import METHOD
from . import kit

assert (BASE, METHOD, kit.BASE) == ("theirs",) * 3

@TRAINER_REGISTRY.register()
class First(TrainerX):
    def word(self):
        from .words import WORD  # late
        return WORD
""",
    "trainers/second.py": """
from dassl.engine import TRAINER_REGISTRY
from clip import clip
from .first import First
from .zsclip import ZeroshotCLIP  # ours: there is no such file beside this one
from datasets.sentences import SENTENCES
import words_everywhere

assert clip.design == words_everywhere.HERE == SENTENCES == "theirs"

@TRAINER_REGISTRY.register()
class Second(First):
    pass
""",
    "datasets/sentences.py": "SENTENCES = 'theirs'\n",
    "datasets/oxford_pets.py": "raise AssertionError('ours is meant')\n",
    "clip/__init__.py": "from .clip import *\n",
    "clip/clip.py": "design = 'theirs'\n_MODELS = {}\ndef _download(url, root='here'): ...\n",
    "words_everywhere.py": "HERE = 'theirs'\n",
}


def test_modules_beside_a_plugin(tmp_path, toy):
    """Are its own, also in two plugins of one folder; ours keep theirs."""
    import frozen_clip
    import trainers.maple
    from trainers.zsclip import ZeroshotCLIP

    ours = trainers.maple
    folder = written(tmp_path, CODE_BASE)
    files = [folder / "trainers" / name for name in ("second.py", "first.py")]
    for _ in range(2):  # a second time changes nothing
        *_, second, first = import_plugins(files, [folder])
    assert TRAINER_REGISTRY.get("First") is first.First is second.First
    assert issubclass(TRAINER_REGISTRY.get("Second"), first.First)
    assert first.First.word(None) == "a word of theirs"
    assert sys.modules["trainers.maple"] is ours is trainers.maple
    assert second.ZeroshotCLIP is ZeroshotCLIP
    assert "trainers.words" in sys.modules  # for what is imported late
    assert sys.modules["clip.clip"].design == "theirs"
    loaded = frozen_clip.load(str(toy / "narrow.pt"))
    assert loaded.prompts(["cat"], "a {}.").ids_CL[0, 0] == 49406
    assert "RN50" in frozen_clip.names()


def test_a_clip_of_theirs_where_nothing_has_loaded_ours(tmp_path):
    """As every command begins. Their `clip` may lack what ours has."""
    folder = written(tmp_path, CODE_BASE)
    code = (
        "import sys\nfrom run.plugins import import_plugins\nimport frozen_clip\n"
        "*_, module = import_plugins([sys.argv[1]], [sys.argv[2]])\n"
        "print(module.clip.design, frozen_clip.names()[1])"
    )
    lines = python(code, folder / "trainers/second.py", folder, cwd=REPO)
    assert lines[-1:] == ["theirs RN50"]


def test_paths_are_tried_in_their_order(tmp_path):
    for name in ("a", "b"):
        text = f"WHERE = '{name}'\n"
        written(tmp_path, {f"{name}/words_of_mine.py": text, f"{name}/words_of_{name}.py": text})
    file = tmp_path / "mine.py"
    file.write_text(
        REGISTERED.format("Mine")
        + "import words_of_mine, words_of_a, words_of_b\n"
        + "assert (words_of_mine.WHERE, words_of_b.WHERE) == ('b', 'b')\n"
    )
    import_plugins([file], [tmp_path / "b", tmp_path / "a"])
    with pytest.raises(
        FileNotFoundError, match=r"--plugin-path .*nowhere: there is no such folder"
    ):
        import_plugins([file], [tmp_path / "nowhere"])


def test_a_clip_on_pythonpath_is_not_taken_for_ours(tmp_path):
    folder = written(tmp_path, CODE_BASE)
    code = "import frozen_clip\ntry: frozen_clip.names()\nexcept ValueError as e: print(e)"
    (said,) = python(code, cwd=tmp_path, first=str(folder))
    assert "take the other off PYTHONPATH" in said and "--plugin-path" in said


# What they take for granted

SHARES_A_NODE = """
from clip import clip
import torch
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.optim import build_optimizer

@TRAINER_REGISTRY.register()
class Other(TrainerX):
    def build_model(self):
        print("vision tokens:", self.cfg.TRAINER.IVLP.N_CTX_VISION)
        self.model = torch.nn.Linear(3, self.num_classes){how}
        self.register_model("lines", self.model, build_optimizer(self.model, self.cfg.OPTIM))

    def model_inference(self, input):
        return self.model(input.mean(dim=(2, 3)))

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        loss = torch.nn.functional.cross_entropy(self.model_inference(image), label)
        self.model_backward_and_update(loss)
        return {{"loss": loss}}
"""


def other(toy, folder, how="", opts=()):
    """The command of a plugin that shares IVLP's node, with what it does after its first line."""
    file = written(folder, {"other.py": SHARES_A_NODE.format(how=how)}) / "other.py"
    arguments = command(toy, "IVLP", folder / "run", "--plugin", str(file), opts=opts)
    arguments[arguments.index("IVLP")] = "Other"
    return arguments


def test_a_plugin_may_share_a_node_and_find_coops_draw(toy, tmp_path, capsys):
    root = shutil.copytree(toy, tmp_path / "toy")
    assert train.main(other(root, tmp_path, opts=("TRAINER.IVLP.N_CTX_VISION", "0"))) == 0
    assert "vision tokens: 0" in capsys.readouterr().out
    drawn = root / "colored_shapes" / "split_fewshot" / "shot_2-seed_1.pkl"
    content = pickle.loads(drawn.read_bytes())
    assert [len(content[part]) for part in ("train", "val")] == [12, 12]
    assert {type(item).__module__ for item in content["train"]} == {
        "dassl.data.datasets.base_dataset"
    }
    # which is no draw of another code base: ours does not take it for one
    content["train"].pop()
    drawn.write_bytes(pickle.dumps(content) + LEFT)
    # ours draws the same, and leaves no pickle by itself
    assert train.main(command(toy, "ZeroshotCLIP", tmp_path / "ours")) == 0
    assert train.main(command(root, "ZeroshotCLIP", tmp_path / "same")) == 0
    hashes = [json.loads((tmp_path / r / "results.json").read_text()) for r in ("ours", "same")]
    assert hashes[0]["few_shot_hash"] == hashes[1]["few_shot_hash"]
    assert not list((toy / "colored_shapes" / "split_fewshot").glob("*.pkl"))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("\n        torch.zeros(1, device='cuda')", "line 12, needs a GPU, and there is none"),
        ("\n        clip._MODELS[self.cfg.MODEL.BACKBONE.NAME]", "line 12, knows no CLIP called"),
    ],
)
def test_what_a_plugin_takes_for_granted_is_said(how, says, toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert train.main(other(toy, tmp_path, how)) == 2
    message = capsys.readouterr().err
    assert f"the plugin {tmp_path / 'other.py'}, {says}" in message and message.count("\n") < 4


def test_another_error_of_a_plugin_keeps_its_traceback(toy, tmp_path):
    with pytest.raises(KeyError):
        train.main(other(toy, tmp_path, "\n        {}['b']"))


def test_weights_are_tested_by_the_trainer_that_learned_them(toy, tmp_path, capsys):
    """In place of ours, with an inference of its own; its weights are not ours to test."""
    text = """
from dassl.engine import TRAINER_REGISTRY
from trainers.coop import CoOp as Ours

@TRAINER_REGISTRY.register()
class CoOp(Ours):
    def model_inference(self, images):
        scores = super().model_inference(images)
        return scores.new_tensor([0.0, 0.0, 1.0]).expand_as(scores)
"""
    file = written(tmp_path, {"turned.py": text}) / "turned.py"
    assert train.main(command(toy, "CoOp", tmp_path / "ours")) == 0
    both = [command(toy, "CoOp", tmp_path / name) for name in ("tested", "again")]
    tests = ("--eval-only", "--model-dir", str(tmp_path / "ours"))
    assert train.main([*tests, *both[0]]) == 0
    capsys.readouterr()
    assert train.main([*tests, "--plugin", str(file), *both[1]]) == 2
    assert "were trained by another CoOp: the plugin in its place was none then" in (
        capsys.readouterr().err
    )
    theirs = command(toy, "CoOp", tmp_path / "theirs", "--plugin", str(file))
    assert train.main(theirs) == 0
    log = capsys.readouterr().out
    assert f"plugin: {file} (SHA-256 " in log and "in place of our CoOp" in log
    records = [json.loads((tmp_path / n / "results.json").read_text()) for n in ("ours", "theirs")]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    plugin = {"file": str(file), "sha256": digest, "replaces": ["CoOp"]}
    assert records[1]["plugins"] == [plugin]
    assert [row["correct"] for row in records[1]["per_class"]] == [0, 0, 3]
    assert records[0]["fingerprint"] != records[1]["fingerprint"]
    with pytest.raises(ValueError, match=r"was --plugin turned\.py then and is none now"):
        read_run(tmp_path / "theirs", None, None, (), ())
    runs = [read_result(tmp_path / name) for name in ("ours", "theirs")]
    assert any("plugin in place of ours" in line for line in among_seeds(runs))
