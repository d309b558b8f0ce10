-- What people think of answers. One row for each answer that was judged; it goes with the answer. The id names one judgement: it
-- changes when the rating or the correction changes, so that what an improvement learned from is never mistaken for something newer.
CREATE TABLE feedback (
    message_id TEXT PRIMARY KEY NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    id         TEXT NOT NULL UNIQUE,
    rating     TEXT CHECK (rating IN ('up', 'down')),
    reasons    TEXT NOT NULL CHECK (json_valid(reasons)),
    comment    TEXT,
    correction TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- Which of two answers to the same question is the better one.
CREATE TABLE choices (
    id          TEXT PRIMARY KEY NOT NULL,
    chosen_id   TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    rejected_id TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    created_at  INTEGER NOT NULL,
    UNIQUE (chosen_id, rejected_id),
    CHECK (chosen_id <> rejected_id)
) STRICT;

CREATE INDEX choices_by_rejected ON choices (rejected_id);

-- Who has said whether models may learn from their feedback. Whoever is not here has not allowed it.
CREATE TABLE training_consent (
    owner      TEXT PRIMARY KEY NOT NULL,
    allowed    INTEGER NOT NULL CHECK (allowed IN (0, 1)),
    changed_at INTEGER NOT NULL
) STRICT;

-- Which improvement of a model learned from which judgement. Only ids, and no foreign keys: it must still be known after the chat
-- and its feedback are erased.
CREATE TABLE trained_feedback (
    improvement     TEXT NOT NULL,
    feedback_id     TEXT NOT NULL,
    conversation_id TEXT NOT NULL,
    owner           TEXT NOT NULL,
    noted_at        INTEGER NOT NULL,
    PRIMARY KEY (improvement, feedback_id)
) STRICT;

CREATE INDEX trained_feedback_by_judgement ON trained_feedback (feedback_id);
CREATE INDEX trained_feedback_by_conversation ON trained_feedback (owner, conversation_id);

-- SHA-256 of the chat template with which the prompt was made, in hexadecimal; NULL for answers from before this was kept.
ALTER TABLE generations ADD COLUMN template TEXT;
