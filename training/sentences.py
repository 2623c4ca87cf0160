"""Sentences about each class, as a person or a language model wrote them: a JSON file.

    {"black cat": ["A cat with black fur.", ...], ...}

Names have spaces or '_'; a file may have more classes than a run.
"""

import json
import os
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from common.text_files import read_text
from dassl.utils import get_most_similar_str_to_a_from_b
from frozen_clip import FrozenCLIP, prompts

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MOST = 1000  # sentences of a class

Sentences = dict[str, list[str]]  # by class name, with spaces


def place(path: str) -> str:
    """A file's place: below the working directory, or else below the project."""
    given = os.path.expanduser(path)
    return given if os.path.isfile(given) else os.path.join(PROJECT, given)


def read_sentences(path: str, key: str) -> Sentences:
    """The sentences of all classes in a file, which the config's `key` gives.

    FileNotFoundError or ValueError for what is no such file, which says why.
    """
    file = place(path)
    if not path or not os.path.isfile(file):
        places = os.getcwd(), PROJECT
        why = f"is {path!r:.200}, but there is no such file" if path else "is empty"
        raise FileNotFoundError(
            f"{key} {why}: training needs a JSON file of sentences about each class, {{class name: "
            f"[sentence, ...]}}. A relative path is below {' or '.join(dict.fromkeys(places))}"
        )
    try:
        content = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{key}: {file} is not valid JSON ({error}): correct it, or give another file"
        ) from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{key}: {file} must hold an object {{class name: [sentence, ...]}}")
    for name, texts in content.items():
        _check(texts, f"{key}: {file} has for class {name!r:.80}")
    found = {_plain(name): texts for name, texts in content.items()}
    if len(found) < len(content):
        names = [
            name for name in content if sum(map(_plain(name).__eq__, map(_plain, content))) > 1
        ]
        raise ValueError(f"{key}: {file} has one class twice: {names[0]!r} and {names[1]!r}")
    return found


def _check(texts: object, start: str) -> None:
    if not isinstance(texts, list) or not 1 <= len(texts) <= MOST:
        raise ValueError(f"{start} {texts!r:.80}; allowed is a list of 1 to {MOST:,} sentences")
    for text in texts:
        if not isinstance(text, str) or not text.strip() or re.search("[\ud800-\udfff]", text):
            raise ValueError(f"{start} the sentence {text!a:.80}, which is no text; write another")


def _plain(name: str) -> str:
    return name.replace("_", " ").strip()


def by_number(sentences: Sentences, classnames: Sequence[str], key: str) -> list[list[str]]:
    """The first sentence of each of C classes, the second, ..: n lists of C texts.

    ValueError where a class has none, or more or fewer than another.
    """
    names = [_plain(name) for name in classnames]
    if missing := [name for name in names if name not in sentences]:
        near = get_most_similar_str_to_a_from_b(missing[0], list(sentences))
        raise ValueError(
            f"the file of {key} has no sentences for {len(missing)} of {len(names)} classes "
            f"({', '.join(missing[:3])}): add them, or give the file of this dataset. Its name "
            f"most like {missing[0]!r} is {near!r}"
        )
    fewest, most = (by(names, key=lambda name: len(sentences[name])) for by in (min, max))
    if len(sentences[fewest]) < len(sentences[most]):
        raise ValueError(
            f"the file of {key} has {len(sentences[fewest])} sentences for class {fewest!r} and "
            f"{len(sentences[most])} for {most!r}: all classes need equally many"
        )
    return [list(texts) for texts in zip(*(sentences[name] for name in names), strict=True)]


def encode_sentences(clip: FrozenCLIP, by_number: Sequence[list[str]], key: str) -> Tensor:
    """Features (n, C, E) of n lists of C sentences, not normalized.

    ValueError for a sentence that is longer than the text tower reads.
    """
    length = clip.clip.context_length
    try:
        ids = [prompts.tokenize(texts, length) for texts in by_number]
    except ValueError as error:
        what = str(error).partition(";")[0].replace("prompt", "sentence", 1)
        raise ValueError(f"the file of {key} has a sentence too long: {what}") from error
    return torch.stack([clip.encode_text(prompts.build(each).to(clip.device)) for each in ids])
