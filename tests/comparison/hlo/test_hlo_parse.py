"""From HLO text to data."""

import pytest

from tdjax.comparison import hlo
from tdjax.comparison.hlo.module import split
from tdjax.comparison.hlo.shape import parse_shape


@pytest.mark.parametrize(
    ("text", "elements", "size"),
    [
        ("f32[]", 1, 4),
        ("pred[3,5]{1,0}", 15, 15),
        ("bf16[8,16]{0,1}", 128, 256),
        ("s4[3]{0}", 3, 2),
        ("c64[2,2]{1,0}", 4, 32),
        ("f8e4m3fn[7]{0}", 7, 7),
        ("token[]", 1, 0),
        ("f32[<=6,2]{1,0}", 12, 48),
        # Tiles of a TPU pad the minor axes: 9 x 100 takes 16 x 128.
        ("f32[9,100]{1,0:T(8,128)}", 900, 16 * 128 * 4),
        ("bf16[9,100]{0,1:T(8,128)(2,1)}", 900, 104 * 128 * 2),
        ("bf16[2,3,64]{2,0,1:T(8,128)(2,1)S(1)}", 384, 3 * 8 * 128 * 2),
        ("s32[]{:T(128)S(6)}", 1, 512),
        ("(f32[2]{0}, (bf16[3]{0}, u32[]{:S(2)}), /*index=5*/pred[])", 7, 8 + 6 + 4 + 1),
    ],
)
def test_a_shape_knows_its_elements_and_its_bytes(text, elements, size):
    shape = parse_shape(text)
    assert (shape.elements, shape.bytes) == (elements, size)


def test_a_layout_is_an_order_in_memory():
    shape = parse_shape("bf16[8,16,64]{2,0,1:T(8,128)(2,1)S(1)}")
    assert shape.in_memory == (1, 0, 2)
    assert (shape.tile, shape.space) == ((8, 128), 1)
    assert parse_shape("f32[4,5]").in_memory == (0, 1)


@pytest.mark.parametrize("text", ["", "f32", "f32[2", "{1,0}"])
def test_no_shape_is_refused(text):
    with pytest.raises(ValueError, match="HLO shape"):
        parse_shape(text)


def test_attributes_are_split_at_their_own_commas():
    text = 'window={size=3x3 pad=1_1x1_1}, dims={1,2}, metadata={op_name="f(a, b)/\\"x\\""}, n=3'
    assert split(text) == [
        "window={size=3x3 pad=1_1x1_1}",
        "dims={1,2}",
        'metadata={op_name="f(a, b)/\\"x\\""}',
        "n=3",
    ]


PROGRAM = """\
HloModule jit_f, entry_computation_layout={(f32[4]{0})->(f32[4]{0}, s32[])}, num_partitions=2

FileNames
1 "/home/me/net.py"
2 "/lib/site-packages/flax/linen/linear.py"

FunctionNames
1 "Net.__call__"

FileLocations
1 {file_name_id=1 function_name_id=1 line=12 end_line=12 column=3 end_column=9}
2 {file_name_id=2 function_name_id=1 line=700 end_line=700 column=3 end_column=9}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}

%branch.1 (p: f32[4]) -> f32[4] {
  ROOT %p = f32[4]{0} parameter(0)
}, execution_thread="main"

ENTRY %main (x: f32[4]) -> (f32[4], s32[]) {
  %x = f32[4]{0} parameter(0), metadata={op_name="x"}
  %word.1 = s32[] constant(-7)
  %many = f32[4]{0} constant({1, 2, (3), 4})
  %sum = f32[4]{0} add(%x, %many), metadata={op_name="jit(f)/add" stack_frame_id=2}, backend_config={"known_trip_count":{"n":"3"},"text":"a } ( b"}
  %either = f32[4]{0} conditional(%word.1, %sum, %sum), branch_computations={%branch.1, %branch.1}
  ROOT %out = (f32[4]{0}, s32[]) tuple(%either, %word.1)
}
"""  # noqa: E501


def test_a_program_is_read_whole():
    module = hlo.parse(PROGRAM)
    assert module.entry.name == "main" and set(module.computations) == {"main", "branch.1"}
    entry = module.entry.instructions
    assert [i.opcode for i in entry.values()] == [
        "parameter", "constant", "constant", "add", "conditional", "tuple",
    ]  # fmt: skip
    assert module.entry.root is entry["out"]
    assert entry["word.1"].literal == "-7" and entry["many"].literal == "{1, 2, (3), 4}"
    assert entry["sum"].operands == ("x", "many")
    assert entry["sum"].config["known_trip_count"] == {"n": "3"}
    assert entry["sum"].config["text"] == "a } ( b"
    assert entry["either"].called == ("branch.1", "branch.1")
    assert [i.name for i in module.entry.users(module.entry.instructions["sum"])] == ["either"]
    assert module.entry.parameters == {0: entry["x"]}


def test_stacks_are_innermost_first_in_both_numberings():
    flax, net = ("/lib/site-packages/flax/linen/linear.py", 700), ("/home/me/net.py", 12)
    assert hlo.parse(PROGRAM).stacks == {1: (net,), 2: (flax, net)}
    # Others number a parent by its own row, and give a root none.
    other = PROGRAM.replace(" parent_frame_id=1}", "}").replace(
        "parent_frame_id=2", "parent_frame_id=1"
    )
    assert hlo.parse(other).stacks == {1: (net,), 2: (flax, net)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "module @jit_f {\n}",
        "HloModule f\n\nENTRY %main {\n}\n",
        "HloModule f\n\nENTRY %main (x: f32[4]) -> f32[4] {\n  ROOT %x = new[4 parameter(0)\n}\n",
        "HloModule f\n\nENTRY %main (x: f32[4]) -> f32[4] {\n  ROOT %x = f32[4]{0} add(%x\n}\n",
    ],
)
def test_what_is_no_program_is_refused(text):
    with pytest.raises(ValueError, match="HLO program"):
        hlo.parse(text)
