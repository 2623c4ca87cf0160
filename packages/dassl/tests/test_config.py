"""The default configuration is the ecosystem's, key by key."""

from pathlib import Path

from yacs.config import CfgNode

from dassl.config import clean_cfg, get_cfg_default

GOLDEN = Path(__file__).parent / "golden" / "cfg_default_dassl.yaml"


def test_default_equals_the_golden_dump():
    cfg = get_cfg_default()
    assert cfg.TRAIN.pop("CHECKPOINT_EVERY") == "10m"  # ours
    assert cfg.INPUT.pop("EXIF_ORIENTATION") == "ignore"  # ours
    assert cfg.INPUT.pop("RESIZE") == "shortest"
    assert cfg.OPTIM.pop("ADAM_EPS") == 1e-8
    assert cfg.OPTIM.pop("LR_MIN") == 0
    assert cfg.dump() == GOLDEN.read_text()


def test_every_call_gives_a_fresh_copy():
    one = get_cfg_default()
    one.OPTIM.LR = 5.0
    one.TRAINER.DAEL.WEIGHT_U = 9.0
    other = get_cfg_default()
    assert other.OPTIM.LR == 0.0003
    assert other.TRAINER.DAEL.WEIGHT_U == other.TRAINER.DAELDG.WEIGHT_U == 0.5


def test_values_that_plugins_write_merge(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("INPUT:\n  SIZE: (32, 32)\n  TRANSFORMS: ['random_flip']\n")
    cfg = get_cfg_default()
    cfg.TRAINER.COOP = CfgNode({"N_CTX": 16})
    cfg.merge_from_file(str(file))
    cfg.merge_from_list(["TRAINER.COOP.N_CTX", "4", "OPTIM.STEPSIZE", "(3, 6)"])
    assert tuple(cfg.INPUT.SIZE) == (32, 32)
    assert cfg.TRAINER.COOP.N_CTX == 4
    assert cfg.OPTIM.STEPSIZE == (3, 6)


def test_clean_cfg_keeps_the_trainers_own_node():
    cfg = get_cfg_default()
    cfg.TRAINER.NAME = "CoOp"
    cfg.TRAINER.COOP = CfgNode({"N_CTX": 16})
    cfg.TRAINER.COCOOP = CfgNode({"N_CTX": 4})
    clean_cfg(cfg, "CoOp")
    assert dict(cfg.TRAINER) == {"NAME": "CoOp", "COOP": {"N_CTX": 16}}
