//! Pieces of answers that are being written, of which those that wait together are written by one transaction.
//!
//! While one transaction runs, the pieces of all other answers gather; the next one takes them all. So a single answer waits for nobody, and
//! hundreds of answers cost a few transactions at a time instead of one each.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::database::{Store, Write};
use crate::{MessageId, Owner, StoreError};

const DOING: &str = "adding text to an answer";

/// Text for the end of an answer, and who waits for it. `true` is sent when the answer was there and took it.
struct Piece {
    owner: Owner,
    id: MessageId,
    text: String,
    written: oneshot::Sender<Result<bool, StoreError>>,
}

/// Pieces that wait for the next transaction.
#[derive(Default)]
pub(crate) struct WaitingPieces {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    pieces: Vec<Piece>,
    /// Whether a task writes until none are left.
    is_written: bool,
}

impl WaitingPieces {
    /// Adds a piece; true when nobody writes yet, so that the caller has to see to it.
    fn add(&self, piece: Piece) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.pieces.push(piece);
        !std::mem::replace(&mut waiting.is_written, true)
    }

    /// All that wait; none when the writing is over.
    fn take(&self) -> Vec<Piece> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.is_written = !waiting.pieces.is_empty();
        std::mem::take(&mut waiting.pieces)
    }
}

impl Store {
    /// Adds text to an answer, with whatever other answers have to add at the same time; false when the answer is gone or has ended.
    pub(crate) async fn write_piece(
        &self,
        owner: &Owner,
        id: &MessageId,
        text: &str,
    ) -> Result<bool, StoreError> {
        let (written, answer) = oneshot::channel();
        let piece = Piece { owner: owner.clone(), id: id.clone(), text: text.to_owned(), written };
        if self.waiting_pieces().add(piece) {
            let store = self.clone();
            // A task of its own: whoever waits may go away in the middle, and the others' pieces have to be written all the same.
            tokio::spawn(async move {
                loop {
                    let turn = store.write_turn().await;
                    let pieces = store.waiting_pieces().take();
                    if pieces.is_empty() {
                        break;
                    }
                    match store.begin_streaming(turn, DOING).await {
                        Ok(write) => store.write_together(write, pieces).await,
                        Err(error) => store.write_one_by_one(pieces, Some(error)).await,
                    }
                }
            });
        }
        // Only a runtime that ends forgets the task.
        answer.await.unwrap_or_else(|_| Err(self.failed(DOING)(sqlx::Error::WorkerCrashed)))
    }

    async fn write_together(&self, mut write: Write<'_>, pieces: Vec<Piece>) {
        let mut taken = Vec::with_capacity(pieces.len());
        for piece in &pieces {
            match append(&mut write, piece).await {
                Ok(is_there) => taken.push(is_there),
                Err(error) => {
                    drop(write);
                    let error = self.failed(DOING)(error);
                    return self.write_one_by_one(pieces, Some(error)).await;
                }
            }
        }
        match write.commit().await {
            Ok(()) => {
                for (piece, is_there) in pieces.into_iter().zip(taken) {
                    // Who does not wait any more needs no answer.
                    let _gone = piece.written.send(Ok(is_there));
                }
            }
            Err(error) => self.write_one_by_one(pieces, Some(error)).await,
        }
    }

    /// After a failure, so that one answer's trouble is not the others'. A single piece has had its try: `error` is its own.
    async fn write_one_by_one(&self, pieces: Vec<Piece>, error: Option<StoreError>) {
        let is_alone = pieces.len() == 1;
        let mut error = error.filter(|_| is_alone);
        for piece in pieces {
            let result = match error.take() {
                Some(error) => Err(error),
                None => self.write_alone(&piece).await,
            };
            let _gone = piece.written.send(result);
        }
    }

    async fn write_alone(&self, piece: &Piece) -> Result<bool, StoreError> {
        let mut write = self.write_streaming(DOING).await?;
        let is_there = append(&mut write, piece).await.map_err(self.failed(DOING))?;
        write.commit().await?;
        Ok(is_there)
    }
}

async fn append(write: &mut Write<'_>, piece: &Piece) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE messages SET content = content || ? WHERE id = ? AND status = 'generating'
             AND conversation_id IN (SELECT id FROM conversations WHERE owner = ?)",
    )
    .bind(&piece.text)
    .bind(piece.id.as_str())
    .bind(piece.owner.as_str())
    .execute(&mut *write.transaction)
    .await?;
    Ok(done.rows_affected() > 0)
}
