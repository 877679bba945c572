"""`compare` with a partition: what XLA spreads by itself beside what runs on each block."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import tdjax

pytestmark = pytest.mark.usefixtures("optimised")

X = jnp.ones((4, 8, 6, 6, 8))  # (batch, time, height, width, channels)
KERNEL = jnp.ones((3, 3, 8, 8))
MESH = AbstractMesh((2, 4), ("data", "seq"), axis_types=(AxisType.Auto,) * 2)
SPEC = PartitionSpec("data", "seq")


def conv(kernel, x):
    labels = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=labels)


def test_a_slice_of_tpus_that_is_not_here():
    result = tdjax.compare(
        conv, KERNEL, X, in_axes=(None, 1), strategies=("vmap", "fold"),
        targets="tpu:v5e:2x4", timeout=300,
        partition=NamedSharding(MESH, SPEC),
    )  # fmt: skip
    by_name = {entry.strategy: entry for entry in result.entries}
    assert list(by_name) == ["vmap", "fold", "vmap (partitioned)", "fold (partitioned)"]
    assert {entry.status for entry in result.entries} == {"ok"}
    for name in ("vmap (partitioned)", "fold (partitioned)"):
        assert by_name[name].hlo["collectives"] == 0 and by_name[name].comm_bytes == 0
        assert by_name[name].flops * 4 <= by_name["fold"].flops
    assert by_name["fold"].hlo["collectives"] > 0 and by_name["fold"].comm_bytes > 0
    assert "collectives" in str(result) and "sent" in str(result)


def test_devices_that_are_here():
    mesh = jax.make_mesh((2, 4), ("data", "seq"), axis_types=(AxisType.Auto,) * 2)
    result = tdjax.compare(
        jnp.tanh, jnp.ones((4, 8, 6)), strategies="vmap", targets="cpu", rounds=3,
        partition=NamedSharding(mesh, SPEC),
    )  # fmt: skip
    assert [(entry.strategy, entry.status) for entry in result.entries] == [
        ("vmap", "ok"),
        ("vmap (partitioned)", "ok"),
    ]


def test_a_wrapper_brings_its_partition():
    partition = NamedSharding(AbstractMesh((2,), ("data",)), PartitionSpec("data"))
    wrapped = tdjax.time_distributed(jnp.tanh, partition=partition)
    with pytest.raises(ValueError, match=r"mesh without devices.* are to run on cpu"):
        tdjax.compare(wrapped, jnp.ones((4, 8, 6)), targets="cpu")
