"""What is particular to KgCoOp, beside the contract and its numbers."""

import pytest
import torch

from dassl.utils import save_checkpoint
from tests.helpers.golden_files import REST, Golden, assert_close, clip
from tests.helpers.toy_run import build, command, state_of
from trainers.kgcoop import KgCoOpMethod, KgCoOpSettings

NAMES = ["cat", "digital_watch"]


def test_terms_and_the_teacher():
    golden = Golden("baselines/kgcoop_ctxinit.npz")
    method = golden.method()
    assert_close(method.w0, golden["out/zs_text_features"], REST)
    ids = clip().prompts(golden.meta["classnames"], method.template).ids_CL
    assert torch.equal(ids, golden["in/teacher_token_ids"].long())
    terms = method.losses(method(golden["in/images"]), golden["in/labels"])
    assert_close(terms["ce"], golden["out/loss_ce"], REST)
    assert_close(terms["kg"] / 8, golden["out/loss_kg"], REST)


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        ((), "a photo of a {}."),
        (("DATASET.TEMPLATE", "{}, drawn."), "{}, drawn."),
        (("DATASET.NAME", "DescribableTextures"), "a photo of a {}, a type of texture."),
        (("DATASET.NAME", "DescribableTextures", "DATASET.TEMPLATE", "{}."), "{}."),
    ],
)
def test_the_sentence_of_the_teacher(opts, sentence, toy, tmp_path):
    trainer = build(command(toy, "KgCoOp", tmp_path))
    cfg = trainer.cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(list(opts))
    trainer.cfg, trainer.settings = cfg, trainer.settings_of(cfg)
    assert trainer.template == sentence
    prompts = trainer.clip.prompts(trainer.classnames, sentence)
    method = trainer.Method(trainer.settings, trainer.clip, trainer.classnames, trainer.template)
    w0 = torch.nn.functional.normalize(trainer.clip.encode_text(prompts), dim=-1)
    assert_close(method.w0, w0, REST)


@pytest.mark.parametrize("words", [True, "any text"])
def test_words_are_always_the_same(words):
    method = KgCoOpMethod(KgCoOpSettings(ctx_init=words), clip(), NAMES, "a photo of a {}.")
    assert torch.equal(method.prompts.ids_CL, clip().prompts(NAMES, "a photo of a {}.").ids_CL)
    start = clip().text.words(method.prompts.ids_CL[0, 1:5])
    assert torch.equal(method.learner.context, start)
    terms = method.losses(method(torch.zeros(1, 3, 32, 32)), torch.tensor([0]))
    assert terms["kg"].item() == pytest.approx(0, abs=REST)


@pytest.mark.parametrize(("csc", "shape"), [(False, (16, 64)), (True, (2, 16, 64))])
def test_without_words_it_starts_at_random(csc, shape):
    method = KgCoOpMethod(KgCoOpSettings(csc=csc), clip(), NAMES, "a photo of a {}.")
    assert method.learner.context.shape == shape
    assert 0.015 < method.learner.context.std() < 0.025


def test_the_name_is_behind_the_words(toy, tmp_path):
    opts = ("TRAINER.KGCOOP.CLASS_TOKEN_POSITION", "front")
    with pytest.raises(ValueError, match="is 'front'; allowed is one of end "):
        build(command(toy, "KgCoOp", tmp_path, opts=opts))


def test_a_public_run_has_more_beside_the_context(toy, tmp_path):
    """Parts of another method, never trained, as the published code saves them."""
    trainer = build(command(toy, "KgCoOp", tmp_path / "ours"))
    context = torch.randn_like(state_of(trainer)["context"])
    unused = {"bias_vectors": (1, 64), "token_prefix": (3, 1, 64), "token_suffix": (3, 72, 64)}
    unused |= {"meta_net.linear1.weight": (64, 64), "meta_net.linear1.bias": (64,)}
    state = {"ctx": context} | {name: torch.ones(shape) for name, shape in unused.items()}
    save_checkpoint({"state_dict": state, "epoch": 5}, tmp_path / "public" / "prompt_learner")
    trainer.load_model(str(tmp_path / "public"))
    assert torch.equal(state_of(trainer)["context"], context)
