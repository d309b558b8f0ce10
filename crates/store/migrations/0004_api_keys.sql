-- Only the SHA-256 of a key is kept. Keys are 256 random bits, so there is nothing to guess and nothing to salt.
CREATE TABLE api_keys (
    id           TEXT PRIMARY KEY NOT NULL,
    name         TEXT NOT NULL,
    hash         BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;

-- A browser that has shown a key holds a session instead of the key. Revoking the key ends its sessions.
CREATE TABLE sessions (
    hash       BLOB PRIMARY KEY NOT NULL CHECK (length(hash) = 32),
    key_id     TEXT NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL
) STRICT;
