//! The tests of `zhenjin-server` from outside, one program: each file here is one of its modules.

mod adapters;
mod answers;
mod anthropic;
mod bodies;
mod documents;
mod embeddings;
mod feedback;
mod improvements;
mod model_menu;
mod network;
mod ollama;
mod other_servers;
mod owners;
mod places;
mod promotions;
mod prosody;
mod request_boundaries;
mod responses;
mod security;
mod support;
mod thoughts;
mod web_chat;
