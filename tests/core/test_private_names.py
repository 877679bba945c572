"""What tdjax touches of JAX beyond its stable names, so that a new JAX fails here by name.

One inventory: `TOUCHED` holds the names of modules without promises, with what happens where one
is gone; `PARAMETERS` the undocumented parameters of equations that rules read. Both are held to
the source, so that a new one needs a row here. What is touched of Flax objects is tested in
`tests/layers/test_flax_internals.py`; texts of compiled programs in `tests/comparison/hlo`.
"""

import ast
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.linen import fp8_ops
from jax import lax
from jax.experimental import checkify, hijax, ode, serialize_executable, topologies
from jax.extend import source_info_util
from jax.extend.core import Literal, Primitive
from jax.extend.random import define_prng_impl, threefry_2x32
from jax.interpreters import ad, batching, mlir
from jax.profiler import ProfileData

import tdjax
from tdjax.core import jaxpr as reading

PACKAGE = Path(tdjax.__file__).parent
WITHOUT_PROMISE = (
    "jax._src", "jax.config.values", "jax.core", "jax.experimental", "jax.extend",
    "jax.interpreters", "jax.profiler.ProfileData", "jaxlib", "flax.core", "flax.linen.module",
    "flax.linen.transforms",
)  # fmt: skip

LOOPS = "packed steps fail when they are first used; nothing else does"
OWN_CONVOLUTION = "convolutions in blocks fail when they are first used; vmap, map and fold do not"
MEASURED = "`tdjax compare` and `tune` fail at the first candidate"
CHECKED = "steps with `checkify.check` fail in loops; nothing else does"
SERIES = "`jax.experimental.jet` of calls with masks or narrow weights fails; nothing else does"
WRAPPERS = "`import tdjax.linen` fails; functions and NNX modules work"
TOUCHED = {
    "jax.core.Tracer": "every call fails",
    "jax.core.eval_jaxpr": "folds fail",
    "jax.core.ShapedArray": LOOPS,
    "jax.core.AbstractValue": "every call fails",
    "jax.extend.core.Primitive": f"{LOOPS}; {OWN_CONVOLUTION}",
    "jax.interpreters.ad.Zero": LOOPS,
    "jax.interpreters.ad.is_undefined_primal": LOOPS,
    "jax.interpreters.ad.primitive_jvps": LOOPS,
    "jax.interpreters.ad.primitive_transposes": LOOPS,
    "jax.interpreters.batching.primitive_batchers": f"{LOOPS}; {OWN_CONVOLUTION}",
    "jax.interpreters.mlir.lower_fun": f"{LOOPS}; {OWN_CONVOLUTION}",
    "jax.interpreters.mlir.register_lowering": f"{LOOPS}; {OWN_CONVOLUTION}",
    "jax.extend.random.define_prng_impl": "dropout in folds, and in blocks of devices, fails",
    "jax.extend.random.threefry_2x32": "noise in blocks of devices fails",
    "jax.extend.linear_util.wrap_init": "every call but of plain vmap fails",
    "jax.interpreters.partial_eval.trace_to_jaxpr_dynamic": "every call but of plain vmap fails",
    "jax.extend.source_info_util.current_name_stack": "folds fail",
    "jax.extend.source_info_util.user_context": "folds fail",
    "jax.extend.source_info_util.register_exclusion": "every call fails",
    "jax.extend.source_info_util.summarize": "refusals of a fold fail instead of naming a line",
    "jax.config.values": "`tdjax compare` fails when it notes where it ran",
    "jax.profiler.ProfileData.from_file": "seconds on the device alone are unknown",
    "jax.experimental.serialize_executable.serialize": MEASURED,
    "jax.experimental.serialize_executable.deserialize_and_load": MEASURED,
    "jax.experimental.checkify.check_error": CHECKED,
    "jax.experimental.checkify.checkify": CHECKED,
    "jax.experimental.checkify.user_checks": CHECKED,
    "jax.experimental.jet.jet_rules": SERIES,
    "jax.experimental.topologies.get_topology_desc": "targets that are not here are rows that fail",
    "flax.core.apply": WRAPPERS,
    "flax.linen.module._global_interceptor_stack": WRAPPERS,
    "flax.core.Scope": WRAPPERS,
    "flax.core.lift.pack": WRAPPERS,
    "flax.core.scope.LazyRng": WRAPPERS,
    "flax.core.scope.Scope": WRAPPERS,
    "flax.core.tracers.current_trace": "calls of functions fail where Linen is imported",
    "flax.linen.transforms.lift_direct_transform": WRAPPERS,
}

# Texts by which tdjax knows what JAX and Flax have written, and what happens where one is another.
MARKS = {
    "_src": "steps under `jax.vmap` with vectorized callbacks are refused by folds",
    "jax._src.nn.initializers": "Flax evaluates an initializer's shape at every call: slower",
    "jax._src.config": "folds of `jax.experimental.ode.odeint` are refused",
    "jax._src.numpy.": "folds of `jnp.searchsorted` and its like are refused",
    "_overwrite_with_gradient": "gradients of fp8 layers are added up over steps",
    "_nnx_tabulate_id": "`nnx.tabulate` lists layers several times",
}


def names_in(tree):
    """Return the full dotted names that a module uses of what it imports."""
    imported, used = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                imported[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name) and node.id in imported:
            used.add(".".join((imported[node.id], *parts)))
    return used


TREES = [ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))]


def test_the_inventory_holds_every_name_without_a_promise():
    used = {name for tree in TREES for name in names_in(tree) if name.startswith(WITHOUT_PROMISE)}
    whole = {name for name in used if not any(other.startswith(f"{name}.") for other in used)}
    assert whole == set(TOUCHED)


def test_the_inventory_holds_every_mark_of_others():
    texts = {
        node.value
        for tree in TREES
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    mark = re.compile(r"_src|jax\._src[\w.]*|_overwrite\w+|_nnx\w+")
    assert set(filter(mark.fullmatch, texts)) == set(MARKS)


def test_what_others_have_written_is_known_by_its_marks():
    source = Path(jax.__file__).parent / "_src"
    assert "def ffi_batching_rule(" in (source / "ffi.py").read_text()
    for name in ("api.py", "custom_derivatives.py", "solves.py"):  # rules of anybody's functions
        assert list(source.rglob(name))
    held = [cell.cell_contents for cell in ode._odeint_rev.__closure__]
    assert "jax._src.config" in {type(each).__module__ for each in held}
    initializer = jax.nn.initializers.lecun_normal()
    assert initializer.__globals__["__name__"] == "jax._src.nn.initializers"
    traced = jax.make_jaxpr(jnp.searchsorted)(jnp.arange(3.0), 1.0)
    own = [eqn.params["_prim"] for eqn in reading.all_equations(traced) if "_prim" in eqn.params]
    assert all(type(each).__module__.startswith("jax._src.numpy.") for each in own)
    assert fp8_ops.OVERWRITE_WITH_GRADIENT == "_overwrite_with_gradient"
    seen = []

    class Layer(nnx.Module):
        def __call__(self, x):
            seen.append(hasattr(self, "_nnx_tabulate_id"))
            return x

    nnx.tabulate(Layer(), jnp.ones(2))
    assert any(seen)


def programs_with_rows():
    """Return, for each primitive, a program that has it, its argument, and what is read of it."""
    x = jnp.ones((4, 3))
    square = jnp.ones((4, 4))
    image, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
    layout = ("NHWC", "HWIO", "NHWC")

    @jax.custom_vjp
    def own_gradient(x):
        return x

    own_gradient.defvjp(lambda x: (x, None), lambda _, g: (g,))

    def solve(b):
        return lax.custom_linear_solve(lambda v: v, b, lambda _, b: b, lambda _, b: b)

    def convolve(image):
        return lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=layout)

    def call(x):
        return jax.pure_callback(np.sin, x, x)

    def bits(x):
        return jax.random.bits(jax.random.key(0), (2,)) + x.astype(jnp.uint32).sum()

    return {
        "argmax": (lambda x: lax.argmax(x, 1, np.int32), x, "axes"),
        "approx_top_k": (lambda x: lax.approx_max_k(x, 2), x, "reduction_dimension"),
        "broadcast_in_dim": (lambda x: lax.broadcast_in_dim(x, (4, 3, 2), (0, 1)), x,
                             "broadcast_dimensions shape"),
        "concatenate": (lambda x: lax.concatenate([x, x], 0), x, "dimension"),
        "cond": (lambda x: lax.cond(True, jnp.sin, jnp.cos, x), x, "branches"),
        "conv_general_dilated": (convolve, image,
                                 "window_strides padding lhs_dilation rhs_dilation "
                                 "dimension_numbers batch_group_count feature_group_count "
                                 "preferred_element_type"),
        "cumsum": (lambda x: lax.cumsum(x), x, "axis"),
        "custom_jvp_call": (jax.nn.relu, x, "call_jaxpr jvp_jaxpr_fun"),
        "custom_linear_solve": (solve, x, "jaxprs const_lengths"),
        "custom_vjp_call": (own_gradient, x, "call_jaxpr bwd fwd_jaxpr_thunk"),
        "dot_general": (lambda x: x @ x, square, "dimension_numbers preferred_element_type"),
        "dynamic_slice": (lambda x: lax.dynamic_slice(x, (0, 0), (2, 2)), x, "slice_sizes"),
        "fft": (jnp.fft.fft, x, "fft_lengths"),
        "gather": (lambda x: x[jnp.array([0, 1])], x, "dimension_numbers slice_sizes mode "
                   "fill_value unique_indices indices_are_sorted"),
        "iota": (lambda x: x + lax.broadcasted_iota(x.dtype, (4, 3), 0), x, "dimension"),
        "jit": (jax.jit(jnp.sin), x, "jaxpr donated_invars in_layouts in_shardings out_layouts "
                "out_shardings"),
        "pad": (lambda x: lax.pad(x, 0.0, ((1, 1, 0), (0, 0, 0))), x, "padding_config"),
        "pure_callback": (call, x, "callback result_avals vmap_method"),
        "random_bits": (bits, x, "shape"),
        "reduce": (lambda x: lax.reduce(x, 1.0, lambda a, b: a * b + 1, (1,)), x, "dimensions"),
        "reduce_sum": (lambda x: lax.reduce_sum(x, (1,)), x, "axes"),
        "reduce_window_max": (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2), (1, 1),
                                                          "VALID"), x,
                              "window_dimensions window_strides padding base_dilation "
                              "window_dilation"),
        "remat2": (jax.checkpoint(jnp.sin), x, "jaxpr policy prevent_cse"),
        "reshape": (lambda x: lax.reshape(x, (3, 4)), x, "dimensions"),
        "rev": (lambda x: lax.rev(x, (0,)), x, "dimensions"),
        "scan": (lambda x: lax.scan(lambda c, y: (c + y, y), x[0], x), x,
                 "jaxpr length reverse unroll"),
        "scatter": (lambda x: x.at[jnp.array([0])].set(0.0), x,
                    "dimension_numbers mode update_jaxpr"),
        "slice": (lambda x: lax.slice(x, (0, 0), (2, 2)), x, "start_indices limit_indices strides"),
        "sort": (lambda x: lax.sort(x), x, "dimension"),
        "split": (lambda x: lax.split(x, (1, 2), 1), x, "axis"),
        "squeeze": (lambda x: lax.squeeze(x[:1], (0,)), x, "dimensions"),
        "top_k": (lambda x: lax.top_k(x, 2), x, "axis"),
        "transpose": (lambda x: lax.transpose(x, (1, 0)), x, "permutation"),
        "integer_pow": (lambda x: lax.integer_pow(x, 3), x, "y"),
        "while": (lambda x: lax.while_loop(lambda c: c[0, 0] < 9, lambda c: c + 1, x), x,
                  "cond_jaxpr body_jaxpr cond_nconsts body_nconsts"),
    }  # fmt: skip


PARAMETERS = programs_with_rows()
# Read where a JAX has them: other versions, other spellings of a primitive, or under a mesh. What
# `visible_params` adds is read as well.
SOMETIMES = {
    "axis_name", "branches_platforms", "fun_jaxpr", "ft_in", "left_side",
    "num_carry", "num_consts", "reps", "symbolic_zeros", "vmapped",
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_equation_has_the_parameters_that_rules_read(name):
    function, x, wanted = PARAMETERS[name]
    spellings = {"remat2": {"remat2", "checkpoint", "remat"}, "jit": {"jit", "pjit"}}
    found = [
        eqn
        for eqn in reading.all_equations(jax.make_jaxpr(function)(x))
        if eqn.primitive.name in spellings.get(name, {name})
    ]
    assert found and set(wanted.split()) <= set(found[0].params)


def test_the_inventory_holds_every_parameter_that_rules_read():
    known = {name for _, _, names in PARAMETERS.values() for name in names.split()} | SOMETIMES
    read = set()
    for node in (node for tree in TREES for node in ast.walk(tree)):
        if isinstance(node, ast.Subscript):
            holder, key = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            holder, key = node.func.value, node.args[0]
        else:
            continue
        of_equation = isinstance(holder, ast.Attribute) and holder.attr == "params"
        if of_equation and isinstance(key, ast.Constant):
            read.add(key.value)
    assert read and read <= known


def test_a_scan_says_what_is_constant_and_what_is_carried():
    def run(x, scale):
        return lax.scan(lambda c, y: ((c[0] + y * scale, c[1] + y), y), (x[0], x[1]), x)

    (eqn,) = jax.make_jaxpr(run)(jnp.ones((4, 3)), jnp.ones(3)).eqns[-1:]
    assert eqn.primitive.name == "scan" and reading.scan_counts(eqn) == (1, 2)


def test_equations_and_programs_have_the_attributes_that_are_read():
    closed = jax.make_jaxpr(lambda x: jnp.sin(x) * 2.0 + np.arange(3.0, dtype=np.float32))(
        jnp.ones(3)
    )
    program = closed.jaxpr
    for name in ("invars", "outvars", "constvars", "eqns", "debug_info", "replace", "effects"):
        assert hasattr(program, name)
    assert " at " in program.debug_info.func_src_info
    eqn = next(eqn for eqn in program.eqns if any(map(reading.is_literal, eqn.invars)))
    names = "primitive params invars outvars effects source_info ctx replace"
    assert all(hasattr(eqn, name) for name in names.split())
    (literal,) = filter(reading.is_literal, eqn.invars)
    assert isinstance(literal, Literal) and literal.val == 2.0
    assert eqn.primitive.multiple_results is False
    (bound,) = reading.bind(eqn, [jnp.full(3, 5.0), 2.0])
    np.testing.assert_array_equal(bound, np.full(3, 10.0))
    (found,) = jax.core.eval_jaxpr(program, closed.consts, jnp.ones(3))
    np.testing.assert_allclose(found, np.sin(1.0) * 2 + np.arange(3), rtol=1e-6)


def test_equations_know_their_line_and_their_names():
    def named(x):
        with jax.named_scope("layer"):
            return jnp.sin(x)

    (eqn,) = jax.make_jaxpr(named)(1.0).eqns
    assert "test_private_names.py" in source_info_util.summarize(eqn.source_info)
    stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
    with source_info_util.user_context(eqn.source_info.traceback, name_stack=stack):
        assert "layer" in str(source_info_util.current_name_stack())
    assert list(inspect.signature(source_info_util.register_exclusion).parameters) == ["path"]


def test_a_high_level_operation_becomes_a_program():
    class Twice(getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive):
        def __init__(self, x):
            self.in_avals, self.out_aval, self.params = (jax.typeof(x),), jax.typeof(x), {}
            super().__init__()

        def expand(self, x):
            return x * 2

    (eqn,) = jax.make_jaxpr(lambda x: Twice(x)(x))(jnp.ones(3)).eqns
    assert eqn.primitive.name == "call_hi_primitive" and type(eqn.params["_prim"]) is Twice
    assert [each.primitive.name for each in reading.equations_inside(eqn)] == ["mul"]


def test_a_callback_tells_whether_vmap_has_made_its_leading_axis():
    def call(x):
        return jax.pure_callback(np.sin, jax.typeof(x), x, vmap_method="expand_dims")

    def told(function):
        found = reading.all_equations(jax.make_jaxpr(function)(jnp.ones((3, 2))))
        (eqn,) = (eqn for eqn in found if eqn.primitive.name == "pure_callback")
        return reading.visible_params(eqn)["vmapped"]

    assert told(jax.vmap(call)) and told(jax.jit(jax.vmap(call)))
    assert not told(call)
    assert not told(lambda x: jax.vmap(lambda scale: scale * call(x))(jnp.ones(4)))


def test_a_primitive_of_ones_own_has_all_its_rules():
    twice_p = Primitive("test_twice")

    def twice(x, **_):
        return 2 * x

    twice_p.def_impl(twice)
    twice_p.def_abstract_eval(lambda x: jax.core.ShapedArray(x.shape, x.dtype))
    mlir.register_lowering(twice_p, mlir.lower_fun(twice, multiple_results=False))
    mlir.register_lowering(twice_p, mlir.lower_fun(twice, multiple_results=False), platform="cpu")
    seen = []

    def jvp(primals, tangents):
        seen.append(isinstance(tangents[0], ad.Zero))
        return twice_p.bind(*primals), twice_p.bind(*tangents)

    def transpose(cotangent, x):
        seen.append(ad.is_undefined_primal(x) and x.aval.shape)
        return [twice_p.bind(cotangent)]

    ad.primitive_jvps[twice_p] = jvp
    ad.primitive_transposes[twice_p] = transpose
    batching.primitive_batchers[twice_p] = lambda args, dims: (twice_p.bind(*args), dims[0])
    assert jax.grad(lambda x: jax.jit(twice_p.bind)(x))(3.0) == 2.0
    assert seen == [False, ()]
    np.testing.assert_array_equal(jax.vmap(twice_p.bind)(jnp.ones(2)), jnp.full(2, 2.0))
    kind = jax.typeof(jnp.ones(2, jnp.int32)).to_tangent_aval()
    assert kind.dtype == jax.dtypes.float0 and ad.Zero(kind).aval is kind


def test_checkify_binds_an_operation_that_calls_a_program_with_its_checks():
    """`core/checkable.py` needs it; without it, what our own operations make is not checked."""
    called = jax.make_jaxpr(jax.jit(jnp.log))(1.0).jaxpr
    seen = []

    class Called(Primitive):
        multiple_results = True

        def bind(self, *args, subfuns=(), **params):
            seen.append((len(args), sorted(params)))
            return subfuns[0].call_wrapped(*args) if subfuns else super().bind(*args, **params)

    class Program:
        """It is asked for its origin first, and then for what a jaxpr has."""

        @property
        def debug_info(self):
            vars(self).update(
                {name: getattr(called, name) for name in ("constvars", "invars", "outvars", "eqns")}
            )
            return called.debug_info

    called_p = Called("test_called")
    called_p.def_abstract_eval(lambda x, **_: [jax.core.ShapedArray(x.shape, x.dtype)])

    def run(x):
        return called_p.bind(x, call_jaxpr=Program())[0]

    error, value = checkify.checkify(run, errors=checkify.float_checks)(-1.0)
    assert "nan generated by primitive: log" in error.get() and np.isnan(value)
    assert seen[0] == (1, ["call_jaxpr"]) and seen[1] == (1, [])


def test_a_convolution_can_be_bound_with_its_own_parameters():
    function, image, _ = PARAMETERS["conv_general_dilated"]
    (eqn,) = jax.make_jaxpr(function)(image).eqns
    assert eqn.primitive is lax.conv_general_dilated_p
    kernel = jnp.ones((3, 3, 2, 2))
    bound = lax.conv_general_dilated_p.bind(image, kernel, **eqn.params)
    np.testing.assert_array_equal(bound, function(image))
    aval, effects = lax.conv_general_dilated_p.abstract_eval(
        *(atom.aval for atom in eqn.invars), **eqn.params
    )
    assert aval.shape == (1, 4, 4, 2) and not effects
    other = Primitive("test_conv")
    assert eqn.replace(primitive=other).primitive is other


def test_keys_of_ones_own_are_defined_by_four_functions_and_names():
    needed = ["key_shape", "seed", "split", "random_bits", "fold_in", "name", "tag"]
    assert set(needed) <= set(inspect.signature(define_prng_impl).parameters)


def test_a_threefry_key_gives_the_hash_of_each_place():
    assert jax.config.jax_threefry_partitionable is True
    key = jax.random.key(7, impl="threefry2x32")
    counts = jnp.concatenate([jnp.zeros(5, jnp.uint32), jnp.arange(5, dtype=jnp.uint32)])
    high, low = jnp.split(threefry_2x32(jax.random.key_data(key), counts), 2)
    np.testing.assert_array_equal(high ^ low, jax.random.bits(key, (5,)))


def test_settings_are_found_by_their_names():
    for name in ("jax_enable_x64", "jax_default_matmul_precision", "jax_platforms"):
        assert name in jax.config.values


def test_a_compiled_program_can_be_carried_to_another_process():
    compiled = jax.jit(jnp.sin).lower(1.0).compile()
    again = serialize_executable.deserialize_and_load(*serialize_executable.serialize(compiled))
    assert again.as_text() == compiled.as_text()
    stats = compiled.memory_analysis()
    assert stats.temp_size_in_bytes >= 0 and stats.output_size_in_bytes >= 4


def test_topologies_and_profiles_are_opened_by_name():
    assert "platform" in inspect.signature(topologies.get_topology_desc).parameters
    assert callable(ProfileData.from_file)
