"""Learned words in the input, in prefix and suffixes, and several prefixes: as full prompts."""

import unicodedata
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frozen_clip import FrozenCLIP, overwrite, reference
from frozen_clip.prompts import build, fill_template, tokenize, warn_of_equal
from tests.frozen_clip.test_frozen_clip import WORDS, assert_same, gradients

MODEL = reference.random_clip(layers=(1, 3))
CLIP = FrozenCLIP(MODEL, "random")
WIDTH = 64

some_names = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5)
seeds = st.integers(0, 99)
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def draw_tokens(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, WIDTH, generator=generator, requires_grad=True)


def context_prompts(names, count):
    return CLIP.prompts(names, "X " * count + "{}.")


@quick
@given(some_names, st.integers(1, 5), st.sets(st.sampled_from([2, 3])), seeds)
def test_words_in_the_prefix_and_deeper_ones(names, count, layers, seed):
    """CoOp's input, and MaPLe's: layer 0 stands for the words, before positions are added."""
    prompts = context_prompts(names, count)
    tokens = draw_tokens(seed, 1 + len(layers), count)
    edits = dict(zip([0, *sorted(layers)], map(overwrite, tokens), strict=True))
    fast = CLIP.text(prompts, edits)
    slow = reference.text(MODEL, prompts.ids_CL, edits)
    assert_same(fast, slow)
    assert_same(gradients(fast, tokens), gradients(slow, tokens))


@quick
@given(some_names, st.integers(1, 4), st.sampled_from([0, 1, 3]), st.integers(1, 3), seeds)
def test_prefixes_of_their_own(names, count, layer, prefixes, seed):
    """CoCoOp's prompts: every prefix in front of every class, at whatever layer they part."""
    prompts = context_prompts(names, count)
    tokens = draw_tokens(seed, prefixes, count)
    fast = CLIP.text.per_prefix(prompts, {layer: overwrite(tokens)})
    slow = torch.stack(
        [reference.text(MODEL, prompts.ids_CL, {layer: overwrite(own)}) for own in tokens]
    )
    assert fast.shape == (prefixes, len(names), CLIP.embed_dim)
    assert_same(fast, slow)
    assert_same(gradients(fast, tokens), gradients(slow, tokens))


def test_prefixes_that_part_and_then_share_tokens():
    prompts = context_prompts(["cat", "great white shark"], 2)
    parting, shared = draw_tokens(0, 3, 2), draw_tokens(1, 2)
    fast = CLIP.text.per_prefix(prompts, {0: overwrite(parting), 2: overwrite(shared)})
    edits = [{0: overwrite(own), 2: overwrite(shared)} for own in parting]
    assert_same(fast, torch.stack([reference.text(MODEL, prompts.ids_CL, e) for e in edits]))


@st.composite
def words_in_tails(draw):
    """Prompts with a short prefix, and a run of words inside each suffix."""
    names = draw(some_names)
    ids_CL = tokenize([f"a photo of a {name} here." for name in names])
    prompts = build(ids_CL, longest_prefix=draw(st.integers(1, 3)))
    first, count = len(prompts.prefix_P), draw(st.integers(1, 3))
    ends = ids_CL.argmax(dim=1).tolist()
    starts = [draw(st.integers(first, end - count)) for end in ends]
    return prompts, torch.tensor(starts), count, draw(seeds)


@quick
@given(words_in_tails())
def test_words_in_the_suffixes(case):
    """CoOp's class-specific contexts, and names in front of the context."""
    prompts, start_C, count, seed = case
    tokens = draw_tokens(seed, len(prompts), count)
    rows_CK = prompts.suffix_rows(start_C, count)
    words_RD = CLIP.text.suffix_embeddings(prompts)
    words_RD = words_RD.index_copy(0, rows_CK.flatten(), tokens.flatten(0, 1))
    fast = CLIP.text(prompts, suffix_words=words_RD)
    whole = MODEL.token_embedding(prompts.ids_CL)
    for c, start in enumerate(start_C.tolist()):
        before, behind = whole[c, :start], whole[c, start + count :]
        row = torch.cat([before, tokens[c], behind])
        whole = torch.cat([whole[:c], row[None], whole[c + 1 :]])
    slow = reference.text(MODEL, prompts.ids_CL, {}, words_CLD=whole)
    assert_same(fast, slow)
    assert_same(gradients(fast, tokens), gradients(slow, tokens))


def test_suffix_embeddings_are_the_frozen_ones_and_may_go_with_edits():
    prompts = build(tokenize(["a photo of a cat.", "a photo of a very old dog."]), longest_prefix=3)
    words_RD = CLIP.text.suffix_embeddings(prompts)
    edits = {0: overwrite(draw_tokens(0, 2)), 3: overwrite(draw_tokens(1, 1))}
    assert_same(CLIP.text(prompts, suffix_words=words_RD), CLIP.text(prompts))
    slow = reference.text(MODEL, prompts.ids_CL, edits)
    assert_same(CLIP.text(prompts, edits, suffix_words=words_RD), slow)


@pytest.mark.parametrize("longest", [1, 2, None])
def test_a_limited_prefix_changes_nothing(longest):
    ids_CL = tokenize(["a photo of a cat.", "a photo of a great white shark."])
    prompts = build(ids_CL, longest_prefix=longest)
    assert len(prompts.prefix_P) == (longest or 5)
    assert_same(CLIP.text(prompts), reference.text(MODEL, ids_CL, {}))


@pytest.mark.parametrize(
    ("names", "same"),
    [
        (("Oak", "fir", "oak"), "'Oak' = 'oak'"),
        (("oak", " oak"), "'oak' = ' oak'"),
        (("red_maple", "red maple", "red  maple", "red\u00a0maple"), "'red_maple' = 'red maple'"),
        (("chêne", unicodedata.normalize("NFD", "chêne")), "'chêne' = 'chêne'"),
        (("salt & pepper", "salt &amp; pepper"), "'salt & pepper' = 'salt &amp; pepper'"),
        (("crane", "missile", "missile", "crane"), "'crane' = 'crane', 'missile' = 'missile'. "),
        (("oak", "oaks", "red oak"), ""),
    ],
)
def test_classes_that_the_tokenizer_reads_alike(names, same):
    ids_CL = tokenize(fill_template(names, "a photo of a {}."))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_of_equal(ids_CL, names)
    message = "".join(str(one.message) for one in told)
    assert unicodedata.normalize("NFC", same) in unicodedata.normalize("NFC", message)
    assert len(told) == bool(same)


def test_a_name_of_bytes_that_are_no_text():
    with pytest.raises(ValueError, match=r"class name 'caf\\udce9' was read from bytes .* rename"):
        fill_template(["fir", "caf\udce9"], "a {}.")
