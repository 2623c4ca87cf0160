"""What the type checker is told of the package clip is so."""

import ast
import importlib

import pytest
from torch import Tensor, nn

from frozen_clip import reference
from tests.helpers.toy_run import REPO

STUBS = sorted((REPO / "typings" / "clip").glob("*.pyi"))
NOT_THERE = {"_MLP", "_Blocks"}  # an nn.Sequential each


def described(stub) -> dict[str, dict[str, str]]:
    """class: {attribute: annotation}; under '' the names that are no class."""
    found: dict[str, dict[str, str]] = {"": {}}
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ClassDef):
            rows = [row for row in node.body if isinstance(row, ast.AnnAssign)]
            found[node.name] = {row.target.id: ast.unparse(row.annotation) for row in rows}
        elif isinstance(node, ast.FunctionDef):
            found[""][node.name] = ""
        elif isinstance(node, ast.AnnAssign):
            found[""][node.target.id] = ""
    return found


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.stem)
def test_the_names_are_there(stub):
    module = importlib.import_module("clip" if stub.stem == "__init__" else f"clip.{stub.stem}")
    named = described(stub)
    assert all(hasattr(module, name) for name in {*named, *named[""]} - {"", *NOT_THERE})


def test_modules_have_what_they_are_said_to_have():
    said = described(REPO / "typings" / "clip" / "model.pyi")
    modules = {
        type(module).__name__: module for module in reference.random_clip(layers=(2, 2)).modules()
    }
    modules["_MLP"] = modules["ResidualAttentionBlock"].mlp
    seen = 0
    for name, attributes in said.items():
        for attribute, annotation in attributes.items() if name in modules else ():
            value = getattr(modules[name], attribute)
            names = annotation.split(" | ")
            kinds = {"int": int, "Tensor": Tensor, "None": type(None)}
            kinds |= {n: getattr(nn, n.removeprefix("nn.")) for n in names if n.startswith("nn.")}
            is_known = isinstance(value, tuple(kinds[n] for n in names if n in kinds))
            assert is_known or type(value).__name__ in names or set(names) & NOT_THERE, attribute
            seen += 1
    assert seen > 20
