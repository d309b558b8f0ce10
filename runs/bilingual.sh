#!/bin/bash
# What does a language cost another one? runs/bilingual.sh CHINESE ENGLISH [--minutes N] [--depth N] [--bytes SIZE] [--format F]
#     [--format-chinese F] [--format-english F] [--split WHERE] [--vocabulary N] [--out FOLDER]
#
# CHINESE and ENGLISH are files or folders of text, JSON lines or Parquet; the formats say what in a JSON line is text, as for
# `zhenjin tokenize`. Of both, as many bytes are taken. Four models of one shape are trained: one for each language with a tokenizer
# of its own, on T tokens; one for both with a common tokenizer, on T tokens (as much as each) and on 2 T (as much as both together).
# N minutes in all, on two cores. Cut off at any moment, the same command goes on where it was.
cd "$(dirname "$0")/.."
. runs/common.sh

usage='CHINESE ENGLISH: two files or folders of text'
chinese=${1:?$usage} english=${2:?$usage}
shift 2
minutes=40 depth=4 bytes=64MB split=paragraph vocabulary=8192 out=out/bilingual format={text} format_chinese= format_english=
begin "minutes depth bytes format format-chinese format-english split vocabulary out" "$@"
: "${format_chinese:=$format}" "${format_english:=$format}"

step "equal bytes"
excerpt() { # NAME PATH FORMAT BYTES
    "$zhenjin" generate excerpt "$2" --format "$3" --split "$split" --bytes "$4" --out "$out/$1.jsonl" --json > "$out/$1.json"
}
if [ ! -e "$out/excerpts" ]; then
    excerpt chinese "$chinese" "$format_chinese" "$bytes"
    excerpt english "$english" "$format_english" "$bytes"
    least=$(calculate "a = $(number bytes "$out/chinese.json"); b = $(number bytes "$out/english.json"); print (a < b ? a : b)")
    excerpt chinese "$chinese" "$format_chinese" "$least"
    excerpt english "$english" "$format_english" "$least"
    touch "$out/excerpts"
fi
cat "$out/chinese.json" "$out/english.json"

# A control token before the text, so that its first token is predicted as well.
format='<|im_start|>{text}'
tokenizer() { # NAME TEXTS
    local name=$1
    shift
    [ -e "$out/tokenizer-$name/tokenizer.json" ] || "$zhenjin" tokenizer train "$@" --vocabulary "$vocabulary" --out "$out/tokenizer-$name"
}
shards() { # NAME TOKENIZER TEXTS
    local name=$1 tokenizer=$2
    shift 2
    "$zhenjin" tokenize "$@" --format "$format" --tokenizer "$out/tokenizer-$tokenizer" --out "$out/shards-$name"
}
step "tokenizers and token shards"
tokenizer chinese "$out/chinese.jsonl"
tokenizer english "$out/english.jsonl"
tokenizer both "$out/chinese.jsonl" "$out/english.jsonl"
shards chinese chinese "$out/chinese.jsonl"
shards english english "$out/english.jsonl"
shards both both "$out/chinese.jsonl" "$out/english.jsonl"
# To measure each language apart.
shards both-chinese both "$out/chinese.jsonl"
shards both-english both "$out/english.jsonl"

share=0.02
pretrain() { # NAME SHARDS OPTIONS
    local name=$1 shards=$2
    shift 2
    local resume=()
    [ ! -e "$out/$name/run.toml" ] || resume=(--resume auto)
    step "pretraining: $name"
    "$zhenjin" pretrain --data "$out/shards-$shards" --out "$out/$name" "${resume[@]}" "$@"
    "$zhenjin" report "$out/$name"
}
# Five times T in all; a tenth of the time for the rest.
one=$(calculate "print $minutes * 0.9 / 5")
# The shape is the same for all, also where a tokenizer found fewer tokens than it may have.
shape=(--depth "$depth" --set "data.validation_share=$share" --set "model.vocabulary_size=$(calculate "print int(($vocabulary + 63) / 64) * 64")")
pretrain both both "${shape[@]}" --minutes "$one"
# The same steps and batches: the same tokens and operations.
pretrain chinese chinese --config "$out/both/run.toml"
pretrain english english --config "$out/both/run.toml"
setting() { sed -n "s/^$1 = \([0-9]*\).*/\1/p" "$out/both/run.toml" | head -1; }
tokens=$(calculate "print $(setting steps) * $(setting sequences) * $(setting micro_batches) * $(setting sequence_length)")
pretrain both-twice both "${shape[@]}" --tokens $((2 * tokens))

step "evaluation"
newest() { ls -d "$out/$1"/checkpoints/step-* | tail -1; }
evaluate() { # RUN SHARDS
    "$zhenjin" evaluate text "$(newest "$1")" --data "$out/shards-$2" --validation-share "$share" --json > "$out/bits-$1-$2.json"
}
for language in chinese english; do
    evaluate "$language" "$language"
    evaluate both "both-$language"
    evaluate both-twice "both-$language"
done
bits() { number bits_per_byte "$out/bits-$1-$2.json"; }
row() { # LANGUAGE
    local alone both twice bytes error
    alone=$(bits "$1" "$1") both=$(bits both "both-$1") twice=$(bits both-twice "both-$1")
    bytes=$(number scored_bytes "$out/bits-$1-$1.json") error=$(number standard_error "$out/bits-$1-$1.json")
    calculate "printf \"| %s | %d | %.4f ± %.4f | %.4f | %.3f | %.4f | %.3f |\n\", \"$1\", $bytes, $alone, $error, $both, $both / $alone, $twice, $twice / $alone"
}
{
    echo "Bits per byte of held-out text; $tokens tokens (T) for each model of one language, $(number bytes "$out/chinese.json") bytes of Chinese and $(number bytes "$out/english.json") of English."
    echo
    echo "| language | bytes scored | alone, T | both, T | ratio | both, 2 T | ratio |"
    echo "|---|---:|---:|---:|---:|---:|---:|"
    row chinese
    row english
} | tee "$out/results.md"
{
    echo '{'
    for file in "$out"/bits-*.json; do
        name=$(basename "$file" .json)
        echo "\"$name\": $(cat "$file"),"
    done
    echo "\"tokens\": $tokens"
    echo '}'
} > "$out/results.json"
