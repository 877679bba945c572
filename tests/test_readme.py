"""The Python blocks of the README and of guides run, and say what their comments say."""

import contextlib
import io
import pathlib
import re

import jax
import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "examples" / "guide").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run_and_print_what_they_say(page, monkeypatch):
    monkeypatch.setattr("tdjax.tuning.tune._BUDGET_S", 0.5)  # what is fastest is not promised
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) >= 4
    source = "\n".join(blocks)
    promised = re.findall(r"^print\(.*\)\s+# (.*)$", source, re.MULTILINE)
    printed = io.StringIO()
    # The suite is stricter about broadcasting than a reader need be.
    allow, standard = jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard")
    with contextlib.redirect_stdout(printed), allow, standard:
        exec(compile(source, str(page), "exec"), {"__name__": "page"})
    lines = [line for line in printed.getvalue().splitlines() if "cannot be folded" not in line]
    assert lines == promised


def test_shell_blocks_hold_the_two_commands():
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(), re.DOTALL)
    assert [("compare" in block, "pytest" in block) for block in blocks] == [
        (True, False),
        (False, True),
    ]
    assert all(len(block.strip().splitlines()) == 1 for block in blocks)
