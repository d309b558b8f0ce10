-- The trash of one owner, the latest deleted first; and what is to be purged.
CREATE INDEX conversations_by_deletion ON conversations (owner, deleted_at DESC, id DESC) WHERE deleted_at IS NOT NULL;
