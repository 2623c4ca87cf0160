"""Nothing that is not a number is a result: weights, features, logits, records."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import frozen_clip
import train
from run.config import default_config
from run.identity import settings_of
from run.reader import read_record
from run.record import write_results
from tests.helpers.predict_runs import answers, refused
from tests.helpers.result_files import results, write
from tests.helpers.result_files import trained as log_of
from tests.helpers.toy_run import CLASSES, build, command, config
from tools import convert_checkpoint
from tools.benchmark import __main__ as benchmark
from tools.predict import export as exporting
from tools.predict import load
from tools.predict.__main__ import main as predict
from tools.results.reader import read_run
from trainers.mmrl import MMRLMethod

LEARNER = "MultiModalRepresentationLearner"


def poison(file, name, value=math.nan, count=2):
    """Put values that are no numbers into a tensor of a checkpoint or of weights."""
    content = torch.load(file, weights_only=True)
    state = content.get("state_dict", content)
    state[name].view(-1)[:count] = value
    torch.save(content, file)


def said(capsys) -> str:
    """The one line of an error."""
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    return message


# What is loaded


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["visual.conv1.weight", "token_embedding.weight", "logit_scale"])
def test_weights_of_clip(name, value, toy, tmp_path):
    file = shutil.copy(toy / "narrow.pt", tmp_path / "clip.pt")
    poison(file, name, value, count=1)
    with pytest.raises(ValueError, match=rf"clip\.pt has values .* NaN: {name} \(1 of .*Get its"):
        frozen_clip.load(str(file))
    shutil.copy(toy / "narrow.pt", file)
    frozen_clip.load(str(file))


def test_weights_that_half_precision_cannot_hold(toy, tmp_path):
    file = shutil.copy(toy / "narrow.pt", tmp_path / "clip.pt")
    poison(file, "visual.proj", 1e5)
    with pytest.raises(ValueError, match=r"visual\.proj \(2 of .*float16 ends at 65504.*PREC fp32"):
        frozen_clip.load(str(file), dtype=torch.float16)
    frozen_clip.load(str(file))


def test_weights_by_the_command(toy, tmp_path, capsys):
    file = shutil.copy(toy / "narrow.pt", tmp_path / "clip.pt")
    poison(file, "ln_final.bias")
    arguments = command(toy, "ZeroshotCLIP", tmp_path / "out")
    arguments[arguments.index("--backbone") + 1] = str(file)
    assert train.main(arguments) == 2
    assert "backbone " in (message := said(capsys)) and "ln_final.bias (2 of 64" in message
    assert not (tmp_path / "out").exists()


def test_what_a_run_learned(trained, toy, tmp_path, capsys, picture):
    """In testing, prediction, conversion and resuming; what the message advises works."""
    newest = trained / LEARNER / "model.pth.tar-2"
    poison(newest, "rep_tokens")
    test = command(toy, "MMRL", tmp_path / "test", "--eval-only", "--model-dir", str(trained))
    assert train.main(test) == 2
    says = "model.pth.tar-2 has values that are infinite or NaN: rep_tokens (2 of "
    assert says in (message := said(capsys)) and "--load-epoch" in message
    assert not (tmp_path / "test").exists()
    end = test.index("TASK")
    assert train.main([*test[:end], "--load-epoch", "1", *test[end:]]) == 0
    capsys.readouterr()

    assert says in refused(capsys, "--model-dir", trained, picture)
    assert len(answers(capsys, "--model-dir", trained, "--load-epoch", 1, picture)["classes"]) == 3
    out = tmp_path / "out.safetensors"
    assert convert_checkpoint.main([str(newest), str(out)]) == 2
    assert says in said(capsys) and not out.exists()
    assert convert_checkpoint.main([str(newest.with_name("model.pth.tar-1")), str(out)]) == 0
    capsys.readouterr()
    save_file({**load_file(out), "rep_tokens": torch.full((5, 32), math.inf)}, out)
    assert convert_checkpoint.main([str(out), str(tmp_path / "o.pth"), "--trainer", "MMRL"]) == 2
    assert "out.safetensors has values that are infinite or NaN: rep_tokens" in said(capsys)

    again = command(toy, "MMRL", trained, opts=("TRAIN.CHECKPOINT_FREQ", "1"))
    assert train.main(again) == 2
    assert "Move it elsewhere" in said(capsys)
    newest.rename(tmp_path / "elsewhere")
    assert train.main(again) == 0
    assert "RESUMING after epoch 1" in capsys.readouterr().out


def test_what_is_not_read_of_a_public_checkpoint_may_be_anything(trained, toy, tmp_path):
    run = tmp_path / "public"
    convert_checkpoint.convert(trained, run, to="public")
    file = run / LEARNER / "model.pth.tar-2"
    content = torch.load(file, weights_only=True)
    content["state_dict"]["image_encoder.mask"] = torch.full((3, 3), -math.inf)
    torch.save(content, file)
    build(command(toy, "MMRL", tmp_path / "test")).load_model(str(run))


# What is computed


def broken(classify, rows):
    """Images of these numbers get logits that are none."""

    def changed(self, images, w, seen):
        logits = classify(self, images, w, seen)
        logits[rows, 1] = math.nan
        return logits

    return changed


def test_images_without_an_answer(toy, trained, tmp_path, monkeypatch, capsys):
    test = command(toy, "MMRL", tmp_path / "test", "--eval-only", "--model-dir", str(trained))
    with monkeypatch.context() as patch:
        patch.setattr(MMRLMethod, "classify", broken(MMRLMethod.classify, [0, 3]))
        capsys.readouterr()
        assert train.main(test) == 3
    message = said(capsys)
    assert "2 of 9 images have no answer" in message and "PREC fp32" in message
    log = (tmp_path / "test/log.txt").read_text()
    assert message in log and "accuracy" not in log.split("Evaluate on")[1]
    assert not (tmp_path / "test/results.json").exists()
    assert not read_run(tmp_path / "test").metrics
    assert train.main(test) == 0 and (tmp_path / "test/results.json").exists()


@pytest.mark.parametrize("final", ["last_step", "best_val"])
def test_after_training(final, toy, tmp_path, monkeypatch, capsys):
    """What was saved before the evaluation is kept, and can be tested."""
    arguments = command(toy, "MMRL", tmp_path, opts=("TEST.FINAL_MODEL", final))
    with monkeypatch.context() as patch:
        patch.setattr(MMRLMethod, "classify", broken(MMRLMethod.classify, [0]))
        assert train.main(arguments) == 3
    assert "images have no answer" in said(capsys)
    assert not (tmp_path / "results.json").exists()
    saved = (tmp_path / LEARNER).exists()
    assert saved == (final == "last_step")  # a validation comes before the first is saved
    assert train.main(arguments) == 0 and (tmp_path / "results.json").exists()


def test_half_precision_that_overflows(toy, tmp_path, monkeypatch, capsys):
    """As the message advises, what was trained is tested, and answers, in float32."""
    classify = MMRLMethod.classify
    overflowing = broken(classify, [0])

    def narrow(*given):
        return (overflowing if torch.is_autocast_enabled("cpu") else classify)(*given)

    monkeypatch.setattr(MMRLMethod, "classify", narrow)
    half = ("TRAINER.MMRL.PREC", "amp")
    assert train.main(command(toy, "MMRL", tmp_path / "run", opts=half)) == 3
    assert "test the checkpoint with PREC fp32 (--eval-only)" in said(capsys)
    flags = ("--eval-only", "--model-dir", str(tmp_path / "run"))
    assert train.main(command(toy, "MMRL", tmp_path / "test", *flags)) == 0
    image = str(next((toy / "colored_shapes/images").glob("*/test_*.png")))
    assert predict(["--model-dir", str(tmp_path / "run"), image]) == 1
    assert predict(["--model-dir", str(tmp_path / "run"), "--precision", "fp32", image]) == 0


def test_classes_without_a_text_feature(run, toy, tmp_path, monkeypatch, capsys, picture):
    text_features = MMRLMethod.text_features

    def overflowing(self):
        w = text_features(self)
        w[1] = math.inf
        return w

    monkeypatch.setattr(MMRLMethod, "text_features", overflowing)
    says = f"the text features of 1 of 3 classes are infinite or NaN ({CLASSES[1]})"
    flags = ("--eval-only", "--model-dir", str(run))
    half = ("TRAINER.MMRL.PREC", "amp")
    assert train.main(command(toy, "MMRL", tmp_path / "test", *flags, opts=half)) == 3
    assert says in (message := said(capsys)) and "set TRAINER.MMRL.PREC to fp32" in message
    assert predict(["--model-dir", str(run), picture]) == 3
    assert says in (message := said(capsys)) and "PREC is fp32 already" in message
    assert not (run / "text_features").exists()


def test_kept_text_features_that_are_no_numbers_are_made_again(run, picture):
    expected = load(run).logits(picture)
    (file,) = (run / "text_features").iterdir()
    with safe_open(file, framework="pt") as content:
        metadata, w = content.metadata(), content.get_tensor("w")
    save_file({"w": w * math.nan}, file, metadata=metadata)
    assert torch.equal(load(run).logits(picture), expected)
    assert load_file(file)["w"].isfinite().all()


def test_prediction_leaves_out_what_has_no_answer(run, toy, monkeypatch, capsys):
    images = sorted(map(str, (toy / "colored_shapes/images").glob("red_*/test_*.png")))[:3]
    expected = answers(capsys, "--model-dir", run, *images)["predictions"]
    monkeypatch.setattr(MMRLMethod, "classify", broken(MMRLMethod.classify, [1]))
    found = answers(capsys, "--model-dir", run, *images, code=1)
    assert found["predictions"] == [expected[0], expected[2]]
    assert found["skipped"][0]["image"] == images[1]
    assert "its logits are infinite or NaN. PREC is fp32" in found["skipped"][0]["reason"]
    assert predict(["--model-dir", str(run), "--precision", "amp", *images]) == 1
    shown = capsys.readouterr()
    assert "nan" not in shown.out and "set --precision to fp32" in shown.err
    with pytest.raises(FloatingPointError, match="1 of 3 images have no answer"):
        load(run)(images)


@pytest.mark.parametrize("count", [1, 5])
def test_an_export_that_is_no_number_is_not_taken_for_equal(count, run, monkeypatch):
    """Of the two batches that are compared, the first or the second."""
    classifier = load(run)
    side = exporting.ImageSide(classifier)

    def graph(images, w):
        return side(images, w) * (math.nan if len(images) == count else 1)

    with pytest.raises(RuntimeError, match=r"the exported graph is wrong: .* by up to nan"):
        exporting.largest_difference(side, graph, classifier)
    monkeypatch.setattr(MMRLMethod, "classify", broken(MMRLMethod.classify, [0]))
    with pytest.raises(FloatingPointError, match="the method's logits of random images"):
        exporting.largest_difference(side, side, classifier)


def test_the_benchmark(monkeypatch):
    measured = {"step": 1.0, "images": 1.0, "memory": 1, "floor": 0.5}
    case = {"method": "MMRL", "precision": "fp32", "device": "cpu"}
    for bad in ({"loss": math.nan, "gradient": 1.0}, {"loss": 1.0, "gradient": math.inf}):
        monkeypatch.setattr(benchmark, "run", lambda case, bad=bad: measured | bad)
        for sides in (["ours"], ["plain", "ours"]):
            with pytest.raises(RuntimeError, match=r"of (ours|plain) is (nan|inf), which is no"):
                benchmark.compare(case, 1, sides)


# What is recorded


def test_a_record_of_what_is_no_number(toy, tmp_path):
    cfg, _ = config(*command(toy, "MMRL", tmp_path))
    found = {"accuracy": 50.0, "macro_f1": math.nan, "total": 8, "split": "test"}
    write_results(cfg, found | {"ece": np.float32("inf")}, tmp_path)
    record = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert "macro_f1" not in record and record["not_finite"] == ["macro_f1", "ece"]
    assert read_run(tmp_path).metrics == {"accuracy": 50, "error": 50}
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(FloatingPointError, match="an accuracy of nan, which is no result"):
        write_results(cfg, found | {"accuracy": math.nan}, tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results(cfg, found, tmp_path, seconds=math.nan)
    assert (tmp_path / "results.json").read_bytes() == before


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "seconds"])
def test_a_record_that_holds_what_is_no_number_is_not_used(name, value, tmp_path):
    write(tmp_path / "results.json", results(4050, **{name: value}))
    run = read_run(tmp_path)
    assert (run.state, run.metrics) == ("unreadable", {})
    assert "which is no number" in run.reason
    write(tmp_path / "log.txt", log_of(4050))
    assert read_run(tmp_path).metrics["accuracy"] == 50


def test_settings_may_be_infinite(tmp_path):
    """A plugin's bound that is none. Records are JSON, which has no such number."""
    cfg = default_config()
    cfg.TRAINER.NAME = "MMRL"
    cfg.TRAINER.MMRL.BOUND = math.inf
    cfg.TRAINER.MMRL.BOUNDS = [1.0, -math.inf]
    settings = settings_of(cfg)
    assert settings["TRAINER.MMRL.BOUND"] == "inf"
    assert settings["TRAINER.MMRL.BOUNDS"] == [1.0, "-inf"]
    assert json.loads(json.dumps(settings, allow_nan=False)) == settings


def test_an_accuracy_that_is_no_share_of_the_images(tmp_path):
    """A plugin's evaluator may average over classes: there is no number of correct ones."""
    cfg = default_config()
    for accuracy, correct in ((81.2345, None), (81.3, 813)):
        write_results(cfg, {"accuracy": accuracy, "total": 1000}, tmp_path)
        record, metrics = read_record(tmp_path / "results.json")
        assert record["correct"] == correct and metrics["accuracy"] == accuracy
