-- A database as the first schema left it, with rows. Written once; the program must open it for ever.
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

CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (1, 'conversations', TRUE,
    X'4ab16fb13d6b70b7dbbd2b8a0ae07256da8cb5888ae267dbe452566e5df698f17c0c74761c755a5a8930ce7b756b4cd0', 1);

BEGIN;
INSERT INTO conversations VALUES ('01J00000000000000000000001', '火炼', 'smollm2:135m', 'Be brief.', '{"temperature":0.5}',
    '01J00000000000000000000014', 1700000000000, 1700000000100, NULL);
INSERT INTO messages (number, id, conversation_id, parent_id, role, content, status, model, created_at) VALUES
    (1, '01J00000000000000000000011', '01J00000000000000000000001', NULL, 'user', '真金不怕什么？', 'complete', NULL, 1700000000000),
    (2, '01J00000000000000000000012', '01J00000000000000000000001', '01J00000000000000000000011', 'assistant', 'True gold fears no fire.', 'complete', 'smollm2:135m', 1700000000010),
    (3, '01J00000000000000000000013', '01J00000000000000000000001', '01J00000000000000000000012', 'user', 'Why?', 'complete', NULL, 1700000000020),
    (4, '01J00000000000000000000014', '01J00000000000000000000001', '01J00000000000000000000013', 'assistant', 'Because it', 'generating', 'smollm2:135m', 1700000000030);
COMMIT;
