# ruff: noqa: INP001 - a script beside its results, not a package
"""Train the demo model: a small Llama-shaped language model on the documentation that ships with CPython.

    PYTHONPATH=src python models/train_demo.py --out models/demo

The text is what the pinned interpreter brings along: `pydoc_data/topics.py` and the docstrings of the standard
library (PSF licence). Nothing is downloaded. Same corpus, same package versions, same processor features: same bytes.
The model exists so that a fresh checkout can stream real tokens; it knows a little English and no facts.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import json
import logging
import random
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from token_service import manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

CORPUS_SHA256 = "78f0cf8ae65e9afbd9cb852ea9cbc470e8252619e1ac47b48ef76d95b6abee27"
"""Of the text that the committed model was trained on (CPython 3.11.2 as packaged by Debian 12)."""

SEED = 20261121
THREADS = 2
CONTEXT = 1024
VOCABULARY = 1536
BOS, EOS, PAD, USER, ASSISTANT, SYSTEM = "<|bos|>", "<|eos|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('role must be system, user or assistant') }}{% endif %}"
    "{{ '<|' ~ message.role ~ '|>' }}{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_SKIPPED = frozenset(
    [
        "site-packages",
        "dist-packages",
        "test",
        "tests",
        "idlelib",
        "lib2to3",
        "distutils",
        "tkinter",
        "turtle",
        "turtledemo",
        "ensurepip",
        "venv",
        "pydoc_data",
        "__pycache__",
        "site",
        "sysconfig",
        "sitecustomize",
    ]
)
"""Not part of libpython3.11-stdlib, or changed by packagers: left out so that every build has the same text."""

_SHORTEST = 60
"""Characters of a paragraph worth keeping; shorter ones are headings and signatures."""

_log = logging.getLogger("train_demo")


@dataclass
class Corpus:
    """Training text: `documents` are running prose, `dialogues` are (question, answer) pairs."""

    documents: list[str] = field(default_factory=list)
    dialogues: list[tuple[str, str]] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """Identity of the text: SHA-256 of its canonical JSON."""
        return hashlib.sha256(json.dumps([self.documents, self.dialogues]).encode()).hexdigest()


def _prose(text: str, seen: set[str]) -> list[str]:
    """Return the paragraphs of `text` that read like sentences and are not in `seen` yet."""
    found = []
    for block in text.split("\n\n"):
        paragraph = " ".join(block.split())
        letters = sum(c.isalpha() or c == " " for c in paragraph)
        if (
            len(paragraph) < _SHORTEST
            or paragraph[-1] not in ".:"
            or letters < 0.86 * len(paragraph)
            or paragraph in seen
        ):
            continue
        seen.add(paragraph)
        found.append(paragraph)
    return found


def _topics(stdlib: Path) -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("topics", stdlib / "pydoc_data" / "topics.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"train_demo: no pydoc_data/topics.py under {stdlib}\n  run: install libpython3.11-stdlib")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.topics)


def _docstrings(stdlib: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield (module name, [(object name, docstring), ...]) for every module of the standard library, sorted."""
    for path in sorted(stdlib.rglob("*.py")):
        parts = path.relative_to(stdlib).with_suffix("").parts
        if _SKIPPED & set(parts) or parts[0].startswith(("_sysconfigdata", "config-")):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:  # lib2to3-style fixtures that are not Python 3
            continue
        named = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = [node for node in ast.walk(tree) if isinstance(node, named)]
        texts = [(getattr(node, "name", parts[-1]), ast.get_docstring(node) or "") for node in nodes]
        yield ".".join(parts), [(name, text) for name, text in texts if text]


def read_corpus(stdlib: Path) -> Corpus:
    """Collect prose and dialogues from a standard library folder such as `/usr/lib/python3.11`."""
    corpus, seen = Corpus(), set[str]()
    for name, text in sorted(_topics(stdlib).items()):
        paragraphs = _prose(text, seen)
        if paragraphs:
            title = text.strip().splitlines()[0].replace('"', "").strip() or name
            corpus.documents.append("\n\n".join(paragraphs))
            corpus.dialogues.append((f"Tell me about {title[0].lower()}{title[1:]}.", "\n\n".join(paragraphs[:3])))
    for module, texts in _docstrings(stdlib):
        found = [(name, _prose(text, seen)) for name, text in texts]
        document = "\n\n".join(p for _, paragraphs in found for p in paragraphs)
        if document:
            corpus.documents.append(document)
        corpus.dialogues += [
            (f"What does {name} do in {module}?", "\n\n".join(p[:2])) for name, p in found if p and name[0] != "_"
        ]
    return corpus


def _tokenizer(corpus: Corpus) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS, USER, ASSISTANT, SYSTEM],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(corpus.documents, trainer)
    bos = core.token_to_id(BOS)
    core.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def _model(corpus_sha256: str, ids: dict[str, int]) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=448,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=ids[BOS],
        eos_token_id=ids[EOS],
        pad_token_id=ids[PAD],
        slipway_corpus={  # type: ignore[call-arg]  # extra keys are kept in config.json
            "sha256": corpus_sha256,
            "licence": "PSF-2.0",
            "origin": "CPython 3.11.2 documentation",
        },
    )
    return LlamaForCausalLM(config)


def _batches(tokenizer: PreTrainedTokenizerFast, corpus: Corpus, rows: int) -> Iterator[torch.Tensor]:
    """Yield int64 tensors of shape (rows, CONTEXT) for ever: the whole corpus, shuffled anew each round."""
    texts = [f"{BOS}{text}{EOS}" for text in corpus.documents]
    texts += [f"{BOS}{USER}{question}{ASSISTANT}{answer}{EOS}" for question, answer in corpus.dialogues]
    pieces = [tokenizer.encode(text, add_special_tokens=False, verbose=False) for text in texts]
    shuffle, stream = random.Random(SEED), list[int]()  # noqa: S311 - shuffling, not secrets
    while True:
        shuffle.shuffle(pieces)
        for piece in pieces:
            stream += piece
            if len(stream) >= rows * CONTEXT:
                yield torch.tensor(stream[: rows * CONTEXT]).view(rows, CONTEXT)
                stream = stream[rows * CONTEXT :]


def train(model: LlamaForCausalLM, batches: Iterator[torch.Tensor], steps: int, report_every: int = 50) -> float:
    """Train `model` in place for `steps` batches and return the last loss in nats per token."""
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps + 1, pct_start=0.05)
    model.train()
    started, loss = time.monotonic(), torch.tensor(0.0)
    for step in range(1, steps + 1):
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16):  # a third faster where the processor knows bfloat16
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % report_every == 0 or step == steps:
            _log.info("step %d/%d loss %.3f %.0f s", step, steps, loss.item(), time.monotonic() - started)
    return float(loss.item())


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    model.half().eval()  # type: ignore[no-untyped-call]
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes 0600, and the service runs as another user
    manifest.write(out)


def main() -> None:
    """Train, save and describe the model in the folder given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write: weights, tokenizer, manifest.json")
    parser.add_argument("--steps", type=int, default=1500, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=4, help="sequences of 1024 tokens per step (default: %(default)s)")
    parser.add_argument(
        "--stdlib",
        type=Path,
        default=Path(sysconfig.get_path("stdlib")),
        help="standard library (default: %(default)s)",
    )
    parser.add_argument("--any-corpus", action="store_true", help="train although the text is not the recorded one")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    corpus = read_corpus(arguments.stdlib)
    if corpus.sha256 != CORPUS_SHA256 and not arguments.any_corpus:
        raise SystemExit(
            f"train_demo: the text under {arguments.stdlib} differs from the one of the committed model\n"
            f"  seen: {corpus.sha256}\n  rule: {CORPUS_SHA256}\n  run: the same command with --any-corpus"
        )
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(mode=True)
    tokenizer = _tokenizer(corpus)
    model = _model(corpus.sha256, tokenizer.get_vocab())
    _log.info("%d characters, %d parameters", sum(map(len, corpus.documents)), model.num_parameters())
    train(model, _batches(tokenizer, corpus, arguments.rows), arguments.steps)
    _save(model, tokenizer, arguments.out)


if __name__ == "__main__":
    main()
