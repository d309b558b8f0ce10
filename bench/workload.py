"""What is measured: the tests, the token ids they use, and which of them run with which type of weights.

The token ids are those of `zhenjin bench`, so that every program computes the same.
"""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Test:
    """`tokens` of each of `batch` sequences; `prompt` is the prompts' length of answers."""

    kind: str
    tokens: int
    batch: int = 1
    prompt: int = 0

    def label(self) -> str:
        if self.kind == "prefill":
            return f"prefill {self.tokens:,} tokens"
        if self.kind == "decode":
            sequences = "1 sequence" if self.batch == 1 else f"{self.batch} sequences"
            return f"decode only, {sequences}, {self.tokens} tokens each"
        return f"{self.batch} answers of {self.tokens} tokens with prompts of {self.prompt}"

    def counted_tokens(self) -> int:
        """Tokens by which a speed is meant: those of the prompt, or the new ones."""
        return self.tokens * self.batch

    def as_dict(self) -> dict:
        return asdict(self)


PREFILL = Test("prefill", 512)
LONG_PREFILL = Test("prefill", 4096)
DECODE = Test("decode", 64)
BATCHED = [Test("decode", 64, 16), Test("decode", 64, 32)]
ANSWERS = [Test("answers", 64, 16, 100), Test("answers", 64, 32, 100)]
FIRST_TOKEN = Test("prefill", 1)

# What is measured while other processes want the processors too: every stretch of `WINDOW` seconds out of `BUSY` seconds.
BUSY_TESTS = [DECODE, PREFILL]
BUSY = 20.0
WINDOW = 5.0

# The first of the models is measured in every way, other models by one prompt and one answer; the types of weights of the first that only prompts
# are compared for are named.
PREFILL_ONLY = {"Q4_0", "Q4_K_M"}


def tests_for(file_type: str, is_first: bool, is_another: bool) -> list[Test]:
    if is_first:
        return [PREFILL, LONG_PREFILL, DECODE, *BATCHED, *ANSWERS]
    return [PREFILL] if file_type in PREFILL_ONLY and not is_another else [PREFILL, DECODE]


def token(position: int, sequence: int, vocabulary: int) -> int:
    return (position * 7919 + sequence * 104_729 + 13) % vocabulary


def prompt(length: int, sequence: int, vocabulary: int) -> list[int]:
    return [token(position, sequence, vocabulary) for position in range(length)]


def prompts(test: Test, vocabulary: int) -> list[list[int]]:
    """The prompts of answers. `zhenjin bench` warms up with the first `batch` sequences and measures the next ones."""
    return [prompt(test.prompt, test.batch + index, vocabulary) for index in range(test.batch)]
