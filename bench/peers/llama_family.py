"""Measures a library with llama.cpp's interface of batches: llama.cpp itself and its fork ik_llama.cpp.

A subclass says how a model and a context are made and what else the two call differently. Arrays are filled before the
clock starts where their content is known; in answers the next token is the argmax of the logits, as in greedy sampling.
"""

import time

import numpy

from workload import Test, prompt, prompts, token

# Tokens given to one call; the library cuts them into pieces of its own (`n_ubatch`).
CALL_TOKENS = 2048


class LlamaFamily:
    """`library` is the module with the C functions; `clear`, `load_model` and `make_context` differ."""

    library = None

    def load(self, path: str, vocabulary: int, threads: int, tests: list[Test]) -> float:
        self.vocabulary, self.threads = vocabulary, threads
        self.contexts = {}
        started = time.perf_counter()
        self.model = self.load_model(path)
        for test in tests:
            self.context(test)
        return time.perf_counter() - started

    def run(self, test: Test) -> float:
        context = self.context(test)
        self.clear(context)
        return {"prefill": self.prefill, "decode": self.decode, "answers": self.answers}[test.kind](context, test)

    def context(self, test: Test):
        """A context with room for the test; one for single sequences, one for each number of sequences."""
        length = test.prompt + test.tokens
        length = -(-length // 256) * 256
        known = self.contexts.get(test.batch)
        if known is None or known[1] < length:
            self.contexts[test.batch] = known = (self.make_context(test.batch, length), length)
        return known[0]

    def sized(self, parameters, sequences: int, length: int):
        """A context's parameters with the sizes and threads that both libraries get."""
        parameters.n_ctx = sequences * length
        parameters.n_batch = CALL_TOKENS
        parameters.n_ubatch = 512
        parameters.n_seq_max = sequences
        parameters.n_threads = parameters.n_threads_batch = self.threads
        return parameters

    def prefill(self, context, test: Test) -> float:
        tokens = prompt(test.tokens, 0, self.vocabulary)
        rows = [(token, position, 0, position == test.tokens - 1) for position, token in enumerate(tokens)]
        batches = [self.fill(rows[at : at + CALL_TOKENS]) for at in range(0, len(rows), CALL_TOKENS)]
        last = batches[-1].n_tokens - 1
        started = time.perf_counter()
        for batch in batches:
            self.step(context, batch)
        self.library.llama_get_logits_ith(context, last)
        return time.perf_counter() - started

    def decode(self, context, test: Test) -> float:
        batches = [
            self.fill(
                [
                    (token(position, sequence, self.vocabulary), position, sequence, True)
                    for sequence in range(test.batch)
                ]
            )
            for position in range(test.tokens)
        ]
        started = time.perf_counter()
        for batch in batches:
            self.step(context, batch)
            self.library.llama_get_logits_ith(context, test.batch - 1)
        return time.perf_counter() - started

    def answers(self, context, test: Test) -> float:
        rows = [
            (token, position, sequence, position == test.prompt - 1)
            for sequence, tokens in enumerate(prompts(test, self.vocabulary))
            for position, token in enumerate(tokens)
        ]
        batches = [rows[at : at + CALL_TOKENS] for at in range(0, len(rows), CALL_TOKENS)]
        filled = [self.fill(batch) for batch in batches]
        following = [0] * test.batch
        started = time.perf_counter()
        for batch, part in zip(filled, batches):
            self.step(context, batch)
            for index, (_, _, sequence, is_last) in enumerate(part):
                if is_last:
                    following[sequence] = self.greedy(context, index)
        for position in range(test.prompt, test.prompt + test.tokens - 1):
            self.step(
                context, self.fill([(token, position, sequence, True) for sequence, token in enumerate(following)])
            )
            following = [self.greedy(context, index) for index in range(test.batch)]
        return time.perf_counter() - started

    def greedy(self, context, index: int) -> int:
        logits = self.library.llama_get_logits_ith(context, index)
        return int(numpy.ctypeslib.as_array(logits, (self.vocabulary,)).argmax())

    def fill(self, rows):
        batch = self.library.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for index, (token, position, sequence, wants_logits) in enumerate(rows):
            batch.token[index] = token
            batch.pos[index] = position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequence
            batch.logits[index] = wants_logits
        return batch

    def step(self, context, batch) -> None:
        """Computes a batch and frees it."""
        tokens = batch.n_tokens
        failed = self.library.llama_decode(context, batch)
        self.library.llama_batch_free(batch)
        if failed:
            raise RuntimeError(f"llama_decode refused {tokens} tokens with code {failed}")
