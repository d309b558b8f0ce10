//! Ranks that are threads of one process: for tests, and for what MPI does where it is not installed.

use super::{Comm, CommError, Incoming, Outgoing, Traffic};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// One rank's end; give each thread one. A rank whose end is dropped is lost to the others.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    /// By receiver.
    outgoing: Vec<Sender<Vec<u8>>>,
    /// By sender.
    incoming: Vec<Receiver<Vec<u8>>>,
    patience: Duration,
    traffic: Traffic,
}

impl Threads {
    /// Ends of `size` ranks, which wait at most `patience` for a message.
    pub fn group(size: usize, patience: Duration) -> Vec<Self> {
        let mut incoming: Vec<Vec<Receiver<Vec<u8>>>> = (0..size).map(|_| Vec::new()).collect();
        let mut outgoing = Vec::new();
        for _ in 0..size {
            let mut row = Vec::new();
            for received in &mut incoming {
                let (sender, receiver) = channel();
                row.push(sender);
                received.push(receiver);
            }
            outgoing.push(row);
        }
        let ends = outgoing.into_iter().zip(incoming).enumerate();
        ends.map(|(rank, (outgoing, incoming))| Self {
            rank,
            outgoing,
            incoming,
            patience,
            traffic: Traffic::default(),
        })
        .collect()
    }
}

impl Comm for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.outgoing.len()
    }

    fn send(&mut self, to: usize, message: Outgoing<'_>) -> Result<(), CommError> {
        let bytes = match message {
            Outgoing::Bytes(bytes) => bytes.to_vec(),
            Outgoing::Floats(floats) => floats.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        self.traffic.bytes_sent += bytes.len() as u64;
        self.traffic.messages_sent += 1;
        self.outgoing[to].send(bytes).map_err(|_| CommError::Lost { rank: to })
    }

    fn receive(&mut self, from: usize, message: Incoming<'_>) -> Result<(), CommError> {
        let bytes = self.incoming[from].recv_timeout(self.patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => CommError::Silent { rank: from, waited: self.patience },
            RecvTimeoutError::Disconnected => CommError::Lost { rank: from },
        })?;
        if bytes.len() != message.bytes() {
            return Err(CommError::Length { rank: from, expected: message.bytes(), got: bytes.len() });
        }
        self.traffic.bytes_received += bytes.len() as u64;
        match message {
            Incoming::Bytes(into) => into.copy_from_slice(&bytes),
            Incoming::Floats(into) => {
                for (value, bytes) in into.iter_mut().zip(bytes.as_chunks().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
        }
        Ok(())
    }

    fn exchange(
        &mut self,
        to: usize,
        outgoing: Outgoing<'_>,
        from: usize,
        incoming: Incoming<'_>,
    ) -> Result<(), CommError> {
        // A channel holds any number of messages, so that sending never waits.
        self.send(to, outgoing)?;
        self.receive(from, incoming)
    }

    fn abort(&self, _: &str) {}

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}
