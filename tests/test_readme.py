"""The README's Python blocks run, one after the other, and say what their comments say."""

import contextlib
import io
import pathlib
import re

import jax

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_python_blocks_run_and_print_what_they_say():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 4
    source = "\n".join(blocks)
    promised = re.findall(r"^print\(.*\)\s+# (.*)$", source, re.MULTILINE)
    printed = io.StringIO()
    # The suite is stricter about broadcasting than a reader need be.
    with contextlib.redirect_stdout(printed), jax.numpy_rank_promotion("allow"):
        exec(compile(source, str(README), "exec"), {"__name__": "readme"})
    lines = [line for line in printed.getvalue().splitlines() if "cannot be folded" not in line]
    assert lines == promised


def test_shell_blocks_hold_the_two_commands():
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(), re.DOTALL)
    assert [("compare" in block, "pytest" in block) for block in blocks] == [
        (True, False),
        (False, True),
    ]
    assert all(len(block.strip().splitlines()) == 1 for block in blocks)
