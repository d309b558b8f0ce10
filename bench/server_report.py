"""Turns the servers' results into Markdown. Every number printed is in server.json."""

import report
from statistics_of import ratios

OURS, THEIRS = "zhenjin", "llama-server"


def table(results: dict) -> str:
    rows = [
        [row["label"], row["unit"], *(report.three(row["servers"].get(name, [])) for name in (OURS, THEIRS)), times(row)]
        for row in results["tests"]
    ]
    return report.markdown(["test", "unit", "Zhenjin", "llama-server", "× llama-server"], rows)


def times(row: dict) -> str:
    servers = row["servers"]
    return report.three(ratios(servers.get(OURS, []), servers.get(THEIRS, []), report.less_is_better(row)))


def page(results: dict) -> str:
    commands = "\n".join(f"- {name}: `{command}`" for name, command in results["commands"].items())
    versions = "\n".join(f"- {name}: {version}" for name, version in results["versions"].items())
    return f"""# The servers under load

Written by `make bench-server`; the numbers are those of `server.json` in this folder.

{results["model"]}, {report.conditions(results)}. Each cell is least / median / greatest; × is how many times better Zhenjin is in the same round.
A chat is a prompt of 119 token ids sent to `/v1/completions` and 64 new tokens, greedy, streamed, all asked for at once. No prompt is sent twice.
llama-server is built from the sources in the sdist of llama-cpp-python; prompt caches are off,
it has room for 1,024 tokens a chat, and a second one, with one shared KV buffer, takes the long prompt. One server runs at a time, the other is stopped.
A crowd is more and more chats at once on one server: `--max-batch 512` here, 64 seats in llama-server, which is not asked for more. The client that reads
all streams runs on the same processors.

{table(results)}

{versions}

{commands}
"""


def summary(results: dict) -> str:
    """The most chats at once that were measured, and on which machine: it need not be that of the other numbers."""
    both = [row for row in results["tests"] if OURS in row["servers"] and THEIRS in row["servers"]]
    loads = [row for row in both if row["label"].endswith("chats: all tokens") and not row["label"].startswith("crowd")]
    if not loads:
        return "Over HTTP nothing was measured."
    row = loads[-1]
    return (
        f"Over HTTP, {row['label'].removesuffix(': all tokens')} at once, {row['unit']}, least / median / greatest: "
        f"{report.three(row['servers'].get(OURS, []))}, which is {times(row)} × llama-server. Measured on {report.conditions(results)}."
    )
