#!/bin/bash
# tests/examples.sh [compare] [NAME...]: runs every example of tests/examples.txt (or those named) with --quick and looks at what it leaves: all files are
# there, no number in what it prints or in a CSV is NaN or infinite, and every picture shows something. With compare as the first word it runs
# them on compare:ref,cpu, two steps each: every kernel of both agrees. The programs are built before: make examples-built.
cd "$(dirname "$0")/.." || exit 1
device=cpu steps=
if [ "$1" = compare ]; then device=compare:ref,cpu steps="--steps 2"; shift; fi
box=build/examples/$device
box=${box//[:,]/-}
passed=0 failed=0
ok()   { echo "ok   $1"; passed=$((passed + 1)); }
fail() { echo "FAIL $1: $2"; failed=$((failed + 1)); }
not_finite='(^|[^[:alnum:]_])-?(nan|inf)(inity)?([^[:alnum:]_]|$)'

while read -r name files; do
    case $name in '#'* | '') continue ;; esac
    [ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
    out=$box/$name
    rm -rf "$out" && mkdir -p "$out"
    begin=$(date +%s%N)
    build/$name --quick --device $device $steps --threads 1 --out "$out" > "$out/stdout" 2>&1
    code=$? took=$((($(date +%s%N) - begin) / 1000000))
    wrong=
    [ $code = 0 ] || wrong="exit status $code: $(tail -n 1 "$out/stdout")"
    grep -Eiq "$not_finite" "$out/stdout" && wrong="a number is not finite: $(grep -Eim 1 "$not_finite" "$out/stdout")"
    if [ -z "$wrong" ] && [ "$device" = cpu ]; then
        for file in $files; do
            [ -n "$wrong" ] && break
            if [ ! -s "$out/$file" ]; then
                case $file in *.png | *.gif) [ -x build/picture ] || continue ;; esac       # without stb there are no pictures
                wrong="$file is missing or empty"
            fi
            case $file in
                *.csv) grep -Eiq "$not_finite" "$out/$file" && wrong="$file: a number is not finite"
                       grep -q '[0-9]' "$out/$file" || wrong="$file: no number" ;;
                *.png | *.gif) build/picture "$out/$file" > "$out/picture" || wrong=$(grep -m 1 FAIL "$out/picture"); cat "$out/picture" ;;
            esac
        done
    fi
    if [ -n "$wrong" ]; then fail "$name --quick --device $device" "$wrong"; else ok "$name --quick --device $device ($took ms)"; fi
done < tests/examples.txt
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
