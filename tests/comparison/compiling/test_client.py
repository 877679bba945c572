"""A compiler in a process of its own: what it makes, and what is made of its failures."""

import threading

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from tdjax.comparison import hlo
from tdjax.comparison.compiling.client import Client, Closed
from tdjax.comparison.compiling.travel import pack
from tdjax.comparison.system.child import Failed, TooSlow
from tdjax.comparison.targets import catalog

pytestmark = pytest.mark.usefixtures("optimised")

LONG = 300


def packed(function, *arguments):
    return pack(function, arguments, "tpu")


def dense(w, x):
    return jnp.tanh(x @ w)


def many_products(w, x):
    """Takes its compiler seconds."""
    for size in range(8, 40):
        x = jnp.sin(x[:, :-size] @ w[: x.shape[1] - size])
        x = jnp.pad(x, ((0, 0), (0, 4096 - x.shape[1])))
    return x


SLOW = many_products, jnp.ones((4096, 1024)), jnp.ones((256, 4096))


@pytest.fixture(scope="module")
def small():
    return packed(dense, jnp.ones((256, 128), jnp.bfloat16), jnp.ones((512, 256), jnp.bfloat16))


@pytest.fixture(scope="module")
def v5e():
    with Client(catalog.find("tpu:v5e")) as client:
        yield client


def test_a_program_comes_back_as_the_device_s_own(v5e, small, capfd):
    made = v5e.compile(small, LONG)
    module = hlo.parse(made.text)
    found = hlo.costs(module)
    # bfloat16 is converted for the tanh; an operation each.
    assert 2 * 512 * 256 * 128 <= found.flops <= 1.01 * 2 * 512 * 256 * 128
    assert found.bytes_accessed >= 2 * (512 * 256 + 256 * 128 + 512 * 128)
    assert found.cycles > 0 and made.compile_s > 0 and made.temp_bytes >= 0
    products = [
        i for c in module.computations.values() for i in c.instructions.values()
        if i.opcode in ("dot", "convolution")
    ]  # fmt: skip
    places = {hlo.find_place(product, module) for product in products}
    assert {p.op for p in places} == {"dot_general"}
    assert all(p.source.startswith("tests") or "test_client.py" in p.source for p in places)
    # Neither libtpu's warnings nor its logs are the user's to read.
    assert capfd.readouterr() == ("", "")


def test_a_limit_of_time_ends_the_compiler_and_the_next_program_needs_no_start(v5e, small):
    v5e.compile(small, LONG)
    child = v5e._child
    with pytest.raises(TooSlow):
        v5e.compile(small, 0.0)
    assert v5e.compile(small, LONG).text
    assert v5e._child is child and not child.ended


def test_a_compiler_that_dies_is_a_reason_and_is_replaced(small):
    with Client(catalog.find("tpu:v5e")) as client:
        client.compile(small, LONG)
        slow = packed(*SLOW)  # which takes a time of its own
        threading.Timer(0.5, client._child._process.kill).start()
        with pytest.raises(Failed, match="its compiler was killed from outside"):
            client.compile(slow, LONG)
        assert client.compile(small, LONG).text


def test_a_program_that_cannot_be_compiled_is_a_reason_in_one_line(v5e):
    too_large = jax.ShapeDtypeStruct((1 << 20, 1 << 16), jnp.float32)
    program = packed(lambda x: jnp.sort(x, axis=0)[::2] + 1, too_large)
    with pytest.raises(Failed, match="RESOURCE_EXHAUSTED") as failure:
        v5e.compile(program, LONG)
    assert "\n" not in str(failure.value)


def test_a_device_that_its_compiler_does_not_know_is_a_reason(small):
    known = catalog.find("tpu:v5e")
    odd = catalog.AbsentDevice(
        "tpu:v99", "TPU v99", known.compiler, {**known.topology, "topology_name": "v99:2x2"},
        known.environment,
    )  # fmt: skip
    with Client(odd) as client:
        for _ in range(2):
            with pytest.raises(Failed, match="v99"):
                client.compile(small, LONG)


def test_a_closed_compiler_starts_no_more(small):
    client = Client(catalog.find("tpu:v5e"))
    client.close()
    with pytest.raises(Closed):
        client.compile(small, LONG)


def test_what_is_optimised_before_code_is_generated_is_what_comes_of_it(v5e):
    """What may be said of a program whose code is not waited for: all but cycles and memory."""
    kernel, x = jnp.ones((64, 64, 3, 3)), jnp.ones((16, 64, 28, 28))
    program = packed(lambda kernel, x: jnp.tanh(lax.conv(x, kernel, (1, 1), "SAME")), kernel, x)
    whole = v5e.compile(program, LONG)
    early = v5e.compile(program, LONG, patience=0.0)
    assert whole.compile_s > 0 and early.compile_s is None and early.temp_bytes is None
    whole, early = (program_facts(made.text) for made in (whole, early))
    assert whole.cycles > 0 and early.cycles is None
    assert early.facts == whole.facts and whole.facts[0] > 2 * 8 * 64 * x.size


class program_facts:
    def __init__(self, text):
        module = hlo.parse(text)
        found = hlo.costs(module)
        self.cycles = found.cycles
        self.facts = (
            found.flops, found.bytes_accessed, found.comm_bytes, hlo.counts(module),
            hlo.movements(module, None),
        )  # fmt: skip


def test_a_program_whose_code_is_late_is_kept_as_it_was_optimised(v5e):
    made = v5e.compile(packed(*SLOW), LONG, patience=0.0)
    assert made.compile_s is None and not v5e._child.ended
    assert hlo.costs(hlo.parse(made.text)).flops > 0
