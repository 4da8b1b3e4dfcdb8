"""Makes `folders.tar.xz`: small folders of every kind, and what they say.

`python tests/recorded/record.py CHECKOUT` runs the scripts of a checkout as they are typed, in a
temporary folder. The paths in the commands are relative to it; where a script saves the absolute
path of that folder, the archive has HERE instead.
"""

import contextlib
import importlib
import io
import json
import os
import random
import signal
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from safetensors.numpy import save_file

ARCHIVE = Path(__file__).resolve().with_name("folders.tar.xz")
HERE = "@HERE@"
LEFT_OUT = {"tensorboard", ".lock"}  # nobody reads them, and logs are named after the machine
PARTS = "ocdbt.process_0"  # what Orbax has merged into another file, mostly
# As tests/conftest.py has it: other programs give other last bits.
ENVIRONMENT = {
    "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
ANIMALS = ("cat", "hen", "rat")
WORDS = ("the", "a", "mat", "tea", "oat", "near", "ate", "sat", "ran", "on", "and", "mats")
MARKS = ("$", "#")
CHINESE = ("一只猫在吃", "一只鸡在走", "猫在一只鸡上")
PIECES = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "ca", "m", "##t", "##s"),
    *ANIMALS,
    *WORDS[:-1],
    *MARKS,
    *sorted(set("".join(CHINESE))),
)
LENGTH = 24  # tokens
SIZES = {
    "hidden-size": 8,
    "num-hidden-layers": 2,
    "num-attention-heads": 2,
    "intermediate-size": 8,
    "max-position-embeddings": LENGTH,
    "initializer-range": 0.3,  # large enough that answers differ
}
PRETRAIN = (
    "base --corpus corpus --evaluation-examples 8 --model.dtype float32 "
    "--optimizer.warmup-steps 2 --optimizer.learning-rate 1e-2 "
    f"--phases.0.steps 10 --phases.0.sequence-length 16 --phases.0.batch-size 8 "
    f"--phases.0.max-predictions 4 --phases.1.steps 14 --phases.1.sequence-length {LENGTH} "
    "--phases.1.batch-size 8 --phases.1.max-predictions 5 "
    "--loop.log-every 1 --loop.evaluate-every 8 --loop.save-every 100 --loop.keep-checkpoints 1 "
) + " ".join(f"--model.{name} {value}" for name, value in SIZES.items())
# Work folder in runs/ -> what is typed after run_finetune.py TASK.
FINETUNE = {
    "classify": "classify --init-from models/hf --export hf exported-classify",
    "multilabel": "multilabel --init-from models/hf",
    "regress": "regress --init-from models/tf1",
    "tag": "tag --init-from converted-tf1 --regularization.label-smoothing 0.1",
    "msra": "msra --init-from runs/finished",
    "squad2": "squad2 --init-from models/hf",
    "hellaswag": "hellaswag --init-from models/hf",
    "rerank": "rerank --init-from models/hf",
    "relate": "relate --init-from models/hf",
    "summarize": "summarize --init-from models/hf",
    "lora": "classify --init-from models/hf --method.name lora --method.rank 2",
    "houlsby": "classify --init-from converted-hf --method.name houlsby --method.bottleneck 2",
    "seeds": "classify --init-from models/hf --method.name bitfit --seeds 0 1",
    "from-exported": "classify --init-from exported-classify",
    "from-pretraining": "classify --init-from exported-pretraining --frozen-layers 1",
}
FORM = {"classify": "tsv", "multilabel": "tsv", "regress": "tsv", "squad2": "json", "tag": "txt",
        "msra": "txt", "relate": "txt"}  # fmt: skip
QUESTIONS = (
    ["fill-mask", "the [MASK] sat on the mat .", "--checkpoint", "runs/finished"],
    ["fill-mask", "the [MASK] sat on the mat .", "--checkpoint", "converted-hf"],
    ["fill-mask", "一 只 [MASK] 在 吃", "--checkpoint", "converted-tf1"],
    ["classify", "the cat ate a mat", "a hen ran", "--checkpoint", "runs/classify"],
    ["classify", "the cat ate a mat", "a hen ran", "--checkpoint", "runs/multilabel"],
    ["classify", "the cat ate a mat", "a hen ran", "--checkpoint", "runs/regress"],
    ["classify", "the cat ate a mat", "a hen ran", "--checkpoint", "runs/lora"],
    ["classify", "the cat ate a mat", "a hen ran", "--checkpoint", "runs/houlsby"],
    ["classify", "the cat ate a mat", "a hen ran", "--checkpoint", "runs/seeds/seed-1"],
    ["classify", "the cat ate a mat", "a hen ran", "--checkpoint", "runs/from-exported"],
    ["tag", "the cat ate near a hen", "--checkpoint", "runs/tag"],
    ["tag", "一只猫在吃", "--checkpoint", "runs/msra"],
    ["answer", "the a", "the cat sat near the tea", "--checkpoint", "runs/squad2"],
    ["choose", "the rat ran", "a hen ate", "the cat sat", "--checkpoint", "runs/hellaswag"],
    ["rank", "the rat", "a hen ate", "the cat sat", "--checkpoint", "runs/rerank"],
    ["relate", "the <e1>cat</e1> sat near <e2>tea</e2>", "--checkpoint", "runs/relate"],
    ["summarize", "The cat sat. A hen ran. The rat ate.", "--checkpoint", "runs/summarize"],
)


def main(checkout: Path) -> None:
    """Makes the folders, asks them, and packs them."""
    os.environ |= ENVIRONMENT
    sys.path.insert(0, str(checkout))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        os.chdir(folder)
        write(folder / "commands.json", record(folder))
        answers = [
            {"command": question, "lines": run(["run_predict.py", *question]).splitlines()}
            for question in QUESTIONS
        ]
        write(folder / "answers.json", answers)
        pack(folder, (str(checkout), str(Path.home()), tempfile.gettempdir()))
        os.chdir(checkout)
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size:,} bytes")


def record(folder: Path) -> dict[str, list[str]]:
    """Makes everything in `folder`; returns what was typed, by the folder that it made."""
    commands: dict[str, list[str]] = {}

    def typed(output: str, text: str) -> list[str]:
        commands[output] = text.split()
        return commands[output]

    write_texts(folder)
    write_models(folder / "models")
    prepare = "-m data_pipeline.prepare --input text.txt --output corpus --language lines "
    prepare += "--vocab models/hf/vocab.txt --heldout-fraction 0.3 --processes 1"
    run(typed("corpus", prepare))
    for source, form in (("from-hf", "hf"), ("tf1", "tf1")):
        text = f"run_convert.py {source} --input models/{form} --output converted-{form}"
        run(typed(f"converted-{form}", text))
    options = f"{PRETRAIN} --model.vocab-size {len(PIECES)}"
    for name in ("finished", "interrupted"):
        text = f"run_pretrain.py {options} --work-dir runs/{name}"
        run(typed(f"runs/{name}", text), stops=name == "interrupted")
    text = "run_convert.py to-hf --checkpoint runs/finished --output exported-pretraining"
    run(typed("exported-pretraining", text))
    for name, text in FINETUNE.items():
        task = text.split()[0]
        form = FORM.get(task, "jsonl")
        text = (
            f"run_finetune.py {text} --train data/{task}.{form} --dev data/{task}_dev.{form} "
            f"--work-dir runs/{name} --sequence-length {LENGTH} --batch-size 8 --epochs 1 "
            "--log-every 1 --optimizer.learning-rate 1e-2"
        )
        run(typed(f"runs/{name}", text))
    return commands


def run(command: Sequence[str], *, stops: bool = False) -> str:
    """Types a command; returns what it prints. `stops` ends it after some steps as kill does."""
    print(" ".join(command), file=sys.stderr)
    program, *arguments = command[1:] if command[0] == "-m" else command
    main = importlib.import_module(program.removesuffix(".py")).main
    if stops:
        threading.Thread(target=stop_midway, args=[Path(command[-1])]).start()
    with contextlib.redirect_stdout(io.StringIO()) as output:
        main(arguments)
    assert not (stops and Path(command[-1], "summary.json").exists()), "it was too quick"
    return output.getvalue()


def stop_midway(work_dir: Path) -> None:
    """Waits for some steps."""
    log = work_dir / "metrics.jsonl"
    while not (log.is_file() and len(log.read_text()) > 3000):
        time.sleep(0.0005)
    os.kill(os.getpid(), signal.SIGTERM)


def write(path: Path, value: object) -> None:
    """Writes JSON."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_texts(folder: Path) -> None:
    """The text of the corpus, and two files of examples for each kind of task."""
    draw = random.Random(0)
    (folder / "data").mkdir()
    documents = [
        [f"{sentence(draw)} ." for _ in range(6)] + draw.sample(CHINESE, 1) for _ in range(20)
    ]
    text = "\n\n".join("\n".join(lines) for lines in documents)
    (folder / "text.txt").write_text(text + "\n", encoding="utf-8")
    os.utime(folder / "text.txt", (0, 0))  # as it will be unpacked: a corpus knows its text by it
    for suffix, size in (("", 32), ("_dev", 8)):
        for task, make in EXAMPLES.items():
            path = folder / "data" / f"{task}{suffix}.{FORM.get(task, 'jsonl')}"
            path.write_text(make(draw, size), encoding="utf-8")


def sentence(draw: random.Random, animal: str = "") -> str:
    """Words, one of them an animal."""
    words = draw.choices(WORDS, k=4)
    words.insert(draw.randrange(5), animal or draw.choice(ANIMALS))
    if not animal and draw.random() < 0.2:
        words.insert(draw.randrange(6), draw.choice(MARKS))
    return " ".join(words)


def table(draw: random.Random, size: int, label: str) -> str:
    """Sentences with a label that goes by their animal."""
    lines = ["text\tlabel"]
    for number in range(size):
        animal = ANIMALS[number % 3]
        value = {
            "class": animal,
            "classes": f"{animal},{ANIMALS[number % 2]}",
            "number": number % 3,
        }
        lines.append(f"{sentence(draw, animal)}\t{value[label]}")
    return "\n".join(lines) + "\n"


def tagged(draw: random.Random, size: int) -> str:
    """Words with a tag each."""
    sentences = [sentence(draw, draw.choice(ANIMALS)).split() for _ in range(size)]
    rows = [[f"{x} {'B-ANIMAL' if x in ANIMALS else 'O'}" for x in words] for words in sentences]
    return "\n\n".join("\n".join(row) for row in rows) + "\n"


def tagged_chinese(draw: random.Random, size: int) -> str:
    """Characters with a tag each."""
    rows = [
        [f"{x} {'B-ANIMAL' if x in '猫鸡' else 'O'}" for x in draw.choice(CHINESE)]
        for _ in range(size)
    ]
    return "\n\n".join("\n".join(row) for row in rows) + "\n"


def questions(draw: random.Random, size: int) -> str:
    """Each second question has an answer, the animal."""
    articles = []
    for number in range(size):
        animal = draw.choice(ANIMALS) if number % 2 else "mat"
        context = sentence(draw, animal)
        answers = [{"text": animal, "answer_start": context.index(animal)}] if number % 2 else []
        record = {"id": f"q{number}", "question": "the a", "answers": answers}
        record["is_impossible"] = not answers
        articles.append({"paragraphs": [{"context": context, "qas": [record]}]})
    return json.dumps({"data": articles})


def choices(draw: random.Random, size: int) -> str:
    """Two or three endings, the right one has a cat."""
    rows = []
    for number in range(size):
        endings = [sentence(draw, animal) for animal in ("hen", "rat")[: 1 + number % 2]]
        label = draw.randrange(len(endings) + 1)
        endings.insert(label, sentence(draw, "cat"))
        rows.append({"ctx": sentence(draw, "rat"), "endings": endings, "label": label})
    return json_lines(rows)


def passages(draw: random.Random, size: int) -> str:
    """Three passages for each query, one of them right."""
    return json_lines(
        {"query_id": number, "query": query, "passage": sentence(draw, x), "label": x == "cat"}
        for number in range(size)
        for query in [sentence(draw, "hen")]
        for x in draw.sample(ANIMALS, 3)
    )


def relations(draw: random.Random, size: int) -> str:
    """Two entities; the relation goes by which is first."""
    lines = []
    for number in range(size):
        first, second = draw.sample(("cat", "tea"), 2)
        text = f"the <e1>{first}</e1> {draw.choice(WORDS)} <e2>{second}</e2>"
        lines.append(f'{number}\t"{text}"\nR({first},{second})\nComment:\n')
    return "\n".join(lines)


def articles(draw: random.Random, size: int) -> str:
    """Three sentences, the summary is the one with the cat."""
    rows = []
    for _ in range(size):
        sentences = [f"The {animal} {draw.choice(['sat', 'ate'])}." for animal in ANIMALS]
        draw.shuffle(sentences)
        cat = next(x for x in sentences if "cat" in x)
        rows.append({"article": " ".join(sentences), "summary": cat})
    return json_lines(rows)


def json_lines(rows: Iterable[Any]) -> str:
    """An object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


EXAMPLES = {
    "classify": lambda draw, size: table(draw, size, "class"),
    "multilabel": lambda draw, size: table(draw, size, "classes"),
    "regress": lambda draw, size: table(draw, size, "number"),
    "tag": tagged,
    "msra": tagged_chinese,
    "squad2": questions,
    "hellaswag": choices,
    "rerank": passages,
    "relate": relations,
    "summarize": articles,
}


def write_models(folder: Path) -> None:
    """Random parameters of BertForPreTraining in the two formats that others have.

    The names are written out here, so that none comes from the code that reads them.
    """
    import tensorflow as tf

    hidden, inner = SIZES["hidden-size"], SIZES["intermediate-size"]
    shapes = {
        "bert.embeddings.word_embeddings.weight": (len(PIECES), hidden),
        "bert.embeddings.position_embeddings.weight": (LENGTH, hidden),
        "bert.embeddings.token_type_embeddings.weight": (2, hidden),
        "bert.pooler.dense.weight": (hidden, hidden),
        "bert.pooler.dense.bias": (hidden,),
        "cls.predictions.transform.dense.weight": (hidden, hidden),
        "cls.predictions.transform.dense.bias": (hidden,),
        "cls.predictions.bias": (len(PIECES),),
        "cls.seq_relationship.weight": (2, hidden),
        "cls.seq_relationship.bias": (2,),
    }
    norms = ["bert.embeddings.LayerNorm", "cls.predictions.transform.LayerNorm"]
    for number in range(SIZES["num-hidden-layers"]):
        layer = f"bert.encoder.layer.{number}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        for name, outputs, inputs in (
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", inner, hidden),
            ("output.dense", hidden, inner),
        ):
            shapes[f"{layer}.{name}.weight"] = (outputs, inputs)
            shapes[f"{layer}.{name}.bias"] = (outputs,)
    shapes |= {f"{norm}.{part}": (hidden,) for norm in norms for part in ("weight", "bias")}
    config = {name.replace("-", "_"): value for name, value in SIZES.items()}
    config |= {"vocab_size": len(PIECES), "type_vocab_size": 2, "hidden_act": "gelu"}
    config |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    tensors = {}
    for form, seed in (("hf", 1), ("tf1", 2)):
        draw = np.random.default_rng(seed)
        tensors = {
            name: draw.normal(float(name.endswith("LayerNorm.weight")), 0.3, shape).astype("f4")
            for name, shape in shapes.items()
        }
        (folder / form).mkdir(parents=True)
        vocabulary = "".join(f"{piece}\n" for piece in PIECES)
        (folder / form / "vocab.txt").write_text(vocabulary, encoding="utf-8")
        if form == "hf":
            save_file(tensors, folder / form / "model.safetensors")
            config_hf = config | {"architectures": ["BertForPreTraining"], "model_type": "bert"}
            write(folder / form / "config.json", config_hf)
    write(folder / "tf1" / "bert_config.json", config)
    variables = dict(as_tf1(name, tensor) for name, tensor in tensors.items())
    tf.raw_ops.SaveV2(
        prefix=str(folder / "tf1" / "bert_model.ckpt"),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=list(variables.values()),
    )


def as_tf1(name: str, tensor: np.ndarray) -> tuple[str, np.ndarray]:
    """The variable of google-research/bert that a tensor of transformers is."""
    name = name.replace("encoder.layer.", "encoder.layer_").replace(".", "/")
    if "embeddings/weight" in name:
        return name.removesuffix("/weight"), tensor
    if "LayerNorm" in name:
        return name.replace("/weight", "/gamma").replace("/bias", "/beta"), tensor
    if name.startswith("cls/seq_relationship"):
        return name.replace("/weight", "/output_weights").replace("/bias", "/output_bias"), tensor
    if name == "cls/predictions/bias":
        return "cls/predictions/output_bias", tensor
    return name.replace("/weight", "/kernel"), tensor.T if tensor.ndim == 2 else tensor


def pack(folder: Path, private: tuple[str, ...]) -> None:
    """Writes the archive without what nobody reads; no byte of it names this machine."""
    merged = {parts for parts in folder.rglob(PARTS) if is_merged(parts)}
    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            if not path.is_file() or path.suffix == ".png" or LEFT_OUT & set(relative.parts):
                continue
            if merged & set(path.parents):
                continue
            content = path.read_bytes()
            if str(folder).encode() in content:
                path.write_text(content.decode().replace(str(folder), HERE), encoding="utf-8")
            assert not any(word.encode() in path.read_bytes() for word in private), relative
            archive.add(path, str(relative), filter=anonymous)


def is_merged(parts: Path) -> bool:
    """Whether the arrays of a checkpoint can be read without them."""

    def arrays() -> dict[bytes, bytes]:
        store = ts.KvStore.open({"driver": "ocdbt", "base": f"file://{parts.parent}/"}).result()
        return {key: store.read(key).result().value for key in store.list().result()}

    expected, aside = arrays(), parts.with_name("aside")
    parts.rename(aside)
    try:
        return arrays() == expected
    finally:
        aside.rename(parts)


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without owner and time."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
