"""Prompts for poems, from poems: some ask for shi, some for ci with the forms that their tunes have.

    poem_prompts.py COUNT CI < POEMS.jsonl > PROMPTS.jsonl

POEMS have `kind` (tang, song, ci), `title`, `author` and `lines`. A prompt is the head of a poem, in the words of the poet's chat
template; CI of the COUNT are heads of ci. In the order of a hash, so that the same poems give the same prompts.

Poems that `zhenjin tokenize --identity '{lines}'` has held out (1 %, by a hash of the lines), and so `zhenjin evaluate poems` measures, give
no prompts and no forms of tunes; neither does another poem with the same head as one of them.
"""

import collections
import hashlib
import json
import sys
import unicodedata

NAMES = {"tang": "唐", "song": "宋", "ci": "詞"}
# Poems of a tune that must have a form before it is one of the tune's.
TIMES_SEEN = 3
# The share that is held out by default.
HELD_OUT_SHARE = 0.01


def lengths(lines: list[str]) -> tuple[int, ...]:
    """The Chinese characters between marks of punctuation."""
    found, count = [], 0
    for character in "\n".join(lines) + "\n":
        if unicodedata.name(character, "").startswith(("CJK UNIFIED", "CJK COMPATIBILITY")) or character == "〇":
            count += 1
        elif character == "\n" or not character.isspace():
            found += [count] if count else []
            count = 0
    return tuple(found)


def is_held_out(lines: list[str]) -> bool:
    """As the crate `corpus` has it: the first 64 bits of the SHA-256 of the identity's only piece, behind its length."""
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(len(text).to_bytes(8, "little") + text).digest()
    return int.from_bytes(digest[:8], "big") < int(HELD_OUT_SHARE * 2.0**64)


def hashed(head: str, number: int) -> bytes:
    return hashlib.sha256(f"{number} {head}".encode()).digest()


def main(count: int, of_ci: int) -> None:
    shi: set[str] = set()
    # Of ci each poem's, with its number: a tune is asked for as often as poets used it.
    ci: list[tuple[str, str]] = []
    forms: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    held_out: set[str] = set()
    for line in sys.stdin:
        poem = json.loads(line)
        title, author, kind = poem["title"].strip(), poem["author"].strip(), poem["kind"]
        head = f"{NAMES.get(kind, kind)} {title}\n{author}"
        if is_held_out(poem["lines"]):
            held_out.add(head)
            continue
        if kind == "ci":
            forms[title][lengths(poem["lines"])] += 1
        if kind in NAMES and 2 <= len(title) <= 12 and author and not any(character.isspace() for character in title + author):
            if kind == "ci":
                ci.append((head, title))
            else:
                shi.add(head)
    known = {tune: [form for form, times in sorted(of_tune.items()) if times >= TIMES_SEEN] for tune, of_tune in forms.items()}
    asked = [(head, known[tune]) for head, tune in ci if known[tune] and head not in held_out]
    for head in sorted(shi - held_out, key=lambda head: hashed(head, 0))[: count - of_ci]:
        print(json.dumps({"prompt": head}, ensure_ascii=False))
    order = sorted(range(len(asked)), key=lambda number: hashed(asked[number][0], number))
    for head, of_tune in (asked[number] for number in order[:of_ci]):
        print(json.dumps({"prompt": head, "form": of_tune}, ensure_ascii=False))


main(int(sys.argv[1]), int(sys.argv[2]))
