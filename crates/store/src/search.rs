//! Full-text search over messages and titles. Terms are plain text; words between quotation marks (\"…\", “…”) are one term, in
//! which spaces count, and no other character has a meaning of its own. Terms of three and more characters go through the trigram
//! index; shorter ones, which trigrams cannot find, through a scan. All terms must occur. It does not rank: what is newer comes first.
//! What counts as the same text: `fold.rs`.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, QueryBuilder, Row, Sqlite, SqliteConnection};

use crate::database::Store;
use crate::fold::{cases, folded, spellings};
use crate::{ConversationId, MessageId, Owner, Snippet, StoreError, Timestamp};

/// The most characters that a query may have.
const QUERY_LIMIT: usize = 2_000;

/// The most terms that a query may have.
const TERM_LIMIT: usize = 128;

/// Shortest term, in characters, that the trigram index finds.
const TRIGRAM: usize = 3;

const DOING: &str = "searching";

/// A message or a title that has all terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchHit {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The message; of a title, the conversation's current leaf, `None` while it has no messages.
    pub message_id: Option<MessageId>,
    /// The conversation's title.
    pub title: String,
    /// The place in the message, or the title.
    pub snippet: Snippet,
    /// When the message was begun, or the conversation made.
    pub created_at: Timestamp,
}

struct FoundText {
    conversation_id: String,
    message_id: Option<String>,
    title: String,
    text: String,
    created_at: i64,
}

impl FromRow<'_, SqliteRow> for FoundText {
    fn from_row(row: &SqliteRow) -> Result<FoundText, sqlx::Error> {
        Ok(FoundText {
            conversation_id: row.try_get("conversation_id")?,
            message_id: row.try_get("message_id")?,
            title: row.try_get("title")?,
            text: row.try_get("text")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

impl Store {
    /// At most `limit` hits after the first `offset` of them, among the owner's conversations: titles first, then messages, the newest first. A query without terms finds nothing. Answers
    /// that are being written are not searched.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a query of more than 2,000 characters or 128 terms; [`StoreError::Busy`] while others search for long.
    pub async fn search(
        &self,
        owner: &Owner,
        query: &str,
        offset: u32,
        limit: u32,
    ) -> Result<Vec<SearchHit>, StoreError> {
        let terms = terms(query)?;
        if terms.is_empty() {
            return Ok(Vec::new());
        }
        let mut scan = self.scan(DOING).await?;
        let titles = self.titles(&mut scan.connection, owner, &terms).await?;
        let skipped = u32::try_from(titles.len()).map_or(0, |titles| offset.saturating_sub(titles));
        let mut found: Vec<FoundText> =
            titles.into_iter().skip(offset as usize).take(limit as usize).collect();

        let remaining = u32::try_from(found.len()).map_or(0, |titles| limit.saturating_sub(titles));
        let mut messages = message_query(owner, &terms);
        messages.push(" ORDER BY m.number DESC LIMIT ").push_bind(i64::from(remaining));
        messages.push(" OFFSET ").push_bind(i64::from(skipped));
        found.extend::<Vec<FoundText>>(
            messages.build_query_as().fetch_all(&mut *scan.connection).await.map_err(self.failed(DOING))?,
        );
        let shown: Vec<String> = terms.iter().flat_map(|term| spellings(term)).collect();
        Ok(found
            .into_iter()
            .map(|found| SearchHit {
                conversation_id: ConversationId::from_database(found.conversation_id),
                message_id: found.message_id.map(MessageId::from_database),
                snippet: Snippet::around(&found.text, &shown),
                title: found.title,
                created_at: Timestamp::from_milliseconds(found.created_at),
            })
            .collect())
    }

    /// The owner's titles that have all terms, those of the conversations that were used last first. They are compared here: SQLite knows
    /// the case of ASCII letters alone.
    async fn titles(
        &self,
        connection: &mut SqliteConnection,
        owner: &Owner,
        terms: &[String],
    ) -> Result<Vec<FoundText>, StoreError> {
        let mut titles: Vec<FoundText> = sqlx::query_as(
            "SELECT id AS conversation_id, current_leaf AS message_id, title, title AS text, created_at FROM conversations
             WHERE deleted_at IS NULL AND owner = ? ORDER BY updated_at DESC, id DESC",
        )
        .bind(owner.as_str())
        .fetch_all(connection)
        .await
        .map_err(self.failed(DOING))?;
        let terms: Vec<String> = terms.iter().map(|term| folded(term)).collect();
        titles.retain(|found| {
            let title = folded(&found.text);
            terms.iter().all(|term| title.contains(term.as_str()))
        });
        Ok(titles)
    }
}

/// The query's terms, each once: split at white space and control characters (a NUL would end SQLite's view of the text), except
/// between quotation marks. A mark without its partner is a character like others.
fn terms(query: &str) -> Result<Vec<String>, StoreError> {
    let invalid = |reason| StoreError::Invalid { field: "q", reason };
    if query.chars().count() > QUERY_LIMIT {
        return Err(invalid(format!("a query has at most {QUERY_LIMIT} characters")));
    }
    let separates = |character: char| character.is_whitespace() || character.is_control();
    let mut terms: Vec<String> = Vec::new();
    let mut add = |term: &str| {
        if !term.is_empty() && !terms.iter().any(|known| known == term) {
            terms.push(term.to_owned());
        }
    };
    let mut rest = query.trim_start_matches(separates);
    while !rest.is_empty() {
        if let Some((phrase, after)) = quoted(rest) {
            add(phrase);
            rest = after;
        } else {
            let end = rest.find(separates).unwrap_or(rest.len());
            add(&rest[..end]);
            rest = &rest[end..];
        }
        rest = rest.trim_start_matches(separates);
    }
    if terms.len() > TERM_LIMIT {
        return Err(invalid(format!("a query has at most {TERM_LIMIT} terms")));
    }
    Ok(terms)
}

/// What stands between the quotation marks with which `text` begins, and what follows them.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mut characters = text.chars();
    let closing = match characters.next()? {
        '"' => '"',
        '“' => '”',
        _ => return None,
    };
    let (phrase, after) = characters.as_str().split_once(closing)?;
    let phrase = phrase.trim();
    (!phrase.is_empty() && !phrase.contains(char::is_control)).then_some((phrase, after))
}

fn message_query(owner: &Owner, terms: &[String]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "SELECT c.id AS conversation_id, m.id AS message_id, c.title, m.content AS text, m.created_at
         FROM messages m JOIN conversations c ON c.id = m.conversation_id
         WHERE c.deleted_at IS NULL AND m.status <> 'generating' AND c.owner = ",
    );
    query.push_bind(owner.as_str().to_owned());
    let is_indexed = |spelling: &String| spelling.chars().count() >= TRIGRAM;
    let terms: Vec<(Vec<String>, Vec<String>)> =
        terms.iter().map(|term| spellings(term).into_iter().partition(is_indexed)).collect();
    let (indexed, scanned): (Vec<_>, Vec<_>) = terms.iter().partition(|(_, short)| short.is_empty());
    if !indexed.is_empty() {
        let all: Vec<String> = indexed.into_iter().map(|(long, _)| any_phrase(long)).collect();
        query.push(" AND ");
        push_match(&mut query, all.join(" AND "));
    }
    for (long, short) in scanned {
        query.push(" AND (FALSE");
        if !long.is_empty() {
            query.push(" OR ");
            push_match(&mut query, any_phrase(long));
        }
        for spelling in short.iter().flat_map(|spelling| cases(spelling)) {
            query.push(" OR ");
            push_like(&mut query, &spelling);
        }
        query.push(")");
    }
    query
}

/// Any of the texts, in FTS5's language: there a string in double quotes is text, in which a doubled quote stands for one.
fn any_phrase(texts: &[String]) -> String {
    let phrases: Vec<String> =
        texts.iter().map(|text| format!("\"{}\"", text.replace('"', "\"\""))).collect();
    format!("({})", phrases.join(" OR "))
}

/// Adds "the index finds the message by `wanted`".
fn push_match(query: &mut QueryBuilder<Sqlite>, wanted: String) {
    query.push("m.number IN (SELECT rowid FROM message_search WHERE message_search MATCH ");
    query.push_bind(wanted).push(")");
}

/// Adds "the message contains `term`".
fn push_like(query: &mut QueryBuilder<Sqlite>, term: &str) {
    let mut pattern = String::from("%");
    for character in term.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    query.push("m.content LIKE ").push_bind(pattern).push(" ESCAPE '\\'");
}
