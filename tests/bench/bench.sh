#!/bin/sh
# tests/bench/bench.sh BENCH [PYTHON [CUDA_BENCH CARD]]: products and convolutions against the
# machine's peak, then single operations and whole training steps of both networks at 1 and at 2
# threads, each beside PyTorch's in the same run if PYTHON has it; with CUDA_BENCH, linked with the
# GPU's kernels, the steps on the CPU and on the card called CARD side by side.
bench=$1 python=$2 cuda=$3 card=$4
torch=$(dirname "$0")/bench_torch.py
field() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p"; }
grep -m 1 'model name' /proc/cpuinfo 2> /dev/null
for threads in 1 2; do OMP_NUM_THREADS=$threads "$bench" $threads kernels; echo; done
ours=$(mktemp) theirs=$(mktemp)
trap 'rm -f "$ours" "$theirs"' EXIT
for threads in 1 2; do
    printf '%-26s %9s %32s %15s\n' "single operations" "gan.h" "$threads thread(s)" PyTorch
    OMP_NUM_THREADS=$threads "$bench" $threads operations > "$ours"
    : > "$theirs"
    [ -z "$python" ] || OMP_NUM_THREADS=$threads "$python" "$torch" operations > "$theirs"
    awk 'FILENAME == ARGV[1] { torch[$1] = $2; next } /GB\/s/ {
        printf "%-26s %9.2f ms %6.1f GB/s %s", $1, $2, $4, ($6 ? sprintf("%4s of copying", $6) : "")
        if ($1 in torch) printf "   %9.2f ms   %5.1f x faster", torch[$1], torch[$1] / $2
        print ""
    }' "$theirs" "$ours"
    echo
done
echo "one training step                  gan.h                          PyTorch              ratio"
for net in dcgan28 dcgan64; do
    for threads in 1 2; do
        us=$(OMP_NUM_THREADS=$threads "$bench" $threads $net | grep '^{')
        them=
        [ -z "$python" ] || them=$(OMP_NUM_THREADS=$threads "$python" "$torch" $net | grep '^{')
        awk -v net=$net -v t=$threads -v s="$(echo "$us" | field step_s)" \
            -v m="$(echo "$us" | field peak_bytes)" -v p="$(echo "$us" | field percent_of_peak)" \
            -v ts="$(echo "$them" | field step_s)" -v tm="$(echo "$them" | field peak_bytes)" \
            'BEGIN {
            printf "%s  %d thread%s  %8.1f ms", net, t, (t > 1 ? "s" : " "), 1000 * s
            printf "  %4.1f%% of peak  %4.0f MB", p, m / 1e6
            if (ts) {
                printf "   %8.1f ms  %4.0f MB", 1000 * ts, tm / 1e6
                printf "   %.1f x faster, %.2f of the memory", ts / s, m / tm
            }
            print ""
        }'
    done
done

echo
[ -n "$cuda" ] || { echo "CPU against GPU: no card with nvcc here, so no table"; exit 0; }
echo "one training step, all of the CPU's threads against $card"
for net in dcgan28 dcgan64; do
    printf '%s' $net
    for device in cpu cuda cuda:tf32 cuda:bf16; do
        s=$("$cuda" 0 $net $device | grep '^{' | field step_s)
        [ $device = cpu ] && cpu=$s
        awk -v d=$device -v s="$s" -v c="$cpu" 'BEGIN {
            if (s > 0) printf "   %s %.3f ms (%.1f x)", d, 1000 * s, c / s
            else printf "   %s failed", d
        }'
    done
    echo
done
