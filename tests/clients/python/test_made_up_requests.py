"""Requests made up from the server's own description: whatever they hold, the fault is never the server's."""

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

# Generating takes the model's time, so fewer of those; the other routes answer at once.
EXAMPLES = int(os.environ.get("ZHENJIN_SCHEMA_EXAMPLES", "40"))


@pytest.fixture(scope="session")
def description(server):
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("description").exclude(path_regex=r"pull|events|^/api/models/\{")


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_request_is_the_servers_fault(case):
    if isinstance(case.body, dict) and case.path.startswith("/v1/") and case.body.get("max_tokens", 9) not in range(9):
        case.body["max_tokens"] = 2
    response = case.call(timeout=120)
    case.validate_response(response, checks=(not_a_server_error, response_schema_conformance))
