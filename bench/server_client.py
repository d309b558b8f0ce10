"""A client of `/v1/completions` that streams and notes when each piece came."""

import asyncio
import json
import time
from dataclasses import dataclass, field


@dataclass
class Answer:
    """Seconds on the clock of `time.perf_counter`."""

    asked: float
    arrivals: list[float] = field(default_factory=list)
    tokens: int = 0
    finished: float = 0.0

    def first_token(self) -> float:
        return self.arrivals[0] - self.asked


async def complete(port: int, model: str, prompt: list[int], tokens: int, never: list[int], answer: Answer) -> Answer:
    """Asks for `tokens` new tokens, greedy; those of `never` cannot be chosen, so that no answer ends early."""
    body = json.dumps(
        {
            "model": model,
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "logit_bias": {str(token): -100 for token in never},
        }
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        answer.asked = time.perf_counter()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        writer.write(head.encode() + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        status = await reader.readline()
        headers = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in status:
            raise RuntimeError(f"{status.decode().strip()}: {(await reader.read(2000)).decode(errors='replace')}")
        async for event in events(reader, b"chunked" in headers.lower()):
            note(answer, event)
        answer.finished = time.perf_counter()
        return answer
    finally:
        writer.close()


def note(answer: Answer, event: dict) -> None:
    if "error" in event:
        raise RuntimeError(f"the server broke off: {event['error']}")
    if event.get("usage"):
        answer.tokens = event["usage"]["completion_tokens"]
    if any(choice.get("text") for choice in event.get("choices", [])):
        answer.arrivals.append(time.perf_counter())


async def events(reader: asyncio.StreamReader, is_chunked: bool):
    """The JSON of each server-sent event, up to `[DONE]`."""
    rest = b""
    async for piece in pieces(reader, is_chunked):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            yield json.loads(data)


async def pieces(reader: asyncio.StreamReader, is_chunked: bool):
    while True:
        if not is_chunked:
            piece = await reader.read(1 << 16)
            if not piece:
                return
            yield piece
            continue
        size = int((await reader.readline()).split(b";")[0] or b"0", 16)
        if size == 0:
            return
        yield await reader.readexactly(size)
        await reader.readline()
