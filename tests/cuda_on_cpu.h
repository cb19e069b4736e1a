/* tests/cuda_on_cpu.h - what CUDA's words mean on a CPU: gan_cuda.cu's kernels run, and are
   checked, without a GPU.

       g++ -std=c++17 -x c++ -DGAN_CUDA_ON_CPU -fno-strict-aliasing -Wno-unknown-pragmas
         -fsanitize=address,undefined -c gan_cuda.cu
       g++ ... -DGAN_CUDA_RACES -fsanitize=thread -c gan_cuda.cu -pthread         finds races
         (clang++ takes the same words)

   A kernel is a function that a GPU runs once per THREAD. Threads come in BLOCKS of at most
   1024, blocks in a GRID; the 32 neighbours of a block are a WARP. Only the threads of one block
   can wait for each other and share memory; only those of one warp can shuffle. On a CPU, in two
   ways:

   - Fibers (the default, fast): each thread of a block is a function call with a stack of its
   own, and one CPU thread runs them in
     turn. It changes from one to the next only where CUDA makes a thread wait: __syncthreads,
       __syncwarp, a shuffle, a vote. Blocks
     run one after the other. gan_cuda_order changes whose turn it is: a result that changes with
       it is a race.
   - Races (-DGAN_CUDA_RACES): each thread is a CPU thread and barriers are real, for
   ThreadSanitizer, on launches of some hundred
     threads. A barrier orders memory, a shuffle or a vote does not (as in CUDA's guide): what
       nothing else orders is reported. Several
     blocks run at once, and nothing orders them; __threadfence() is nothing, and every integer
       atomic orders memory.

   What is found, by a message with the kernel, the launch, block and thread, through
   gan_cuda_on_error: barriers and warp operations that some of the threads do not reach, lanes
   that take no part, writes around shared arrays, launches no GPU takes. By the sanitizers: any
   access outside global memory (cudaMalloc is malloc) or a shared array, alignment (a shared
   array is aligned as its type asks and no more), leaks. By results: global and shared memory
   are filled with 0xFF bytes, which is NaN as a float and -1 as an int; a read of what was never
   written shows as a NaN. With clang's -fsanitize=memory that read itself is reported. What is
   not found: what GPUs do differently in rounding and speed; two kernels of different streams at
   once (they run in the order of their launches). What is missing: __shared__ (use GAN_SHARED),
   dynamic shared memory, float atomics, textures; of tensor cores there is what gan_cuda.cu uses
   (cuda/cuda_tensor_on_cpu.h). */
#ifndef GAN_CUDA_ON_CPU_H
#define GAN_CUDA_ON_CPU_H

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <stdarg.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <thread>
#include <tuple>
#include <type_traits>
#include <ucontext.h>
#include <vector>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define GAN__ASAN(...) __VA_ARGS__
#else
#define GAN__ASAN(...)
#endif
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#define GAN__MSAN(...) __VA_ARGS__
#else
#define GAN__MSAN(...)
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#ifndef GAN_CUDA_RACES
#error "-fsanitize=thread wants -DGAN_CUDA_RACES as well: it cannot follow fibers"
#endif
extern "C" {
void AnnotateIgnoreSyncBegin(const char *, int);
void AnnotateIgnoreSyncEnd(const char *, int);
void AnnotateIgnoreReadsBegin(const char *, int);
void AnnotateIgnoreReadsEnd(const char *, int);
void AnnotateIgnoreWritesBegin(const char *, int);
void AnnotateIgnoreWritesEnd(const char *, int);
void __tsan_acquire(void *);
void __tsan_release(void *);
}
#define GAN__TSAN(...) __VA_ARGS__
#else
#define GAN__TSAN(...)
#endif

/* ---- Errors, by CUDA's numbers
   -------------------------------------------------------------------------------- */

/* clang-format off */
/* clang-format off */
#define GAN__CUDA_ERRORS(X)                                                                       \
    X(cudaSuccess, 0, "no error")                                                                 \
    X(cudaErrorInvalidValue, 1, "invalid argument")                                               \
    X(cudaErrorMemoryAllocation, 2, "out of memory")                                              \
    X(cudaErrorInitializationError, 3, "initialization error")                                    \
    X(cudaErrorInvalidConfiguration, 9, "invalid configuration argument")                         \
    X(cudaErrorInvalidMemcpyDirection, 21, "invalid copy direction for memcpy")                   \
    X(cudaErrorInsufficientDriver, 35,                                                            \
      "CUDA driver version is "                                                                   \
      "insufficient for CUDA runtime version")                                                    \
    X(cudaErrorNoDevice, 100, "no CUDA-capable device is detected")                               \
    X(cudaErrorInvalidDevice, 101, "invalid device ordinal")                                      \
    X(cudaErrorNoKernelImageForDevice, 209,                                                       \
      "no kernel image is available "                                                             \
      "for execution on the device")                                                              \
    X(cudaErrorUnsupportedPtxVersion, 222,                                                        \
      "the provided PTX was "                                                                     \
      "compiled with an unsupported toolchain")                                                   \
    X(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")                             \
    X(cudaErrorNotReady, 600, "device not ready")                                                 \
    X(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered")                   \
    X(cudaErrorLaunchOutOfResources, 701, "too many resources requested for launch")              \
    X(cudaErrorMisalignedAddress, 716, "misaligned address")                                      \
    X(cudaErrorLaunchFailure, 719, "unspecified launch failure")                                  \
    X(cudaErrorNotSupported, 801, "operation not supported")                                      \
    X(cudaErrorSystemDriverMismatch, 803,                                                         \
      "system has unsupported display "                                                           \
      "driver / cuda driver combination")                                                         \
    X(cudaErrorStreamCaptureUnsupported, 900, "operation not permitted when stream is capturing") \
    X(cudaErrorStreamCaptureInvalidated, 901,                                                     \
      "operation failed due to "                                                                  \
      "a previous error during capture")                                                          \
    X(cudaErrorStreamCaptureImplicit, 906,                                                        \
      "operation would make the legacy stream "                                                   \
      "depend on a capturing blocking stream")                                                    \
    X(cudaErrorUnknown, 999, "unknown error")
/* clang-format on */
#define GAN__ENUM(name, number, text) name = number,

enum cudaError_t { GAN__CUDA_ERRORS(GAN__ENUM) };

#define GAN__NAME(name, number, text) \
    if ((int)e == number)             \
        return #name;
#define GAN__TEXT(name, number, text) \
    if ((int)e == number)             \
        return text;

inline const char *cudaGetErrorName(cudaError_t e)
{
    GAN__CUDA_ERRORS(GAN__NAME) return "unrecognized error code";
}

inline const char *cudaGetErrorString(cudaError_t e)
{
    GAN__CUDA_ERRORS(GAN__TEXT) return "unrecognized error code";
}

/* ---- What a test can set: of C linkage, so that a C program can say  extern int
   gan_cuda_order;  ----------------------- */

extern "C" {
/* Called with the message when a kernel does what it must not; leaves by longjmp or an
   exception, or returns: then the launch is dropped and cudaGetLastError() tells. NULL prints
   and aborts. With GAN_CUDA_RACES, a kernel's own mistakes always abort. */
inline void (*gan_cuda_on_error)(const char *message) = nullptr;
inline int gan_cuda_order =
    0; /* threads and blocks run 0: first to last, 1: last to first, other: shuffled by this seed */
inline int gan_cuda_early_return =
    0; /* 1: a thread may return while others wait at a barrier (sm_70 and newer allow it) */
inline int gan_cuda_late =
    /* 1: kernels and async copies run only when something waits for them, as late as a GPU may */
    0;
inline int gan_cuda_code =
    90; /* the compute capability the program is compiled for, 0: none here */
inline int gan_cuda_devices = 1; /* how many GPUs there are */
inline int gan_cuda_driver =
    13000; /* version of the driver, 0: none. Below the runtime's 11080 it is too old */
inline size_t gan_cuda_memory = (size_t)8 << 30; /* bytes on the GPU */
inline size_t gan_cuda_memory_used = 0;
inline long gan_cuda_calls =
    0; /* calls of the CUDA API so far, launches among them (as "cudaLaunchKernel") */
inline long gan_cuda_fail_after =
    0; /* n > 0: the n-th API call from now fails, once, with gan_cuda_fail_with */
inline int gan_cuda_fail_with = 999;
inline const char *gan_cuda_fail_call =
    nullptr; /* count only the calls of this name: "cudaMalloc" */
inline int gan_cuda_fail_sticky =
    0; /* 1: from there on every call fails, as when the GPU is lost */
}

/* ---- Words, vectors, functions
   -------------------------------------------------------------------------------- */

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n)    __attribute__((aligned(n)))

#define GAN__VECTORS(T, name)                         \
    struct name##2                                    \
    {                                                 \
        T x, y;                                       \
    }                                                 \
    __align__(2 * sizeof(T));                         \
    struct name##3                                    \
    {                                                 \
        T x, y, z;                                    \
    };                                                \
    struct name##4                                    \
    {                                                 \
        T x, y, z, w;                                 \
    }                                                 \
    __align__(16);                                    \
    inline name##2 make_##name##2(T x, T y)           \
    {                                                 \
        return {x, y};                                \
    }                                                 \
    inline name##3 make_##name##3(T x, T y, T z)      \
    {                                                 \
        return {x, y, z};                             \
    }                                                 \
    inline name##4 make_##name##4(T x, T y, T z, T w) \
    {                                                 \
        return {x, y, z, w};                          \
    }
GAN__VECTORS(float, float)
GAN__VECTORS(double, double)
GAN__VECTORS(int, int)
GAN__VECTORS(unsigned, uint)

struct dim3 {
    unsigned x, y, z;

    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z)
    {
    }
};

#ifdef GAN_CUDA_RACES
#define GAN__PER_THREAD thread_local
#else
#define GAN__PER_THREAD
#endif
/* Who the running thread is. They change when its turn comes. */
inline GAN__PER_THREAD uint3 threadIdx, blockIdx;
inline GAN__PER_THREAD dim3 blockDim, gridDim;
constexpr int warpSize = 32;

template <class A, class B> constexpr std::common_type_t<A, B> min(A a, B b)
{
    return b < a ? b : a;
}

template <class A, class B> constexpr std::common_type_t<A, B> max(A a, B b)
{
    return a < b ? b : a;
}

inline float min(float a, float b)
{
    return fminf(a, b);
} /* of a number and a NaN: the number */

inline float max(float a, float b)
{
    return fmaxf(a, b);
}

inline double min(double a, double b)
{
    return fmin(a, b);
}

inline double max(double a, double b)
{
    return fmax(a, b);
}

inline float rsqrtf(float x)
{
    return 1 / sqrtf(x);
}

inline double rsqrt(double x)
{
    return 1 / sqrt(x);
}

inline float sinpif(float x)
{
    return (float)sin(M_PI * x);
}

inline float cospif(float x)
{
    return (float)cos(M_PI * x);
}

inline void sincospif(float x, float *s, float *c)
{
    *s = sinpif(x);
    *c = cospif(x);
}

inline float __saturatef(float x)
{
    return x > 0 ? (x < 1 ? x : 1) : 0;
}

inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}

inline float __fadd_rn(float a, float b)
{
    return a + b;
}

inline float __fmul_rn(float a, float b)
{
    return a * b;
}

inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((uint64_t)a * b >> 32);
}

inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}

inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

template <class To, class From> To gan__bits(From x)
{
    To y;
    static_assert(sizeof x == sizeof y, "");
    memcpy(&y, &x, sizeof y);
    return y;
}

inline int __float_as_int(float x)
{
    return gan__bits<int>(x);
}

inline unsigned __float_as_uint(float x)
{
    return gan__bits<unsigned>(x);
}

inline float __int_as_float(int x)
{
    return gan__bits<float>(x);
}

inline float __uint_as_float(unsigned x)
{
    return gan__bits<float>(x);
}

template <class T> T __ldg(const T *p)
{
    return *p;
}

template <class T> T __ldcg(const T *p)
{
    return *p;
}

inline void __threadfence()
{
}

inline void __threadfence_block()
{
}

inline void __trap()
{
    abort();
}

/* Integers only: atomics on floats would make a sum depend on who comes first. */
#define GAN__ATOMICS(T)                                                                     \
    inline T atomicAdd(T *p, T x)                                                           \
    {                                                                                       \
        return __atomic_fetch_add(p, x, __ATOMIC_ACQ_REL);                                  \
    }                                                                                       \
    inline T atomicSub(T *p, T x)                                                           \
    {                                                                                       \
        return __atomic_fetch_sub(p, x, __ATOMIC_ACQ_REL);                                  \
    }                                                                                       \
    inline T atomicOr(T *p, T x)                                                            \
    {                                                                                       \
        return __atomic_fetch_or(p, x, __ATOMIC_ACQ_REL);                                   \
    }                                                                                       \
    inline T atomicAnd(T *p, T x)                                                           \
    {                                                                                       \
        return __atomic_fetch_and(p, x, __ATOMIC_ACQ_REL);                                  \
    }                                                                                       \
    inline T atomicExch(T *p, T x)                                                          \
    {                                                                                       \
        return __atomic_exchange_n(p, x, __ATOMIC_ACQ_REL);                                 \
    }                                                                                       \
    inline T atomicCAS(T *p, T old, T x)                                                    \
    {                                                                                       \
        __atomic_compare_exchange_n(p, &old, x, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE); \
        return old;                                                                         \
    }                                                                                       \
    inline T atomicMax(T *p, T x)                                                           \
    {                                                                                       \
        for (T old = atomicAdd(p, 0), seen;; old = seen)                                    \
            if ((seen = old < x ? atomicCAS(p, old, x) : old) == old)                       \
                return old;                                                                 \
    }                                                                                       \
    inline T atomicMin(T *p, T x)                                                           \
    {                                                                                       \
        for (T old = atomicAdd(p, 0), seen;; old = seen)                                    \
            if ((seen = x < old ? atomicCAS(p, old, x) : old) == old)                       \
                return old;                                                                 \
    }
GAN__ATOMICS(int)
GAN__ATOMICS(unsigned)
GAN__ATOMICS(unsigned long long)

namespace gan_on_cpu
{

/* ---- A block and its threads
   -------------------------------------------------------------------------------- */

struct Fiber { /* a stack, and where on it the work was left */

    enum : size_t { BYTES = 128 * 1024, GUARD = 16 * 1024 };

    ucontext_t context;
    char *stack = nullptr; /* below it lies a guard page: running over the stack's end crashes */
    const void *bottom = nullptr;
    size_t size = 0;
    void *fake_stack = nullptr; /* AddressSanitizer's */

    ~Fiber()
    {
        if (stack) {
            GAN__ASAN(__asan_unpoison_memory_region(stack, BYTES);)
            munmap(stack - GUARD, BYTES + GUARD);
        }
    }
};

struct Wait { /* a thread's place at a meeting: a barrier, a shuffle or a vote */

    enum { RUNNING, WAITING, RETURNED } state;

    const char *what;
    int line;
    unsigned mask;          /* warp operations: the lanes that meet */
    uint64_t value, result; /* what it brings, what it takes home */
    bool orders_memory;
    /* a shuffle: the lane whose value it takes home; -1: all votes (warp: a bit each, block:
       their number) */
    int source;
};

struct AsyncCopy { /* from global to shared memory; what is read is read when it is done */
    float *to;
    const float *from;
    bool live;
};

struct Thread {
    uint3 index;
    int rank;     /* 0, 1 ... in its block, x fastest; its lane is rank % 32 */
    Wait wait[2]; /* [0] with its block, [1] with its warp */
    struct Block *block;
    Fiber *fiber;
    unsigned shown;                /* how often it called show_to_warp */
    std::vector<AsyncCopy> copies; /* cp.async: under way */
    std::vector<size_t> groups;    /* how many of them end each group that was committed */
};

struct Launch {
    const char *name;
    dim3 grid, block;
    std::function<void()> kernel;
};

struct Array {
    const void *site;
    const char *name;
    size_t start, end;
};

struct Block {
    enum : size_t { LIMIT = 48 * 1024, RED = 512, ARENA = 2 * LIMIT };

    const Launch *launch;
    uint3 index;
    std::vector<Thread> threads;
    std::vector<unsigned> order;
    size_t fresh;                   /* threads order[fresh] and after have not begun */
    alignas(128) char arena[ARENA]; /* shared memory: a red zone before and after each array */
    std::vector<Array> arrays;
    uint32_t shown[32][2][32]
                  [6]; /* of each warp's threads, twice by turns: what show_to_warp shows */
    size_t top = ARENA - RED, declared = 0; /* end of the last array, bytes in all arrays */
    std::mutex mutex[33];                   /* with GAN_CUDA_RACES: of its warps, [32] its own */
    std::condition_variable changed[33];

    ~Block()
    {
        GAN__ASAN(__asan_unpoison_memory_region(arena, ARENA);)
    }
};

inline GAN__PER_THREAD Thread *self; /* the thread that runs; NULL outside kernels */
inline const Launch *launching;
inline bool failed;
inline cudaError_t failed_with;
inline char message[1024];
inline Fiber home, *running; /* home: the stack of who launched the kernel */
inline std::deque<Fiber> fibers;
inline std::vector<Fiber *> idle;

/* Leaves one stack for another; returns when someone goes back. */
inline void go(Fiber &from, Fiber &to)
{
    volatile bool back = false;
    GAN__ASAN(__sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);)
    running = &to;
    getcontext(&from.context); /* returns a second time when someone goes to from */
    if (!back) {
        back = true;
        setcontext(&to.context);
    }
    GAN__ASAN(const void *bottom; size_t size;
              __sanitizer_finish_switch_fiber(from.fake_stack, &bottom, &size);)
    GAN__ASAN(if (&from != &home) {
        home.bottom = bottom;
        home.size = size;
    })
}

/* A kernel's mistake. In a thread it does not return: the launch ends here. */
__attribute__((format(printf, 2, 3))) inline void fail(cudaError_t error, const char *format, ...)
{
    static const Launch copy = {"a copy", dim3(), dim3(), nullptr};
    const Launch &l = launching ? *launching : copy;
    if (failed)
        return;
    int n = snprintf(message, sizeof message / 2, "%s<<<(%u,%u,%u), (%u,%u,%u)>>>: ", l.name,
                     l.grid.x, l.grid.y, l.grid.z, l.block.x, l.block.y, l.block.z);
    va_list list;
    va_start(list, format);
    vsnprintf(message + n, sizeof message - n, format, list);
    va_end(list);
#ifdef GAN_CUDA_RACES
    if (self) {
        fprintf(stderr, "%s\n", message);
        abort();
    }
#endif
    failed = true;
    failed_with = error;
    if (self)
        go(*self->fiber, home);
}

struct Text {
    char s[100];
};

inline Text name_of(const Thread &t)
{
    Text text;
    const uint3 &b = t.block->index;
    snprintf(text.s, sizeof text.s, "block (%u,%u,%u) thread (%u,%u,%u)", b.x, b.y, b.z, t.index.x,
             t.index.y, t.index.z);
    return text;
}

inline void become(Thread *t)
{
    self = t;
    threadIdx = t->index;
    blockIdx = t->block->index;
    blockDim = t->block->launch->block;
    gridDim = t->block->launch->grid;
}

/* ---- Meetings: barriers, shuffles, votes
   --------------------------------------------------------------------------- */

struct
    /* while it lives, ThreadSanitizer looks away: what happens here orders nothing and is no
       race */
    Unseen {
    static void begin()
    {
        GAN__TSAN(AnnotateIgnoreSyncBegin("", 0); AnnotateIgnoreReadsBegin("", 0);
                  AnnotateIgnoreWritesBegin("", 0);)
    }

    static void end()
    {
        GAN__TSAN(AnnotateIgnoreWritesEnd("", 0); AnnotateIgnoreReadsEnd("", 0);
                  AnnotateIgnoreSyncEnd("", 0);)
    }

    Unseen()
    {
        begin();
    }

    ~Unseen()
    {
        end();
    }
};

/* Does x not wait where w does? */
inline bool apart(const Wait &w, const Wait &x)
{
    return x.state != Wait::WAITING || strcmp(x.what, w.what) || x.line != w.line ||
           x.mask != w.mask;
}

/* If all whom the waiting thread lead should meet are there, gives each its result and lets them
   go. Otherwise false; if report is set, for good: says who is missing. */
inline bool meet(Block &b, bool warp, const Thread &lead, bool report = false)
{
    int first = warp ? lead.rank / 32 * 32 : 0;
    int count = std::min(warp ? 32 : 1024, (int)b.threads.size() - first);
    Thread *t = &b.threads[first];
    const Wait w = lead.wait[warp];
    auto invited = [&](int i) { return !warp || w.mask >> i & 1; };
    uint64_t votes = 0;
    for (int i = 0; i < count; i++) {
        const Wait &x = t[i].wait[warp],
                   &elsewhere = x.state == Wait::WAITING ? x : t[i].wait[!warp];
        bool returned = x.state == Wait::RETURNED;
        if (!invited(i) || (returned && gan_cuda_early_return))
            continue;
        if (returned)
            fail(cudaErrorLaunchFailure, "%s waits at %s (line %d), %s has returned",
                 name_of(lead).s, w.what, w.line, name_of(t[i]).s);
        else if (report && apart(w, x))
            fail(cudaErrorLaunchFailure,
                 "%s waits at %s (line %d, mask %08x), %s at %s (line %d, mask %08x)",
                 name_of(lead).s, w.what, w.line, w.mask, name_of(t[i]).s, elsewhere.what,
                 elsewhere.line, elsewhere.mask);
        if (apart(w, x))
            return false;
        votes += x.value ? (warp ? (uint64_t)1 << i : 1) : 0;
    }
    for (int i = 0; i < count; i++) {
        Wait &x = t[i].wait[warp];
        if (!invited(i) || x.state != Wait::WAITING)
            continue;
        int s = x.source;
        if (s >= 0 && (s >= count || !invited(s) || t[s].wait[1].state == Wait::RETURNED)) {
            fail(cudaErrorLaunchFailure,
                 "%s reads lane %d in %s (line %d), which takes no part (mask %08x)",
                 name_of(t[i]).s, s, x.what, x.line, x.mask);
            return false;
        }
        x.result = s >= 0 ? t[s].wait[1].value : votes;
    }
#ifdef GAN_CUDA_RACES
    if (w.orders_memory) { /* what any of them did before comes before what any does after */
        Unseen::end();
        for (int i = 0; i < count; i++) {
            GAN__TSAN(if (invited(i)) __tsan_acquire(&t[i].wait[warp].value);)
        }
        for (int i = 0; i < count; i++) {
            GAN__TSAN(if (invited(i)) __tsan_release(&t[i].wait[warp].result);)
        }
        Unseen::begin();
    }
#endif
    for (int i = 0; i < count; i++)
        if (invited(i) && t[i].wait[warp].state == Wait::WAITING)
            t[i].wait[warp].state = Wait::RUNNING;
    return true;
}

/* What every barrier, shuffle and vote is: come with a value, wait until all have come, leave
   with the result. */
inline uint64_t come(bool warp, const char *what, int line, unsigned mask, uint64_t value = 0,
                     int source = -1, bool orders_memory = false)
{
    Thread &me = *self;
    if (warp && !(mask >> me.rank % 32 & 1))
        fail(cudaErrorLaunchFailure, "%s: %s (line %d): lane %d is not in its own mask %08x",
             name_of(me).s, what, line, me.rank % 32, mask);
#ifdef GAN_CUDA_RACES
    GAN__TSAN(if (orders_memory) __tsan_release(&me.wait[warp].value);)
    Unseen::begin();
    Block &b = *me.block;
    int room = warp ? me.rank / 32 : 32;
    std::unique_lock<std::mutex> lock(b.mutex[room]);
    me.wait[warp] = {Wait::WAITING, what, line, mask, value, 0, orders_memory, source};
    if (meet(b, warp, me))
        b.changed[room].notify_all();
    while (me.wait[warp].state == Wait::WAITING)
        if (b.changed[room].wait_until(lock, std::chrono::system_clock::now() +
                                                 std::chrono::seconds(20)) ==
            std::cv_status::timeout)
            fail(cudaErrorLaunchFailure, "%s waits at %s (line %d) for ever", name_of(me).s, what,
                 line);
    lock.unlock();
    Unseen::end();
    GAN__TSAN(if (orders_memory) __tsan_acquire(&me.wait[warp].result);)
#else
    me.wait[warp] = {Wait::WAITING, what, line, mask, value, 0, orders_memory, source};
    go(*me.fiber, home);
#endif
    return me.wait[warp].result;
}

/* x of lane source. */
template <class T> T shuffle(const char *what, int line, unsigned mask, T x, int source)
{
    static_assert(std::is_arithmetic<T>::value && sizeof(T) >= 4,
                  "a shuffle moves int, unsigned, long long, float or double");
    uint64_t bits = 0;
    memcpy(&bits, &x, sizeof x);
    bits = come(true, what, line, mask, bits, source);
    memcpy(&x, &bits, sizeof x);
    return x;
}

inline int lane()
{
    return self->rank % 32;
}

inline int group(int width)
{
    return lane() & ~(width - 1);
} /* first lane of this lane's group; width is a power of two */

/* What the threads of a warp show each other: thread i's six words are [i]. A thread overwrites
   them two calls later, when all have met once more and so have read them. */
inline const uint32_t (*show_to_warp(const char *what, int line, const uint32_t (&a)[4],
                                     const uint32_t (&b)[2]))[6]
{
    Thread &me = *self;
    uint32_t(*shown)[6] = me.block->shown[me.rank / 32][me.shown++ % 2];
    {
        Unseen unseen;
        for (int i = 0; i < 6; i++)
            shown[lane()][i] = i < 4 ? a[i] : b[i - 4];
    }
    come(true, what, line, 0xffffffffu);
    return shown;
}

/* ---- Shared memory
   -------------------------------------------------------------------------------- */

/* The array of a GAN_SHARED line: the first thread of a block that passes makes it, the others
   find it. */
inline void *shared(const void *site, const char *name, size_t bytes, size_t align)
{
    Block &b = *self->block;
    Unseen unseen;
#ifdef GAN_CUDA_RACES
    std::lock_guard<std::mutex> lock(b.mutex[32]);
#endif
    for (const Array &a : b.arrays)
        if (a.site == site)
            return b.arena + a.start;
    size_t start = (b.top + Block::RED + 127) / 128 * 128 +
                   std::max(align, (size_t)8); /* aligned as its type asks, not better */
    b.declared = (b.declared + align - 1) / align * align + bytes;
    if (b.declared > Block::LIMIT || start + bytes + Block::RED > Block::ARENA)
        fail(cudaErrorLaunchOutOfResources,
             "%zu bytes of shared memory with array %s: a block has %zu", b.declared, name,
             (size_t)Block::LIMIT);
    GAN__ASAN(__asan_unpoison_memory_region(b.arena + start, bytes);)
    GAN__MSAN(__msan_poison(b.arena + start, bytes);)
    b.top = start + bytes;
    b.arrays.push_back({site, name, start, b.top});
    return b.arena + start;
}

/* Every byte outside the arrays is still 0xFF. */
GAN__ASAN(__attribute__((no_sanitize("address")))) inline void check_red_zones(const Block &b)
{
    size_t at = 0;
    for (size_t i = 0; i <= b.arrays.size(); i++) {
        size_t end = i < b.arrays.size() ? b.arrays[i].start : b.top + Block::RED;
        for (; at < end; at++)
            if ((unsigned char)b.arena[at] != 0xFF) {
                const Array &a =
                    b.arrays[i > 0 && (i == b.arrays.size() || at < b.arrays[i - 1].end + 256)
                                 ? i - 1
                                 : i];
                fail(cudaErrorIllegalAddress,
                     "block (%u,%u,%u) wrote %ld bytes past the %s of shared array %s", b.index.x,
                     b.index.y, b.index.z,
                     at < a.start ? (long)(a.start - at) : (long)(at - a.end + 1),
                     at < a.start ? "start" : "end", a.name);
                return;
            }
        if (i < b.arrays.size())
            at = b.arrays[i].end;
    }
}

/* ---- A launch -------------------------------------------------------------------------------- */

/* 0 .. n-1 in the order that gan_cuda_order asks for. */
inline void make_order(std::vector<unsigned> &order, size_t n)
{
    order.resize(n);
    for (size_t i = 0; i < n; i++)
        order[i] = (unsigned)(gan_cuda_order == 1 ? n - 1 - i : i);
    uint32_t random = (uint32_t)gan_cuda_order * 2654435761u + 1;
    for (size_t i = n; gan_cuda_order > 1 && i > 1; i--) {
        random = random * 1664525u + 1013904223u;
        std::swap(order[i - 1], order[(size_t)((uint64_t)random * i >> 32)]);
    }
}

inline void prepare(Block &b, const Launch &l, unsigned index)
{
    b.launch = &l;
    b.index = {index % l.grid.x, index / l.grid.x % l.grid.y, index / l.grid.x / l.grid.y};
    b.threads.resize((size_t)l.block.x * l.block.y * l.block.z);
    for (size_t i = 0; i < b.threads.size(); i++) {
        unsigned r = (unsigned)i;
        b.threads[i] = Thread();
        b.threads[i].index = {r % l.block.x, r / l.block.x % l.block.y, r / l.block.x / l.block.y};
        b.threads[i].rank = (int)i;
        b.threads[i].block = &b;
    }
    if (b.top) { /* something was here before */
        GAN__ASAN(__asan_unpoison_memory_region(b.arena, Block::ARENA);)
        memset(b.arena, 0xFF, b.top + Block::RED);
        GAN__ASAN(__asan_poison_memory_region(b.arena, Block::ARENA);)
    }
    b.arrays.clear();
    b.top = b.declared = 0;
}

#ifdef GAN_CUDA_RACES
inline void thread_main(Thread *t)
{
    become(t);
    t->block->launch->kernel();
    Unseen unseen;
    for (int warp = 0; warp < 2;
         /* who waits for this thread waits in vain, or, with gan_cuda_early_return, no longer */
         warp++) {
        Block &b = *t->block;
        int room = warp ? t->rank / 32 : 32;
        int first = warp ? t->rank / 32 * 32 : 0;
        std::lock_guard<std::mutex> lock(b.mutex[room]);
        t->wait[warp].state = Wait::RETURNED;
        for (int i = first; i < (int)b.threads.size() && (!warp || i < first + 32); i++)
            if (b.threads[i].wait[warp].state == Wait::WAITING &&
                (meet(b, warp, b.threads[i]) || !warp))
                break;
        b.changed[room].notify_all();
    }
    self = nullptr;
}

/* Waves of blocks, 512 CPU threads at a time. */
inline void run_blocks(const Launch &l, size_t blocks)
{
    size_t wave = std::max((size_t)1, 512 / ((size_t)l.block.x * l.block.y * l.block.z));
    for (size_t i = 0; i < blocks && !failed; i += wave) {
        std::deque<Block> running;
        std::vector<std::thread> threads;
        for (size_t j = i; j < blocks && j < i + wave; j++)
            prepare(running.emplace_back(), l, (unsigned)j);
        for (Block &b : running)
            for (Thread &t : b.threads)
                threads.emplace_back(thread_main, &t);
        for (std::thread &t : threads)
            t.join();
        for (Block &b : running)
            check_red_zones(b);
    }
}
#else
inline Block block;

inline void fiber_main()
{
    GAN__ASAN(__sanitizer_finish_switch_fiber(nullptr, &home.bottom, &home.size);)
    for (Fiber *me = running;;) {
        while (block.fresh <
               block.threads.size()) { /* a thread that never waited leaves its stack to the next */
            Thread *t = &block.threads[block.order[block.fresh++]];
            t->fiber = me;
            become(t);
            block.launch->kernel();
            t->wait[0].state = t->wait[1].state = Wait::RETURNED;
        }
        idle.push_back(me);
        go(*me, home);
    }
}

inline void make(Fiber &f)
{
    char *memory = (char *)mmap(nullptr, Fiber::GUARD + Fiber::BYTES, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == (char *)MAP_FAILED || mprotect(memory, Fiber::GUARD, PROT_NONE)) {
        perror("cuda_on_cpu: a fiber's stack");
        abort();
    }
    f.bottom = f.stack = memory + Fiber::GUARD;
    f.size = Fiber::BYTES;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack;
    f.context.uc_stack.ss_size = Fiber::BYTES;
    makecontext(&f.context, fiber_main, 0);
}

/* One block: every thread runs until it waits or returns, then whoever has met goes on, until
   all have returned. */
inline void run_block()
{
    Block &b = block;
    b.fresh = 0;
    while (!failed && b.fresh < b.threads.size()) {
        if (idle.empty())
            make(*idle.emplace_back(&fibers.emplace_back()));
        Fiber &next = *idle.back();
        idle.pop_back();
        go(home, next);
    }
    for (bool met = true; met && !failed;) {
        const Thread *waiting[2] = {nullptr, nullptr};
        met = false;
        self = nullptr;
        for (Thread &t : b.threads)
            for (int warp = 0; warp < 2 && !failed; warp++) {
                if (t.wait[warp].state != Wait::WAITING || (!warp && waiting[0]))
                    continue;
                waiting[warp] = &t;
                if (meet(b, warp, t))
                    met = true;
            }
        if (!met && !failed && (waiting[0] || waiting[1]))
            meet(b, !waiting[0], *(waiting[0] ? waiting[0] : waiting[1]), true);
        for (size_t i = 0; i < b.threads.size() && met && !failed; i++) {
            Thread &t = b.threads[b.order[i]];
            if (t.wait[0].state != Wait::RUNNING || t.wait[1].state != Wait::RUNNING)
                continue;
            become(&t);
            go(home, *t.fiber);
        }
    }
    self = nullptr;
    if (!failed)
        check_red_zones(b);
}

inline void run_blocks(const Launch &l, size_t blocks)
{
    static std::vector<unsigned> order;
    make_order(order, blocks);
    make_order(block.order, (size_t)l.block.x * l.block.y * l.block.z);
    for (size_t i = 0; i < blocks && !failed; i++) {
        prepare(block, l, order[i]);
        run_block();
    }
}
#endif

inline void run(const Launch &l)
{
    const dim3 &g = l.grid, &b = l.block;
    uint64_t threads = (uint64_t)b.x * b.y * b.z;
    uint64_t blocks = (uint64_t)g.x * g.y * g.z;
    launching = &l;
    if (threads < 1 || threads > 1024 || b.x > 1024 || b.y > 1024 || b.z > 64)
        fail(cudaErrorInvalidConfiguration, "a block has 1 to 1024 threads, 64 at most along z");
    else if (blocks < 1 || g.x > 0x7fffffff || g.y > 65535 || g.z > 65535)
        fail(cudaErrorInvalidConfiguration,
             "a grid has 1 block at least, and at most 2147483647, 65535, 65535 along x, y, z");
    else
        run_blocks(l, blocks);
    launching = nullptr;
}

} // namespace gan_on_cpu

/* ---- The words of a kernel
   -------------------------------------------------------------------------------- */

#define GAN_SHARED(type, name, count)                                                    \
    static char name##_site;                                                             \
    type *name = (type *)gan_on_cpu::shared(&name##_site, #name, sizeof(type) * (count), \
                                            alignof(type))

/* Barriers, votes, shuffles. line is the caller's. */
#define GAN__LINE int line = __builtin_LINE()

inline void __syncthreads(GAN__LINE)
{
    gan_on_cpu::come(false, "__syncthreads", line, 0, 0, -1, true);
}

inline int __syncthreads_count(int p, GAN__LINE)
{
    return (int)gan_on_cpu::come(false, "__syncthreads_count", line, 0, p != 0, -1, true);
}

inline int __syncthreads_or(int p, GAN__LINE)
{
    return gan_on_cpu::come(false, "__syncthreads_or", line, 0, p != 0, -1, true) != 0;
}

inline int __syncthreads_and(int p, GAN__LINE)
{
    return gan_on_cpu::come(false, "__syncthreads_and", line, 0, p == 0, -1, true) == 0;
}

inline void __syncwarp(unsigned mask = 0xffffffffu, GAN__LINE)
{
    gan_on_cpu::come(true, "__syncwarp", line, mask, 0, -1, true);
}

inline unsigned __ballot_sync(unsigned mask, int p, GAN__LINE)
{
    return (unsigned)gan_on_cpu::come(true, "__ballot_sync", line, mask, p != 0);
}

inline int __any_sync(unsigned mask, int p, GAN__LINE)
{
    return gan_on_cpu::come(true, "__any_sync", line, mask, p != 0) != 0;
}

inline int __all_sync(unsigned mask, int p, GAN__LINE)
{
    return gan_on_cpu::come(true, "__all_sync", line, mask, p == 0) == 0;
}

/* width splits a warp into groups of 1, 2, 4 ... 32 lanes. Who would read outside its group
   keeps its own x. */
template <class T> T __shfl_sync(unsigned mask, T x, int source, int width = 32, GAN__LINE)
{
    return gan_on_cpu::shuffle("__shfl_sync", line, mask, x,
                               gan_on_cpu::group(width) + (source & (width - 1)));
}

template <class T> T __shfl_up_sync(unsigned mask, T x, unsigned delta, int width = 32, GAN__LINE)
{
    int lane = gan_on_cpu::lane(), from = lane - (int)delta;
    return gan_on_cpu::shuffle("__shfl_up_sync", line, mask, x,
                               from < gan_on_cpu::group(width) ? lane : from);
}

template <class T> T __shfl_down_sync(unsigned mask, T x, unsigned delta, int width = 32, GAN__LINE)
{
    int lane = gan_on_cpu::lane(), from = lane + (int)delta;
    return gan_on_cpu::shuffle("__shfl_down_sync", line, mask, x,
                               from >= gan_on_cpu::group(width) + width ? lane : from);
}

template <class T> T __shfl_xor_sync(unsigned mask, T x, int bits, int width = 32, GAN__LINE)
{
    int lane = gan_on_cpu::lane(), from = lane ^ bits;
    return gan_on_cpu::shuffle("__shfl_xor_sync", line, mask, x,
                               from >= gan_on_cpu::group(width) + width ? lane : from);
}

#include "cuda/cuda_api_on_cpu.h"
#include "cuda/cuda_tensor_on_cpu.h"
#endif
