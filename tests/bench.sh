#!/bin/sh
# tests/bench.sh BENCH [PYTHON]: products and convolutions against the machine's peak, then whole training steps of both networks at 1 and
# at 2 threads, each beside PyTorch's in the same run if PYTHON has it.
bench=$1 python=$2
field() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p"; }
grep -m 1 'model name' /proc/cpuinfo 2> /dev/null
for threads in 1 2; do OMP_NUM_THREADS=$threads "$bench" $threads kernels; echo; done
echo "one training step                  gan.h                          PyTorch              ratio"
for net in dcgan28 dcgan64; do
    for threads in 1 2; do
        ours=$(OMP_NUM_THREADS=$threads "$bench" $threads $net | grep '^{')
        s=$(echo "$ours" | field step_s) m=$(echo "$ours" | field peak_bytes) p=$(echo "$ours" | field percent_of_peak)
        theirs=; [ -z "$python" ] || theirs=$(OMP_NUM_THREADS=$threads "$python" "$(dirname "$0")/bench_torch.py" $net | grep '^{')
        awk -v net=$net -v t=$threads -v s="$s" -v m="$m" -v p="$p" -v ts="$(echo "$theirs" | field step_s)" -v tm="$(echo "$theirs" | field peak_bytes)" 'BEGIN {
            printf "%s  %d thread%s  %8.1f ms  %4.1f%% of peak  %4.0f MB", net, t, (t > 1 ? "s" : " "), 1000 * s, p, m / 1e6
            if (ts) printf "   %8.1f ms  %4.0f MB   %.1f x faster, %.2f of the memory", 1000 * ts, tm / 1e6, ts / s, m / tm
            print ""
        }'
    done
done
