#!/bin/bash
# The loop, whole: runs/loop.sh [--model MODEL] [--choices N] [--unseen N] [--minutes N].
#
# A scripted person in a real browser asks, sees two answers each time and chooses by a property that nobody names: for the poet, poems of
# four lines; for other models, answers of at most two sentences. Then one click makes an improvement of the choices, its gate measures it,
# one click promotes it, and the same tab asks questions that nobody chose on. It ends with an error unless the property is at least three times
# as frequent as before, neutral text stays within 3 % and rolling back restores the model, bit for bit. Needs Node, npm and Chromium.
cd "$(dirname "$0")/.."
. runs/common.sh

# Nothing is kept: a person does not choose the same twice.
model=poet choices=200 unseen='' minutes=30 out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
begin "model choices unseen minutes" "$@"
fetch "$model"
if [ -z "$unseen" ]; then
    [ "$model" = poet ] && unseen=100 || unseen=60
fi

step "the loop of $model: $choices choices, $unseen questions nobody chose on"
program=$(realpath "$zhenjin")
file=$(path_of "$model")
# Other models than the poet by their files: the person's home folder is a new one.
[ "$model" = poet ] || model=$file
cd web
ZHENJIN_BIN="$program" ZHENJIN_TEST_MODEL="$file" ZHENJIN_LOOP_MODEL="$model" ZHENJIN_LOOP_CHOICES="$choices" \
    ZHENJIN_LOOP_UNSEEN="$unseen" ZHENJIN_LOOP_MINUTES="$minutes" npx vitest run -c vitest.e2e.config.ts e2e/loop.test.ts
