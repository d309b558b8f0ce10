//! The text that the tests are made of. `reference/generated_text.py` makes the same text, byte for byte.

const ENGLISH: &str = "the of and a to in he was that it his her with as had for she not at but be on they have him which said from all this one we were no so there their if would my when been very who what me do out can time will into up more now some could them other than its don't I'll you've we're he'd isn't O'Brien naïve café résumé Internationalisation antidisestablishmentarianism CamelCase snake_case U.S.A. e.g. 3.14159 1,000,000 2024-07-05";
const CODE: &str = "fn main() {|    let mut x: Vec<u8> = vec![0; 1024];|\tif (a[i] != b[j]) { return -1; }|for i in range(10):|        print(f\"{i:>3}: {data[i]!r}\")|}|#include <stdio.h>|int *p = &x; *p += 0x1F;|// comment — with dashes|SELECT * FROM t WHERE id = 42 AND name LIKE '%a_b%';|{\"key\": [1, 2.5e-10, null, true], \"ключ\": \"值\"}|<div class=\"a b\">&nbsp;</div>|    def __init__(self, **kwargs):|a=b+c-d*e/f%g^h&i|j~k<<l>>m|$HOME/.config/x.toml|https://example.org/a?b=c&d=e#f||  \t  |x'ly's'S\"s|\r";
const EMOJI: &[&str] = &["😀", "👍🏽", "👨‍👩‍👧‍👦", "🇨🇳", "🏳️‍🌈", "❤️", "1️⃣", "🫠", "☺", "🧑🏿‍🚀"];
const CHINESE_MARKS: &str = "，。！？；：、“”《》（）…—　";

/// All kinds of text.
pub(crate) const KINDS: &[&str] = &["english", "chinese", "code", "emoji", "broken"];

/// Knuth's linear congruential generator; the upper 31 bits count.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }

    fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }

    fn character(&mut self, first: u32, count: usize) -> char {
        char::from_u32(first + self.below(count) as u32).unwrap()
    }
}

fn piece(kind: &str, random: &mut Random) -> String {
    let english: Vec<&str> = ENGLISH.split(' ').collect();
    match kind {
        "english" => {
            let word = random.pick(&english);
            let ends = [" ", " ", " ", " ", " ", ", ", ". ", "\n", "\n\n", "  ", "; ", "?! "];
            format!("{word}{}", random.pick(&ends))
        }
        "chinese" => {
            let count = 1 + random.below(8);
            let han: String = (0..count).map(|_| random.character(0x4E00, 0x51A5)).collect();
            let marks: Vec<String> = CHINESE_MARKS.chars().map(String::from).collect();
            let mark = marks[random.below(marks.len())].clone();
            let ends = ["", "", "", &mark, "12", "abc", " ", "\n"];
            format!("{han}{}", random.pick(&ends))
        }
        "code" => {
            let lines: Vec<&str> = CODE.split('|').collect();
            let line = random.pick(&lines);
            format!("{line}{}", random.pick(&["\n", "\n", "\n    ", "\n\t\t", " ", "\r\n"]))
        }
        "emoji" => {
            let emoji = random.pick(EMOJI);
            let word = random.pick(&english);
            format!("{emoji}{}", random.pick(&["", "", " ", word, "\n"]))
        }
        _ => broken(random),
    }
}

fn broken(random: &mut Random) -> String {
    if random.below(2) == 0 {
        let raw: Vec<u8> = (0..6)
            .map(|_| {
                let any = random.below(256) as u8;
                [any, 0xE4, 0xB8, 0xF0, 0x9F, 0xED, 0xA0, 0x41][random.below(8)]
            })
            .collect();
        return String::from_utf8_lossy(&raw).into_owned();
    }
    let ranges = [
        (0, 0x250),
        (0x300, 0x70),
        (0x600, 0x100),
        (0x1100, 0x100),
        (0x2000, 0x70),
        (0xAC00, 0x2BA4),
        (0xE000, 0x1900),
        (0xFF00, 0xF0),
        (0x1D400, 0x400),
    ];
    let candidates: Vec<char> = ranges.iter().map(|&(first, count)| random.character(first, count)).collect();
    let character = candidates[random.below(candidates.len())];
    format!("{character}{}", random.pick(&["", "", " ", "e\u{301}"]))
}

/// At least `size` bytes of one kind.
pub(crate) fn generated_text(kind: &str, size: usize) -> String {
    let seed = 1 + KINDS.iter().position(|&known| known == kind).unwrap() as u64;
    let mut random = Random(seed);
    let mut text = String::new();
    while text.len() < size {
        text.push_str(&piece(kind, &mut random));
    }
    text
}
