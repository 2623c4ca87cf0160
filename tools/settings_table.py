"""The keys of every method, as a page of the docs.

python -m tools.settings_table > docs/settings.md
"""

from typing import Any

from dassl.engine import TRAINER_REGISTRY
from run.config import default_config

START = """# Settings of the methods

Written by `python -m tools.settings_table > docs/settings.md` from the dataclass in each
method's file. A YAML file sets them below `TRAINER`, a command at its end:
`TRAINER.MMRL.ALPHA 0.5`. *Fixed* keys must be as those that a checkpoint was trained with.
"""
COLUMNS = ("key", "default", "allowed", "meaning", "fixed")


def page() -> str:
    """The page, in Markdown."""
    default_config()  # registers the trainers
    trainers = [TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()]
    own = [trainer for trainer in trainers if hasattr(trainer, "Method")]
    nodes = dict.fromkeys(sorted(trainer.node for trainer in own))
    return START + "".join(_section(node, [t for t in own if t.node == node]) for node in nodes)


def _section(node: str, trainers: list[Any]) -> str:
    """A node's heading and table; `trainers` are those that take their settings from it."""
    aliases = [f"`TRAINER.{trainer.alias}`" for trainer in trainers if trainer.alias]
    also = f" (or {', '.join(aliases)})" if aliases else ""
    names = ", ".join(f"`--trainer {trainer.__name__}`" for trainer in trainers)
    rows = [
        (k.name, f"`{k.default!r}`", k.allowed.words, k.meaning, "yes" if k.fixed else "")
        for k in trainers[0].Method.Settings.config_keys()
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in (COLUMNS, ["---"] * 5, *rows))
    return f"\n## TRAINER.{node}\n\nOf {names}{also}.\n\n{table}\n"


if __name__ == "__main__":
    print(page(), end="")
