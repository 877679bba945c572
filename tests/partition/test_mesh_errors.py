"""What a call says that does not fit its mesh."""

import jax
import jax.numpy as jnp
import meshes
import pytest
from casebook import array
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import tdjax
from tdjax import StrategyError


def call(partition, x=None, fun=jnp.sin, mesh=None, **options):
    step = tdjax.time_distributed(fun, partition=partition, **options)
    with jax.set_mesh(mesh or meshes.make("auto", data=2, seq=4)):
        return step(array(4, 8, 3) if x is None else x)


def test_the_mesh_has_no_such_axis():
    with pytest.raises(ValueError, match=r"mesh \(data=2, seq=4\) has no axis 'time'"):
        call(P("data", "time"))


def test_sizes_that_do_not_divide():
    match = r"time of 6 does not divide among the 4 devices of 'seq' \(.* is float32\[4,6,3\]\)"
    with pytest.raises(ValueError, match=match + r"\. Pad it to 8, with mask= or seq_lengths="):
        call(P("data", "seq"), array(4, 6, 3))
    with pytest.raises(ValueError, match=r"batch of 3 does not divide among the 2 devices"):
        call(P("data"), array(3, 8, 3))


def test_features_are_not_for_a_partition():
    with pytest.raises(ValueError, match=r"names 'model' for axis 2, a feature axis"):
        tdjax.time_distributed(jnp.sin, partition=P("data", "seq", "model"))


@pytest.mark.parametrize("partition", ["data", ("data", "seq"), {"data": 1}])
def test_kinds(partition):
    with pytest.raises(TypeError, match=r"must be jax.sharding.PartitionSpec\(batch, time\)"):
        tdjax.time_distributed(jnp.sin, partition=partition)


def test_unconstrained():
    with pytest.raises(TypeError, match=r"is not the name of a mesh axis"):
        tdjax.time_distributed(jnp.sin, partition=P(P.UNCONSTRAINED))


def test_no_mesh_in_scope():
    step = tdjax.time_distributed(jnp.sin, partition=P("data"))
    with pytest.raises(ValueError, match=r"there is no mesh: call it inside `with jax.set_mesh"):
        step(array(4, 8, 3))
    mesh = meshes.make("auto", data=2)
    given = tdjax.time_distributed(jnp.sin, partition=NamedSharding(mesh, P("data")))
    assert given(array(4, 8, 3)).sharding.spec == P("data")


def test_different_meshes():
    one = meshes.put(meshes.make("auto", data=2, seq=4), array(4, 8, 3), "data")
    other = meshes.put(meshes.make("auto", data=4, seq=2), array(4, 8, 3), "data")
    step = tdjax.time_distributed(jnp.add, partition=P("data"))
    match = r"are on different meshes, \(data=2, seq=4\) and \(data=4, seq=2\)"
    with pytest.raises(ValueError, match=match):
        step(one, other)


def test_types_that_disagree():
    mesh = meshes.make("explicit", data=2, seq=2)
    one, other = (meshes.put(mesh, array(4, 8, 3), name) for name in ("data", "seq"))
    with pytest.raises(ValueError, match=r"different axes of the mesh:\n  x: batch over 'data'"):
        tdjax.time_distributed(lambda x, y: x + y)(one, other)


def test_no_batch():
    with pytest.raises(ValueError, match=r"spreads a batch over 'data', and no argument has one"):
        call(P("data"), jnp.ones(8), in_axes=0, out_axes=0)


def test_inside_a_block():
    mesh = meshes.make("auto", data=2, seq=4)
    step = tdjax.time_distributed(jnp.sin, partition=P("data"))
    mapped = jax.shard_map(step, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
    with pytest.raises(ValueError, match=r"inside a jax.shard_map .* leave partition out"):
        jax.jit(mapped)(array(4, 8, 3))


def test_a_name_for_time():
    with pytest.raises(
        StrategyError, match=r"axis_name='time' .*spread over 'seq'.* Spread only the batch"
    ):
        call(P("data", "seq"), axis_name="time")


def test_rows_that_cannot_be_cut():
    def flat(x):  # (batch, features) -> (features * batch,)
        return x.T.reshape(-1)

    with pytest.raises(StrategyError, match=r"merges its rows into a neighboring axis"):
        call(P("data"), fun=flat)
