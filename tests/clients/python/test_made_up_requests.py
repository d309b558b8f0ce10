"""Requests made up from the server's own description: whatever they hold, the fault is never the server's."""

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance

# For each operation, once with requests that the description allows and once with others.
EXAMPLES = int(os.environ.get("ZHENJIN_SCHEMA_EXAMPLES", "30"))
# Streams without an end, and downloads.
LEFT_OUT = ("/api/models/events", "/api/models/{name}/pull")


def operations(url):
    description = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for result in description.get_all_operations():
        operation = result.ok()
        if operation.path not in LEFT_OUT:
            yield operation


def shortened(body):
    """The same request for fewer tokens: generating takes the model's time and finds nothing here."""
    if not isinstance(body, dict) or "model" not in body:
        return body
    limits = [name for name in ("max_tokens", "max_completion_tokens") if isinstance(body.get(name), int)]
    return body | {name: min(body[name], 2) for name in limits} if limits else body | {"max_tokens": 2}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_no_request_is_the_servers_fault(server, model, mode):
    seen = 0
    for operation in operations(server.url):
        if mode is GenerationMode.NEGATIVE and len(operation.body) == 0 and len(operation.query) == 0:
            continue  # Nothing in such a request can be wrong.

        @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case):
            if isinstance(case.body, dict) and "model" in case.body and mode is GenerationMode.POSITIVE:
                case.body = shortened(case.body | {"model": model})
            response = case.call(timeout=120)
            case.validate_response(response, checks=[not_a_server_error, response_schema_conformance])

        check()
        seen += 1
    assert seen > 3


def test_the_server_still_answers(client, model):
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=1)
    assert answer.choices
