//! Examples in tokens, kept in a folder for the next run that reads the same files for the same model.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use zhenjin_files::{FileDigest, FileError, write_whole};
use zhenjin_model::Fingerprint;
use zhenjin_tokenizer::EncodedDialogue;

use super::encoded::{EncodedPair, EncodedTask, EncodedThumb};

/// Files with fewer bytes together are encoded faster than anybody notices, and are not kept.
pub const LEAST_KEPT_BYTES: u64 = 1 << 20;

/// The most bytes that a folder keeps: those that were not used for the longest time go first.
const MOST_BYTES: u64 = 2 << 30;

/// What a file begins with: what it is, and the version of its layout.
const MAGIC: &[u8; 16] = b"zhenjin tokens 1";

const DIGEST_BYTES: usize = 32;
const SUFFIX: &str = "tokens";

/// What reading data gave: to learn from, to measure on, and what was said meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptExamples<T> {
    /// Examples to learn from.
    pub training: Vec<T>,
    /// Examples to measure on.
    pub held_out: Vec<T>,
    /// Of the examples, as checkpoints remember it.
    pub fingerprint: String,
    /// What was said of the data, in lines.
    pub told: Vec<String>,
}

/// Why kept examples cannot be used or written. A run goes on without them.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// A file or the folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be read, or not be written whole.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its contents are not those that were written.
    #[error("{0}: its contents are not those that were written")]
    Damaged(PathBuf),
}

/// The part of the file before the examples.
#[derive(Serialize, Deserialize)]
struct Head {
    training: usize,
    held_out: usize,
    fingerprint: String,
    told: Vec<String>,
}

/// A folder of examples in tokens.
#[derive(Clone, Debug)]
pub struct ExamplesFolder {
    folder: PathBuf,
}

impl ExamplesFolder {
    /// The folder; it need not exist.
    pub fn new(folder: &Path) -> ExamplesFolder {
        ExamplesFolder { folder: folder.to_owned() }
    }

    /// A digest of `files`, of their paths, and of `parts`: everything on which the tokens depend. `None` for files that have fewer than
    /// [`LEAST_KEPT_BYTES`] together, of which nothing more is asked, and where there are no parts.
    ///
    /// # Errors
    /// [`KeptError::Io`] and [`KeptError::File`] for a file that cannot be read.
    pub fn key(
        &self,
        files: &[PathBuf],
        parts: impl FnOnce() -> Option<Vec<Vec<u8>>>,
    ) -> Result<Option<Fingerprint>, KeptError> {
        let mut bytes = 0;
        for path in files {
            bytes += fs::metadata(path).map_err(io_error(path))?.len();
        }
        if bytes < LEAST_KEPT_BYTES {
            return Ok(None);
        }
        let Some(parts) = parts() else { return Ok(None) };
        let mut digests = Vec::with_capacity(files.len());
        for path in files {
            digests.push((path.display().to_string(), FileDigest::of(path)?.sha256));
        }
        let of_files = digests.iter().flat_map(|(path, digest)| [path.as_bytes(), &digest[..]]);
        Ok(Some(Fingerprint::of_parts(
            "examples in tokens",
            of_files.chain(parts.iter().map(|part| &part[..])),
        )))
    }

    /// What was kept under a key.
    ///
    /// # Errors
    /// [`KeptError::Io`], and [`KeptError::Damaged`] for a file with other contents than were written.
    pub fn find<T: Keep>(&self, key: &Fingerprint) -> Result<Option<KeptExamples<T>>, KeptError> {
        let path = self.path(key);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path)(error)),
        };
        let kept = read_all(&bytes).ok_or_else(|| KeptError::Damaged(path.clone()))?;
        // Its time says when it was used last; nothing but what is removed first depends on it.
        let used = File::options().append(true).open(&path);
        drop(used.and_then(|file| file.set_modified(SystemTime::now())));
        Ok(Some(kept))
    }

    /// Keeps examples under a key, and removes others that were not used for long where there are too many. Examples that would not be the
    /// same when they are read are not kept, nor are too many of them.
    ///
    /// # Errors
    /// [`KeptError::Io`] and [`KeptError::File`].
    pub fn keep<T: Keep>(&self, key: &Fingerprint, examples: &KeptExamples<T>) -> Result<(), KeptError> {
        let head = Head {
            training: examples.training.len(),
            held_out: examples.held_out.len(),
            fingerprint: examples.fingerprint.clone(),
            told: examples.told.clone(),
        };
        let Ok(head) = serde_json::to_vec(&head) else { return Ok(()) };
        let mut bytes = Vec::new();
        write_bytes(&mut bytes, &head);
        for example in examples.training.iter().chain(&examples.held_out) {
            if example.write(&mut bytes).is_none() {
                return Ok(());
            }
        }
        if bytes.len() as u64 > MOST_BYTES {
            return Ok(());
        }
        fs::create_dir_all(&self.folder).map_err(io_error(&self.folder))?;
        let digest: [u8; DIGEST_BYTES] = Sha256::digest(&bytes).into();
        write_whole(&self.path(key), &[MAGIC, &digest, &bytes])?;
        self.remove_oldest(MOST_BYTES)
    }

    fn path(&self, key: &Fingerprint) -> PathBuf {
        self.folder.join(format!("{key}.{SUFFIX}"))
    }

    /// Until no more than `most` bytes are left.
    fn remove_oldest(&self, most: u64) -> Result<(), KeptError> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(io_error(&self.folder))? {
            let path = entry.map_err(io_error(&self.folder))?.path();
            if path.extension().is_none_or(|extension| extension != SUFFIX) {
                continue;
            }
            // Another run may have removed it meanwhile.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push((used, path, metadata.len()));
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(.., bytes)| bytes).sum();
        for (_, path, of_file) in files {
            if bytes <= most {
                break;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&path)(error)),
                _ => bytes -= of_file,
            }
        }
        Ok(())
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> KeptError + '_ {
    |source| KeptError::Io { path: path.to_owned(), source }
}

/// Everything that a file says; `None` where it is not what was written.
fn read_all<T: Keep>(bytes: &[u8]) -> Option<KeptExamples<T>> {
    let (digest, bytes) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<DIGEST_BYTES>()?;
    if *digest != <[u8; DIGEST_BYTES]>::from(Sha256::digest(bytes)) {
        return None;
    }
    let mut rest = Rest(bytes);
    let head: Head = serde_json::from_slice(rest.bytes()?).ok()?;
    let training = rest.examples(head.training)?;
    let held_out = rest.examples(head.held_out)?;
    let Head { fingerprint, told, .. } = head;
    rest.0.is_empty().then_some(KeptExamples { training, held_out, fingerprint, told })
}

/// The bytes of a file that were not read yet.
#[derive(Debug)]
pub struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn word(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*word))
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.word()?;
        self.take(usize::try_from(count).ok()?)
    }

    fn ids(&mut self) -> Option<Vec<u32>> {
        let count = usize::try_from(self.word()?).ok()?;
        let words = self.take(count.checked_mul(4)?)?.as_chunks::<4>().0;
        Some(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    fn examples<T: Keep>(&mut self, count: usize) -> Option<Vec<T>> {
        // Each takes a byte at least, so that a count cannot ask for more memory than the file has.
        let mut examples = Vec::with_capacity(count.min(self.0.len()));
        for _ in 0..count {
            examples.push(T::read(self)?);
        }
        Some(examples)
    }
}

fn write_word(out: &mut Vec<u8>, number: usize) -> Option<()> {
    out.extend(u32::try_from(number).ok()?.to_le_bytes());
    Some(())
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    write_word(out, bytes.len())?;
    out.extend_from_slice(bytes);
    Some(())
}

fn write_ids(out: &mut Vec<u8>, ids: &[u32]) -> Option<()> {
    write_word(out, ids.len())?;
    out.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    Some(())
}

/// Examples that can be written to a file of bytes and read from it.
pub trait Keep: Sized {
    /// Appends the example; `None` where it would not be the same when it is read.
    fn write(&self, out: &mut Vec<u8>) -> Option<()>;

    /// Reads what [`Keep::write`] wrote; `None` where something else stands there.
    fn read(rest: &mut Rest<'_>) -> Option<Self>;
}

impl Keep for EncodedDialogue {
    fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        write_ids(out, &self.ids)?;
        let mask: Vec<u8> = self.assistant_mask.iter().map(|is_learnt| u8::from(*is_learnt)).collect();
        write_bytes(out, &mask)
    }

    fn read(rest: &mut Rest<'_>) -> Option<EncodedDialogue> {
        let ids = rest.ids()?;
        let assistant_mask = rest.bytes()?.iter().map(|byte| *byte != 0).collect();
        Some(EncodedDialogue { ids, assistant_mask })
    }
}

impl Keep for EncodedPair {
    fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        self.chosen.write(out)?;
        self.rejected.write(out)?;
        out.push(u8::from(self.margin.is_some()));
        out.extend(self.margin.unwrap_or_default().to_bits().to_le_bytes());
        Some(())
    }

    fn read(rest: &mut Rest<'_>) -> Option<EncodedPair> {
        let (chosen, rejected) = (EncodedDialogue::read(rest)?, EncodedDialogue::read(rest)?);
        let has_margin = rest.take(1)? != [0];
        let margin = f32::from_bits(rest.word()?);
        Some(EncodedPair { chosen, rejected, margin: has_margin.then_some(margin) })
    }
}

impl Keep for EncodedThumb {
    fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        self.dialogue.write(out)?;
        out.push(u8::from(self.liked));
        Some(())
    }

    fn read(rest: &mut Rest<'_>) -> Option<EncodedThumb> {
        let dialogue = EncodedDialogue::read(rest)?;
        Some(EncodedThumb { dialogue, liked: rest.take(1)? != [0] })
    }
}

impl Keep for EncodedTask {
    fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        write_ids(out, &self.prompt)?;
        let parts = (&self.messages, &self.fields);
        let text = serde_json::to_vec(&parts).ok()?;
        // Not every fraction is the same number once it was written and read.
        let (messages, fields): (Vec<Value>, serde_json::Map<String, Value>) =
            serde_json::from_slice(&text).ok()?;
        if messages != self.messages || fields != self.fields {
            return None;
        }
        write_bytes(out, &text)
    }

    fn read(rest: &mut Rest<'_>) -> Option<EncodedTask> {
        let prompt = rest.ids()?;
        let (messages, fields) = serde_json::from_slice(rest.bytes()?).ok()?;
        Some(EncodedTask { prompt, messages, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dialogue(ids: &[u32]) -> EncodedDialogue {
        EncodedDialogue { ids: ids.to_vec(), assistant_mask: ids.iter().map(|id| id % 2 == 0).collect() }
    }

    fn task(prompt: &[u32], answer: Value) -> EncodedTask {
        let Value::Object(fields) = json!({"z": 1, "answer": answer, "a": [null, "汉"]}) else {
            unreachable!()
        };
        EncodedTask { prompt: prompt.to_vec(), messages: vec![json!({"role": "user"})], fields }
    }

    fn examples<T>(training: Vec<T>, held_out: Vec<T>) -> KeptExamples<T> {
        let told = vec!["3 没有回答".to_owned(), String::new()];
        KeptExamples { training, held_out, fingerprint: "12+34".to_owned(), told }
    }

    fn key(number: u8) -> Fingerprint {
        Fingerprint::from_bytes([number; 32])
    }

    /// Keeps, finds again, and changes every byte: what is found is what was kept, or nothing.
    fn check<T: Keep + Clone + PartialEq + std::fmt::Debug>(of: KeptExamples<T>) {
        let home = tempfile::tempdir().unwrap();
        let folder = ExamplesFolder::new(&home.path().join("examples"));
        assert!(folder.find::<T>(&key(1)).unwrap().is_none());
        folder.keep(&key(1), &of).unwrap();
        assert_eq!(folder.find::<T>(&key(1)).unwrap().as_ref(), Some(&of));
        let path = folder.path(&key(1));
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(matches!(folder.find::<T>(&key(1)), Err(KeptError::Damaged(_))), "byte {place}");
            // Also where the digest is that of the changed bytes.
            let start = MAGIC.len() + DIGEST_BYTES;
            let digest: [u8; DIGEST_BYTES] = Sha256::digest(&changed[start..]).into();
            changed[MAGIC.len()..start].copy_from_slice(&digest);
            drop(read_all::<T>(&changed));
            drop(read_all::<T>(&changed[..place]));
        }
    }

    #[test]
    fn what_is_kept_is_found_again_and_what_is_damaged_is_refused() {
        let pair = |margin| EncodedPair { chosen: dialogue(&[1, 2]), rejected: dialogue(&[]), margin };
        check(examples(vec![dialogue(&[1, 2, 70_000]), dialogue(&[])], vec![dialogue(&[4])]));
        check(examples(vec![pair(None), pair(Some(-0.5))], vec![]));
        check(examples(vec![EncodedThumb { dialogue: dialogue(&[9]), liked: true }], vec![]));
        check(examples(vec![task(&[1], json!(7))], vec![task(&[2, 3], json!({"b": 0.1, "a": "二"}))]));
    }

    #[test]
    fn the_key_changes_with_contents_paths_order_and_parts() {
        let home = tempfile::tempdir().unwrap();
        let folder = ExamplesFolder::new(home.path());
        let file = |name: &str, byte: u8| {
            let path = home.path().join(name);
            fs::write(&path, vec![byte; LEAST_KEPT_BYTES as usize]).unwrap();
            path
        };
        let (one, two) = (file("one", 1), file("two", 2));
        let of = |files: &[&PathBuf], part: &[u8]| {
            let files: Vec<PathBuf> = files.iter().map(|path| (*path).clone()).collect();
            folder.key(&files, || Some(vec![part.to_vec()])).unwrap().unwrap()
        };
        let mut keys = vec![
            of(&[&one], b"x"),
            of(&[&one], b"y"),
            of(&[&two], b"x"),
            of(&[&one, &two], b"x"),
            of(&[&two, &one], b"x"),
        ];
        assert_eq!(of(&[&one], b"x"), keys[0]);
        file("one", 3);
        keys.push(of(&[&one], b"x"));
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 6);
        fs::write(&one, b"small").unwrap();
        assert_eq!(folder.key(std::slice::from_ref(&one), || Some(Vec::new())).unwrap(), None);
        let missing =
            folder.key(&[home.path().join("missing")], || Some(Vec::new())).unwrap_err().to_string();
        assert!(missing.contains("missing"), "{missing}");
    }

    #[test]
    fn those_unused_for_the_longest_time_go_first() {
        let home = tempfile::tempdir().unwrap();
        let folder = ExamplesFolder::new(home.path());
        let of = examples(vec![dialogue(&[1; 100])], vec![]);
        for number in 1..=3 {
            folder.keep(&key(number), &of).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(number));
            File::options().append(true).open(folder.path(&key(number))).unwrap().set_modified(time).unwrap();
        }
        fs::write(home.path().join("other"), b"is not ours").unwrap();
        let each = fs::metadata(folder.path(&key(1))).unwrap().len();
        // The first was used again.
        assert!(folder.find::<EncodedDialogue>(&key(1)).unwrap().is_some());
        folder.remove_oldest(2 * each).unwrap();
        let left = [1, 2, 3].map(|number| folder.path(&key(number)).exists());
        assert_eq!(left, [true, false, true]);
        assert!(home.path().join("other").exists());
    }

    #[test]
    fn examples_that_would_be_read_as_others_are_not_kept() {
        let home = tempfile::tempdir().unwrap();
        let folder = ExamplesFolder::new(home.path());
        // Whether this number survives depends on the reader of JSON; the promise is that what is found is the same.
        for value in
            [0.1, 1e23, 9_007_199_254_740_993.5, 2.225_073_858_507_201e-308, 1.797_693_134_862_315_7e308]
        {
            let of = examples(vec![task(&[1], json!(value))], vec![]);
            folder.keep(&key(1), &of).unwrap();
            if let Some(found) = folder.find::<EncodedTask>(&key(1)).unwrap() {
                assert_eq!(found, of);
                fs::remove_file(folder.path(&key(1))).unwrap();
            }
        }
    }
}
