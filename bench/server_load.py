"""Loads on a server: chats at the same time, and chats that run while a long prompt arrives."""

import asyncio
import time

from server_client import Answer, complete
from workload import token

PROMPT = 119
NEW_TOKENS = 64
LONG_PROMPT = 4000
RUNNING = 15
# More than any server writes while it computes the long prompt.
RUNNING_TOKENS = 800
# Ids below are special tokens.
FIRST_ORDINARY = 64


class Load:
    """No two prompts begin alike, so that none is found in a cache."""

    def __init__(self, port: int, model: str, vocabulary: int, never: list[int], seed: int):
        self.port, self.model, self.vocabulary, self.never = port, model, vocabulary, never
        self.sequence = seed

    def prompt(self, length: int) -> list[int]:
        self.sequence += 1
        ordinary = self.vocabulary - FIRST_ORDINARY
        return [FIRST_ORDINARY + token(position, self.sequence, ordinary) for position in range(length)]

    def ask(self, length: int, tokens: int, answer: Answer):
        return complete(self.port, self.model, self.prompt(length), tokens, self.never, answer)

    def first_token(self) -> None:
        asyncio.run(self.ask(1, 1, Answer(0)))

    def chats(self, count: int) -> dict:
        """Total tokens a second, from the first request to the last answer's end; the slowest first token; and the 99th percentile of the
        gaps between two tokens of an answer."""
        answers = asyncio.run(self._chats(count))
        short = [answer.tokens for answer in answers if answer.tokens != NEW_TOKENS]
        if short:
            raise RuntimeError(f"{len(short)} answers have {short[0]} tokens instead of {NEW_TOKENS}")
        seconds = max(answer.finished for answer in answers) - min(answer.asked for answer in answers)
        return {
            "tok_s": sum(answer.tokens for answer in answers) / seconds,
            "first_token_s": max(answer.first_token() for answer in answers),
            "gap_p99_s": percentile([gap for answer in answers for gap in between(answer)], 0.99),
        }

    async def _chats(self, count: int) -> list[Answer]:
        return await asyncio.gather(*(self.ask(PROMPT, NEW_TOKENS, Answer(0)) for _ in range(count)))

    def gaps(self) -> dict:
        """The 99th percentile of the gaps between tokens of running chats while a long prompt is computed."""
        return asyncio.run(self._gaps())

    async def _gaps(self) -> dict:
        answers = [Answer(0) for _ in range(RUNNING)]
        chats = [asyncio.create_task(self.ask(PROMPT, RUNNING_TOKENS, answer)) for answer in answers]
        while not all(len(answer.arrivals) > 3 for answer in answers):
            failed = next((chat for chat in chats if chat.done()), None)
            if failed:
                failed.result()
                raise RuntimeError("a running chat ended before the long prompt arrived")
            await asyncio.sleep(0.02)
        begun = time.perf_counter()
        long = await self.ask(LONG_PROMPT, 1, Answer(0))
        ended = time.perf_counter()
        if any(chat.done() for chat in chats):
            raise RuntimeError("a running chat ended before the long prompt was computed")
        for chat in chats:
            chat.cancel()
        await asyncio.gather(*chats, return_exceptions=True)
        return {
            "gap_p99_s": percentile([gap for answer in answers for gap in gaps(answer, begun, ended)], 0.99),
            "long_first_token_s": long.first_token(),
        }


def between(answer: Answer) -> list[float]:
    return [later - earlier for earlier, later in zip(answer.arrivals, answer.arrivals[1:])]


def gaps(answer: Answer, begun: float, ended: float) -> list[float]:
    """Gaps that overlap the time from `begun` to `ended`; one that still lasts at its end counts as far as it got."""
    times = [*(arrival for arrival in answer.arrivals if arrival < ended), ended]
    return [later - earlier for earlier, later in zip(times, times[1:]) if later > begun]


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
