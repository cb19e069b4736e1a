#!/bin/bash
# tests/tools/proofs.sh: every public function of gan.h has its row in tests/tools/proofs.txt, and every proof that a row names is there: compiled,
# called, and about that function. Every kernel is called in tests/kernels.c, both its ref and its cpu version.
cd "$(dirname "$0")/../.." || exit 1
CC=${CC:-cc}
TABLE=${1:-tests/tools/proofs.txt}
passed=0 failed=0
ok()   { echo "ok   $1"; passed=$((passed + 1)); }
fail() { echo "FAIL $1: $2"; failed=$((failed + 1)); }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# --- what gan.h declares: name and declaration, one a line, without comments and without the bare kernels
sed '/^#if defined(GAN_STATIC)/,/^#endif/d' gan.h |
    awk '/^ +PART II:/ { exit } { print }' | { echo '#define GAN_API GAN_DECLARES'; echo '#define INCLUDE_STB_IMAGE_WRITE_H'; grep -v '^#include'; } |
    $CC -E -P -x c - 2> /dev/null | tr '\n' ' ' | tr ';' '\n' | grep -oE 'GAN_DECLARES .*' |
    sed -E 's/.* \**(gan_[a-z0-9_]+) *\(/\1 &/' | grep -vE '^gan_(ref|cpu)_' > "$work/declared"
cut -d ' ' -f 1 "$work/declared" | sort > "$work/functions"
count=$(wc -l < "$work/functions")
if [ "$count" -ge 150 ]; then ok "proofs: gan.h declares $count functions"; else fail "proofs: gan.h's declarations" "only $count were found"; fi

grep -vE '^ *(#|$)' "$TABLE" > "$work/rows"
cut -d ' ' -f 1 "$work/rows" | sort > "$work/named"
missing=$(comm -23 "$work/functions" <(sort -u "$work/named")) extra=$(comm -13 "$work/functions" <(sort -u "$work/named")) twice=$(uniq -d "$work/named")
if [ -z "$missing" ]; then ok "proofs: every function has a row"; else fail "proofs: functions without a row in $TABLE" "$(echo $missing)"; fi
if [ -z "$extra" ]; then ok "proofs: every row is of a function"; else fail "proofs: rows of functions that gan.h lacks" "$(echo $extra)"; fi
if [ -z "$twice" ]; then ok "proofs: no function has two rows"; else fail "proofs: functions with two rows" "$(echo $twice)"; fi

# --- what the tests hold: "FILE NAME" for each test that is run, and each file's own text with its macros expanded
for file in tests/*.c; do
    name=$(basename "$file" .c)
    $CC -E -DNO_STB "$file" 2> /dev/null | awk -v file="\"$file\"" '/^# [0-9]+ "/ { on = $3 == file; next } on' > "$work/$name.text"
    # a test function is defined, and its name is given to something (run, a table) further on; -DNO_STB and Windows leave some out
    awk '/^static void [a-z_0-9]+\(void\)/ { name = $3; sub(/\(.*/, "", name); defined[name] = 1; next }
         { for (name in defined) if (!given[name] && match($0, "[ (,]" name "[),]")) given[name] = 1 }
         END { for (name in given) print file, name }' file="$name" "$file"
done > "$work/tests"
grep -oE '\{ "[A-Za-z0-9_]+", case_' "$work/operations.text" | cut -d '"' -f 2 | sed 's/^/operations /' >> "$work/tests"
grep -oE '\{ "[A-Za-z0-9_]+", f_' "$work/gradients.text" | cut -d '"' -f 2 | sed 's/^/gradients /' >> "$work/tests"
grep -oE '\{ "[A-Za-z0-9_]+", "gan_' "$work/mistakes.text" | cut -d '"' -f 2 | sed 's/^/mistakes /' >> "$work/tests"
sort -u "$work/tests" -o "$work/tests"

# what each case computes: "FILE NAME expression"
for pair in operations:case_ gradients:f_; do
    tr '\n' ' ' < "$work/${pair%:*}.text" | sed 's/static gan_tensor \*/\n/g' | sed -nE "s/^${pair#*:}([A-Za-z0-9_]+)\(.*return (.*);.*/${pair%:*} \1 \2/p"
done > "$work/expressions"


# --- each row: five words; every proof exists; the file of each proof calls the function; a tensor of a tensor has value and gradient
problems=$(awk -v work="$work" '
    BEGIN {
        while ((getline line < (work "/tests")) > 0) there[line] = 1
        while ((getline line < (work "/expressions")) > 0) { n = split(line, word, " "); computed[word[1] " " word[2]] = line }
        while ((getline line < (work "/declared")) > 0) { name = line; sub(/ .*/, "", name); declared[name] = line }
    }
    function text_of(file,    line, all) {
        if (!(file in text)) {
            while ((getline line < (work "/" file ".text")) > 0) all = all "\n" line
            while ((getline line < ("tests/" file ".c")) > 0) all = all "\n" line
            while ((getline line < "tests/test.h") > 0) all = all "\n" line
            close("tests/test.h")
            text[file] = all
        }
        return text[file]
    }
    function about(case_, name,    rest) {              # the case calls the function, or a function of the test, which may
        if (!(case_ in computed) || index(computed[case_], name "(")) return 1
        rest = computed[case_]
        gsub(/gan_[a-z0-9_]+\(|name_of_case\(/, " ", rest)
        return rest ~ /[a-z0-9_]\(/
    }
    function proofs(cell, file,    one, n, i, pair) {   # how many
        if (cell == "-" || cell == "n/a") return 0
        n = split(cell, one, ",")
        for (i = 1; i <= n; i++) {
            if (file == "") { split(one[i], pair, ":") } else { pair[1] = file; pair[2] = one[i] }
            if (!((pair[1] " " pair[2]) in there)) print $1 ": there is no " pair[2] " in tests/" pair[1] ".c"
            else if (file != "kernels" && index(text_of(pair[1]), $1 "(") == 0 && index(text_of(pair[1]), $1 " (") == 0)
                print $1 ": tests/" pair[1] ".c does not call it"
            else if (!about(pair[1] " " pair[2], $1)) print $1 ": " pair[2] " of tests/" pair[1] ".c does not call it"
        }
        return n
    }
    NF != 5 { print $1 ": " NF " words in its row, five are wanted"; next }
    {
        k = proofs($2, "kernels"); v = proofs($3, "operations"); g = proofs($4, "gradients"); o = proofs($5, "")
        if (k + v + g + o == 0) print $1 ": no proof at all"
        of_tensors = declared[$1] ~ /gan_tensor \*+gan_[a-z0-9_]+ *\(.*gan_tensor/
        if (of_tensors && $3 == "-") print $1 ": it computes a tensor, and no value of it is compared"
        if (of_tensors && $4 == "-") print $1 ": it computes a tensor, and no gradient of it is checked"
        if ($3 == "n/a" && v + o == 0) print $1 ": n/a wants another proof"
    }' "$work/rows")
if [ -z "$problems" ]; then ok "proofs: all $(awk '{ for (i = 2; i <= NF; i++) if ($i ~ /[a-z]/ && $i != "n/a") n += split($i, one, ",") } END { print n }' "$work/rows") proofs of the rows are there"
else while IFS= read -r line; do fail "proofs" "$line"; done <<< "$problems"; fi

# --- the kernels, which the functions share
kernels=$(sed -n '/^#define GAN_KERNELS(K)/,/[^\\]$/p' gan.h | grep -oE 'K\([a-z0-9_]+,' | sed 's/K(//; s/,//')
untested=
for kernel in $kernels; do
    for which in ref cpu; do grep -q "gan_${which}_$kernel(" tests/kernels.c || untested="$untested gan_${which}_$kernel"; done
done
if [ -n "$kernels" ] && [ -z "$untested" ]; then ok "proofs: all $(echo "$kernels" | wc -l) kernels are called in tests/kernels.c, ref and cpu"
else fail "proofs: kernels that tests/kernels.c does not call" "$untested"; fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
