"""Draws the median ratios as bars."""

import re
from pathlib import Path
from statistics import median

import report

COLOURS = {"llama_cpp": "#4878a8", "ik_llama_cpp": "#7f9f3f", "openvino": "#c07a3a"}


def draw(results: dict, path: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        print(f"{path} is not drawn: matplotlib is not installed")
        return
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "zhenjin", "font.size": 9})
    from matplotlib import pyplot

    names = report.peers(results)
    rows = [row for row in results["tests"] if any(report.cell_ratios(row, name) for name in names)]
    if not rows:
        return
    height = 0.8 / len(names)
    figure, axes = pyplot.subplots(figsize=(8, 0.9 + 0.22 * (len(names) + 0.6) * len(rows)))
    for index, name in enumerate(names):
        middles = [(place, median(found)) for place, row in enumerate(rows) if (found := report.cell_ratios(row, name))]
        places = [place + (index - (len(names) - 1) / 2) * height for place, _ in middles]
        title = report.TITLES.get(name, name)
        widths = [ratio - 1 for _, ratio in middles]
        bars = axes.barh(places, widths, height, left=1, color=COLOURS.get(name), label=title)
        axes.bar_label(bars, [report.number(ratio) for _, ratio in middles], padding=2, fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    least, greatest = axes.get_xlim()
    axes.set_xlim(min(0.7, least / 1.15), greatest * 1.15)
    ticks = [tick for tick in (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64) if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
    axes.set_yticks(range(len(rows)), [f"{row['type']}: {short(row['label'])}" for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("Zhenjin against the other program, median of the rounds; right of 1× Zhenjin is better")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, 1.0 + 0.5 / len(rows)), ncols=len(names))
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def short(label: str) -> str:
    label = re.sub(r", to the first token|, \d+ tokens each", "", label)
    return re.sub(r" of \d+ tokens with prompts of \d+", " with prompts", label)
