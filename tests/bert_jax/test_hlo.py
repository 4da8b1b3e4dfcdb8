"""What is read from a compiled program."""

import pytest

from bert_jax.hlo import array_bytes, summarize

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

ENTRY %main.1 (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %w = (s32[], /*index=1*/f32[8]{0:T(8,128)S(1)}) while(%a), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"12"}}
  %n = f32[8]{0} fusion(%w), calls=%fused, metadata={op_name="jit(s)/transpose(jvp(M))/encoder/layer_0/attention_norm/mul"}, backend_config={"estimated_cycles":"7"}
  %o = f32[8]{0} fusion(%n), calls=%fused, metadata={op_name="jit(s)/optimizer/add"}, backend_config={"estimated_cycles":"5"}
  %k = f32[8]{0} custom-call(%n), custom_call_target="tpu_custom_call", metadata={op_name="jit(s)/kernel"}
  %r = f32[8]{0} all-reduce(%n), to_apply=%sum
  %s = (bf16[4]{0}, bf16[32]{0}) all-gather-start(%n), dimensions={0}
  %d = bf16[32]{0} all-gather-done(%s)
  ROOT %x = f32[8]{0} add(%o, %k)
}
"""  # noqa: E501


def test_cycles_count_loops_as_often_as_they_run():
    found = summarize(TEXT)
    assert found.cycles == {"attention": 1200, "norms": 7, "optimizer": 5}
    assert found.uncounted == {"jit(s)/kernel": 1}


def test_collectives_by_kind():
    found = summarize(TEXT).collectives
    assert found["all-reduce"] == (1, 32, 32)
    # Twelve of 16 float32 in the loop, one of 32 bfloat16.
    assert found["all-gather"] == (13, 12 * 64 + 64, 64)
    assert set(found) == {"all-reduce", "all-gather"}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("f32[]", [4]), ("pred[7]", [7]), ("(s32[2,2], token[], u8[3]{0})", [16, 0, 3])],
)
def test_bytes_of_types(shape, expected):
    assert array_bytes(shape) == expected
