//! Short children's stories put together from a few words, for first experiments without any data: small models learn to
//! write them within minutes, and whether they keep to a name or a place is easy to see.

use crate::random::numbers_of;

const HEROES: &[(&str, &str, &str)] = &[
    ("Anna", "girl", "she"),
    ("Ben", "boy", "he"),
    ("Clara", "girl", "she"),
    ("David", "boy", "he"),
    ("Emma", "girl", "she"),
    ("Felix", "boy", "he"),
    ("Grace", "girl", "she"),
    ("Henry", "boy", "he"),
    ("Iris", "girl", "she"),
    ("Jack", "boy", "he"),
    ("Lily", "girl", "she"),
    ("Max", "boy", "he"),
];
const FRIENDS: &[&str] = &["dog", "cat", "rabbit", "duck", "horse", "owl", "fox", "mouse", "frog", "goat"];
const ADJECTIVES: &[&str] =
    &["small", "old", "brave", "quiet", "kind", "funny", "clever", "sleepy", "hungry", "happy"];
const THINGS: &[(&str, &str)] = &[
    ("ball", "red"),
    ("kite", "yellow"),
    ("boat", "blue"),
    ("hat", "green"),
    ("book", "brown"),
    ("bell", "golden"),
    ("key", "silver"),
    ("cup", "white"),
    ("drum", "orange"),
    ("lamp", "bright"),
];
const PLACES: &[(&str, &str)] = &[
    ("by the river", "under the bridge"),
    ("in the forest", "behind an old tree"),
    ("in the garden", "between the roses"),
    ("on the hill", "beside a grey stone"),
    ("at the beach", "in the warm sand"),
    ("on the farm", "below the hay"),
    ("in the park", "next to the fountain"),
    ("near the lake", "among the reeds"),
];
const TIMES: &[&str] =
    &["One morning", "One day", "One summer evening", "On a rainy day", "On Sunday", "In the early spring"];
const ENDINGS: &[&str] = &[
    "They laughed and went home together.",
    "Then they shared an apple and were good friends.",
    "That night they told the story to everybody.",
    "From that day on they played together every day.",
    "They were tired, and very happy.",
];

/// The `number`-th story of a seed, without a newline at its end.
pub fn story(seed: u64, number: u64) -> String {
    let mut numbers = numbers_of(seed, number);
    let mut pick = |count: usize| numbers.below(count);
    let (name, child, they) = HEROES[pick(HEROES.len())];
    let (friend, thing, place) =
        (pick(FRIENDS.len()), THINGS[pick(THINGS.len())], PLACES[pick(PLACES.len())]);
    let friend = format!("{} {}", ADJECTIVES[pick(ADJECTIVES.len())], FRIENDS[friend]);
    let (time, ending) = (TIMES[pick(TIMES.len())], ENDINGS[pick(ENDINGS.len())]);
    let thing = format!("{} {}", thing.1, thing.0);
    let start = format!("There was once a {child} whose name was {name}. {name} had a {thing}.");
    let middle = match pick(4) {
        0 => format!(
            "{time} {they} lost the {thing} {}. {name} was sad. A {friend} came and asked: \"Why are you sad?\" \
             \"I have lost my {thing},\" said {name}. The {friend} looked {}, and there it was!",
            place.0, place.1
        ),
        1 => format!(
            "{time} {name} met a {friend} {}. \"What a fine {thing}!\" said the {friend}. \"Would you like to have it for \
             a while?\" asked {name}. The {friend} took it and danced with joy.",
            place.0
        ),
        2 => format!(
            "{time} {they} went for a walk {}. Something moved {}. It was a {friend} that could not get out. {name} pulled \
             with all might, and the {friend} was free. \"Thank you, {name},\" it said.",
            place.0, place.1
        ),
        _ => format!(
            "{time} a {friend} took the {thing} and ran away. {name} looked everywhere {}. At last {they} found the \
             {friend} {}. \"I am sorry,\" said the {friend}. \"I only wanted to play with you.\"",
            place.0, place.1
        ),
    };
    format!("{start} {middle} {ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_the_same_every_time_and_keeps_to_its_names() {
        assert_eq!(story(1, 2), story(1, 2));
        let stories: std::collections::BTreeSet<String> = (0..500).map(|number| story(1, number)).collect();
        assert!(stories.len() > 490, "{} of 500 are different", stories.len());
        for story in stories {
            let names = HEROES.iter().filter(|(name, _, _)| story.contains(&format!("name was {name}.")));
            assert_eq!(names.count(), 1, "{story}");
            let friends = FRIENDS.iter().filter(|friend| story.contains(&format!(" {friend}"))).count();
            assert_eq!(friends, 1, "{story}");
            assert!(story.ends_with('.') && !story.contains("  ") && !story.contains('\n'), "{story}");
        }
    }
}
