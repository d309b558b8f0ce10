//! Text files to token shards, and token shards to batches of packed documents.
