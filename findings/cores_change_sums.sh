#!/usr/bin/env bash
# jax 0.10.2, jaxlib 0.10.2, Linux, CPU: the same program on the same processor gives other bits when
# the process may use another number of cores.
#
# A good guess: XLA's CPU backend is deterministic, so a training that is repeated (or resumed) on the
# same kind of processor repeats to the last bit. It is deterministic from run to run. But a sum over
# the rows of a tall matrix, the gradient of every bias and of LayerNorm's scale, is cut into as many
# parts as there are cores, and float32 addition is not associative. Products of matrices, row sums and
# softmax of these sizes don't depend on it. Short sums aren't cut, so a small test does not see it.
# In a container that was given another share of the machine, a recorded loss is then missed in its
# last bits, and a bit-for-bit test fails on one machine and passes on its twin.
#
# NPROC=2, an environment variable that XLA's thread pools read, gives the result of two cores on any
# number of them.
#
# Seen on 30 November 2026:
#   cores 1         matmul f6dc62 softmax de7765 short sum 6c3b7a tall sum 19f84c
#   cores 2         matmul f6dc62 softmax de7765 short sum 6c3b7a tall sum ed57d1
#   cores 2 again   matmul f6dc62 softmax de7765 short sum 6c3b7a tall sum ed57d1
#   cores 1 NPROC=2 matmul f6dc62 softmax de7765 short sum 6c3b7a tall sum ed57d1
# (the digits are hashes of the results and differ between processors; which of them agree does not)
set -euo pipefail
[ "$(nproc)" -ge 2 ] || { echo "this needs two cores" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$folder/sums.py" <<'PYTHON'
import hashlib

import jax
import jax.numpy as jnp
import numpy as np

random = np.random.default_rng(0)
left = random.standard_normal((16, 65536)).astype(np.float32)
right = random.standard_normal((65536, 16)).astype(np.float32)
tall = random.standard_normal((4096, 513)).astype(np.float32)
results = {
    "matmul": jax.jit(jnp.matmul)(left, right),
    "softmax": jax.jit(jax.nn.softmax)(tall),
    "short sum": jax.jit(lambda x: x.sum(axis=0))(tall[:32]),
    "tall sum": jax.jit(lambda x: x.sum(axis=0))(tall),
}
for name, value in results.items():
    print(name, hashlib.md5(np.asarray(value).tobytes()).hexdigest()[:6], end=" ")
PYTHON
export JAX_PLATFORMS=cpu
mapfile -t cores < <(taskset -cp $$ | sed 's/.*: //' | tr , '\n' | awk -F- '{for (i = $1; i <= ($2 ? $2 : $1); i++) print i}')
run() { taskset -c "$1" "$folder/venv/bin/python" "$folder/sums.py"; }
one=$(run "${cores[0]}")
two=$(run "${cores[0]},${cores[1]}")
again=$(run "${cores[0]},${cores[1]}")
told=$(NPROC=2 run "${cores[0]}")
printf 'cores 1         %s\ncores 2         %s\ncores 2 again   %s\ncores 1 NPROC=2 %s\n' \
    "$one" "$two" "$again" "$told"
[ "$two" = "$again" ] && [ "$two" = "$told" ]
[ "${one%tall*}" = "${two%tall*}" ]
[ "$one" != "$two" ]
echo "as described"
