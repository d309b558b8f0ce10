"""Writes `data/template_golden.json`: what Hugging Face's library renders for the templates in `data/templates`.

    python make_template_golden.py

Needs: transformers, jinja2.
"""

import json
from datetime import datetime
from pathlib import Path

import transformers.utils.chat_template_utils as chat_template_utils

DATA = Path(__file__).parent.parent / "data"
NOW = datetime(2026, 3, 9, 14, 5, 6)

TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather in a city, e.g. München or 北京 <b>now</b> & later",
          "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1.5}},
                         "required": ["city"]}}}]
CALL = {"type": "function", "id": "c1", "function": {"name": "get_weather", "arguments": {"city": "北京", "days": 2, "x": [1, 2.0, None, True, "a\"b\n"]}}}


def message(role, content, **more):
    return {"role": role, "content": content, **more}


CONVERSATIONS = {
    "one question": [message("user", "Hello, world!")],
    "system and Chinese": [message("system", "  You speak 中文。 "), message("user", "你好！\n\n")],
    "several turns": [message("system", "Be brief."), message("user", "Hi"), message("assistant", " Hello! "),
                      message("user", "  And now?  "), message("assistant", "Now 😀 this.\n"), message("user", "Thanks")],
    "ends with assistant": [message("user", "Hi"), message("assistant", "Hello")],
    "thoughts": [message("user", "1+1?"), message("assistant", "<think>\nAdd them.\n</think>\n\nTwo"),
                 message("user", "2+2?"), message("assistant", "<think>\nAgain.\n</think>\n\nFour")],
    "tool call": [message("user", "Weather?"), message("assistant", "", tool_calls=[CALL]),
                  message("tool", "{\"t\": 21}"), message("assistant", "It is 21 degrees."), message("user", "Thanks")],
    "two tools": [message("system", "Use tools."), message("user", "Weather?"),
                  message("assistant", "Let me see.", tool_calls=[CALL, CALL]), message("tool", "21"), message("tool", "22")],
}
VARIANTS = [
    {"add_generation_prompt": True}, {"add_generation_prompt": False}, {"add_generation_prompt": True, "tools": TOOLS},
    {"add_generation_prompt": True, "variables": {"enable_thinking": False, "date_string": "01 Jan 2020"}},
]


class FixedClock(datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def main():
    chat_template_utils.datetime = FixedClock
    golden = []
    for path in sorted((DATA / "templates").glob("*.jinja")):
        source = path.read_text()
        for name, messages in CONVERSATIONS.items():
            for variant in VARIANTS:
                case = {"template": path.stem, "conversation": name, **variant}
                arguments = {"bos_token": "<s>", "eos_token": "</s>", **variant.get("variables", {})}
                try:
                    texts, spans = chat_template_utils.render_jinja_template(
                        [messages], tools=variant.get("tools"), chat_template=source,
                        add_generation_prompt=variant["add_generation_prompt"],
                        return_assistant_tokens_mask="{% generation %}" in source, **arguments)
                    case["text"] = texts[0]
                    if "{% generation %}" in source:
                        case["generated"] = [texts[0][start:end] for start, end in spans[0]]
                except Exception as error:
                    case["error"] = str(error)
                golden.append(case)
    result = {"now": NOW.strftime("%Y-%m-%d %H:%M:%S"), "conversations": CONVERSATIONS, "tools": TOOLS, "cases": golden}
    for case in golden:
        case["tools"] = "tools" in case
    (DATA / "template_golden.json").write_text(json.dumps(result, ensure_ascii=False, indent=0) + "\n")
    print(len(golden), "cases,", sum("error" in case for case in golden), "of them refused")


main()
