#!/bin/bash
# tests/cuda/spills.sh: compiles gan_cuda.cu for compute capability 7.5, 8.0 and 9.0 and reads what
# ptxas reports of each kernel: none may keep numbers in local memory for want of registers (a
# spill), nor take more than 48 KB of shared memory. Some minutes; wants nvcc. Leaves the registers
# and the shared memory of the products in build/cuda_registers.txt.
cd "$(dirname "$0")/../.." || exit 1
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2> /dev/null)
if [ -z "$nvcc" ]; then
    echo "skip spills (no nvcc here)"
    echo "0 passed, 0 failed"
    exit 0
fi
mkdir -p build
: > build/cuda_registers.txt
passed=0 failed=0
for card in ${CARDS:-75 80 90}; do
    if ! "$nvcc" -std=c++17 -O3 -arch=sm_"$card" -Xptxas -v -I. -cubin gan_cuda.cu \
            -o build/gan_cuda_"$card".cubin > build/ptxas_"$card".log 2>&1; then
        echo "FAIL sm_$card: $(grep -m 1 error build/ptxas_"$card".log)"
        failed=$((failed + 1))
        continue
    fi
    awk -v card="$card" '
        /Compiling entry function/ { split($0, part, "\047"); kernel = part[2] }
        /bytes spill stores/ { spilled = $5 + $9 }
        /Used [0-9]+ registers/ {
            kernels++
            registers = $0; sub(/.*Used /, "", registers); sub(/ .*/, "", registers)
            shared = 0
            if (/bytes smem/) {
                shared = $0
                sub(/ bytes smem.*/, "", shared)
                sub(/.* /, "", shared)
            }
            if (kernel ~ /gemm/)
                printf "sm_%s %4d registers %6d bytes shared %s\n", card, registers, shared,
                       kernel > "build/cuda_registers_" card ".txt"
            if (spilled || shared + 0 > 49152) {
                printf "FAIL sm_%s %s: %d bytes spilled, %d shared\n", card, kernel, spilled, shared
                bad++
            }
        }
        END {
            if (!kernels) { print "FAIL sm_" card ": ptxas said nothing"; bad = 1 }
            if (!bad) printf "ok   sm_%s: %d kernels, no spills\n", card, kernels
            exit bad > 0
        }' build/ptxas_"$card".log && passed=$((passed + 1)) || failed=$((failed + 1))
    cat build/cuda_registers_"$card".txt >> build/cuda_registers.txt 2> /dev/null
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
