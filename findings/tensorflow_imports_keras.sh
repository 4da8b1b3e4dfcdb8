#!/usr/bin/env bash
# tensorflow-cpu 2.21.0, keras 3.15.1, Linux, CPython 3.11: `import tensorflow` imports all of Keras,
# and the packages that Keras finds, though `tf.keras` is a lazy loader.
#
# A good guess: `tf.keras` is a KerasLazyLoader, so a program that only wants tf.data does not pay
# for Keras. The last lines of tensorflow/__init__.py import keras.src.optimizers nevertheless,
# which imports the whole package, and that imports scikit-learn, SciPy's sparse and statistics
# modules and matplotlib.pyplot where they are installed. In an environment that has them it is more
# than a third of the modules and of the time. The import is guarded: where Keras is not
# installed TensorFlow does without, and tf.data works. The same happens while sys.modules holds
# None for "keras"; taken away afterwards, tf.keras still loads when it is first asked for.
#
# Seen on 30 November 2026 (modules that the import left behind; seconds of CPU vary):
#   as it is:        keras 498, sklearn 93, matplotlib 94, all 3761; 6.7 s of CPU
#   Keras not found: keras 0, sklearn 0, matplotlib 0, all 2413; 3.9 s of CPU; tf.data and tf.keras work
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    tensorflow-cpu==2.21.0 keras==3.15.1 scikit-learn==1.9.1 matplotlib==3.11.2 numpy==2.4.6
cat > "$folder/import.py" <<'PYTHON'
import collections
import sys
import time

hidden = sys.argv[1:] == ["hidden"]
if hidden:
    sys.modules["keras"] = None
start = time.process_time()
import tensorflow as tf  # noqa: E402

seconds = time.process_time() - start
if hidden:
    del sys.modules["keras"]
packages = collections.Counter(name.split(".")[0] for name in sys.modules)
names = ("keras", "sklearn", "matplotlib")
counts = ", ".join(f"{name} {packages[name]}" for name in names)
print(f"{counts}, all {len(sys.modules)}; {seconds:.1f} s of CPU")
for name in names:
    assert (packages[name] == 0) == hidden, (name, packages[name])
rows = tf.data.Dataset.range(4).map(lambda x: x * x).batch(2).as_numpy_iterator()
assert [row.tolist() for row in rows] == [[0, 1], [4, 9]]
assert tf.keras.layers.Dense.__module__.startswith("keras.")
PYTHON
export TF_CPP_MIN_LOG_LEVEL=3
for mode in "" hidden; do
    # shellcheck disable=SC2086  # no argument, not an empty one
    "$folder/venv/bin/python" -W ignore "$folder/import.py" $mode 2> "$folder/errors" ||
        { cat "$folder/errors" >&2; exit 1; }
done
echo "as described"
