-- Trigrams find Chinese, which has no spaces between words. An answer enters the index when it is finished:
-- indexing it at every batch of text would write it over and over.
CREATE VIRTUAL TABLE message_search USING fts5 (
    content, content = 'messages', content_rowid = 'number', tokenize = 'trigram'
);

INSERT INTO message_search (rowid, content) SELECT number, content FROM messages WHERE status <> 'generating';

CREATE TRIGGER message_search_insert AFTER INSERT ON messages WHEN new.status <> 'generating' BEGIN
    INSERT INTO message_search (rowid, content) VALUES (new.number, new.content);
END;

CREATE TRIGGER message_search_remove AFTER UPDATE OF content, status ON messages WHEN old.status <> 'generating' BEGIN
    INSERT INTO message_search (message_search, rowid, content) VALUES ('delete', old.number, old.content);
END;

CREATE TRIGGER message_search_update AFTER UPDATE OF content, status ON messages WHEN new.status <> 'generating' BEGIN
    INSERT INTO message_search (rowid, content) VALUES (new.number, new.content);
END;

CREATE TRIGGER message_search_delete AFTER DELETE ON messages WHEN old.status <> 'generating' BEGIN
    INSERT INTO message_search (message_search, rowid, content) VALUES ('delete', old.number, old.content);
END;
