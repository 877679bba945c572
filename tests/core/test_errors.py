"""Wrong calls: each error's type, what it names, what it got and what it needs."""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import array

import tdjax
from tdjax import Fold, Packed, StrategyError, Vmap

X = array(8, 10, 3)
STRATEGIES = ["vmap", "map", "unroll", "fold", Fold(chunk_size=3), "auto"]
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=str)


def error(kind, call, *words):
    """Call, and return the message of the error, after a look for all words in it."""
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    message = str(caught.value)
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"
    return message


@every_strategy
def test_rank_too_low(strategy):
    def step(x, bias):
        return x + bias

    fun = tdjax.time_distributed(step, strategy=strategy)
    error(ValueError, lambda: fun(X, jnp.ones(3)), "bias", "float32[3]", "rank 1", "axis 1", "None")
    fun = tdjax.time_distributed(step, in_axes=-4, strategy=strategy)
    error(ValueError, lambda: fun(X, X), "x is float32[8,10,3]", "-4")


@every_strategy
def test_different_numbers_of_steps_are_all_named(strategy):
    def step(tree, y):
        return y

    fun = tdjax.time_distributed(step, strategy=strategy)
    error(
        ValueError,
        lambda: fun({"a": X, "b": X[:, :7]}, array(8, 9)),
        "tree['a'] is float32[8,10,3]: 10 steps",
        "tree['b'] is float32[8,7,3]: 7 steps",
        "y is float32[8,9]: 9 steps",
        "None",
    )


MASKS = {
    "time_first": (jnp.ones((10, 8), bool), ValueError, ("mask is bool[10,8]", "bool[8,10]")),
    "one_axis": (jnp.ones(8, bool), ValueError, ("mask is bool[8]", "(batch, time)")),
    "other_batch": (jnp.ones((7, 10), bool), ValueError, ("bool[7,10]",)),
    "floats": (jnp.ones((8, 10)), TypeError, ("mask is float32[8,10]", "bool")),
    "ints": (np.ones((8, 10), np.int32), TypeError, ("mask is int32[8,10]", "astype(bool)")),
}


@pytest.mark.parametrize("strategy", [*STRATEGIES, "packed"], ids=str)
@pytest.mark.parametrize("name", MASKS)
def test_wrong_masks(name, strategy):
    mask, kind, words = MASKS[name]
    fun = tdjax.time_distributed(jnp.sin, strategy=strategy)
    error(kind, lambda: fun(X, mask=mask), *words)


LENGTHS = {
    "floats": (jnp.ones(8), TypeError, ("seq_lengths is float32[8]", "int")),
    "bools": (jnp.ones(8, bool), TypeError, ("seq_lengths is bool[8]", "int")),
    "two_axes": (jnp.ones((8, 10), jnp.int32), ValueError, ("int32[8,10]", "int[8]")),
    "other_batch": (jnp.ones(7, jnp.int32), ValueError, ("int32[7]", "int[8]")),
    "too_long": (jnp.full(8, 11), ValueError, ("seq_lengths[0] is 11", "10")),
    "negative": (jnp.full(8, 2).at[3].set(-1), ValueError, ("seq_lengths[3] is -1", "0")),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_wrong_lengths(name):
    lengths, kind, words = LENGTHS[name]
    fun = tdjax.time_distributed(jnp.sin)
    error(kind, lambda: fun(X, seq_lengths=lengths), *words)


@pytest.mark.parametrize("strategy", [*STRATEGIES, "packed"], ids=str)
def test_mask_and_lengths_together(strategy):
    fun = tdjax.time_distributed(jnp.sin, strategy=strategy)
    mask, lengths = jnp.ones((8, 10), bool), jnp.ones(8, jnp.int32)
    error(ValueError, lambda: fun(X, mask=mask, seq_lengths=lengths), "mask", "seq_lengths", "both")


CONVERTED = {
    "float lengths": (TypeError, tdjax.lengths_to_mask, ([1.0],), ("seq_lengths", "int")),
    "a matrix": (ValueError, tdjax.lengths_to_mask, ([[1]],), ("seq_lengths", "int[batch]")),
    "too long": (ValueError, tdjax.lengths_to_mask, ([1, 4], 3), ("seq_lengths[1] is 4", "3")),
    "an int mask": (TypeError, tdjax.mask_to_lengths, ([[1, 0]],), ("mask is int", "bool")),
    "one axis": (ValueError, tdjax.mask_to_lengths, ([True],), ("bool[1]", "bool[batch,time]")),
    "a gap": (ValueError, tdjax.mask_to_lengths, ([[False, True]],), ("mask[0]", "mask=")),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_masks_and_lengths_that_cannot_be_converted(name):
    kind, convert, args, words = CONVERTED[name]
    error(kind, lambda: convert(*args), *words)


def test_the_longest_of_traced_lengths_is_not_known():
    lengths = jnp.ones(3, jnp.int32)
    error(TypeError, lambda: jax.jit(tdjax.lengths_to_mask)(lengths), "give time")


NAMES = ("vmap", "map", "unroll", "fold", "packed", "auto")
OPTIONS = {
    "unknown_strategy": (ValueError, {"strategy": "scan"}, ("'scan'", *NAMES)),
    "strategy_class": (TypeError, {"strategy": Fold}, ("Fold", "tdjax.Fold()")),
    "strategy_number": (TypeError, {"strategy": 3}, ("3", "int", *NAMES)),
    "strategy_none": (TypeError, {"strategy": None}, ("None", *NAMES)),
    "in_axes_text": (TypeError, {"in_axes": "1"}, ("in_axes", "'1'", "int")),
    "in_axes_float": (TypeError, {"in_axes": (1, 2.0)}, ("in_axes", "2.0", "int")),
    "in_axes_bool": (TypeError, {"in_axes": True}, ("in_axes", "True")),
    "out_axes_text": (TypeError, {"out_axes": ("a",)}, ("out_axes", "'a'")),
    "masked_output": (
        ValueError,
        {"masked_output": "drop"},
        ("masked_output", "'drop'", "zero", "keep"),
    ),
    "pooled": (TypeError, {"pooled": "yes"}, ("pooled", "'yes'")),
    "axis_size_negative": (ValueError, {"axis_size": -1}, ("axis_size", "-1")),
    "axis_size_float": (ValueError, {"axis_size": 2.5}, ("axis_size", "2.5")),
    "partition": (TypeError, {"partition": ("data", "seq")}, ("partition", "PartitionSpec(batch")),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_wrong_options_are_refused_before_any_call(name):
    kind, options, words = OPTIONS[name]
    error(kind, lambda: tdjax.time_distributed(jnp.sin, **options), *words)
    error(kind, lambda: tdjax.time_distributed(**options), *words)


@pytest.mark.parametrize("fun", [3, "relu", [1]], ids=repr)
def test_fun_must_be_callable(fun):
    error(TypeError, lambda: tdjax.time_distributed(fun), repr(fun), "function")


CHUNKS = {
    "zero": (0, ValueError, ("chunk_size=0", "at least 1")),
    "negative": (-2, ValueError, ("chunk_size=-2", "at least 1")),
    "bool": (True, TypeError, ("chunk_size=True", "bool", "int")),
    "float": (2.0, TypeError, ("chunk_size=2.0", "float", "int")),
    "text": ("4", TypeError, ("chunk_size='4'", "str", "int")),
}


@pytest.mark.parametrize("strategy", [Vmap, Fold, Packed])
@pytest.mark.parametrize("name", CHUNKS)
def test_wrong_chunk_sizes(name, strategy):
    size, kind, words = CHUNKS[name]
    error(kind, lambda: strategy(chunk_size=size), strategy.__name__, *words)


@pytest.mark.parametrize("strategy", [Vmap, Fold])
def test_wrong_unroll(strategy):
    error(ValueError, lambda: strategy(unroll=True), "unroll", "chunk_size")
    error(ValueError, lambda: strategy(chunk_size=2, unroll=0), "unroll=0", "at least 1")
    error(TypeError, lambda: strategy(chunk_size=2, unroll=1.5), "unroll=1.5", "float")


@every_strategy
def test_in_axes_of_another_length(strategy):
    fun = tdjax.time_distributed(lambda x, y: x, in_axes=(1, 1, None), strategy=strategy)
    error(ValueError, lambda: fun(X, X), "in_axes", "3 entries", "2 positional")


@every_strategy
def test_in_axes_of_another_structure(strategy):
    fun = tdjax.time_distributed(lambda tree: tree["a"], in_axes=({"b": 1},), strategy=strategy)
    words = "in_axes[0] has a dict with 'b' where tree has a dict with 'a'", "prefix"
    error(ValueError, lambda: fun({"a": X}), *words)
    fun = tdjax.time_distributed(lambda *xs: xs[0], in_axes=((1, 1), 1), strategy=strategy)
    error(ValueError, lambda: fun(X, X), "in_axes[0] has a tuple of 2 where argument 0 has one a")
    fun = tdjax.time_distributed(lambda tree: tree, in_axes={"a": 1}, strategy=strategy)
    error(ValueError, lambda: fun({"a": X}), "in_axes has a dict with 'a' where the call has a t")


@every_strategy
def test_out_axes_too_large_for_the_output(strategy):
    fun = tdjax.time_distributed(lambda x: {"total": x.sum()}, out_axes=1, strategy=strategy)
    kinds = (ValueError, StrategyError) if "old" in str(strategy) else (ValueError,)
    with pytest.raises(kinds) as caught:
        fun(X)
    if type(caught.value) is ValueError:
        message = str(caught.value)
        assert "['total']" in message and "rank 0" in message and "out_axes=0" in message


@every_strategy
def test_out_axes_too_large_for_a_row(strategy):
    fun = tdjax.time_distributed(lambda x: (x, x.sum(-1)), out_axes=(1, 3), strategy=strategy)
    error(ValueError, lambda: fun(X), "[1]", "rank 1", "axis 3")


@every_strategy
def test_outputs_that_are_no_arrays(strategy):
    def maker(x):
        return {"made": lambda y: x + y}

    words = "the output['made'] of ", "maker is function", "needed an array", "call it first"
    error(TypeError, lambda: tdjax.time_distributed(maker, strategy=strategy)(X), *words)
    named = tdjax.time_distributed(lambda x: (x, "name"), strategy=strategy)
    error(TypeError, lambda: named(X), "the output[1]", "is str", "needed an array")


@every_strategy
def test_out_axes_of_another_structure(strategy):
    fun = tdjax.time_distributed(lambda x: (x, x), out_axes=(1, 1, 1), strategy=strategy)
    error(ValueError, lambda: fun(X), "out_axes has a tuple of 3 where the output has a tuple of 2")
    fun = tdjax.time_distributed(lambda x: (x, [x]), out_axes=(1, {"a": 0}), strategy=strategy)
    error(ValueError, lambda: fun(X), "out_axes[1] has a dict with 'a' where the output[1] has a l")
    fun = tdjax.time_distributed(jnp.tanh, out_axes=(1, 0), strategy=strategy)
    error(ValueError, lambda: fun(X), "for tanh, out_axes has a tuple of 2", "has one array")


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Made:
    """Has a field that is no part of its tree."""

    array: object
    size: int = dataclasses.field(metadata={"static": True})


def test_axes_in_a_node_that_differs_are_told_in_whole_words():
    fun = tdjax.time_distributed(lambda x: x.array, in_axes=(Made(1, 3),))
    message = error(
        ValueError,
        lambda: fun(Made(X, 4)),
        "in_axes[0] has a Made that differs in its static fields from that of x.",
    )
    assert "…" not in message and "key path" not in message
    ordered = collections.OrderedDict
    fun = tdjax.time_distributed(lambda x: x["a"], in_axes=(ordered(a=1, b=1),))
    words = "in_axes[0] has an OrderedDict that differs in the order of its keys from that of x."
    error(ValueError, lambda: fun(ordered(b=X, a=X)), words)
    fun = tdjax.time_distributed(lambda x: x["a"], in_axes=({"a": 1},))
    words = "in_axes[0] has a dict with 'a' where x has an OrderedDict with 'a'."
    error(ValueError, lambda: fun(ordered(a=X)), words)


@every_strategy
def test_out_axes_none_for_what_differs_between_steps(strategy):
    fun = tdjax.time_distributed(lambda x: x * 2, out_axes=None, strategy=strategy)
    with pytest.raises(ValueError, match="out_axes"):
        fun(X)


Ends = collections.namedtuple("Ends", "first last")
UNMAPPED = {
    "no arguments": ((), {}, ("was called without arguments", "axis_size")),
    "text": (("hello",), {}, ("x is 'hello' (str), needed an array.",)),
    "None": ((None,), {}, ("x is None (NoneType), needed an array",)),
    "a number": ((1.0,), {}, ("x is 1.0 (float), needed an array",)),
    "lists": (([[1, 2], [3, 4]],), {}, ("x is a list of numbers", "jnp.asarray(x)")),
    "an empty dict": (({},), {}, ("x is {} (dict), needed an array",)),
    "numbers of a type of one's own": ((Ends(1, 2),), {}, ("x is an Ends of numbers",)),
    "a keyword": ((), {"x": X}, ("x was passed by keyword", "pass it by position")),
    "both": (("hello",), {"y": X}, ("x is 'hello' (str)", "; y was passed by keyword")),
}


@pytest.mark.parametrize("name", UNMAPPED)
def test_what_cannot_be_mapped_is_named(name):
    def step(x, y=None):
        return x

    args, kwargs, words = UNMAPPED[name]
    for call in (tdjax.time_distributed(step), functools.partial(tdjax.explain, step)):
        error(ValueError, lambda call=call: call(*args, **kwargs), "step was ", *words)


def test_an_argument_without_a_name_is_told_in_words():
    fun = tdjax.time_distributed(lambda *xs: xs[0])
    message = error(ValueError, lambda: fun([[1, 2], [3, 4]]), "argument 0 is a list of numbers")
    assert message.endswith("needed an array: make it one with jnp.asarray.")


def test_what_steps_may_share_is_not_named_beside_an_array_without_time():
    def step(scale, x, y=None):
        return x * scale

    fun = tdjax.time_distributed(step, in_axes=None)
    for call in (lambda: fun(2.0, X), lambda: fun([1, (2, 3)], X)):
        assert "scale" not in error(ValueError, call, "step over: x has None at its place")
    message = error(ValueError, lambda: fun(2.0, y=X), "step over: y was passed by keyword")
    assert "scale" not in message
    fun = tdjax.time_distributed(step, in_axes=(1, None))
    error(ValueError, lambda: fun([1, (2, 3)], X), "scale is a list", "; x has None at its place")


@pytest.mark.parametrize("shape", [(2,), (1, 2)])
def test_dtypes_that_jax_does_not_have_are_named(shape):
    texts = np.array(["a", "b"]).reshape(shape)
    words = f"is <U1[{','.join(map(str, shape))}]", "no arrays of the dtype <U1"
    error(TypeError, lambda: tdjax.time_distributed(jnp.tanh)(texts), "x ", *words)
    fun = tdjax.time_distributed(lambda x, names: x, in_axes=(1, None))
    error(TypeError, lambda: fun(X, texts), "names ", *words)


@every_strategy
def test_nothing_mapped_and_no_axis_size(strategy):
    fun = tdjax.time_distributed(lambda x: x, in_axes=None, strategy=strategy)
    error(ValueError, lambda: fun(X), "in_axes", "axis_size")
    error(ValueError, lambda: tdjax.time_distributed(lambda: 1.0, strategy=strategy)(), "axis_size")


@pytest.mark.parametrize("strategy", ["fold", Fold(chunk_size=3)], ids=str)
def test_a_fold_that_would_mix_rows_says_where_and_what_to_do(strategy):
    def normalized(x):
        return x - x.mean(axis=0, keepdims=True)

    fun = tdjax.time_distributed(normalized, strategy=strategy)
    message = error(
        StrategyError, lambda: fun(X), "normalized", "`reduce_sum`", "test_errors.py", "vmap"
    )
    assert "pooled=True" in message and "assume_independent" in message
    assert issubclass(StrategyError, ValueError)


@pytest.mark.parametrize(
    "strategy", ["fold", Fold(chunk_size=3), Fold(assume_independent=True)], ids=str
)
def test_a_fold_without_rows_is_refused(strategy):
    fun = tdjax.time_distributed(lambda t: t * 2, in_axes=0, out_axes=0, strategy=strategy)
    error(StrategyError, lambda: fun(jnp.arange(5.0)), "vmap")


def test_pooled_output_without_rows_needs_out_axes_none():
    fun = tdjax.time_distributed(lambda x: x.mean(), pooled=True, strategy="fold", out_axes=0)
    error(ValueError, lambda: fun(X), "pooled", "float32", "out_axes")
