#!/bin/bash
# tests/tools/matrix.sh: gan.h under every compiler and option it promises. One small program,
# matrix.c, must compile without a warning, run, and end in the same losses everywhere.
#   tests/tools/matrix.sh [WORD]     only the lines that contain WORD
cd "$(dirname "$0")/../.." || exit 1
root=$PWD box=build/matrix only=$1
rm -rf $box
mkdir -p $box && cd $box || exit 1

cp $root/tests/tools/matrix.c .
printf '#define GAN_IMPLEMENTATION\n#include "matrix.c"\n' > one.c
printf '#define GAN_IMPLEMENTATION\n#include "gan.h"\n' > library.c
printf '#include "gan.h"\n#define GAN_IMPLEMENTATION\n#include "gan.h"\n' > twice.c
printf '#include "gan.h"\nint unused_by_anyone;\n' >> twice.c
for f in one library matrix twice; do cp $f.c $f.cpp; done
sed -i 's/matrix\.c/matrix.cpp/' one.cpp

have() { command -v "$1" > /dev/null; }

first_problem() { grep -m 1 -iE 'error|warning' log.$count; }

# say NAME TOOLS FLAGS... : compiles with the first tool and runs with the second ("-" for not at
# all); one line says how it went.
say() {
    local name=$1 compiler=${2%% *} runner=${2#* } losses code
    shift 2
    if ! have "$compiler"; then echo "skip $name ($compiler is not here)"; return; fi
    [ "$runner" = "$compiler" ] && runner=
    if [ -n "$runner" ] && [ "$runner" != - ] && ! have "$runner"; then
        echo "skip $name ($runner is not here)"
        return
    fi
    if ! "$compiler" -I"$root" "$@" -o program.$count -lm > log.$count 2>&1; then
        echo "FAIL $name: $(first_problem)"
        return
    fi
    if [ -s log.$count ]; then echo "FAIL $name: $(head -n 1 log.$count)"; return; fi
    if [ "$runner" = - ]; then echo "ok   $name (compiles and links)"; return; fi
    losses=$(timeout 300 $runner ./program.$count 2>&1)
    code=$?
    if [ $code = 0 ]; then echo "ok   $name  $losses"
    else echo "FAIL $name: exit $code: $(echo "$losses" | tail -n 1)"; fi
}
# read_only NAME COMPILER FLAGS... SOURCE: the compiler reads it, and builds nothing.
read_only() {
    local name=$1
    shift
    if "$@" -fsyntax-only > log.$count 2>&1; then echo "ok   $name"
    else echo "FAIL $name: $(first_problem)"; fi
}
# apart NAME COMPILER FLAGS...: a program and an object with different number types do not link, and
# the linker names the type.
apart() {
    local name=$1 compiler=$2
    shift 2
    if ! have "$compiler"; then echo "skip $name ($compiler is not here)"; return; fi
    compile() { "$compiler" -I"$root" "$@" -O0 -DGAN_MAX_VECTOR=0; }
    link()    { "$compiler" "$@" float.$count.o -o program.$count -lm; }
    compile "$@" -c library.c -o float.$count.o > log.$count 2>&1
    compile "$@" -c matrix.c -o same.$count.o >> log.$count 2>&1
    compile "$@" -DGAN_REAL=double -c matrix.c -o double.$count.o >> log.$count 2>&1
    if ! link same.$count.o >> log.$count 2>&1; then
        echo "FAIL $name: the same type does not link"
    elif link double.$count.o > log.$count 2>&1; then
        echo "FAIL $name: they link"
    elif ! grep -q gan__compiled_with_GAN_REAL_double log.$count; then
        echo "FAIL $name: $(head -n 1 log.$count)"
    else echo "ok   $name"; fi
}
# Two at a time; what they say is put in order at the end.
count=1000
in_turn() {
    [[ $2 == *"$only"* ]] || return
    count=$((count + 1))
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
    "$@" > said.$count &
}
check() { in_turn say "$@"; }

strict="-Wall -Wextra -pedantic -Werror"
for pair in gcc:g++ clang:clang++; do
    c=${pair%:*} cpp=${pair#*:}
    check "$c C99 -O0"             $c   $strict -std=c99 -O0 one.c
    check "$c C99 -O3"             $c   $strict -std=c99 -O3 one.c
    check "$c C99 -O2 -fopenmp"    $c   $strict -std=c99 -O2 -fopenmp one.c
    check "$c C11 -O2"             $c   $strict -std=c11 -O2 one.c
    check "$cpp C++17 -O0"         $cpp $strict -std=c++17 -O0 one.cpp
    check "$cpp C++17 -O3 -fopenmp" $cpp $strict -std=c++17 -O3 -fopenmp one.cpp
    check "$c GAN_STATIC"          $c   $strict -std=c99 -O0 -DGAN_STATIC one.c
    check "$c GAN_REAL double"     $c   $strict -std=c99 -O1 -DGAN_REAL=double one.c
    check "$c two files"           $c   $strict -std=c99 -O0 library.c matrix.c
    check "$c included twice"      $c   $strict -std=c99 -O0 twice.c matrix.c
done
check "g++ two files"              g++  $strict -std=c++17 -O0 library.cpp matrix.cpp
check "g++ GAN_STATIC"             g++  $strict -std=c++17 -O0 -DGAN_STATIC one.cpp
check "gcc GNU17 -O2 -march=native -fopenmp" gcc $strict -std=gnu17 -O2 -march=native -fopenmp one.c
check "gcc GAN_NO_OPENMP"          gcc  $strict -std=c99 -O0 -fopenmp -DGAN_NO_OPENMP one.c
check "gcc GAN_MAX_VECTOR 32"      gcc  $strict -std=c99 -O2 -DGAN_MAX_VECTOR=32 one.c
check "clang GAN_MAX_VECTOR 16"    clang $strict -std=c99 -O2 -DGAN_MAX_VECTOR=16 one.c
check "gcc GAN_MAX_VECTOR 0"       gcc  $strict -std=c99 -O2 -DGAN_MAX_VECTOR=0 one.c
check "clang GAN_MAX_VECTOR 0, double" \
    clang $strict -std=c99 -O2 -DGAN_MAX_VECTOR=0 -DGAN_REAL=double one.c
check "tcc"                        tcc  -Wall one.c
in_turn apart "gcc float and double apart" gcc -std=c99
in_turn apart "g++ float and double apart" g++ -x c++ -std=c++17
in_turn apart "clang float and double apart" clang -std=c99
in_turn apart "tcc float and double apart" tcc -w
check "tcc two files"              tcc  -Wall library.c matrix.c
check "aarch64 gcc" "aarch64-linux-gnu-gcc qemu-aarch64" $strict -std=c99 -O2 -static one.c
check "MinGW gcc"                  "x86_64-w64-mingw32-gcc -" $strict -std=c99 -O2 one.c
check "MinGW g++"                  "x86_64-w64-mingw32-g++ -" $strict -std=c++17 -O2 one.cpp

# The examples, without stb: as C and as C++.
for source in "$root"/examples/*.c; do
    name=$(basename "$source")
    in_turn read_only "$name by gcc" gcc -std=c99 -pedantic -Wall -Wextra -Werror -DNO_STB "$source"
    in_turn read_only "$name by g++" g++ -x c++ -std=c++17 -Wall -Wextra -Werror \
        -Wno-missing-field-initializers -DNO_STB "$source"
done

wait
cat said.* 2> /dev/null
passed=$(cat said.* | grep -c '^ok') failed=$(cat said.* | grep -c '^FAIL')
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
