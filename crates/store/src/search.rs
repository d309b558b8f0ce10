//! Full-text search over messages and titles. Terms are plain text; words between quotation marks (\"…\", “…”) are one term, in
//! which spaces count, and no other character has a meaning of its own. Terms of three and more characters go through the trigram
//! index; shorter ones, which trigrams cannot find, through a scan. All terms must occur. It does not rank: what is newer comes first.
//! What counts as the same text: `fold.rs`.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, QueryBuilder, Row, Sqlite, SqliteConnection};
use unicode_normalization::UnicodeNormalization;

use crate::database::Store;
use crate::fold::{cases, folded};
use crate::{ConversationId, MessageId, Owner, Snippet, StoreError, Timestamp};

/// The most characters that a query may have.
const QUERY_LIMIT: usize = 2_000;

/// The most terms that a query may have.
const TERM_LIMIT: usize = 128;

/// Shortest term, in characters, that the trigram index finds.
const TRIGRAM: usize = 3;

const DOING: &str = "searching";

const TITLES: &str =
    "SELECT id AS conversation_id, current_leaf AS message_id, title, title AS text, created_at";

/// A conversation's first question that holds its title: a title has no space twice, and a mark at its end where it is cut.
const TITLED_BY: &str =
    "SELECT 1 FROM messages m WHERE m.conversation_id = conversations.id AND m.parent_id IS NULL
    AND instr(replace(replace(m.content, '  ', ' '), '  ', ' '), rtrim(conversations.title, '…')) > 0";

/// A message's text in composed letters.
const COMPOSED: &str = "coalesce(m.composed, m.content)";

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
    /// At most `limit` hits after the first `offset` of them, among the owner's conversations: titles first, then messages, the newest first. A title
    /// that is taken from the first question is no hit of its own where that question is one. A query without terms finds nothing. Answers that are
    /// being written are not searched.
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
        let mut titles = title_query(TITLES, owner, &terms);
        titles.push(" ORDER BY updated_at DESC, id DESC LIMIT ").push_bind(i64::from(limit));
        titles.push(" OFFSET ").push_bind(i64::from(offset));
        let mut found: Vec<FoundText> =
            titles.build_query_as().fetch_all(&mut *scan.connection).await.map_err(self.failed(DOING))?;

        let remaining = u32::try_from(found.len()).map_or(0, |titles| limit.saturating_sub(titles));
        if remaining > 0 {
            let titles = match offset {
                0 => 0,
                _ => self.count_titles(&mut scan.connection, owner, &terms).await?,
            };
            let skipped = i64::from(offset).saturating_sub(titles).max(0);
            let mut messages = message_query(owner, &terms);
            messages.push(" ORDER BY m.number DESC LIMIT ").push_bind(i64::from(remaining));
            messages.push(" OFFSET ").push_bind(skipped);
            let messages: Vec<FoundText> = messages
                .build_query_as()
                .fetch_all(&mut *scan.connection)
                .await
                .map_err(self.failed(DOING))?;
            found.extend(messages);
        }
        Ok(found
            .into_iter()
            .map(|found| SearchHit {
                conversation_id: ConversationId::from_database(found.conversation_id),
                message_id: found.message_id.map(MessageId::from_database),
                snippet: Snippet::around(&found.text, &terms),
                title: found.title,
                created_at: Timestamp::from_milliseconds(found.created_at),
            })
            .collect())
    }

    async fn count_titles(
        &self,
        connection: &mut SqliteConnection,
        owner: &Owner,
        terms: &[String],
    ) -> Result<i64, StoreError> {
        let mut titles = title_query("SELECT count(*)", owner, terms);
        titles.build_query_scalar().fetch_one(connection).await.map_err(self.failed(DOING))
    }
}

/// The owner's titles that have all terms, without those that say what the first question, which is found as well, says. They are kept folded:
/// SQLite knows the case of ASCII letters alone.
fn title_query(select: &str, owner: &Owner, terms: &[String]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(select);
    query.push(" FROM conversations WHERE deleted_at IS NULL AND owner = ");
    query.push_bind(owner.as_str().to_owned());
    for term in terms {
        query.push(" AND instr(folded_title, ").push_bind(folded(term)).push(") > 0");
    }
    query.push(" AND NOT EXISTS (").push(TITLED_BY);
    push_terms(&mut query, terms);
    query.push(")");
    query
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
    push_terms(&mut query, terms);
    query
}

/// Adds "and the message `m` has all terms".
fn push_terms(query: &mut QueryBuilder<Sqlite>, terms: &[String]) {
    let composed = terms.iter().map(|term| term.nfc().collect::<String>());
    let (indexed, scanned): (Vec<_>, Vec<_>) = composed.partition(|term| term.chars().count() >= TRIGRAM);
    if !indexed.is_empty() {
        let all: Vec<String> = indexed.iter().map(|term| phrase(term)).collect();
        query.push(" AND m.number IN (SELECT rowid FROM message_search WHERE message_search MATCH ");
        query.push_bind(all.join(" AND ")).push(")");
    }
    for term in scanned {
        query.push(" AND (FALSE");
        for spelling in cases(&term) {
            query.push(" OR ");
            push_like(query, &spelling);
        }
        query.push(")");
    }
}

/// The text in FTS5's language: there a string in double quotes is text, in which a doubled quote stands for one.
fn phrase(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
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
    query.push(COMPOSED).push(" LIKE ").push_bind(pattern).push(" ESCAPE '\\'");
}
