#!/usr/bin/env python3
"""The licences of all Rust libraries that the program is made of: `third_party_licences.py TARGET` prints them.

Each text once, with the libraries that it belongs to. The page's own list is part of the page (`licences.txt`).
A library without a text of its own is listed with the licence that it names.
"""

import json
import subprocess
import sys
from pathlib import Path

NAMES = ("license", "licence", "copying", "copyright", "notice", "unlicense")
ROOT = Path(__file__).resolve().parent.parent


def linked(metadata: dict) -> list[dict]:
    """The packages that `zhenjin-cli` is linked with, from registries, by name and version."""
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    waiting = [id for id, package in packages.items() if package["name"] == "zhenjin-cli"]
    seen = set(waiting)
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            # Neither tests nor what only builds; macros put code into the program, so they stay.
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]) and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                waiting.append(dependency["pkg"])
    found = [packages[id] for id in seen if packages[id]["source"]]
    return sorted(found, key=lambda package: (package["name"], package["version"]))


def texts(package: dict) -> list[str]:
    """The licence texts in a package's folder, and in the folders of C code right below it."""
    folder = Path(package["manifest_path"]).parent
    files = [file for depth in ("*", "*/*") for file in sorted(folder.glob(depth))]
    found = [file for file in files if file.is_file() and file.name.lower().startswith(NAMES) and file.suffix != ".rs"]
    return [file.read_text(encoding="utf-8", errors="replace").strip() for file in found]


def main() -> None:
    target = sys.argv[1]
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = linked(metadata)
    print(f"Zhenjin for {target} is linked with {len(packages)} libraries of others.\n")
    owners: dict[str, list[str]] = {}
    for package in packages:
        name = f"{package['name']} {package['version']}"
        licence = package["license"] or package["license_file"]
        if not licence:
            sys.exit(f"third_party_licences: {name} names no licence; look at it and decide")
        print(f"{name}: {licence}; {package['repository'] or 'no repository named'}")
        for text in texts(package):
            owners.setdefault(text, []).append(name)
    for text, names in owners.items():
        print(f"\n{'=' * 100}\n{', '.join(names)}\n{'-' * 100}\n{text}")


if __name__ == "__main__":
    main()
