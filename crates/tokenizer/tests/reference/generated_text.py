"""The text that the tokenizer's tests are made of. `support/generated_text.rs` makes the same text, byte for byte."""

ENGLISH = (
    "the of and a to in he was that it his her with as had for she not at but be on they have him which said from all "
    "this one we were no so there their if would my when been very who what me do out can time will into up more now "
    "some could them other than its don't I'll you've we're he'd isn't O'Brien naïve café résumé "
    "Internationalisation antidisestablishmentarianism CamelCase snake_case U.S.A. e.g. 3.14159 1,000,000 2024-07-05"
).split(" ")
CODE = (
    "fn main() {|    let mut x: Vec<u8> = vec![0; 1024];|\tif (a[i] != b[j]) { return -1; }|for i in range(10):|"
    "        print(f\"{i:>3}: {data[i]!r}\")|}|#include <stdio.h>|int *p = &x; *p += 0x1F;|// comment — with dashes|"
    "SELECT * FROM t WHERE id = 42 AND name LIKE '%a_b%';|{\"key\": [1, 2.5e-10, null, true], \"ключ\": \"值\"}|"
    "<div class=\"a b\">&nbsp;</div>|    def __init__(self, **kwargs):|a=b+c-d*e/f%g^h&i|j~k<<l>>m|$HOME/.config/x.toml|"
    "https://example.org/a?b=c&d=e#f||  \t  |x'ly's'S\"s|\r"
).split("|")
EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🇨🇳", "🏳️‍🌈", "❤️", "1️⃣", "🫠", "☺", "🧑🏿‍🚀"]
CHINESE_MARKS = "，。！？；：、“”《》（）…—　"
KINDS = ["english", "chinese", "code", "emoji", "broken"]


class Random:
    """Knuth's linear congruential generator; the upper 31 bits count."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % limit

    def pick(self, items):
        return items[self.below(len(items))]


def piece(kind, random):
    if kind == "english":
        return random.pick(ENGLISH) + random.pick([" ", " ", " ", " ", " ", ", ", ". ", "\n", "\n\n", "  ", "; ", "?! "])
    if kind == "chinese":
        han = "".join(chr(0x4E00 + random.below(0x51A5)) for _ in range(1 + random.below(8)))
        return han + random.pick(["", "", "", random.pick(CHINESE_MARKS), "12", "abc", " ", "\n"])
    if kind == "code":
        return random.pick(CODE) + random.pick(["\n", "\n", "\n    ", "\n\t\t", " ", "\r\n"])
    if kind == "emoji":
        return random.pick(EMOJI) + random.pick(["", "", " ", random.pick(ENGLISH), "\n"])
    if random.below(2) == 0:
        # Bytes that are not UTF-8, replaced as every decoder replaces them.
        raw = bytes(random.pick([random.below(256), 0xE4, 0xB8, 0xF0, 0x9F, 0xED, 0xA0, 0x41]) for _ in range(6))
        return raw.decode("utf-8", errors="replace")
    code = random.pick([random.below(0x250), 0x300 + random.below(0x70), 0x600 + random.below(0x100),
                        0x1100 + random.below(0x100), 0x2000 + random.below(0x70), 0xAC00 + random.below(0x2BA4),
                        0xE000 + random.below(0x1900), 0xFF00 + random.below(0xF0), 0x1D400 + random.below(0x400)])
    return chr(code) + random.pick(["", "", " ", "e\u0301"])


def generated_text(kind, size):
    """At least `size` bytes of one kind."""
    random = Random(1 + KINDS.index(kind))
    pieces, length = [], 0
    while length < size:
        pieces.append(piece(kind, random))
        length += len(pieces[-1].encode())
    return "".join(pieces)
