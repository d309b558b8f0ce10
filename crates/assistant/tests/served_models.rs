//! Several models within a memory limit: loaded once, unloaded when idle, never another one than named.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{block_on, options, question, read, real_model};
use zhenjin_assistant::{AssistantError, ModelSpec, ModelState, ServeOptions, ServedModels};

fn spec(name: &str) -> ModelSpec {
    ModelSpec { name: name.to_owned(), path: real_model() }
}

/// Three names of the same small model, with memory for two of them at a context of 256.
fn three() -> ServedModels {
    let alone = ServedModels::new(vec![spec("x")], small(4 << 30)).unwrap();
    let one = block_on(alone.get("x")).unwrap().info().memory_bytes;
    ServedModels::new(vec![spec("a"), spec("b"), spec("c")], small(2 * one + one / 2)).unwrap()
}

fn small(memory_bytes: u64) -> ServeOptions {
    ServeOptions { memory_bytes, max_batch: 4, ..options(Some(256), 1) }
}

fn states(models: &ServedModels) -> Vec<ModelState> {
    models.list().iter().map(|model| model.state).collect()
}

#[test]
fn idle_models_make_room_the_least_recently_used_first() {
    use ModelState::{Idle, Loaded};
    let models = three();
    assert_eq!(states(&models), [Idle, Idle, Idle]);
    block_on(async {
        models.get("a").await.unwrap();
        models.get("b").await.unwrap();
        models.get("a").await.unwrap();
        assert_eq!(states(&models), [Loaded, Loaded, Idle]);
        models.get("c").await.unwrap();
        assert_eq!(states(&models), [Loaded, Idle, Loaded]);
    });
    // One in use stays, though the other one was used later.
    let generation = block_on(models.get("a")).unwrap().chat(&question("Count to fifty.")).unwrap();
    block_on(models.get("c")).unwrap();
    block_on(models.get("b")).unwrap();
    assert_eq!(states(&models), [Loaded, Loaded, Idle]);
    assert!(!read(generation).text.is_empty());
}

#[test]
fn a_load_waits_for_a_model_in_use_and_requests_share_one_load() {
    let models = Arc::new(three());
    let held: Vec<_> = ["a", "b"].into_iter().map(|name| block_on(models.get(name)).unwrap()).collect();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let models = Arc::clone(&models);
            std::thread::spawn(move || block_on(models.get("c")).unwrap())
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    while models.list()[2].state != ModelState::Loading {
        assert!(Instant::now() < deadline, "the load never began");
        std::thread::yield_now();
    }
    // While both are held, both answer, and the load waits.
    for assistant in &held {
        assert!(!read(assistant.chat(&question("Say hello.")).unwrap()).text.is_empty());
        use ModelState::{Loaded, Loading};
        assert_eq!(states(&models), [Loaded, Loaded, Loading]);
    }
    assert_eq!(models.list().iter().map(|model| model.users).collect::<Vec<_>>(), [1, 1, 0]);
    drop(held);
    let got: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(got.iter().all(|assistant| assistant.shares_model_with(&got[0])));
    assert_eq!(got[0].info().name, "c");
}

#[test]
fn all_models_compute_with_the_same_threads() {
    let models = ServedModels::new(vec![spec("a"), spec("b")], small(4 << 30)).unwrap();
    let alone = Arc::strong_count(models.team());
    let a = block_on(models.get("a")).unwrap();
    let with_one = Arc::strong_count(models.team());
    assert!(with_one > alone);
    let b = block_on(models.get("b")).unwrap();
    assert!(Arc::strong_count(models.team()) > with_one);
    // And both answer at once.
    let answers =
        [&a, &b].map(|model| model.chat(&question("Say hello.")).unwrap()).map(|answer| read(answer).text);
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn names_and_limits_are_kept() {
    let models = ServedModels::new(vec![spec("a")], small(4 << 30)).unwrap();
    match block_on(models.get("A")) {
        Err(AssistantError::UnknownModel { name, known }) => {
            assert_eq!((name.as_str(), known), ("A", vec!["a".to_owned()]))
        }
        other => panic!("{other:?}"),
    }
    models.add(spec("a")).unwrap();
    let elsewhere = ModelSpec { name: "a".to_owned(), path: "/elsewhere".into() };
    assert!(matches!(models.add(elsewhere), Err(AssistantError::NameTaken { .. })));
    models.add(ModelSpec { name: "gone".to_owned(), path: "/no/such/file.gguf".into() }).unwrap();
    for _ in 0..2 {
        match block_on(models.get("gone")) {
            Err(AssistantError::Load { name, reason }) => {
                assert!(name == "gone" && reason.contains("/no/such/file.gguf"), "{reason}")
            }
            other => panic!("{other:?}"),
        }
    }
    let tight = ServedModels::new(vec![spec("a")], small(50 << 20)).unwrap();
    match block_on(tight.get("a")) {
        Err(AssistantError::OutOfMemory { needed_bytes, limit_bytes, .. }) => {
            assert!(needed_bytes > limit_bytes)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_removed_model_finishes_its_answers_and_shutdown_ends_the_rest() {
    let models = ServedModels::new(vec![spec("a"), spec("b")], small(4 << 30)).unwrap();
    let generation = block_on(models.get("a")).unwrap().chat(&question("Say hello.")).unwrap();
    assert!(models.remove("a") && !models.remove("a"));
    assert!(block_on(models.get("a")).is_err());
    assert!(!read(generation).text.is_empty());

    let mut request = question("Tell me a long story.");
    request.options.max_tokens = Some(150);
    let mut generation = block_on(models.get("b")).unwrap().chat(&request).unwrap();
    generation.blocking_next().unwrap();
    block_on(models.shutdown(Duration::ZERO));
    let mut last = None;
    while let Some(event) = generation.blocking_next() {
        last = Some(event);
    }
    use zhenjin_assistant::{Failure, TextEvent};
    assert!(matches!(last, Some(TextEvent::Failed { failure: Failure::ShutDown, .. })), "{last:?}");
    assert!(matches!(block_on(models.get("b")), Err(AssistantError::ShuttingDown)));
}

/// A page's longest answer of 8,192 tokens once made a chat of a model with that context refuse every question.
#[test]
fn an_answer_that_may_end_with_the_context_does() {
    let models = ServedModels::new(vec![spec("a")], small(4 << 30)).unwrap();
    let assistant = block_on(models.get("a")).unwrap();
    let mut request = question("Tell me a long story about the sea.");
    request.options.max_tokens = Some(10_000);
    request.options.ignore_end = true;
    let refused = assistant.chat(&request).err();
    assert!(matches!(refused, Some(AssistantError::ContextExceeded { max_tokens: 10_000, .. })));
    request.options.ends_with_context = true;
    let prompt = assistant.count_prompt(&request).unwrap();
    let answer = read(assistant.chat(&request).unwrap());
    assert_eq!(answer.usage.completion_tokens, 256 - prompt);
}
