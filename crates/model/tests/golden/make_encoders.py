#!/usr/bin/env python3
"""Writes encoders.json: hidden states that Hugging Face transformers computes for tiny encoders of every family, in f32; and embedders.json:
vectors that sentence-transformers computes with tiny decoders.

    pip install torch transformers numpy sentence-transformers
    python crates/model/tests/golden/make_encoders.py

Weights and tokens come from the formulas of `make.py`.
"""

import json
import pathlib
import tempfile

import torch
import transformers
from sentence_transformers import SentenceTransformer, models
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel

from make import SIZES as DECODER_SIZES
from make import TOKENS, VOCABULARY, fill, record, tokens_of, values_of, write

POSITIONS = [0, 16, 47]
SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=56,
)
CASES = {
    "bert": ("Bert", dict()),
    "bert, one head, one type": ("Bert", dict(num_attention_heads=1, type_vocab_size=1, layer_norm_eps=1e-5, num_hidden_layers=1)),
    # Among the 48 tokens there are some that are the padding token 1.
    "xlm-roberta": ("XLMRoberta", dict(pad_token_id=1, type_vocab_size=1, layer_norm_eps=1e-5)),
    "roberta": ("Roberta", dict(pad_token_id=3, type_vocab_size=1, layer_norm_eps=1e-5)),
}


def case(name: str, family: str, changes: dict) -> dict:
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **changes}, architectures=[f"{family}Model"])
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{family}Model")(config, add_pooling_layer=False).float().eval()
    fill(model)
    tokens = tokens_of(name)
    assert family == "Bert" or config.pad_token_id in tokens, name
    with torch.no_grad():
        hidden = model(torch.tensor([tokens]), attention_mask=torch.ones(1, TOKENS)).last_hidden_state[0]
    return record(name, config, tokens, POSITIONS, hidden=hidden)


# Tokens of each text before the one that ends it; the library computes them as one batch, padded.
LENGTHS = [5, 1, 23, 40]
# Family, settings, whether the model has a head, how hidden states are pooled, whether vectors are normalised.
EMBEDDERS = {
    "qwen3, last token, normalised": ("Qwen3", dict(head_dim=24), True, "lasttoken", True),
    "qwen3 without a head, last token": ("Qwen3", dict(head_dim=16), False, "lasttoken", False),
    "llama, tied, mean": ("Llama", dict(tie_word_embeddings=True), True, "mean", False),
    "llama without a head, mean, normalised": ("Llama", dict(), False, "mean", True),
    "mistral without a head, with a window, last token, normalised": ("Mistral", dict(sliding_window=8), False, "lasttoken", True),
    "qwen3, tied, first token": ("Qwen3", dict(head_dim=16, tie_word_embeddings=True), True, "cls", False),
}


def word(token: int) -> str:
    """Of which no other token's word is a part: control tokens are found anywhere in a text."""
    return f"<{token}>"


def save_words(folder: pathlib.Path) -> None:
    """A tokenizer whose words are the tokens' numbers; the last token ends a text."""
    tokenizer = Tokenizer(WordLevel({word(token): token for token in range(VOCABULARY)}, unk_token=word(0)))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    last = word(VOCABULARY - 1)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {last}", special_tokens=[(last, VOCABULARY - 1)])
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=word(0), eos_token=last).save_pretrained(folder)


def embedder(name: str, family: str, changes: dict, has_head: bool, pooling: str, normalises: bool) -> dict:
    config = getattr(transformers, f"{family}Config")(**{**DECODER_SIZES, **changes}, pad_token_id=None)
    model = getattr(transformers, f"{family}ForCausalLM" if has_head else f"{family}Model")(config).float().eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            spelled = parameter_name if has_head else f"model.{parameter_name}"
            parameter.copy_(torch.from_numpy(values_of(spelled, parameter.shape, config)))
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        model.save_pretrained(folder)
        save_words(folder)
        modules = [models.Transformer(place), models.Pooling(config.hidden_size, pooling_mode=pooling)]
        library = SentenceTransformer(modules=modules + [models.Normalize()] * normalises, device="cpu")
        tokens = tokens_of(name)
        texts = [tokens[:length] for length in LENGTHS]
        words = [" ".join(map(word, text)) for text in texts]
        read = [library.tokenizer(text)["input_ids"] for text in words]
        assert read == [text + [VOCABULARY - 1] for text in texts], f"{name}: the library reads other tokens"
        vectors = library.encode(words, batch_size=len(words))
        saved = json.loads((folder / "config.json").read_text())
    return {
        "name": name,
        "config": saved,
        "pooling": pooling,
        "normalises": normalises,
        "texts": [text + [VOCABULARY - 1] for text in texts],
        "vectors": [[float(f"{value:.8g}") for value in vector] for vector in vectors.tolist()],
    }


def main() -> None:
    torch.set_num_threads(1)
    write("encoders.json", [case(name, family, changes) for name, (family, changes) in CASES.items()])
    write("embedders.json", [embedder(name, *settings) for name, settings in EMBEDDERS.items()])


if __name__ == "__main__":
    main()
