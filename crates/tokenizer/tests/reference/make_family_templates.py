"""Writes `data/family_templates.json`: what Hugging Face's library renders for the templates in `data/family_templates`, which are short ones with
the same parts of Jinja as the published templates of Gemma 3, Granite 3, Phi-3, Phi-4 and OLMo 2.

    python make_family_templates.py

Needs: transformers, jinja2.
"""

import json
from datetime import datetime
from pathlib import Path

import transformers.utils.chat_template_utils as chat_template_utils

DATA = Path(__file__).parent.parent / "data"
BOS_AND_EOS = {
    "gemma3": ["<bos>", "<eos>"], "granite3": ["<|end_of_text|>"] * 2, "phi3": ["<s>", "<|endoftext|>"], "phi4": ["<|endoftext|>"] * 2, "olmo2": ["<|endoftext|>"] * 2,
}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather, <b>now</b> & later: 北京", "parameters": PARAMETERS}}]
CALLS = [{"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "北京"}}}]
DOCUMENTS = [{"doc_id": 1, "title": "a", "text": "One."}, {"doc_id": "b", "title": "", "text": "Zwei é"}]


def message(role, content):
    return {"role": role, "content": content}


CONVERSATIONS = {
    "question": [message("user", " Hello 你好 \n")],
    "system": [message("system", "Be brief.\n"), message("user", "Hi"), message("assistant", " Yes. \n"), message("user", "And?")],
    "answered": [message("user", "Hi"), message("assistant", "Hello."), message("user", "x"), message("assistant", "y")],
    "parts": [message("system", [{"type": "text", "text": "Be brief."}]), message("user", [{"type": "text", "text": " a "}, {"type": "image"}, {"type": "text", "text": "b"}])],
    "no alternation": [message("user", "Hi"), message("user", "Hi")],
    "begins with the assistant": [message("assistant", "Hi")],
    "number": [message("user", 3)],
    "called": [message("user", "Weather?"), {**message("assistant", ""), "tool_calls": CALLS}, message("tool", "Sunny."), message("assistant", "Sun.")],
}
VARIANTS = [
    {"add_generation_prompt": True}, {"add_generation_prompt": False}, {"add_generation_prompt": True, "tools": TOOLS},
    {"add_generation_prompt": True, "variables": {"documents": DOCUMENTS, "controls": {"citations": True, "length": "short"}}},
    {"add_generation_prompt": True, "tools": TOOLS, "variables": {"documents": DOCUMENTS}}, {"add_generation_prompt": True, "variables": {"thinking": True}},
]


class FixedClock(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime(2026, 3, 9, 14, 5, 6)


def main():
    chat_template_utils.datetime = FixedClock
    cases = []
    for name, (bos, eos) in BOS_AND_EOS.items():
        source = (DATA / "family_templates" / f"{name}.jinja").read_text()
        for conversation, messages in CONVERSATIONS.items():
            for variant in VARIANTS:
                case = {"template": name, "conversation": conversation, **variant, "tools": "tools" in variant}
                arguments = {"bos_token": bos, "eos_token": eos, **variant.get("variables", {})}
                try:
                    texts, _ = chat_template_utils.render_jinja_template(
                        [messages], tools=variant.get("tools"), chat_template=source, add_generation_prompt=variant["add_generation_prompt"], **arguments)
                    case["text"] = texts[0]
                except Exception as error:
                    case["error"] = str(error)
                cases.append(case)
    result = {"special": BOS_AND_EOS, "conversations": CONVERSATIONS, "tools": TOOLS, "cases": cases}
    (DATA / "family_templates.json").write_text(json.dumps(result, ensure_ascii=False, indent=0) + "\n")
    print(len(cases), "cases,", sum("error" in case for case in cases), "of them refused")


main()
