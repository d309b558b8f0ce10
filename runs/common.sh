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
    if [ -n "${ZHENJIN:-}" ] && [ ! -x "$zhenjin" ]; then
        echo "$0: ZHENJIN names $zhenjin, which is no program" >&2
        exit 2
    fi
    [ -x "$zhenjin" ] || make build
    mkdir -p "$out"
    # What was begun with other options is not shown as the result of these.
    local given='' value
    for name in $names; do
        value=${name//-/_}
        [ "$name" = out ] || given+="--$name ${!value} "
    done
    if [ -e "$out/options" ] && [ "$(<"$out/options")" != "$given" ]; then
        echo "$0: $out was begun with $(<"$out/options")and not with ${given}; give the same options, or another --out" >&2
        exit 2
    fi
    printf %s "$given" > "$out/options"
}

# Fetches a model that is not on this machine yet; files and folders are there.
fetch() { "$zhenjin" inspect "$1" > /dev/null 2>&1 || "$zhenjin" pull "$1"; }

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
