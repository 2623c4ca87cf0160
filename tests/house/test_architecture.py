"""Who may import whom, which names of the engine plugins may use, and what the code never says."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.toy_run import REPO

ROOMS = {  # room: (our packages, other packages) that it may import
    "common": (set(), {"yaml"}),
    "frozen_clip": (
        {"dassl"},  # late, for a message
        {
            *("clip", "torch", "numpy", "safetensors", "huggingface_hub"),
            *("open_clip", "transformers"),  # late, where a backbone needs them
        },
    ),
    "training": ({"frozen_clip", "dassl", "common"}, {"torch", "yacs", "tqdm"}),
    "trainers": ({"training", "frozen_clip", "dassl"}, {"torch", "yacs"}),
    "datasets": ({"dassl", "common"}, {"numpy", "scipy", "PIL"}),
    "packages/dassl/src/dassl": (
        set(),
        {"torch", "torchvision", "numpy", "yacs", "tqdm", "tabulate", "PIL", "gdown"},
    ),
    "run": (
        {"dassl", "frozen_clip", "training", "trainers", "datasets", "common"},
        {"torch", "yacs", "yaml"},
    ),
    "tools": (
        {
            *("dassl", "frozen_clip", "training", "trainers", "datasets", "run", "common"),
            "train",  # tools.sweep.planned reads the arguments of runs as train.py does
        },
        {
            *("torch", "numpy", "PIL", "yacs", "yaml", "scipy", "pandas", "tabulate", "tqdm"),
            *("clip", "safetensors", "onnxruntime", "gdown", "submitit"),
            *("matplotlib", "jinja2", "markupsafe", "tensorboard", "google"),
        },
    ),
}
ENGINE = {  # what plugins may use, so that they also run on upstream Dassl
    "dassl.config": {"get_cfg_default", "clean_cfg"},
    "dassl.engine": {
        *("TRAINER_REGISTRY", "build_trainer", "TrainerBase"),
        *("SimpleTrainer", "TrainerX"),
    },
    "dassl.data": {"DataManager", "DatasetWrapper"},
    "dassl.data.data_manager": {"build_data_loader", "DataManager", "DatasetWrapper"},
    "dassl.data.datasets": {"DATASET_REGISTRY", "build_dataset", "Datum", "DatasetBase"},
    "dassl.data.datasets.base_dataset": {"Datum", "DatasetBase"},
    "dassl.data.transforms": {"build_transform", "INTERPOLATION_MODES"},
    "dassl.data.samplers": {
        *("build_sampler", "RandomSampler", "SequentialSampler", "RandomClassSampler"),
    },
    "dassl.evaluation": {
        *("EVALUATOR_REGISTRY", "build_evaluator", "EvaluatorBase", "Classification"),
    },
    "dassl.metrics": {
        *("compute_accuracy", "compute_distance_matrix"),
        *("cosine_distance", "euclidean_squared_distance"),
    },
    "dassl.modeling.ops": {"ema_model_update"},
    "dassl.modeling.ops.utils": {"sharpen_prob"},
    "dassl.optim": {"build_optimizer", "build_lr_scheduler"},
    "dassl.utils": {
        *("Registry", "check_availability", "setup_logger", "Logger", "set_random_seed"),
        *("collect_env_info", "AverageMeter", "MetricMeter", "save_checkpoint"),
        *("load_checkpoint", "resume_from_checkpoint", "load_pretrained_weights"),
        *("open_all_layers", "open_specified_layers", "count_num_param"),
        *("init_network_weights", "mkdir_if_missing", "check_isfile", "read_json", "write_json"),
        *("read_image", "listdir_nohidden", "tolist_if_not", "download_url"),
        "get_most_similar_str_to_a_from_b",
    },
}


# Imported where they are called, with a way around them.
OURS_ALONE = {
    "dassl.data.seeding": {"set_loader_seed"},
    "dassl.optim.lr_scheduler": {"EpochSchedule", "cosine_per_step"},
}


def imports(file: Path) -> list[tuple[str, set[str]]]:
    """(module, names) of every absolute import of a file, wherever it stands."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, set()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append((node.module, {alias.name for alias in node.names}))
    return found


def files_of(room: str) -> list[Path]:
    files = sorted((REPO / room).rglob("*.py"))
    assert files
    return files


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_point_down(room):
    ours, others = ROOMS[room]
    own = room.rpartition("/")[2]
    for file in files_of(room):
        for module, _ in imports(file):
            top = module.partition(".")[0]
            allowed = top in ours | others | {own} | sys.stdlib_module_names
            assert allowed, f"{file.relative_to(REPO)} imports {module}"


def test_a_trainer_imports_another_only_to_build_on_its_method():
    """A class of a file that it imports is the parent of one of its own."""
    for file in files_of("trainers"):
        tree = ast.parse(file.read_text())
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        bases = {base.id for cls in classes for base in cls.bases if isinstance(base, ast.Name)}
        for module, names in imports(file):
            if module.partition(".")[0] == "trainers":
                assert names & bases, f"{file.stem} imports {module} and builds on none of it"


@pytest.mark.parametrize("room", ["training", "trainers", "datasets"])
def test_plugins_use_only_the_names_of_the_api(room):
    for file in files_of(room):
        for module, names in imports(file):
            if module.partition(".")[0] == "dassl":
                known = (ENGINE | OURS_ALONE).get(module)
                assert known, f"{file.name} imports {module}"
                assert names <= known, f"{file.name}: {names - known}"


def test_the_api_exists():
    for module, names in ENGINE.items():
        loaded = __import__(module, fromlist=["x"])
        assert all(hasattr(loaded, name) for name in names), module


def code_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=REPO, capture_output=True, text=True, check=False
    )
    names = listed.stdout.split() or [str(p.relative_to(REPO)) for p in REPO.rglob("*.py")]
    files = [REPO / n for n in names if "tests/" not in n and not n.startswith(".")]
    return [file for file in files if file.is_file()]


@pytest.mark.parametrize(
    "never", [r"\.cuda\(\)", r"\.half\(\)", r"except:", r"strict=False\)", "DataParallel"]
)
def test_what_the_code_never_says(never):
    for file in code_files():
        lines = [x for x in file.read_text().splitlines() if "zip(" not in x]
        assert not re.search(never, "\n".join(lines)), file


def test_train_names_no_method_and_no_dataset():
    text = (REPO / "train.py").read_text()
    code = text.split('"""', 2)[2]
    for plugin in (*files_of("trainers"), *files_of("datasets")):
        names = re.findall(r"^class (\w+)\((?!nn|NamedTuple)", plugin.read_text(), re.MULTILINE)
        assert not any(re.search(rf"\b{name}\b", code) for name in names)


def test_a_trainer_has_few_ancestors():
    from dassl.engine import TRAINER_REGISTRY
    from run.plugins import import_plugins

    import_plugins()
    found = map(TRAINER_REGISTRY.get, TRAINER_REGISTRY.registered_names())
    ours = [cls for cls in found if (REPO / f"{cls.__module__.replace('.', '/')}.py").is_file()]
    assert len(ours) >= 11
    for cls in ours:
        line = [c.__name__ for c in cls.__mro__[:-1]]
        assert line[-4:] == ["CLIPTrainer", "TrainerX", "SimpleTrainer", "TrainerBase"], line
        assert len(line) <= 7, line  # a method that is a difference from another, and its alias


def test_a_file_dropped_into_trainers_is_found(tmp_path, monkeypatch):
    import trainers
    from dassl.engine import TRAINER_REGISTRY
    from run.plugins import import_plugins

    (tmp_path / "dropped.py").write_text(
        "from dassl.engine import TRAINER_REGISTRY, TrainerX\n"
        "@TRAINER_REGISTRY.register()\nclass Dropped(TrainerX): ...\n"
    )
    monkeypatch.setattr(trainers, "__path__", [*trainers.__path__, str(tmp_path)])
    import_plugins()
    assert "Dropped" in TRAINER_REGISTRY.registered_names()
