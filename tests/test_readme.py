"""The README and the guides: their Python runs and says what it promises, their links hold, and
their figures are those of the results that they name."""

import contextlib
import functools
import io
import itertools
import pathlib
import re

import jax
import numpy as np
import pytest

from tdjax import Comparison
from tdjax.comparison.verdicts.metric import advantage

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
EXAMPLES = ROOT / "examples"
GUIDES = sorted((EXAMPLES / "guide").glob("*.md"))
PAGES = [README, EXAMPLES / "README.md", *GUIDES]
RUN = [page for page in PAGES if "```python" in page.read_text()]
WITHOUT_CODE = {"changelog.md"}

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)(?: \"([^\"]*)\")?\)")
IMAGE = re.compile(r"<img ([^>]*)>")
SOURCE = re.compile(r"(?:src|srcset)=\"([^\"]*)\"")


def name_of(page):
    return str(page.relative_to(ROOT))


def run(page):
    """Run the Python of a page; return its names, what it printed, and what it promises."""
    source = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
    promised = re.findall(r"^ *print\(.*\)\s+# (.*)$", source, re.MULTILINE)
    printed, names = io.StringIO(), {"__name__": "page"}
    # The suite is stricter about broadcasting than a reader need be.
    allow, standard = jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard")
    with contextlib.redirect_stdout(printed), allow, standard:
        exec(compile(source, str(page), "exec"), names)
    return names, printed.getvalue().splitlines(), promised


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_python_runs_and_prints_what_it_says(page, monkeypatch):
    monkeypatch.setattr("tdjax.tuning.tune._BUDGET_S", 0.5)  # what is fastest is not promised
    _, printed, promised = run(page)
    assert printed == promised
    assert promised


def test_every_guide_has_code_and_is_in_the_index():
    assert {page.name for page in GUIDES} - {page.name for page in RUN} <= WITHOUT_CODE
    index = (EXAMPLES / "README.md").read_text()
    assert [page.name for page in GUIDES if f"(guide/{page.name})" not in index] == []


def test_the_five_lines_by_hand_are_wrong_and_the_one_line_is_right():
    names, *_ = run(README)
    clips, lengths = np.asarray(names["clips"]), np.asarray(names["lengths"])
    real = np.arange(clips.shape[1]) < lengths[:, None]
    variables = {kind: tree["layer"] for kind, tree in names["variables"].items()}

    def by_hand():
        with jax.numpy_rank_promotion("allow"):
            return names["by_hand"](variables, clips, lengths)

    def mean(updates):
        return np.asarray(updates["batch_stats"]["BatchNorm_0"]["mean"])

    # The frames that are real, picked by hand, and nothing else.
    expected, updates = names["PerFrame"]().apply(
        variables, clips[real], train=True, mutable=["batch_stats"]
    )
    y = np.asarray(names["y"])
    np.testing.assert_allclose(y[real], expected, atol=1e-5)
    assert not y[~real].any()
    ours = mean({"batch_stats": names["updates"]["batch_stats"]["layer"]})
    np.testing.assert_allclose(ours, mean(updates), atol=1e-6)

    wrong, biased = by_hand()
    off = np.abs(np.asarray(wrong)[real] - expected)
    assert off.min(0).max() > 0 and off.max() > 0.02
    assert np.abs(mean(biased) - mean(updates)).max() > 1e-4

    clips = np.where(real[..., None, None, None], clips, np.nan)  # padding may hold anything
    assert np.isnan(np.asarray(by_hand()[0])[real]).all()


def test_the_readme_is_short_and_its_first_screen_shows_both_ways():
    text = README.read_text()
    assert len(text.encode()) <= 9000
    assert text.count("```python") == 2
    assert text.index("## Try it") < 3000


def test_shell_blocks_hold_the_two_commands():
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(), re.DOTALL)
    assert [("compare" in block, "pytest" in block) for block in blocks] == [
        (True, False),
        (False, True),
    ]
    assert all(len(block.strip().splitlines()) == 1 for block in blocks)


@functools.cache
def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere_and_images_have_a_text(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for image, said, target, title in LINK.findall(text):
        assert said, target
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT) and not (image and anchor), target
        if line := re.fullmatch(r"L(\d+)", anchor):
            lines = there.read_text().splitlines()
            assert lines[int(line[1]) - 1].startswith(f"def {title}("), f"{target} is not {title}"
        elif anchor:
            assert anchor in anchors(there), target
    for attributes in IMAGE.findall(text):
        assert re.search(r'alt="[^"]{10,}"', attributes), attributes
    for source in SOURCE.findall(text):
        assert (page.parent / source).exists(), source


def speed(comparison, workload, strategy):
    """Return a cell of a table: speeds relative to `vmap`, forward / forward + gradient."""
    cells = []
    for mode in ("forward", "grad"):
        entries = {
            entry.strategy: entry
            for entry in comparison.entries
            if (entry.workload, entry.mode) == (workload, mode)
        }
        ratio = advantage(entries[strategy], entries[comparison.reference], "time")
        cells.append(f"{ratio.value:.2f}")
    return " / ".join(cells)


def rows_below(page, heading):
    """Return the cells of the table below a line that begins so."""
    rows = page.read_text().split(heading, 1)[1].splitlines()[2:]
    for row in rows:
        if not row.startswith("|"):
            return
        yield [cell.strip(" `") for cell in row.strip("|").split("|")]


@pytest.mark.parametrize(
    ("page", "heading", "columns"),
    [
        (
            "README.md",
            "| workload | CPU",
            [
                ("cpu", "fold"),
                ("cpu", "map"),
                ("cpu", "auto"),
                ("h200", "fold"),
                ("h200", "map"),
            ],
        ),
        (
            "examples/guide/comparing.md",
            "| workload | `fold` | `map` | `unroll` | folded",
            [("cpu", "fold"), ("cpu", "map"), ("cpu", "unroll"), None, None, ("cpu", "auto")],
        ),
        (
            "examples/guide/comparing.md",
            "| workload | `fold` | `map` | `unroll` | `vmap`, wall",
            [("h200", "fold"), ("h200", "map"), ("h200", "unroll")],
        ),
    ],
    ids=["README", "CPU", "GPU"],
)
def test_speeds_are_those_of_the_results(page, heading, columns):
    load = functools.cache(lambda name: Comparison.load(EXAMPLES / "results" / f"{name}.json"))
    found = list(rows_below(ROOT / page, heading))
    assert len(found) >= 4
    expected = [
        [workload]
        + [
            cell if column is None else speed(load(column[0]), workload, column[1])
            for cell, column in itertools.zip_longest(cells, columns)
        ]
        for workload, *cells in found
    ]
    assert found == expected
