"""Whether two programs are the same, and what stands in them."""

import jax
import jax.numpy as jnp
import pytest
from compiling import AS_USERS_DO

from tdjax.comparison import hlo

pytestmark = pytest.mark.usefixtures("optimised")

PROGRAM = """\
HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[4,2]{1,0})->f32[2,4]{1,0}}

FileNames
1 "net.py"

%fused (param_0: f32[4,2]) -> f32[2,4] {
  %param_0 = f32[4,2]{1,0} parameter(0)
  ROOT %transpose.3 = f32[2,4]{1,0} transpose(%param_0), dimensions={1,0}, metadata={op_name="a{b}" stack_frame_id=2}
}

ENTRY %main.2 (x.1: f32[4,2]) -> f32[2,4] {
  %x.1 = f32[4,2]{1,0:T(8,128)} parameter(0), metadata={op_name="x"}
  %start = (f32[4,2]{1,0}, /*index=1*/f32[4,2]{1,0}) all-gather-start(%x.1), dimensions={0}
  %copy.7 = f32[4,2]{1,0} copy(%x.1)
  ROOT %call = f32[2,4]{1,0} fusion(%copy.7), kind=kLoop, calls=%fused
}
"""  # noqa: E501


def test_operations_are_counted_in_fusions_and_behind_tuples():
    assert hlo.counts(hlo.parse(PROGRAM)) == {
        "transpose": 1, "copy": 1, "gather": 0, "while": 0, "collectives": 1,
    }  # fmt: skip


def test_names_and_source_lines_do_not_change_the_fingerprint():
    renamed = PROGRAM.replace("x.1", "image").replace("transpose.3", "t").replace("jit_f", "jit_g")
    renamed = renamed.replace("stack_frame_id=2", "stack_frame_id=9").replace("net.py", "other.py")
    assert hlo.fingerprint(renamed) == hlo.fingerprint(PROGRAM)


def test_another_layout_or_order_is_another_program():
    for old, new in (("{1,0} copy", "{0,1} copy"), ("dimensions={1,0}", "dimensions={0,1}")):
        assert hlo.fingerprint(PROGRAM.replace(old, new)) != hlo.fingerprint(PROGRAM)


def test_real_programs_are_told_apart():
    def text(function):
        return jax.jit(function).lower(jnp.ones((4, 3))).compile(AS_USERS_DO).as_text()

    def double(x):
        return x * 2

    def twice(y):
        return y * 2

    assert hlo.fingerprint(text(double)) == hlo.fingerprint(text(twice))
    assert hlo.fingerprint(text(double)) != hlo.fingerprint(text(lambda x: x * 3))


def test_loops_and_branches_are_found():
    def loop(x):
        return jax.lax.fori_loop(0, x.shape[0], lambda i, total: total + jnp.sin(total), x)

    module = hlo.parse(jax.jit(loop).lower(jnp.ones(8)).compile(AS_USERS_DO).as_text())
    assert hlo.loops(module)
    assert hlo.counts(module)["while"] == 1
    assert not hlo.loops(hlo.parse(PROGRAM))


@pytest.mark.parametrize(
    ("function", "chooses"),
    [(jnp.tanh, False), (jax.nn.relu, True), (jnp.abs, False), (lambda x: x.max(), True)],
)
def test_what_chooses_is_seen(function, chooses):
    text = jax.jit(function).lower(jnp.ones(8)).compile().as_text()
    assert hlo.read_facts(text).chooses is chooses
