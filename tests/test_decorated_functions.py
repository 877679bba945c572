"""A decorated function is like a plain one to pickle, copy, inspect and help."""

import copy
import functools
import inspect
import pickle
import pydoc
import subprocess
import sys

import jax
import numpy as np
import pytest

import tdjax
from tdjax import Fold

X = np.ones((2, 3, 4), np.float32)


@tdjax.time_distributed(strategy=Fold(chunk_size=4), in_axes=(1, None))
def scale(x, by):
    """Multiply."""
    return x * by


def plain(x):
    return x + 1


renamed = tdjax.time_distributed(plain, strategy="map")


class Model:
    def __init__(self, factor):
        self.factor = factor

    @tdjax.time_distributed(strategy="vmap")
    def step(self, x, *, shift=0.0):
        return x * self.factor + shift

    @staticmethod
    @tdjax.time_distributed
    def alone(x):
        return x

    def undecorated(self, x):
        return x * self.factor


def sent(value, protocol=pickle.DEFAULT_PROTOCOL):
    return pickle.loads(pickle.dumps(value, protocol))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_what_has_a_name_is_sent_by_it(protocol):
    for function in (scale, Model.step, Model.alone):
        assert sent(function, protocol) is function
    assert b"scale" in pickle.dumps(scale) and b"Fold" not in pickle.dumps(scale)


def test_what_stands_under_another_name_is_sent_with_its_options():
    for function in (renamed, tdjax.time_distributed(functools.partial(plain), strategy="map")):
        found = sent(function)
        assert found.options == function.options
        assert np.array_equal(found(X), X + 1)
    assert sent(renamed).__wrapped__ is plain


@pytest.mark.parametrize("send", [sent, copy.deepcopy])
def test_bound_methods_take_their_instance_along(send):
    model = Model(3.0)
    for method in (model.step, tdjax.time_distributed(model.undecorated, strategy="fold")):
        found = send(method)
        assert found.options == method.options and found.__name__ == method.__name__
        assert found.__wrapped__.__self__ is not model
        model.factor = 5.0
        assert np.array_equal(found(X), X * 3)
        model.factor = 3.0


def test_local_functions_are_refused_as_plain_ones_are():
    def local(x):
        return x

    errors = []
    for function in (local, tdjax.time_distributed(local), lambda x: x):
        with pytest.raises((AttributeError, pickle.PicklingError)) as caught:
            pickle.dumps(function)
        errors.append(caught)
    assert "local" in str(errors[0].value)
    assert (errors[1].type, str(errors[1].value)) == (errors[0].type, str(errors[0].value))


def test_copies_are_the_function_itself():
    local = tdjax.time_distributed(lambda x: x)
    for function in (scale, renamed, Model.step, local):
        assert copy.copy(function) is function and copy.deepcopy(function) is function
    assert copy.deepcopy({"a": [local]})["a"][0] is local


SCRIPT = """
import pickle, sys
import numpy as np
import tdjax

@tdjax.time_distributed(strategy="fold")
def ours(x, scale=2.0):
    return x * scale

if __name__ == "__main__":
    dumps = pickle.dumps
    assert pickle.loads(dumps(ours)) is ours
    if sys.argv[1] == "cloudpickle":
        from cloudpickle import dumps
    local = lambda x: x + ours(x[:, None])[:, 0]
    value = [ours, tdjax.time_distributed(local)] if sys.argv[1] == "cloudpickle" else [ours]
    sys.stdout.buffer.write(dumps(value))
"""
READER = """
import pickle, sys
import numpy as np
functions = pickle.load(sys.stdin.buffer)
x = np.ones((2, 3, 4), np.float32)
print([float(function(x).sum()) for function in functions], functions[0].__qualname__)
"""


def test_cloudpickle_sends_what_a_script_defines(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    run = functools.partial(subprocess.run, capture_output=True, check=True)
    written = run([sys.executable, str(path), "cloudpickle"]).stdout
    read = run([sys.executable, "-c", READER], input=written).stdout.decode()
    assert read.split() == ["[48.0,", "72.0]", "ours"]


def test_signature_and_help_show_what_a_call_takes():
    assert str(inspect.signature(scale)) == "(x, by, *, mask=None, seq_lengths=None)"
    signature = inspect.signature(Model(1.0).step)
    assert str(signature) == "(x, *, shift=0.0, mask=None, seq_lengths=None)"
    takes = tdjax.time_distributed(lambda x, mask=None, **rest: x)
    assert str(inspect.signature(takes)) == "(x, mask=None, *, seq_lengths=None, **rest)"
    shown = pydoc.plain(pydoc.render_doc(scale))
    assert "scale(x, by, *, mask=None, seq_lengths=None)" in shown and "Multiply." in shown
    assert "mask=None" in pydoc.plain(pydoc.render_doc(Model))
    for wrapper in (tdjax.linen.TimeDistributed, tdjax.nnx.TimeDistributed):
        assert {"mask", "seq_lengths"} <= inspect.signature(wrapper.__call__).parameters.keys()
    inspect.signature(type(scale))


@pytest.mark.parametrize(
    "through",
    [lambda f: f, jax.jit, functools.partial],
    ids=["itself", "jit", "partial"],
)
def test_a_mask_is_not_given_to_a_decorated_step(through):
    inner = through(tdjax.time_distributed(lambda x: x * 2, strategy="vmap"))
    outer = tdjax.time_distributed(inner, strategy="vmap")
    mask = np.array([[True, False, True], [True, True, False]])
    expected = 2 * X[..., None] * mask[:, :, None, None]
    assert np.array_equal(outer(X[..., None], mask=mask), expected)
