"""The shell scripts: what they ask of train.py, where, and how sweeps go on after a failure."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.toy_run import REPO
from tools.sweep.protocols import known_methods, trainer_named

ARGUMENTS = {  # script: its arguments, the runs it makes below the output folder
    "base2new_train": (["dtd"], ["base2new/train_base/dtd/shots_16"]),
    "base2new_test": (["dtd"], ["base2new/test_new/dtd/shots_16"]),
    "few_shot": (["dtd"], [f"few_shot/dtd/shots_{k}" for k in (1, 2, 4, 8, 16)]),
    "cross_dataset_train": ([], ["cross_dataset/train_source/imagenet/shots_16"]),
    "cross_dataset_test": (["dtd"], ["cross_dataset/test_target/dtd/shots_16"]),
    "domain_generalization_test": (
        [],
        [
            f"cross_dataset/test_target/{name}/shots_16"
            for name in ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
        ],
    ),
}
# Stands in for train.py's Python: notes its arguments, and fails where it is told to. No folder
# holds a run of other settings.
RECORDER = (
    f"""#!/usr/bin/env bash
[[ $2 == tools.sweep.planned ]] && exec cp <(echo null) "$4"
[[ $1 == *train.py ]] || exec {sys.executable} "$@"
"""
    + """
echo "$@" >> "$RECORD"
while [[ $1 != --output-dir ]]; do shift; done
[[ -z ${FAIL:-} || $2 != *$FAIL* ]] || { echo no luck; exit 3; }
mkdir -p "$2"
echo '{"complete": true, "total": 2, "correct": 1, "accuracy": 50.0}' > "$2/results.json"
"""
)


@pytest.fixture
def run(tmp_path):
    """Runs a script in a folder of its own with the recorder as Python."""
    recorder = tmp_path / "recorder.sh"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    own = ("DATA", "CFG", "SHOTS", "SEEDS", "TAG", "PLUGIN")
    clean = {k: v for k, v in os.environ.items() if k not in own}

    def call(script, *arguments, **env):
        return subprocess.run(
            ["bash", str(REPO / "scripts" / script), *arguments],
            cwd=tmp_path,
            env={
                **clean,
                **{"PYTHON": str(recorder), "RECORD": str(tmp_path / "record"), "OUTPUT": "out"},
                **env,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def recorded(tmp_path) -> list[str]:
    file = tmp_path / "record"
    return file.read_text().splitlines() if file.exists() else []


def test_links_name_methods_and_hold_every_script():
    links = [path for path in (REPO / "scripts").iterdir() if path.is_symlink()]
    assert {trainer_named(link.name) for link in links} <= set(known_methods())
    for link in links:
        assert {path.stem for path in link.glob("*.sh") if path.is_file()} == set(ARGUMENTS)


@pytest.mark.parametrize("script", ARGUMENTS)
def test_what_a_script_runs(script, run, tmp_path):
    arguments, places = ARGUMENTS[script]
    seed = [] if script == "few_shot" else ["2"]
    done = run(f"{script}.sh", "MaPLe", *arguments, *seed, DATA="images")
    assert done.returncode == 0, done.stderr
    runs = [file.relative_to(tmp_path / "out") for file in tmp_path.glob("out/**/results.json")]
    seeds = ("2",) if seed else ("1", "2", "3")
    variants = {run.parts[-3] for run in runs}
    assert {str(run.parents[3]) for run in runs} == set(places)
    assert {run.parts[-2] for run in runs} == {f"seed{s}" for s in seeds}
    lines = recorded(tmp_path)
    assert len(lines) == len(places) * len(seeds) and len(variants) == 1
    for line in lines:
        words = line.split()
        config = words[words.index("--config-file") + 1]
        assert config == f"{REPO}/configs/trainers/MaPLe/{variants.copy().pop()}.yaml"
        assert os.path.isfile(config)
        assert words[words.index("--root") + 1] == f"{tmp_path}/images"
        assert ("--eval-only" in words) == script.endswith("test")


@pytest.mark.parametrize(
    ("called", "arguments"),
    [
        ("mmrl_plus/base2new_train.sh", ["dtd", "1"]),
        ("base2new_train.sh", ["mmrl_plus", "dtd", "1"]),
        ("base2new_train.sh", ["MMRLPLUS", "dtd", "1"]),
    ],
)
def test_a_method_is_named_by_the_folder_or_the_first_argument(called, arguments, run, tmp_path):
    run(called, *arguments, PLUGIN="mine.py")
    (line,) = recorded(tmp_path)
    assert "--trainer MMRLPlus " in line and "--plugin mine.py" in line


def test_a_test_reads_what_the_training_wrote(run, tmp_path):
    for protocol, data in (("base2new", ["dtd"]), ("cross_dataset", [])):
        run(f"mmrl/{protocol}_train.sh", *data, "1")
        run(f"mmrl/{protocol}_test.sh", "dtd", "1")
        train, test = recorded(tmp_path)[-2:]
        written = train.split("--output-dir ")[1].split()[0]
        assert f"--model-dir {written} " in test


def test_settings_come_from_the_environment(run, tmp_path):
    run(
        *("mmrl/base2new_train.sh", "dtd", "5", "7"),
        **{"CFG": "small", "BACKBONE": "small", "SHOTS": "4", "OPTS": "OPTIM.LR 0.1 TASK FS"},
    )
    first, second = recorded(tmp_path)
    assert "--seed 5" in first and "--seed 7" in second
    assert "/MMRL/small.yaml" in first and "--backbone small" in first
    assert "DATASET.NUM_SHOTS 4" in first and first.endswith("OPTIM.LR 0.1 TASK FS")
    assert "/shots_4/MMRL/small/seed5 " in first


def test_a_tag_gives_other_settings_folders_of_their_own(run, tmp_path):
    for tag, rate in (("", "0.1"), ("lr=0.5", "0.5")):
        env = {"CFG": "small", "TAG": tag, "OPTS": f"OPTIM.LR {rate}"}
        assert run("mmrl/base2new_train.sh", "dtd", "1", **env).returncode == 0
    done = run("all/base2new.sh", "mmrl", DATASETS="dtd", SEEDS="1", CFG="small", TAG="lr=0.5")
    assert "2 runs, 1 of them finished already" in done.stdout
    folders = [line.split("--output-dir ")[1].split()[0] for line in recorded(tmp_path)]
    assert [folder.split("/")[-2] for folder in folders] == ["small", *["small@lr=0.5"] * 2]


def test_a_data_set_of_ones_own_is_a_yaml(run, tmp_path):
    (tmp_path / "pets.yaml").write_text("DATASET: {NAME: ImageFolder, PATH: pets}")
    run("mmrl/few_shot.sh", "pets.yaml", "1", SHOTS="4")
    assert "--dataset-config-file pets.yaml" in recorded(tmp_path)[0]
    assert (tmp_path / "out/few_shot/pets/shots_4/MMRL").is_dir()


def test_finished_runs_are_skipped_and_unfinished_ones_redone(run, tmp_path):
    for _ in range(2):
        run("mmrl/base2new_train.sh", "dtd", "1")
    assert len(recorded(tmp_path)) == 1
    next((tmp_path / "out").rglob("results.json")).unlink()
    run("mmrl/base2new_train.sh", "dtd", "1")
    assert len(recorded(tmp_path)) == 2


@pytest.mark.parametrize(("sweep", "count"), [("base2new", 2 * 2), ("cross_dataset", 1 + 2)])
def test_a_sweep_runs_all_parts_of_its_protocol(sweep, count, run, tmp_path):
    done = run(f"all/{sweep}.sh", "mmrl", DATASETS="dtd eurosat", SEEDS="1")
    assert done.returncode == 0 and done.stdout.endswith("all runs finished\n")
    assert len(recorded(tmp_path)) == count


def test_a_sweep_goes_on_after_failures_and_lists_them(run, tmp_path):
    names = "dtd eurosat"
    done = run("all/base2new.sh", "mmrl", DATASETS=names, SEEDS="1", FAIL="train_base/eurosat")
    assert done.returncode == 1
    assert "2 failed" in done.stderr  # the tests of what was not trained, too
    assert (
        "MMRL eurosat base 16 shots seed 1: a number became infinite or NaN; tried 2 times"
        in done.stderr
    )
    assert "no luck" in done.stderr
    assert len(recorded(tmp_path)) == 4  # the failing one twice
    again = run("all/base2new.sh", "mmrl", DATASETS=names, SEEDS="1")
    assert again.returncode == 0 and len(recorded(tmp_path)) == 6


def test_a_sweep_lists_the_methods(run):
    done = run("all/base2new.sh", "mmlr")
    assert done.returncode == 2 and "did you mean MMRL?" in done.stderr
    assert "MMRL, MMRLPlus" in done.stderr


# Stands in for a run that a signal stops: it waits for one and says which.
WAITER = (
    f"""#!/usr/bin/env bash
[[ $2 == tools.sweep.planned ]] && exec cp <(echo null) "$4"
[[ $1 == *train.py ]] || exec {sys.executable} "$@"
"""
    + """
trap 'echo TERM >> "$RECORD"; exit 75' TERM
trap 'echo USR1 >> "$RECORD"; exit 75' USR1
trap 'echo INT >> "$RECORD"; exit 130' INT
echo "$@" >> "$RECORD"
while :; do sleep 0.02; done
"""
)


@pytest.mark.parametrize(
    ("script", "name", "whole_group", "code", "done"),  # done: the run was at its end
    [
        ("mmrl/base2new_train.sh", "TERM", False, 75, False),
        ("mmrl/base2new_train.sh", "TERM", True, 75, True),
        ("mmrl/base2new_train.sh", "USR1", False, 75, False),
        ("mmrl/base2new_train.sh", "INT", True, 130, False),
        ("all/base2new.sh", "TERM", False, 75, False),
        ("all/base2new.sh", "INT", True, 130, True),
    ],
)
def test_a_signal_ends_the_run_and_the_script(script, name, whole_group, code, done, tmp_path):
    """It reaches the run, which is waited for, and no other run is begun."""
    waiter, record = tmp_path / "waiter.sh", tmp_path / "record"
    waiter.write_text(re.sub(r"exit \d+", "exit 0", WAITER) if done else WAITER)
    waiter.chmod(0o755)
    env = {"PYTHON": str(waiter), "RECORD": str(record), "OUTPUT": str(tmp_path), "SEEDS": "1 2"}
    process = subprocess.Popen(
        ["bash", str(REPO / "scripts" / script), "mmrl" if script[:3] == "all" else "dtd"],
        env={**os.environ, **env},
        start_new_session=True,  # a group of its own, as in a terminal
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not recorded(tmp_path) and process.poll() is None:
        time.sleep(0.01)
    number = getattr(signal, f"SIG{name}")
    (os.killpg if whole_group else os.kill)(process.pid, number)
    assert process.wait() == code
    started, *received = recorded(tmp_path)
    passed = name if script[:3] != "all" else "TERM"  # what a sweep's workers say to their runs
    assert "train.py" in started and set(received) == {passed}


# With the real train.py


def real(name, *arguments, toy, output, **env):
    return subprocess.run(
        ["bash", str(REPO / "scripts" / name), *arguments],
        cwd=output.parent,
        env={
            **os.environ,
            **{"DATA": str(toy), "OUTPUT": str(output), "CFG": "small", "SHOTS": "2"},
            **{"BACKBONE": str(toy / "narrow.pt"), "PYTHON": sys.executable},
            **{"OPTS": "OPTIM.MAX_EPOCH 1", "PYTHONWARNINGS": "ignore", **env},
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_base_to_new_by_script_from_another_folder(toy, tmp_path):
    output = tmp_path / "out"
    done = real("mmrl/base2new_train.sh", "colored_shapes", "1", toy=toy, output=output)
    assert done.returncode == 0, done.stderr
    run = output / "base2new/train_base/colored_shapes/shots_2/MMRL/small/seed1"
    assert json.loads((run / "results.json").read_text())["classes"] == "base"
    again = real("mmrl/base2new_train.sh", "colored_shapes", "1", toy=toy, output=output)
    assert again.stdout == f"finished already: {run}\n"
    done = real("mmrl/base2new_test.sh", "colored_shapes", "1", toy=toy, output=output)
    assert done.returncode == 0, done.stderr
    run = output / "base2new/test_new/colored_shapes/shots_2/MMRL/small/seed1"
    assert json.loads((run / "results.json").read_text())["classes"] == "new"


def test_the_command_people_type_first_says_what_is_missing(tmp_path):
    output, nowhere = tmp_path / "out", tmp_path / "nowhere"
    done = real(
        "mmrl/base2new_train.sh", "imagenet", "1", toy=nowhere, output=output, BACKBONE="", OPTS=""
    )
    assert done.returncode == 2
    shown = done.stdout + done.stderr
    assert shown.count("\n") < 25
    for part in ("ImageNet", str(nowhere), "tools.data download imagenet", "make demo"):
        assert part in shown
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "usage:"), (("caltech",), "caltech101 colored_shapes"), (("dtd", "one"), "whole number")],
)
def test_scripts_refuse(arguments, message, toy, tmp_path):
    done = real("mmrl/base2new_train.sh", *arguments, toy=toy, output=tmp_path / "out")
    assert done.returncode == 2 and message in done.stderr


@pytest.mark.slow
def test_every_script_runs_for_real_on_drawn_layouts(tmp_path):
    """All protocols with the small CLIP on small drawings of the fifteen layouts."""
    from tools.data.toy import write_toy

    write_toy(tmp_path / "data")
    env = {
        **os.environ,
        **{"PYTHON": sys.executable, "DATA": str(tmp_path / "data"), "OUTPUT": str(tmp_path)},
        **{"CFG": "small", "SHOTS": "1", "PYTHONWARNINGS": "ignore"},
        **{"OPTS": "OPTIM.MAX_EPOCH 1", "OMP_NUM_THREADS": "1"},
    }
    for script, (arguments, _) in ARGUMENTS.items():
        command = ["bash", str(REPO / "scripts/mmrl" / f"{script}.sh"), *arguments]
        done = subprocess.run([*command, "1"], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    records = [json.loads(f.read_text()) for f in tmp_path.rglob("results.json")]
    assert len(records) == 9 and all(record["complete"] for record in records)
