"""At the size people use: parameter counts and checkpoint sizes on a random ViT-B/16."""

import pytest
import torch

from frozen_clip import described
from tests.helpers.toy_run import REPO, build, command

MEGABYTE = 1e6


@pytest.fixture(scope="module")
def big(toy, tmp_path_factory):
    """A folder as `toy`, with the weights of a random ViT-B/16 as big.pt."""
    from clip.model import CLIP

    folder = tmp_path_factory.mktemp("big")
    with torch.random.fork_rng(devices=[]):
        model = CLIP(512, 224, 12, 768, 16, 77, 49408, 512, 8, 12)
    content = described(model)
    content["state_dict"] = {k: v.half() for k, v in model.state_dict().items()}
    torch.save(content, folder / "big.pt")
    (folder / "colored_shapes").symlink_to(toy / "colored_shapes")
    yield folder
    (folder / "big.pt").unlink()  # 300 MB


def arguments(big, name, output, *opts):
    """One step of the published setting on the drawn pictures."""
    folder = REPO / "configs" / "trainers" / name
    node = name.upper()
    defaults = ("REP_LAYERS", "[6, 7, 8, 9, 10, 11, 12]", "REP_DIM", "512", "PREC", "fp32")
    pairs = zip(defaults[::2], defaults[1::2], strict=True)
    wanted = [word for key, value in pairs for word in (f"TRAINER.{node}.{key}", value)]
    call = command(
        big,
        name,
        output,
        clip="big",
        opts=(
            *wanted,
            *("OPTIM.MAX_EPOCH", "1", "DATALOADER.TRAIN_X.BATCH_SIZE", "6"),
            *("DATALOADER.NUM_WORKERS", "0", "INPUT.SIZE", "[224, 224]", "TEST.NO_TEST", "True"),
            *opts,
        ),
    )
    call[call.index("--config-file") + 1] = str(folder / "vit_b16.yaml")
    return call


@pytest.mark.parametrize(
    ("name", "parameters", "limit"),
    [("MMRL", 4_992_256, 65), ("MMRLPlus", 813_312, 11)],
)
def test_learner_and_checkpoint(name, parameters, limit, big, tmp_path, capsys):
    trainer = build(arguments(big, name, tmp_path))
    assert f"Learner: {parameters:,} trainable parameters" in capsys.readouterr().out
    assert sum(p.numel() for p in trainer.method.learner.parameters()) == parameters
    trainer.train()
    file = tmp_path / trainer.model_name / "model.pth.tar-1"
    checkpoint = torch.load(file, weights_only=True)
    assert checkpoint["optimizer"]["state"], "the optimiser's state is part of a checkpoint"
    assert file.stat().st_size < limit * MEGABYTE


def test_mmrl_with_the_wide_tokens_of_eurosat(big, tmp_path):
    trainer = build(arguments(big, "MMRL", tmp_path, "TRAINER.MMRL.REP_DIM", "2048"))
    assert sum(p.numel() for p in trainer.method.learner.parameters()) == 18_762_496
