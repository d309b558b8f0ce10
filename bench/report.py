"""Turns results into Markdown. Every number printed is in results.json."""

from pathlib import Path

from statistics_of import ratios, spread

OURS = "zhenjin"
# The same program with another KV cache: shown, but not one of the others.
OURS_F32 = "zhenjin_f32"
# Those that are measured on a busy machine.
BUSY_PROGRAMS = [OURS, "llama_cpp"]
TITLES = {
    OURS: "Zhenjin",
    OURS_F32: "Zhenjin, f32 KV cache",
    "llama_cpp": "llama.cpp",
    "ik_llama_cpp": "ik_llama.cpp",
    "openvino": "OpenVINO GenAI",
}

# What the few rows of the summary measure: beginnings of labels, of the first type of weights.
SUMMARY = (
    "load, file not in memory",
    "peak memory",
    "prefill 512 tokens",
    "decode only, 1 sequence",
    "decode only, 16 sequences",
    "16 answers",
)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def three(values: list[float]) -> str:
    found = spread(values)
    return " / ".join(map(number, found)) if found else "–"


def less_is_better(row: dict) -> bool:
    return row["unit"] not in ("tok/s", "share")


def cell_ratios(row: dict, name: str, ours_name: str = OURS) -> list[float]:
    ours, theirs = row["programs"].get(ours_name, {}), row["programs"].get(name, {})
    if "refused" in ours or "refused" in theirs:
        return []
    return ratios(ours.get("values", []), theirs.get("values", []), less_is_better(row))


def speed(cell: dict, notes: list[str]) -> str:
    """A cell's three numbers, or a note's number if the program did not do it."""
    if "refused" in cell:
        if cell["refused"] not in notes:
            notes.append(cell["refused"])
        return f"not done [{notes.index(cell['refused']) + 1}]"
    return three(cell.get("values", []))


def present(results: dict) -> list[str]:
    return [name for name, program in results["programs"].items() if "missing" not in program]


def peers(results: dict) -> list[str]:
    return [name for name in present(results) if name not in (OURS, OURS_F32)]


def markdown(head: list[str], rows: list[list[str]], words: int = 2) -> str:
    """A table whose first `words` columns are words and the others numbers."""
    lines = [head, ["---"] * words + ["---:"] * (len(head) - words), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def table(results: dict) -> str:
    """Each program's least, median and greatest value of every test."""
    notes: list[str] = []
    rows = [
        [row["type"], f"{row['label']}, {row['unit']}"]
        + [speed(row["programs"].get(name, {}), notes) for name in present(results)]
        for row in results["tests"]
    ]
    text = markdown(["weights", "test", *(TITLES.get(name, name) for name in present(results))], rows)
    return text + "".join(f"\n\n[{index}] {note}" for index, note in enumerate(notes, 1))


def ratio_table(results: dict) -> str:
    """How many times better Zhenjin is than each other program, in the rounds paired."""
    rows = []
    for row in results["tests"]:
        for ours in (OURS, OURS_F32):
            cells = [three(cell_ratios(row, name, ours)) for name in peers(results)]
            if ours == OURS or row["programs"].get(ours, {}).get("values"):
                rows.append([row["type"], row["label"] + (", f32 KV cache" if ours == OURS_F32 else ""), *cells])
    return markdown(["weights", "test", *(f"× {TITLES.get(name, name)}" for name in peers(results))], rows)


def busy_table(results: dict) -> str:
    """Each program's speed in windows of some seconds, and what share of the fair share the worst window has."""
    rows, idle, notes = [], {}, []
    for row in results.get("busy", []):
        cells = []
        for name in BUSY_PROGRAMS:
            cell = row["programs"].get(name, {})
            found = spread(cell.get("values", []))
            if found:
                # The idle machine comes first.
                idle.setdefault((row["test"], name), found[1])
            fair = idle.get((row["test"], name), 0) * row["fair_share"]
            cells += [speed(cell, notes), f"{found[0] / fair:.0%}" if found and fair else "–"]
        rows.append([row["test"], row["load"], *cells])
    titles = [cell for name in BUSY_PROGRAMS for cell in (f"{TITLES[name]}, tok/s", "worst / fair share")]
    return markdown(["test", "other processes", *titles], rows) + "".join(f"\n\n[{i}] {n}" for i, n in enumerate(notes, 1))


def conditions(results: dict) -> str:
    machine = results["machine"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['instructions'])}), {results['threads']} threads, "
        f"{results['rounds']} rounds in which the programs took turns"
    )


def programs_table(results: dict) -> str:
    rows = []
    for name, program in results["programs"].items():
        title = TITLES.get(name, name)
        if "missing" in program:
            rows.append([title, f"not measured: {program['missing']}", "", "", "", ""])
        else:
            settings = program["settings"]
            rows.append(
                [title, program["version"], settings["kv_cache"], settings["activations"], settings["flags"], settings["build"]]
            )
    head = ["program", "version", "KV cache", "activations", "options", "build"]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def perplexity_table(results: dict) -> str:
    """The perplexity of each model and text with the KV cache that is served by default, beside that with f32."""
    measured = results["perplexity"]
    rows = [
        [row["model"], row["text"], f"{row['scored_tokens']:,}", f"{row['f32']:.4f}", f"{row['served']:.4f}"]
        + [f"{100 * (row['served'] / row['f32'] - 1):+.2f} %"]
        for row in measured["rows"]
    ]
    head = ["model", "text", "tokens scored", "f32 KV cache", "as served", "difference"]
    return "".join([markdown(head, rows), *(f"\n\n{reason}." for reason in measured["missing"])])


def page(results: dict) -> str:
    return f"""# Speed beside other engines

Written by `make bench`; the numbers are those of `results.json` in this folder, which has every round's value, and the machine's memory and system besides.

{conditions(results)}. Each cell is least / median / greatest.
Speeds are tokens of the prompt, or new tokens, for each second; answers count the new tokens and the time of their prompts too.
All programs get the same token ids and the same number of threads, one program runs at a time and the others are stopped.
New tokens are greedy in answers. Where tokens are only decoded, Zhenjin, llama.cpp and ik_llama.cpp are given them; OpenVINO samples them.

![How many times faster Zhenjin is](speed.svg)

## How many times better Zhenjin is

The other program's value against Zhenjin's in the same round: above 1, Zhenjin is faster, loads sooner or takes less memory.

{ratio_table(results)}

## Measured values

{table(results)}

Memory counts the whole process; that of the other engines includes the Python interpreter that drives them ({baseline(results)}).
{busy_section(results)}{perplexity_section(results)}
## Programs

{programs_table(results)}
"""


def busy_section(results: dict) -> str:
    if not results.get("busy"):
        return "\nThe speed on a busy machine was not measured in this run.\n"
    return f"""
## On a busy machine

Tokens a second in every stretch of 5 seconds, least / median / greatest, while other processes want the processors too.
The fair share is the speed on the idle machine times the share of the processors' time that a fair scheduler gives to as many threads.

{busy_table(results)}
"""


def perplexity_section(results: dict) -> str:
    if "perplexity" not in results:
        return "\nThe perplexity with the KV cache that is served was not measured in this run.\n"
    return f"""
## Perplexity with the KV cache that is served

Windows of 512 tokens, the second half of each scored.

{perplexity_table(results)}
"""


def baseline(results: dict) -> str:
    row = next((row for row in results["tests"] if row["label"].startswith("peak memory")), None)
    cells = row["programs"].items() if row else []
    parts = [f"{TITLES.get(name, name)} {number(cell['before_load'])} MB" for name, cell in cells if cell.get("before_load")]
    return "before loading: " + ", ".join(parts) if parts else "not measured"


def summary_table(results: dict) -> str:
    """Zhenjin's median and the ratios to the other programs, of the tests in `SUMMARY`."""
    first_type = results["tests"][0]["type"]
    rows = []
    for beginning in SUMMARY:
        for row in results["tests"]:
            if row["type"] == first_type and row["label"].startswith(beginning):
                values = spread(row["programs"].get(OURS, {}).get("values", []))
                median = f"{number(values[1])} {row['unit']}" if values else "–"
                rows.append([row["label"], median, *(three(cell_ratios(row, name)) for name in peers(results))])
    return markdown([first_type, "Zhenjin", *(f"× {TITLES.get(name, name)}" for name in peers(results))], rows, words=1)


def summary(results: dict) -> str:
    missing = [
        f"{TITLES.get(name, name)} was not measured: {program['missing']}."
        for name, program in results["programs"].items()
        if "missing" in program
    ]
    return "\n".join(
        [
            f"{conditions(results)}.",
            "Zhenjin's median, and how many times better it was than the other program in the same round, least / median / greatest:",
            "",
            summary_table(results),
            *(["", *missing] if missing else []),
        ]
    )


def replace_between(document: Path, mark: str, text: str) -> None:
    """Puts `text` between `<!-- mark:begin -->` and `<!-- mark:end -->`."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    whole = document.read_text()
    before, found_begin, rest = whole.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise SystemExit(f"{document} lacks the marks {begin} and {end}; put them where the table belongs")
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}")
