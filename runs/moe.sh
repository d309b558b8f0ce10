#!/bin/bash
# A dense model beside one with experts, at as many operations for each token and on the same tokens:
# runs/moe.sh PATH [--minutes N] [--depth N] [--experts E] [--active K] [--out FOLDER]
#
# PATH is a folder of token shards (`zhenjin tokenize`), or poems as JSON lines for runs/poet.sh's tokenizer. All together takes at most
# the minutes given. Cut off at any moment, the same command goes on where it was.
cd "$(dirname "$0")/.."
. runs/common.sh

minutes=40 depth=4 experts=8 active=2 out=out/moe
path=${1:?PATH: a folder of token shards, or poems as JSON lines}
shift
begin "minutes depth experts active out" "$@"

shards=$path
if [ ! -e "$path/corpus.json" ]; then
    step "tokenizer and token shards"
    format='<|kind|>{kind}<|title|>{title}<|author|>{author}\n<|poem|>{lines}'
    same=(--format "$format" --identity '{lines}')
    shards=$out/shards
    [ -e "$out/tokenizer/tokenizer.json" ] || "$zhenjin" tokenizer train "$path" "${same[@]}" --vocabulary 8192 \
        --special '<|kind|>' --special '<|title|>' --special '<|author|>' --special '<|poem|>' --out "$out/tokenizer"
    "$zhenjin" tokenize "$path" "${same[@]}" --tokenizer "$out/tokenizer" --licence MIT --out "$shards"
fi
dial=(--data "$shards" --depth "$depth")
mixture=(--experts "$experts" --active "$active")

# The number of tokens is what the model with experts can read in its half: it is the slower one. Kept, so that both runs, and a
# run that goes on, have the same.
if [ ! -e "$out/tokens" ]; then
    step "measuring"
    half=$(calculate "print $minutes * 0.48")
    "$zhenjin" pretrain "${dial[@]}" "${mixture[@]}" --minutes "$half" --out "$out/mixture" --dry-run >"$out/measured.toml"
    awk '$1 ~ /^(steps|micro_batches|sequences|sequence_length)$/ { product = product ? product * $3 : $3 } END { print product }' \
        "$out/measured.toml" >"$out/tokens.unfinished"
    mv "$out/tokens.unfinished" "$out/tokens"
fi
tokens=$(cat "$out/tokens")

train() {
    local name=$1
    shift
    [ ! -e "$out/$name/finished" ] || return 0
    step "$name: $tokens tokens"
    local resume=()
    [ ! -e "$out/$name/run.toml" ] || resume=(--resume auto)
    "$zhenjin" pretrain "${dial[@]}" "$@" --tokens "$tokens" --set intervals.samples=0 --out "$out/$name" "${resume[@]}"
    touch "$out/$name/finished"
}
train dense
train mixture "${mixture[@]}"

step "comparison"
for name in dense mixture; do "$zhenjin" report "$out/$name" >/dev/null; done
python3 runs/moe_table.py "$out"
