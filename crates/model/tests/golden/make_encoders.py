#!/usr/bin/env python3
"""Writes encoders.json: hidden states that Hugging Face transformers computes for tiny encoders of every family, in f32.

    pip install torch transformers numpy
    python crates/model/tests/golden/make_encoders.py

Weights and tokens come from the formulas of `make.py`.
"""

import torch
import transformers

from make import TOKENS, VOCABULARY, fill, record, tokens_of, write

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


def main() -> None:
    torch.set_num_threads(1)
    write("encoders.json", [case(name, family, changes) for name, (family, changes) in CASES.items()])


if __name__ == "__main__":
    main()
