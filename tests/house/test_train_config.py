"""train.py: what counts in the config, and the YAML files of methods and data sets."""

import pytest
import yaml

from run.config import default_config, read_yaml
from tests.helpers.toy_run import REPO, build, command, config, variant


def test_order_of_sources(tmp_path):
    """Defaults < data set < trainer YAML < per_dataset.yaml < flags < KEY VALUE."""
    folder = tmp_path / "MMRL"
    folder.mkdir()
    (folder / "mine.yaml").write_text("OPTIM: {LR: 0.5, MAX_EPOCH: 7}\nTEST: {SPLIT: val}\n")
    (folder / "per_dataset.yaml").write_text(
        "B2N: {EuroSAT: {OPTIM.LR: 0.6, OPTIM.MAX_EPOCH: 8, TRAINER.MMRL.REG_WEIGHT: 2}}"
    )
    (tmp_path / "eurosat.yaml").write_text("DATASET: {NAME: EuroSAT}\nTEST: {SPLIT: test}\n")
    cfg, notes = config(
        *("--dataset-config-file", str(tmp_path / "eurosat.yaml"), "--trainer", "MMRL"),
        *("--config-file", str(folder / "mine.yaml"), "--train-epoch", "9"),
        *("TASK", "B2N", "TRAINER.MMRL.REG_WEIGHT", "3"),
    )
    assert cfg.TEST.SPLIT == "val"
    assert cfg.OPTIM.LR == 0.6
    assert cfg.OPTIM.MAX_EPOCH == 9
    assert cfg.TRAINER.MMRL.REG_WEIGHT == 3.0
    assert notes[0] == f"OPTIM.LR = 0.6 (from {folder / 'per_dataset.yaml'}, B2N, EuroSAT)"
    assert len(notes) == 3


@pytest.mark.parametrize("task", ["B2N", "FS"])
def test_eurosat_has_wide_tokens_except_across_data_sets(task):
    eurosat = ("--dataset-config-file", str(REPO / "configs/datasets/eurosat.yaml"))
    mmrl = ("--trainer", "MMRL", *eurosat, "--config-file")
    cfg, _ = config(*mmrl, str(variant("MMRL", "vit_b16")), "TASK", task)
    assert (cfg.TRAINER.MMRL.REP_DIM, cfg.TRAINER.MMRL.REG_WEIGHT) == (2048, 0.01)
    cfg, notes = config(*mmrl, str(variant("MMRL", "vit_b16_cross_datasets")), "TASK", "CD")
    assert (cfg.TRAINER.MMRL.REP_DIM, cfg.TRAINER.MMRL.REG_WEIGHT) == (512, 0.2)
    assert not notes


PUBLISHED = {  # dataset: MMRL lambda; MMRL++ beta, lambda; MMRL++ beta across data sets
    "ImageNet": (0.5, 0.9, 0.2, 0.9),
    "Caltech101": (0.5, 0.6, 3.0, 0.6),
    "OxfordPets": (0.2, 0.7, 0.01, 0.6),
    "StanfordCars": (7.0, 0.7, 6.0, 0.3),
    "OxfordFlowers": (4.0, 0.4, 7.0, 0.4),
    "Food101": (5.0, 0.1, 1.0, 0.3),
    "FGVCAircraft": (6.0, 0.9, 2.0, 0.9),
    "SUN397": (6.0, 0.5, 3.0, 0.7),
    "DescribableTextures": (6.0, 0.9, 7.0, 0.5),
    "EuroSAT": (0.01, 0.2, 0.01, 0.3),
    "UCF101": (3.0, 0.9, 3.0, 0.9),
}


@pytest.mark.parametrize("dataset", PUBLISHED)
@pytest.mark.parametrize("task", ["B2N", "FS"])
def test_per_dataset_tables_are_the_published_ones(dataset, task):
    mmrl_lambda, beta, plus_lambda, cross_beta = PUBLISHED[dataset]
    folder = REPO / "configs" / "trainers"
    mmrl = read_yaml(folder / "MMRL" / "per_dataset.yaml")[task][dataset]
    assert mmrl["TRAINER.MMRL.REG_WEIGHT"] == mmrl_lambda
    table = read_yaml(folder / "MMRLPlus" / "per_dataset.yaml")
    plus, node = table[task][dataset], "TRAINER.MMRLPLUS"
    assert (plus[f"{node}.BETA"], plus[f"{node}.REG_WEIGHT"]) == (beta, plus_lambda)
    assert table["CD"][dataset][f"{node}.BETA"] == cross_beta


@pytest.mark.parametrize("key", ["TRAINER.MMRLpp.BETA", "TRAINER.MMRLPLUS.BETA"])
def test_both_names_of_mmrl_plus_mean_the_same(key, toy, tmp_path):
    for name in ("MMRLPlus", "MMRLpp"):
        trainer = build(command(toy, name, tmp_path, opts=(key, "0.125")))
        assert trainer.settings.beta == 0.125


def test_a_yaml_may_say_mmrlpp(tmp_path):
    (tmp_path / "public.yaml").write_text("TRAINER: {MMRLpp: {BETA: 0.25, REP_DIM: 64}}")
    cfg, _ = config("--trainer", "MMRLpp", "--config-file", str(tmp_path / "public.yaml"))
    assert (cfg.TRAINER.MMRLPLUS.BETA, cfg.TRAINER.MMRLPLUS.REP_DIM) == (0.25, 64)


def test_every_yaml_merges_and_there_are_as_many_as_expected():
    files = sorted((REPO / "configs" / "trainers").glob("*/*.yaml"))
    variants = [file for file in files if file.name != "per_dataset.yaml"]
    for file in variants:
        config("--trainer", file.parent.name, "--config-file", str(file))
    for file in set(files) - set(variants):
        for task, entries in read_yaml(file).items():
            for dataset in entries:
                opts = ("TASK", task, "DATASET.NAME", dataset)
                small = str(file.parent / "small.yaml")
                config("--trainer", file.parent.name, "--config-file", small, *opts)
    assert len([f for f in variants if f.parent.name.startswith("MMRL")]) == 16
    assert len(list((REPO / "configs" / "datasets").glob("*.yaml"))) == 17


def test_saved_config_is_of_this_trainer_and_can_be_used_again(trained):
    saved = yaml.safe_load((trained / "config.yaml").read_text())
    assert set(saved["TRAINER"]) == {"NAME", "MMRL"}
    cfg, _ = config("--config-file", str(trained / "config.yaml"))
    assert cfg.TRAINER.MMRL.REP_LAYERS == [2, 3]


def test_importing_a_plugin_twice_is_harmless():
    assert default_config() == default_config()


@pytest.mark.parametrize("init", ["True", "'a photo of a'"])
def test_keys_of_the_published_code_are_read_as_ours(init, tmp_path):
    file = tmp_path / "published.yaml"
    file.write_text(f"TRAINER: {{COOP: {{N_CTX: 3, W: 2.0, CTX_INIT: {init}}}}}")
    arguments = ("--trainer", "KgCoOp", "--config-file", str(file), "TRAINER.COOP.PREC", "fp32")
    node = config(*arguments)[0].TRAINER.KGCOOP
    assert (node.N_CTX, node.W, node.CTX_INIT, node.PREC) == (3, 2.0, True, "fp32")
    cfg, _ = config("--trainer", "ProGrad", "LOSS.LAMBDA", "0.5", "TRAINER.COOP.N_CTX", "8")
    assert (cfg.TRAINER.PROGRAD.LAMBDA, cfg.TRAINER.PROGRAD.N_CTX) == (0.5, 8)
    assert cfg.TRAINER.COOP.N_CTX == 16
    cfg, _ = config("--trainer", "CoPrompt", "TRAINER.W", "0.5", "TRAINER.DISTILL", "mse")
    assert (cfg.TRAINER.CoPrompt.W, cfg.TRAINER.CoPrompt.DISTILL) == (0.5, "mse")
    with pytest.raises(ValueError, match=r"unknown config key 'LOSS.LAMBDA'"):
        config("--trainer", "CoOp", "LOSS.LAMBDA", "0.5")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("Tip-Adapter-F", "TipAdapterF"), ("MMA", "MultiModalAdapter"), ("LP++", "LPPlusPlus")],
)
def test_a_trainer_by_the_name_of_its_paper(written, meant):
    assert config("--trainer", written)[0].TRAINER.NAME == meant
