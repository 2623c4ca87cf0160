"""The baselines' published numbers: outputs, losses, gradients, six steps."""

import pytest
import torch

from tests.helpers.golden_files import (
    LOGITS,
    REST,
    Golden,
    assert_close,
    check_gradients,
    check_steps,
    clip,
    total_loss,
)
from trainers import cocoop, coop, maple, promptsrc
from trainers.ivlp import IndependentPrompts
from trainers.zsclip import ZeroshotMethod
from training.learned_context import MOST_WORDS, Context
from training.method import normalize
from training.templates import IMAGENET_TEMPLATES


def coop_context(options: dict) -> Context:
    return Context(options["CTX_INIT"]) if options["CTX_INIT"] else Context(count=options["N_CTX"])


def build_coop(names: list[str], options: dict):
    context = coop_context(options)
    prompts, rows = clip().prompts(names, context.template), None
    learner = coop.ContextLearner(clip(), context, len(names) if options["CSC"] else None)
    before = coop.words_before_name(options["CLASS_TOKEN_POSITION"], context.count)
    if options["CSC"] or before < context.count:
        prompts, rows = coop.in_suffixes(prompts, names, context.count, before)
    return coop.CoOpMethod(clip(), prompts, learner, rows), coop.from_public


def build_cocoop(names: list[str], options: dict):
    context = coop_context(options)
    prompts = clip().prompts(names, context.template)
    learner = cocoop.ConditionalContextLearner(clip(), context)
    return cocoop.CoCoOpMethod(clip(), prompts, learner), cocoop.from_public


def build_maple(names: list[str], options: dict):
    context = Context(options["CTX_INIT"], options["N_CTX"])
    prompts = clip().prompts(names, context.template)
    learner = maple.CoupledPrompts(clip(), context, options["PROMPT_DEPTH"])
    return maple.MaPLeMethod(clip(), prompts, learner), maple.from_public


def build_promptsrc(names: list[str], options: dict):
    context = Context(options["CTX_INIT"], options["N_CTX_TEXT"])
    prompts = clip().prompts(names, context.template)
    text_layers, vision_layers = options["PROMPT_DEPTH_TEXT"], options["PROMPT_DEPTH_VISION"]
    learner = IndependentPrompts(
        clip(), context, text_layers, vision_layers, options["N_CTX_VISION"]
    )
    w0 = promptsrc.teacher_features(clip(), names, IMAGENET_TEMPLATES)
    weights = options["TEXT_LOSS_WEIGHT"], options["IMAGE_LOSS_WEIGHT"]
    method = promptsrc.PromptSRCMethod(clip(), prompts, learner, w0, *weights)
    return method, promptsrc.from_public


BUILDERS = {
    "coop_end_generic": build_coop,
    "coop_middle_csc": build_coop,
    "coop_ctxinit": build_coop,
    "cocoop_c4": build_cocoop,
    "maple_ctxinit": build_maple,
    "promptsrc": build_promptsrc,
}


@pytest.fixture(params=BUILDERS)
def case(request):
    """A golden file, the method loaded with its parameters, and the renaming of its tensors."""
    golden = Golden(f"baselines/{request.param}.npz")
    names, options = golden.meta["classnames"], golden.meta["options"]
    method, from_public = BUILDERS[request.param](names, options)
    method.learner.load_state_dict(from_public(golden.group("param")))
    return golden, method, from_public


def test_outputs_and_loss(case):
    golden, method, _ = case
    outputs = method(golden["in/images"])
    assert_close(method.training_logits(outputs), golden["out/logits"], LOGITS)
    assert_close(total_loss(method, golden), golden["out/loss"], REST)


def test_token_ids(case):
    """The prompts' ids, whose words the class name may have moved between."""
    golden, method, _ = case
    ours, theirs = method.prompts.ids_CL, golden["in/token_ids"].long()
    assert torch.equal(ours.sort(dim=1).values, theirs.sort(dim=1).values)
    assert torch.equal(ours.argmax(dim=1), theirs.argmax(dim=1))
    if golden.meta["options"].get("CLASS_TOKEN_POSITION", "end") == "end":
        assert torch.equal(ours, theirs)


def test_gradients(case):
    golden, method, from_public = case
    check_gradients(method, golden, from_public)


def test_six_steps_and_the_evaluation_after_them(case):
    golden, method, from_public = case
    how = golden.meta["optimizer"]
    optimizer = torch.optim.SGD(
        method.learner.parameters(),
        lr=how["lr"],
        momentum=how["momentum"],
        weight_decay=how["weight_decay"],
    )
    check_steps(method, golden, from_public, optimizer)
    with torch.inference_mode():
        logits = method.classify(golden["in/images"], method.text_features(), seen=False)
    assert_close(logits, golden["eval6/logits"], LOGITS)


def test_terms_and_features_of_promptsrc():
    golden = Golden("baselines/promptsrc.npz")
    assert golden.meta["templates"] == list(IMAGENET_TEMPLATES)
    method, from_public = build_promptsrc(golden.meta["classnames"], golden.meta["options"])
    method.learner.load_state_dict(from_public(golden.group("param")))
    outputs = method(golden["in/images"])
    terms = method.losses(outputs, golden["in/labels"])
    names = {"ce": "ce", "l1_text": "text_l1", "l1_image": "image_l1", "kl": "kl"}
    assert terms.keys() == names.keys()
    for ours, theirs in names.items():
        assert_close(terms[ours], golden[f"out/loss_{theirs}"], REST, ours)
    assert_close(outputs.f, golden["out/image_features"], REST)
    assert_close(outputs.w, golden["out/text_features"], REST)
    assert_close(outputs.f0, golden["out/zs_image_features"], REST)
    assert_close(method.w0, golden["out/zs_text_features"], REST)
    assert_close(outputs.logits0, golden["out/zs_logits"], LOGITS)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("coop_ctxinit", "a photo of a"),
        ("maple_ctxinit", "a photo"),
        ("promptsrc", "a photo of a"),
    ],
)
def test_a_start_from_words_is_their_embedding(file, words):
    """The golden parameters are not the start, but their prompts hold the words."""
    golden = Golden(f"baselines/{file}.npz")
    count = len(words.split())
    assert count <= MOST_WORDS
    start = Context(golden.meta["options"]["CTX_INIT"], count).start(clip())
    ids = golden["in/token_ids"].long()[0, 1 : 1 + count]
    assert torch.equal(start, clip().text.words(ids))
    assert Context(words).count == count


GOLDEN_ZEROSHOT = Golden("baselines/zeroshot.npz")


@pytest.mark.parametrize("job", GOLDEN_ZEROSHOT.meta["jobs"])
def test_zero_shot(job):
    golden, how = GOLDEN_ZEROSHOT, GOLDEN_ZEROSHOT.meta["jobs"][job]
    prompts = clip().prompts(how["classnames"], how["template"])
    method, images = ZeroshotMethod(clip(), prompts), golden["in/images"]
    w = method.text_features()
    assert torch.equal(prompts.ids_CL, golden[f"in/{job}/token_ids"].long())
    assert_close(w, golden[f"out/{job}/text_features"], REST)
    assert_close(normalize(clip().encode_image(images)), golden["out/image_features"], REST)
    logits = method.classify(images, w, seen=True)
    assert_close(logits, golden[f"out/{job}/logits"], LOGITS)
    assert_close(clip().scale, golden["out/logit_scale_exp"], REST)
