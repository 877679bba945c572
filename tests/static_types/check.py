"""Holds the calls of this folder to two type checkers: `python -m tests.static_types.check`.

`good.py` and `not_caught.py` pass, and each line of `bad.py` that says so is rejected, no other.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FILES = [HERE / name for name in ("good.py", "bad.py", "not_caught.py")]


def main() -> int:
    """Run both checkers; return how many lines they see differently."""
    wanted = {
        (path.name, number)
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.endswith("# rejected")
    }
    assert len(wanted) > 40
    strict = ("mypy", "--strict", "--config-file=", "--cache-dir")
    wrong = 0
    with tempfile.TemporaryDirectory() as cache:
        for command in ([*strict, cache], ["basedpyright", "--pythonpath", sys.executable]):
            errors = found_by(command)
            for place in sorted(errors.keys() ^ wanted):
                wrong += 1
                said = errors.get(place, "is not rejected")
                print(f"{command[0]}: {place[0]}:{place[1]}: {said}")
    print(f"{len(wanted)} rejected calls, {wrong} differences")
    return wrong


def found_by(command: list[str]) -> dict[tuple[str, int], str]:
    """Return the errors of a checker in these files, by file and line."""
    words = [sys.executable, "-m", *command, *map(str, FILES)]
    ran = subprocess.run(words, capture_output=True, text=True, check=False, cwd=HERE.parents[1])
    if ran.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(words)}:\n{ran.stdout}{ran.stderr}")
    errors = re.findall(r"static_types/(\w+\.py):(\d+)(?::\d+)?:? -? ?error: (.*)", ran.stdout)
    return {(name, int(line)): said for name, line, said in errors}


if __name__ == "__main__":
    sys.exit(main() > 0)
