"""What is read from a compiled program."""

import pytest

from bert_jax.analysis.hlo import array_bytes, summarize

TEXT = """\
HloModule jit_step

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]) parameter(0)
  %f.1 = f32[8]{0} fusion(%p), kind=kLoop, metadata={op_name="jit(s)/jvp(M)/encoder/layer_0/attention/dot"}, backend_config={"window_config":{"estimated_cycles":"100"}}
  %g = f32[16]{0} all-gather(%f.1), dimensions={0}
  ROOT %t = (s32[], f32[8]) tuple(%p, %f.1)
}

%fused (q: f32[8]) -> f32[8] {
  ROOT %inner = f32[8]{0} add(%q, %q), backend_config={"estimated_cycles":"999"}
}

%all-reduce-scatter.3 (q: f32[8]) -> f32[2] {
  %q = f32[8]{0} parameter(0)
  %all = f32[8]{0} all-reduce(%q), to_apply=%sum
  ROOT %slice = f32[2]{0} dynamic-slice(%all)
}

%async_collective_fusion.1 (q: f32[8]) -> (f32[8], f32[24]) {
  %q = f32[8]{0} parameter(0)
  %all = f32[24]{0} all-gather(%q), dimensions={0}
  ROOT %tuple = (f32[8]{0}, f32[24]{0}) tuple(%q, %all)
}

%one (q: f32[8]) -> f32[8] {
  ROOT %q = f32[8]{0} all-to-all(%q)
}

%two (q: f32[8]) -> f32[8] {
  ROOT %q = f32[8]{0} all-to-all(%q)
}

ENTRY %main.1 (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %w = (s32[], /*index=1*/f32[8]{0:T(8,128)S(1)}) while(%a), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"12"}}
  %n = f32[8]{0} fusion(%w), calls=%fused, metadata={op_name="jit(s)/transpose(jvp(M))/encoder/layer_0/attention_norm/mul"}, backend_config={"estimated_cycles":"7"}
  %o = f32[8]{0} fusion(%n), calls=%fused, metadata={op_name="jit(s)/optimizer/add"}, backend_config={"estimated_cycles":"5"}
  %k = f32[8]{0} custom-call(%n), custom_call_target="tpu_custom_call", metadata={op_name="jit(s)/attention/kernel"}, backend_config={"custom_call_config":{"cost_estimate":{"flops":"640","transcendentals":"48","bytes_accessed":"32"}}}
  %r = f32[8]{0} all-reduce(%n), to_apply=%sum
  %s = (bf16[4]{0}, bf16[32]{0}) all-gather-start(%n), dimensions={0}
  %d = bf16[32]{0} all-gather-done(%s)
  %e = (f32[8]{0}, f32[8]{0}, u32[], u32[]) collective-permute-start(%n), source_target_pairs={{0,1}}
  %h = f32[2]{0} fusion(%n), kind=kCustom, calls=%all-reduce-scatter.3
  %i = (f32[8]{0}, f32[24]{0}) fusion(%n), kind=kCustom, calls=%async_collective_fusion.1
  %j = f32[8]{0} conditional(%a, %n, %n), branch_computations={%one, %two}
  ROOT %x = f32[8]{0} add(%o, %k)
}
"""  # noqa: E501


def test_cycles_count_loops_as_often_as_they_run():
    found = summarize(TEXT)
    assert found.cycles == {"attention": 1200, "norms": 7, "optimizer": 5}
    assert found.kernels == [("jit(s)/attention/kernel", "attention", 1, 640, 48, 32)]


@pytest.mark.parametrize(
    ("condition", "trips"),
    [
        ("%n = s32[]{:T(128)} constant(3)\n  ROOT %lt = pred[] compare(%i, %n), direction=LT", 3),
        ("%n = s32[]{:T(128)} constant(3)\n  ROOT %gt = pred[] compare(%i, %n), direction=GT", 1),
        ("%n = s32[] parameter(1)\n  ROOT %lt = pred[] compare(%i, %n), direction=LT", 1),
    ],
)
def test_a_loop_whose_trips_only_its_condition_tells(condition, trips):
    known = ', backend_config={"known_trip_count":{"n":"12"}}'
    assert known in TEXT
    text = TEXT.replace(known, "") + f"\n%c (i: s32[]) -> pred[] {{\n  {condition}\n}}\n"
    assert summarize(text).cycles["attention"] == 100 * trips


def test_collectives_by_kind():
    found = summarize(TEXT).collectives
    assert found["all-reduce"] == (1, 32, 32)
    # Twelve of 16 float32 in the loop, one of 32 bfloat16, one of 24 float32 in a fusion.
    assert found["all-gather"] == (14, 12 * 64 + 64 + 96, 96)
    assert found["reduce-scatter"] == (1, 8, 8)
    assert found["collective-permute"] == (1, 32, 32)
    assert found["all-to-all"] == (2, 64, 32)
    assert len(found) == 5


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("f32[]", [4]), ("pred[7]", [7]), ("(s32[2,2], token[], u8[3]{0})", [16, 0, 3])],
)
def test_bytes_of_types(shape, expected):
    assert array_bytes(shape) == expected
