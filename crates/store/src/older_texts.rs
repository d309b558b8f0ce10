//! Texts from before they were kept as searches look through them (migration 11). SQL knows no letters, so the program goes through them when
//! it opens the database, some at a time; one that is killed on the way goes on where it was.

use crate::StoreError;
use crate::database::Store;
use crate::fold::{composed, folded};

/// Messages that are read at once, of those that could be written otherwise.
const MESSAGES_AT_ONCE: i64 = 64;

/// Titles that are written at once.
const TITLES_AT_ONCE: i64 = 1_000;

const DOING: &str = "preparing older texts for searches";

/// The next messages that have more than ASCII letters. What is being written gets its own when it ends.
const MESSAGES: &str = "SELECT number, content FROM messages
    WHERE number > ? AND status <> 'generating' AND length(content) < length(CAST(content AS BLOB))
    ORDER BY number LIMIT ?";

const TITLES: &str =
    "SELECT rowid, title FROM conversations WHERE rowid > ? AND title <> '' ORDER BY rowid LIMIT ?";

impl Store {
    /// Goes through what is not done yet.
    pub(crate) async fn fold_older_texts(&self) -> Result<(), StoreError> {
        let left: Vec<(String, i64)> = sqlx::query_as("SELECT texts, behind FROM unfolded")
            .fetch_all(self.readers())
            .await
            .map_err(self.failed(DOING))?;
        for (texts, behind) in left {
            match texts.as_str() {
                "messages" => self.compose_messages(behind).await?,
                _ => self.fold_titles(behind).await?,
            }
            let statement = sqlx::query("DELETE FROM unfolded WHERE texts = ?").bind(&texts);
            self.execute_durably(DOING, statement).await?;
        }
        Ok(())
    }

    async fn compose_messages(&self, mut behind: i64) -> Result<(), StoreError> {
        loop {
            let rows = self.rows(MESSAGES, behind, MESSAGES_AT_ONCE).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            behind = *last;
            let changed: Vec<(i64, String)> =
                rows.iter().filter_map(|(number, content)| Some((*number, composed(content)?))).collect();
            // Where nothing changes, nothing is lost either if it is gone through once more.
            if !changed.is_empty() {
                let set = "UPDATE messages SET composed = ? WHERE number = ?";
                self.keep(set, &changed, "messages", behind).await?;
            }
        }
    }

    async fn fold_titles(&self, mut behind: i64) -> Result<(), StoreError> {
        loop {
            let rows = self.rows(TITLES, behind, TITLES_AT_ONCE).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            behind = *last;
            let changed: Vec<(i64, String)> = rows.iter().map(|(row, title)| (*row, folded(title))).collect();
            let set = "UPDATE conversations SET folded_title = ? WHERE rowid = ?";
            self.keep(set, &changed, "titles", behind).await?;
        }
    }

    async fn rows(
        &self,
        select: &'static str,
        behind: i64,
        most: i64,
    ) -> Result<Vec<(i64, String)>, StoreError> {
        sqlx::query_as(select)
            .bind(behind)
            .bind(most)
            .fetch_all(self.readers())
            .await
            .map_err(self.failed(DOING))
    }

    /// Sets the text of some rows, and notes how far it has come.
    async fn keep(
        &self,
        set: &'static str,
        changed: &[(i64, String)],
        texts: &'static str,
        behind: i64,
    ) -> Result<(), StoreError> {
        let mut write = self.write_durably(DOING).await?;
        for (row, text) in changed {
            sqlx::query(set)
                .bind(text)
                .bind(row)
                .execute(&mut *write.transaction)
                .await
                .map_err(self.failed(DOING))?;
        }
        sqlx::query("UPDATE unfolded SET behind = ? WHERE texts = ?")
            .bind(behind)
            .bind(texts)
            .execute(&mut *write.transaction)
            .await
            .map_err(self.failed(DOING))?;
        write.commit().await
    }
}
