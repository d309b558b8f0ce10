-- What exactly was asked of the model and what exactly it sampled: an answer can become a training example without
-- encoding its text again. Token ids are 32-bit little-endian integers.
CREATE TABLE generations (
    message_id     TEXT PRIMARY KEY NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    model          TEXT NOT NULL,
    seed           INTEGER,
    settings       TEXT NOT NULL CHECK (json_valid(settings)),
    prompt_tokens  BLOB NOT NULL,
    sampled_tokens BLOB NOT NULL
) STRICT;
