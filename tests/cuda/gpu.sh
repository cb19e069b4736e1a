#!/bin/bash
# tests/cuda/gpu.sh FOLDER [PEER]: on a machine with an NVIDIA GPU, builds for its card, proves gan_cuda.cu there and measures it, and leaves tables, logs and pictures
# in FOLDER. Under 8 minutes: what is not done by then is told as left out. Wants nvcc, a C compiler, make; uses compute-sanitizer and PyTorch (python3) where
# they are. PEER: a PyTorch program of the same training steps with the options --net, --batch, --steps, --device, --tf32, --mode eager, graph or compile, and
# --channels-last; without one tests/bench/bench_torch.py. Exits with 77 where there is no GPU. DRY=1: needs none, prints what would be run.
cd "$(dirname "$0")/../.." || exit 1
out=${1:?usage: tests/gpu.sh FOLDER [PEER]}
peer=$2
mkdir -p "$out" build/gpu
export PATH=$PATH:/usr/local/cuda/bin
failed=0 begin=$(date +%s)
say() { echo "== $*" | tee -a "$out/summary.txt"; }
left() { echo $((470 - $(date +%s) + begin)); }
check() { # check SECONDS NAME COMMAND...: runs it, for so long at most, keeps its output, tells its last line
    local most=$1 name=$2 code=0; shift 2
    [ "$most" -le "$(left)" ] || most=$(left)
    if [ -n "$DRY" ]; then say "would run $name (at most $most s): $*"; return; fi
    if [ "$most" -lt 3 ]; then say "left out, for want of time: $name"; return; fi
    timeout "$most" "$@" > "$out/$name.log" 2>&1 || code=$?
    if [ $code = 0 ]; then say "ok   $name: $(tail -n 1 "$out/$name.log")"
    elif [ $code = 124 ]; then say "FAIL $name: not done in $most s"; failed=1
    else say "FAIL $name: $(tail -n 1 "$out/$name.log")"; failed=1; fi
}
: > "$out/summary.txt"
if [ -z "$DRY" ]; then
    command -v nvcc > /dev/null || { echo "no nvcc here: install the CUDA toolkit"; exit 77; }
    command -v nvidia-smi > /dev/null || { echo "no GPU here (no nvidia-smi): make test runs the same kernels on the CPU"; exit 77; }
    nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader > "$out/card.txt" 2>&1 || { echo "no GPU here: $(cat "$out/card.txt")"; exit 77; }
else echo "no card, 0, 0 MiB, 9.0" > "$out/card.txt"; fi
say "$(date -u +%Y-%m-%d), $(head -n 1 "$out/card.txt"), $(nvcc --version 2> /dev/null | grep release)"
arch=$(sed 's/.*, *\([0-9]*\)\.\([0-9]\).*/sm_\1\2/' "$out/card.txt" | head -n 1)
toolkit=$(dirname "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")/..
FLAGS="-O2 -fopenmp -I. -Ibuild $(echo '#include <stb/stb_image_write.h>' | cc -Ibuild -E -x c - > /dev/null 2>&1 || echo -DNO_STB)"
BENCH="-DBENCH_CUDA -I$toolkit/include" CUBLAS=
[ ! -f "$toolkit/include/cublas_v2.h" ] || { BENCH="$BENCH -DBENCH_CUBLAS"; CUBLAS=-lcublas; }
LINK="build/gpu/gan_cuda.o -L$toolkit/lib64 -lcudart_static -ldl -lrt -lpthread -lstdc++ -lm"

# --- builds, all at once
check 120 build_kernels nvcc -std=c++17 -O3 -arch="$arch" -I. -c gan_cuda.cu -o build/gpu/gan_cuda.o
examples=$(ls examples/[0-9]*.c)
for c in tests/cuda/cuda.c tests/operations.c tests/bench/bench.c examples/compare.c $examples; do
    [ "$c" = tests/bench/bench.c ] && more=$BENCH libraries=$CUBLAS || more= libraries=
    echo "cc $FLAGS $more $c -o build/gpu/$(basename "$c" .c) $LINK $libraries"
done > "$out/builds.txt"
check 150 build_programs xargs -a "$out/builds.txt" -d '\n' -P "$(nproc)" -n 1 sh -c

# --- the CPU's half of the loss curves, beside what follows up to the benchmark
training="build/gpu/01_dcgan --plain --steps 500 --seed 42 --data digits"
[ -n "$DRY" ] || { timeout 240 $training --device cpu --out "$out/dcgan_cpu" > "$out/dcgan_cpu.log" 2>&1 & cpu_training=$!; }

# --- right: every operation against PyTorch's numbers, kernels inside trainings beside the CPU's, every example's --quick on both, then losses
check 120 operations build/gpu/operations
check 60 cuda build/gpu/cuda
check 60 compare build/gpu/compare cpu,cuda
for c in $examples; do
    name=$(basename "$c" .c)
    echo "timeout 60 build/gpu/$name --quick --device compare:cpu,cuda --out $out/quick/$name > $out/quick-$name.log 2>&1 || { echo $name; tail -n 1 $out/quick-$name.log; exit 1; }"
done > "$out/quicks.txt"
mkdir -p "$out/quick"
check 150 examples xargs -a "$out/quicks.txt" -d '\n' -P 4 -n 1 sh -c
if [ -n "$DRY" ] || command -v compute-sanitizer > /dev/null; then
    check 60 sanitizer_memcheck compute-sanitizer --tool memcheck --error-exitcode 9 build/gpu/cuda
    check 45 sanitizer_racecheck compute-sanitizer --tool racecheck --error-exitcode 9 build/gpu/compare cuda,cuda
    check 45 sanitizer_initcheck compute-sanitizer --tool initcheck --error-exitcode 9 build/gpu/compare cuda,cuda
fi
check 60 dcgan_cuda $training --device cuda --out "$out/dcgan_cuda"
[ -n "$DRY" ] || wait $cpu_training || { say "FAIL dcgan_cpu: $(tail -n 1 "$out/dcgan_cpu.log")"; failed=1; }
both="$out/dcgan_cpu/log.csv $out/dcgan_cuda/log.csv"
losses() { # the first 100 of each, and all of them as a picture
    awk -F, 'NR == FNR { d[$1] = $2; g[$1] = $3; next } FNR > 1 && $1 < 100 && $1 in d {
            a = $2 - d[$1]; b = $3 - g[$1]; a = a < 0 ? -a : a; b = b < 0 ? -b : b; worst = a > worst ? a : worst; worst = b > worst ? b : worst; n++ }
        END { printf "first %d losses: largest difference between cpu and cuda %.2e\n", n, worst; exit !(n >= 100 && worst <= 1e-3) }' $both
}
curves() { # an SVG of 500 steps: D and G of the first log as wide lines, of the second as thin dark ones on top
    awk -F, 'BEGIN { width = 900; height = 420; split("#9ec9f0 #f5b895 #0b4f8a #a33b00", colour, " "); split("cpu_D cpu_G cuda_D cuda_G", name, " ") }
        FNR == 1 { file++; next } { for (k = 0; k < 2; k++) { id = 2 * file - 1 + k; v[id, $1] = $(k + 2); most = $(k + 2) > most ? $(k + 2) : most } last = $1 > last ? $1 : last }
        END {
            printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\"><rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n", width, height
            for (id = 1; id <= 4; id++) {
                printf "<text x=\"%d\" y=\"16\" fill=\"%s\">%s</text><polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%s\" points=\"", 60 + 80 * id, colour[id], name[id], colour[id], id < 3 ? 3 : 1
                for (s = 0; s <= last; s++) if ((id, s) in v) printf "%.1f,%.1f ", 40 + s / last * (width - 60), height - 24 - v[id, s] / most * (height - 60)
                print "\"/>"
            }
            for (t = 0; t <= 4; t++) printf "<text x=\"4\" y=\"%d\">%.1f</text><text x=\"%d\" y=\"%d\">%d</text>\n", height - 20 - t / 4 * (height - 60), most * t / 4, 34 + t / 4 * (width - 70), height - 6, last * t / 4
            print "</svg>"
        }' $both
}
if [ -z "$DRY" ]; then
    losses > "$out/losses.log" && say "ok   $(cat "$out/losses.log")" || { say "FAIL $(cat "$out/losses.log")"; failed=1; }
    curves > "$out/losses.svg" && say "ok   $out/losses.svg: the losses of both"
fi

# --- fast: kernels, versions of the product and training steps in each precision; PyTorch beside them
check 60 bench_kernels build/gpu/bench 0 cuda cuda
for device in cpu cuda cuda:tf32 cuda:bf16; do check 40 "bench_$device" build/gpu/bench 0 steps $device; done
python=$(for p in python3 /usr/bin/python3; do $p -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null && echo $p && break; done)
[ -z "$DRY" ] || python=python3
if [ -z "$python" ]; then say "no PyTorch with CUDA here: nothing to compare with"
elif [ -n "$peer" ]; then
    for net in "dcgan28 --batch 64" "dcgan64 --batch 128"; do
        for mode in eager graph compile "eager --channels-last" "graph --channels-last"; do
            check 45 "torch_$(echo "${net%% *} $mode" | tr -d - | tr ' ' _)" "$python" "$peer" --net $net --steps 50 --device cuda --tf32 --mode $mode
        done
    done
else
    for net in dcgan28 dcgan64; do check 45 "torch_$net" "$python" tests/bench/bench_torch.py $net cuda; done
fi
grep -h '^{' "$out"/bench_*.log "$out"/torch_*.log 2> /dev/null | tee "$out/table.txt"
awk '{ net = $0; sub(/.*"net": "/, "", net); sub(/".*/, "", net)
        s = $0; sub(/.*"step_s": /, "", s)
        if (s ~ /^\[/) sub(/^\[[^,]*, */, "", s)                                # least, median, most
        s = s + 0
        if (/"percent_of_peak"/) { if (/"device": "cuda:tf32"/) mine[net] = s; next }
        if (!(net in best) || s < best[net]) best[net] = s
        if (!/"mode"/ || /"eager"/) if (!(net in eager) || s < eager[net]) eager[net] = s }
    END { for (net in mine) if (net in best) printf "== %s: %.2f times as fast as PyTorch eager, %.2f times as its best (tf32)\n", net, eager[net] / mine[net], best[net] / mine[net] }' \
    "$out/table.txt" | tee -a "$out/summary.txt"
say "$(($(date +%s) - begin)) s in all"
exit $failed
