#!/usr/bin/env bash
# orbax-checkpoint 0.12.8, jax 0.10.2, Linux, CPU with 8 simulated devices: when every device holds the
# same array, Orbax cuts it into as many slices, however small it is, and training waits for them.
#
# A good guess: an array that all devices hold is copied to the host once, from one of them. Orbax
# instead lets each device give its part ("replica parallel"), which pays on many hosts and for large
# arrays. There is no lower bound by default: a bias of 32 bytes becomes 8 programs that slice and 8
# chunks of one number each, for good in the checkpoint. They run one by one, before save() returns,
# also where saving is asynchronous. Only an array without an axis that the number of devices divides
# is copied whole: 9 numbers are saved sooner than 8. ArrayHandler has a bound,
# min_slice_bytes_for_replica_parallel, which StandardCheckpointer gives no way to set.
#
# Seen on 1 December 2026:
#   8 numbers: chunks of (1,)
#   9 numbers: chunks of (9,)
#   200 arrays of 8 numbers: save() returned after 8.1 times the seconds of 9 numbers
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    orbax-checkpoint==0.12.8 tensorstore==0.1.86 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$folder/save.py" <<'PYTHON'
import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec

everywhere = NamedSharding(jax.make_mesh((8,), ("data",)), PartitionSpec())
chunks, waits = {}, {8: [], 9: []}
for turn in range(6):
    for size in waits:
        tree = {str(i): np.arange(size, dtype=np.float32) for i in range(200)}
        tree = jax.block_until_ready(jax.device_put(tree, everywhere))
        path = Path(sys.argv[1], f"{turn}-{size}").absolute()
        with ocp.StandardCheckpointer() as checkpointer:
            start = time.perf_counter()
            checkpointer.save(path, tree)
            waits[size].append(time.perf_counter() - start)
        with ocp.StandardCheckpointer() as checkpointer:
            metadata = checkpointer.metadata(path).item_metadata.tree
        chunks[size] = metadata["0"].storage.chunk_shape
for size, shape in chunks.items():
    print(f"{size} numbers: chunks of {shape}")
eight, nine = (statistics.median(waits[size][1:]) for size in waits)  # the first compiles
print(
    f"200 arrays of 8 numbers: save() returned after {eight / nine:.1f} times the seconds of "
    "9 numbers"
)
assert chunks == {8: (1,), 9: (9,)}, chunks
assert eight > 1.5 * nine, waits
PYTHON
JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=8 \
    "$folder/venv/bin/python" -W ignore "$folder/save.py" "$folder/checkpoints"
echo "as described"
