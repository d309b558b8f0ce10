"""Texts in English and Chinese, of sentences that a formula puts together: the same in every run."""

from dataclasses import dataclass

ENGLISH = [
    ["The old library", "A small company", "Our neighbour", "The night train", "A team of doctors", "The museum", "My sister", "The ministry"],
    ["closed early", "found a new way", "asked for advice", "changed its plans", "wrote a long report", "was almost empty", "paid for the repairs"],
    ["because of the storm last week", "after the meeting in March", "to save water and electricity", "before anybody had noticed", "although nobody had expected it"],
    ["and the local newspaper told the whole story.", "so we will try again tomorrow.", "which surprised everybody in town.", "but the price stayed the same.", "as it does every year."],
]
CHINESE = [
    ["老图书馆", "一家小公司", "我们的邻居", "夜间列车", "几位医生", "博物馆", "我的妹妹", "有关部门"],
    ["提前关了门", "找到了新的办法", "向大家征求意见", "改变了原来的计划", "写了一份很长的报告", "几乎空无一人", "支付了修理费用"],
    ["，因为上周的暴风雨", "，在三月的会议之后", "，为了节约水和电", "，在没有人注意到之前", "，虽然谁也没有料到"],
    ["，当地报纸报道了整件事情。", "，所以我们明天再试一次。", "，让镇上的每个人都很惊讶。", "，但是价格没有变化。", "，每年都是这样。"],
]


def sentence(number: int) -> str:
    """English for even numbers, Chinese for odd ones."""
    lists, place = (CHINESE if number % 2 else ENGLISH), number // 2
    parts = [choices[(place * (index + 1) + place // len(choices)) % len(choices)] for index, choices in enumerate(lists)]
    # The last part is left out now and then, so that lengths differ.
    return ("" if number % 2 else " ").join(parts if number % 3 else parts[:-1])


def long_text(number: int, tokens: int, length) -> str:
    """Sentences of one language, as many characters of them as make at most `tokens` tokens; `length` counts the tokens of a text."""
    text, step = "", 0
    joint = "" if number % 2 else " "
    while length(text) <= tokens:
        text += joint + sentence(number % 2 + 2 * (number * 31 + step))
        step += 1
    least, most = 0, len(text)
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if length(text[:middle]) <= tokens else (least, middle)
    return text[:least]


@dataclass(frozen=True)
class Work:
    title: str
    texts: int
    # Tokens of a text, special ones included; None for a sentence.
    tokens: int | None
    # All in one call, or one call for each.
    together: bool


WORK = [
    Work("sentences, one at a time", 64, None, False),
    Work("256 sentences together", 256, None, True),
    Work("texts of 512 tokens, one at a time", 6, 512, False),
    Work("24 texts of 512 tokens together", 24, 512, True),
    Work("128 sentences and 8 texts of 512 tokens together, mixed", 136, -512, True),
]


def texts_of(work: Work, length) -> list[str]:
    if work.tokens is None:
        return [sentence(number) for number in range(work.texts)]
    if work.tokens < 0:
        mixed = [sentence(number) for number in range(work.texts)]
        for number in range(8, work.texts, 17):
            mixed[number] = long_text(number, -work.tokens, length)
        return mixed
    return [long_text(number, work.tokens, length) for number in range(work.texts)]
