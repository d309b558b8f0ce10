-- Trigrams of erased text stayed readable in the index until its segments were merged.
INSERT INTO message_search (message_search, rank) VALUES ('secure-delete', 1);

INSERT INTO message_search (message_search) VALUES ('rebuild');
