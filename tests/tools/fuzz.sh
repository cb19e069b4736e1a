#!/bin/bash
# tests/tools/fuzz.sh            every reader on its corpus, tests/fuzz/corpus/READER/, under the
#                                sanitizers
# tests/tools/fuzz.sh libfuzzer  each reader for TIME seconds on inputs made by libFuzzer (clang);
#                                what breaks one is left as build/fuzz/READER-..., and belongs into
#                                the corpus when it is mended
cd "$(dirname "$0")/../.." || exit 1
CC=${CC:-cc} TIME=${TIME:-20} readers="empty filled state idx labels cifar folder csv device"
passed=0 failed=0
ok()   { echo "ok   $1"; passed=$((passed + 1)); }
fail() { echo "FAIL $1: $2"; failed=$((failed + 1)); }
flags="-std=c99 -g1 -O1 -DGAN_MAX_VECTOR=0 -DGAN_NO_THREADS -fsanitize=address,undefined
       -fno-sanitize-recover=all -Ibuild"
mkdir -p build/fuzz

if [ "$1" = libfuzzer ]; then
    cat > build/fuzz/probe.c << 'END'
int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size);
int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size)
{
    return data && size > 9;
}
END
    if ! clang -fsanitize=fuzzer build/fuzz/probe.c -o build/fuzz/probe 2> /dev/null; then
        echo "skip fuzz: clang -fsanitize=fuzzer does not work (Debian: libclang-rt-14-dev)"
        echo "0 passed, 0 failed"
        exit 0
    fi
    clang $flags -fsanitize=fuzzer -DFUZZ tests/fuzz/readers.c -o build/fuzz/libfuzzer -lm \
        -pthread || exit 1
    for r in $readers; do
        mkdir -p build/fuzz/$r
        READER=$r build/fuzz/libfuzzer -max_total_time="$TIME" -max_len=4096 -timeout=10 \
            -artifact_prefix=build/fuzz/$r- build/fuzz/$r tests/fuzz/corpus/$r \
            > build/fuzz/$r.log 2>&1
        code=$?
        if [ $code = 0 ]; then ok "fuzz: $r, $(grep -o 'Done [0-9]* runs' build/fuzz/$r.log)"
        else
            fail "fuzz: $r" "$(grep -m 1 -E 'SUMMARY|error' build/fuzz/$r.log); build/fuzz/$r.log"
        fi
    done
else
    if ! $CC $flags tests/fuzz/readers.c -o build/fuzz/readers -lm -pthread \
            2> build/fuzz/build.log; then
        fail "fuzz: it builds" "$(grep -m 1 error build/fuzz/build.log)"
        readers=
    fi
    for r in $readers; do
        if said=$(build/fuzz/readers $r tests/fuzz/corpus/$r/* 2>&1); then
            ok "fuzz: $(echo "$said" | tail -n 1)"
        else
            problem=$(echo "$said" | grep -m 1 -E 'ERROR|error|byte')
            fail "fuzz: $r" "${problem:-$(echo "$said" | tail -n 1)}"
        fi
    done
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
