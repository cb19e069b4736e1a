#!/bin/bash
# tests/tools/kills.sh: programs that save to one path, killed by kill -9 at any moment: one, then
# two at once. After each kill the checkpoint is whole and one of those that were saved.
#   KILLS=200 tests/tools/kills.sh
cd "$(dirname "$0")/../.." || exit 1
CC=${CC:-cc} KILLS=${KILLS:-200} box=build/kills
passed=0 failed=0
ok()     { echo "ok   $1"; passed=$((passed + 1)); }
fail()   { echo "FAIL $1: $2"; failed=$((failed + 1)); }
finish() { echo "$passed passed, $failed failed"; [ "$failed" = 0 ]; exit; }
rm -rf $box
mkdir -p $box

if ! $CC -O1 -DGAN_MAX_VECTOR=0 tests/tools/saver.c -o $box/saver -lm -pthread \
        2> $box/build.log; then
    fail "kills: it builds" "$(grep -m 1 error $box/build.log)"
    finish
fi

RANDOM=${SEED:-7}
for programs in 1 2; do
    problem=
    for ((i = 0; i < KILLS && ${#problem} == 0; i++)); do
        pids=
        for ((p = 1; p <= programs; p++)); do
            $box/saver $box/model.safetensors $p > $box/saver.log 2>&1 &
            pids="$pids $!"
        done
        sleep 0.0$((RANDOM % 6 + 1))
        for pid in $pids; do
            kill -9 "$pid" 2> /dev/null || problem="a program ended: $(cat $box/saver.log)"
        done
        wait $pids 2> /dev/null
        [ ! -e $box/model.safetensors ] || said=$($box/saver $box/model.safetensors) ||
            problem="after $i kills: $said"
    done
    if [ -z "$problem" ]; then ok "kills: $KILLS of $programs at once, the checkpoint is whole"
    else fail "kills: $programs at once" "$problem"; fi
done
# Each save removes what killed programs have left: no more than the last ones' files are there.
left=$(find $box -name '.gan-*.tmp' | wc -l)
if [ "$left" -le 4 ]; then ok "kills: $left temporary files of $((3 * KILLS)) killed programs"
else fail "kills: temporary files" "$left are left"; fi
finish
