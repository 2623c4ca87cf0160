"""What a sweep consists of: folders, settings, dependencies, and what it is expected to take."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from tests.helpers.sweep_runs import FakeRuns
from tests.helpers.toy_run import REPO
from tools.sweep import protocols
from tools.sweep.cli import main
from tools.sweep.protocols import Request, RunPath, expand, known_methods, variant
from tools.sweep.status import plan_table
from tools.sweep.store import RunStore


def plan(protocol, methods=("MMRL",), **options):
    return expand(Request(protocol, methods, Path("/out"), Path("/data"), **options))


# Which settings the authors' scripts take: method, protocol's ending, ImageNet or not
VARIANTS = {
    ("MMRL", "", False): "vit_b16",
    ("MMRL", "", True): "vit_b16_imagenet",
    ("MMRL", "_few_shot", False): "vit_b16_few_shot",
    ("MMRL", "_few_shot", True): "vit_b16_imagenet",
    ("MMRLPlus", "_cross_datasets", False): "vit_b16_cross_datasets",
    ("CoOp", "", False): "vit_b16_ctxv1",
    ("CoOp", "", True): "vit_b16_ep50_ctxv1",
    ("CoOp", "_few_shot", False): "vit_b16_ctxv1",
    ("CoOp", "_cross_datasets", False): "vit_b16_ep50_ctxv1",
    ("CoCoOp", "_few_shot", True): "vit_b16_c4_ep10_batch1_ctxv1",
    ("MaPLe", "", False): "vit_b16_c2_ep5_batch4_2ctx",
    ("MaPLe", "_cross_datasets", False): "vit_b16_c2_ep5_batch4_2ctx_cross_datasets",
    ("PromptSRC", "_cross_datasets", False): "vit_b16_c2_ep20_batch4_4+4ctx",
    ("VPT", "", True): "vit_b16_c2_ep5_batch4_4ctx",
    ("ZeroshotCLIP", "_few_shot", True): "vit_b16",
}


@pytest.mark.parametrize("case", VARIANTS, ids=str)
def test_the_published_settings(case):
    method, ending, imagenet = case
    assert variant(method, ending, "imagenet" if imagenet else "dtd") == VARIANTS[case]


def test_every_run_lies_where_its_settings_say():
    for protocol in ("base2new", "few_shot", "cross_dataset"):
        runs = plan(protocol, ["all"])
        assert len({run.directory for run in runs}) == len(runs)
        for run in runs:
            path = RunPath.parse(run.directory)
            said = dict(zip(run.arguments[:-1:2], run.arguments[1::2], strict=False))
            words = list(run.arguments)
            assert path.group.partition("/")[0] == protocol
            assert said["--trainer"] == path.method in known_methods()
            assert f"seed{said['--seed']}" == path.seed
            assert said["--output-dir"] == f"/out/{run.directory}"
            file = f"configs/trainers/{path.method}/{path.cfg}.yaml"
            assert said["--config-file"] == str(REPO / file) and (REPO / file).is_file()
            assert f"shots_{words[words.index('DATASET.NUM_SHOTS') + 1]}" == path.shots
            assert ("--eval-only" in words) == (run.after is not None)
            assert run.after is None or f"/out/{run.after}" in words


def test_base_to_new_has_a_test_behind_every_training():
    runs = plan("base2new", seeds=[3, 1], datasets=["dtd", "imagenet"])
    assert [run.directory.split("/")[1:3] for run in runs[:2]] == [
        ["train_base", "dtd"],
        ["test_new", "dtd"],
    ]
    assert all(
        test.after == train.directory for train, test in zip(runs[::2], runs[1::2], strict=True)
    )
    assert [run.directory[-5:] for run in runs[::2]] == ["seed3", "seed1"] * 2
    assert "test_new/imagenet/shots_16/MMRL/vit_b16_imagenet/" in runs[-1].directory


def test_all_targets_wait_for_one_source_and_all_sources_come_first():
    runs = plan("cross_dataset", ["MMRL", "CoOp"], seeds=[1, 2])
    assert [run.after is None for run in runs] == [True] * 4 + [False] * 2 * 2 * 14
    for source in runs[:4]:
        assert sum(run.after == source.directory for run in runs) == 14


def test_a_part_alone_waits_for_nothing():
    trained = plan("base2new", parts=["train"])
    tested = plan("base2new", parts=["test"])
    assert len(trained) == len(tested) == 33 and not any(run.after for run in tested)
    assert {run.directory for run in trained + tested} == {
        run.directory for run in plan("base2new")
    }


def test_what_is_asked_twice_is_computed_once():
    assert len(plan("few_shot", ["MMRL", "mmrl"], datasets=["dtd", "dtd"], seeds=[1, 1])) == 5


def test_settings_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pets.yaml").write_text("DATASET: {NAME: ImageFolder}")
    runs = plan(
        "base2new",
        datasets=["pets.yaml"],
        cfg="small",
        backbone="small",
        shots=[2, 4],
        plugins=["mine.py", "more.py"],
        plugin_paths=["first"],
        options=["OPTIM.LR", "0.1"],
    )
    assert len(runs) == 12 and "/pets/shots_2/MMRL/small/" in runs[0].directory
    words = " ".join(runs[0].arguments)
    assert (
        "--backbone small --plugin mine.py --plugin more.py --plugin-path first" in words
        and words.endswith("OPTIM.LR 0.1")
    )
    assert "--dataset-config-file pets.yaml" in words


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--methods", "MRML"], "did you mean MMRL?"),
        (["--methods", "MMRL", "--datasets", "eurosta"], "did you mean eurosat?"),
        (["--methods", "MMRL", "--datasets", "mine.yaml"], "'mine.yaml': there is no such file"),
        (["--methods", "MMRL", "--cfg", "large"], "MMRL has no settings 'large'; there are small"),
        (["--methods", "MMRL", "--seeds", "one"], "a seed is a whole number"),
        (["--methods", "MMRL", "--shots", "0"], "not a whole number from 1"),
        (["--methods", "MMRL", "--retries", "-1"], "retries"),
        (["--methods", "MMRL", "--partition", "gpu"], "--partition is for --on slurm"),
        ([], "--methods"),
    ],
)
def test_what_is_refused(flags, message, tmp_path, capsys):
    try:
        code = main(["base2new", *flags, "--output", str(tmp_path / "out")])
    except SystemExit as end:
        code = end.code
    assert code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_commands_can_be_printed(tmp_path, capsys):
    flags = ["--methods", "CoOp", "--datasets", "dtd", "--seeds", "2", "--commands"]
    assert main(["base2new", *flags, "--output", str(tmp_path), "--", "OPTIM.LR", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(shlex.split(line)[1].endswith("train.py") for line in lines)
    assert not list(tmp_path.iterdir())


def test_the_plan_says_what_it_will_take(tmp_path):
    """Medians of the same; else of other data sets and shots; else nothing."""
    runs = expand(
        Request("few_shot", ["MMRL"], tmp_path, Path("data"), ["dtd", "eurosat"], [1, 2, 3], [4, 8])
    )
    for seed, seconds in ((1, 100), (2, 140)):
        place = tmp_path / f"few_shot/dtd/shots_4/MMRL/vit_b16_few_shot/seed{seed}"
        place.mkdir(parents=True)
        record = {"complete": True, "total": 10, "correct": 5, "accuracy": 50.0}
        place.joinpath("results.json").write_text(json.dumps(record | {"seconds": seconds}))
    text = plan_table(RunStore(tmp_path), runs, workers=2)
    by_dataset = {line.split()[1]: line for line in text.splitlines() if "MMRL/" in line}
    # dtd: one run with 4 shots is left, three with 8 are like it; eurosat: six are like it
    assert "8:00 min" in by_dataset["dtd"] and "12:00 min" in by_dataset["eurosat"]
    assert "to do: 20:00 min; 2 at once: 10:00 min, as finished runs took" in text
    other = expand(Request("few_shot", ["CoOp"], tmp_path, Path("data"), ["dtd"]))
    assert "of 15 runs nothing is known" in plan_table(RunStore(tmp_path), other, workers=1)


def test_nothing_is_written_by_a_dry_run(tmp_path):
    fakes = FakeRuns(tmp_path)
    done = fakes.sweep("base2new", "--methods", "MMRL", "--dry-run")
    assert done.returncode == 0 and "its training" in done.out
    assert not fakes.output.exists() and fakes.started() == []


def test_a_config_of_ones_own_does_not_replace_the_published_one(tmp_path, monkeypatch):
    shutil.copytree(REPO / "configs", tmp_path / "configs")
    monkeypatch.setattr(protocols, "CONFIGS", tmp_path / "configs")
    before = variant("CoCoOp"), variant("MaPLe", "_cross_datasets")
    for method in ("CoCoOp", "MaPLe"):
        (tmp_path / "configs/trainers" / method / "vit_b16_my.yaml").write_text("")
    assert before == (variant("CoCoOp"), variant("MaPLe", "_cross_datasets"))
