//! `/v1/embeddings`: what it gives, what it refuses, and that encoders are served for nothing else.

use crate::support::{self, Application, ENCODER_LIMIT, ENCODER_WIDTH, write_tiny_encoder};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zhenjin_assistant::ModelSpec;

const EMBEDDINGS: &str = "/v1/embeddings";

async fn embed(application: &Application, input: Value, more: Value) -> Value {
    let mut body = json!({ "model": "encoder", "input": input });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let answer = application.post(EMBEDDINGS, body.to_string()).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.text);
    answer.json()
}

fn vector(answer: &Value, index: usize) -> Vec<f32> {
    let values = answer["data"][index]["embedding"].as_array().expect("a list");
    values.iter().map(|value| value.as_f64().expect("a number") as f32).collect()
}

fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

#[tokio::test]
async fn texts_and_tokens_become_vectors_in_their_order() {
    let application = Application::with_encoder().await;
    let one = embed(&application, json!("The cat sat"), json!({})).await;
    assert_eq!((&one["object"], &one["model"]), (&json!("list"), &json!("encoder")));
    assert_eq!((&one["data"][0]["object"], &one["data"][0]["index"]), (&json!("embedding"), &json!(0)));
    assert_eq!(one["usage"], json!({ "prompt_tokens": 5, "total_tokens": 5 }));
    let of_one = vector(&one, 0);
    assert_eq!(of_one.len(), ENCODER_WIDTH);
    assert!((length(&of_one) - 1.0).abs() < 1e-6);

    // The bits do not depend on what is beside a text.
    let texts = ["dogs", "the cat sat", "a mat on the mat on the mat on", "the cat sat"];
    let several = embed(&application, json!(texts), json!({})).await;
    assert_eq!(several["usage"]["total_tokens"], 4 + 5 + 11 + 5);
    assert_eq!(several["data"].as_array().map(Vec::len), Some(4));
    assert_eq!((vector(&several, 1), vector(&several, 3)), (of_one.clone(), of_one.clone()));
    assert_ne!(vector(&several, 0), of_one);

    // Tokens are taken as they are.
    let tokens = embed(&application, json!([2, 8, 5, 6, 3]), json!({})).await;
    assert_eq!((vector(&tokens, 0), &tokens["usage"]["total_tokens"]), (of_one.clone(), &json!(5)));
    let lists = embed(&application, json!([[5, 6], [2, 8, 5, 6, 3]]), json!({})).await;
    assert_eq!(vector(&lists, 1), of_one);
    assert_ne!(vector(&lists, 0), of_one);
}

#[tokio::test]
async fn vectors_come_in_base64_shorter_and_behind_a_prompt() {
    let application = Application::with_encoder().await;
    let whole = vector(&embed(&application, json!("the cat sat"), json!({})).await, 0);
    let coded =
        embed(&application, json!("the cat sat"), json!({ "encoding_format": "base64", "user": "me" })).await;
    let bytes = STANDARD.decode(coded["data"][0]["embedding"].as_str().expect("a text")).expect("base64");
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(values, whole);

    let short = vector(&embed(&application, json!("the cat sat"), json!({ "dimensions": 8 })).await, 0);
    let divisor = length(&whole[..8]);
    let expected: Vec<f32> = whole[..8].iter().map(|value| (f64::from(*value) / divisor) as f32).collect();
    assert_eq!(short, expected);
    let all = json!({ "dimensions": ENCODER_WIDTH, "encoding_format": "float" });
    let all = vector(&embed(&application, json!("the cat sat"), all).await, 0);
    assert!(all.iter().zip(&whole).all(|(one, other)| (one - other).abs() < 1e-6));

    let prompted = embed(&application, json!(["cat sat"]), json!({ "prompt": "the " })).await;
    assert_eq!(vector(&prompted, 0), whole);
    let named = embed(&application, json!("cat sat"), json!({ "prompt_name": "query" })).await;
    assert_eq!(vector(&named, 0), whole);
}

#[tokio::test]
async fn what_is_wrong_is_said_with_its_place() {
    let application = Application::with_encoder().await;
    let long = "cat ".repeat(ENCODER_LIMIT);
    let too_long = "`input[1]` has 14 tokens, but the model reads 12 at most";
    for (body, param, words) in [
        (json!({ "input": "a" }), "model", "`model` is missing"),
        (json!({ "model": "encoder" }), "input", "`input` is missing"),
        (json!({ "model": "other", "input": "a" }), "model", "not served here; served: tiny, encoder"),
        (json!({ "model": "tiny", "input": "a" }), "model", "`tiny` writes text and makes no embeddings"),
        (json!({ "model": "encoder", "input": ["a", long] }), "input[1]", too_long),
        (json!({ "model": "encoder", "input": long }), "input", "`input` has 14 tokens"),
        (json!({ "model": "encoder", "input": vec![5; 13] }), "input", "`input` has 13 tokens"),
        (json!({ "model": "encoder", "input": "" }), "input", "must not be an empty string"),
        (json!({ "model": "encoder", "input": ["a", ""] }), "input[1]", "must not be an empty string"),
        (json!({ "model": "encoder", "input": [] }), "input", "must not be an empty list"),
        (json!({ "model": "encoder", "input": [[]] }), "input[0]", "must not be an empty list"),
        (json!({ "model": "encoder", "input": ["a", 5] }), "input[1]", "must be a string, not a number"),
        (json!({ "model": "encoder", "input": [5, "a"] }), "input[1]", "must be a whole number"),
        (json!({ "model": "encoder", "input": { "a": 1 } }), "input", "must be a string, a list of strings"),
        (json!({ "model": "encoder", "input": [true] }), "input", "must be a string, a list of strings"),
        (
            json!({ "model": "encoder", "input": [5, 12] }),
            "input[1]",
            "is 12, but the model's tokens are 0 to 11",
        ),
        (json!({ "model": "encoder", "input": [[5], [-1]] }), "input[1][0]", "must be a whole number"),
        (json!({ "model": "encoder", "input": vec!["a"; 2049] }), "input", "at most 2048 inputs, not 2049"),
        (
            json!({ "model": "encoder", "input": "a", "dimensions": 33 }),
            "dimensions",
            "must be 1 to 32 for this model",
        ),
        (json!({ "model": "encoder", "input": "a", "dimensions": 0 }), "dimensions", "from 1 to 65536"),
        (
            json!({ "model": "encoder", "input": "a", "encoding_format": "hex" }),
            "encoding_format",
            "float, base64",
        ),
        (
            json!({ "model": "encoder", "input": [5], "prompt": "a " }),
            "prompt",
            "token ids are taken as they are",
        ),
        (
            json!({ "model": "encoder", "input": "a", "prompt_name": "passage" }),
            "prompt_name",
            "the model has no prompt `passage`; it has query",
        ),
        (
            json!({ "model": "encoder", "input": "a", "prompt": "a ", "prompt_name": "query" }),
            "prompt_name",
            "send one of them",
        ),
        (
            json!({ "model": "encoder", "input": [5], "prompt_name": "query" }),
            "prompt_name",
            "token ids are taken as they are",
        ),
        (json!({ "model": "encoder", "input": "a", "truncate": true }), "truncate", "never cut"),
        (json!({ "model": "encoder", "input": "a", "inputs": "b" }), "inputs", "did you mean `input`?"),
    ] {
        let answer = application.post(EMBEDDINGS, body.to_string()).await;
        let (message, code, at) = answer.error();
        assert!(answer.status.is_client_error() && message.contains(words), "{body}: {}", answer.text);
        assert_eq!(at, param, "{body}: {}", answer.text);
        assert_eq!(
            code == "context_length_exceeded",
            words.contains("tokens, but") || words.ends_with("tokens"),
            "{body}"
        );
    }
    // As many tokens as the model reads are fine, also with what other clients send.
    let fits = json!("cat ".repeat(ENCODER_LIMIT - 2));
    embed(&application, fits, json!({ "truncate": false, "dimensions": null })).await;
}

/// Regression: a text of megabytes was encoded as a whole before it was refused, and took gigabytes and half a minute.
#[tokio::test]
async fn a_text_that_is_far_too_long_is_refused_without_its_number_of_tokens() {
    let application = Application::with_encoder().await;
    let long = "the cat sat on a mat ".repeat(16 << 10);
    let body = json!({ "model": "encoder", "input": ["a", long] });
    let answer = application.post(EMBEDDINGS, body.to_string()).await;
    let (message, code, at) = answer.error();
    let said = (answer.status.as_u16(), code.as_str(), at.as_str());
    assert_eq!(said, (400, "context_length_exceeded", "input[1]"), "{message}");
    let words = format!("has more than {ENCODER_LIMIT} tokens, but the model reads {ENCODER_LIMIT} at most");
    assert!(message.contains(&words), "{message}");
}

/// Regression: a prompt that was asked for by its name was refused as the field `prompt`.
#[tokio::test]
async fn a_prompt_that_the_model_does_not_pool_is_refused_by_the_field_that_asked_for_it() {
    let application = Application::with_encoder().await;
    let pooling = application.folder.path().join("encoder/1_Pooling/config.json");
    let settings = json!({ "pooling_mode": "mean", "include_prompt": false });
    std::fs::write(pooling, settings.to_string()).expect("a file");
    for (field, value) in [("prompt", "the "), ("prompt_name", "query")] {
        let mut body = json!({ "model": "encoder", "input": "cat" });
        body[field] = json!(value);
        let answer = application.post(EMBEDDINGS, body.to_string()).await;
        let (message, _, at) = answer.error();
        assert_eq!((answer.status.as_u16(), at.as_str()), (400, field), "{message}");
        assert!(
            message.starts_with(&format!("`{field}`: this model leaves the tokens of prompts")),
            "{message}"
        );
    }
}

/// Regression: vectors of broken weights were lists of nulls.
#[tokio::test]
async fn broken_weights_are_an_error_and_no_vector() {
    let application = Application::with_encoder().await;
    let file = application.folder.path().join("encoder/model.safetensors");
    let mut bytes = std::fs::read(&file).expect("a file");
    let (length, _) = bytes.split_first_chunk::<8>().expect("a header");
    let header = usize::try_from(u64::from_le_bytes(*length)).expect("a small one");
    // The embedding of `cat`, in the first tensor.
    let place = 8 + header + 5 * ENCODER_WIDTH * size_of::<f32>();
    bytes[place..place + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&file, bytes).expect("a file");
    embed(&application, json!("the mat"), json!({})).await;
    let body = json!({ "model": "encoder", "input": ["the mat", "a cat"] });
    let answer = application.post(EMBEDDINGS, body.to_string()).await;
    assert_eq!(answer.status.as_u16(), 500, "{}", answer.text);
    assert_eq!(answer.error().0, "the hidden states of text 1 are not finite: the weights are broken");
}

/// Regression: a folder without a model was said to write text.
#[tokio::test]
async fn what_is_no_model_is_not_said_to_write() {
    let application = Application::new().await;
    let path = application.folder.path().join("nothing");
    std::fs::create_dir(&path).expect("a folder");
    application.state.models.add(ModelSpec { name: "nothing".to_owned(), path }).expect("a new name");
    let body = json!({ "model": "nothing", "input": "a" });
    let answer = application.post(EMBEDDINGS, body.to_string()).await;
    let (message, code, _) = answer.error();
    assert_eq!((answer.status.as_u16(), code.as_str()), (500, "model_not_loadable"), "{}", answer.text);
    assert!(message.contains("neither config.json nor a .gguf file"), "{message}");
}

#[tokio::test]
async fn encoders_are_listed_but_not_offered_for_conversations() {
    let application = Application::with_encoder().await;
    let ids = |list: &Value| -> Vec<String> {
        let models = list["data"].as_array().expect("a list").iter();
        models.map(|model| model["id"].as_str().unwrap_or("").to_owned()).collect()
    };
    let listed = application.get("/v1/models").await.json();
    assert_eq!(ids(&listed), ["tiny", "encoder"]);
    assert_eq!((&listed["data"][1]["loaded"], &listed["data"][1]["embeds"]), (&json!(false), &json!(true)));
    assert_eq!(listed["data"][0]["embeds"], false);
    embed(&application, json!("a"), json!({})).await;
    let loaded = application.get("/v1/models/encoder").await.json();
    assert_eq!((&loaded["loaded"], &loaded["context_length"]), (&json!(true), &json!(ENCODER_LIMIT)));
    let menu = application.get("/api/models").await;
    assert!(!menu.text.contains("encoder") && !menu.text.contains("minilm"), "{}", menu.text);
    let messages = json!([{ "role": "user", "content": "hi" }]);
    for (path, body) in [
        ("/v1/chat/completions", json!({ "model": "encoder", "messages": messages })),
        ("/v1/completions", json!({ "model": "encoder", "prompt": "a" })),
        ("/v1/responses", json!({ "model": "encoder", "input": "a" })),
        ("/v1/messages", json!({ "model": "encoder", "max_tokens": 4, "messages": messages })),
        ("/v1/messages/count_tokens", json!({ "model": "encoder", "messages": messages })),
        ("/api/chat", json!({ "model": "encoder:latest", "messages": messages })),
        ("/api/chat", json!({ "model": "encoder", "messages": [] })),
        ("/api/generate", json!({ "model": "encoder", "prompt": "a" })),
    ] {
        let answer = application.post(path, body.to_string()).await;
        assert_eq!(answer.status.as_u16(), 400, "{path}: {}", answer.text);
        let words =
            "`encoder` is an embedding model: it makes embeddings (`/v1/embeddings`) and writes no text";
        assert!(answer.text.contains(words), "{path}: {}", answer.text);
        if path.starts_with("/v1/c") {
            assert_eq!(answer.error().2, "model", "{path}: {}", answer.text);
        }
    }
    // Its memory is given back on demand, and the next request loads it again.
    assert!(application.state.models.unload("encoder"));
    assert!(!application.state.models.unload("encoder"));
    embed(&application, json!("a"), json!({})).await;
    assert!(application.state.models.remove("encoder"));
    let gone = application.post(EMBEDDINGS, json!({ "model": "encoder", "input": "a" }).to_string()).await;
    assert_eq!(gone.status, 404, "{}", gone.text);
}

#[tokio::test]
async fn folders_that_do_not_say_how_to_pool_are_not_guessed_at() {
    let application = Application::with_encoder().await;
    let folder = application.folder.path().join("encoder");
    let refusal = async |words: &str| {
        let body = json!({ "model": "encoder", "input": "a" }).to_string();
        let answer = application.post(EMBEDDINGS, body).await;
        assert_eq!((answer.status.as_u16(), answer.error().1.as_str()), (500, "model_not_loadable"));
        assert!(answer.error().0.contains(words), "{}", answer.text);
    };
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a file");
    let pooling = std::fs::read_to_string(folder.join("1_Pooling/config.json")).expect("a file");
    let modules = std::fs::read_to_string(folder.join("modules.json")).expect("a file");
    write("1_Pooling/config.json", r#"{"word_embedding_dimension": 31, "pooling_mode_mean_tokens": true}"#);
    refusal("word_embedding_dimension is 31, but the model's width is 32").await;
    write("1_Pooling/config.json", r#"{"pooling_mode_mean_tokens": false}"#);
    refusal("no pooling mode is switched on").await;
    write("1_Pooling/config.json", r#"{"pooling_mode": "median"}"#);
    refusal("the pooling mode \"median\" is not supported").await;
    std::fs::remove_file(folder.join("1_Pooling/config.json")).expect("a file");
    refusal("it says how hidden states become one vector").await;
    write("1_Pooling/config.json", &pooling);
    write("modules.json", &modules.replace("models.Normalize", "models.LayerNorm"));
    refusal("module 2 is `LayerNorm`").await;
    write("modules.json", &modules.replace("1_Pooling", "../elsewhere"));
    refusal("is not a folder inside the model's own").await;
    std::fs::remove_file(folder.join("modules.json")).expect("a file");
    refusal("has no modules.json").await;
    write("modules.json", &modules);
    embed(&application, json!("a"), json!({})).await;
}

#[tokio::test]
async fn ollamas_clients_get_the_same_vectors() {
    let application = Application::with_encoder().await;
    let expected = vector(&embed(&application, json!("the cat sat"), json!({})).await, 0);
    let values = |list: &Value| -> Vec<f32> {
        let values = list.as_array().expect("a list").iter();
        values.map(|value| value.as_f64().expect("a number") as f32).collect()
    };
    let ask = |path: &'static str, body: Value| application.post(path, body.to_string());
    for name in ["encoder", "encoder:latest"] {
        let one =
            ask("/api/embed", json!({ "model": name, "input": "the cat sat", "keep_alive": "5m" })).await;
        assert_eq!(one.status, 200, "{}", one.text);
        let one = one.json();
        assert_eq!((&one["model"], &one["prompt_eval_count"]), (&json!(name), &json!(5)));
        assert!(one["total_duration"].as_u64() >= one["load_duration"].as_u64(), "{one}");
        assert_eq!(values(&one["embeddings"][0]), expected);
    }
    let several =
        json!({ "model": "encoder", "input": ["dogs", "the cat sat"], "truncate": false, "options": {} });
    let several = ask("/api/embed", several).await.json();
    assert_eq!(several["embeddings"].as_array().map(Vec::len), Some(2));
    assert_eq!(values(&several["embeddings"][1]), expected);
    // Nothing gives nothing: clients load a model so.
    for (path, body, name) in [
        ("/api/embed", json!({ "model": "encoder", "input": [] }), "embeddings"),
        ("/api/embed", json!({ "model": "encoder", "input": "" }), "embeddings"),
        ("/api/embed", json!({ "model": "encoder" }), "embeddings"),
        ("/api/embeddings", json!({ "model": "encoder", "prompt": "" }), "embedding"),
        ("/api/embeddings", json!({ "model": "encoder" }), "embedding"),
    ] {
        let none = ask(path, body.clone()).await;
        assert_eq!((none.status.as_u16(), &none.json()[name]), (200, &json!([])), "{path} {body}");
    }
    let short = json!({ "model": "encoder", "input": "the cat sat", "dimensions": 8 });
    assert_eq!(values(&ask("/api/embed", short).await.json()["embeddings"][0]).len(), 8);
    // Without the module that makes them so, the vectors of `/api/embed` are of unit length all the same, as Ollama's are.
    let folder = application.folder.path().join("encoder");
    let modules = std::fs::read_to_string(folder.join("modules.json")).expect("a file");
    let mut fewer: Vec<Value> = serde_json::from_str(&modules).expect("a list");
    fewer.truncate(2);
    std::fs::write(folder.join("modules.json"), json!(fewer).to_string()).expect("a file");
    assert!(application.state.models.unload("encoder"));
    let as_it_is = vector(&embed(&application, json!("the cat sat"), json!({})).await, 0);
    assert!((length(&as_it_is) - 1.0).abs() > 1e-3, "{}", length(&as_it_is));
    let body = json!({ "model": "encoder", "input": "the cat sat" });
    let unit = values(&ask("/api/embed", body).await.json()["embeddings"][0]);
    assert!((length(&unit) - 1.0).abs() < 1e-6, "{}", length(&unit));
    std::fs::write(folder.join("modules.json"), modules).expect("a file");
    assert!(application.state.models.unload("encoder"));
    let older = ask("/api/embeddings", json!({ "model": "encoder", "prompt": "the cat sat" })).await.json();
    assert_eq!(values(&older["embedding"]), expected);

    let long = "cat ".repeat(ENCODER_LIMIT);
    for (path, body, status, words) in [
        ("/api/embed", json!({ "model": "encoder", "input": ["a", long] }), 400, "`input[1]` has"),
        ("/api/embeddings", json!({ "model": "encoder", "prompt": long }), 400, "`prompt` has"),
        (
            "/api/embed",
            json!({ "model": "encoder", "input": "a", "truncate": true }),
            400,
            "nothing is ever cut",
        ),
        ("/api/embed", json!({ "model": "encoder", "input": 1 }), 400, "`input`"),
        (
            "/api/embed",
            json!({ "model": "tiny", "input": "a" }),
            400,
            "`tiny` writes text and makes no embeddings",
        ),
        ("/api/embed", json!({ "model": "nobody", "input": "a" }), 404, "nobody"),
    ] {
        let answer = ask(path, body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        let error = answer.json()["error"].as_str().expect("words").to_owned();
        assert!(error.contains(words), "{path}: {error}");
    }
}

#[tokio::test]
async fn ollamas_clients_see_encoders_as_such() {
    let application = Application::with_encoder().await;
    let named = |list: &Value, name: &str| -> Value {
        let models = list["models"].as_array().expect("a list");
        models.iter().find(|model| model["name"] == name).cloned().unwrap_or_default()
    };
    let listed = named(&application.get("/api/tags").await.json(), "encoder");
    assert_eq!(
        (&listed["details"]["family"], &listed["details"]["format"]),
        (&json!("bert"), &json!("safetensors"))
    );
    let parameters = (&listed["details"]["parameter_size"], &listed["details"]["quantization_level"]);
    assert_eq!(parameters, (&json!("8.53K"), &json!("F32")));
    assert!(listed["size"].as_u64() > Some(8528 * 4), "{listed}");

    let show =
        async |name: &str| application.post("/api/show", json!({ "model": name }).to_string()).await.json();
    let card = show("encoder:latest").await;
    assert_eq!(card["capabilities"], json!(["embedding"]));
    assert_eq!(show("tiny").await["capabilities"][0], "completion");
    let expected = json!({
        "general.architecture": "bert", "general.parameter_count": 8528, "bert.attention.causal": false, "bert.pooling_type": 1,
        "bert.attention.head_count": 2, "bert.attention.head_count_kv": 2, "bert.block_count": 1, "bert.context_length": ENCODER_LIMIT,
        "bert.embedding_length": ENCODER_WIDTH, "bert.feed_forward_length": 48, "bert.vocab_size": 12,
    });
    assert_eq!(card["model_info"], expected);

    assert_eq!(application.get("/api/ps").await.json()["models"], json!([]));
    embed(&application, json!("a"), json!({})).await;
    let running = named(&application.get("/api/ps").await.json(), "encoder");
    assert_eq!(running["context_length"], ENCODER_LIMIT);
    assert!(running["size"].as_u64() > Some(8528 * 4), "{running}");
}

/// Regressions: Ollama's list left out what was fetched, an encoder that was fetched while the server ran was an error, and a removed one was
/// served on.
#[tokio::test]
async fn a_fetched_encoder_is_served_at_its_first_use_and_removed() {
    let application = Application::new().await;
    let folder = application.folder.path().join("models/all-minilm--l6");
    write_tiny_encoder(&folder);
    let manifest = json!({ "name": "all-minilm:l6", "source": "here", "open": ".", "files": [] });
    std::fs::write(folder.join("model.json"), manifest.to_string()).expect("a file");
    assert!(application.get("/api/tags").await.text.contains("all-minilm:l6"));
    let body = json!({ "model": "all-minilm", "input": "a" });
    let answer = application.post("/api/embed", body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(application.get("/v1/models").await.text.contains("all-minilm:l6"));
    let held = application.state.models.embedder("all-minilm:l6").await.expect("it is served");
    let delete = async || {
        let request = support::request(axum::http::Method::DELETE, "/api/models/all-minilm:l6");
        application.send(request.body(axum::body::Body::empty()).expect("valid")).await
    };
    let answer = delete().await;
    assert_eq!((answer.status.as_u16(), answer.error().1.as_str()), (409, "model_in_use"), "{}", answer.text);
    drop(held);
    assert_eq!(delete().await.status, 204);
    assert!(!application.get("/v1/models").await.text.contains("all-minilm:l6"));
    assert!(!folder.exists());
}

/// A decoder whose folder says how it makes vectors embeds as an encoder does, and writes nothing although it has a head.
#[tokio::test]
async fn a_decoder_that_pools_its_hidden_states_makes_embeddings() {
    let application = Application::with_embedder().await;
    let ask = async |body: Value| application.post(EMBEDDINGS, body.to_string()).await;
    let vectors = async |mut body: Value| {
        body["model"] = json!("embedder");
        let answer = ask(body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    };
    let one = vectors(json!({ "input": "The cat sat" })).await;
    // A token for each byte, and the one that ends a text.
    assert_eq!(one["usage"], json!({ "prompt_tokens": 12, "total_tokens": 12 }));
    let of_one = vector(&one, 0);
    assert!(of_one.len() == 64 && (length(&of_one) - 1.0).abs() < 1e-6);
    let several = vectors(json!({ "input": ["dogs", "The cat sat", "a mat".repeat(300)] })).await;
    assert_eq!(vector(&several, 1), of_one);
    let tokens: Vec<u32> = "The cat sat".bytes().map(u32::from).chain([256]).collect();
    assert_eq!(vector(&vectors(json!({ "input": tokens })).await, 0), of_one);
    let in_base64 = vectors(json!({ "input": "The cat sat", "encoding_format": "base64" })).await;
    let bytes = STANDARD.decode(in_base64["data"][0]["embedding"].as_str().expect("a text")).expect("base64");
    let floats: Vec<f32> =
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four"))).collect();
    assert_eq!(floats, of_one);
    let short = vector(&vectors(json!({ "input": "The cat sat", "dimensions": 16 })).await, 0);
    assert!(short.len() == 16 && (length(&short) - 1.0).abs() < 1e-6);
    let named = vectors(json!({ "input": "cats", "prompt_name": "query" })).await;
    let spelled = vectors(json!({ "input": "Instruct: find\nQuery:cats" })).await;
    assert_eq!(vector(&named, 0), vector(&spelled, 0));

    let answer = ask(json!({ "model": "embedder", "input": ["a", "b".repeat(9000)] })).await;
    let (message, code, field) = answer.error();
    assert_eq!((answer.status.as_u16(), code.as_str()), (400, "context_length_exceeded"), "{message}");
    assert!(field == "input[1]" && message.contains("the model reads 8192 at most"), "{field}: {message}");
    // A chat model says what would make it one.
    let (message, ..) = ask(json!({ "model": "tiny", "input": "a" })).await.error();
    assert!(message.contains("`tiny` writes text") && message.contains("modules.json"), "{message}");

    let listed = application.get("/v1/models").await.json();
    let models = listed["data"].as_array().expect("a list");
    let embeds: Vec<&Value> =
        models.iter().filter(|model| model["id"] == "embedder").map(|model| &model["embeds"]).collect();
    assert_eq!(embeds, [&json!(true)]);
    let body = json!({ "model": "embedder", "messages": [{ "role": "user", "content": "a" }] });
    let (message, ..) = application.post("/v1/chat/completions", body.to_string()).await.error();
    assert!(message.contains("`embedder` is an embedding model"), "{message}");
    let card = application.post("/api/show", json!({ "model": "embedder" }).to_string()).await.json();
    assert_eq!(card["capabilities"], json!(["embedding"]));
    let information = &card["model_info"];
    assert_eq!(
        (&information["llama.attention.causal"], &information["llama.pooling_type"]),
        (&json!(true), &json!(3))
    );
}
