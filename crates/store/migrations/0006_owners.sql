-- Whose a conversation is: 'local' (the person at the machine, where no key is asked for), or the id of a key. What existed
-- before belongs to the local owner, and the keys that existed go on opening it and administering models, as they could.
ALTER TABLE conversations ADD COLUMN owner TEXT NOT NULL DEFAULT 'local';
ALTER TABLE api_keys ADD COLUMN owner TEXT NOT NULL DEFAULT 'local';
ALTER TABLE api_keys ADD COLUMN role TEXT NOT NULL DEFAULT 'operator' CHECK (role IN ('operator', 'user'));

DROP INDEX conversations_by_update;
CREATE INDEX conversations_by_update ON conversations (owner, updated_at DESC, id DESC) WHERE deleted_at IS NULL;
