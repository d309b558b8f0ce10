//! Text over the real model: what a user, or a client of the API, sees.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{block_on, question, read, served};
use serde_json::{Value, json};
use zhenjin_assistant::{
    Assistant, AssistantError, ChatRequest, CompletionPrompt, CompletionRequest, FinishReason,
    GenerationOptions, Message, OutputFormat, Role, SamplingSettings, StopCause, Tool, ToolChoice,
};

fn assistant() -> Arc<Assistant> {
    block_on(served(Some(2048), 2).get("smollm2")).unwrap()
}

fn completion(text: &str, max_tokens: usize) -> CompletionRequest {
    let options = GenerationOptions {
        sampling: SamplingSettings::greedy(),
        max_tokens: Some(max_tokens),
        ..GenerationOptions::default()
    };
    CompletionRequest {
        prompt: CompletionPrompt::Text(text.to_owned()),
        echo: false,
        output_format: OutputFormat::Text,
        options,
    }
}

#[test]
fn chats_in_english_and_stops_by_itself() {
    let assistant = assistant();
    let answer =
        read(assistant.chat(&question("What is the capital of France? Answer in one sentence.")).unwrap());
    assert!(answer.text.contains("Paris"), "{answer:?}");
    assert_eq!(answer.reason, Some(FinishReason::Stop(StopCause::EndOfTurn)));
    assert!(!answer.text.contains("<|im_end|>"));

    // The conversation goes on: what was said so far is found in the cache.
    let mut next = question("What is the capital of France? Answer in one sentence.");
    next.messages.push(Message::new(Role::Assistant, answer.text.clone()));
    next.messages.push(Message::new(Role::User, "And of Italy?"));
    let tokens = assistant.count_prompt(&next).unwrap();
    let following = read(assistant.chat(&next).unwrap());
    assert_eq!(following.usage.prompt_tokens, tokens);
    assert!(following.cached_tokens >= 32, "{following:?}");
    assert!(following.text.contains("Rome"), "{following:?}");
}

#[test]
fn stop_strings_work_across_tokens_and_end_the_answer_at_once() {
    let assistant = assistant();
    let whole = read(assistant.complete(&completion("One, two, three, four, five, six,", 24)).unwrap());
    // From the middle of one word to the middle of the next.
    let middle = whole.text.len() / 2;
    let stop = whole.text[middle..middle + 5].to_owned();
    let expected = &whole.text[..whole.text.find(&stop).unwrap()];
    let mut request = completion("One, two, three, four, five, six,", 24);
    request.options.stop = vec!["never".to_owned(), stop.clone()];
    request.options.logprobs = Some(2);
    let stopped = read(assistant.complete(&request).unwrap());
    assert_eq!(stopped.text, expected);
    assert_eq!(stopped.reason, Some(FinishReason::Stop(StopCause::StopString(stop))));
    assert!(stopped.usage.completion_tokens < whole.usage.completion_tokens);
    let bytes: Vec<u8> = stopped.tokens.iter().flat_map(|token| token.bytes.clone()).collect();
    assert!(bytes.starts_with(expected.as_bytes()), "{stopped:?}");
    assert!(stopped.tokens.iter().all(|token| token.logprob.unwrap() <= 0.0 && token.top.len() == 2));
    assert!(stopped.tokens.iter().all(|token| token.top[0].logprob >= token.top[1].logprob));
}

#[test]
fn echo_gives_the_prompt_back_with_its_log_probabilities() {
    let assistant = assistant();
    let mut request = completion("The capital of France is", 1);
    request.echo = true;
    request.options.logprobs = Some(1);
    let answer = read(assistant.complete(&request).unwrap());
    let echo = answer.echo.unwrap();
    assert_eq!(echo.text, "The capital of France is");
    assert_eq!(echo.tokens.len(), answer.usage.prompt_tokens);
    assert_eq!(echo.tokens[0].logprob, None);
    assert!(echo.tokens[1..].iter().all(|token| token.logprob.unwrap() < 0.0));
    // Scoring the longer text gives the generated token the same log-probability, bit for bit.
    let tokens: Vec<u32> = echo.tokens.iter().chain(&answer.tokens).map(|token| token.id).collect();
    let mut scoring = CompletionRequest { prompt: CompletionPrompt::Tokens(tokens), ..request };
    scoring.options.max_tokens = Some(0);
    let scored = read(assistant.complete(&scoring).unwrap());
    let last = scored.echo.unwrap().tokens.pop().unwrap();
    assert_eq!(last.logprob.map(f32::to_bits), answer.tokens[0].logprob.map(f32::to_bits));
    assert_eq!(scored.reason, Some(FinishReason::Length));
}

#[test]
fn json_schemas_regular_expressions_and_grammars_are_obeyed() {
    let assistant = assistant();
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "hobbies": {"type": "array", "items": {"enum": ["chess", "music", "hiking"]}, "minItems": 1, "maxItems": 3},
        },
        "required": ["name", "age", "hobbies"],
        "additionalProperties": false,
    });
    for seed in 0..4 {
        let mut request = question("Describe a person in JSON.");
        request.output_format = OutputFormat::JsonSchema(schema.clone());
        request.options.sampling =
            SamplingSettings { temperature: Some(1.2), seed: Some(seed), ..SamplingSettings::default() };
        request.options.max_tokens = Some(200);
        let answer = read(assistant.chat(&request).unwrap());
        let value: Value =
            serde_json::from_str(&answer.text).unwrap_or_else(|error| panic!("{error}: {}", answer.text));
        assert!(value["name"].as_str().unwrap().chars().count() <= 12);
        assert!(value["age"].as_u64().unwrap() <= 150);
        let hobbies = value["hobbies"].as_array().unwrap();
        assert!((1..=3).contains(&hobbies.len()) && value.as_object().unwrap().len() == 3, "{value}");
        assert!(matches!(answer.reason, Some(FinishReason::Stop(_))), "{answer:?}");
    }
    let mut request = question("Give me a date.");
    request.output_format = OutputFormat::Regex(r"20\d\d-[01]\d-[0-3]\d".to_owned());
    let answer = read(assistant.chat(&request).unwrap());
    assert!(
        answer.text.len() == 10 && answer.text.starts_with("20") && answer.text.as_bytes()[7] == b'-',
        "{answer:?}"
    );

    request.output_format = OutputFormat::Lark("start: \"yes\" | \"no\" | \"也许\"".to_owned());
    let answer = read(assistant.chat(&request).unwrap());
    assert!(["yes", "no", "也许"].contains(&answer.text.as_str()), "{answer:?}");

    request.output_format = OutputFormat::JsonObject;
    request.options.max_tokens = Some(300);
    request.options.sampling =
        SamplingSettings { temperature: Some(0.8), seed: Some(5), ..SamplingSettings::default() };
    let answer = read(assistant.chat(&request).unwrap());
    if answer.reason != Some(FinishReason::Length) {
        assert!(serde_json::from_str::<serde_json::Map<String, Value>>(&answer.text).is_ok(), "{answer:?}");
    }
}

#[test]
fn bad_formats_are_refused_with_the_reason() {
    let assistant = assistant();
    let refusal = |format: OutputFormat| {
        let mut request = question("x");
        request.output_format = format;
        match assistant.chat(&request) {
            Err(AssistantError::Invalid { field: "response_format", reason }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(refusal(OutputFormat::JsonSchema(json!({"type": "strnig"}))).contains("strnig"));
    refusal(OutputFormat::JsonSchema(json!({"$ref": "https://example.com/schema.json"})));
    refusal(OutputFormat::Regex("(".to_owned()));
    refusal(OutputFormat::Lark("begin: \"x\"".to_owned()));
}

/// Such an expression may be refused, fail, or be followed; it must not take the machine.
#[test]
fn a_hostile_expression_costs_bounded_time() {
    let assistant = assistant();
    let mut request = question("x");
    request.output_format = OutputFormat::Regex("((a{1,999}){1,999}){1,999}b|(.*a){30}c".to_owned());
    request.options.max_tokens = Some(4);
    let begun = Instant::now();
    if let Ok(mut generation) = assistant.chat(&request) {
        while generation.blocking_next().is_some() {}
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let next =
        read(assistant.chat(&question("What is the capital of France? Answer in one sentence.")).unwrap());
    assert!(next.text.contains("Paris"), "{next:?}");
}

fn weather() -> Tool {
    Tool {
        name: "get_weather".to_owned(),
        description: Some("The weather at a place.".to_owned()),
        parameters: Some(json!({
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": false,
        })),
    }
}

fn clock() -> Tool {
    Tool { name: "get_time".to_owned(), description: None, parameters: None }
}

#[test]
fn a_named_or_required_tool_is_called_with_valid_arguments() {
    let assistant = assistant();
    let mut request = question("How is the weather in Paris?");
    request.tools = vec![weather(), clock()];
    request.parallel_tool_calls = false;
    request.options.max_tokens = Some(120);
    for choice in [ToolChoice::Named("get_weather".to_owned()), ToolChoice::Required] {
        request.tool_choice = choice.clone();
        let answer = read(assistant.chat(&request).unwrap());
        assert_eq!((answer.calls.len(), answer.text.as_str()), (1, ""), "{answer:?}");
        let (name, arguments) = &answer.calls[0];
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        if name == "get_weather" {
            assert!(
                arguments["city"].is_string()
                    && arguments["unit"].is_string()
                    && arguments.as_object().unwrap().len() == 2
            );
        } else {
            assert!(choice == ToolChoice::Required && name == "get_time" && arguments == json!({}));
        }
        assert_eq!(answer.reason, Some(FinishReason::ToolCalls));
    }
    // The model is told of the tools even though its template knows none, and only if it may call them.
    let with_tools = assistant.count_prompt(&request).unwrap();
    request.tool_choice = ToolChoice::None;
    assert!(with_tools > assistant.count_prompt(&request).unwrap() + 50);
    request.tool_choice = ToolChoice::Auto;
    // Beside a format the answer is a call or has the format.
    request.output_format = OutputFormat::JsonObject;
    let answer = read(assistant.chat(&request).unwrap());
    let is_object = || serde_json::from_str::<Value>(&answer.text).is_ok_and(|value| value.is_object());
    let was_cut = answer.reason == Some(FinishReason::Length);
    assert!(
        !answer.calls.is_empty() || is_object() || (was_cut && answer.text.trim_start().starts_with('{')),
        "{answer:?}"
    );
}

#[test]
fn what_does_not_fit_is_refused_with_three_numbers_and_nothing_is_cut() {
    let assistant = assistant();
    let mut request = question(&"word ".repeat(3000));
    match assistant.chat(&request) {
        Err(AssistantError::ContextExceeded { prompt, max_tokens: 64, context: 2048 }) => {
            assert!(prompt > 3000)
        }
        other => panic!("{other:?}"),
    }
    request.options.max_tokens = None;
    assert!(matches!(assistant.chat(&request), Err(AssistantError::ContextExceeded { max_tokens: 1, .. })));
    request.messages.clear();
    assert!(matches!(assistant.chat(&request), Err(AssistantError::Invalid { field: "messages", .. })));
    let mut request = question("x");
    request.options.stop = vec![String::new()];
    assert!(matches!(assistant.chat(&request), Err(AssistantError::Invalid { field: "stop", .. })));
}

#[test]
fn a_dropped_answer_frees_its_pages() {
    let assistant = assistant();
    let mut request = question("Tell me a very long story.");
    request.options.max_tokens = None;
    let mut generation = assistant.chat(&request).unwrap();
    for _ in 0..5 {
        generation.blocking_next().unwrap();
    }
    assert!(assistant.stats().pages_used > 0);
    drop(generation);
    let deadline = Instant::now() + Duration::from_secs(10);
    while assistant.stats().pages_used > 0 {
        assert!(Instant::now() < deadline, "{:?}", assistant.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(assistant.stats().cancelled, 1);
}

#[test]
fn choices_have_seeds_of_their_own_and_repeat() {
    let assistant = assistant();
    let request = || {
        let mut request = ChatRequest::new(vec![Message::new(Role::User, "Tell me something surprising.")]);
        request.options.sampling =
            SamplingSettings { temperature: Some(1.0), seed: Some(11), ..SamplingSettings::default() };
        request.options.max_tokens = Some(20);
        request
    };
    let texts = |choices: usize| -> Vec<String> {
        let generations = assistant.chat_choices(&request(), choices).unwrap();
        generations.into_iter().map(|generation| read(generation).text).collect()
    };
    let three = texts(3);
    assert!(three[0] != three[1] && three[1] != three[2], "{three:?}");
    assert_eq!(texts(1)[0], three[0]);
    assert_eq!(texts(3), three);
    assert!(matches!(assistant.chat_choices(&request(), 0), Err(AssistantError::Invalid { field: "n", .. })));
}
