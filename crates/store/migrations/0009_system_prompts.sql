-- The system prompt that the model had read, which the chat's own may no longer be; empty for none, NULL for answers from before this
-- was kept.
ALTER TABLE generations ADD COLUMN system_prompt TEXT;
