"""Prompts for poems, from poems: some ask for shi, some for ci with the forms that their tunes have.

    poem_prompts.py COUNT CI < POEMS.jsonl > PROMPTS.jsonl

POEMS have `kind` (tang, song, ci), `title`, `author` and `lines`. A prompt is the head of a poem, in the words of the poet's chat
template; CI of the COUNT are heads of ci. In the order of a hash, so that the same poems give the same prompts.
"""

import collections
import hashlib
import json
import sys
import unicodedata

NAMES = {"tang": "唐", "song": "宋", "ci": "詞"}
# Poems of a tune that must have a form before it is one of the tune's.
TIMES_SEEN = 3


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


def hashed(head: str, number: int) -> bytes:
    return hashlib.sha256(f"{number} {head}".encode()).digest()


def main(count: int, of_ci: int) -> None:
    shi: set[str] = set()
    # Of ci each poem's, with its number: a tune is asked for as often as poets used it.
    ci: list[tuple[str, str]] = []
    forms: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for line in sys.stdin:
        poem = json.loads(line)
        title, author, kind = poem["title"].strip(), poem["author"].strip(), poem["kind"]
        if kind == "ci":
            forms[title][lengths(poem["lines"])] += 1
        if kind in NAMES and 2 <= len(title) <= 12 and author and not any(character.isspace() for character in title + author):
            head = f"{NAMES[kind]} {title}\n{author}"
            if kind == "ci":
                ci.append((head, title))
            else:
                shi.add(head)
    known = {tune: [form for form, times in sorted(of_tune.items()) if times >= TIMES_SEEN] for tune, of_tune in forms.items()}
    asked = [(head, known[tune]) for head, tune in ci if known[tune]]
    for head in sorted(shi, key=lambda head: hashed(head, 0))[: count - of_ci]:
        print(json.dumps({"prompt": head}, ensure_ascii=False))
    order = sorted(range(len(asked)), key=lambda number: hashed(asked[number][0], number))
    for head, of_tune in (asked[number] for number in order[:of_ci]):
        print(json.dumps({"prompt": head, "form": of_tune}, ensure_ascii=False))


main(int(sys.argv[1]), int(sys.argv[2]))
