"""What a name on the command line stands for."""

import json
import sys

import jax.numpy as jnp
import pytest

from tdjax.cli import main
from tdjax.comparison import Comparison
from tdjax.comparison.subjects.locate import locate

MODULE = """
import jax
from flax import linen as nn, nnx

class Net(nn.Module):
    features: tuple = (4,)
    train: bool = False

    @nn.compact
    def __call__(self, x):
        for width in self.features:
            x = nn.Dense(width)(x)
        return x

class Needy(nn.Module):
    width: int

class Pair(nnx.Module):
    def __init__(self, width=6, *, rngs):
        self.layer = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        return self.layer(x)

class Bare(nnx.Module):
    def __call__(self, x):
        return x

class Home:
    class Scale:
        def __init__(self, by):
            if by < 0:
                raise ArithmeticError("by is below 0")
            self.by = by

        def __call__(self, x):
            return x * self.by

READY = Net((3,))

def step(x):
    return x

def power(n):
    return lambda x: x**n
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A working folder with modules of the user's; nothing is drawn, which takes a second."""
    for drawing in ("plot", "report"):
        monkeypatch.setattr(Comparison, drawing, lambda comparison, path, *kind: path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nets.py").write_text(MODULE)
    (tmp_path / "sick.py").write_text("\n1 / 0\n")
    (tmp_path / "askew.py").write_text("def f(:\n")
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)\n")
    for name in ("nets", "sick", "askew", "script"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_a_function_an_instance_and_what_a_function_makes(nets):
    assert locate("nets:step").__name__ == "step"
    assert locate("nets:READY").features == (3,)
    assert locate("nets:power(3)")(2.0) == 8.0
    assert locate("nets:power(n=-2)")(2.0) == 0.25
    assert locate("nets:Home.Scale(2)")(3.0) == 6.0
    assert locate("nets:Home").__name__ == "Home"


def test_a_linen_class_is_called_with_the_literals_that_are_given(nets):
    assert locate("nets:Net").features == (4,)
    given = locate("nets:Net(features=(8, 16), train=True)")
    assert given.features == (8, 16) and given.train is True
    assert locate("nets:Needy(7)").width == 7
    assert locate("flax.linen:Dense(64, use_bias=False, dtype='bfloat16')").use_bias is False


def test_an_nnx_class_gets_fixed_keys_where_it_takes_them(nets):
    first, again = locate("nets:Pair"), locate("nets:Pair()")
    assert first.layer.in_features == 6
    assert jnp.array_equal(first.layer.kernel[...], again.layer.kernel[...])
    assert locate("nets:Pair(5)").layer.in_features == 5
    assert locate("nets:Bare")(2) == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nets:Needy", r"Needy.*missing.*'width'.* in quotes: \"nets:Needy\(width=\.\.\.\)\""),
        ("nets:Needy(3, depth=2)", "unexpected keyword argument 'depth'$"),
        ("flax.nnx:Linear", r"missing 2.*Linear\(in_features=\.\.\., out_features=\.\.\.\)"),
        ("nets:Home", "nets:Home is a class, and not a Flax module"),
        ("nets:Home()", "is of Home, needed a function or a Flax module"),
        ("nets:Home.Scale(-1)", "ArithmeticError at nets.py:33: by is below 0"),
        ("nets:power(n=jax)", "'jax' is not a literal"),
        ("nets:power(__import__('os').getcwd())", "is not a literal"),
        ("nets:power(*[1])", "is not a literal"),
        ("nets:power(**{'n': 1})", r"\*\* cannot be used"),
        ("nets:power(3)(2)", "is not a name"),
        ("nets:lambda x: x", "is not a name"),
        ("nets:Net(", "is not Python"),
        ("nets:Home.Nothing(2)", "'nets' has no attribute 'Home.Nothing'"),
        ("nets:jax.__version__()", "is of str, not callable"),
        ("sick:f", "sick cannot be imported: ZeroDivisionError at sick.py:2"),
        ("script:f", "script cannot be imported: SystemExit at script.py:2"),
        ("askew:f", "askew cannot be imported: SyntaxError"),
        (":f", "does not read as package.module:function"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_exit_2(nets, capsys, name, said):
    import re

    assert main(["compare", name, "--shape", "2,3,6"]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("error: ") and re.search(said, line), line
    assert out == "" and not (nets / "tdjax-results").exists()


@pytest.mark.parametrize("name", ["nets:Net(features=(5, 4))", "nets:Pair"])
def test_a_module_is_compared_with_its_parameters_gradients(nets, capsys, name):
    words = ["compare", name, "--shape", "2,3,6", "--strategies", "vmap,fold", "--mode", "grad"]
    assert main([*words, "--rounds", "5", "--json"]) == 0
    out, _ = capsys.readouterr()
    content = json.loads(out)
    assert [entry["status"] for entry in content["entries"]] == ["ok", "ok"]
    assert content["workloads"] == {name: "float32[2,3,6]"}
    # Forward alone, a Dense of 6 to 3 on 6 rows takes 216: the gradients add two products.
    assert content["entries"][0]["flops"] > 500
