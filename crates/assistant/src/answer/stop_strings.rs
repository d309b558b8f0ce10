//! Finds the first stop string in a text that comes in pieces.

/// Text that is held back where a stop string may be beginning.
///
/// The stop string that is complete first wins, the longest among those that end at the same character. So
/// the result depends on the text alone, not on how it was cut into pieces.
#[derive(Clone, Debug)]
pub(crate) struct StopStrings {
    stops: Vec<String>,
    held: String,
}

/// What may be shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Released {
    /// More text that belongs to the answer.
    pub(crate) text: String,
    /// The stop string that comes right after it; nothing more belongs to the answer.
    pub(crate) stopped_by: Option<String>,
}

impl StopStrings {
    /// Stops at any of `stops`, none of which may be empty.
    pub(crate) fn new(stops: Vec<String>) -> StopStrings {
        StopStrings { stops, held: String::new() }
    }

    /// More of the text.
    pub(crate) fn push(&mut self, piece: &str) -> Released {
        let known = self.held.len();
        self.held.push_str(piece);
        for (offset, character) in piece.char_indices() {
            let seen = &self.held[..known + offset + character.len_utf8()];
            let longest =
                self.stops.iter().filter(|stop| seen.ends_with(stop.as_str())).max_by_key(|stop| stop.len());
            if let Some(stop) = longest {
                let text = seen[..seen.len() - stop.len()].to_owned();
                let stopped_by = Some(stop.clone());
                self.held.clear();
                return Released { text, stopped_by };
            }
        }
        let possible_stop = self.possible_stop();
        let kept = self.held.split_off(self.held.len() - possible_stop);
        Released { text: std::mem::replace(&mut self.held, kept), stopped_by: None }
    }

    /// The rest of a text that has come to its end.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Length of the longest end of the held text that begins a stop string.
    fn possible_stop(&self) -> usize {
        let longest_stop = self.stops.iter().map(String::len).max().unwrap_or(0);
        let first = self.held.len().saturating_sub(longest_stop.saturating_sub(1));
        let mut starts = (first..self.held.len()).filter(|&start| self.held.is_char_boundary(start));
        let begins_stop =
            |start: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*start..]));
        starts.find(begins_stop).map_or(0, |start| self.held.len() - start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let mut filter = StopStrings::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut shown = String::new();
        for piece in pieces {
            let released = filter.push(piece);
            shown.push_str(&released.text);
            if released.stopped_by.is_some() {
                return (shown, released.stopped_by);
            }
        }
        shown.push_str(&filter.finish());
        (shown, None)
    }

    #[test]
    fn a_stop_string_is_found_across_pieces_and_removed() {
        assert_eq!(run(&["END"], &["abE", "N", "Dxyz"]), ("ab".to_owned(), Some("END".to_owned())));
        assert_eq!(run(&["END"], &["abE", "N", "x", "E"]), ("abENxE".to_owned(), None));
        assert_eq!(run(&["。\n"], &["好。", "好。\n好"]), ("好。好".to_owned(), Some("。\n".to_owned())));
        assert_eq!(run(&["bc", "abc"], &["xab", "c"]), ("x".to_owned(), Some("abc".to_owned())));
    }

    #[test]
    fn only_a_possible_beginning_is_held_back() {
        let mut filter = StopStrings::new(vec!["<end>".to_owned()]);
        assert_eq!(filter.push("a<e").text, "a");
        assert_eq!(filter.push("x").text, "<ex");
        assert_eq!(filter.push("<en").text, "");
        assert_eq!(filter.push("<").text, "<en");
        assert_eq!(filter.finish(), "<");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[ab好]{0,24}", stops in prop::collection::vec("[ab好]{1,4}", 1..4), step in 1usize..6) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let characters: Vec<char> = text.chars().collect();
            let pieces: Vec<String> = characters.chunks(step).map(|chunk| chunk.iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let whole = run(&stops, &[&text]);
            prop_assert_eq!(&whole, &run(&stops, &pieces));
            match &whole.1 {
                None => {
                    prop_assert!(stops.iter().all(|stop| !text.contains(stop)));
                    prop_assert_eq!(&whole.0, &text);
                }
                Some(stop) => {
                    let shown_and_stop = format!("{}{}", whole.0, stop);
                    prop_assert!(text.starts_with(&shown_and_stop));
                }
            }
        }
    }
}
