#!/bin/bash
# tests/cuda/gpu.sh FOLDER [PEER]: on a machine with an NVIDIA GPU, builds for its card, proves
# gan_cuda.cu there and measures it, and leaves a table, logs and pictures in FOLDER. In under 10
# minutes: what is not done by then is listed as left out. Wants nvcc, a C compiler and make; uses
# cuBLAS, compute-sanitizer and PyTorch where they are. PEER is a PyTorch program of the same
# training steps with the options --net, --batch, --steps, --device, --tf32, --mode eager, graph or
# compile, and --channels-last; without one it is tests/bench/bench_torch.py. Exits with 77 where
# there is no GPU. DRY=1 needs none and prints what would be run.
cd "$(dirname "$0")/../.." || exit 1
out=${1:?usage: tests/cuda/gpu.sh FOLDER [PEER]}
peer=$2
mkdir -p "$out/quick" build/gpu
export PATH=$PATH:/usr/local/cuda/bin
failed=0
begin=$(date +%s)

say() { echo "== $*" | tee -a "$out/summary.txt"; }
left() { echo $((570 - $(date +%s) + begin)); }

# check SECONDS NAME COMMAND...: runs it, for so long at most, keeps its output, shows its last line
check() {
    local most=$1 name=$2 code=0
    shift 2
    [ "$most" -le "$(left)" ] || most=$(left)
    if [ -n "$DRY" ]; then
        say "would run $name (at most $most s): $*"
        return
    fi
    if [ "$most" -lt 3 ]; then
        say "left out, for want of time: $name"
        return
    fi
    timeout "$most" "$@" > "$out/$name.log" 2>&1 || code=$?
    case $code in
    0) say "ok   $name: $(tail -n 1 "$out/$name.log")" ;;
    124) say "FAIL $name: not done in $most s"; failed=1 ;;
    *) say "FAIL $name: $(tail -n 1 "$out/$name.log")"; failed=1 ;;
    esac
}

# --- what is here
: > "$out/summary.txt"
if [ -n "$DRY" ]; then
    echo "no card, 0, 0 MiB, 9.0" > "$out/card.txt"
else
    for program in nvcc nvidia-smi; do
        command -v $program > /dev/null && continue
        echo "no $program here: make test runs the same kernels on the CPU"
        exit 77
    done
    nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader \
        > "$out/card.txt" 2>&1 || { echo "no GPU here: $(cat "$out/card.txt")"; exit 77; }
fi
card=$(head -n 1 "$out/card.txt")
say "$(date -u +%Y-%m-%d), $card, $(nvcc --version 2> /dev/null | grep release)"
arch=$(echo "$card" | sed 's/.*, *\([0-9]*\)\.\([0-9]\).*/sm_\1\2/')
toolkit=$(dirname "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")/..
python=
for p in python3 /usr/bin/python3; do
    $p -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null && python=$p && break
done
[ -z "$DRY" ] || python=python3

# --- builds, all at once
flags="-O2 -fopenmp -I. -Ibuild"
echo '#include <stb/stb_image_write.h>' | cc -Ibuild -E -x c - > /dev/null 2>&1 ||
    flags="$flags -DNO_STB"
bench="-DBENCH_CUDA -I$toolkit/include"
cublas=
if [ -f "$toolkit/include/cublas_v2.h" ]; then
    bench="$bench -DBENCH_CUBLAS"
    cublas=-lcublas
fi
link="build/gpu/gan_cuda.o -L$toolkit/lib64 -lcudart_static -ldl -lrt -lpthread -lstdc++ -lm"
check 180 build_kernels nvcc -std=c++17 -O3 -arch="$arch" -Xptxas -v -I. -c gan_cuda.cu \
    -o build/gpu/gan_cuda.o
examples=$(ls examples/[0-9]*.c)
compare=$(basename "$(ls examples/*compare.c)" .c)
for c in tests/cuda/cuda.c tests/operations.c tests/bench/bench.c $examples; do
    more=
    [ "$c" != tests/bench/bench.c ] || more=$bench
    echo "cc $flags $more $c -o build/gpu/$(basename "$c" .c) $link ${more:+$cublas}"
done > "$out/builds.txt"
check 150 build_programs xargs -a "$out/builds.txt" -d '\n' -P "$(nproc)" -n 1 sh -c

# --- the CPU's half of the loss curves, beside what follows up to the benchmark
training="build/gpu/01_dcgan --plain --steps 500 --seed 42 --data digits"
if [ -z "$DRY" ]; then
    # shellcheck disable=SC2086
    timeout 240 $training --device cpu --out "$out/dcgan_cpu" > "$out/dcgan_cpu.log" 2>&1 &
    cpu_training=$!
fi

# --- right: every operation against PyTorch's numbers, kernels inside trainings beside the CPU's,
# every example's --quick on both
check 90 operations build/gpu/operations
check 45 cuda build/gpu/cuda
check 45 compare "build/gpu/$compare" cpu,cuda
for c in $examples; do
    name=$(basename "$c" .c)
    [ "$name" != "$compare" ] || continue
    echo "timeout 60 build/gpu/$name --quick --device compare:cpu,cuda --out $out/quick/$name" \
         "> $out/quick-$name.log 2>&1 || { echo $name; tail -n 1 $out/quick-$name.log; exit 1; }"
done > "$out/quicks.txt"
check 120 examples xargs -a "$out/quicks.txt" -d '\n' -P 4 -n 1 sh -c
if [ -n "$DRY" ] || command -v compute-sanitizer > /dev/null; then
    check 40 sanitizer_memcheck compute-sanitizer --tool memcheck --error-exitcode 9 build/gpu/cuda
    for tool in racecheck initcheck; do
        check 40 sanitizer_$tool compute-sanitizer --tool $tool --error-exitcode 9 \
            "build/gpu/$compare" cuda,cuda
    done
else
    say "no compute-sanitizer here"
fi

# --- the same losses: the first 100 of each, and all of them as a picture
# shellcheck disable=SC2086
check 45 dcgan_cuda $training --device cuda --out "$out/dcgan_cuda"
losses() {
    awk -F, 'NR == FNR { d[$1] = $2; g[$1] = $3; next }
        FNR > 1 && $1 < 100 && $1 in d {
            a = $2 - d[$1]; b = $3 - g[$1]; n++
            a = a < 0 ? -a : a; b = b < 0 ? -b : b
            worst = a > worst ? a : worst; worst = b > worst ? b : worst
        }
        END {
            printf "first %d losses: cpu and cuda differ by %.2e at most\n", n, worst
            exit !(n >= 100 && worst <= 1e-3)
        }' "$out/dcgan_cpu/log.csv" "$out/dcgan_cuda/log.csv"
}
curves() { # curves PICTURE
    awk -f tests/cuda/curves.awk "$out/dcgan_cpu/log.csv" "$out/dcgan_cuda/log.csv" > "$1"
    echo "$1"
}
if [ -z "$DRY" ]; then
    wait "$cpu_training" || { say "FAIL dcgan_cpu: $(tail -n 1 "$out/dcgan_cpu.log")"; failed=1; }
    losses > "$out/losses.log" 2>&1 || { say "FAIL losses"; failed=1; }
    say "$(tail -n 1 "$out/losses.log"), $(curves "$out/losses.svg")"
fi

# --- fast: versions of the product, kernels, training steps in each precision; PyTorch beside them
check 45 bench_kernels build/gpu/bench 0 cuda cuda
for device in cpu cuda cuda:tf32 cuda:bf16; do
    check 30 "bench_$device" build/gpu/bench 0 steps $device
done
if [ -z "$python" ]; then
    say "no PyTorch with CUDA here: nothing to compare with"
elif [ -n "$peer" ]; then
    for mode in eager graph compile "eager --channels-last" "graph --channels-last"; do
        for net in "dcgan28 --batch 64" "dcgan64 --batch 128"; do
            name=$(echo "torch_${net%% *}_$mode" | tr -d - | tr ' ' _)
            # shellcheck disable=SC2086
            check 30 "$name" "$python" "$peer" --net $net --steps 50 --device cuda --tf32 \
                --mode $mode
        done
    done
else
    for net in dcgan28 dcgan64; do
        check 40 "torch_$net" "$python" tests/bench/bench_torch.py $net cuda
    done
fi

# --- one table: the lines of {"net": .., "device": .., "step_s": ..} that ours and theirs print
table() {
    echo "$card"
    echo
    [ ! -f "$out/bench_kernels.log" ] || grep -v peak "$out/bench_kernels.log"
    echo
    grep -h '^{' "$out"/bench_*.log "$out"/torch_*.log 2> /dev/null | awk '
        function field(name,    s) {
            s = $0
            if (!sub(".*\"" name "\": *", "", s)) return ""
            sub(/^\[[^,]*, */, "", s)                       # least, median, most: the median
            sub(/^"/, "", s)
            sub(/["],.*|[,}\]].*/, "", s)
            return s
        }
        {
            ours = /"percent_of_peak"/
            who = ours ? field("device") : "PyTorch " field("mode")
            printf "%-10s %-24s %9.3f ms a step\n", field("net"), who, 1e3 * field("step_s")
        }'
}
table | tee "$out/table.txt"
say "$(($(date +%s) - begin)) s in all"
exit $failed
