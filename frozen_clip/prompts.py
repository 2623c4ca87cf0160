"""Class names and a template -> the token ids of one prompt per class, split for the text tower.

The text tower is causal, and whatever a method learns sits in front of the class name. So
a list of prompts is one shared *prefix* (start of text, template words: the ids that all
prompts begin with) and a *suffix* per class (the name .. end of text). Nothing behind the
end-of-text token can reach its row, so suffixes end there.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prompts:
    """The prompts of C classes; made by `build`.

    ids_CL: token ids, zero behind the end-of-text token (C, 77)
    prefix_P: the ids that every prompt begins with: the start of text, and never an end of text;
        none where `build` was told so
    suffixes: groups of classes whose suffixes are equally long, shortest first, ids (C_g, T_g)
    place_C: the position of each class when the groups are concatenated
    """

    ids_CL: Tensor
    prefix_P: Tensor
    suffixes: tuple[Tensor, ...]
    place_C: Tensor

    def __len__(self) -> int:
        return len(self.ids_CL)

    def suffix_rows(self, start_C: Tensor, count: int) -> Tensor:
        """Row numbers (C, count) in `TextTower.suffix_embeddings` of `count` tokens of each prompt,
        from position `start` of the prompt on."""
        lengths = torch.cat([ids.new_full((len(ids),), ids.shape[1]) for ids in self.suffixes])
        first_C = (lengths.cumsum(0) - lengths)[self.place_C]
        inside_C = start_C.to(first_C.device) - len(self.prefix_P)
        return (first_C + inside_C)[:, None] + torch.arange(count, device=first_C.device)

    def to(self, device: torch.device | str) -> "Prompts":
        suffixes = tuple(t.to(device) for t in self.suffixes)
        return Prompts(
            self.ids_CL.to(device), self.prefix_P.to(device), suffixes, self.place_C.to(device)
        )


def fill_template(classnames: Sequence[str], template: str, underscores: bool = False) -> list[str]:
    """Fill `template`, which holds `{}` once; '_' in a class name becomes a space, unless
    `underscores` are to stay.

    Raises ValueError for an empty list, an empty name, one with bytes that are no text, or a
    template without `{}`.
    """
    if not classnames:
        raise ValueError("there are no class names: a classifier needs at least one")
    if template.count("{}") != 1:
        raise ValueError(
            f"template {template!r} must hold '{{}}' once, where the class name goes, "
            "for example 'a photo of a {}.'"
        )
    names = [(n if underscores else n.replace("_", " ")).strip() for n in classnames]
    if not all(names):
        position = names.index("")
        raise ValueError(
            f"class name number {position} is empty: {classnames[position]!r}; rename it"
        )
    broken = next((name for name in classnames if re.search("[\ud800-\udfff]", name)), None)
    if broken is not None:
        raise ValueError(f"class name {broken!a} was read from bytes that are not UTF-8; rename it")
    return [template.replace("{}", name) for name in names]


def tokenize(texts: Sequence[str], context_length: int = 77) -> Tensor:
    """OpenAI's byte-pair encoding: ids (C, context_length), zero-padded.

    Raises ValueError naming the text that does not fit into `context_length` tokens.
    """
    from frozen_clip.openai import clip

    try:
        return clip.tokenize(list(texts), context_length=context_length).long()
    except RuntimeError as error:
        for text in texts:
            _check_length(text, context_length)
        raise ValueError(f"CLIP's tokenizer refuses the prompts: {error}") from error


def token_counts(texts: Sequence[str], context_length: int = 77) -> Tensor:
    """How many tokens each of N texts has between start and end of text: (N,)."""
    return tokenize(texts, context_length).argmax(dim=1) - 1


def _check_length(text: str, context_length: int) -> None:
    from frozen_clip.openai import simple_tokenizer

    check_count(text, len(simple_tokenizer.SimpleTokenizer().encode(text)) + 2, context_length)


def check_count(text: str, count: int, context_length: int) -> None:
    """ValueError for a text of more tokens than a text tower reads."""
    if count > context_length:
        raise ValueError(
            f"the prompt {text!r} has {count} tokens, CLIP reads at most {context_length}; "
            "shorten this class name or the template"
        )


def build(ids_CL: Tensor, longest_prefix: int | None = None) -> Prompts:
    """Split token ids (C, L) into a prefix and suffixes grouped by length.

    `longest_prefix` limits the prefix: 1 where learned words stand in the suffixes, 0 where the
    prompts share nothing.
    """
    ends = ids_CL.argmax(dim=1)  # end of text has the largest id
    agree = (ids_CL == ids_CL[0]).all(dim=0).long().cumprod(0).sum()
    most = len(ids_CL[0]) if longest_prefix is None else longest_prefix
    prefix = min(int(agree), int(ends.min()), most)
    place_C = torch.argsort(torch.argsort(ends, stable=True))
    suffixes = tuple(
        ids_CL[ends == end][:, prefix : int(end) + 1] for end in torch.unique(ends, sorted=True)
    )
    return Prompts(ids_CL, ids_CL[0, :prefix], suffixes, place_C)


def warn_of_unknown(
    ids_CL: Tensor, classnames: Sequence[str], known_ids: Tensor | None, model: str
) -> None:
    """Warn when a class name has tokens that a CLIP with few word vectors does not know."""
    if known_ids is None:
        return
    strange = ~(torch.isin(ids_CL, known_ids.to(ids_CL.device)) | (ids_CL == 0)).all(dim=1)
    names = [name for name, is_strange in zip(classnames, strange, strict=True) if is_strange]
    if names:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        warnings.warn(
            f"the {model!r} CLIP has no word vectors for {len(names)} of {len(classnames)} "
            f"class names ({shown}): their text features mean nothing. It knows the colors "
            "and shapes of the demo; use --backbone ViT-B/16 for real names",
            stacklevel=3,
        )


def warn_of_equal(ids_CL: Tensor, classnames: Sequence[str]) -> None:
    """Warn when classes have the same token ids; case, spaces and Unicode forms do not count."""
    by_ids: dict[bytes, list[str]] = {}
    for row, name in zip(ids_CL.cpu().numpy(), classnames, strict=True):
        by_ids.setdefault(row.tobytes(), []).append(repr(name))
    equal = [" = ".join(names[:5]) for names in by_ids.values() if len(names) > 1]
    if equal:
        shown = ", ".join(equal[:5]) + (", ..." if len(equal) > 5 else "")
        warnings.warn(
            f"CLIP reads the same prompt for classes and cannot tell them apart: {shown}. Give "
            "them different names, unless this is meant (ImageNet's list has such pairs)",
            stacklevel=3,
        )
