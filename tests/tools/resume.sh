#!/bin/bash
# tests/tools/resume.sh: a training that is killed at random moments (kill -9) and resumed ends in
# the same bytes as one that was left alone: the saved state (weights, moments, random numbers,
# place in the data) and the CSV log.
#   STEPS=90 KILLS=6 tests/tools/resume.sh
#   EXAMPLE=05_pix2pix FLAGS="--quick" STEPS=40 tests/tools/resume.sh      any other example
cd "$(dirname "$0")/../.." || exit 1
STEPS=${STEPS:-90} KILLS=${KILLS:-6}
EXAMPLE=${EXAMPLE:-01_dcgan} FLAGS=${FLAGS:---batch 8 --data digits}
box=build/resume
passed=0 failed=0
ok()     { echo "ok   $1"; passed=$((passed + 1)); }
fail()   { echo "FAIL $1: $2"; failed=$((failed + 1)); }
finish() { echo "$passed passed, $failed failed"; [ "$failed" = 0 ]; exit; }

rm -rf $box
mkdir -p $box
if ! make --no-print-directory "build/$EXAMPLE" > $box/build.log 2>&1; then
    fail "examples/$EXAMPLE.c builds" "$(grep -m 1 error $box/build.log)"
    finish
fi
training="build/$EXAMPLE --device cpu --steps $STEPS --seed 5 --threads 1 $FLAGS"

begin=$(date +%s%N)
if ! $training --out $box/whole > $box/whole.log 2>&1; then
    fail "a training that is left alone" "$(tail -n 1 $box/whole.log)"
    finish
fi
took=$((($(date +%s%N) - begin) / 1000000)) # ms
ok "a training that is left alone ($STEPS steps, $took ms)"

# Kills come at random within the time that the whole takes, so that most hit a step and some hit a
# save or the start.
RANDOM=${SEED:-$$}
echo "     SEED=${SEED:-$$}"
kills=0 runs=0 resume=
while :; do
    # no function: $! has to be the training itself
    $training --out $box/broken $resume > $box/broken.log 2>&1 &
    pid=$!
    runs=$((runs + 1))
    if [ $kills -lt "$KILLS" ]; then
        wait_ms=$(((RANDOM * 32768 + RANDOM) % (took / 3 + 1) + 20))
        sleep "$((wait_ms / 1000)).$(printf %03d $((wait_ms % 1000)))"
        kill -9 $pid 2> /dev/null && kills=$((kills + 1))
    fi
    wait $pid 2> /dev/null
    code=$?
    [ $code = 0 ] && break
    if [ $code != 137 ]; then
        fail "a resumed training goes on" "exit $code: $(tail -n 1 $box/broken.log)"
        finish
    fi
    # Killed before its first save there is nothing to go on from, and --resume starts anew.
    resume=--resume
    [ $runs -lt 100 ] || { fail "a resumed training ends" "100 runs were not enough"; finish; }
done
if [ $kills -gt 0 ]; then ok "killed $kills times, and at its end after $runs runs"
else fail "killed in time" "it ended before the first kill"; fi
for file in state.safetensors log.csv; do
    if cmp $box/whole/$file $box/broken/$file > $box/cmp.log 2>&1; then
        ok "$file is the same, byte for byte"
    else fail "$file is the same, byte for byte" "$(cat $box/cmp.log)"; fi
done
left=$(find $box/broken -name '*.tmp*')
if [ -z "$left" ]; then ok "no half-written file is left"
else fail "no half-written file is left" "$left"; fi
finish
