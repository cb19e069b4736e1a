#!/bin/bash
# tests/tools/tags.sh: the header is the book that its contents list promises, the programs in the
# documentation compile, and the library exports what the header declares.
cd "$(dirname "$0")/../.." || exit 1
CC=${CC:-cc}
mkdir -p build/tags
passed=0 failed=0
ok()   { echo "ok   $1"; passed=$((passed + 1)); }
fail() { echo "FAIL $1: $2"; failed=$((failed + 1)); }
same() { # same NAME TEXT TEXT
    if [ "$2" = "$3" ] && [ -n "$2" ]; then ok "$1"
    else fail "$1" "$(diff <(echo "$2") <(echo "$3") | grep '^[<>]' | tr '\n' ' ')"; fi
}

# --- tags: in the contents list, in PART I, in PART II, in the same order
contents=$(sed -n '/^   CONTENTS/,/^   CONVENTIONS/p' gan.h | grep -oE '^ +>>[a-z_0-9]+' |
           tr -d ' ')
banner_lines() {   # the tag lines of a part's banners: those right below a line of =
    awk -v part="$1" '/^ +PART I:/ { now = 1 } /^ +PART II:/ { now = 2 }
                      now == part && last ~ /====/ && /^ +>>/ { print } { last = $0 }' gan.h
}
part1=$(banner_lines 1 | grep -v '(implementation)' | grep -oE '>>[a-z_0-9]+')
part2=$(banner_lines 2 | grep '(implementation)' | grep -oE '>>[a-z_0-9]+')
same "tags: CONTENTS and the banners of PART I" "$contents" "$part1"
same "tags: CONTENTS and the banners of PART II" "$contents" "$part2"
strange=$(grep -oE '>>[a-z_]+[a-z_0-9]*' gan.h | sort -u | grep -vxF "$contents" | grep -v '>>tag')
if [ -z "$strange" ]; then ok "tags: none that CONTENTS lacks"
else fail "tags: none that CONTENTS lacks" "$(echo $strange)"; fi

# --- the program in the title comment: its lines between the include and the sentence after it
{
    printf '#include <stdio.h>\n#define GAN_IMPLEMENTATION\n#include "gan.h"\n'
    awk '/^   A complete program/ { on = 1; next } /^   A DCGAN that/ { on = 0 } on' gan.h
} > build/tags/title.c
if ! $CC -std=c99 -Wall -Wextra -pedantic -Werror -O2 -I. build/tags/title.c -o build/tags/title \
        -lm 2> build/tags/title.log; then
    fail "the program in gan.h's title compiles" "$(head -n 1 build/tags/title.log)"
else
    ok "the program in gan.h's title compiles"
    lines=$(build/tags/title)
    first=$(echo "$lines" | head -n 1 | awk '{ print $NF }')
    last=$(echo "$lines" | tail -n 1 | awk '{ print $NF }')
    if awk -v a="$first" -v b="$last" 'BEGIN { exit !(b + 0 == b && b < a / 10) }'; then
        ok "it learns: loss $first, then $last"
    else fail "it learns" "loss $first, then $last"; fi
fi
length=$(grep -c . build/tags/title.c)
if [ "$length" -le 28 ]; then ok "it has 25 lines at most"
else fail "it has 25 lines at most" "$((length - 3))"; fi

# --- the programs in the README: every ```c block with a main
n=0
if [ -f README.md ]; then
    rm -f build/tags/readme*
    awk '/^```c[ \t]*$/ { on = 1; file = "build/tags/readme" ++n ".c"; next }
         /^```/ { on = 0 }
         on { print > file }' README.md
    for block in build/tags/readme*.c; do
        grep -qs 'main *(' "$block" || continue
        n=$((n + 1))
        if $CC -std=c99 -Wall -Wextra -O2 -I. -Ibuild "$block" -o "${block%.c}" -lm \
               2> "$block.log"; then
            ok "README.md, program $n compiles"
        else fail "README.md, program $n compiles" "$(grep -m 1 error "$block.log")"; fi
    done
fi
[ "$n" -gt 0 ] || fail "README.md has a program" "no \`\`\`c block with a main"

# --- what the header declares, the library exports
if ! make --no-print-directory lib CC="$CC" > build/tags/lib.log 2>&1; then
    fail "build/libgan.so" "$(tail -n 1 build/tags/lib.log)"
else
    for stb in stb/ ""; do
        echo "#include <${stb}stb_image_write.h>" | $CC -I. -Ibuild -E -x c - > /dev/null 2>&1 &&
            pictures="#include <${stb}stb_image.h>\n#include <${stb}stb_image_write.h>\n" && break
    done
    header=$(sed '/^#if defined(GAN_STATIC)/,/^#endif/d' gan.h)
    declared=$(printf "#define GAN_API GAN_DECLARES\n$pictures" | cat - <(echo "$header") |
               $CC -I. -Ibuild -E -P -x c - 2> /dev/null | tr '\n;' ' \n' | grep 'GAN_DECLARES' |
               grep -oE '\bgan_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u)
    exported=$(nm -D --defined-only build/libgan.so |
               awk '$2 == "T" && $3 !~ /^gan_cuda_/ { print $3 }' | sort -u)
    missing=$(comm -23 <(echo "$declared") <(echo "$exported"))
    extra=$(comm -13 <(echo "$declared") <(echo "$exported"))
    count=$(echo "$declared" | wc -l)
    if [ "$count" -ge 120 ] && [ -z "$missing" ]; then
        ok "build/libgan.so exports all $count public functions"
    else fail "build/libgan.so exports all $count public functions" "$(echo $missing)"; fi
    if [ -z "$extra" ]; then ok "build/libgan.so exports nothing else"
    else fail "build/libgan.so exports nothing else" "$(echo $extra)"; fi
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
