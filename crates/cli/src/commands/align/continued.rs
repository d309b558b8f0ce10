//! An adapter that is trained further: its rank, alpha and projections stay as they are.

use super::AlignArguments;
use anyhow::{Result, bail};
use serde_json::Value;
use std::path::Path;
use zhenjin_align::configuration::Projections;
use zhenjin_model::{AdapterValues, LowRankValues, WrittenAdapter};
use zhenjin_train::configuration::Overrides;

/// The settings that it decides.
const DECIDED: [&str; 4] = ["tuning.rank", "tuning.alpha", "tuning.rank_stabilised", "tuning.projections"];

/// The longest file of settings that is read, as where an adapter is opened. Real ones have about a kilobyte.
const MOST_BYTES: usize = 1 << 20;

/// The rows of a matrix are stored in tiles of so many.
const TILE_ROWS: usize = 16;

/// What an adapter is, by its matrices: its file names modules in many ways, and ranks of some of them apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Continued {
    /// The greatest of its ranks.
    rank: usize,
    /// What has an addition in some layer.
    projections: Option<Projections>,
    /// Elements of its matrices as they are stored.
    pub(super) elements: u64,
}

impl Continued {
    pub(super) fn of(values: &AdapterValues) -> Continued {
        let elements = |addition: &LowRankValues| {
            // An addition has a rank of at least 1.
            let rank = addition.rank.max(1);
            let (inputs, outputs) = (addition.down.len() / rank, addition.up.len() / rank);
            (rank.next_multiple_of(TILE_ROWS) * inputs + outputs.next_multiple_of(TILE_ROWS) * rank) as u64
        };
        let additions = values.additions();
        Continued {
            rank: additions.iter().map(|addition| addition.rank).max().unwrap_or(0),
            projections: Projections::of(additions.iter().map(|addition| addition.projection)),
            elements: additions.iter().map(elements).sum(),
        }
    }

    /// Adds what the adapter at `path` decides, so that the effective configuration is true.
    pub(super) fn settings(&self, path: &Path, overrides: &mut Overrides) {
        overrides.add("tuning.rank", self.rank as i64);
        if let Some(projections) = self.projections {
            overrides.add("tuning.projections", projections.text());
        }
        let settings = settings_in(path);
        if let Some(alpha) = settings["lora_alpha"].as_f64() {
            overrides.add("tuning.alpha", alpha);
        }
        if let Some(is_stabilised) = settings["use_rslora"].as_bool() {
            overrides.add("tuning.rank_stabilised", is_stabilised);
        }
        if let Some(dropout) = settings["lora_dropout"].as_f64().filter(|dropout| *dropout > 0.0) {
            eprintln!(
                "note: the adapter {} was trained with lora_dropout {dropout}; here it is trained further without dropout, and its files will say 0",
                path.display()
            );
        }
    }
}

/// Refuses settings that would have no effect.
pub(super) fn refuse_settings(path: &Path, arguments: &AlignArguments) -> Result<()> {
    let is_set = |key: &&&str| arguments.sets(key);
    let given = arguments.rank.map(|_| "--rank").or(DECIDED.iter().find(is_set).copied());
    match given {
        Some(given) => bail!(
            "{given} has no effect with --adapter {}: an adapter that is trained further keeps its rank, its alpha and its projections; leave \
             it out",
            path.display()
        ),
        None => Ok(()),
    }
}

/// What an adapter's file says; nothing where it cannot be read, which is refused, with the reason, where the adapter is opened.
fn settings_in(path: &Path) -> Value {
    // As where it is opened, one of its files can be named instead of its folder.
    let folder = path.parent().filter(|_| path.is_file()).unwrap_or(path);
    let text = zhenjin_files::read_at_most(&folder.join(WrittenAdapter::SETTINGS), MOST_BYTES);
    serde_json::from_slice(&text.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the file was read whole, however long it was, before the adapter was refused for it.
    #[test]
    fn of_settings_that_are_too_long_nothing_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(settings_in(folder.path()), Value::Null);
        for (spaces, rank) in [(0, Some(4)), (MOST_BYTES, None)] {
            let text = format!("{{\"r\": 4{}}}", " ".repeat(spaces));
            std::fs::write(folder.path().join(WrittenAdapter::SETTINGS), text).expect("a file");
            assert_eq!(settings_in(folder.path())["r"].as_i64(), rank);
        }
    }

    /// Regression: a file that names modules by an expression said "all" of two projections, one of several ranks the rank that most have, and the
    /// plan counted elements without the rows that fill tiles.
    #[test]
    fn an_adapter_is_what_its_matrices_are() {
        use zhenjin_model::LayerWeightName::{Down, Query};
        use zhenjin_model::testing::tiny_config;
        let config = tiny_config();
        let (hidden, width) = (config.hidden_size, config.intermediate_size);
        let addition = |layer, projection, rank: usize, inputs: usize, outputs: usize| LowRankValues {
            layer,
            projection,
            rank,
            down: vec![0.5; rank * inputs],
            up: vec![0.5; outputs * rank],
            scale: 1.0,
        };
        let additions =
            vec![addition(0, Query, 4, hidden, config.query_width()), addition(1, Down, 20, width, hidden)];
        let values = AdapterValues::new(Path::new("test"), &config, additions).expect("an adapter");
        let continued = Continued::of(&values);
        let tiles = |rows: usize| rows.next_multiple_of(16);
        let elements = 16 * hidden + tiles(config.query_width()) * 4 + 32 * width + tiles(hidden) * 20;
        assert_eq!((continued.rank, continued.elements), (20, elements as u64));
        let text = continued.projections.map(|projections| projections.text());
        assert_eq!(text.as_deref(), Some("q_proj,down_proj"));
    }

    #[test]
    fn the_settings_of_an_adapter_are_found_by_its_file_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(WrittenAdapter::SETTINGS);
        std::fs::write(&path, r#"{"lora_alpha": 8}"#).expect("a file");
        assert_eq!(settings_in(&path), settings_in(folder.path()));
        assert_eq!(settings_in(&path)["lora_alpha"].as_i64(), Some(8));
    }
}
