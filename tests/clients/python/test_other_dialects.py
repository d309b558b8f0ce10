"""The other APIs' own Python clients against the real server: Responses, Anthropic's, Ollama's."""

import asyncio
import json

import anthropic
import ollama
import pytest
from agents import Agent, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI, BadRequestError
from pydantic import BaseModel
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.models.openai import OpenAIResponsesModel as PydanticResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

# What Anthropic's client no longer has a parameter for.
GREEDY = {"temperature": 0}
FRANCE = "What is the capital of France? Answer in one sentence."
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}


class Capital(BaseModel):
    city: str
    country: str


# Responses


def test_responses_whole_and_streamed(client, model):
    whole = client.responses.create(model=model, input=FRANCE, temperature=0, max_output_tokens=40)
    assert "Paris" in whole.output_text and whole.status == "completed" and whole.error is None
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    with client.responses.stream(model=model, input=FRANCE, temperature=0, max_output_tokens=40) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.output_text == whole.output_text
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text


def test_responses_parse(client, model):
    answer = client.responses.parse(
        model=model, input="The capital of Italy, and its country.", text_format=Capital, temperature=0, max_output_tokens=80
    )
    assert isinstance(answer.output_parsed, Capital)


def test_responses_tools_and_what_came_is_taken_back(client, model):
    tool = {"type": "function", "name": "weather", "description": "The weather.", "parameters": CITY, "strict": True}
    asked = [{"role": "user", "content": "What is the weather in Rome?"}]
    options = dict(model=model, tools=[tool], temperature=0, max_output_tokens=60)
    answer = client.responses.create(**options, input=asked, tool_choice="required")
    call = next(item for item in answer.output if item.type == "function_call")
    assert json.loads(call.arguments)["city"] in ("Rome", "Oslo")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    for items in (answer.output, [item.model_dump() for item in answer.output]):
        again = client.responses.create(**options, input=[*asked, *items, result], tool_choice="none")
        assert again.output_text


def test_responses_refuse_by_name(client, model):
    for wrong in (dict(previous_response_id="resp_1"), dict(store=True), dict(truncation="auto"), dict(background=True)):
        with pytest.raises(BadRequestError) as error:
            client.responses.create(model=model, input="x", **wrong)
        assert error.value.param == next(iter(wrong))


def test_openai_agents_at_their_defaults(server, model):
    set_tracing_disabled(True)
    asked = []

    @function_tool
    def weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "sunny, 21 degrees"

    async def run():
        client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="not-needed", max_retries=0)
        answers = OpenAIResponsesModel(model=model, openai_client=client)
        plain = Agent(name="Helper", instructions="Answer briefly.", model=answers)
        first = await Runner.run(plain, FRANCE)
        more = await Runner.run(plain, first.to_input_list() + [{"role": "user", "content": "And of Italy?"}])
        streamed = Runner.run_streamed(plain, FRANCE)
        kinds = {event.type async for event in streamed.stream_events()}
        return first.final_output, more.final_output, streamed.final_output, kinds

    first, more, streamed, kinds = asyncio.run(run())
    assert first and more and streamed and "raw_response_event" in kinds


def test_pydantic_ai_at_its_defaults(server, model):
    provider = OpenAIProvider(base_url=f"{server.url}/v1", api_key="not-needed")
    agent = PydanticAgent(PydanticResponsesModel(model, provider=provider), instructions="Answer briefly.")
    first = agent.run_sync(FRANCE)
    assert first.output
    assert agent.run_sync("And of Italy?", message_history=first.all_messages()).output


# Anthropic's


@pytest.fixture(scope="module")
def claude(server):
    return anthropic.Anthropic(base_url=server.url, api_key="not-needed", max_retries=0, timeout=240)


def test_anthropic_whole_and_streamed(claude, model):
    options = dict(
        model=model, max_tokens=40, extra_body=GREEDY, system="Answer briefly.", messages=[{"role": "user", "content": FRANCE}]
    )
    whole = claude.messages.create(**options)
    assert "Paris" in whole.content[0].text
    # Whether the model has come to an end within the limit is its own affair.
    assert whole.stop_reason == ("max_tokens" if whole.usage.output_tokens == 40 else "end_turn")
    with claude.messages.stream(**options) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text and final.usage.output_tokens == whole.usage.output_tokens
    counted = claude.messages.count_tokens(
        model=model, system="Answer briefly.", messages=[{"role": "user", "content": FRANCE}]
    )
    assert counted.input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens
    assert claude.models.list().data[0].id == model


def test_anthropic_tools(claude, model):
    tools = [{"name": "weather", "description": "The weather.", "input_schema": CITY}]
    asked = {"role": "user", "content": "What is the weather in Rome?"}
    options = dict(model=model, max_tokens=60, extra_body=GREEDY, tools=tools)
    # One call: how many a small model would add is its own affair.
    one = {"disable_parallel_tool_use": True}
    answer = claude.messages.create(**options, messages=[asked], tool_choice={"type": "any", **one})
    assert answer.stop_reason == "tool_use"
    call = next(block for block in answer.content if block.type == "tool_use")
    assert call.input["city"] in ("Rome", "Oslo")
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]}
    again = claude.messages.create(**options, messages=[asked, {"role": "assistant", "content": answer.content}, result])
    assert again.content
    with claude.messages.stream(**options, messages=[asked], tool_choice={"type": "tool", "name": "weather", **one}) as stream:
        final = stream.get_final_message()
    assert next(block for block in final.content if block.type == "tool_use").input["city"] in ("Rome", "Oslo")


def test_anthropic_errors(claude, model):
    with pytest.raises(anthropic.NotFoundError) as error:
        claude.messages.create(model="none", max_tokens=5, messages=[{"role": "user", "content": "x"}])
    assert error.value.body["error"]["type"] == "not_found_error" and error.value.request_id
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.create(model=model, max_tokens=0, messages=[{"role": "user", "content": "x"}])


# Ollama's


@pytest.fixture(scope="module")
def llama(server):
    return ollama.Client(host=server.url, timeout=240)


def test_ollama_chat_and_generate(llama, model):
    options = {"temperature": 0, "num_predict": 40, "num_ctx": 4096}
    messages = [{"role": "user", "content": FRANCE}]
    whole = llama.chat(model=model, messages=messages, options=options)
    assert "Paris" in whole.message.content and whole.done and whole.total_duration >= whole.eval_duration > 0
    pieces = list(llama.chat(model=model, messages=messages, options=options, stream=True))
    assert "".join(piece.message.content for piece in pieces) == whole.message.content
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert llama.generate(model=model, prompt=FRANCE, options=options).response == whole.message.content
    chatml = f"<|im_start|>user\n{FRANCE}<|im_end|>\n<|im_start|>assistant\n"
    assert llama.generate(model=model, prompt=chatml, raw=True, options=options).response


def test_ollama_formats_and_tools(llama, model):
    answer = llama.chat(
        model=model,
        messages=[{"role": "user", "content": "The capital of Italy, and its country."}],
        format=Capital.model_json_schema(),
        options={"temperature": 0, "num_predict": 80},
    )
    Capital.model_validate_json(answer.message.content)

    def weather(city: str) -> str:
        """The weather in a city.

        Args:
          city: its name
        """
        return "sunny"

    messages = [{"role": "user", "content": "What is the weather in Rome?"}]
    options = {"temperature": 0, "num_predict": 60}
    answer = llama.chat(model=model, messages=messages, tools=[weather], options=options)
    call = ollama.Message.ToolCall(function=ollama.Message.ToolCall.Function(name="weather", arguments={"city": "Rome"}))
    history = [*messages, answer.message, ollama.Message(role="assistant", tool_calls=[call])]
    history.append({"role": "tool", "tool_name": "weather", "content": "sunny"})
    assert llama.chat(model=model, messages=history, tools=[weather], options=options).done


def test_ollama_models(llama, model):
    assert model in [listed.model for listed in llama.list().models]
    card = llama.show(model)
    assert card.template and "completion" in card.capabilities and card.modelinfo["general.architecture"]
    assert llama.generate(model=model).done_reason == "load"
    assert [running.model for running in llama.ps().models] == [model]
    for wrong in (lambda: llama.chat(model="none", messages=[]), lambda: llama.pull("no-such-model")):
        with pytest.raises(ollama.ResponseError) as error:
            wrong()
        assert error.value.status_code == 404
    with pytest.raises(ollama.ResponseError) as error:
        llama.embed(model=model, input="x")
    assert error.value.status_code == 400 and "embed" in error.value.error


def test_ollama_pull_of_a_model_that_is_carried(llama):
    assert [progress.status for progress in llama.pull("poet", stream=True)][-1] == "success"
    assert llama.pull("poet").status == "success"
    assert llama.chat(model="poet:latest", messages=[], keep_alive=0).done_reason == "unload"
    assert llama.delete("poet").status == "success"
