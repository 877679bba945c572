"""Every spelling of a strategy that tdjax prints is read back, wherever a strategy is given."""

import itertools
import json

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tdjax
import tdjax.linen
import tdjax.nnx
from tdjax import Auto, Fold, Packed, Vmap
from tdjax.cli.arguments import strategies_of
from tdjax.comparison.subjects.strategy_list import parse_strategies
from tdjax.comparison.verdicts.naming import short
from tdjax.strategies import NAMES, candidates, parse, to_data
from tdjax.strategies.base import from_data

LENGTHS = np.array([3, 1])

BOTH = (False, True)


def every_strategy():
    """Return every kind with every combination of its options."""
    for size, unroll, remat in itertools.product((None, 1, 64), (False, True, 2), BOTH):
        if size is not None or unroll is False:
            yield Vmap(size, unroll, remat)
            yield from (Fold(size, unroll, remat, trusted) for trusted in BOTH)
        yield Packed(size)
    budgets, fractions = (None, 10**6, "64MB"), (None, 0, 0.5)
    for options in itertools.product(budgets, ("both", "forward"), fractions):
        yield Auto(*options)


def spellings(strategy):
    """Return the names in tables and files, and what Python shows."""
    names = str(strategy), short(str(strategy)), repr(strategy), f"tdjax.{strategy!r}"
    return {*names, *(f"auto: {name}" for name in names), f" {names[1]} "}


def test_what_is_printed_is_read():
    found = list(every_strategy())
    assert len(set(found)) == 42 + 3 + 18 and set(NAMES.values()) <= set(found)
    for strategy in found:
        assert {parse(text) for text in spellings(strategy)} == {strategy}
        assert from_data(**json.loads(json.dumps(to_data(strategy)))) == strategy.on_proof()


@pytest.mark.parametrize("kind", [Vmap, Fold])
def test_one_block_a_turn_is_the_plain_loop_and_not_all_of_them_written_out(kind):
    assert kind(1, unroll=1) == kind(1) != kind(1, unroll=True)
    assert parse(str(kind(1, unroll=1))) == kind(1)


@pytest.mark.parametrize("written", [str, lambda each: short(str(each)), repr])
def test_a_list_of_them_is_read_as_a_command_line_writes_it(written):
    found = list(dict.fromkeys(every_strategy()))
    assert strategies_of(", ".join(map(written, found))) == found


def test_tune_reads_its_candidates():
    candidates = ["Fold(4, unroll)", "auto: Vmap(2, remat)", "Packed(4)"]
    tuning = tdjax.tune(jnp.tanh, jnp.ones((2, 3, 4)), strategies=candidates, seq_lengths=LENGTHS)
    assert [e.strategy for e in tuning.entries] == [str(parse(text)) for text in candidates]
    assert tuning.best in map(parse, candidates)


def test_what_auto_and_tune_choose_from_is_read():
    found = candidates(32, 64, remat=True, own_forms=True)
    assert parse_strategies(", ".join(short(str(strategy)) for strategy in found)) == found


@pytest.mark.parametrize("text", ["Fold(4, unroll)", "Fold(chunk_size=4, unroll=True)"])
def test_it_is_read_everywhere(text):
    wanted, x = Fold(chunk_size=4, unroll=True), jnp.ones((2, 3, 4))
    assert tdjax.time_distributed(jnp.tanh, strategy=text).options.strategy == wanted
    wrapped = tdjax.nnx.TimeDistributed(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), strategy=text)
    assert wrapped.options.strategy == wanted
    assert "Fold(chunk_size=4, unroll=True)" in repr(
        tdjax.linen.TimeDistributed(nn.Dense(3), strategy=text)
    )
    assert tdjax.compare(jnp.tanh, x, strategies=("vmap", text), rounds=3).entries[
        1
    ].strategy == str(wanted)
    assert parse_strategies(f"vmap, {text}") == [Vmap(), wanted]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fast", r"strategy is 'fast', which is not known; use one of \"vmap\", \"map\", "),
        ("Fold(4", r"strategy is 'Fold\(4', which is not known"),
        ("vmap, fold", "which is not known"),
        ("", "strategy is '', which is not known"),
        ("\0", "which is not known"),
        ("fold(4)", r"'fold' takes no arguments; Vmap, Fold, Packed, Auto do"),
        ("Fold(chunks=4)", r"strategy is Fold\(chunks=4\): .*'chunks'"),
        ("Fold(chunks=4)", "the options of Fold are chunk_size, unroll, remat, assume_independent"),
        ("Fold(4, 2, 1, 0, 0)", r"strategy is Fold\(4, 2, 1, 0, 0\): .*positional arguments"),
        ("Fold(0)", r"strategy is Fold\(0\): Fold\(chunk_size=0\) must be at least 1"),
        ("Fold('many')", r"Fold\(chunk_size='many'\) is str; it must be a positive int"),
        ("Fold(2 * 8)", r"2 \* 8 is not a number, a string, a bool or None"),
        ("Auto(mode='grad')", r'mode must be "both" or "forward"'),
    ],
)
def test_a_text_that_cannot_be_read_says_why(text, said):
    with pytest.raises(ValueError, match=said):
        tdjax.time_distributed(jnp.tanh, strategy=text)


def test_a_class_is_not_a_strategy():
    with pytest.raises(TypeError, match=r"Write tdjax\.Fold\(\)\."):
        tdjax.time_distributed(jnp.tanh, strategy=Fold)
