/* tests/cuda/cuda_on_cpu.cpp - tests of cuda_on_cpu.h, the checker of gan_cuda.cu's kernels: right
   kernels give right results, and a planted bug of each kind is found. Built with fibers under
   the address and undefined-behaviour sanitizers, with -DGAN_CUDA_RACES under ThreadSanitizer,
   and, where there is clang++, with fibers under MemorySanitizer. A bug that a sanitizer ends
   the program for runs in a child, this program called with the bug's name. */
#include "../cuda_on_cpu.h"
#include <math.h>
#include <setjmp.h>
#include <sys/wait.h>

static const char *test_name = "", *program;
static int passed, bad, bad_now;
#define CHECK(cond, ...)                       \
    do {                                       \
        if (!(cond)) {                         \
            printf("FAIL %s: ", test_name);    \
            printf(__VA_ARGS__);               \
            printf("  (line %d)\n", __LINE__); \
            bad_now = 1;                       \
            return;                            \
        }                                      \
    } while (0)

static void run(const char *name, void (*test)())
{
    test_name = name;
    bad_now = 0;
    test();
    if (bad_now)
        bad++;
    else {
        passed++;
        printf("ok   %s\n", name);
    }
    fflush(stdout);
}

/* n numbers on the GPU, and back. */
template <class T> static T *to_gpu(const std::vector<T> &x)
{
    T *p = nullptr;
    cudaMalloc(&p, x.size() * sizeof(T));
    cudaMemcpy(p, x.data(), x.size() * sizeof(T), cudaMemcpyHostToDevice);
    return p;
}

template <class T> static std::vector<T> from_gpu(T *p, size_t n) /* and frees p */
{
    std::vector<T> x(n);
    cudaMemcpy(x.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost);
    cudaFree(p);
    return x;
}

static std::vector<float> numbers(
    size_t n) /* small integers: sums of them are exact in any order */
{
    std::vector<float> x(n);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((i * 7919 + 13) % 17) - 8;
    return x;
}

static const int orders[] = {0, 1, 2, 7};

/* ---- Right kernels
   -------------------------------------------------------------------------------- */

__global__ void __launch_bounds__(256)
    add(const float *a, const float *__restrict__ b, float *y, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = __ldg(&a[i]) + b[i];
}

__device__ __forceinline__ float warp_sum(float x)
{
    for (int d = warpSize / 2; d > 0; d /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, d);
    return x;
}

/* y[block] = sum of x's elements block, block + blocks, ... : each warp's sum goes to shared
   memory, the first warp sums those */
__global__ void block_sum(const float *x, float *y, int n)
{
    GAN_SHARED(float, sums, 32);
    int warps = blockDim.x / 32;
    int warp = threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    float s = 0;
    for (int i = blockIdx.x + threadIdx.x * gridDim.x; i < n; i += blockDim.x * gridDim.x)
        s += x[i];
    s = warp_sum(s);
    if (lane == 0)
        sums[warp] = s;
    __syncthreads();
    if (warp == 0) {
        s = warp_sum(lane < warps ? sums[lane] : 0);
        if (lane == 0)
            y[blockIdx.x] = s;
    }
}

template <int TILE> __global__ void transpose(const float *x, float *y, int h, int w)
{
    GAN_SHARED(float, tile, TILE *(TILE + 1));
    int j = blockIdx.x * TILE + threadIdx.x;
    int i = blockIdx.y * TILE + threadIdx.y;
    if (i < h && j < w)
        tile[threadIdx.y * (TILE + 1) + threadIdx.x] = x[i * w + j];
    __syncthreads();
    i = blockIdx.x * TILE + threadIdx.y;
    j = blockIdx.y * TILE + threadIdx.x;
    if (i < w && j < h)
        y[i * h + j] = tile[threadIdx.x * (TILE + 1) + threadIdx.y];
}

/* c (M,N) = a (M,K) b (K,N). bug 1: without the barrier before the product, 2: without the one
   after it */
template <int T>
__global__ void matmul(const float *a, const float *b, float *c, int m, int k, int n, int bug)
{
    GAN_SHARED(float, as, T *T);
    GAN_SHARED(float, bs, T *T);
    int i = blockIdx.y * T + threadIdx.y;
    int j = blockIdx.x * T + threadIdx.x;
    float sum = 0;
    for (int l = 0; l < k; l += T) {
        as[threadIdx.y * T + threadIdx.x] = i < m && l + (int)threadIdx.x < k
                                              ? a[i * k + l + threadIdx.x]
                                              : 0;
        bs[threadIdx.y * T + threadIdx.x] = j < n && l + (int)threadIdx.y < k
                                              ? b[(l + threadIdx.y) * n + j]
                                              : 0;
        if (bug != 1)
            __syncthreads();
        for (int q = 0; q < T; q++)
            sum = fmaf(as[threadIdx.y * T + q], bs[q * T + threadIdx.x], sum);
        if (bug != 2)
            __syncthreads();
    }
    if (i < m && j < n)
        c[i * n + j] = sum;
}

static void test_add()
{
    const int n = 200; /* 4 blocks of 64, the last with 56 threads too many */
    std::vector<float> a = numbers(n), b = numbers(n + 3);
    b.erase(b.begin(), b.begin() + 3);
    float *da = to_gpu(a), *db = to_gpu(b), *dy = to_gpu(a);
    GAN_LAUNCH(add, (n + 63) / 64, 64, 0, da, db, dy, n);
    cudaFree(da);
    cudaFree(db);
    std::vector<float> y = from_gpu(dy, n);
    for (int i = 0; i < n; i++)
        CHECK(y[i] == a[i] + b[i], "y[%d] is %g", i, (double)y[i]);
    CHECK(cudaGetLastError() == cudaSuccess && gan_cuda_memory_used == 0,
          "an error, or memory left");
}

static void test_block_sum()
{
    const int n = 1500, blocks = 2;
    std::vector<float> x = numbers(n), want(blocks);
    for (int i = 0; i < n; i++)
        want[i % blocks] += x[i];
    float *dx = to_gpu(x), *dy = to_gpu(std::vector<float>(blocks));
    GAN_LAUNCH(block_sum, blocks, 96, nullptr, dx, dy, n);
    cudaFree(dx);
    std::vector<float> y = from_gpu(dy, blocks);
    for (int i = 0; i < blocks; i++)
        CHECK(y[i] == want[i], "sum %d is %g, not %g", i, (double)y[i], (double)want[i]);
}

static void test_transpose()
{
    const int h = 13, w = 10;
    std::vector<float> x = numbers(h * w);
    float *dx = to_gpu(x), *dy = to_gpu(x);
    GAN_LAUNCH(transpose<4>, dim3((w + 3) / 4, (h + 3) / 4), dim3(4, 4), 0, dx, dy, h, w);
    cudaFree(dx);
    std::vector<float> y = from_gpu(dy, h * w);
    for (int i = 0; i < h; i++)
        for (int j = 0; j < w; j++)
            CHECK(y[j * h + i] == x[i * w + j], "element (%d,%d)", i, j);
}

/* How many of a (7,13) by (13,6) product's elements are wrong; a NaN is. */
static int wrong_products(int bug)
{
    const int m = 7, k = 13, n = 6;
    std::vector<float> a = numbers(m * k), b = numbers(k * n);
    float *da = to_gpu(a), *db = to_gpu(b), *dc = to_gpu(std::vector<float>(m * n));
    GAN_LAUNCH((matmul<4>), dim3(2, 2), dim3(4, 4), 0, da, db, dc, m, k, n, bug);
    cudaFree(da);
    cudaFree(db);
    std::vector<float> c = from_gpu(dc, m * n);
    int wrong = 0;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float want = 0;
            for (int l = 0; l < k; l++)
                want += a[i * k + l] * b[l * n + j];
            wrong += !(c[i * n + j] == want);
        }
    return wrong;
}

static void test_matmul()
{
    CHECK(wrong_products(0) == 0, "wrong");
}

/* Block (3,2,2) in a grid (2,3,2): every thread writes who it is at its place. */
__global__ void who(uint4 *y)
{
    unsigned t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    unsigned b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    y[b * blockDim.x * blockDim.y * blockDim.z + t] = make_uint4(b, threadIdx.x, threadIdx.y,
                                                                 threadIdx.z);
}

static void test_indices()
{
    uint4 *dy = to_gpu(std::vector<uint4>(12 * 12));
    GAN_LAUNCH(who, dim3(2, 3, 2), dim3(3, 2, 2), 0, dy);
    std::vector<uint4> y = from_gpu(dy, 12 * 12);
    for (unsigned i = 0; i < 144; i++)
        CHECK(y[i].x == i / 12 && y[i].y == i % 3 && y[i].z == i / 3 % 2 && y[i].w == i / 6 % 2,
              "thread %u", i);
}

/* A block of 40: one warp of 32 and one of 8 lanes. Results by row of 40. */
__global__ void votes(int *y)
{
    int i = threadIdx.x, lane = i % 32;
    unsigned mask = i < 32 ? 0xffffffffu : 0xffu;
    y[i] = __syncthreads_count(i % 3 == 0);
    y[40 + i] = __syncthreads_or(i == 39) + 2 * __syncthreads_and(i < 40) +
                4 * __syncthreads_or(0) + 8 * __syncthreads_and(i < 39);
    y[80 + i] = (int)__ballot_sync(mask, lane % 2);
    y[120 + i] = __any_sync(0xffffffffu, i == 39) + 2 * __all_sync(mask, i < 32);
    y[160 + i] = __shfl_sync(mask, i, 3, 8);
    y[200 + i] = __shfl_up_sync(mask, i, 3, 8);
    y[240 + i] = (int)__shfl_down_sync(mask, (double)i, 3, 8);
    y[280 + i] = (int)__shfl_xor_sync(mask, (unsigned)i, 5, 8);
    if (lane < 4)
        y[i] += 1000 * __shfl_down_sync(0xfu, lane, 1, 4); /* a part of the warp */
    __syncwarp();
}

static void test_votes()
{
    int *dy = to_gpu(std::vector<int>(320));
    GAN_LAUNCH(votes, 1, 40, 0, dy);
    std::vector<int> y = from_gpu(dy, 320);
    for (int i = 0; i < 40; i++) {
        int group = i / 8 * 8, in = i % 8, lane = i % 32;
        CHECK(y[i] == 14 + (lane < 4 ? 1000 * (lane < 3 ? lane + 1 : 3) : 0),
              "count and part of a warp, thread %d: %d", i, y[i]);
        CHECK(y[40 + i] == 3, "or, and: %d", y[40 + i]);
        CHECK(y[80 + i] == (int)(i < 32 ? 0xaaaaaaaau : 0xaau), "ballot: %x", (unsigned)y[80 + i]);
        CHECK(y[120 + i] == (i < 32 ? 2 : 1), "any, all: %d", y[120 + i]);
        CHECK(y[160 + i] == group + 3, "shfl: %d", y[160 + i]);
        CHECK(y[200 + i] == (in < 3 ? i : i - 3), "up: %d", y[200 + i]);
        CHECK(y[240 + i] == (in > 4 ? i : i + 3), "down: %d", y[240 + i]);
        CHECK(y[280 + i] == group + (in ^ 5), "xor: %d", y[280 + i]);
    }
}

__global__ void histogram(const int *x, int *bins, unsigned *most, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        atomicAdd(&bins[x[i]], 1);
        atomicMax(most, (unsigned)x[i]);
    }
}

static void test_atomics()
{
    std::vector<int> x(100);
    for (int i = 0; i < 100; i++)
        x[i] = i * i % 10;
    int *dx = to_gpu(x), *bins = to_gpu(std::vector<int>(10));
    unsigned *most = to_gpu(std::vector<unsigned>(1));
    GAN_LAUNCH(histogram, 4, 32, 0, dx, bins, most, 100);
    cudaFree(dx);
    std::vector<int> y = from_gpu(bins, 10);
    CHECK(y[0] == 10 && y[1] == 20 && y[2] == 0 && y[9] == 20, "%d %d %d %d", y[0], y[1], y[2],
          y[9]);
    CHECK(from_gpu(most, 1)[0] == 9, "atomicMax");
}

static void right_kernels()
{
    static const struct {
        const char *name;
        void (*test)();
    } tests[] = {{"add, ragged tail", test_add},
                 {"sum by shuffles and shared memory", test_block_sum},
                 {"transpose by tiles", test_transpose},
                 {"matmul by tiles", test_matmul},
                 {"indices in three dimensions", test_indices},
                 {"votes and shuffles, ragged warp", test_votes},
                 {"integer atomics", test_atomics}};

    for (auto &t : tests)
        for (int order : orders) {
            char name[100];
            snprintf(name, sizeof name, "%s, order %d", t.name, order);
            gan_cuda_order = order;
            run(name, t.test);
#ifdef GAN_CUDA_RACES
            break; /* there the order is the operating system's */
#endif
        }
    gan_cuda_order = 0;
}

/* ---- Planted bugs that end the program: each runs in a child
   ----------------------------------------------------------- */

__global__ void past_shared(float *y)
{
    GAN_SHARED(float, s, 64);
    s[threadIdx.x + 1] = 1;
    y[threadIdx.x] = s[threadIdx.x];
}

__global__ void past_global(float *y, int n)
{
    if ((int)threadIdx.x <= n)
        y[threadIdx.x] = 1;
}

/* A float array as a float4's; clang's sanitizer looks at accesses to members only. */
__global__ void misaligned(float *y)
{
    GAN_SHARED(float, s, 64);
    ((float4 *)s)->x = 1;
    y[threadIdx.x] = s[0];
}

__global__ void deep(float *y)
{
    volatile float big[1 << 16];
    for (int i = (1 << 16) - 1; i >= 0; i--)
        big[i] = (float)i;
    y[0] = big[0];
}

/* The neighbour's value with nothing between write and read (0), a shuffle, which orders nothing
   (1), or a __syncwarp (2) */
__global__ void neighbour(float *y, int between)
{
    GAN_SHARED(float, s, 64);
    s[threadIdx.x] = (float)threadIdx.x;
    if (between == 1)
        __shfl_sync(0xffffffffu, 0, 0);
    if (between == 2)
        __syncwarp();
    y[threadIdx.x] = s[threadIdx.x ^ 1];
}

__global__ void same_place(float *y)
{
    if (threadIdx.x == 0)
        y[0] = (float)blockIdx.x;
} /* each block */

__attribute__((unused)) static int child(const char *bug)
{
    float *y = to_gpu(std::vector<float>(64));
    if (!strcmp(bug, "shared"))
        GAN_LAUNCH(past_shared, 1, 64, 0, y);
    if (!strcmp(bug, "global"))
        GAN_LAUNCH(past_global, 1, 128, 0, y, 64);
    if (!strcmp(bug, "misaligned"))
        GAN_LAUNCH(misaligned, 1, 1, 0, y);
    if (!strcmp(bug, "deep"))
        GAN_LAUNCH(deep, 1, 1, 0, y);
    if (!strcmp(bug, "zero"))
        GAN_LAUNCH(same_place, 0, 64, 0, y);
    if (!strcmp(bug, "race"))
        GAN_LAUNCH(neighbour, 1, 32, 0, y, 0);
    if (!strcmp(bug, "race-shuffle"))
        GAN_LAUNCH(neighbour, 1, 32, 0, y, 1);
    if (!strcmp(bug, "no-race"))
        GAN_LAUNCH(neighbour, 1, 32, 0, y, 2);
    if (!strcmp(bug, "race-blocks"))
        GAN_LAUNCH(same_place, 2, 4, 0, y);
    if (!strcmp(bug, "race-before") || !strcmp(bug, "race-after"))
        GAN_LAUNCH(matmul<4>, 1, dim3(4, 4), 0, y, y, y, 0, 8, 0, bug[5] == 'b' ? 1 : 2);
    if (strcmp(bug, "leak"))
        cudaFree(y);
    y = nullptr;
    return 0;
}

/* The child is ended, and says text. */
static void ends(const char *bug, const char *text)
{
    static char said[1 << 16];
    char command[1000];
    snprintf(command, sizeof command, "TSAN_OPTIONS=symbolize=0 '%s' %s 2>&1", program,
             bug); /* line numbers take a second */
    FILE *f = popen(command, "r");
    CHECK(f, "no child");
    size_t n = fread(said, 1, sizeof said - 1, f);
    said[n] = 0;
    while (fgetc(f) != EOF) {}
    int status = pclose(f);
    bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    CHECK(*text ? !clean && strstr(said, text) : clean, "%s: status %d: %.2000s", bug, status,
          said);
}

/* clang++ -fsanitize=memory: all that a kernel reads was written */
#if __has_feature(memory_sanitizer)
__global__ void branch(float *y, int bug)
{
    GAN_SHARED(float, s, 64);
    if (bug != 1 || threadIdx.x != 5)
        s[threadIdx.x] = 1;
    __syncthreads();
    if (s[threadIdx.x ^ 1] > 0 && (bug != 2 || y[64] > 0))
        y[threadIdx.x] = 1;
}

static int unwritten_child(const char *bug)
{
    float *y;
    cudaMalloc(&y, 65 * sizeof *y);
    GAN_LAUNCH(branch, 3, 64, 0, y, bug[0] - '0');
    cudaFree(y);
    return 0;
}

static void test_written()
{
    ends("0", "");
}

static void test_unwritten_shared()
{
    ends("1", "use-of-uninitialized-value");
}

static void test_unwritten_global()
{
    ends("2", "use-of-uninitialized-value");
}

int main(int count, char **arguments)
{
    program = arguments[0];
    if (count > 1)
        return unwritten_child(arguments[1]);
    right_kernels();
    run("all is written", test_written);
    run("shared memory that was never written", test_unwritten_shared);
    run("global memory that was never written", test_unwritten_global);
    printf("%d passed, %d failed\n", passed, bad);
    return bad != 0;
}
#elif defined GAN_CUDA_RACES
static void test_race_none()
{
    ends("race", "data race");
}

static void test_race_shuffle()
{
    ends("race-shuffle", "data race");
}

static void test_race_syncwarp()
{
    ends("no-race", "");
}

static void test_race_before()
{
    ends("race-before", "data race");
}

static void test_race_after()
{
    ends("race-after", "data race");
}

static void test_race_blocks()
{
    ends("race-blocks", "data race");
}

int main(int count, char **arguments)
{
    program = arguments[0];
    if (count > 1)
        return child(arguments[1]);
    right_kernels(); /* a race in one of them makes this program's exit status 66 */
    run("race: no barrier", test_race_none);
    run("race: a shuffle is no barrier", test_race_shuffle);
    run("no race: __syncwarp is one", test_race_syncwarp);
    run("race: no barrier before a tile is read", test_race_before);
    run("race: no barrier before a tile is overwritten", test_race_after);
    run("race: two blocks, one place", test_race_blocks);
    printf("%d passed, %d failed\n", passed, bad);
    return bad != 0;
}
#else
static void test_past_shared()
{
    ends("shared", "use-after-poison");
}

static void test_past_global()
{
    ends("global", "heap-buffer-overflow");
}

static void test_misaligned()
{
    ends("misaligned", "misaligned address");
}

static void test_deep()
{
    ends("deep", "deep");
}

static void test_zero()
{
    ends("zero", "same_place<<<(0,1,1), (64,1,1)>>>: a grid has 1 block at least");
}

static void test_leak()
{
    ends("leak", "LeakSanitizer");
}

/* ---- Planted bugs that are caught here
   ----------------------------------------------------------------------------------- */

static jmp_buf escape;
static char caught[1024];

static void catch_error(const char *text)
{
    snprintf(caught, sizeof caught, "%s", text);
    longjmp(escape, 1);
}

/* What launching f says, "" if nothing. */
template <class F> static const char *message_of(F f)
{
    caught[0] = 0;
    gan_cuda_on_error = catch_error;
    if (!setjmp(escape))
        f();
    gan_cuda_on_error = nullptr;
    return caught;
}

static bool says(const char *a, const char *b = "", const char *c = "")
{
    return strstr(caught, a) && strstr(caught, b) && strstr(caught, c);
}

__global__ void diverge()
{
    if (threadIdx.x < 40)
        __syncthreads();
    else
        __syncthreads_count(1);
}

__global__ void two_lines()
{
    if (threadIdx.x % 2)
        __syncthreads();
    else
        __syncthreads();
}

__global__ void leave(float *y)
{
    if (threadIdx.x >= 50)
        return;
    __syncthreads();
    y[threadIdx.x] = 1;
}

__global__ void lane_elsewhere()
{
    if (threadIdx.x == 7)
        __syncthreads();
    else
        __shfl_sync(0xffffffffu, 1, 0);
    __syncthreads();
}

__global__ void not_in_mask()
{
    __shfl_sync(0xfffffffeu, 1, 1);
}

__global__ void beyond_mask()
{
    if (threadIdx.x < 16)
        __shfl_down_sync(0xffffu, 1.0f, 8);
}

__global__ void beyond_block()
{
    __shfl_sync(0xffffffffu, 1, 30);
}

__global__ void nothing()
{
}

__global__ void much_shared()
{
    GAN_SHARED(float, a, 12000);
    GAN_SHARED(double, b, 200);
    a[0] = 0;
    b[0] = 0;
}

__global__ void unwritten(float *y)
{
    GAN_SHARED(float, s, 64);
    if (threadIdx.x != 5)
        s[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}

/* A write that AddressSanitizer does not see */
__attribute__((no_sanitize("address"))) __global__ void unseen(int at)
{
    GAN_SHARED(char, first, 64);
    GAN_SHARED(char, second, 64);
    first[0] = 0;
    second[at] = 0;
}

static void test_messages()
{
    float *y = to_gpu(std::vector<float>(64));
    message_of([&] { GAN_LAUNCH(diverge, dim3(2, 1), 64, 0); });
    CHECK(says("diverge<<<(2,1,1), (64,1,1)>>>: block (0,0,0) thread (0,0,0) waits at "
               "__syncthreads (line",
               "block (0,0,0) thread (40,0,0) at __syncthreads_count (line"),
          "%s", caught);
    message_of([&] { GAN_LAUNCH(two_lines, 1, 64, 0); });
    CHECK(says("thread (0,0,0) waits at __syncthreads", "thread (1,0,0) at __syncthreads"), "%s",
          caught);
    message_of([&] { GAN_LAUNCH(leave, 1, 64, 0, y); });
    CHECK(says("leave<<<", "thread (0,0,0) waits at __syncthreads", "thread (50,0,0) has returned"),
          "%s", caught);
    gan_cuda_early_return = 1;
    message_of([&] { GAN_LAUNCH(leave, 1, 64, 0, y); });
    gan_cuda_early_return = 0;
    CHECK(!caught[0], "%s", caught);
    message_of([&] { GAN_LAUNCH(lane_elsewhere, 1, 32, 0); });
    CHECK(says("__shfl_sync", "__syncthreads", "thread (7,0,0)"), "%s", caught);
    message_of([&] { GAN_LAUNCH(not_in_mask, 1, 32, 0); });
    CHECK(says("not_in_mask<<<", "lane 0 is not in its own mask fffffffe"), "%s", caught);
    message_of([&] { GAN_LAUNCH(beyond_mask, 1, 32, 0); });
    CHECK(says("thread (8,0,0) reads lane 16 in __shfl_down_sync", "takes no part (mask 0000ffff)"),
          "%s", caught);
    message_of([&] { GAN_LAUNCH(beyond_block, 1, 20, 0); });
    CHECK(says("reads lane 30"), "%s", caught);
    message_of([&] { GAN_LAUNCH(nothing, 1, 1025, 0); });
    CHECK(says("nothing<<<(1,1,1), (1025,1,1)>>>: a block has 1 to 1024 threads"), "%s", caught);
    message_of([&] { GAN_LAUNCH(nothing, 1, dim3(1, 1, 65), 0); });
    CHECK(says("64 at most along z"), "%s", caught);
    message_of([&] { GAN_LAUNCH(nothing, 1, 0, 0); });
    CHECK(says("(0,1,1)>>>: a block has 1"), "%s", caught);
    message_of([&] { GAN_LAUNCH(nothing, dim3(1, 65536), 1, 0); });
    CHECK(says("a grid has"), "%s", caught);
    message_of([&] { GAN_LAUNCH(much_shared, 1, 32, 0); });
    CHECK(says("49600 bytes of shared memory with array b: a block has 49152"), "%s", caught);
    cudaFree(y);
    test_block_sum(); /* and after all that, a right kernel is right */
    CHECK(!bad_now, "after errors");
}

/* A missing barrier shows by NaNs or by results that change with the order. */
static void test_order()
{
    for (int bug = 1; bug <= 2; bug++) {
        int found = 0;
        for (int order : orders) {
            gan_cuda_order = order;
            found += wrong_products(bug) > 0;
        }
        gan_cuda_order = 0;
        CHECK(found >= 2, "bug %d is seen in %d orders", bug, found);
    }
    float *y = to_gpu(std::vector<float>(64)), result[2];
    for (int order = 0; order < 2; order++) { /* last block wins */
        gan_cuda_order = order;
        GAN_LAUNCH(same_place, 5, 1, 0, y);
        cudaMemcpy(&result[order], y, sizeof *y, cudaMemcpyDeviceToHost);
    }
    gan_cuda_order = 0;
    cudaFree(y);
    CHECK(result[0] == 4 && result[1] == 0, "%g %g", (double)result[0], (double)result[1]);
}

static void test_unwritten()
{
    float *y = to_gpu(std::vector<float>(64)), *never;
    for (int again = 0; again < 2; again++) { /* poisoned before each block, not only the first */
        GAN_LAUNCH(unwritten, 3, 64, 0, y);
        float got[64];
        cudaMemcpy(got, y, sizeof got, cudaMemcpyDeviceToHost);
        for (int i = 0; i < 64; i++)
            CHECK(i == 5 ? isnan(got[i]) : got[i] == 1, "%d: %g", i, (double)got[i]);
    }
    cudaFree(y);
    cudaMalloc(&never, 40);
    CHECK(isnan(from_gpu(never, 10)[9]), "global memory starts as NaN");
}

static void test_red_zones()
{
    static const struct {
        int at;
        const char *says;
    } tests[] = {{0, ""},
                 {63, ""},
                 {64, "wrote 1 bytes past the end of shared array second"},
                 {300, "past the end of shared array second"},
                 {-1, "wrote 1 bytes past the start of shared array second"},
                 {-500, "past the end of shared array first"}};

    for (auto &t : tests) {
        message_of([&] { GAN_LAUNCH(unseen, 2, 1, 0, t.at); });
        CHECK(strstr(caught, t.says) && !*t.says == !*caught, "at %d: %s", t.at, caught);
        CHECK(!*caught || strstr(caught, "unseen<<<(2,1,1), (1,1,1)>>>: block (0,0,0)"), "%s",
              caught);
    }
}

static char
    returned[1024]; /* a handler that returns: the launch is dropped, cudaGetLastError tells */

static void test_returned()
{
    gan_cuda_on_error = [](const char *text) { snprintf(returned, sizeof returned, "%s", text); };
    GAN_LAUNCH(nothing, 1, 2000, 0);
    gan_cuda_on_error = nullptr;
    CHECK(cudaPeekAtLastError() == cudaErrorInvalidConfiguration &&
              cudaGetLastError() == cudaErrorInvalidConfiguration,
          "the error");
    CHECK(cudaGetLastError() == cudaSuccess && strstr(returned, "nothing<<<"), "is told once");
}

/* ---- The runtime API
   -------------------------------------------------------------------------------- */

__global__ void twice(float *x, int n)
{
    if ((int)threadIdx.x < n)
        x[threadIdx.x] = 2 * x[threadIdx.x] + 1;
}

static void test_graph()
{
    cudaStream_t s;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaStreamCaptureStatus status;
    float *x = to_gpu(std::vector<float>{1, 2, 3}), *out, *p;
    cudaMallocHost(&out, 12);
    cudaStreamCreate(&s);
    CHECK(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal) ==
              cudaErrorStreamCaptureUnsupported,
          "not the null stream");
    cudaGetLastError();
    cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal);
    int n = 3;
    GAN_LAUNCH(twice, 1, 32, s, x, n);
    n = 0; /* parameters are those of the launch */
    cudaMemcpyAsync(out, x, 12, cudaMemcpyDeviceToHost, s);
    cudaStreamIsCapturing(s, &status);
    CHECK(status == cudaStreamCaptureStatusActive && isnan(out[0]),
          "nothing runs while it is recorded");
    CHECK(cudaStreamEndCapture(s, &graph) == cudaSuccess && graph, "a graph");
    CHECK(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess &&
              cudaGraphDestroy(graph) == cudaSuccess,
          "to run");
    static const float want[] = {3, 7, 15};
    for (float w : want) {
        cudaGraphLaunch(exec, s);
        cudaStreamSynchronize(s);
        CHECK(out[0] == w, "replayed: %g, not %g", (double)out[0], (double)w);
    }
    cudaGraphExecDestroy(exec);
    cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
    CHECK(cudaMalloc(&p, 4) == cudaErrorStreamCaptureUnsupported, "no cudaMalloc in a capture");
    CHECK(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated && !graph,
          "which breaks it");
    cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed);
    CHECK(cudaMalloc(&p, 4) == cudaSuccess && cudaFree(p) == cudaSuccess, "but in a relaxed one");
    cudaGetLastError();
    GAN_LAUNCH(nothing, 1, 1, 0);
    CHECK(cudaGetLastError() == cudaErrorStreamCaptureImplicit, "a launch elsewhere");
    CHECK(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated,
          "breaks it as well");
    cudaGetLastError();
    cudaStreamDestroy(s);
    cudaFreeHost(out);
    cudaFree(x);
}

static void test_late()
{
    cudaStream_t s;
    cudaEvent_t before, after;
    float *x = to_gpu(std::vector<float>{1, 2, 3}), *out, plain[3] = {0}, ms = -1;
    cudaMallocHost(&out, 12);
    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    cudaEventCreate(&before);
    cudaEventCreate(&after);
    gan_cuda_late = 1;
    cudaEventRecord(before, s);
    GAN_LAUNCH(twice, 1, 3, s, x, 3);
    cudaMemcpyAsync(out, x, 12, cudaMemcpyDeviceToHost, s);
    cudaEventRecord(after, s);
    CHECK(isnan(out[2]), "the copy has come before anyone waited");
    cudaStreamSynchronize(s);
    CHECK(out[2] == 7, "%g", (double)out[2]);
    cudaEventElapsedTime(&ms, before, after);
    GAN_LAUNCH(twice, 1, 3, s, x, 3);
    cudaMemcpy(plain, x, 12, cudaMemcpyDeviceToHost);
    gan_cuda_late = 0;
    CHECK(plain[2] == 15 && ms >= 0, "%g %g", (double)plain[2], (double)ms);
    cudaEventDestroy(before);
    cudaEventDestroy(after);
    cudaStreamDestroy(s);
    cudaFreeHost(out);
    cudaFree(x);
    CHECK(cudaGetLastError() == cudaSuccess, "an error");
}

/* A program that changes what it uploads before the copy is made, and one that reads a download
   before it has waited. */
static void test_async_copies()
{
    cudaStream_t s;
    float host[4] = {1, 2, 3, 4}, *x = to_gpu(std::vector<float>(4)), *pinned;
    cudaStreamCreate(&s);
    cudaMallocHost(&pinned, sizeof host);
    gan_cuda_late = 1;
    message_of([&] {
        cudaMemcpyAsync(x, host, sizeof host, cudaMemcpyHostToDevice, s);
        host[2] = 30;
        cudaStreamSynchronize(s);
    });
    CHECK(says("the host memory of a cudaMemcpyAsync was changed"), "%s", caught);
    message_of([&] {
        pinned[0] = 1;
        cudaMemcpyAsync(x, pinned, sizeof host, cudaMemcpyHostToDevice, s);
        pinned[0] = 2;
        cudaStreamSynchronize(s);
    });
    CHECK(says("the host memory of a cudaMemcpyAsync was changed"), "pinned: %s", caught);
    message_of([&] {
        cudaMemcpyAsync(x, host, sizeof host, cudaMemcpyHostToDevice, s);
        cudaStreamSynchronize(s);
        host[2] = 40;
        cudaMemcpyAsync(host, x, sizeof host, cudaMemcpyDeviceToHost, s);
        CHECK(isnan(host[2]), "read before it was copied: %g", (double)host[2]);
        cudaStreamSynchronize(s);
    });
    gan_cuda_late = 0;
    CHECK(!caught[0] && host[2] == 30, "right: %s, %g", caught, (double)host[2]);
    cudaGetLastError();
    cudaStreamDestroy(s);
    cudaFreeHost(pinned);
    cudaFree(x);
}

/* cp.async. bug 1: from shared memory, 2: misaligned, 3: read without having waited for it */
__global__ void later(const float *x, float *y, int bug)
{
    GAN_SHARED(float, s, 64);
    int i = threadIdx.x;
    const char *from = (const char *)&x[i] + (bug == 2);
    gan__copy_later(&s[i], bug == 1 ? &s[i] : (const float *)from, i != 5);
    gan__copies_end_group();
    if (bug != 3)
        gan__copies_wait<0>();
    __syncthreads();
    y[i] = s[i];
}

static void test_copy_later()
{
    float *x = to_gpu(numbers(65)), *y = to_gpu(std::vector<float>(64));
    for (int bug = 0; bug < 4; bug++) {
        float got[64];
        message_of([&] { GAN_LAUNCH(later, 1, 64, 0, x, y, bug); });
        cudaMemcpy(got, y, sizeof got, cudaMemcpyDeviceToHost);
        if (bug == 0)
            CHECK(!*caught && got[3] == numbers(65)[3] && got[5] == 0, "right: %s, %g", caught,
                  (double)got[3]);
        if (bug == 1)
            CHECK(says("later<<<", "cp.async copies from global to shared memory"), "%s", caught);
        if (bug == 2)
            CHECK(says("misaligned"), "%s", caught);
        if (bug == 3)
            CHECK(!*caught && isnan(got[3]), "a copy that nothing waited for: %g", (double)got[3]);
    }
    cudaGetLastError();
    cudaFree(x);
    cudaFree(y);
}

/* mma.sync: A and B of small integers, whose products are exact. bug 1: not rounded, 2: without
   the lanes of the upper half */
template <bool BF16> __global__ void multiply(float *y, int bug)
{
    int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    auto a_of = [](int i, int k) { return (float)(i * 3 % 7 - k % 5); };
    auto b_of = [](int k, int j) { return (float)(k * 2 % 5 - j); };
    auto word = [](float first, float second) {
        return BF16 ? gan__bf16_pair(first, second) : gan__tf32(first);
    };
    int pack = BF16 ? 2 : 1;
    uint32_t a[4], b[2];
    float c[4] = {0, 0, 0, 0};
    for (int i = 0; i < 4; i++) {
        int row = g + i % 2 * 8, k = (t + i / 2 * 4) * pack;
        a[i] = word(a_of(row, k), a_of(row, k + 1));
    }
    for (int i = 0; i < 2; i++) {
        int k = (t + i * 4) * pack;
        b[i] = word(b_of(k, g), b_of(k + 1, g));
    }
    if (bug == 1)
        a[0] |= 1;
    if (bug == 2 && lane >= 16)
        return;
    gan__mma<BF16>(c, a, b);
    for (int i = 0; i < 4; i++) {
        int row = g + i / 2 * 8, column = 2 * t + i % 2;
        float want = 0;
        for (int k = 0; k < 8 * pack; k++)
            want += a_of(row, k) * b_of(k, column);
        y[row * 8 + column] = c[i] - want;
    }
}

static void test_mma()
{
    float *y = to_gpu(std::vector<float>(128)), got[128];
    for (int bf16 = 0; bf16 < 2; bf16++) {
        message_of([&] {
            if (bf16)
                GAN_LAUNCH(multiply<true>, 1, 32, 0, y, 0);
            else
                GAN_LAUNCH(multiply<false>, 1, 32, 0, y, 0);
        });
        cudaMemcpy(got, y, sizeof got, cudaMemcpyDeviceToHost);
        for (int i = 0; i < 128; i++)
            CHECK(!*caught && got[i] == 0, "bf16 %d, element %d: off by %g, %s", bf16, i,
                  (double)got[i], caught);
    }
    message_of([&] { GAN_LAUNCH(multiply<false>, 1, 32, 0, y, 1); });
    CHECK(says("is not rounded to tf32"), "%s", caught);
    message_of([&] { GAN_LAUNCH(multiply<false>, 1, 32, 0, y, 2); });
    CHECK(says("mma.sync", "has returned"), "%s", caught);
    cudaGetLastError();
    cudaFree(y);
}

static void test_copies()
{
    float host[4] = {1, 2, 3, 4}, *x = to_gpu(std::vector<float>(4)),
          *y = to_gpu(std::vector<float>(4));
    cudaMemcpyKind up = cudaMemcpyHostToDevice;
    cudaMemcpyKind down = cudaMemcpyDeviceToHost;
    cudaMemcpyKind across = cudaMemcpyDeviceToDevice;
    CHECK(cudaMemcpy(x, host, 16, up) == cudaSuccess && cudaMemcpy(y, x, 16, across) == cudaSuccess,
          "right");
    CHECK(cudaMemcpy(host, x + 3, 4, cudaMemcpyDefault) == cudaSuccess && host[0] == 4, "default");
    CHECK(cudaMemcpy(host, x, 16, up) == cudaErrorInvalidValue &&
              cudaMemcpy(x, host, 16, down) == cudaErrorInvalidValue,
          "the wrong way");
    CHECK(cudaMemcpy(x, host, 20, up) == cudaErrorInvalidValue, "past the end");
    CHECK(cudaMemcpy(x + 1, y, 16, across) == cudaErrorInvalidValue, "past the end of the target");
    CHECK(cudaMemset(x + 4, 0, 1) == cudaErrorInvalidValue && cudaMemset(x, 0, 16) == cudaSuccess,
          "memset");
    CHECK(from_gpu(x, 4)[3] == 0 && cudaFree(host) == cudaErrorInvalidValue &&
              cudaFree(nullptr) == cudaSuccess,
          "free");
    cudaFree(y);
    cudaGetLastError();
}

/* What a program does that checks every call: 0 or the error. */
static cudaError_t careful()
{
    float *x = nullptr, host[3] = {1, 2, 3};
    cudaError_t e = cudaMalloc(&x, 12);
    if (!e)
        e = cudaMemcpy(x, host, 12, cudaMemcpyHostToDevice);
    if (!e) {
        GAN_LAUNCH(twice, 1, 3, 0, x, 3);
        e = cudaGetLastError();
    }
    if (!e)
        e = cudaMemcpy(host, x, 12, cudaMemcpyDeviceToHost);
    cudaError_t freed = cudaFree(x);
    cudaGetLastError();
    return e ? e : freed;
}

static void test_failures()
{
    int n;
    long before = gan_cuda_calls;
    size_t memory = gan_cuda_memory, left, total;
    CHECK(careful() == cudaSuccess && gan_cuda_calls == before + 5, "five calls");
    for (int i = 1; i <= 6; i++) {
        gan_cuda_fail_with = cudaErrorIllegalAddress;
        gan_cuda_fail_after = i;
        CHECK(careful() == (i <= 5 ? cudaErrorIllegalAddress : cudaSuccess) &&
                  gan_cuda_memory_used == 0,
              "call %d", i);
    }
    gan_cuda_fail_after = 1;
    gan_cuda_fail_call = "cudaLaunchKernel";
    gan_cuda_fail_sticky = 1;
    CHECK(careful() == cudaErrorIllegalAddress &&
              cudaDeviceSynchronize() == cudaErrorIllegalAddress,
          "once lost, always lost");
    gan_cuda_fail_after = gan_cuda_fail_sticky = 0;
    cudaGetLastError();
    CHECK(careful() == cudaSuccess, "and back");
    gan_cuda_memory = 11;
    CHECK(careful() == cudaErrorMemoryAllocation, "memory");
    gan_cuda_memory = memory;
    CHECK(cudaMemGetInfo(&left, &total) == cudaSuccess && left == memory && total == memory,
          "memory that is left");
    gan_cuda_devices = 0;
    CHECK(careful() == cudaErrorNoDevice && cudaGetDeviceCount(&n) == cudaErrorNoDevice && n == 0,
          "no device");
    gan_cuda_devices = 1;
    gan_cuda_driver = 10020;
    CHECK(careful() == cudaErrorInsufficientDriver && cudaDriverGetVersion(&n) == cudaSuccess &&
              n == 10020,
          "old driver");
    gan_cuda_driver = 13000;
    cudaGetLastError();
    cudaDeviceProp p;
    CHECK(cudaGetDeviceProperties(&p, 0) == cudaSuccess &&
              !strcmp(p.name, "a CPU that plays a GPU") && p.major == 9,
          "properties");
    CHECK(cudaSetDevice(1) == cudaErrorInvalidDevice &&
              cudaGetLastError() == cudaErrorInvalidDevice,
          "device 1");
    CHECK(!strcmp(cudaGetErrorName(cudaErrorNoDevice), "cudaErrorNoDevice"), "name");
    CHECK(strstr(cudaGetErrorString(cudaErrorNoDevice), "no CUDA"), "text");
}

int main(int count, char **arguments)
{
    program = arguments[0];
    if (count > 1)
        return child(arguments[1]);
    right_kernels();
    run("barriers, shuffles, launches: messages", test_messages);
    run("a missing barrier, by order", test_order);
    run("memory that was never written", test_unwritten);
    run("writes around shared arrays", test_red_zones);
    run("a handler that returns", test_returned);
    run("graphs", test_graph);
    run("late work, events", test_late);
    run("copies and frees", test_copies);
    run("host memory of asynchronous copies", test_async_copies);
    run("cp.async: where, aligned, waited for", test_copy_later);
    run("mma.sync: exact, rounded, by all lanes", test_mma);
    run("calls that fail", test_failures);
    run("past a shared array", test_past_shared);
    run("past global memory", test_past_global);
    run("misaligned float4", test_misaligned);
    run("a stack too deep", test_deep);
    run("no block", test_zero);
    run("a leak", test_leak);
    printf("%d passed, %d failed\n", passed, bad);
    return bad != 0;
}
#endif
