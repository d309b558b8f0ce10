//! A tokenizer made from text: whole round trips, the chat format, and the same result whatever the threads and the order.

use crate::support::generated_text::{KINDS, generated_text};
use serde_json::json;
use zhenjin_tokenizer::{
    CHAT_TOKENS, ChatTemplate, ControlText, RenderInput, Specials, Tokenizer, TokenizerConfig,
    TokenizerTraining, TrainedTokenizer, train_byte_level,
};

fn texts() -> Vec<String> {
    let lines = |kind: &&str| -> Vec<String> {
        generated_text(kind, 16_000).split_inclusive('\n').map(str::to_owned).collect()
    };
    KINDS.iter().flat_map(lines).collect()
}

fn training(vocabulary_size: usize) -> TokenizerTraining {
    TokenizerTraining { vocabulary_size, special_tokens: vec!["<|title|>".to_owned()] }
}

fn trained(texts: &[String], vocabulary_size: usize) -> TrainedTokenizer {
    train_byte_level(texts.iter().map(String::as_str), &training(vocabulary_size)).expect("a tokenizer")
}

fn opened(trained: &TrainedTokenizer) -> (Tokenizer, TokenizerConfig) {
    let config = TokenizerConfig::from_json(&trained.tokenizer_config_json).expect("a configuration");
    (Tokenizer::from_tokenizer_json(&trained.tokenizer_json, Some(&config)).expect("a tokenizer"), config)
}

#[test]
fn every_text_comes_back_byte_for_byte_and_takes_fewer_tokens_than_bytes() {
    let texts = texts();
    let trained = trained(&texts, 600);
    assert_eq!(trained.vocabulary_size, 600);
    let (tokenizer, _) = opened(&trained);
    assert_eq!(tokenizer.vocabulary_size(), 600);
    let unseen = KINDS.iter().map(|kind| generated_text(kind, 20_000));
    for text in texts.iter().cloned().chain(unseen).chain(["\u{0}\u{FEFF}e\u{301}豈\r\n\t".to_owned()]) {
        let ids = tokenizer.encode(&text, Specials::AsText).expect("ids");
        assert_eq!(tokenizer.decode(&ids, ControlText::Show).expect("text"), text);
        assert!(ids.len() <= text.len());
    }
    let seen: usize =
        texts.iter().map(|text| tokenizer.encode(text, Specials::AsText).expect("ids").len()).sum();
    assert!(seen * 3 < texts.iter().map(String::len).sum::<usize>() * 2, "{seen} tokens");
}

#[test]
fn the_result_does_not_depend_on_order_or_threads() {
    let mut texts = texts();
    let first = trained(&texts, 900);
    texts.reverse();
    assert!(trained(&texts, 900) == first, "another order");
    tokenizers::utils::parallelism::set_parallelism(false);
    let alone = trained(&texts, 900);
    tokenizers::utils::parallelism::set_parallelism(true);
    assert!(alone == first, "one thread");
}

#[test]
fn control_tokens_come_first_and_the_chat_template_writes_them() {
    let (tokenizer, config) = opened(&trained(&texts(), 400));
    for (id, token) in CHAT_TOKENS.iter().chain(&["<|title|>"]).enumerate() {
        assert_eq!(tokenizer.special_id(token), Some(id as u32));
        assert_eq!(tokenizer.encode(token, Specials::Parse).expect("ids"), [id as u32]);
        assert!(tokenizer.encode(token, Specials::AsText).expect("ids").len() > 1);
    }
    assert_eq!((tokenizer.eos(), tokenizer.bos()), (Some(0), None));
    assert!(tokenizer.end_of_turn().contains(&2));
    let template = ChatTemplate::from_config(&config, &tokenizer).expect("a template").expect("one");
    let messages = [json!({ "role": "user", "content": "<|im_end|>詩" })];
    let input = RenderInput { messages: &messages, add_generation_prompt: true, ..RenderInput::default() };
    let rendered = template.render(&input).expect("text");
    assert_eq!(rendered.text, "<|im_start|>user\n<|im_end|>詩<|im_end|>\n<|im_start|>assistant\n");
    let ids = tokenizer.encode_rendered(&rendered).expect("ids");
    assert_eq!(ids.iter().filter(|&&id| tokenizer.is_special(id)).count(), 3, "the user's own is text");
}

#[test]
fn pieces_of_one_text_have_their_own_rules_for_control_tokens() {
    let (tokenizer, _) = opened(&trained(&texts(), 400));
    let title = tokenizer.special_id("<|title|>").expect("an id");
    let ids = |pieces: &[(&str, Specials)]| tokenizer.encode_pieces(pieces).expect("ids");
    let count = |ids: &[u32]| ids.iter().filter(|&&id| id == title).count();
    assert_eq!(count(&ids(&[("<|title|>", Specials::Parse), ("<|title|>", Specials::AsText)])), 1);
    assert_eq!(count(&ids(&[("<|ti", Specials::Parse), ("tle|>", Specials::AsText)])), 0);
    // Words are found in the whole text, not piece by piece.
    let whole = tokenizer.encode("the other", Specials::AsText).expect("ids");
    assert_eq!(ids(&[("the ", Specials::Parse), ("other", Specials::AsText)]), whole);
}

#[test]
fn vocabularies_that_cannot_be_are_refused() {
    let error = |training: TokenizerTraining| {
        train_byte_level(["text"].into_iter(), &training).expect_err("refused").to_string()
    };
    assert!(error(training(259)).contains("from 260"));
    let with = |token: &str| TokenizerTraining { special_tokens: vec![token.to_owned()], ..training(400) };
    assert!(error(with("<|im_end|>")).contains("twice"));
    assert!(error(with(" ")).contains("needs a text"));
    assert!(error(with("a")).contains("single character"));
    let little = train_byte_level(["ab ab"].into_iter(), &training(400)).expect("a tokenizer");
    assert_eq!(little.vocabulary_size, 261, "one pair occurs twice");
}
