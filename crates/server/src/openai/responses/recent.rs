//! Items of recent answers, in memory only, so that clients which refer to them instead of sending them again are understood.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use zhenjin_store::Owner;

/// The most items that are remembered.
const MOST_ITEMS: usize = 4096;
/// The most bytes of their JSON.
const MOST_BYTES: usize = 16 << 20;

/// Items by their ids, those of the latest answers; who may read one is whose request it answered.
#[derive(Default)]
pub(crate) struct RecentItems {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    items: BTreeMap<String, (Owner, Value, usize)>,
    /// Ids, the oldest first.
    order: VecDeque<String>,
    bytes: usize,
}

impl RecentItems {
    /// Remembers the items of an answer; the oldest ones make room.
    pub(super) fn add(&self, owner: &Owner, items: impl Iterator<Item = (String, Value)>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, item) in items {
            let bytes = item.to_string().len();
            if state.items.insert(id.clone(), (owner.clone(), item, bytes)).is_none() {
                state.order.push_back(id);
                state.bytes += bytes;
            }
        }
        while state.order.len() > MOST_ITEMS || state.bytes > MOST_BYTES {
            let Some(oldest) = state.order.pop_front() else { break };
            if let Some((_, _, bytes)) = state.items.remove(&oldest) {
                state.bytes -= bytes;
            }
        }
    }

    /// The item of this id, if it answered a request of this owner.
    pub(super) fn get(&self, owner: &Owner, id: &str) -> Option<Value> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (asker, item, _) = state.items.get(id)?;
        (asker == owner).then(|| item.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_oldest_items_make_room_and_nobody_reads_anothers() {
        let recent = RecentItems::default();
        let (mine, other) =
            (&Owner::Local, &Owner::Key("01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("an id")));
        let named = |number: usize| (format!("msg_{number}"), json!({ "number": number }));
        recent.add(mine, (0..MOST_ITEMS + 1).map(named));
        assert_eq!(recent.get(mine, "msg_0"), None);
        assert_eq!(recent.get(mine, "msg_1"), Some(json!({ "number": 1 })));
        assert_eq!(recent.get(other, "msg_1"), None);
        recent.add(mine, [("large".to_owned(), json!("x".repeat(MOST_BYTES)))].into_iter());
        assert_eq!((recent.get(mine, "large"), recent.get(mine, "msg_1")), (None, None));
    }
}
