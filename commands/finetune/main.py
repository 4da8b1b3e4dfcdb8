"""Fine-tunes a BERT, or without arguments runs the demo: `python run_finetune.py [TASK ...]`."""

import shlex
import time
from collections.abc import Sequence

from commands.finetune.command_line import from_command_line


def main(arguments: Sequence[str]) -> None:
    """Reads the command line, fine-tunes with each seed, and prints the next commands."""
    started = time.time()
    config = from_command_line(arguments) if arguments else None
    # jax takes seconds to import, so mistakes on the command line are reported before that.
    from rich.console import Console

    from bert_jax.files import read_json
    from bert_jax.models.config import can_be_merged, method_of
    from bert_jax.parallel.process import keep_compiled_programs, keep_freed_memory
    from bert_jax.tasks.registry import saved_task
    from commands.finetune.demo import compare_demo
    from commands.finetune.report import ask_command
    from commands.finetune.train import finetune_seeds

    keep_freed_memory()
    keep_compiled_programs()
    console = Console(soft_wrap=True, highlight=False, markup=False)
    best = finetune_seeds(config, arguments, console) if config else compare_demo(console)
    if best is None:  # stopped by a signal, after saving
        return
    console.print(
        f"\nDone in {(time.time() - started) / 60:.1f} minutes. Look at: {best}/README.md, "
        f"{best}/predictions.jsonl, {best}/curves.png\nType next:"
    )
    saved = read_json(best / "config.json")
    console.print(f"  {ask_command(saved_task(saved), best)}")
    if config and config.export:
        console.print(f"  # for transformers: {config.export[1]}")
    elif can_be_merged(method_of(saved)) and saved["architecture"]:
        console.print(
            f"  python run_convert.py to-hf --checkpoint {shlex.quote(str(best))} --output DIR  "
            "# for transformers"
        )
