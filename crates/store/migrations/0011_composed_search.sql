-- A letter can be written in several ways: as one character, as a letter with an accent behind it, with the one accent of two in it. Searches
-- look through texts in which each letter is one character, as far as there is one (Unicode's form NFC): `composed` holds a text so where it is
-- written otherwise, and is NULL where it is not. Of titles they know the letters without their case as well.
ALTER TABLE messages ADD COLUMN composed TEXT;
ALTER TABLE conversations ADD COLUMN folded_title TEXT NOT NULL DEFAULT '';

-- SQL knows no letters, so the program goes through what was there before. A row: behind which row it has come.
CREATE TABLE unfolded (
    texts  TEXT PRIMARY KEY NOT NULL CHECK (texts IN ('messages', 'titles')),
    behind INTEGER NOT NULL
) STRICT;

INSERT INTO unfolded (texts, behind) SELECT 'messages', 0 WHERE EXISTS (SELECT 1 FROM messages);
INSERT INTO unfolded (texts, behind) SELECT 'titles', 0 WHERE EXISTS (SELECT 1 FROM conversations);

-- A search for titles reads this index alone, and no rows with their system prompts.
DROP INDEX conversations_by_update;
CREATE INDEX conversations_by_update ON conversations (owner, updated_at DESC, id DESC, folded_title) WHERE deleted_at IS NULL;

DROP TRIGGER message_search_insert;
DROP TRIGGER message_search_remove;
DROP TRIGGER message_search_update;
DROP TRIGGER message_search_delete;
DROP TABLE message_search;

CREATE VIEW searched_messages (number, content) AS
    SELECT number, coalesce(composed, content) FROM messages WHERE status <> 'generating';

CREATE VIRTUAL TABLE message_search USING fts5 (
    content, content = 'searched_messages', content_rowid = 'number', tokenize = 'trigram'
);

INSERT INTO message_search (message_search, rank) VALUES ('secure-delete', 1);

INSERT INTO message_search (message_search) VALUES ('rebuild');

CREATE TRIGGER message_search_insert AFTER INSERT ON messages WHEN new.status <> 'generating' BEGIN
    INSERT INTO message_search (rowid, content) VALUES (new.number, coalesce(new.composed, new.content));
END;

-- One trigger, since nothing says in which order two would run.
CREATE TRIGGER message_search_update AFTER UPDATE OF content, composed, status ON messages
WHEN old.status <> 'generating' OR new.status <> 'generating' BEGIN
    INSERT INTO message_search (message_search, rowid, content)
        SELECT 'delete', old.number, coalesce(old.composed, old.content) WHERE old.status <> 'generating';
    INSERT INTO message_search (rowid, content)
        SELECT new.number, coalesce(new.composed, new.content) WHERE new.status <> 'generating';
END;

CREATE TRIGGER message_search_delete AFTER DELETE ON messages WHEN old.status <> 'generating' BEGIN
    INSERT INTO message_search (message_search, rowid, content)
        VALUES ('delete', old.number, coalesce(old.composed, old.content));
END;
