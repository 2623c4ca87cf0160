"""Known vulnerabilities of the packages that are installed: python -m tools.audit.

Asks PyPI's service and then OSV's by pip-audit. A finding that is not in `KNOWN` fails. Where
neither service answers, or knows the packages, that is said in a line and is no failure.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from run.command import Parser, guarded, piped

# Findings that cannot be mended here: id -> why. Anything else is to be mended by an update.
KNOWN: dict[str, str] = {}
SERVICES = ("pypi", "osv")
TIMEOUT = 120  # seconds for one service


def main(argv: list[str] | None = None) -> int:
    """0 without a finding that is new, 1 with one."""
    args = Parser(prog="python -m tools.audit", description=__doc__).parse_args(argv)
    return guarded(audit, args)


def audit() -> int:
    """See `main`. ValueError without pip-audit: nothing would be asked."""
    if importlib.util.find_spec("pip_audit") is None:
        raise ValueError("pip-audit is not installed: pip install pip-audit, or make setup")
    answers = [answer for service in SERVICES if (answer := ask(service)) is not None]
    if not answers:
        print("audit: no service that knows vulnerabilities answered; nothing was checked")
        return 0
    found = {id: text for answer in answers for id, text in findings(answer).items()}
    for id, text in sorted(found.items()):
        print(f"audit: {text}" + (f" (known: {KNOWN[id]})" if id in KNOWN else ""))
    new = found.keys() - KNOWN.keys()
    if new:
        print(f"audit: {len(new)} to mend: update, or say in tools/audit.py why that cannot be")
    else:
        print(f"audit: {max(map(checked, answers))} packages, no new finding")
    return 1 if new else 0


def ask(service: str) -> list[dict] | None:
    """pip-audit's entries, one a package; None if the service gave no answer on any of them."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable"]
        command += ["--progress-spinner", "off", "-s", service, "-f", "json", "-o", str(report)]
        done = None
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
            entries = json.loads(report.read_text())["dependencies"]
        except (subprocess.TimeoutExpired, OSError, ValueError, KeyError) as error:
            words = (done.stderr.strip() if done else "") or str(error) or type(error).__name__
            print(f"audit: {service} gave no answer: {words.splitlines()[-1]:.200}")
            return None
    if not checked(entries):
        print(
            f"audit: {service} knows none of {len(entries)} packages: a mirror that has no audit?"
        )
        return None
    return entries


def checked(entries: list[dict]) -> int:
    return sum("vulns" in entry for entry in entries)


def findings(entries: list[dict]) -> dict[str, str]:
    """Id of each vulnerability -> a line on it."""
    return {
        found["id"]: f"{entry['name']} {entry['version']} has {found['id']}, mended in "
        f"{', '.join(found['fix_versions']) or 'no version'}"
        for entry in entries
        for found in entry.get("vulns", [])
    }


if __name__ == "__main__":
    sys.exit(piped(main))
