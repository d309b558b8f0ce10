"""OpenVINO GenAI, which reads GGUF files: its pipeline with continuous batching, stepped by hand."""

import time

import numpy
import openvino
import openvino_genai

from peers.protocol import serve
from workload import Test, prompt, prompts, token


class OpenVino:
    def describe(self) -> dict:
        return {
            "version": f"openvino-genai {openvino_genai.__version__}",
            "settings": {
                "kv_cache": "u8",
                "activations": "its default for CPUs: quantised dynamically in groups where the weights are",
                "flags": "INFERENCE_PRECISION_HINT f32, PERFORMANCE_HINT LATENCY, prefix caching off",
                "build": "wheel; chooses instructions at run time",
            },
        }

    def load(self, path: str, vocabulary: int, threads: int, tests: list[Test]) -> float:
        self.vocabulary = vocabulary
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = False
        scheduler.max_num_batched_tokens = 512
        scheduler.cache_size = 1
        properties = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "KV_CACHE_PRECISION": "u8",
        }
        started = time.perf_counter()
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(path, scheduler, "CPU", properties)
        return time.perf_counter() - started

    def run(self, test: Test) -> float:
        return {"prefill": self.prefill, "decode": self.decode, "answers": self.answers}[test.kind](test)

    def prefill(self, test: Test) -> float:
        started = time.perf_counter()
        self.ask([prompt(test.tokens, 0, self.vocabulary)], 1)
        self.finish()
        return time.perf_counter() - started

    def decode(self, test: Test) -> float:
        self.ask([[token(0, index, self.vocabulary)] for index in range(test.batch)], test.tokens + 1)
        # The first step computes the prompts of one token.
        self.pipeline.step()
        started = time.perf_counter()
        for _ in range(test.tokens):
            self.pipeline.step()
        seconds = time.perf_counter() - started
        if self.pipeline.has_non_finished_requests():
            self.finish()
            raise RuntimeError(f"{test.batch} sequences were not decoded together, so that no step can be timed")
        return seconds

    def answers(self, test: Test) -> float:
        inputs = prompts(test, self.vocabulary)
        started = time.perf_counter()
        self.ask(inputs, test.tokens)
        self.finish()
        return time.perf_counter() - started

    def ask(self, inputs: list[list[int]], new_tokens: int) -> None:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = new_tokens
        config.ignore_eos = True
        config.do_sample = False
        tensors = [openvino.Tensor(numpy.array([tokens], dtype=numpy.int64)) for tokens in inputs]
        # A request whose handle is dropped is cancelled.
        self.handles = [self.pipeline.add_request(index, tensor, config) for index, tensor in enumerate(tensors)]

    def finish(self) -> None:
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()


if __name__ == "__main__":
    serve(OpenVino())
