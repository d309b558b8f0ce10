#!/usr/bin/env python3
"""Measures perplexity with llama.cpp itself, to compare with `zhenjin perplexity`.

    pip install llama-cpp-python==0.3.36 numpy
    python scripts/perplexity_llama_cpp.py MODEL.gguf TEXT --ctx 512 [--chunks N]
    zhenjin perplexity MODEL.gguf TEXT --ctx 512 [--chunks N]

llama-cpp-python carries the library, but not the `llama-perplexity` program, so this repeats the program's loop
(tools/perplexity/perplexity.cpp): windows that do not overlap, the second half of each scored, a beginning-of-text token
in place of each window's first if the tokenizer adds one.
"""

import argparse
import ctypes
import math
import os
import pathlib
import sys

import llama_cpp
import numpy

@llama_cpp.llama_log_callback
def silent(_level, _text, _data):
    pass


def tokenise(vocabulary, text: bytes) -> list[int]:
    room = len(text) + 16
    tokens = (llama_cpp.llama_token * room)()
    count = llama_cpp.llama_tokenize(vocabulary, text, len(text), tokens, room, True, False)
    if count < 0:
        sys.exit("llama.cpp could not tokenise the text")
    return list(tokens[:count])


def negative_log_likelihoods(logits: numpy.ndarray, truth: numpy.ndarray) -> numpy.ndarray:
    shifted = logits.astype(numpy.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return numpy.log(numpy.exp(shifted).sum(axis=1)) - shifted[numpy.arange(len(truth)), truth]


def perplexity(arguments: argparse.Namespace) -> None:
    window, first = arguments.ctx, arguments.ctx // 2
    model = llama_cpp.llama_model_load_from_file(arguments.model.encode(), llama_cpp.llama_model_default_params())
    if not model:
        sys.exit(f"llama.cpp could not load {arguments.model}")
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = window
    parameters.n_threads = parameters.n_threads_batch = arguments.threads
    context = llama_cpp.llama_init_from_model(model, parameters)
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    width = llama_cpp.llama_vocab_n_tokens(vocabulary)
    adds_bos = llama_cpp.llama_vocab_get_add_bos(vocabulary)
    bos = llama_cpp.llama_vocab_bos(vocabulary)

    tokens = tokenise(vocabulary, pathlib.Path(arguments.file).read_bytes())
    if len(tokens) < 2 * window:
        sys.exit(f"the text has {len(tokens)} tokens, but windows of {window} need at least {2 * window}")
    windows = len(tokens) // window
    if arguments.chunks is not None:
        windows = min(windows, arguments.chunks)

    batch = llama_cpp.llama_batch_init(window, 0, 1)
    scores = []
    for index in range(windows):
        scored = tokens[index * window : (index + 1) * window]
        batch.n_tokens = window
        for position, token in enumerate(scored):
            batch.token[position] = bos if adds_bos and position == 0 else token
            batch.pos[position] = position
            batch.n_seq_id[position] = 1
            batch.seq_id[position][0] = 0
            batch.logits[position] = position >= first
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        if llama_cpp.llama_decode(context, batch):
            sys.exit(f"llama.cpp failed in window {index}")
        logits = numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, first), (window - first, width))
        scores.append(negative_log_likelihoods(logits[:-1], numpy.array(scored[first + 1 :])))
        print(f"\r{index + 1}/{windows} windows", end="", file=sys.stderr)
    print(file=sys.stderr)
    scores = numpy.concatenate(scores)
    figure = math.exp(scores.mean())
    error = figure * scores.std() / math.sqrt(len(scores) - 1)
    print(f"perplexity {figure:.4f} ± {error:.4f} over {len(scores)} scored tokens in {windows} windows of {window}")
    if arguments.tokens:
        pathlib.Path(arguments.tokens).write_text("\n".join(map(str, tokens)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("file")
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--chunks", type=int)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokens", help="write the token ids to this file")
    arguments = parser.parse_args()
    llama_cpp.llama_log_set(silent, None)
    llama_cpp.llama_backend_init()
    perplexity(arguments)


if __name__ == "__main__":
    main()
