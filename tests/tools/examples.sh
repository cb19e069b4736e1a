#!/bin/bash
# tests/tools/examples.sh [compare] [NAME...]: runs every example of tests/tools/examples.txt (or
# those named) with --quick, two at a time, and looks at what it leaves: all files are there, no
# number in what it prints or in a CSV is NaN or infinite, and every picture shows something. With
# compare as the first word it runs them on compare:ref,cpu, two steps each: every kernel of both
# agrees. make test builds the programs before.
cd "$(dirname "$0")/../.." || exit 1
export device=cpu steps= box=build/examples/cpu
if [ "$1" = compare ]; then
    device=compare:ref,cpu steps="--steps 2" box=build/examples/compare
    shift
fi
passed=0 failed=0
ok()   { echo "ok   $1"; passed=$((passed + 1)); }
fail() { echo "FAIL $1: $2"; failed=$((failed + 1)); }
not_finite='(^|[^[:alnum:]_])-?(nan|inf)(inity)?([^[:alnum:]_]|$)'

rm -rf $box
table=$(grep -v '^#' tests/tools/examples.txt | while read -r name files; do
    [ -n "$name" ] && { [ $# = 0 ] || [[ " $* " == *" $name "* ]]; } && echo "$name $files"
done)
run() {         # run NAME: everything that it prints, how it ended, and how many ms it took
    out=$box/$1
    mkdir -p "$out"
    begin=$(date +%s%N)
    build/"$1" --quick --device $device $steps --threads 1 --out "$out" > "$out/stdout" 2>&1
    echo "$? $((($(date +%s%N) - begin) / 1000000))" > "$out/ended"
}
export -f run
echo "$table" | cut -d ' ' -f 1 | xargs -P 2 -I{} bash -c 'run {}'

wrong_with() {  # wrong_with NAME FILE...: prints what is wrong; nothing is well
    out=$box/$1; shift
    [ "$code" = 0 ] || { echo "exit status $code: $(tail -n 1 "$out/stdout")"; return; }
    grep -Eim 1 "$not_finite" "$out/stdout" | sed 's/^/a number is not finite: /' | grep . && return
    [ $device = cpu ] || return
    for file; do
        # without stb there are no pictures
        case $file in *.png | *.gif) [ -x build/picture ] || continue ;; esac
        [ -s "$out/$file" ] || { echo "$file is missing or empty"; return; }
        case $file in
            *.csv)
                if grep -Eiq "$not_finite" "$out/$file"; then
                    echo "$file: a number is not finite"
                    return
                fi
                grep -q '[0-9]' "$out/$file" || { echo "$file: no number"; return; } ;;
            *.png | *.gif)
                if ! build/picture "$out/$file" >> "$out/pictures"; then
                    grep -m 1 FAIL "$out/pictures"
                    return
                fi ;;
        esac
    done
}
while read -r name files; do
    read -r code took < $box/$name/ended
    wrong=$(wrong_with $name $files)
    [ ! -f $box/$name/pictures ] || grep -v FAIL $box/$name/pictures
    if [ -n "$wrong" ]; then fail "$name --quick --device $device" "$wrong"
    else ok "$name --quick --device $device ($took ms)"; fi
done <<< "$table"
for source in examples/[0-9]*.c; do
    name=$(basename "$source" .c)
    grep -q "^$name " tests/tools/examples.txt ||
        fail "$name" "tests/tools/examples.txt has no row for it"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
