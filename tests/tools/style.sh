#!/bin/bash
# tests/tools/style.sh: every screen can be read. Says which files clang-format would change (make
# format changes them), which lines are wider than 100 columns, and which statements are chained by
# the comma operator.
cd "$(dirname "$0")/../.." || exit 1
passed=0 failed=0
ok()   { echo "ok   $1"; passed=$((passed + 1)); }
fail() { echo "FAIL $1: $2"; failed=$((failed + 1)); }

code=$(find gan.h gan_cuda.cu examples tests -name '*.[ch]' -o -name '*.cu' -o -name '*.cpp' | sort)
text=$(find tests .ci -name '*.sh' -o -name '*.py' -o -name run | sort)

# The layout differs a little between versions: only the one that .clang-format was written for.
formatter=
for name in clang-format-14 clang-format; do
    $name --version 2> /dev/null | grep -q 'version 14\.' && formatter=$name && break
done
if [ -z "$formatter" ]; then
    echo "skip layout (clang-format 14 is not here)"
else
    for file in $code; do
        change=$($formatter "$file" | diff "$file" - | head -n 3 | tr '\n' ' ')
        if [ -z "$change" ]; then ok "layout of $file"; else fail "layout of $file" "$change"; fi
    done
fi

if ! command -v python3 > /dev/null; then
    echo "skip widths and commas (python3 is not here)"
else
    for check in wide commas; do
        files=$code
        [ $check = commas ] || files="$files $text Makefile"
        # shellcheck disable=SC2086
        found=$(python3 tests/tools/lines.py $check $files)
        if [ -z "$found" ]; then ok "$check: none"; continue; fi
        while IFS= read -r line; do fail "$check" "$line"; done <<< "$found"
    done
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
