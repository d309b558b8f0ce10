"""What an answer was can be sent back as it is: whole messages, parsed ones, and what streams add up to."""

import asyncio
import copy

import openai
import pytest
from openai import AsyncOpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState
from pydantic import BaseModel, Field

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class City(BaseModel):
    """A city, as a format and as a tool."""

    name: str = Field(max_length=20)
    population: int = Field(le=99_999_999)


def forms(message):
    """Every form in which this client's users keep a message."""
    yield message
    yield message.model_dump()
    yield message.model_dump(exclude_none=True)
    yield message.model_dump(exclude_unset=True)
    yield message.to_dict()
    # A mark for caches, as frameworks add it.
    yield {**message.model_dump(), "cache_control": {"type": "ephemeral"}, "annotations": [], "provider_specific_fields": {"a": 1}}


def added_up(chunks):
    """The deltas of one answer, each field added to what came before, as simple clients do it."""
    message = {}
    for chunk in chunks:
        for choice in chunk.choices:
            merge(message, choice.delta.model_dump())
    return message


def merge(whole, more):
    for name, value in more.items():
        if value is None or name not in whole or whole[name] is None:
            if value is not None or name not in whole:
                whole[name] = copy.deepcopy(value)
        elif name in ("index", "role", "type"):
            whole[name] = value
        elif isinstance(value, str):
            whole[name] += value
        elif isinstance(value, dict):
            merge(whole[name], value)
        elif isinstance(value, list):
            for item in value:
                known = [each for each in whole[name] if each.get("index") == item.get("index")]
                merge(known[0], item) if known else whole[name].append(copy.deepcopy(item))


def accepted(client, model, messages, **more):
    answer = client.chat.completions.create(model=model, messages=messages, max_tokens=1, **more)
    assert answer.usage.prompt_tokens > 0
    return answer.usage.prompt_tokens


def test_answers(client, model):
    options = dict(model=model, messages=QUESTION, temperature=0, max_tokens=12)
    message = client.chat.completions.create(**options).choices[0].message
    follow = [{"role": "user", "content": "Thanks."}]
    counts = {accepted(client, model, [*QUESTION, form, *follow]) for form in forms(message)}
    chunks = list(client.chat.completions.create(**options, stream=True))
    counts.add(accepted(client, model, [*QUESTION, added_up(chunks), *follow]))
    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(chunk)
    for form in forms(state.get_final_completion().choices[0].message):
        counts.add(accepted(client, model, [*QUESTION, form, *follow]))
    assert len(counts) == 1, "every form is the same conversation"


def test_parsed_answers(client, model):
    answer = client.chat.completions.parse(
        model=model, messages=QUESTION, temperature=0, max_tokens=100, response_format=City
    )
    message = answer.choices[0].message
    assert isinstance(message.parsed, City)
    follow = [{"role": "user", "content": "Thanks."}]
    counts = {accepted(client, model, [*QUESTION, form, *follow]) for form in forms(message)}
    assert len(counts) == 1


@pytest.mark.parametrize("tool", [WEATHER, openai.pydantic_function_tool(City)], ids=["plain", "parsed"])
def test_calls(client, model, tool):
    options = dict(model=model, messages=QUESTION, tools=[tool], tool_choice="required", temperature=0, max_tokens=100)
    parsed = client.chat.completions.parse(**options).choices[0].message if "strict" in tool["function"] else None
    message = parsed or client.chat.completions.create(**options).choices[0].message
    calls = message.tool_calls
    results = [{"role": "tool", "tool_call_id": call.id, "content": [{"type": "text", "text": "{}"}]} for call in calls]
    whole = {accepted(client, model, [*QUESTION, form, *results], tools=[tool]) for form in forms(message)}
    chunks = list(client.chat.completions.create(**options, stream=True))
    message = added_up(chunks)
    results = [{"role": "tool", "name": "x", "tool_call_id": call["id"], "content": "{}"} for call in message["tool_calls"]]
    accepted(client, model, [*QUESTION, message, *results], tools=[tool])
    for call in message["tool_calls"]:
        del call["type"]
        call["function"]["arguments"] = ""
    accepted(client, model, [*QUESTION, message, *results], tools=[tool])
    assert len(whole) == 1


def test_what_others_add_to_a_conversation(client, model):
    conversation = [
        {"role": "developer", "content": "Be brief.", "name": "maker", "cache_control": None},
        {"role": "user", "content": [{"type": "text", "text": "1+1?", "cache_control": {"type": "ephemeral"}}], "tool_calls": None},
        {"role": "assistant", "content": [{"type": "reasoning", "text": "Easy."}, {"type": "text", "text": "2"}], "index": 0},
        {"role": "user", "content": "2+2?", "colour": None},
        {"role": "assistant", "content": None, "reasoning_content": "Hm.", "refusal": None, "audio": None, "function_call": None},
        {"role": "user", "content": "3+3?"},
        {"role": "assistant", "content": "", "refusal": "No."},
        {"role": "user", "content": "4+4?"},
    ]
    accepted(client, model, conversation, extra_body={"unknown": None, "reasoning_effort": "none"})


def test_the_asynchronous_client(server, model):
    async def ask():
        # Without the version at the end of the address.
        async with AsyncOpenAI(base_url=server.url, api_key="not-needed", max_retries=0) as client:
            options = dict(model=model, messages=QUESTION, temperature=0, max_tokens=8)
            async with client.chat.completions.stream(**options) as stream:
                final = await stream.get_final_completion()
            for form in forms(final.choices[0].message):
                await client.chat.completions.create(model=model, messages=[*QUESTION, form, *QUESTION], max_tokens=1)

    asyncio.run(ask())
