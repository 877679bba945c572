"""Programs for NVIDIA GPUs, compiled without one."""

import jax.numpy as jnp
import pytest
from convolutions import convolutions

import tdjax

pytestmark = pytest.mark.usefixtures("optimised")

LONG = 300
CLIP = jnp.ones((4, 6, 16, 16, 32), jnp.bfloat16)  # (batch, time, height, width, channels)
KERNELS = [jnp.ones((3, 3, 32, 32), jnp.bfloat16)] * 2


@pytest.fixture(scope="module")
def convolved():
    return tdjax.compare(
        convolutions, KERNELS, CLIP, in_axes=(None, 1), strategies=("vmap", "fold", "map"),
        mode="both", targets=("gpu:a100", "gpu:h100"), timeout=LONG,
    )  # fmt: skip


def test_figures_are_read_from_cudnn_s_calls(convolved):
    products = 2 * CLIP.size * 32 * (3 - 2 / 16) ** 2 * len(KERNELS)
    for entry in convolved.entries:
        assert (entry.status, entry.error) == ("ok", None)
        runs = 1 if entry.mode == "forward" else 3
        assert runs * products <= entry.flops <= 1.1 * runs * products
        assert entry.bytes_accessed > 2 * CLIP.nbytes and entry.estimated_cycles is None
        assert entry.temp_bytes > 0


def test_bytes_rank_the_programs(convolved):
    for verdict in convolved.verdicts:
        assert verdict.metric == "bytes_accessed" and verdict.speedup is None
        assert "moves least" in verdict.text or "bytes that they move" in verdict.text
    forward = convolved.verdicts[0]
    assert forward.leader == "fold" and forward.saving > 1


def test_why_names_the_transposes_of_vmap(convolved):
    said = " ".join(convolved.why("vmap", "fold", target="gpu:h100", mode="forward"))
    assert "convolution" in said and "convolutions.py:" in said
    assert "vmap moves time before batch" in said


def test_a_matrix_product_is_counted_whoever_computes_it():
    w, x = jnp.ones((512, 512), jnp.bfloat16), jnp.ones((64, 8, 512), jnp.bfloat16)
    result = tdjax.compare(
        lambda w, x: x @ w, w, x, in_axes=(None, 1), strategies=("fold",), targets="gpu:h200",
        timeout=LONG,
    )  # fmt: skip
    (fold,) = result.entries
    product = 2 * x.size * 512
    assert product <= fold.flops <= 1.05 * product
