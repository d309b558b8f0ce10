"""Little stories about things that are counted, one a line: text for a first training, made from a seed."""

import random
import sys

NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Klara", "Leo"]
THINGS = ["apples", "books", "stones", "shells", "cards", "coins", "pears", "pens", "nuts", "stars", "boats", "keys"]
PLACES = ["in the garden", "at the river", "on the table", "by the window", "under the tree", "in the old house"]
DAYS = ["In the morning", "After school", "On a rainy day", "In the evening", "On Sunday", "One day"]
MOODS = ["glad", "proud", "tired", "curious", "quiet", "happy"]


def counted(number, things):
    return f"{number} {things if number != 1 else things[:-1]}"


def story(choose):
    one, other = choose.sample(NAMES, 2)
    thing, place, day, mood = (choose.choice(words) for words in (THINGS, PLACES, DAYS, MOODS))
    first, second = choose.randint(2, 9), choose.randint(2, 9)
    if choose.random() < 0.5:
        return (
            f"{day} {one} finds {first} {thing} {place}. {other} brings {second} more {thing}. "
            f"Now they have {first + second} {thing}, and {one} is {mood}."
        )
    second = min(second, first - 1)
    return (
        f"{day} {one} has {first} {thing}. {one} gives {second} of the {thing} to {other} {place}. "
        f"Now {one} has {counted(first - second, thing)}, and {other} is {mood}."
    )


def main():
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    choose = random.Random(seed)
    for _ in range(count):
        print(story(choose))


if __name__ == "__main__":
    main()
