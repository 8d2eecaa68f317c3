"""Make the benchmark's model: a random Llama of realistic size, and a tokenizer whose every token is readable text.

    PYTHONPATH=src:. python -m bench.serving.weights FOLDER [--small]

Runs in the service's environment. Same packages, same bytes. There is no end-of-sequence token, so that every answer
has exactly the length that was asked for.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from token_service import manifest

SEED = 20261121
VOCABULARY = 32000
CONTEXT = 2048
_SPACE = "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"
"""How a byte-level vocabulary writes a space."""
_TEMPLATE = "{% for message in messages %}{{ message.role ~ ': ' ~ message.content ~ '\n' }}{% endfor %}"


def _merges() -> list[tuple[str, str]]:
    """Return merges that make one token of a space and up to three letters, then of up to three letters without one."""
    letters = string.ascii_lowercase
    pairs = ["".join(pair) for pair in itertools.product(letters, repeat=2)]
    merges = [(_SPACE, letter) for letter in letters]
    merges += [(_SPACE + pair[0], pair[1]) for pair in pairs]
    merges += [(_SPACE + pair, letter) for pair in pairs for letter in letters]
    merges += [(pair[0], pair[1]) for pair in pairs]
    merges += [(pair, letter) for pair in pairs for letter in letters]
    return merges


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with `VOCABULARY` tokens, one of them padding."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _merges()[: VOCABULARY - len(alphabet) - 1]
    words = ["<|pad|>", *alphabet, *(first + second for first, second in merges)]
    core = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        pad_token="<|pad|>",  # noqa: S106 - a token of a vocabulary
        model_max_length=CONTEXT,
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def make_model(*, small: bool) -> LlamaForCausalLM:
    """Return a random Llama of 100 million parameters, or of 25 million."""
    torch.manual_seed(SEED)
    config = LlamaConfig(
        hidden_size=384 if small else 768,
        num_hidden_layers=8 if small else 12,
        num_attention_heads=6 if small else 12,
        num_key_value_heads=2 if small else 4,
        intermediate_size=1024 if small else 2048,
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    model.eval()  # type: ignore[no-untyped-call]
    model.generation_config = GenerationConfig(pad_token_id=0)  # type: ignore[no-untyped-call]
    return model


def make(folder: Path, *, small: bool) -> None:
    """Write model, tokenizer and manifest to `folder`, replacing what an interrupted run left."""
    half = folder.with_name(f"{folder.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    make_model(small=small).save_pretrained(half)
    make_tokenizer().save_pretrained(half)
    for file in half.iterdir():
        file.chmod(0o644)  # a container reads it as another user
    manifest.write(half)
    shutil.rmtree(folder, ignore_errors=True)
    half.rename(folder)


def main() -> None:
    """Run the command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true", help="25 million parameters: for a look, not for figures")
    options = parser.parse_args()
    make(options.folder, small=options.small)


if __name__ == "__main__":
    main()
