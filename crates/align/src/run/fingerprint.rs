//! Whether the data and the model that a run begins with are those of another one, by what their fingerprints say.

/// What the part of a fingerprint begins with that has the digests of schemas which rewards read; it ends with `]`.
pub const SCHEMAS: &str = " [schemas ";

/// Whether the data and the model of a checkpoint are those of a run. Those of a checkpoint of an earlier version say nothing in brackets, or
/// nothing of schemas, which then count for nothing.
pub fn same_data(of_checkpoint: &str, of_run: &str) -> bool {
    let of_run = match of_run.split_once(SCHEMAS) {
        Some((before, rest)) if !of_checkpoint.contains(SCHEMAS) => {
            before.to_owned() + rest.split_once(']').map_or("", |(_, behind)| behind)
        }
        _ => of_run.to_owned(),
    };
    let without_brackets = |text: &str| {
        let mut pieces = text.split(" [");
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces.fold(first, |all, piece| all + piece.split_once(']').map_or("", |(_, rest)| rest))
    };
    of_checkpoint == of_run || (!of_checkpoint.contains(" [") && of_checkpoint == without_brackets(&of_run))
}

/// Whether a run began with the model that `beginning` tells of ([`crate::trainee::Trainee::beginning`]), whatever its adapter and the precision;
/// `of_run` is the fingerprint of its data and model.
pub fn same_model(of_run: &str, beginning: &str) -> bool {
    let model = beginning.split(" [").next().unwrap_or_default();
    of_run.split(", ").any(|part| part.split(" [").next() == Some(model))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of an earlier version goes on; one of this version only with the same precision, adapter and writer.
    #[test]
    fn checkpoints_of_earlier_versions_go_on() {
        let run = "data, model a [in f32, adapter none] [answers by model b], anchor c";
        assert!(same_data(run, run));
        assert!(same_data("data, model a, anchor c", run));
        assert!(!same_data("data, model b, anchor c", run));
        assert!(!same_data("data, model a [as stored, adapter none] [answers by model b], anchor c", run));
        assert!(!same_data(run, "data, model a, anchor c"));
        // Of one that named schemas by their files alone; of others, what they hold counts.
        let schemas = |digest: &str| {
            format!("data, reward json:a.json  [schemas {digest}], model a [in f32, adapter none]")
        };
        assert!(same_data("data, reward json:a.json , model a [in f32, adapter none]", &schemas("1,2")));
        assert!(same_data("data, reward json:a.json , model a", &schemas("1,2")));
        assert!(!same_data("data, reward json:a.json , model b [in f32, adapter none]", &schemas("1,2")));
        assert!(same_data(&schemas("1,2"), &schemas("1,2")) && !same_data(&schemas("1,3"), &schemas("1,2")));
    }

    #[test]
    fn the_model_of_a_run_is_known_by_its_fingerprint_alone() {
        let beginning = "model a [as stored, adapter b]";
        for run in ["data, model a", "data, model a [in f32, adapter none] [answers by model c], anchor d"] {
            assert!(same_model(run, beginning), "{run}");
        }
        for run in ["", "data, teacher a, model b [in f32, adapter none]", "data, model ab, anchor a"] {
            assert!(!same_model(run, beginning), "{run}");
        }
        assert!(!same_model("data, model c [as stored, adapter none] [answers by model a]", beginning));
    }
}
