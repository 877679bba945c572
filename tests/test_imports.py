"""What importing the library pulls in, and which way its modules import each other."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tdjax

PACKAGE = Path(tdjax.__file__).parent
HEAVY = ("flax", "matplotlib", "rich", "hypothesis", "PIL", "pandas", "jinja2", "haiku", "keras")

# From the bottom up. A module imports from lines before its own and from its own file or folder,
# wherever the import stands: inside a function and for types alone as well.
LAYERS = (
    "_version",
    "core",
    "devices",
    "flax_guard haiku_guard keras_guard",
    "independence.kinds",
    "independence.sizes",
    "independence.known",
    "independence.two_traces",
    "independence.row_numbers",
    "independence.rules",
    "independence.result",
    "independence.analysis",
    "independence.proof",
    "independence.differing",
    "independence.shared_gradients",
    "independence.one_by_one",
    "independence",
    "costs",
    "strategies.base",
    "strategies.spelling",
    "strategies.override",
    "strategies.chunked",
    "strategies.convolution",
    "strategies.rows",
    "strategies.row_loop",
    "strategies.vmap",
    "strategies.fold",
    "strategies.packed",
    "strategies.choosing",
    "strategies.auto",
    "strategies.names",
    "strategies",
    "partition",
    "function",
    "layers.layer",
    "layers.batch_norm layers.noise",
    "layers",
    "linen nnx",
    "flax_dispatch",
    "transform",
    "model_call",
    "testing",
    "workloads",
    "comparison.numbers",
    "comparison.system",
    "comparison.calibration",
    "comparison.hlo",
    "comparison.peers",
    "comparison.targets",
    "comparison.verdicts",
    "comparison.charts",
    "comparison.subjects",
    "comparison.measuring comparison.compiling",
    "comparison.rendering.terminal comparison.rendering.pictures",
    "comparison.rendering.html",
    "comparison.rendering",
    "comparison.comparison",
    "comparison.session",
    "comparison.api",
    "comparison",
    "tuning explanation",
    "__init__",
    "cli",
    "__main__",
)
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
WITHOUT_FLAX = LAYERS[: LAYERS.index("layers.layer")]


SEEN = """
import json, sys

def heavy():
    return [name for name in sys.argv[1:] if name in sys.modules]

import tdjax
seen = {"imported": heavy()}
from jax._src import xla_bridge
seen["devices"] = len(xla_bridge._backends)
tdjax.time_distributed(len)
seen["wrapped"] = heavy()
from tdjax import workloads
for name in workloads.names():
    workloads.get(name)
seen["workloads"] = heavy()
import jax.numpy as jnp
tdjax.time_distributed(jnp.sin)(jnp.ones((2, 3)))
seen["called"] = heavy()
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen():
    """What a new process has loaded after each of a few lines: one for them all."""
    done = subprocess.run([sys.executable, "-c", SEEN, *HEAVY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("after", ["imported", "wrapped", "workloads", "called"])
def test_nothing_heavy_is_pulled_in(seen, after):
    assert seen[after] == []


def test_importing_starts_no_device(seen):
    assert seen["devices"] == 0


def test_the_public_names_are_listed():
    assert {"time_distributed", "Vmap", "Fold", "Packed", "Auto", "StrategyError"} <= set(
        tdjax.__all__
    )
    assert set(dir(tdjax)) == set(tdjax.__all__)
    with pytest.raises(AttributeError, match="no attribute 'time_distribute'"):
        tdjax.time_distribute  # noqa: B018


def imported(name):
    """Return what a module imports, anywhere in it: own modules by their place, others by name."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports from where it stands: name the place"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = _file(full.removeprefix("tdjax.")) in MODULES
                found.add(full if full.startswith("tdjax.") and is_module else node.module)
    return found


def _file(place):
    return place if place in MODULES else f"{place}.__init__"


def own_imports(name):
    """Return the modules of the package that a module imports, by the names of their files."""
    own = [place for place in imported(name) if place.split(".")[0] == "tdjax"]
    return {_file(place.removeprefix("tdjax").removeprefix(".") or "__init__") for place in own}


def layer(name):
    """Return how high a module stands, and the entry that says so: the longest that fits."""
    place = name.removesuffix(".__init__")
    fitting = [
        (len(entry), height, entry)
        for height, entries in enumerate(LAYERS)
        for entry in entries.split()
        if place == entry or name.startswith(f"{entry}.")
    ]
    assert fitting, f"tdjax.{name} has no layer: give it one in this test"
    _, height, entry = max(fitting)
    return height, entry


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name):
    height, entry = layer(name)
    for other in own_imports(name) - {name}:
        below, place = layer(other)
        assert below < height or place == entry, f"{name} imports {other}, which stands above"


@pytest.mark.parametrize("name", MODULES)
def test_no_module_imports_what_it_lies_in(name):
    parents = {name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)}
    above = {f"{parent}.__init__" for parent in parents} | {"__init__"}
    assert not (own_imports(name) & above) - {name}
    if name != "__init__":
        text = MODULES[name].read_text()
        assert "import_module" not in text or "tdjax" not in text.split("import_module", 1)[1][:80]
        assert "def __getattr__" not in text


def test_no_import_goes_in_a_circle():
    """Within a layer, too: nothing that a module imports imports it in turn."""
    left = {name: own_imports(name) - {name} for name in MODULES}
    while ready := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in ready:
            del left[name]
    assert not left, f"these import each other, or what does: {sorted(left)}"


def test_the_map_of_the_house_has_every_place():
    text = (PACKAGE.parent / ".github" / "CONTRIBUTING.md").read_text()
    drawn = set(re.findall(r"\w+", text.split("```")[1]))
    places = {part for name in MODULES for part in name.split(".")[:-1]}
    top = {name for name in MODULES if "." not in name} - {"_version"}
    # What one folder alone has, and nothing else needs.
    within = {"batch_norm", "faster_rcnn"}
    assert places | top <= drawn | within


def test_no_class_name_means_two_things():
    """But for the wrappers: a function, a Linen module and an NNX module over time."""
    places = {}
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, set()).add(name)
    several = {each: where for each, where in places.items() if len(where) > 1}
    assert several == {"TimeDistributed": {"linen", "nnx", "transform"}}


def test_every_folder_can_be_seen_at_a_glance():
    folders = [path.parent for path in MODULES.values()]
    assert max(map(folders.count, folders)) <= 20


@pytest.mark.parametrize("name", [name for name in MODULES if layer(name)[1] in WITHOUT_FLAX])
def test_the_core_needs_jax_alone(name):
    # The guard asks Flax about modules only where somebody has loaded it.
    flax = {"flax"} if name == "flax_guard" else set()
    known = flax | {"tdjax", "jax", "numpy", "__future__", "platformdirs"} | sys.stdlib_module_names
    assert {place.split(".")[0] for place in imported(name)} <= known
