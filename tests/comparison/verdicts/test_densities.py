"""Comparisons at several parts of real steps: masks, what is kept of them, and the picture."""

import json
import re
from statistics import median

import jax.numpy as jnp
import pytest

import tdjax
from tdjax.cli import main
from tdjax.comparison import Comparison
from tdjax.comparison.charts.density import apart, density_charts
from tdjax.comparison.rendering.html.report import html
from tdjax.comparison.rendering.pictures.kinds import kinds
from tdjax.comparison.verdicts.density import Density

pytestmark = pytest.mark.usefixtures("optimised")

X = jnp.ones((4, 6, 8))


@pytest.fixture(scope="module")
def compared():
    return tdjax.compare(
        jnp.tanh, X, strategies=("vmap", "packed"), valid_fractions=(1.0, 0.25), rounds=3
    )


def test_every_part_is_a_workload_with_every_strategy(compared):
    names = ["tanh, 25% real", "tanh, 100% real"]
    assert [(e.workload, e.strategy) for e in compared.entries] == [
        (name, strategy) for name in names for strategy in ("vmap", "packed")
    ]
    assert all(entry.status == "ok" for entry in compared.entries)
    assert dict(compared.densities) == {names[0]: ("tanh", 0.25), names[1]: ("tanh", 1.0)}


def test_it_is_saved_and_drawn(compared, tmp_path):
    again = Comparison.load(compared.save(tmp_path / "comparison.json"))
    assert again == compared and again.densities["tanh, 25% real"] == Density("tanh", 0.25)
    assert kinds(again)[-1] == "density"
    assert again.plot(tmp_path / "density.png", "density").stat().st_size > 1000


def test_the_ideal_is_the_fastest_that_computes_everything(compared):
    ((group, chart),) = density_charts(compared).items()
    assert (group.workload, chart.parts) == ("tanh", (0.25, 1.0))
    vmap, packed = chart.lines
    assert packed.packs and not vmap.packs
    assert chart.ideal_s == vmap.times_s[1]
    assert chart.speeds(packed)[0] == median(
        before / own
        for before, own in zip(
            vmap.entry(0.25).samples_s, packed.entry(0.25).samples_s, strict=False
        )
    )


def test_tables_and_report_show_every_part_and_what_would_be_free(compared):
    text = str(compared)
    assert "tanh, forward, measured on cpu: " in text and "by the part that is real" in text
    row = next(line for line in text.splitlines() if line.startswith("if padding were free"))
    quarter, whole = map(float, row.split()[-2:])
    # Of three digits as shown: of two decimals, where another row needs a larger unit.
    assert quarter == pytest.approx(whole / 4, rel=0.02, abs=0.01)
    assert "speed of packed / best of them" in text

    page = html(compared)
    assert page.count("tanh: what padding costs") == 1
    assert page.index("tanh: what padding costs") < page.index("<h2>tanh, 25% real")
    assert page.count('class="course ahead"') == 1
    assert page.count('class="free"') == 1 and "<script" not in page


def test_names_of_lines_keep_their_distance_and_their_order():
    assert apart([0.5, 0.1, 0.9], 0.2) == [0.5, 0.1, 0.9]
    assert apart([0.5, 0.52, 0.48], 0.1) == pytest.approx([0.5, 0.6, 0.4])
    assert apart([0.0, 0.1, 0.1, 0.35], 0.2) == pytest.approx([-0.1625, 0.0375, 0.2375, 0.4375])


def test_the_command_line_takes_parts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "compare dense --quick --mode forward --rounds 2 --valid-fractions 1,0.5 --json"
    assert main(words.split()) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["densities"] == {
        "dense, 50% real": ["dense", 0.5],
        "dense, 100% real": ["dense", 1.0],
    }
    assert {entry["strategy"] for entry in printed["entries"]} >= {"vmap", "fold", "packed"}
    assert {entry["status"] for entry in printed["entries"]} == {"ok"}
    saved = {path.name for path in (tmp_path / "tdjax-results").iterdir()}
    assert {"comparison.html", "comparison-density.png"} <= saved


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("0.5,2", "'0.5,2' are not parts; write numbers above 0, up to 1"),
        ("0", "'0' are not parts"),
        ("nan", "'nan' are not parts"),
        ("half", "'half' are not parts"),
        ("0.5 --targets tpu:v5e", "got the targets tpu:v5e, .* one program serves all masks"),
    ],
)
def test_wrong_parts_are_one_line_and_exit_2(capsys, words, said):
    assert main(["compare", "dense", "--quick", "--valid-fractions", *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and re.search(said, line), line


def test_with_a_mask_packed_joins_the_default():
    lengths = jnp.array([6, 1, 2, 0])
    made = tdjax.compare(jnp.tanh, X, seq_lengths=lengths, rounds=1)
    names = [entry.strategy for entry in made.entries]
    assert names == ["vmap", "fold", "map", "unroll", "auto", "packed"] and not made.densities
    with pytest.raises(ValueError, match="nothing to draw for kind='density'"):
        made.plot("nowhere.png", "density")


@pytest.mark.parametrize("fractions", [(), (0.0,), (0.5, 1.5), (0.5, float("nan"), 1.0)])
def test_parts_lie_between_0_and_1(fractions):
    with pytest.raises(ValueError, match=r"valid_fractions: got .* up to 1"):
        tdjax.compare(jnp.tanh, X, valid_fractions=fractions)
