#!/bin/bash
# tests/gpu.sh FOLDER: on a machine with an NVIDIA GPU, builds for its card, proves gan_cuda.cu there and measures it, and leaves tables, logs and pictures
# in FOLDER. Under 8 minutes. Wants nvcc, a C compiler, make; uses PyTorch (python3) and compute-sanitizer where they are. Exits with 77 where there is no GPU.
cd "$(dirname "$0")/.." || exit 1
out=${1:?usage: tests/gpu.sh FOLDER}
mkdir -p "$out" build/gpu
export PATH=$PATH:/usr/local/cuda/bin
failed=0
say() { echo "== $*" | tee -a "$out/summary.txt"; }
check() { # check NAME COMMAND...: runs it, keeps its output, tells its last line
    local name=$1; shift
    if "$@" > "$out/$name.log" 2>&1; then say "ok   $name: $(tail -n 1 "$out/$name.log")"
    else say "FAIL $name: $(tail -n 1 "$out/$name.log")"; failed=1; fi
}
command -v nvcc > /dev/null || { echo "no nvcc here: install the CUDA toolkit"; exit 77; }
command -v nvidia-smi > /dev/null || { echo "no GPU here (no nvidia-smi): make test runs the same kernels on the CPU"; exit 77; }
nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader > "$out/card.txt" 2>&1 || { echo "no GPU here: $(cat "$out/card.txt")"; exit 77; }
: > "$out/summary.txt"
say "$(date -u +%Y-%m-%d), $(cat "$out/card.txt"), $(nvcc --version | grep release)"
arch=$(sed 's/.*, *\([0-9]\)\.\([0-9]\).*/sm_\1\2/' "$out/card.txt" | head -n 1)
INCLUDES="-I. -Ibuild"
LINK="build/gpu/gan_cuda.o -L$(dirname "$(command -v nvcc)")/../lib64 -lcudart -lstdc++ -lm -lpthread -fopenmp"
check build_kernels nvcc -std=c++17 -O3 -arch="$arch" -I. -c gan_cuda.cu -o build/gpu/gan_cuda.o
build() { cc -O2 $2 $INCLUDES "$1" -o "build/gpu/$3" $LINK; }
check build_cuda build tests/cuda.c "" cuda
check build_operations build tests/operations.c "" operations
check build_example build examples/01_dcgan.c "" 01_dcgan
check build_bench build tests/bench.c "" bench
check build_compare build examples/compare.c "" compare

# --- right: every operation against PyTorch's numbers, kernels inside trainings beside the CPU's, then whole trainings against the CPU's
check operations build/gpu/operations
check cuda build/gpu/cuda
check compare build/gpu/compare cpu,cuda
if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck; do check "sanitizer_$tool" compute-sanitizer --tool $tool --error-exitcode 9 build/gpu/compare cuda,cuda; done
fi
for device in cpu cuda; do check "dcgan_$device" build/gpu/01_dcgan --plain --steps 500 --seed 42 --device $device --data digits --out "$out/dcgan_$device"; done
awk -F, 'NR == FNR { d[$1] = $2; g[$1] = $3; next } FNR > 1 && $1 < 100 && $1 in d {
        a = $2 - d[$1]; b = $3 - g[$1]; a = a < 0 ? -a : a; b = b < 0 ? -b : b; worst = a > worst ? a : worst; worst = b > worst ? b : worst; n++ }
    END { printf "first %d losses: largest difference between cpu and cuda %.2e\n", n, worst; exit !(n >= 100 && worst <= 1e-3) }' \
    "$out/dcgan_cpu/log.csv" "$out/dcgan_cuda/log.csv" > "$out/losses.log" && say "ok   $(cat "$out/losses.log")" || { say "FAIL $(cat "$out/losses.log")"; failed=1; }

# --- fast: kernels and steps in each precision; PyTorch beside them
for device in cpu cuda cuda:tf32 cuda:bf16; do check "bench_$device" build/gpu/bench 0 steps $device; done
python=$(for p in python3 /usr/bin/python3; do $p -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null && echo $p && break; done)
if [ -n "$python" ]; then
    for net in dcgan28 dcgan64; do check "torch_$net" "$python" tests/bench_torch.py $net cuda; done
else say "no PyTorch with CUDA here: nothing to compare with"; fi
grep -h '^{' "$out"/bench_*.log "$out"/torch_*.log 2> /dev/null | tee "$out/table.txt"
exit $failed
