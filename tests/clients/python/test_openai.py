"""The official Python client against the real server."""

import asyncio
import inspect
import json
import typing
import urllib.request

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import completion_create_params as chat_params
from openai.types import completion_create_params as completion_params

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}


def test_models(client, model):
    assert client.models.retrieve(model).id == model
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("no-such-model")
    assert error.value.code == "model_not_found"


def test_an_answer_makes_sense(client, model):
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=40)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.object == "chat.completion"
    assert answer.system_fingerprint
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    again = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=40)
    assert again.choices[0].message.content == answer.choices[0].message.content
    assert again.system_fingerprint == answer.system_fingerprint


def test_a_stream_says_the_same(client, model):
    options = dict(model=model, messages=QUESTION, temperature=0.8, seed=11, max_tokens=30)
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_the_clients_own_stream_helper(client, model):
    with client.chat.completions.stream(model=model, messages=QUESTION, temperature=0, max_tokens=20) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "content.delta" in kinds
    assert final.choices[0].message.content


def test_choices_differ_and_repeat(client, model):
    options = dict(model=model, messages=QUESTION, n=3, seed=5, temperature=1.2, max_tokens=16)
    one, two = client.chat.completions.create(**options), client.chat.completions.create(**options)
    texts = [choice.message.content for choice in one.choices]
    assert texts == [choice.message.content for choice in two.choices]
    assert len(set(texts)) > 1


def test_logprobs(client, model):
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_tokens=8, logprobs=True, top_logprobs=5
    )
    tokens = answer.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode().startswith(answer.choices[0].message.content)
    for token in tokens:
        assert len(token.top_logprobs) == 5
        assert token.logprob == max(top.logprob for top in token.top_logprobs)


def test_json_schema(client, model):
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "population": {"type": "integer", "maximum": 99999999}},
        "required": ["city", "population"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=model,
        messages=QUESTION,
        temperature=0,
        max_tokens=120,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": schema}},
    )
    value = json.loads(answer.choices[0].message.content)
    assert set(value) == {"city", "population"} and isinstance(value["population"], int)


def test_json_object(client, model):
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_tokens=200, response_format={"type": "json_object"}
    )
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)


def test_extensions(client, model):
    answer = client.completions.create(
        model=model, prompt="Is water wet? ", temperature=0, extra_body={"grammar": 'start: "yes" | "no"'}
    )
    assert answer.choices[0].text in ("yes", "no")
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=8, extra_body={"regex": "[A-Z]{4}", "top_k": 40, "min_p": 0.05}
    )
    assert len(answer.choices[0].message.content) == 4


def test_a_named_tool(client, model):
    options = dict(
        model=model,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        temperature=0,
        max_tokens=200,
    )
    answer = client.chat.completions.create(**options)
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert set(arguments) == {"city", "unit"}

    deltas = [
        delta
        for chunk in client.chat.completions.create(**options, stream=True)
        for delta in (chunk.choices[0].delta.tool_calls or [])
    ]
    assert deltas[0].function.name == "get_weather" and deltas[0].id
    assert json.loads("".join(delta.function.arguments for delta in deltas)) == arguments

    messages = options["messages"] + [
        answer.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 21}'},
    ]
    final = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER], tool_choice="none", max_tokens=20)
    assert final.choices[0].message.tool_calls is None


def test_required_and_automatic_tools(client, model):
    messages = [{"role": "user", "content": "Weather in Rome, please."}]
    required = client.chat.completions.create(
        model=model, messages=messages, tools=[WEATHER], tool_choice="required", temperature=0, max_tokens=200
    )
    assert required.choices[0].message.tool_calls[0].function.name == "get_weather"
    auto = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER], temperature=0, max_tokens=60)
    assert auto.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_completions_with_echo_and_scores(client, model):
    answer = client.completions.create(model=model, prompt="The sky is", echo=True, logprobs=3, max_tokens=4, temperature=0)
    choice = answer.choices[0]
    assert choice.text.startswith("The sky is")
    report = choice.logprobs
    assert len(report.tokens) == len(report.token_logprobs) == len(report.text_offset) == len(report.top_logprobs)
    assert report.token_logprobs[0] is None and all(logprob <= 0 for logprob in report.token_logprobs[1:])
    assert "".join(report.tokens) == choice.text
    for token, offset in zip(report.tokens, report.text_offset):
        assert choice.text[offset : offset + len(token)] == token


def test_completions_of_several_prompts_streamed(client, model):
    options = dict(model=model, prompt=["One, two,", "Red, green,"], max_tokens=6, temperature=0)
    whole = client.completions.create(**options)
    texts = ["", ""]
    for chunk in client.completions.create(**options, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in whole.choices]


def test_a_repeated_beginning_is_found_in_the_cache(client, model):
    long = [{"role": "system", "content": "You are a helpful assistant. " * 20}, *QUESTION]
    client.chat.completions.create(model=model, messages=long, max_tokens=1)
    again = client.chat.completions.create(model=model, messages=long, max_tokens=1)
    assert again.usage.prompt_tokens_details.cached_tokens > 0


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"temperature": 3}, "temperature", "between 0 and 2"),
        ({"max_tokens": 0}, "max_tokens", "from 1"),
        ({"max_tokens": 100_000}, "max_tokens", "1024"),
        ({"messages": []}, "messages", "at least one"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content[0].type", "text only"),
        ({"extra_body": {"temprature": 1}}, "temprature", "did you mean `temperature`"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias", "99999999"),
        ({"stop": [""]}, "stop[0]", "empty"),
        ({"reasoning_effort": "high"}, "reasoning_effort", "does not think"),
    ],
)
def test_wrong_requests_are_named(client, model, change, param, words):
    options = {"model": model, "messages": QUESTION, **change}
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**options)
    assert error.value.param == param
    assert words in error.value.message


def test_another_model_is_never_used_instead(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert error.value.code == "model_not_found" and "gpt-4o" in error.value.message


def test_leaving_a_stream_cancels_it(server, client, model):
    before = server.metric("zhenjin_generations_total")
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Count from 1 to 500."}], stream=True, max_tokens=900, logit_bias={"2": -100}
    )
    next(iter(stream))
    stream.close()
    server.wait_for(lambda: server.metric("zhenjin_generations_total") == before + 1 and server.metric("zhenjin_running") == 0)


def test_many_at_once_answer_as_one_alone(server, model):
    async def ask(client, index):
        answer = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": f"Tell me about the number {index % 4}."}], temperature=0, max_tokens=24
        )
        return index % 4, answer.choices[0].message.content

    async def all_at_once():
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0, timeout=240) as client:
            alone = dict([await ask(client, index) for index in range(4)])
            together = await asyncio.gather(*(ask(client, index) for index in range(12)))
        return alone, together

    alone, together = asyncio.run(all_at_once())
    for index, text in together:
        assert text == alone[index]


def test_every_field_of_the_client_is_known(server):
    """A field that the client library can send is in this server's own description: honoured, without effect, or refused."""
    with urllib.request.urlopen(f"{server.url}/openapi.json") as response:
        schemas = json.load(response)["components"]["schemas"]
    for params, schema in [
        (chat_params.CompletionCreateParamsStreaming, "ChatCompletionRequest"),
        (completion_params.CompletionCreateParamsStreaming, "CompletionRequest"),
    ]:
        unknown = set(typing.get_type_hints(params)) - set(schemas[schema]["properties"])
        assert not unknown, f"{inspect.getmodule(params).__name__}: {unknown}"
