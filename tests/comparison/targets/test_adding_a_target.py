"""A target takes a file, such as this one, and a line that registers it."""

import dataclasses

import jax.numpy as jnp
import pytest

import tdjax
from tdjax.cli import main
from tdjax.comparison.targets import catalog
from tdjax.comparison.targets.ceilings import Ceilings
from tdjax.comparison.targets.device import Compiler, DeviceModel
from tdjax.comparison.targets.target import resolve

pytestmark = pytest.mark.usefixtures("optimised")

# A maker whose devices are a single TPU chip under another name.
TOYCC = Compiler(
    "tpu", (("libtpu",), ("flatbuffers",)), "tpu", "toycc", ("libtpu",), optimizes_first=True
)


def describe(name, topology):
    if topology:
        raise ValueError(f"target {name!r}: a toy has no topology")
    chip = catalog.find("tpu:v5e:1x1")
    found = Ceilings(1e12, 1e11, "made up")
    return dataclasses.replace(chip, name=name, kind="Toy", compiler=TOYCC, ceilings=found)


TOY = DeviceModel("toy:one", TOYCC, describe)


@pytest.fixture(autouse=True)
def registered():
    before = catalog.names()
    catalog.register(TOY)
    yield
    catalog.unregister("toy:one")
    assert catalog.names() == before


def test_it_is_listed_with_its_compiler(capsys):
    assert catalog.names()["toy:one"] == TOYCC
    assert main(["targets"]) == 0
    assert "compiled, without the device, by toycc: toy:one\n" in capsys.readouterr().out


def test_it_is_resolved_by_its_name():
    (target,) = resolve("toy:one")
    assert (target.name, target.evidence, target.kind) == ("toy:one", "compiled", "Toy")
    assert target.ceilings() == Ceilings(1e12, 1e11, "made up")
    with pytest.raises(ValueError, match=r"'toy:two' is unknown; known are .*toy:one"):
        resolve("toy:two")
    with pytest.raises(ValueError, match="a toy has no topology"):
        resolve("toy:one:2x2")


def test_programs_are_compiled_for_it():
    steps = jnp.ones((4, 6, 8))
    found = tdjax.compare(jnp.tanh, steps, strategies=("vmap",), targets="toy:one", timeout=300)
    (entry,) = found.entries
    assert (entry.target, entry.evidence, entry.status) == ("toy:one", "compiled", "ok")
    assert entry.estimated_cycles > 0 and entry.bytes_accessed >= 2 * steps.nbytes
    assert "tanh, forward, compiled on toy:one" in str(found)
    assert found.ceilings == {"toy:one": Ceilings(1e12, 1e11, "made up")}
    assert found.environment["devices"] == "toy:one (Toy)" and "libtpu" in found.environment


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="'tpu:v5e' is registered already"):
        catalog.register(DeviceModel("tpu:v5e", TOYCC, describe))
