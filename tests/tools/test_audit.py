"""tools.audit: a finding fails, no answer does not, and both are said."""

import importlib.util
import json
import subprocess
from types import SimpleNamespace

import pytest

from tools import audit

SKIPPED = {"name": "b", "skip_reason": "not found on PyPI"}
GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}


@pytest.fixture
def answers(monkeypatch):
    """What each service answers: entries, the error it ends with, or a time without an answer."""

    def give(**by_service):
        def run(command, **_):
            answer = by_service[command[command.index("-s") + 1]]
            if answer == "no memory":
                raise OSError(12, "Cannot allocate memory")
            if answer == "hangs":
                raise subprocess.TimeoutExpired(command, 120)
            if isinstance(answer, list):
                with open(command[-1], "w") as file:
                    json.dump({"dependencies": answer}, file)
                return SimpleNamespace(stderr="")
            return SimpleNamespace(stderr=answer)

        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)

    return give


@pytest.mark.parametrize(
    ("pypi", "osv", "code", "says"),
    [
        ([GOOD, SKIPPED], "no route", 0, "1 packages, no new finding"),
        ([BAD], [GOOD], 1, "a 1 has PYSEC-1, mended in 2"),
        ([SKIPPED], [BAD], 1, "1 to mend"),
        ([SKIPPED], "Trace\nno route to host", 0, "osv gave no answer: no route to host"),
        ("", "hangs", 0, "nothing was checked"),
        ([GOOD], "no memory", 0, "osv gave no answer: [Errno 12] Cannot allocate memory"),
    ],
)
def test_answers(pypi, osv, code, says, answers, capsys):
    answers(pypi=pypi, osv=osv)
    assert audit.main([]) == code
    assert says in capsys.readouterr().out


def test_what_is_known_does_not_fail(answers, capsys, monkeypatch):
    monkeypatch.setattr(audit, "KNOWN", {"PYSEC-1": "nothing here opens such files"})
    answers(pypi=[BAD], osv=[BAD])
    assert audit.main([]) == 0
    assert "(known: nothing here opens such files)" in capsys.readouterr().out


def test_without_pip_audit_nothing_passes(answers, capsys, monkeypatch):
    answers(pypi=[GOOD], osv=[GOOD])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert audit.main([]) == 2
    assert "pip-audit is not installed" in capsys.readouterr().err
