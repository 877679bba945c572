"""Whether arrays are held by several devices."""

import os
import subprocess
import sys

SCRIPT = """
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from tdjax.core.arrays import on_several_devices

mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
here = jnp.ones((4, 3))
spread = jax.device_put(here, NamedSharding(mesh, PartitionSpec("data")))
print([on_several_devices(arrays) for arrays in ([], [here], [here, spread])])
"""


def test_arrays_on_two_devices_are_found():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[False, False, True]", done.stderr
