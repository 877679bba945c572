"""Processors told apart, written and read back, and the nearest of several."""

import dataclasses

import pytest

from tdjax.devices.processor import Processor, of_cpuinfo, processor

ZEN_4 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
flags\t\t: fpu avx avx2 avx512f avx512_bf16

processor\t: 1
vendor_id\t: AuthenticAMD
"""
ZEN_2 = ZEN_4.replace("25", "23").replace("17", "49").replace(" avx512f avx512_bf16", "")
SAPPHIRE = """vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8488C, 2.4 GHz
flags\t\t: avx2 avx512f amx_tile
"""
GRAVITON = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm sve
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd40
"""


def test_what_linux_says_is_read():
    assert str(of_cpuinfo(ZEN_4)) == "AMD EPYC (AMD, family 25, model 17; AVX2 AVX-512)"
    assert str(of_cpuinfo(ZEN_2)) == "AMD EPYC (AMD, family 23, model 49; AVX2)"
    intel = of_cpuinfo(SAPPHIRE)
    assert (intel.vendor, intel.model) == ("Intel", "143")
    assert intel.instruction_sets == ("AVX2", "AVX-512", "AMX")
    arm = of_cpuinfo(GRAVITON)
    assert (arm.vendor, arm.family, arm.model) == ("ARM", "8", "0xd40")
    assert arm.instruction_sets == ("NEON", "SVE")
    assert str(of_cpuinfo("")).endswith("(?, family ?, model ?)")


@pytest.mark.parametrize("text", [ZEN_4, ZEN_2, SAPPHIRE, GRAVITON, ""])
def test_a_kind_names_the_processor_that_it_is_of(text):
    found = of_cpuinfo(text)
    for cores, caches in ((2, "L1 32 KiB, L2 1024 KiB"), (64, "")):
        made = dataclasses.replace(found, cores=cores, caches=caches)
        assert Processor.of_kind(made.kind) == made


def test_this_one_has_cores_and_is_like_itself():
    here = processor()
    assert here.cores >= 1
    assert Processor.of_kind(here.kind) == here
    assert here.nearness(here) >= max(here.nearness(of_cpuinfo(text)) for text in (ZEN_2, GRAVITON))


def test_an_older_kind_says_no_more_than_a_name():
    old = Processor.of_kind("cpu, AMD EPYC, 2 cores")
    assert (old.name, old.vendor, old.cores) == ("AMD EPYC", "?", 2)
    assert "not known" in of_cpuinfo(ZEN_4).likeness(old)
    assert Processor.of_kind("cpu, Z80").name == "Z80"


def test_the_nearest_is_of_the_same_design_then_of_the_same_instruction_sets():
    zen_4, zen_2, intel, arm = map(of_cpuinfo, (ZEN_4, ZEN_2, SAPPHIRE, GRAVITON))
    others = [arm, intel, zen_2, of_cpuinfo(ZEN_4.replace("17", "18")), zen_4]
    ordered = sorted(others, key=zen_4.nearness)
    assert ordered[-2:] == [others[3], zen_4]
    assert ordered[0] is arm
    newer = of_cpuinfo(SAPPHIRE.replace("143", "207").replace(" amx_tile", ""))
    assert max([zen_2, zen_4, arm], key=newer.nearness) is zen_4
    assert zen_4.likeness(zen_4) == "the same design"
    assert zen_4.likeness(others[3]) == "the same vendor and family, another model"
    assert newer.likeness(zen_4) == "another vendor, another design, the same instruction sets"
