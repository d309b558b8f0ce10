-- Marks the file as Zhenjin's ("ZHJN"), so that another program's database is never taken for ours.
PRAGMA application_id = 1514687054;

CREATE TABLE conversations (
    id            TEXT PRIMARY KEY NOT NULL,
    title         TEXT NOT NULL,
    model         TEXT NOT NULL,
    system_prompt TEXT NOT NULL,
    settings      TEXT NOT NULL CHECK (json_valid(settings)),
    current_leaf  TEXT,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    deleted_at    INTEGER,
    FOREIGN KEY (id, current_leaf) REFERENCES messages (conversation_id, id) DEFERRABLE INITIALLY DEFERRED
) STRICT;

CREATE INDEX conversations_by_update ON conversations (updated_at DESC, id DESC) WHERE deleted_at IS NULL;

-- The composite keys make the database itself refuse a parent from another conversation.
CREATE TABLE messages (
    number                 INTEGER PRIMARY KEY AUTOINCREMENT,
    id                     TEXT NOT NULL UNIQUE,
    conversation_id        TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    parent_id              TEXT,
    role                   TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
    content                TEXT NOT NULL,
    status                 TEXT NOT NULL CHECK (status IN ('generating', 'complete', 'stopped', 'interrupted', 'failed')),
    error                  TEXT,
    model                  TEXT,
    created_at             INTEGER NOT NULL,
    finish_reason          TEXT,
    prompt_tokens          INTEGER,
    completion_tokens      INTEGER,
    cached_tokens          INTEGER,
    time_to_first_token_ms REAL,
    tokens_per_second      REAL,
    context_length         INTEGER,
    UNIQUE (conversation_id, id),
    FOREIGN KEY (conversation_id, parent_id) REFERENCES messages (conversation_id, id),
    CHECK (role = 'user' OR parent_id IS NOT NULL),
    CHECK (role = 'assistant' OR status = 'complete')
) STRICT;

CREATE INDEX messages_by_parent ON messages (conversation_id, parent_id);
CREATE INDEX messages_generating ON messages (status) WHERE status = 'generating';
