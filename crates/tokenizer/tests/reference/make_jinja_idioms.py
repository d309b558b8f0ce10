"""Writes `data/jinja_idioms.json`: what Python's jinja2, set up as Hugging Face's library does for chat templates, makes of many small templates.

    python make_jinja_idioms.py
    python make_jinja_idioms.py CASES.json FILE_OR_FOLDER …    # whole templates: *.jinja, tokenizer_config.json, *.gguf (needs gguf)

The second form writes what conversations become in templates that cannot be shipped here; the example `compare_templates` compares them.

Needs: transformers, jinja2. Every line of `data/jinja_idioms.txt` is a template, or several when it holds expressions alone; `\\n` in it a new line, `\\\\` a backslash;
lines that begin with `#` are headings. A template that Python refuses has `"refused": true` instead of a text.
"""

import json
import re
import sys
from datetime import datetime
from pathlib import Path

import transformers.utils.chat_template_utils as chat_template_utils

DATA = Path(__file__).parent.parent / "data"
NOW = datetime(2026, 3, 9, 14, 5, 6)
CONTEXT = {
    "s": "Hello, World", "u": "héllo 你好 😀 ß", "blank": "", "padded": "  \n x y\t ", "lines": "one\ntwo\r\nthree\n\nfour",
    "n": 5, "z": 0, "m": -3, "f": 2.5, "whole": 4.0, "tiny": 1e-7, "huge": 1e22, "big": 12345678901234567890, "t": True, "no": False, "nil": None,
    "l": [3, 1, 2], "words": ["pear", "Apple", "fig", "apple"], "el": [], "ed": {}, "mixed": [1, "a", None, True, 2.5, [1], {"k": "v"}],
    "d": {"b": 1, "a": 2, "c": [1, 2]}, "quotes": "it's \"q\" \\ \n\t\x01\x7f", "html": "<a href='x'>&amp;</a>",
    "rows": [{"name": "x", "v": 2, "g": "a", "p": {"q": 1}}, {"name": "y", "v": 1, "g": "b", "p": {"q": 2}}, {"name": "z", "v": 3, "g": "a"}],
    "clash": {"items": 1, "keys": [2], "get": "g", "name": "n"},
    "tool": {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": ["string", "null"], "enum": ["é", 1]}, "b": {"default": 1.0}}, "required": []}}},
}
MESSAGES = [
    {"role": "system", "content": "Be brief."}, {"role": "user", "content": " Hi <b> "},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": "é", "b": [1, 2.0, None]}}}]},
    {"role": "tool", "content": "21"}, {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image"}]},
]


class FixedClock(datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def idioms():
    for line in (DATA / "jinja_idioms.txt").read_text().splitlines():
        if line and not line.startswith("# "):
            template = line.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
            # A line of expressions alone is as many templates as it has expressions.
            alone = template.startswith("{{ ") and "{%" not in template and "\n" not in template
            yield from re.split(r"(?<=\}\}) (?=\{\{ )", template) if alone else [template]


TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather, e.g. in 北京 <b>now</b>", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "description": "A city"}, "days": {"type": "integer", "enum": [1, 2], "default": 1},
    "tags": {"type": "array", "items": {"type": "string"}}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "stop", "description": "", "parameters": {"type": "object", "properties": {}}}}]
CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "get_weather", "arguments": {"city": "北京", "days": 2, "tags": ["a\"b", None, 1.5, True]}}}


def message(role, content, **more):
    return {"role": role, "content": content, **more}


CONVERSATIONS = [
    [message("user", "Hello, world!")],
    [message("system", "  You speak 中文。 "), message("user", "你好！\n\n")],
    [message("system", "Be brief."), message("user", "Hi"), message("assistant", " Hello! "), message("user", "  And now?  "),
     message("assistant", "Now 😀 this.\n"), message("user", "Thanks")],
    [message("user", "1+1?"), message("assistant", "<think>\nAdd them.\n</think>\n\nTwo"), message("user", "2+2?")],
    [message("user", "1+1?"), message("assistant", "Two", reasoning_content="Add them."), message("user", "2+2?")],
    [message("user", "Weather?"), message("assistant", "", tool_calls=[CALL]), message("tool", "{\"t\": 21}", tool_call_id="abcdefghi", name="get_weather"),
     message("assistant", "It is 21 degrees."), message("user", "Thanks")],
    [message("system", "Use tools."), message("user", "Weather?"), message("assistant", None, tool_calls=[CALL, {**CALL, "id": "bcdefghij"}]),
     message("tool", "21", tool_call_id="abcdefghi"), message("tool", "22", tool_call_id="bcdefghij")],
    [message("user", [{"type": "text", "text": "Look: "}, {"type": "text", "text": "here"}])],
    [message("developer", "Be brief."), message("user", "Hi"), message("user", "Still there?")],
    [message("system", ""), message("user", ""), message("assistant", ""), message("user", "?")],
    [message("user", "Hi"), message("assistant", "Hel")],
    [message("system", "Only this.")],
    [message("user", "Weather?"), message("assistant", "One moment.", tool_calls=[CALL], reasoning_content="A tool knows."),
     message("tool", [{"type": "text", "text": "21"}], tool_call_id="abcdefghi", name="get_weather")],
    [message("user", [{"type": "text", "text": "What is this?"}, {"type": "image"}]), message("assistant", [{"type": "text", "text": "A cat."}]), message("user", "Sure?")],
    [message("user", "Weather?"), message("assistant", "", tool_calls=[{"type": "function", "id": "abcdefghi", "function": {"name": "stop", "arguments": {}}}]), message("tool", "", tool_call_id="abcdefghi")],
]


def sources(path):
    path = Path(path)
    if path.is_dir():
        for inner in sorted(path.iterdir()):
            if inner.is_dir() or inner.suffix in (".jinja", ".gguf") or inner.name == "tokenizer_config.json":
                yield from sources(inner)
    elif path.suffix == ".jinja":
        yield path.name, path.read_text()
    elif path.suffix == ".gguf":
        from gguf import GGUFReader
        for name, field in GGUFReader(path).fields.items():
            if name.startswith("tokenizer.chat_template") and not name.endswith("s"):
                yield f"{path.name} {name}", field.contents()
    elif path.name == "tokenizer_config.json":
        template = json.loads(path.read_text()).get("chat_template")
        for named in [{"name": "default", "template": template}] if isinstance(template, str) else template or []:
            yield f"{path} {named['name']}", named["template"]


def whole_templates(out, paths):
    cases, seen = [], set()
    for path in paths:
        for name, source in sources(path):
            if source in seen:
                continue
            seen.add(source)
            for messages in CONVERSATIONS:
                for variant in [{}, {"tools": TOOLS}, {"add_generation_prompt": False}, {"variables": {"enable_thinking": False}}]:
                    case = {"name": name, "template": source, "messages": messages, "tools": variant.get("tools", []),
                            "add_generation_prompt": variant.get("add_generation_prompt", True), "variables": variant.get("variables", {})}
                    cases.append(case | rendered(source, messages, case["tools"] or None, case["add_generation_prompt"], case["variables"]))
    Path(out).write_text(json.dumps({"cases": cases}, ensure_ascii=False))
    print(len(seen), "templates,", len(cases), "cases,", sum("refused" in case for case in cases), "of them refused")


def rendered(template, messages, tools, add_generation_prompt, variables):
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            [messages], chat_template=template, tools=tools, add_generation_prompt=add_generation_prompt, bos_token="<s>", eos_token="</s>", **variables)
        return {"text": texts[0]}
    except Exception as error:
        return {"refused": True, "reason": re.sub("0x[0-9a-f]+", "0x…", f"{type(error).__name__}: {error}")}


def main():
    chat_template_utils.datetime = FixedClock
    if len(sys.argv) > 2:
        return whole_templates(sys.argv[1], sys.argv[2:])
    cases = []
    for template in idioms():
        case = {"template": template, **rendered(template, MESSAGES, None, True, CONTEXT)}
        # An address in memory or a random text is no value to compare with.
        if " at 0x" in case.get("text", "") or "lipsum" in template:
            case = {"template": template, "refused": True, "reason": "not the same in two runs"}
        cases.append(case)
    result = {"context": CONTEXT, "messages": MESSAGES, "cases": cases}
    (DATA / "jinja_idioms.json").write_text(json.dumps(result, ensure_ascii=False, indent=0) + "\n")
    print(len(cases), "idioms,", sum("refused" in case for case in cases), "of them refused")


main()
