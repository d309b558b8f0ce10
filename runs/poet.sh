#!/bin/bash
# A model that writes classical Chinese poems, from text to chat: runs/poet.sh POEMS [--minutes N] [--depth N] [--out FOLDER]
#
# POEMS is a file or folder of JSON lines, plain or compressed, with `kind` (tang, song or ci), `title` (of a ci: its tune), `author`
# and `lines`. Cut off at any moment, the same command goes on where it was.
cd "$(dirname "$0")/.."
. runs/common.sh

minutes=90 depth=4 out=out/poet
poems=${1:?POEMS: a file or folder of poems as JSON lines}
shift
begin "minutes depth out" "$@"

# The head of a document says what the poem is; generation begins behind a head, or in the middle of one.
format='<|kind|>{kind}<|title|>{title}<|author|>{author}\n<|poem|>{lines}'
# The same poem under two titles is one poem for the division into training and validation.
same=(--format "$format" --identity '{lines}')

if [ ! -e "$out/tokenizer/tokenizer.json" ]; then
    step "tokenizer"
    "$zhenjin" tokenizer train "$poems" "${same[@]}" --vocabulary 8192 \
        --special '<|kind|>' --special '<|title|>' --special '<|author|>' --special '<|poem|>' --out "$out/tokenizer"
fi

step "token shards"
"$zhenjin" tokenize "$poems" "${same[@]}" --tokenizer "$out/tokenizer" --licence MIT --out "$out/shards"
# Training takes the tokenizer and the chat template from beside the shards into the run.
cp runs/poet-template.jinja "$out/shards/chat_template.jinja"

step "pretraining"
resume=()
[ ! -e "$out/run/run.toml" ] || resume=(--resume auto)
status=0
"$zhenjin" pretrain --data "$out/shards" --depth "$depth" --minutes "$minutes" --out "$out/run" "${resume[@]}" \
    --sample-prompt '<|kind|>tang<|title|>春夜' --sample-prompt '<|kind|>ci<|title|>浣溪沙' || status=$?
[ "$status" = 0 ] || exit "$status"

step "model file"
rm -f "$out/poet.gguf"
"$zhenjin" quantize "$out/run" "$out/poet.gguf" --type q8_0

step "evaluation"
"$zhenjin" evaluate poems "$out/poet.gguf" --data "$out/shards" --samples 500 --scored 3000 --show 8 --temperature 0.7 --top-p 0.95 | tee "$out/evaluation.txt"
"$zhenjin" report "$out/run"

echo
echo "talk with it: $zhenjin chat $out/poet.gguf -p '春夜'"
