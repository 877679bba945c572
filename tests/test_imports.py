"""What importing the library pulls in, and which way its modules import each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tdjax

PACKAGE = Path(tdjax.__file__).parent
HEAVY = ("flax", "matplotlib", "rich", "hypothesis", "PIL", "pandas")
OUTER = (
    "linen",
    "nnx",
    "_flax",
    "workloads",
    "comparison",
    "compare",
    "_explain",
    "_tune",
    "_fit",
    "cli",
)
OUTER += ("__main__",)

# From the bottom up: a module may import from its own layer and from those before it.
LAYERS = (
    ("_errors", "_symbolic", "_equation", "_device", "_spread", "_shipped", "_forked"),
    ("_answering",),
    ("_fingerprint", "_axes", "_mask", "_call", "_tuned"),
    ("independence", "costs"),
    ("strategies",),
    ("partition",),
    ("_flax_guard", "_transform"),
    ("_flax", "linen", "nnx"),
    ("workloads", "comparison"),
    ("_explain", "_tune", "_fit"),
    ("cli", "__main__"),
)


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_pulls_in_nothing_heavy():
    code = f"import sys, tdjax; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    assert run(code) == []


def test_importing_starts_no_device():
    code = "import tdjax; from jax._src import xla_bridge; print(len(xla_bridge._backends))"
    assert run(code) == ["0"]


def test_a_call_pulls_in_nothing_heavy():
    code = (
        "import sys, tdjax, jax.numpy as jnp; tdjax.time_distributed(jnp.sin)(jnp.ones((2, 3)));"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert run(code) == []


def test_the_public_names_are_listed():
    assert {"time_distributed", "Vmap", "Fold", "Packed", "Auto", "StrategyError"} <= set(
        tdjax.__all__
    )
    assert set(dir(tdjax)) == set(tdjax.__all__)
    with pytest.raises(AttributeError, match="no attribute 'time_distribute'"):
        tdjax.time_distribute  # noqa: B018


def module_name(path):
    """Return a file's place in the package: `strategies` for `strategies/fold.py`."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports(path):
    """Yield the parts of the package that a file imports when it is imported."""
    tree = ast.parse(path.read_text())
    deferred = {
        inner
        for outer in ast.walk(tree)
        if isinstance(outer, (ast.FunctionDef, ast.Lambda)) or _only_for_types(outer)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if node in deferred:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module]
            if node.module == "tdjax":
                names = [f"tdjax.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from names


def _only_for_types(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


CORE = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if module_name(path) not in (*OUTER, "__init__") and "__pycache__" not in path.parts
)


def layer(name):
    for index, names in enumerate(LAYERS):
        if name in names:
            return index
    raise AssertionError(f"tdjax.{name} has no layer: give it one in this test")


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_core_imports_point_one_way(path):
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] in {"tdjax", "jax", "numpy", "__future__"} | sys.stdlib_module_names, name
        if parts[0] == "tdjax" and len(parts) > 1:
            assert layer(parts[1]) <= layer(module_name(path)), name


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_knows_nothing_of_what_stands_on_it(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        named += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in named:
            assert (*name.split("."), "")[:2] not in {("tdjax", outer) for outer in OUTER}, name


def test_strategies_import_no_private_jax():
    for path in CORE:
        assert not any(name.startswith("jax._src") for name in imports(path)), path
