# What all runs have in common; each sources it in the project's folder, says its defaults and calls
#     begin "minutes depth out" "$@"
# with the names of its options. ZHENJIN names the program [target/release/zhenjin].
set -euo pipefail

begin() { # NAMES [--NAME VALUE]…
    local names=$1 name
    shift
    while [ $# -gt 0 ]; do
        name=${1#--}
        if [ "$1" = "$name" ] || [[ " $names " != *" $name "* ]]; then
            echo "$0: unknown option $1; there are --${names// /, --}" >&2
            exit 2
        fi
        if [ $# -lt 2 ]; then
            echo "$0: $1 needs a value" >&2
            exit 2
        fi
        printf -v "${name//-/_}" %s "$2"
        shift 2
    done
    zhenjin=${ZHENJIN:-target/release/zhenjin}
    [ -x "$zhenjin" ] || make build
    mkdir -p "$out"
}

step() { echo; echo "== $* =="; }
# Runs statements of awk, whose numbers have fractions.
calculate() { awk "BEGIN { $1 }"; }
# The first number of that name in a file of JSON.
number() { sed -n "s/.*\"$1\": *\([0-9.e-]*\).*/\1/p" "$2" | head -1; }
# The file of a model that is called by a name.
path_of() { "$zhenjin" inspect "$1" --json | sed -n 's/^  "path": "\(.*\)",$/\1/p' | head -1; }

# Serves models on any free port until the script ends; `address` is where. The log of an earlier server would name another one.
serve() { # ARGUMENTS OF zhenjin serve
    rm -f "$out/server.log"
    "$zhenjin" --home "$out/home" serve "$@" --addr 127.0.0.1:0 > "$out/server.log" 2>&1 &
    server=$!
    trap 'kill $server 2>/dev/null || true' EXIT
    until address=$(sed -n 's|^listening on http://||p' "$out/server.log" 2>/dev/null) && [ -n "$address" ]; do
        kill -0 $server 2>/dev/null || { cat "$out/server.log" >&2; exit 1; }
        sleep 0.1
    done
}
