//! Files on disk: written so that they become visible whole or not at all, read up to a limit, and mapped into memory for reading.
//!
//! This crate does not know what the files hold.

mod bounded;
mod errors;
mod lfs;
mod mapping;
mod new_file;

pub use bounded::read_at_most;
pub use errors::FileError;
pub use lfs::check_no_lfs_pointer;
pub use mapping::Mapping;
pub use new_file::{NewFile, NewFolder, TEMPORARY_PREFIX, rename, sync_folder, write_whole};
