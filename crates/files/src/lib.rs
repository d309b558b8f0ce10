//! Files on disk: written so that they become visible whole or not at all, read up to a limit, mapped into memory for reading, and told apart
//! by their SHA-256.
//!
//! This crate does not know what the files hold.

mod bounded;
mod digest;
mod errors;
mod lfs;
mod mapping;
mod new_file;

pub use bounded::read_at_most;
pub use digest::FileDigest;
pub use errors::FileError;
pub use lfs::check_no_lfs_pointer;
pub use mapping::Mapping;
pub use new_file::{NewFile, NewFolder, TEMPORARY_PREFIX, make_folder, rename, sync_folder, write_whole};
