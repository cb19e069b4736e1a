#!/bin/sh
# tests/tools/run.sh COMMAND...   runs each command, however the ones before it ended, and adds up
# their closing lines "N passed, N failed". A command without such a line counts as one test, by its
# exit status. Failures are told again at the end.
passed=0 failed=0
output=$(mktemp) status=$(mktemp) failures=$(mktemp)
trap 'rm -f "$output" "$status" "$failures"' EXIT

for command; do
    echo "== $command"
    begin=$(date +%s)
    { sh -c "$command" 2>&1; echo $? > "$status"; } | tee "$output"
    last=$(tail -n 1 "$output") code=$(cat "$status") p=0 f=0
    if echo "$last" | grep -Eq '^[0-9]+ passed, [0-9]+ failed'; then
        p=${last%% passed*}
        f=${last#*passed, }; f=${f%% failed*}
    elif [ "$code" = 0 ]; then p=1
    fi
    if [ "$code" != 0 ] && [ "$f" = 0 ]; then
        echo "FAIL $command: exit status $code" | tee -a "$output"
        f=1
    fi
    grep '^FAIL' "$output" | while IFS= read -r line; do
        printf '%s  [%s]\n' "$line" "$command"
    done >> "$failures"
    passed=$((passed + p)) failed=$((failed + f))
    echo "-- $(($(date +%s) - begin)) s"
done
echo
[ ! -s "$failures" ] || { echo "== what failed"; cat "$failures"; }
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
