//! Every field of every request at, inside and outside its limits: which status, and which words. A wrong request is the
//! caller's fault (4xx) and names the field; it is never a 5xx.

use std::collections::BTreeSet;

use crate::support::{self, Application};
use serde_json::Value;

const CHAT: &str = "/v1/chat/completions";
const COMPLETION: &str = "/v1/completions";

/// A request's varying part, and what must come of it: `""` for success, else words of the error's message.
type Case = (&'static str, &'static str);

/// For both routes.
const COMMON: &[Case] = &[
    (r#""model": "tiny""#, ""),
    (r#""model": """#, "not served here"),
    (r#""model": "other""#, "not served here; served: tiny"),
    (r#""model": null"#, "`model` is missing"),
    (r#""model": 1"#, "must be a string, not a number"),
    (r#""temperature": 0"#, ""),
    (r#""temperature": 0.0001"#, ""),
    (r#""temperature": 2"#, ""),
    (r#""temperature": null"#, ""),
    (r#""temperature": -0.1"#, "`temperature` must be between 0 and 2, not -0.1"),
    (r#""temperature": 2.1"#, "`temperature` must be between 0 and 2, not 2.1"),
    (r#""temperature": "1""#, "`temperature` must be a number, not a string"),
    (r#""temperature": "NaN""#, "`temperature` must be a number, not a string"),
    (r#""temperature": NaN"#, "not valid JSON: expected value at line 1 column"),
    (r#""temperature": Infinity"#, "not valid JSON"),
    (r#""temperature": 1e999"#, "number out of range at line 1 column"),
    (r#""temperature": 1e-999"#, ""),
    (r#""temperature": true"#, "`temperature` must be a number"),
    (r#""temperature": [1]"#, "`temperature` must be a number, not a list"),
    (r#""temperature": 1, "temperature": 2"#, "the name `temperature` stands twice"),
    (r#""top_p": 0"#, ""),
    (r#""top_p": 1"#, ""),
    (r#""top_p": 0.5"#, ""),
    (r#""top_p": -0.01"#, "`top_p` must be between 0 and 1"),
    (r#""top_p": 1.01"#, "`top_p` must be between 0 and 1"),
    (r#""top_k": 0"#, ""),
    (r#""top_k": 1"#, ""),
    (r#""top_k": 1000000"#, ""),
    (r#""top_k": -1"#, ""),
    (r#""top_k": -2"#, "`top_k` must be a whole number from 0 to 1000000, not -2"),
    (r#""top_k": 1000001"#, "`top_k` must be a whole number"),
    (r#""top_k": 2.0"#, ""),
    (r#""top_k": 2.5"#, "`top_k` must be a whole number, not 2.5"),
    (r#""min_p": 0"#, ""),
    (r#""min_p": 1"#, ""),
    (r#""min_p": 1.5"#, "`min_p` must be between 0 and 1"),
    (r#""repetition_detection": true"#, ""),
    (r#""repetition_detection": false"#, ""),
    (r#""repetition_detection": {"max_pattern_size": 0}"#, ""),
    (r#""repetition_detection": {"max_pattern_size": 20}"#, "must have a `min_count` of 2 or more"),
    (
        r#""repetition_detection": {"max_pattern_size": 2, "min_pattern_size": 3, "min_count": 3}"#,
        "must have a `min_pattern_size` that is at most",
    ),
    (
        r#""repetition_detection": {"max_pattern_size": 513, "min_count": 3}"#,
        "must be a whole number from 0 to 512",
    ),
    (r#""repetition_detection": 3"#, "must be true, false or an object"),
    (r#""repetition_penalty": 0.01"#, ""),
    (r#""repetition_penalty": 10"#, ""),
    (r#""repetition_penalty": 0"#, "`repetition_penalty` must be between 0.01 and 10"),
    (r#""repetition_penalty": -1"#, "`repetition_penalty` must be between 0.01 and 10"),
    (r#""presence_penalty": -2"#, ""),
    (r#""presence_penalty": 2"#, ""),
    (r#""presence_penalty": 2.01"#, "`presence_penalty` must be between -2 and 2"),
    (r#""frequency_penalty": -2"#, ""),
    (r#""frequency_penalty": 2"#, ""),
    (r#""frequency_penalty": -2.01"#, "`frequency_penalty` must be between -2 and 2"),
    (r#""logit_bias": {}"#, ""),
    (r#""logit_bias": {"0": -100, "258": 100}"#, ""),
    (r#""logit_bias": {"0": 100.5}"#, "`logit_bias.0` must be between -100 and 100"),
    (r#""logit_bias": {"259": 1}"#, "`logit_bias`"),
    (
        r#""logit_bias": {"4294967296": 1}"#,
        "`logit_bias.4294967296` is named by something that is not a token id",
    ),
    (r#""logit_bias": {"-1": 1}"#, "is not a token id"),
    (r#""logit_bias": {"01": 1}"#, "is not a token id"),
    (r#""logit_bias": {"a": 1}"#, "is not a token id"),
    (r#""logit_bias": {"1": "1"}"#, "`logit_bias.1` must be a number"),
    (r#""logit_bias": [1]"#, "`logit_bias` must be an object, not a list"),
    (r#""seed": 0"#, ""),
    (r#""seed": -1"#, ""),
    (r#""seed": 9223372036854775807"#, ""),
    (r#""seed": -9223372036854775808"#, ""),
    (r#""seed": 9223372036854775808"#, "from -9223372036854775808 to 9223372036854775807, not 9"),
    (r#""seed": 1.5"#, "`seed` must be a whole number, not 1.5"),
    (r#""n": 1"#, ""),
    (r#""n": 3"#, ""),
    (r#""n": 32"#, ""),
    (r#""n": 0"#, "`n` must be a whole number from 1 to 32, not 0"),
    (r#""n": 33"#, "`n` must be a whole number from 1 to 32, not 33"),
    (r#""max_tokens": 1"#, ""),
    (r#""max_tokens": -2"#, "`max_tokens` must be a whole number from"),
    (r#""n_predict": 1, "max_tokens": null"#, ""),
    (r#""n_predict": 1"#, "`max_tokens` and `n_predict` are two names of one thing"),
    (r#""n_predict": 0"#, "`n_predict` must be a whole number from 1"),
    (r#""ignore_eos": true"#, ""),
    (r#""ignore_eos": 1"#, "`ignore_eos` must be true or false"),
    (r#""min_tokens": 2"#, ""),
    (r#""min_tokens": -1"#, "`min_tokens` must be a whole number"),
    (r#""min_tokens": 100"#, "`min_tokens`: 100 tokens at least are more than the 2"),
    (r#""min_tokens": 1, "regex": "[ab]+""#, "`min_tokens`: an answer that must have a format"),
    (r#""n_probs": 0"#, ""),
    (r#""n_probs": 3"#, ""),
    (r#""n_probs": 21"#, "`n_probs` must be a whole number from 0 to 20"),
    (r#""n_probs": 3, "logprobs": null"#, ""),
    (r#""json_schema": {"type": "boolean"}"#, ""),
    (r#""json_schema": "{}""#, ""),
    (r#""json_schema": "{""#, "`json_schema` is not valid JSON"),
    (r#""json_schema": 1"#, "`json_schema` must be an object"),
    (r#""guided_json": {"type": "boolean"}"#, ""),
    (r#""guided_json": {"type": "nothing"}"#, "`guided_json`"),
    (r#""guided_regex": "[ab]+""#, ""),
    (r#""guided_regex": "[""#, "`guided_regex`"),
    (r#""guided_choice": ["yes", "no"]"#, ""),
    (r#""guided_choice": []"#, "`guided_choice` must not be an empty list"),
    (r#""guided_choice": "yes""#, "`guided_choice` must be a list"),
    (r#""structured_outputs": {"choice": ["a"]}"#, ""),
    (r#""structured_outputs": {"json_object": true}"#, ""),
    (r#""structured_outputs": {"grammar": "x"}"#, "`structured_outputs.grammar` is not known"),
    (r#""structured_outputs": {"choice": ["a"]}, "regex": "a""#, "both say what the answer must look like"),
    (r#""cache_prompt": true"#, ""),
    (r#""cache_prompt": 1"#, "`cache_prompt` must be true or false"),
    (r#""id_slot": -1"#, ""),
    (r#""id_slot": "a""#, "`id_slot` must be a whole number"),
    (r#""n_keep": 0"#, ""),
    (r#""n_keep": 1.5"#, "`n_keep` must be a whole number"),
    (r#""typical_p": 1.0"#, ""),
    (r#""typical_p": 0.9"#, "`typical_p` is not supported here"),
    (r#""mirostat": 0"#, ""),
    (r#""mirostat": 2"#, "`mirostat` is not supported here"),
    (r#""use_beam_search": true"#, "`use_beam_search` is not supported here"),
    (r#""guided_grammar": "x""#, "see `grammar`"),
    (r#""truncate_prompt_tokens": 5"#, "prompts are never cut"),
    (r#""skip_special_tokens": true"#, ""),
    (r#""max_tokens": 1.5"#, "`max_tokens` must be a whole number, not 1.5"),
    (r#""max_tokens": 9223372036854775807"#, "but the context holds 8192"),
    (r#""max_tokens": 18446744073709551616"#, "`max_tokens` must be a whole number"),
    (r#""stop": "a""#, ""),
    (r#""stop": []"#, ""),
    (r#""stop": ["a", "b", "c", "d"]"#, ""),
    (r#""stop": ["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16"]"#, ""),
    (
        r#""stop": ["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]"#,
        "at most 16 texts, not 17",
    ),
    (r#""stop": """#, "`stop` must not be empty"),
    (r#""stop": ["a", ""]"#, "`stop[1]` must not be empty"),
    (r#""stop": [1]"#, "`stop[0]` must be a string"),
    (r#""stop": 1"#, "`stop` must be a string or a list of strings"),
    (r#""stop_token_ids": []"#, ""),
    (r#""stop_token_ids": [0, 258]"#, ""),
    (r#""stop_token_ids": [259]"#, "`stop_token_ids`"),
    (r#""stop_token_ids": [-1]"#, "`stop_token_ids[0]` must be a whole number"),
    (r#""stop_token_ids": "1""#, "`stop_token_ids` must be a list"),
    (r#""stream": false"#, ""),
    (r#""stream": "true""#, "`stream` must be true or false, not a string"),
    (
        r#""stream_options": {"include_usage": true}"#,
        "`stream_options` is only allowed when `stream` is true",
    ),
    (r#""stream": true, "stream_options": {"include_usage": true, "include_obfuscation": false}"#, ""),
    (r#""stream": true, "stream_options": {"include_obfuscation": true}"#, "events are not padded"),
    (r#""stream": true, "stream_options": {"usage": true}"#, "`stream_options.usage` is not known"),
    (r#""stream": true, "stream_options": true"#, "`stream_options` must be an object"),
    (r#""regex": "[ab]+", "max_tokens": 4"#, ""),
    (r#""regex": """#, "`regex` must not be empty"),
    (r#""regex": "(""#, "unclosed group"),
    (r#""regex": "[""#, "unclosed character class"),
    (r#""regex": 1"#, "`regex` must be a string"),
    (r#""grammar": "start: \"yes\" | \"no\"", "max_tokens": 8"#, ""),
    (r#""grammar": "start: unknown_rule""#, "grammar"),
    (r#""grammar": """#, "`grammar` must not be empty"),
    (r#""grammar": "start: \"a\"", "regex": "a""#, "`regex` and `grammar` both say"),
    (r#""user": "someone""#, ""),
    (r#""user": 7"#, "`user` must be a string"),
    (r#""temprature": 1"#, "the field `temprature` is not known: did you mean `temperature`?"),
    (r#""repeat_penalty": 1.1"#, ""),
    (r#""repeat_penalty": 0"#, "`repeat_penalty` must be between 0.01 and 10"),
    (r#""repeat_penalty": 1, "repetition_penalty": 1"#, "two names of one thing"),
    (r#""max_new_tokens": 1"#, "did you mean `max_tokens`?"),
    (r#""xyzzy": null"#, ""),
];

const CHAT_ONLY: &[Case] = &[
    (r#""messages": null"#, "`messages` is missing"),
    (r#""messages": []"#, "`messages` must hold at least one message"),
    (r#""messages": "hi""#, "`messages` must be a list, not a string"),
    (r#""messages": ["hi"]"#, "`messages[0]` must be an object, not a string"),
    (r#""messages": [{}]"#, "`messages[0].role` is missing"),
    (r#""messages": [{"role": "user"}]"#, "`messages[0].content` is missing"),
    (r#""messages": [{"role": "user", "content": null}]"#, "`messages[0].content` is missing"),
    (
        r#""messages": [{"role": "user", "content": 1}]"#,
        "`messages[0].content` must be a string or a list of text parts",
    ),
    (r#""messages": [{"role": "user", "content": ""}]"#, ""),
    (r#""messages": [{"role": "user", "content": []}]"#, ""),
    (
        r#""messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]"#,
        "",
    ),
    (r#""messages": [{"role": "user", "content": "hi", "name": "Ada"}]"#, ""),
    (r#""messages": [{"role": "user", "content": "hi", "nmae": "Ada"}]"#, "did you mean `name`?"),
    (
        r#""messages": [{"role": "robot", "content": "hi"}]"#,
        "`messages[0].role` must be system, developer, user, assistant or tool",
    ),
    (r#""messages": [{"role": "function", "content": "hi", "name": "f"}]"#, "replaced by `tool`"),
    (
        r#""messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]"#,
        "`messages[0].content[0].type` `image_url` is not supported here",
    ),
    (
        r#""messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]"#,
        "`input_audio` is not supported here",
    ),
    (
        r#""messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]"#,
        "`file` is not supported here",
    ),
    (
        r#""messages": [{"role": "user", "content": [{"type": "text"}]}]"#,
        "`messages[0].content[0].text` is missing",
    ),
    (r#""messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]"#, ""),
    (r#""messages": [{"role": "developer", "content": "s"}, {"role": "user", "content": "u"}]"#, ""),
    (r#""messages": [{"role": "user", "content": "<|im_end|>"}]"#, ""),
    (r#""messages": [{"role": "user", "content": "\u0000\ud83d\ude00"}]"#, ""),
    (r#""messages": [{"role": "user", "content": "\ud83d"}]"#, "not valid JSON"),
    (r#""messages": [{"role": "assistant"}]"#, "needs `content`, `refusal` or `tool_calls`"),
    (
        r#""messages": [{"role": "user", "content": "u"}, {"role": "assistant", "refusal": "no"}, {"role": "user", "content": "u"}]"#,
        "",
    ),
    (
        r#""messages": [{"role": "assistant", "content": "a", "refusal": "b"}]"#,
        "both `content` and `refusal`",
    ),
    (r#""messages": [{"role": "assistant", "content": "a", "audio": {"id": "x"}}]"#, "models read text only"),
    (
        r#""messages": [{"role": "assistant", "content": "a", "function_call": {}}]"#,
        "replaced by `tool_calls`",
    ),
    (
        r#""messages": [{"role": "user", "content": "u"}, {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "tool_call_id": "1", "content": "r"}]"#,
        "",
    ),
    (
        r#""messages": [{"role": "tool", "tool_call_id": "1", "content": "r"}]"#,
        "answers the call `1`, which no assistant message before it made",
    ),
    (r#""messages": [{"role": "tool", "content": "r"}]"#, "`messages[0].tool_call_id` is missing"),
    (
        r#""messages": [{"role": "assistant", "tool_calls": [{"id": "1", "type": "custom"}]}]"#,
        "`custom` is not supported here",
    ),
    (
        r#""messages": [{"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": 1}}]}]"#,
        "function.arguments` must be a string",
    ),
    (r#""messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}]"#, ""),
    (
        r#""messages": [{"role": "assistant", "content": null, "refusal": null, "audio": null, "function_call": null, "colour": null}]"#,
        "",
    ),
    (
        r#""messages": [{"role": "assistant", "content": "a", "annotations": [], "parsed": {"a": 1}, "index": 0}]"#,
        "",
    ),
    (
        r#""messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]}]"#,
        "",
    ),
    (
        r#""messages": [{"role": "user", "content": "a", "tool_calls": []}]"#,
        "`messages[0].tool_calls` is not known",
    ),
    (
        r#""messages": [{"role": "assistant", "content": "a", "reasoning": "b", "reasoning_content": "c"}]"#,
        "`messages[0].reasoning` differs from the thought",
    ),
    (r#""max_tokens": 0"#, "`max_tokens` must be a whole number from 1"),
    (r#""max_completion_tokens": 1"#, "two names of one thing"),
    (r#""max_tokens": null, "max_completion_tokens": 1"#, ""),
    (
        r#""max_tokens": null, "max_completion_tokens": 0"#,
        "`max_completion_tokens` must be a whole number from 1",
    ),
    (r#""logprobs": true"#, ""),
    (r#""logprobs": 1"#, "`logprobs` must be true or false, not a number"),
    (r#""logprobs": true, "top_logprobs": 0"#, ""),
    (r#""logprobs": true, "top_logprobs": 20"#, ""),
    (r#""logprobs": true, "top_logprobs": 21"#, "`top_logprobs` must be a whole number from 0 to 20, not 21"),
    (r#""n_probs": 3, "logprobs": true"#, "`n_probs` is another name of `logprobs` with `top_logprobs`"),
    (r#""max_tokens": -1, "stop_token_ids": [10, 258], "regex": "[ab]""#, ""),
    (r#""top_logprobs": 1"#, "`top_logprobs` is only allowed when `logprobs` is true"),
    (r#""response_format": {"type": "text"}"#, ""),
    (r#""response_format": {"type": "json_object"}, "max_tokens": 40"#, ""),
    (
        r#""response_format": {"type": "json_schema", "json_schema": {"name": "s", "strict": true, "schema": {"type": "boolean"}}}, "max_tokens": 40"#,
        "",
    ),
    (
        r#""response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "nonsense"}}}"#,
        "response_format",
    ),
    (
        r#""response_format": {"type": "json_schema", "json_schema": {"schema": {}}}"#,
        "`response_format.json_schema.name` is missing",
    ),
    (
        r#""response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}"#,
        "must be 1 to 64 letters",
    ),
    (r#""response_format": {"type": "json_schema"}"#, "`response_format.json_schema` is missing"),
    (r#""response_format": {"type": "xml"}"#, "must be text, json_object or json_schema, not `xml`"),
    (r#""response_format": "json_object""#, "`response_format` must be an object, not a string"),
    (r#""response_format": {"type": "json_object"}, "regex": "a""#, "`response_format` and `regex` both say"),
    (r#""tools": []"#, ""),
    (r#""tools": [{"type": "function", "function": {"name": "f"}}]"#, ""),
    (
        r#""tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}, "strict": true}}], "tool_choice": "required", "max_tokens": 60"#,
        "",
    ),
    (
        r#""tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": {"type": "function", "function": {"name": "f"}}, "max_tokens": 60"#,
        "",
    ),
    (
        r#""tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": {"type": "function", "function": {"name": "g"}}"#,
        "names `g`, which is not among `tools`",
    ),
    (
        r#""tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}}"#,
        "",
    ),
    (
        r#""tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "never", "tools": []}}"#,
        "must be auto or required, not `never`",
    ),
    (
        r#""tools": [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}]"#,
        "repeats the name `f`",
    ),
    (r#""tools": [{"type": "function", "function": {"name": ""}}]"#, "must be 1 to 64 letters"),
    (
        r#""tools": [{"type": "function", "function": {"name": "f", "parameters": "x"}}]"#,
        "`tools[0].function.parameters` must be an object",
    ),
    (r#""tools": [{"type": "custom", "custom": {"name": "f"}}]"#, "`custom` is not supported here"),
    (r#""tools": [{"function": {"name": "f"}}]"#, "`tools[0].type` is missing"),
    (r#""tools": {}"#, "`tools` must be a list, not an object"),
    (r#""tool_choice": "none""#, ""),
    (r#""tool_choice": "auto""#, ""),
    (r#""tool_choice": "required""#, "asks for a call, but there are no `tools`"),
    (r#""tool_choice": "sometimes""#, "must be none, auto, required or an object, not `sometimes`"),
    (r#""tool_choice": 1"#, "must be none, auto, required or an object"),
    (
        r#""tools": [{"type": "function", "function": {"name": "f"}}], "response_format": {"type": "json_object"}, "max_tokens": 40"#,
        "",
    ),
    (r#""parallel_tool_calls": false"#, ""),
    (r#""parallel_tool_calls": "no""#, "`parallel_tool_calls` must be true or false"),
    (r#""chat_template_kwargs": {"enable_thinking": false}"#, ""),
    (
        r#""chat_template_kwargs": {"enable_thinking": true}"#,
        "`chat_template_kwargs.enable_thinking`: this model does not think",
    ),
    (r#""chat_template_kwargs": {"colour": 1}"#, "does not read `colour`; what it reads: none"),
    (r#""chat_template_kwargs": {"messages": []}"#, "must not set `messages`"),
    (r#""chat_template_kwargs": 1"#, "`chat_template_kwargs` must be an object"),
    (r#""metadata": {"a": "b"}"#, ""),
    (r#""metadata": {"a": 1}"#, "`metadata.a` must be a string"),
    (
        r#""metadata": {"1":"","2":"","3":"","4":"","5":"","6":"","7":"","8":"","9":"","10":"","11":"","12":"","13":"","14":"","15":"","16":"","17":""}"#,
        "at most 16 entries, not 17",
    ),
    (r#""store": false"#, ""),
    (r#""store": true"#, "`store` is not supported here"),
    (r#""service_tier": "default""#, ""),
    (r#""service_tier": "gold""#, "`service_tier` must be one of"),
    (r#""safety_identifier": "x""#, ""),
    (r#""safety_identifier": {}"#, "`safety_identifier` must be a string"),
    (r#""prompt_cache_key": "x""#, ""),
    (r#""prompt_cache_key": 1"#, "`prompt_cache_key` must be a string"),
    (r#""prompt_cache_retention": "24h""#, ""),
    (r#""prompt_cache_retention": "1h""#, "`prompt_cache_retention` must be one of"),
    (r#""prompt_cache_options": {"ttl": "30m"}"#, ""),
    (r#""prediction": {"type": "content", "content": "x"}"#, ""),
    (r#""modalities": ["text"]"#, ""),
    (r#""modalities": ["audio"]"#, "`modalities` is not supported here"),
    (r#""audio": null"#, ""),
    (r#""audio": {"voice": "x", "format": "wav"}"#, "`audio` is not supported here"),
    (r#""reasoning_effort": null"#, ""),
    (r#""reasoning_effort": "none""#, ""),
    (r#""reasoning_effort": "low""#, "`reasoning_effort`: this model does not think before it answers"),
    (r#""reasoning_effort": "much""#, "`reasoning_effort` must be one of none, minimal, low"),
    (r#""enable_thinking": false"#, ""),
    (r#""enable_thinking": true"#, "`enable_thinking`: this model does not think before it answers"),
    (r#""reasoning": {"enabled": false}"#, ""),
    (r#""reasoning": {"effort": "high"}"#, "`reasoning.effort`: this model does not think"),
    (r#""reasoning": {"summary": "auto"}"#, "`reasoning.summary` is not known"),
    (r#""thinking": {"type": "disabled"}"#, ""),
    (r#""thinking": {"type": "enabled"}"#, "`thinking.type`: this model does not think"),
    (r#""colour": null"#, ""),
    (r#""verbosity": "medium""#, ""),
    (r#""verbosity": "low""#, "`verbosity` is not supported here"),
    (r#""web_search_options": null"#, ""),
    (r#""web_search_options": {}"#, "`web_search_options` is not supported here"),
    (r#""moderation": null"#, ""),
    (r#""moderation": {}"#, "`moderation` is not supported here"),
    (r#""functions": null"#, ""),
    (r#""functions": []"#, "`functions` is not supported here: it was replaced by `tools`"),
    (r#""function_call": null"#, ""),
    (r#""function_call": "auto""#, "`function_call` is not supported here"),
];

const COMPLETION_ONLY: &[Case] = &[
    (r#""prompt": "a""#, ""),
    (r#""prompt": ["a", "b"]"#, ""),
    (r#""prompt": [1, 2, 3]"#, ""),
    (r#""prompt": [[1, 2], [3]]"#, ""),
    (r#""prompt": null"#, "`prompt` is missing"),
    (r#""prompt": []"#, "`prompt` must not be an empty list"),
    (r#""prompt": [[]]"#, "`prompt[0]` must not be an empty list"),
    (r#""prompt": [1, "a"]"#, "`prompt[1]` must be a whole number, not a string"),
    (r#""prompt": ["a", 1]"#, "`prompt[1]` must be a string"),
    (r#""prompt": [259]"#, "`prompt`"),
    (r#""prompt": [-1]"#, "`prompt[0]` must be a whole number"),
    (r#""prompt": {}"#, "`prompt` must be a string, a list of strings"),
    (r#""prompt": [true]"#, "`prompt` must be a string, a list of strings"),
    (r#""prompt": ["a", "b", "c"], "n": 32"#, "3 prompts times 32 answers are 96, more than 64"),
    (r#""max_tokens": 0"#, "`max_tokens` may be 0 only together with `echo`"),
    (r#""max_tokens": 0, "echo": true, "logprobs": 1"#, ""),
    (r#""best_of": 2"#, ""),
    (r#""best_of": 2, "n": 3"#, "`best_of` (2) must not be less than `n` (3)"),
    (r#""best_of": 2, "stream": true"#, "cannot be streamed"),
    (r#""best_of": 33"#, "`best_of` must be a whole number from 1 to 32"),
    (r#""echo": true"#, ""),
    (r#""echo": "yes""#, "`echo` must be true or false"),
    (r#""logprobs": 0"#, ""),
    (r#""logprobs": 5"#, ""),
    (r#""logprobs": 6"#, "`logprobs` must be a whole number from 0 to 5, not 6"),
    (r#""logprobs": true"#, "`logprobs` must be a whole number, not true or false"),
    (r#""suffix": null"#, ""),
    (r#""suffix": """#, ""),
    (r#""suffix": "end""#, "`suffix` is not supported here"),
    (r#""messages": []"#, "the field `messages` is not known"),
];

/// A request with the case's fields, and the smallest others that make it whole.
fn body_of(path: &str, case: &str) -> String {
    let mut fields = vec![("\"model\"", "\"tiny\""), ("\"max_tokens\"", "2")];
    fields.push(match path {
        CHAT => ("\"messages\"", r#"[{"role": "user", "content": "hi"}]"#),
        _ => ("\"prompt\"", "\"hi\""),
    });
    let base =
        fields.iter().filter(|(name, _)| !case.starts_with(name) && !case.contains(&format!(", {name}:")));
    let base: Vec<String> = base.map(|(name, value)| format!("{name}: {value}")).collect();
    format!("{{{}}}", [base, vec![case.to_owned()]].concat().join(", "))
}

async fn check(application: &Application, path: &str, cases: &[Case], wrong: &mut Vec<String>) {
    for (case, words) in cases {
        let answer = application.post(path, body_of(path, case)).await;
        let status = answer.status.as_u16();
        if words.is_empty() {
            if status != 200 || answer.text.contains("\"error\"") {
                wrong.push(format!("{path} {case}: {status} {}", answer.text));
            }
            continue;
        }
        let (message, ..) = answer.error();
        if !(400..500).contains(&status) || !message.contains(words) {
            wrong.push(format!("{path} {case}: {status} `{message}` instead of `{words}`"));
        }
    }
}

#[tokio::test]
async fn every_field_at_its_limits() {
    let application = Application::new().await;
    let mut wrong = Vec::new();
    check(&application, CHAT, COMMON, &mut wrong).await;
    check(&application, CHAT, CHAT_ONLY, &mut wrong).await;
    check(&application, COMPLETION, COMMON, &mut wrong).await;
    check(&application, COMPLETION, COMPLETION_ONLY, &mut wrong).await;
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// The table of cases must not fall behind the table of fields.
#[tokio::test]
async fn no_field_is_without_cases() {
    let application = Application::new().await;
    let document = application.get("/openapi.json").await.json();
    for (schema, own) in [("ChatCompletionRequest", CHAT_ONLY), ("CompletionRequest", COMPLETION_ONLY)] {
        let fields = document["components"]["schemas"][schema]["properties"].as_object().expect(schema);
        let unseen: BTreeSet<&String> = fields
            .iter()
            .filter(|(_, field)| !is_foreign_and_refused(field))
            .map(|(name, _)| name)
            .filter(|name| {
                let names = |case: &str| case.contains(&format!("\"{name}\":"));
                let seen = |accepted: bool| {
                    COMMON.iter().chain(own).any(|(case, words)| names(case) && words.is_empty() == accepted)
                };
                let takes_anything = matches!(name.as_str(), "prompt_cache_options" | "prediction");
                !(seen(true) && (seen(false) || takes_anything))
            })
            .collect();
        assert!(unseen.is_empty(), "{schema}: no accepted or no refused case of {unseen:?}");
    }
}

/// A field of other servers that is refused, but for the values in its `enum`.
fn is_foreign_and_refused(field: &Value) -> bool {
    let note = field["description"].as_str().unwrap_or("");
    note.starts_with("Refused. ") && note.ends_with("Not part of OpenAI's API.")
}

#[tokio::test]
async fn fields_of_other_servers_are_refused_but_for_what_is_so_anyway() {
    let application = Application::new().await;
    let document = application.get("/openapi.json").await.json();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (schema, path) in [("ChatCompletionRequest", CHAT), ("CompletionRequest", COMPLETION)] {
        let fields = document["components"]["schemas"][schema]["properties"].as_object().expect(schema);
        for (name, field) in fields.iter().filter(|(_, field)| is_foreign_and_refused(field)) {
            count += 1;
            for value in field["enum"].as_array().expect("values") {
                let answer = application.post(path, body_of(path, &format!("\"{name}\": {value}"))).await;
                if answer.status != 200 {
                    wrong.push(format!("{path} {name} {value}: {}", answer.text));
                }
            }
            let answer = application.post(path, body_of(path, &format!("\"{name}\": \"made up\""))).await;
            let (message, code, param) = answer.error();
            let named = message.starts_with(&format!("`{name}` is not supported here: "));
            if answer.status != 400 || code != "unsupported_parameter" || param != *name || !named {
                wrong.push(format!("{path} {name}: {}", answer.text));
            }
        }
    }
    assert!(count > 60 && wrong.is_empty(), "{count} fields, wrong:\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn bodies_that_are_no_requests() {
    let application = Application::new().await;
    let deep = format!(r#"{{"model": "tiny", "messages": {}"#, "[".repeat(100_000));
    let nested = format!(r#"{{"model": "tiny", "messages": {}1{}}}"#, "[".repeat(100), "]".repeat(100));
    let wide = format!(r#"{{"model": "tiny", "messages": [{}]}}"#, vec!["{}"; 600_000].join(","));
    for (body, status, words) in [
        (String::new(), 400, "body is empty"),
        ("   ".to_owned(), 400, "body is empty"),
        ("null".to_owned(), 400, "must be a JSON object"),
        ("[]".to_owned(), 400, "must be a JSON object"),
        ("{\"model\":\n  tiny}".to_owned(), 400, "line 2 column 4"),
        ("{} {}".to_owned(), 400, "trailing characters"),
        ("\u{feff}{}".to_owned(), 400, "`model` is missing"),
        (deep, 400, "recursion limit exceeded"),
        (nested, 400, "`messages[0]` must be an object"),
        (wide, 400, "more than 500000 values"),
        (" ".repeat(10 << 20), 413, "larger than this server's limit of 8388608 bytes"),
    ] {
        let answer = application.post(CHAT, body.clone()).await;
        let (message, ..) = answer.error();
        let start: String = body.chars().take(40).collect();
        assert_eq!(answer.status.as_u16(), status, "{start}: {message}");
        assert!(message.contains(words), "{start}: {message}");
    }
    let invalid_utf8 = application.post(CHAT, vec![b'{', b'"', 0xFF, b'"', b':', b'1', b'}']).await;
    assert_eq!(invalid_utf8.status, 400, "{}", invalid_utf8.text);
}

#[tokio::test]
async fn a_prompt_beyond_the_context_is_refused_with_its_numbers() {
    let application = Application::new().await;
    let long = "a".repeat(support::CONTEXT);
    let body = format!(
        r#"{{"model": "tiny", "messages": [{{"role": "user", "content": "{long}"}}], "max_tokens": 7}}"#
    );
    let answer = application.post(CHAT, body).await;
    let (message, code, _) = answer.error();
    assert_eq!((answer.status.as_u16(), code.as_str()), (400, "context_length_exceeded"), "{message}");
    for number in ["7", "8192"] {
        assert!(message.contains(number), "{message}");
    }
}
