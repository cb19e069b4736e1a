#!/bin/bash
# tests/tools/matrix.sh: gan.h under every compiler and option it promises. One small program, three steps of a convolutional GAN
# with batch normalisation, must compile without a warning, run, and end in the same losses everywhere.
#   tests/tools/matrix.sh [WORD]     only the lines that contain WORD
cd "$(dirname "$0")/../.." || exit 1
root=$PWD box=build/matrix only=$1
rm -rf $box
mkdir -p $box && cd $box || exit 1

cat > matrix.c << 'END'
#include <stdio.h>
#include <math.h>
#include "gan.h"

static gan_tensor *generator(gan_model *m, gan_tensor *z) /* (N,8,1,1) -> (N,1,28,28) */
{
    gan_tensor *x = gan_reshape(gan_linear(m, "fc", z, 8 * 7 * 7), -1, 8, 7, 7);
    x = gan_relu(gan_batch_norm(m, "bn", x));
    return gan_tanh(gan_conv_transpose2d(m, "up", gan_leaky_relu(gan_conv_transpose2d(m, "up0", x, 5, 4, 2, 1), (gan_real)0.1), 1, 4, 2, 1));
}

static gan_tensor *discriminator(gan_model *m, gan_tensor *x) /* (N,1,28,28) -> (N,1,1,1) */
{
    x = gan_leaky_relu(gan_conv2d(m, "conv1", x, 6, 4, 2, 1), (gan_real)0.2);
    x = gan_leaky_relu(gan_batch_norm(m, "bn", gan_conv2d(m, "conv2", x, 10, 3, 2, 1)), (gan_real)0.2);
    return gan_linear(m, "fc", x, 1);
}

int main(void)
{
    double d = 0, e = 0;
    int step;
    gan *g = gan_open("cpu", 42);
    gan_model *G, *D;
    gan_opt *opt_g, *opt_d;
    gan_data *data;
    if (!g) { printf("%s\n", gan_error()); return 1; }
    G = gan_model_new(g, "G");
    D = gan_model_new(g, "D");
    opt_g = gan_adam(G, (gan_real)2e-3, (gan_real)0.5, (gan_real)0.999);
    opt_d = gan_sgd(D, (gan_real)1e-2, (gan_real)0.9);
    data = gan_data_digits(g, 64);
    for (step = 0; step < 3; step++) {
        gan_tensor *real = gan_batch(data, 16, NULL), *fake = generator(G, gan_randn(g, 16, 8, 1, 1)), *loss;
        loss = gan_add(gan_bce_logits(discriminator(D, real), 1), gan_bce_logits(discriminator(D, gan_detach(fake)), 0));
        gan_minimize(opt_d, loss);
        d = (double)gan_item(loss);
        loss = gan_bce_logits(discriminator(D, fake), 1);
        gan_minimize(opt_g, loss);
        e = (double)gan_item(loss);
        gan_clear(g);
    }
    gan_close(g);
    printf("D %.6f  G %.6f\n", d, e);
    /* 1e-3: rounding differs between compilers and vector widths, by about 1e-6 after three steps; a mistake moves more */
    return !(fabs(d - 0.645977) <= 1e-3 && fabs(e - 2.282975) <= 1e-3); /* what "ref" gives in double precision */
}
END
printf '#define GAN_IMPLEMENTATION\n#include "matrix.c"\n' > one.c
printf '#define GAN_IMPLEMENTATION\n#include "gan.h"\n' > library.c
printf '#include "gan.h"\n#define GAN_IMPLEMENTATION\n#include "gan.h"\n#include "gan.h"\nint unused_by_anyone;\n' > twice.c
for f in one library matrix twice; do cp $f.c $f.cpp; done
sed -i 's/matrix\.c/matrix.cpp/' one.cpp

have() { command -v "$1" > /dev/null; }

# say NAME TOOLS FLAGS... : compiles with the first tool and runs with the second ("-" for not at all); one line says how it went.
say() {
    local name=$1 compiler=${2%% *} runner=${2#* } losses code
    shift 2
    if ! have "$compiler"; then echo "skip $name ($compiler is not here)"; return; fi
    if [ "$runner" != "$compiler" ] && [ "$runner" != - ] && ! have "$runner"; then echo "skip $name ($runner is not here)"; return; fi
    if ! "$compiler" -I"$root" "$@" -o program.$count -lm > log.$count 2>&1; then echo "FAIL $name: $(grep -m 1 -iE 'error|warning' log.$count)"; return; fi
    if [ -s log.$count ]; then echo "FAIL $name: $(head -n 1 log.$count)"; return; fi
    if [ "$runner" = - ]; then echo "ok   $name (compiles and links)"; return; fi
    [ "$runner" = "$compiler" ] && runner=
    losses=$(timeout 300 $runner ./program.$count 2>&1)
    code=$?
    if [ $code = 0 ]; then echo "ok   $name  $losses"; else echo "FAIL $name: exit $code: $(echo "$losses" | tail -n 1)"; fi
}
# read_only NAME COMPILER FLAGS... SOURCE: the compiler reads it, and builds nothing.
read_only() {
    local name=$1
    shift
    if "$@" -fsyntax-only > log.$count 2>&1; then echo "ok   $name"; else echo "FAIL $name: $(grep -m 1 -E 'error|warning' log.$count)"; fi
}
# apart NAME TOOL FLAGS...: a program and an object with different number types do not link, and the linker names the type.
apart() {
    local name=$1 compiler=$2
    shift 2
    if ! have "$compiler"; then echo "skip $name ($compiler is not here)"; return; fi
    "$compiler" -I"$root" "$@" -O0 -DGAN_MAX_VECTOR=0 -c library.c -o float.$count.o > log.$count 2>&1
    if ! "$compiler" -I"$root" "$@" -O0 -c matrix.c -o same.$count.o || ! "$compiler" same.$count.o float.$count.o -o program.$count -lm; then
        echo "FAIL $name: the same type does not link"
    elif "$compiler" -I"$root" "$@" -O2 -DGAN_REAL=double -c matrix.c -o double.$count.o &&
        "$compiler" double.$count.o float.$count.o -o program.$count -lm > log.$count 2>&1; then
        echo "FAIL $name: they link"
    elif ! grep -q gan__compiled_with_GAN_REAL_double log.$count; then echo "FAIL $name: $(head -n 1 log.$count)"
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
check "clang GAN_MAX_VECTOR 0, double" clang $strict -std=c99 -O2 -DGAN_MAX_VECTOR=0 -DGAN_REAL=double one.c
check "tcc"                        tcc  -Wall one.c
in_turn apart "gcc float and double apart" gcc -std=c99
in_turn apart "g++ float and double apart" g++ -x c++ -std=c++17
in_turn apart "clang float and double apart" clang -std=c99
in_turn apart "tcc float and double apart" tcc -w
check "tcc two files"              tcc  -Wall library.c matrix.c
check "aarch64 gcc"                "aarch64-linux-gnu-gcc qemu-aarch64" $strict -std=c99 -O2 -static one.c
check "MinGW gcc"                  "x86_64-w64-mingw32-gcc -" $strict -std=c99 -O2 one.c
check "MinGW g++"                  "x86_64-w64-mingw32-g++ -" $strict -std=c++17 -O2 one.cpp

# The examples, without stb: as C and as C++.
for source in "$root"/examples/*.c; do
    name=$(basename "$source")
    in_turn read_only "$name by gcc" gcc -std=c99 -pedantic -Wall -Wextra -Werror -DNO_STB "$source"
    in_turn read_only "$name by g++" g++ -x c++ -std=c++17 -Wall -Wextra -Wno-missing-field-initializers -Werror -DNO_STB "$source"
done

wait
cat said.* 2> /dev/null
passed=$(cat said.* | grep -c '^ok') failed=$(cat said.* | grep -c '^FAIL')
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
