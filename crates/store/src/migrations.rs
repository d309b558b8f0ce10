//! The schema's history, oldest first. A migration that was ever released never changes: its checksum is in users'
//! files.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

const HISTORY: [(i64, &str, &str); 11] = [
    (1, "conversations", include_str!("../migrations/0001_conversations.sql")),
    (2, "search", include_str!("../migrations/0002_search.sql")),
    (3, "generations", include_str!("../migrations/0003_generations.sql")),
    (4, "api keys", include_str!("../migrations/0004_api_keys.sql")),
    (5, "generation fingerprints", include_str!("../migrations/0005_generation_fingerprints.sql")),
    (6, "owners", include_str!("../migrations/0006_owners.sql")),
    (7, "trash", include_str!("../migrations/0007_trash.sql")),
    (8, "feedback", include_str!("../migrations/0008_feedback.sql")),
    (9, "system prompts", include_str!("../migrations/0009_system_prompts.sql")),
    (10, "erased search", include_str!("../migrations/0010_erased_search.sql")),
    (11, "composed search", include_str!("../migrations/0011_composed_search.sql")),
];

/// Version of the newest migration that this program knows.
pub(crate) const NEWEST: i64 = HISTORY[HISTORY.len() - 1].0;

/// Everything that has to be applied, in order.
pub(crate) fn migrator() -> Migrator {
    let migrations = HISTORY.map(|(version, description, sql)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.into())
}
