#!/usr/bin/env bash
# orbax-checkpoint 0.12.8, tensorstore 0.1.86, jax 0.10.2, Linux, CPU: a finished checkpoint holds a
# folder ocdbt.process_0 beside the merged database, and whether it is needed depends on the sizes of
# the arrays.
#
# A good guess: at the end of a save Orbax merges what each process wrote, so the folders of the
# processes are left over, and a copy for sharing may go without them. A test with a tiny model
# confirms it: small arrays are stored within the nodes of the merged tree, and a checkpoint of them
# is read without the folder, every value right. The merged tree of larger arrays only points into
# the folder, which then is nearly the whole checkpoint. Without it, restoring says "Truncated
# Zstd-compressed stream": words for damage, not for a file that is missing. It is the same in a
# checkpoint in which some arrays are small and others are not: the small ones still read.
#
# Seen on 30 November 2026:
#   20 arrays of 32 bytes: 1248 of 4856 bytes in ocdbt.process_0; without it: reads, values equal
#   1 array of 360000 bytes: 321336 of 322280 bytes in ocdbt.process_0; without it: ValueError,
#     Truncated Zstd-compressed stream
# (sizes vary a little with the random values)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    orbax-checkpoint==0.12.8 tensorstore==0.1.86 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$folder/save.py" <<'PYTHON'
import shutil
import sys
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp


def size(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


random = np.random.default_rng(0)
trees = {
    "20 arrays of 32 bytes": {f"a{i}": np.arange(8, dtype=np.float32) for i in range(20)},
    "1 array of 360000 bytes": {"a": random.random((300, 300), np.float32)},
}
found = []
for number, (name, tree) in enumerate(trees.items()):
    path = Path(sys.argv[1], str(number)).absolute()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
    own = path / "ocdbt.process_0"
    print(f"{name}: {size(own)} of {size(path)} bytes in {own.name}; without it:", end=" ")
    shutil.rmtree(own)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            restored = checkpointer.restore(path, tree)
    except ValueError as error:
        assert "Truncated Zstd-compressed stream" in str(error), error
        found.append("error")
        print("ValueError, Truncated Zstd-compressed stream")
    else:
        assert all((restored[key] == tree[key]).all() for key in tree)
        found.append("equal")
        print("reads, values equal")
assert found == ["equal", "error"], found
PYTHON
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore "$folder/save.py" "$folder/checkpoints"
echo "as described"
