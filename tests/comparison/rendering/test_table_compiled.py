"""The table of programs that were compiled for a device that is not here."""

import pytest

from tdjax.comparison import Comparison, Entry
from tdjax.comparison.rendering.terminal.console import plain
from tdjax.comparison.verdicts.verdict import judge

GROUP = ("conv", "tpu:v5e", "compiled", "forward")
FIGURES = {"flops": 1.07e8, "bytes_accessed": 16.1e6, "temp_bytes": 40_500_000}


def made(**figures):
    entries = (
        Entry(*GROUP, "vmap", "ok", compile_s=1.35, **FIGURES, **figures),
        Entry(*GROUP, "Fold(chunk_size=512, unroll=True)", "ok", compile_s=2.4,
              **{**FIGURES, "bytes_accessed": 8.05e6}, **figures),
        Entry(*GROUP, "fold", "ok", compile_s=1.0, same_as="vmap", **FIGURES, **figures),
        Entry(*GROUP, "map", "failed", error="out of memory"),
    )  # fmt: skip
    return Comparison(entries, judge(entries), "vmap", {}, {"cores": 2, "jax": "1"})


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (54, "strategy  est. cycles  vmap / it  bytes"),
        (64, "strategy  est. cycles  vmap / it  bytes  temp"),
        (76, "strategy  est. cycles  vmap / it  bytes  flops  temp"),
        (90, "strategy  est. cycles  vmap / it  bytes  vmap / it  flops  temp"),
        (100, "strategy  est. cycles  vmap / it  bytes  vmap / it  flops  temp  compile s"),
    ],
)
def test_columns_that_do_not_fit_are_left_out_and_the_others_are_whole(width, headings):
    text = plain(made(estimated_cycles=47_200), width)
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    (line,) = (line for line in text.splitlines() if line.startswith("strategy"))
    assert line.split() == headings.split()
    assert "Fold(512, unroll)" in text and "47.2 k" in text and "16.1 MB" in text
    assert "= vmap" in text and "failed" in text


def test_without_cycles_bytes_alone_are_ranked():
    text = plain(made(), 80)
    (line,) = (line for line in text.splitlines() if line.startswith("strategy"))
    assert line.split() == ["strategy", "bytes", "vmap", "/", "it", "flops", "temp", "compile", "s"]
    assert "2.00" in text
