"""Mistakes put into a copy of the project, one at a time, that its tests have to catch.

`python -m tests.mutations` tries all of them, `python -m tests.mutations NAME ...` some. It is run
by hand: each mistake is a run of pytest. The exit code is 1 where a mistake is missed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.processes import ROOT


class Mutation(NamedTuple):
    """A mistake.

    Attributes:
      file: where it is made.
      right: what stands there, once.
      wrong: what it becomes.
      tests: what should fail, as pytest takes it.
    """

    file: str
    right: str
    wrong: str
    tests: str


MUTATIONS = {
    "one prediction too many": Mutation(
        "data_pipeline/pretraining/masking.py",
        "np.rint(probability * lengths)",
        "(1 + np.rint(probability * lengths))",
        "tests/data_pipeline/pretraining/test_masking.py",
    ),
    "kept tokens are replaced": Mutation(
        "data_pipeline/pretraining/masking.py",
        "choice < mask_rate + keep_rate",
        "choice < mask_rate",
        "tests/data_pipeline/pretraining/test_masking.py",
    ),
    "swapped pairs stay in order": Mutation(
        "data_pipeline/pretraining/pairing.py",
        "examples[field][is_swapped, ::-1]",
        "examples[field][is_swapped]",
        "tests/data_pipeline/pretraining/test_pairing.py",
    ),
    "the second segment starts a token late": Mutation(
        "data_pipeline/pretraining/pairing.py",
        "text.starts[chunk] + a_length\n",
        "text.starts[chunk] + a_length + 1\n",
        "tests/data_pipeline/pretraining/test_pairing.py",
    ),
    "a resumed stream skips an example": Mutation(
        "data_pipeline/pretraining/order.py",
        "Cursor(epoch, block, offset)\n",
        "Cursor(epoch, block, offset + 1)\n",
        "tests/data_pipeline/pretraining/test_order.py",
    ),
    "windows do not overlap": Mutation(
        "data_pipeline/finetune/windows.py",
        "stride = (size + 1) // 2",
        "stride = size",
        "tests/data_pipeline/finetune/test_windows.py",
    ),
    "label smoothing is ignored": Mutation(
        "bert_jax/objectives/losses.py",
        "    if smoothing:\n",
        "    if False:\n",
        "tests/bert_jax/objectives/test_losses.py",
    ),
    "warmup is a step early": Mutation(
        "bert_jax/training/optimizer.py",
        "warmup = step / max",
        "warmup = (step + 1) / max",
        "tests/bert_jax/training/test_optimizer.py",
    ),
    "biases decay": Mutation(
        "bert_jax/training/optimizer.py",
        'not in ("bias", "scale")',
        'not in ("scale",)',
        "tests/bert_jax/training/test_optimizer.py",
    ),
    "layer decay counts from the wrong end": Mutation(
        "bert_jax/training/optimizer.py",
        "(len(blocks) - i for",
        "(i + 1 for",
        "tests/bert_jax/training/test_optimizer.py",
    ),
    "every step has the same random key": Mutation(
        "bert_jax/training/step.py",
        "jax.random.fold_in(jax.random.key(seed), state.step)",
        "jax.random.key(seed)",
        "tests/bert_jax/training/test_step.py",
    ),
    "micro-batches share their random key": Mutation(
        "bert_jax/training/step.py",
        "keys = jax.random.split(key, accumulation)",
        "keys = jax.numpy.stack([key] * accumulation)",
        "tests/bert_jax/training/test_step.py",
    ),
    "packed sequences see each other": Mutation(
        "bert_jax/layers/attention_mask.py",
        "return keys.sequence == jnp.where(queries.sequence > 0, queries.sequence, -1)",
        "return (keys.sequence > 0) & (queries.sequence > 0)",
        "tests/bert_jax/layers/test_attention.py tests/bert_jax/layers/test_attention_mask.py",
    ),
    "dropout draws the same bits in every row": Mutation(
        "bert_jax/layers/dropout.py",
        "return _mix(row + column)",
        "return _mix(row * jnp.uint32(0) + column)",
        "tests/bert_jax/layers/test_dropout.py",
    ),
    "another approximate GELU": Mutation(
        "bert_jax/layers/gelu.py",
        "0.044715 * math",
        "0.04 * math",
        "tests/bert_jax/layers/test_gelu.py",
    ),
    "LoRA is not divided by its rank": Mutation(
        "bert_jax/models/adapters.py",
        "method.alpha / method.rank * change",
        "method.alpha * change",
        "tests/bert_jax/models/test_adapters.py::test_lora_against_its_formula_and_merged",
    ),
}


def copy_project(target: Path) -> None:
    """What git knows of, and what it does not ignore, as it is now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def run_tests(folder: Path, tests: list[str], programs: Path) -> subprocess.CompletedProcess[str]:
    """Runs tests of a copy to the first that fails; exit code 1 of pytest says that one did."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-x", "-p", "no:cacheprovider", *tests],
        cwd=folder,
        env=os.environ
        | {
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",  # it may be as old and as long as another's
            "JAX_COMPILATION_CACHE_DIR": str(programs),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        },
        capture_output=True,
        text=True,
    )


def main(names: list[str]) -> int:
    """Tries the mutations of these names, or all."""
    chosen = {name: MUTATIONS[name] for name in names or MUTATIONS}
    gone = [
        f"{name}: {mutation.file} has {mutation.right!r} not once"
        for name, mutation in chosen.items()
        if (ROOT / mutation.file).read_text().count(mutation.right) != 1
    ]
    if gone:
        print("\n".join(gone))
        return 1
    missed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder, programs = Path(temporary) / "project", Path(temporary) / "programs"
        copy_project(folder)
        tests = sorted({test for mutation in chosen.values() for test in mutation.tests.split()})
        before = run_tests(folder, tests, programs)
        if before.returncode:
            print(before.stdout, "the tests fail without a mistake", sep="\n")
            return 1
        for name, mutation in chosen.items():
            path = folder / mutation.file
            right = path.read_text()
            path.write_text(right.replace(mutation.right, mutation.wrong))
            result = run_tests(folder, mutation.tests.split(), programs)
            path.write_text(right)
            if result.returncode == 1:
                failed = [line for line in result.stdout.splitlines() if line.startswith("FAILED")]
                print(f"caught: {name}: {failed[0].split(' - ')[0]}", flush=True)
            else:
                missed += 1
                print(f"MISSED: {name} (pytest: {result.returncode})", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} caught")
    return int(missed > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *MUTATIONS])
    sys.exit(main(parser.parse_args().names))
