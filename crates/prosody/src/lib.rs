//! Classical Chinese verse: rhyme groups and tones of characters, a poem's form, its rhymes and its tone pattern.
//!
//! Tables: the 106 groups of the Pingshui rhyme book, and modern readings beside them; origins and licences in
//! `data/README.md`. A character can belong to several groups; which one is meant depends on its sense, which nothing here
//! reads: every rule is kept if some reading keeps it. A [`Standard`] says by which of the two tables a poem is judged.

mod analysis;
mod poem;
mod reading;
mod rhyme;
mod tone;

pub use analysis::{Place, Rhymes, ToneCheck, TonePattern, ToneRule};
pub use poem::{Character, Form, Line, Poem, is_han};
pub use reading::{Reading, modern_pattern, readings};
pub use rhyme::{RhymeGroup, groups, is_simplified, pattern, simplified};
pub use tone::{Pattern, Standard, Tone};
