"""CoPrompt: the numbers of the published code, its sentences, and its two views."""

import functools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train
from frozen_clip.reference import PlainCLIP
from run.config import default_config
from tests.helpers.golden_files import LOGITS, REST, Golden, assert_close, clip
from tests.helpers.toy_run import CLASSES, build, classify, command, refused, state_of
from training import compiled
from training.method import normalize
from training.sentences import MOST, by_number, read_sentences

KEY = "TRAINER.CoPrompt.SENTENCES"


@pytest.fixture(params=["fast", "plain"])
def case(request, tmp_path):
    """The golden file, and the method with its parameters: as it trains, and with no savings."""
    default_config()  # registers the trainers
    golden, file = Golden("fits/coprompt.npz"), tmp_path / "sentences.json"
    file.write_text(json.dumps(golden.meta["sentences"]))
    settings = replace(golden.settings(), sentences=str(file))
    frozen = clip() if request.param == "fast" else PlainCLIP(clip().clip)
    method = golden.trainer.Method(settings, frozen, golden.meta["classnames"])
    method.learner.load_state_dict(golden.ours("param"))
    return golden, method


def loss(golden, method, number):
    """The terms of the loss with one of the sentences, and the outputs."""
    method.number.fill_(int(number))
    outputs = method(torch.stack([golden["in/images"], golden["in/second_images"]]))
    return method.losses(outputs, golden["in/labels"]), outputs


def test_outputs_loss_and_gradients(case):
    golden, method = case
    terms, outputs = loss(golden, method, golden["traj/sentence"][0])
    assert torch.equal(method.prompts.ids_CL, golden["in/token_ids"].long())
    assert_close(outputs.logits, golden["out/logits"], LOGITS)
    assert_close(outputs.f0, normalize(golden["out/zs_image_features"]), REST)
    assert_close(method.sentence_features, normalize(golden["out/sentence_features"]), REST)
    assert_close(terms["ce"], golden["out/loss_ce"], REST)
    assert_close(method.backward(terms, lambda value: value), golden["out/loss"], REST)
    theirs = golden.ours("grad")
    for name, parameter in method.learner.named_parameters():
        assert_close(parameter.grad, theirs.pop(name), REST, name)
    assert not theirs


def test_six_steps_and_the_evaluation_after_them(case):
    golden, method = case
    how = {k: golden.meta["optimizer"][k] for k in ("lr", "momentum", "weight_decay")}
    optimizer = torch.optim.SGD(method.learner.parameters(), **how)
    for number, expected in zip(golden["traj/sentence"], golden["traj/losses"], strict=True):
        optimizer.zero_grad()
        terms, _ = loss(golden, method, number)
        assert_close(method.backward(terms, lambda value: value).double(), expected, REST)
        optimizer.step()
    for name, value in golden.ours("after6").items():
        assert_close(method.learner.state_dict()[name], value, REST, name)
    with torch.inference_mode():
        logits = method.classify(golden["in/images"], method.text_features(), seen=True)
    assert_close(logits, golden["eval6/logits"], LOGITS)


def test_the_other_distance_is_of_all_numbers(case):
    golden, method = case
    method.settings = replace(method.settings, distill="mse", w=2.0)
    terms, (_, f, w, f0, e) = loss(golden, method, 3)
    assert_close(terms["text"], 2 * (w - e).square().mean(), REST)
    assert_close(terms["image"], 2 * (f - f0).square().mean(), REST)


def test_sentences_are_read_where_training_draws_one_and_nowhere_else(case):
    _, method = case
    method.text_features()
    assert "sentence_features" not in vars(method)
    drawn = set()
    for seed in range(20):
        torch.manual_seed(seed)
        method.draw_sentence()
        drawn.add(int(method.number))
    assert drawn == set(range(4))


# Runs


def test_a_batch_has_two_views_in_the_size_of_clip(toy, tmp_path):
    trainer = build(command(toy, "CoPrompt", tmp_path))
    images, labels = trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    assert images.shape == (2, 3, 3, 32, 32) and labels.shape == (3,)
    assert not torch.equal(*images)


def test_a_resumed_run_draws_the_sentences_that_it_would_have_drawn(toy, tmp_path, monkeypatch):
    drawn, opts = [], ("TRAIN.CHECKPOINT_FREQ", "1")
    whole, later = tmp_path / "whole", tmp_path / "later"
    trainer = build(command(toy, "CoPrompt", whole, opts=opts))
    draw = type(trainer.method).draw_sentence
    recorded = lambda method: (draw(method), drawn.append(int(method.number)))  # noqa: E731
    monkeypatch.setattr(type(trainer.method), "draw_sentence", recorded)
    trainer.train()
    steps, everything = len(drawn) // 2, drawn.copy()
    shutil.copytree(whole, later)
    for file in later.glob("*/model.pth.tar-2"):
        file.unlink()
    resumed = build(command(toy, "CoPrompt", later, opts=(*opts, "RESUME", str(later))))
    resumed.train()
    assert drawn == [*everything, *everything[steps:]]
    ours, theirs = state_of(resumed), state_of(trainer)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_a_compiled_step_takes_the_sentence_that_was_drawn(toy, tmp_path, monkeypatch):
    """The traced graph without code generation, which takes long."""
    eager = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(compiled.torch, "compile", lambda step, **_: eager(step))
    torch._dynamo.reset()
    states = []
    for value in ("True", "False"):
        trainer = build(command(toy, "CoPrompt", tmp_path / value, opts=("TRAIN.COMPILE", value)))
        trainer.train()
        states.append(state_of(trainer))
    assert all(torch.allclose(states[0][k], v, atol=1e-6) for k, v in states[1].items())


def test_a_test_needs_no_sentences(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path in small.yaml is found from anywhere
    assert train.main(command(toy, "CoPrompt", tmp_path / "run")) == 0
    flags = ("--eval-only", "--model-dir", str(tmp_path / "run"))
    for path in ("", "nowhere.json"):
        opts = (KEY, path, "DATASET.SUBSAMPLE_CLASSES", "new")
        assert train.main(command(toy, "CoPrompt", tmp_path / f"t{path}", *flags, opts=opts)) == 0
    trainer = build(command(toy, "CoPrompt", tmp_path / "again", opts=(KEY, "")))
    trainer.load_model(str(tmp_path / "run"))
    assert classify(trainer).isfinite().all()


# Files of sentences

SHORT = {name: ["A thing.", "It is there."] for name in CLASSES}
WRONG = {
    "no JSON": ("{", "is not valid JSON"),
    "a list": ([1], r"must hold an object \{class name"),
    "no sentences": ({**SHORT, "red circle": []}, r"class 'red circle' \[\]; allowed is a list of"),
    "too many": ({"red circle": ["a"] * (MOST + 1)}, "allowed is a list of 1 to 1,000 sentences"),
    "a number": ({"red circle": [1]}, "the sentence 1, which is no text"),
    "an empty text": ({"red circle": [" "]}, "the sentence ' ', which is no text"),
    "half a letter": ({"red circle": ["\ud800"]}, r"the sentence '\\ud800', which is no text"),
    "a class is missing": (
        {"red_circles": ["A thing."], **{name: ["A thing."] for name in CLASSES[1:]}},
        r"no sentences for 1 of 3 classes .*most like '\w+ circle' is",
    ),
    "unequal": (
        {**SHORT, "red circle": ["A thing."]},
        r"1 sentences for class 'red circle' and 2 for '.*': all classes need equally many",
    ),
    "too long": (
        {name: ["word " * 76] for name in CLASSES},
        r"a sentence too long: the sentence 'word .* has 78 tokens, CLIP reads at most 77$",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_says_what_is_wrong(kind, toy, tmp_path, capsys):
    content, says = WRONG[kind]
    (tmp_path / "file.json").write_text(content if content == "{" else json.dumps(content))
    opts = (KEY, str(tmp_path / "file.json"))
    message = refused(capsys, command(toy, "CoPrompt", tmp_path / "run", opts=opts))
    assert KEY in message
    assert re.search(says, message.strip()), message


@pytest.mark.parametrize("path", ["", "nowhere.json", "."])
def test_no_file_is_refused_before_data_is_read(path, toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "prepare", lambda *_: pytest.fail("data was read"))
    says = refused(capsys, command(toy, "CoPrompt", tmp_path / "run", opts=(KEY, path)))
    assert says.startswith(f"error: {KEY} is ") and "training needs a JSON file" in says
    assert not (tmp_path / "run").exists()
    with pytest.raises(FileNotFoundError, match="training needs a JSON file"):
        build(command(toy, "CoPrompt", tmp_path / "python", opts=(KEY, path))).train()


def test_names_have_spaces_and_a_path_begins_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my.json").write_text(json.dumps({"a_cat": ["1", "2"], "dog": ["3", "4"], "x": ["5"]}))
    table = read_sentences("my.json", KEY)
    assert by_number(table, ["dog", "a_cat"], KEY) == [["3", "1"], ["4", "2"]]
