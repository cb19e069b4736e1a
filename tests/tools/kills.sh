#!/bin/bash
# tests/tools/kills.sh: programs that save to one path, killed by kill -9 at any moment: one, then two at once. After each kill the
# checkpoint is whole and one of those that were saved.      KILLS=200 tests/tools/kills.sh
cd "$(dirname "$0")/../.." || exit 1
CC=${CC:-cc} KILLS=${KILLS:-200} box=build/kills
passed=0 failed=0
ok()     { echo "ok   $1"; passed=$((passed + 1)); }
fail()   { echo "FAIL $1: $2"; failed=$((failed + 1)); }
finish() { echo "$passed passed, $failed failed"; [ "$failed" = 0 ]; exit; }
rm -rf $box
mkdir -p $box

# saver NUMBER saves a model of that number for ever; with no argument it says whether the file is whole.
cat > $box/saver.c << 'END'
#define GAN_IMPLEMENTATION
#include <stdio.h>
#include <stdlib.h>
#include "gan.h"
int main(int argc, char **argv)
{
    static gan_real numbers[20000];
    gan *g = gan_open("ref", 1);
    gan_model *m = gan_model_new(g, "m");
    if (argc > 1) {
        for (int i = 0; i < 20000; i++) numbers[i] = (gan_real)atoi(argv[1]);
        gan_set(gan_param(m, "w", 20000, 1, 1, 1), numbers);
        for (;;) if (!gan_save(m, "build/kills/model.safetensors")) { printf("%s\n", gan_error()); return 1; }
    }
    if (!gan_load(m, "build/kills/model.safetensors")) { printf("%s\n", gan_error()); return 1; }
    gan_to_host(gan_find_param(m, "w"), numbers);
    for (int i = 0; i < 20000; i++) if (!(numbers[i] == 1 || numbers[i] == 2) || numbers[i] != numbers[0]) { printf("torn\n"); return 1; }
    gan_close(g);
    return 0;
}
END
$CC -O1 -DGAN_MAX_VECTOR=0 -I. $box/saver.c -o $box/saver -lm -pthread 2> $box/build.log || { fail "kills: it builds" "$(grep -m 1 error $box/build.log)"; finish; }

RANDOM=${SEED:-7}
for programs in 1 2; do
    problem=
    for ((i = 0; i < KILLS && ${#problem} == 0; i++)); do
        pids=
        for ((p = 1; p <= programs; p++)); do $box/saver $p > $box/saver.log 2>&1 & pids="$pids $!"; done
        sleep 0.0$((RANDOM % 6 + 1))
        for pid in $pids; do kill -9 "$pid" 2> /dev/null || problem="a program ended: $(cat $box/saver.log)"; done
        wait $pids 2> /dev/null
        [ ! -e $box/model.safetensors ] || said=$($box/saver) || problem="after $i kills: $said"
    done
    if [ -z "$problem" ]; then ok "kills: $KILLS kills of $programs at once, the checkpoint is whole"; else fail "kills: $programs at once" "$problem"; fi
done
left=$(find $box -name '.gan-*.tmp' | wc -l) # of the last killed programs at most: each save removes those before it
if [ "$left" -le 4 ]; then ok "kills: $left temporary files are left of $((3 * KILLS)) killed programs"; else fail "kills: temporary files" "$left are left"; fi
finish
