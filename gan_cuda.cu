/* gan_cuda.cu - gan.h's kernels on an NVIDIA GPU. Compile it beside your program and
   gan_open("cuda", seed) is there:

       nvcc -O3 -arch=native -c gan_cuda.cu
       cc -O2 main.c gan_cuda.o -L/usr/local/cuda/lib64 -lcudart_static -ldl -lrt -lpthread \
          -lstdc++ -lm

   Where the toolkit lies elsewhere, -L names its folder lib64. -arch=native compiles for the card
   of this machine; on one without a card say which, -arch=sm_90 for an H100. Without -arch the
   code is for the oldest cards that nvcc knows, and "cuda:tf32" refuses to run it.

   Devices: "cuda" computes in single precision; "cuda:tf32" and "cuda:bf16" let the tensor cores
   do products and convolutions, whose factors are then rounded to 10 or 7 bits of mantissa (a
   float has 23). Results agree with the CPU's to rounding, and the same seed gives the same bits on
   every run of the same card: nothing is added up in an order that chance decides, there are no
   atomics on floating-point numbers.

   The chapters have gan.h's tags in gan.h's order. Each bare kernel gan_cuda_NAME has the
   signature of gan_ref_NAME with device pointers. The arithmetic of every kernel is gan.h's,
   whose comments hold the formulas; the comments here say who computes what: a grid of blocks of
   threads, 32 threads a warp. Without a GPU the same file runs on the CPU by
   tests/cuda_on_cpu.h, which gives CUDA's words a meaning there.

   This file works with gan_real as float only, and a program compiled with GAN_STATIC cannot link
   to it. */
#ifdef GAN_CUDA_ON_CPU
#include "tests/cuda_on_cpu.h"
#else
#include <cuda_runtime.h>
#include <cuda_bf16.h>
#include <mma.h>
#define GAN_SHARED(type, name, count)                __shared__ type name[count]
#define GAN_LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#endif
/* gan.h's functions that the CPU and the GPU share: Philox (the random numbers) and the elementwise
   operations. */
#define GAN_HOST_DEVICE __host__ __device__ static inline
#include "gan.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static_assert(sizeof(gan_real) == 4,
              "gan_cuda.cu computes with float: GAN_REAL must not be double");

/* ===========================================================================================
   >>errors
   =========================================================================================== */

/* The kernel launched last, for the message if it fails: its name, a copy of its sizes, and the
   function that describes them as text of up to size characters. A launch only copies, since most
   never need the text. */
static struct {
    const char *name;
    alignas(16) char sizes[128];
    void (*describe)(const char *sizes, char *text, size_t size);
} gan__last_launch;

/* Puts a kernel's sizes into text, one function for each struct of sizes. */
static void gan__describe(const gan_fill &p, char *text, size_t size)
{
    snprintf(text, size, "%zu numbers", p.count);
}

static void gan__describe(const gan_random &p, char *text, size_t size)
{
    snprintf(text, size, "%zu numbers", p.count);
}

static void gan__describe(const gan_map &p, char *text, size_t size)
{
    snprintf(text, size, "operation %d, %zu numbers", p.op, p.count);
}

static void gan__describe(const gan_update &p, char *text, size_t size)
{
    snprintf(text, size, "the last parameter has %zu numbers", p.count);
}

static void gan__describe(const gan_zip &p, char *text, size_t size)
{
    snprintf(text, size, "operation %d, (%d,%d,%d,%d)", p.op, p.n, p.c, p.h, p.w);
}

static void gan__describe(const gan_copy &p, char *text, size_t size)
{
    snprintf(text, size, "(%d,%d,%d,%d)", p.n, p.c, p.h, p.w);
}

static void gan__describe(const gan_sums &p, char *text, size_t size)
{
    snprintf(text, size, "(%d,%d,%d,%d) -> (%d,%d,%d,%d)", p.in[0], p.in[1], p.in[2], p.in[3],
             p.out[0], p.out[1], p.out[2], p.out[3]);
}

static void gan__describe(const gan_product &p, char *text, size_t size)
{
    snprintf(text, size, "%d x %d times (%d,%d)%s (%d,%d)%s", p.n, p.c, p.m, p.k,
             p.transpose_a ? " transposed" : "", p.k, p.w, p.transpose_b ? " transposed" : "");
}

static void gan__describe(const gan_conv &p, char *text, size_t size)
{
    int stride_h = p.stride_h ? p.stride_h : p.stride;
    int stride_w = p.stride_w ? p.stride_w : p.stride;
    int dilation_h = p.dilation_h ? p.dilation_h : p.dilation;
    int dilation_w = p.dilation_w ? p.dilation_w : p.dilation;
    snprintf(text, size,
             "(%d,%d,%d,%d) -> (%d,%d,%d,%d), kernel %dx%d, stride %dx%d, pad %dx%d, groups %d, "
             "dilation %dx%d",
             p.n, p.c, p.h, p.w, p.n, p.out_c, gan_conv_out_h(&p), gan_conv_out_w(&p), p.kernel_h,
             p.kernel_w, stride_h, stride_w, p.pad + p.pad_h, p.pad + p.pad_w, p.groups, dilation_h,
             dilation_w);
}

static void gan__describe(const gan_norm &p, char *text, size_t size)
{
    snprintf(text, size, "(%d,%d,%zu)", p.n, p.c, p.size);
}

static void gan__describe(const gan_resample &p, char *text, size_t size)
{
    snprintf(text, size, "(%d,%d,%d,%d) -> %d x %d%s", p.n, p.c, p.h, p.w, p.out_h, p.out_w,
             p.adjoint ? ", the adjoint" : "");
}

static void gan__describe(const gan_index &p, char *text, size_t size)
{
    snprintf(text, size, "(%zu,%zu,%zu) -> (%zu,%zu,%zu)%s", p.outer, p.in, p.inner, p.outer, p.out,
             p.inner, p.adjoint ? ", the adjoint" : "");
}

static void gan__describe(const gan_pool &p, char *text, size_t size)
{
    snprintf(text, size, "%d planes of %d x %d -> %d x %d", p.planes, p.h, p.w, p.out_h, p.out_w);
}

static void gan__describe(const gan_lines &p, char *text, size_t size)
{
    snprintf(text, size, "(%zu,%zu,%zu)", p.outer, p.count, p.inner);
}

template <class T> static void gan__describe_sizes(const char *sizes, char *text, size_t size)
{
    gan__describe(*(const T *)sizes, text, size);
}

/* Fills gan__last_launch before a launch. p is the kernel's sizes, or a gan__problem of >>matmul
   that holds them. */
template <class T> static void gan__remember_launch(const char *name, const T *p)
{
    static_assert(sizeof *p <= sizeof gan__last_launch.sizes,
                  "gan__last_launch cannot hold these sizes");
    gan__last_launch.name = name;
    gan__last_launch.describe = gan__describe_sizes<T>;
    memcpy(gan__last_launch.sizes, p, sizeof *p);
}

template <class P> static void gan__remember_launch(const char *name, const P &problem)
{
    gan__remember_launch(name, &problem.p);
}

/* A call has failed and was reported. After some errors each later call fails as well, up to the
   end of the program: what gives memory back then must not report them again. */
static bool gan__call_failed;

/* Ends the program, or calls gan_on_error's function, where a CUDA call fails that should not. A
   kernel that goes wrong shows in a later call. */
static void gan__cuda_check(cudaError_t status, const char *call)
{
    if (status == cudaSuccess)
        return;
    gan__call_failed = true;
    char text[768], sizes[256] = "";
    if (gan__last_launch.describe)
        gan__last_launch.describe(gan__last_launch.sizes, sizes, sizeof sizes);
    snprintf(text, sizeof text, "%s failed: %s%s%s%s%s", call, cudaGetErrorString(status),
             gan__last_launch.name ? "; the last kernel was " : "",
             gan__last_launch.name ? gan__last_launch.name : "",
             gan__last_launch.describe ? ", " : "", sizes);
    gan_fail("cuda", text);
}

#define GAN__CHECK(call) gan__cuda_check(call, #call)

/* For calls that give memory back. */
#define GAN__CHECK_ONCE(call)                \
    do {                                     \
        cudaError_t status_ = call;          \
        if (!gan__call_failed)               \
            gan__cuda_check(status_, #call); \
    } while (0)

/* ===========================================================================================
   >>kernels
   =========================================================================================== */

static cudaStream_t gan__stream;
static int gan__precision; /* of products: 0 float, 1 tf32, 2 bf16 */
static int gan__gemm_version =
    -1; /* chosen by gan_cuda_set_version; -1: the best for device and sizes */

/* Chooses the version of the product (the table in >>matmul), 0 to 3, whatever the device's name;
   -1: the best for the device and the sizes. */
extern "C" void gan_cuda_set_version(int version)
{
    gan__gemm_version = version;
}

static void gan__launch_updates(void);
__global__ static void gan__fill_kernel(size_t count, float value, float *y);

/* A launch of kernel, with p where it stands as the sizes that a message tells; the update
   kernels that wait go first. */
#define GAN__RUN(name, kernel, grid, block, ...)                     \
    do {                                                             \
        gan__launch_updates();                                       \
        gan__remember_launch(name, p);                               \
        GAN_LAUNCH(kernel, grid, block, gan__stream, __VA_ARGS__);   \
        gan__cuda_check(cudaGetLastError(), "a launch of " #kernel); \
    } while (0)

/* Blocks of 256 threads for count pieces of work; a thread takes more than one where there are
   very many. */
static dim3 gan__blocks(size_t count)
{
    size_t blocks = (count + 255) / 256;
    return dim3((unsigned)(blocks < 1 ? 1 : blocks > 65535 * 8 ? 65535 * 8 : blocks));
}

#define GAN__EACH(i, count)                                                     \
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < (count); \
         i += (size_t)gridDim.x * blockDim.x)

/* ===========================================================================================
   >>device
   =========================================================================================== */

/* Scratch memory of a kernel call in the device: kept, and replaced by twice as much when a call
   wants more. What is replaced goes at once, or with the last recording, which knows its
   address. */
static void *gan__scratch[2],
    *gan__outgrown[2 * 64]; /* at most one for each doubling of a size_t */
static size_t gan__scratch_size[2];
static int gan__outgrown_count, gan__recordings;

static void *gan__cuda_scratch(int which, size_t bytes)
{
    if (gan__scratch_size[which] < bytes) {
        if (gan__scratch[which] && gan__recordings)
            gan__outgrown[gan__outgrown_count++] = gan__scratch[which];
        else if (gan__scratch[which])
            GAN__CHECK(cudaFree(gan__scratch[which])); /* waits until the device is done with it */
        gan__scratch[which] = NULL;
        gan__scratch_size[which] = 0;
        cudaError_t status = cudaMalloc(&gan__scratch[which], 2 * bytes);
        if (status == cudaErrorMemoryAllocation) {
            char text[160];
            snprintf(text, sizeof text,
                     "no memory on the GPU for %.0f bytes of scratch: a smaller batch, or \"cpu\", "
                     "needs less",
                     2.0 * (double)bytes);
            gan_fail("cuda", text);
        }
        gan__cuda_check(status, "cudaMalloc");
        gan__scratch_size[which] = 2 * bytes;
    }
    return gan__scratch[which];
}

/* How many blocks the card runs at once is a multiple of this. */
static int gan__multiprocessors(void)
{
    static int count;
    int card = 0;
    if (!count &&
        (cudaGetDevice(&card) != cudaSuccess ||
         cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, card) != cudaSuccess))
        count = 1;
    return count;
}

/* The oldest compute capability, 80 for 8.0, whose instructions the loaded code may use; 0 where
   none of the code in the program runs on this card. */
static int gan__code_for_this_card(void)
{
    cudaFuncAttributes code;
    cudaError_t status = cudaFuncGetAttributes(&code, gan__fill_kernel);
    cudaGetLastError();
    if (status != cudaSuccess)
        return 0;
    return code.ptxVersion < code.binaryVersion ? code.ptxVersion : code.binaryVersion;
}

/* With which flag to compile. has: what is wrong with the code of this program. */
static const char *gan__wrong_code(const char *has)
{
    static char text[768];
    cudaDeviceProp card;
    if (cudaGetDeviceProperties(&card, 0) != cudaSuccess)
        return "the GPU does not tell its name";
    snprintf(text, sizeof text,
             "gan_cuda.cu %s for this card, %s: compile it with nvcc -arch=native, or "
             "-arch=sm_%d%d on another machine",
             has, card.name, card.major, card.minor);
    return text;
}

/* Why there is no GPU to work on, and what to do; NULL if there is one. */
static const char *gan__cuda_start(void)
{
    static char text[512];
    int driver = 0, runtime = 0, devices = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    cudaError_t status = cudaGetDeviceCount(&devices);
    cudaGetLastError(); /* what failed here must not be blamed on the next kernel */
    if (driver == 0)
        return "there is no NVIDIA driver here: install the one for your card, or use \"cpu\"";
    if (status == cudaErrorInsufficientDriver || driver / 1000 < runtime / 1000) {
        snprintf(text, sizeof text,
                 "the NVIDIA driver is for CUDA %d.%d, this program for %d.%d: install a newer "
                 "driver, or compile gan_cuda.cu with an older toolkit",
                 driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
        return text;
    }
    if (status != cudaSuccess || devices == 0) {
        snprintf(text, sizeof text, "no GPU that CUDA can use (%s): use \"cpu\"",
                 status == cudaSuccess ? "none found" : cudaGetErrorString(status));
        return text;
    }
    if (!gan__stream && (status = cudaStreamCreate(&gan__stream)) != cudaSuccess) {
        snprintf(text, sizeof text,
                 "the GPU does not start (%s): another program may hold all its memory",
                 cudaGetErrorString(status));
        return text;
    }
    gan__call_failed = false;
    return gan__code_for_this_card() ? NULL : gan__wrong_code("was not compiled");
}

static void *gan__cuda_alloc(size_t bytes)
{
    void *memory = NULL;
    gan__launch_updates();
    cudaError_t status = cudaMalloc(&memory, bytes + 64);
    if (status == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* gan.h says how much was wanted and how much is held */
        return NULL;
    }
    gan__cuda_check(status, "cudaMalloc");
    return memory;
}

static void gan__cuda_release(void *memory)
{
    gan__launch_updates();
    GAN__CHECK_ONCE(cudaStreamSynchronize(gan__stream));
    GAN__CHECK_ONCE(cudaFree(memory));
}

/* ---- gan_capture: while a recording is made, the stream notes what is launched in a graph. What
   is other in each play, the sizes of random numbers and updates and what is uploaded, is noted
   in pieces of memory:

       host ---------> pinned[0] or pinned[1] ---------> device <------- kernels of the graph
       gan.h writes     a play copies it here    and from here, while the program goes on

   The two pinned ones take turns: a play fills one while the copy of the play before may still read
   the other. */

struct gan__piece {
    char *host, *pinned[2], *device;
    size_t used, size;
    gan__piece *next;
};

struct gan__recording {
    cudaGraphExec_t graph;
    gan__piece *pieces; /* the one that is being filled first */
    char *last;         /* where in host what was noted last is */
    cudaEvent_t copied[2];
    int turn;
};

#ifdef GAN_CUDA_ON_CPU
static const size_t GAN__PIECE_SIZE = 128; /* so that the tests' recordings have several */
#else
static const size_t GAN__PIECE_SIZE = 1 << 18;
#endif

static gan__recording *gan__recorded; /* the one being made, or NULL */

static gan__piece *gan__piece_new(size_t size, gan__piece *next)
{
    gan__piece *piece = new gan__piece();
    piece->size = size;
    piece->next = next;
    piece->host = new char[size];
    GAN__CHECK(cudaMallocHost(&piece->pinned[0], size));
    GAN__CHECK(cudaMallocHost(&piece->pinned[1], size));
    GAN__CHECK(cudaMalloc(&piece->device, size));
    return piece;
}

/* Notes bytes of the host: where on the device they will be. NULL if nothing is recorded. */
static const void *gan__note(const void *bytes, size_t count)
{
    gan__recording *r = gan__recorded;
    if (!r)
        return NULL;
    size_t wanted = (count + 15) / 16 * 16;
    if (!r->pieces || r->pieces->size - r->pieces->used < wanted)
        r->pieces = gan__piece_new(wanted > GAN__PIECE_SIZE ? wanted : GAN__PIECE_SIZE, r->pieces);
    gan__piece *piece = r->pieces;
    const char *there = piece->device + piece->used;
    r->last = piece->host + piece->used;
    memcpy(r->last, bytes, count);
    piece->used += wanted;
    return there;
}

static void gan__cuda_record(void)
{
    gan__launch_updates();
    gan__recording *r = new gan__recording();
    GAN__CHECK(cudaEventCreateWithFlags(&r->copied[0], cudaEventDisableTiming));
    GAN__CHECK(cudaEventCreateWithFlags(&r->copied[1], cudaEventDisableTiming));
    GAN__CHECK(cudaStreamBeginCapture(gan__stream, cudaStreamCaptureModeRelaxed));
    gan__recordings++;
    gan__recorded = r;
}

static void *gan__cuda_noted(void)
{
    return gan__recorded->last;
}

static void gan__cuda_forget(void *recording)
{
    gan__recording *r = (gan__recording *)recording;
    if (!r)
        return;
    GAN__CHECK_ONCE(cudaStreamSynchronize(gan__stream));
    if (r->graph)
        GAN__CHECK_ONCE(cudaGraphExecDestroy(r->graph));
    for (gan__piece *piece = r->pieces, *next; piece; piece = next) {
        next = piece->next;
        GAN__CHECK_ONCE(cudaFree(piece->device));
        GAN__CHECK_ONCE(cudaFreeHost(piece->pinned[0]));
        GAN__CHECK_ONCE(cudaFreeHost(piece->pinned[1]));
        delete[] piece->host;
        delete piece;
    }
    GAN__CHECK_ONCE(cudaEventDestroy(r->copied[0]));
    GAN__CHECK_ONCE(cudaEventDestroy(r->copied[1]));
    delete r;
    if (--gan__recordings == 0)
        while (gan__outgrown_count)
            GAN__CHECK_ONCE(cudaFree(gan__outgrown[--gan__outgrown_count]));
}

static void *gan__cuda_recorded(void)
{
    gan__recording *r = gan__recorded;
    cudaGraph_t graph = NULL;
    if (!r)
        return NULL;
    gan__launch_updates();
    gan__recorded = NULL;
    bool good = cudaStreamEndCapture(gan__stream, &graph) == cudaSuccess &&
                cudaGraphInstantiateWithFlags(&r->graph, graph, 0) == cudaSuccess;
    if (graph)
        GAN__CHECK_ONCE(cudaGraphDestroy(graph));
    cudaGetLastError();
    if (good)
        return r;
    gan__cuda_forget(r);
    return NULL;
}

static void gan__cuda_play(void *recording)
{
    gan__recording *r = (gan__recording *)recording;
    gan__launch_updates();
    r->turn = 1 - r->turn;
    GAN__CHECK(cudaEventSynchronize(r->copied[r->turn])); /* the play before the last is done */
    for (gan__piece *piece = r->pieces; piece; piece = piece->next) {
        memcpy(piece->pinned[r->turn], piece->host, piece->used);
        GAN__CHECK(cudaMemcpyAsync(piece->device, piece->pinned[r->turn], piece->used,
                                   cudaMemcpyHostToDevice, gan__stream));
    }
    GAN__CHECK(cudaEventRecord(r->copied[r->turn], gan__stream));
    gan__last_launch.name = "in a recorded step";
    gan__last_launch.describe = NULL;
    GAN__CHECK(cudaGraphLaunch(r->graph, gan__stream));
}

/* Uploads go through two pieces of pinned memory that take turns, so that the program need not wait
   for a copy, and may change what it uploaded at once. */
static const size_t GAN__UPLOAD_SIZE = 1 << 22;

static struct {
    char *memory;
    cudaEvent_t copied;
} gan__uploads[2];

static void gan__cuda_upload(void *device, const void *host, size_t bytes)
{
    static int turn;
    gan__launch_updates();
    if (gan__recorded) {
        const void *noted = gan__note(host, bytes);
        GAN__CHECK(cudaMemcpyAsync(device, noted, bytes, cudaMemcpyDeviceToDevice, gan__stream));
        return;
    }
    for (size_t done = 0; done < bytes;) {
        size_t count = bytes - done < GAN__UPLOAD_SIZE ? bytes - done : GAN__UPLOAD_SIZE;
        turn = 1 - turn;
        if (!gan__uploads[turn].memory) {
            GAN__CHECK(cudaMallocHost(&gan__uploads[turn].memory, GAN__UPLOAD_SIZE));
            GAN__CHECK(
                cudaEventCreateWithFlags(&gan__uploads[turn].copied, cudaEventDisableTiming));
        }
        GAN__CHECK(cudaEventSynchronize(gan__uploads[turn].copied));
        memcpy(gan__uploads[turn].memory, (const char *)host + done, count);
        GAN__CHECK(cudaMemcpyAsync((char *)device + done, gan__uploads[turn].memory, count,
                                   cudaMemcpyHostToDevice, gan__stream));
        GAN__CHECK(cudaEventRecord(gan__uploads[turn].copied, gan__stream));
        done += count;
    }
}

static void gan__cuda_download(void *host, const void *device, size_t bytes)
{
    gan__launch_updates();
    GAN__CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, gan__stream));
    GAN__CHECK(cudaStreamSynchronize(gan__stream));
}

/* ---- sums inside a warp and inside a block. In each of the 5 steps a lane adds the value of the
   lane whose number differs in one bit, 16 then 8, 4, 2 and 1; after them all 32 lanes have the
   total. The first argument of the shuffle says that all 32 lanes take part. */
__device__ static double gan__warp_sum(double value)
{
    for (int bit = 16; bit > 0; bit /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, bit);
    return value;
}

/* The largest value in a warp, by the same steps. */
__device__ static float gan__warp_max(float value)
{
    for (int bit = 16; bit > 0; bit /= 2)
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, bit));
    return value;
}

/* The sum over a block of up to 256 threads: over each warp, then over the up to 8 warps, whose
   sums meet in the shared memory warp_sums. Every thread gets the total. */
__device__ static double gan__block_sum(double value, double *warp_sums)
{
    value = gan__warp_sum(value);
    if (threadIdx.x % 32 == 0)
        warp_sums[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0;
    for (int warp = 0; warp < (int)blockDim.x / 32; warp++)
        value += warp_sums[warp];
    __syncthreads();
    return value;
}

/* ---- What CUDA C++ has no words for: copies that arrive later, and the tensor cores. From compute
   capability 8.0 on; tests/cuda_on_cpu.h gives the same functions for a CPU. */

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define GAN__HAS_TENSOR_CORES 1
#else
#define GAN__HAS_TENSOR_CORES 0
#endif

#ifndef GAN_CUDA_ON_CPU
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define GAN__PTX(...) asm volatile(__VA_ARGS__)
#else
#define GAN__PTX(...) (void)0 /* never runs: the kernels that want it trap */
#endif

/* Copies a float from global to shared memory, or 0 where live is false; from must be an address
   in global memory all the same. */
__device__ static void gan__copy_later(float *to, const float *from, bool live)
{
    unsigned address = (unsigned)__cvta_generic_to_shared(to);
    int bytes = live ? 4 : 0; /* bytes that are not read become 0 */
    GAN__PTX("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from), "r"(bytes)
             : "memory");
    (void)address;
    (void)from;
    (void)bytes;
}

/* The copies since the last call are one group. */
__device__ static void gan__copies_end_group(void)
{
    GAN__PTX("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most the newest group is under way (PENDING 1), or none (0). */
template <int PENDING> __device__ static void gan__copies_wait(void)
{
    GAN__PTX("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/* x with 10 bits after the point. */
__device__ static uint32_t gan__tf32(float x)
{
    uint32_t y = __float_as_uint(x);
    GAN__PTX("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
}

/* Two numbers with 7 bits after the point; the first in the lower half. */
__device__ static uint32_t gan__bf16_pair(float first, float second)
{
    uint32_t y = 0;
    GAN__PTX("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(second), "f"(first));
    (void)first;
    (void)second;
    return y;
}

/* c (16x8) += a (16 x 8 words) b (8 words x 8), by the 32 threads of a warp. */
template <bool BF16>
__device__ static void gan__mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    if constexpr (BF16)
        GAN__PTX("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else
        GAN__PTX("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    (void)c;
    (void)a;
    (void)b;
}
#endif

/* ---- Blocks that wait for no one: each adds 1 to a counter when its part is written, and the last
   one, which finds all parts there, goes on. The counters are 0 before and after each kernel. */

__device__ static unsigned gan__arrivals[65536];

/* Is this block the last of count? What any thread of the others wrote before can then be read,
   past the first cache (__ldcg). */
__device__ static bool gan__last_block(unsigned *arrivals, int count)
{
    GAN_SHARED(unsigned, before, 1);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        *before = atomicAdd(arrivals, 1u);
        if (*before == (unsigned)count - 1)
            *arrivals = 0;
    }
    __syncthreads();
    __threadfence();
    return *before == (unsigned)count - 1;
}

/* ===========================================================================================
   >>random
   =========================================================================================== */

/* A thread draws the four numbers of one Philox block. noted: the sizes in a recording, or NULL. */
__global__ static void gan__random_kernel(gan_random p, const gan_random *noted, float *y)
{
    if (noted)
        p = *noted;
    GAN__EACH(block, (p.count + 3) / 4)
    {
        float four[4];
        gan__random_block(&p, block, four);
        for (int i = 0; i < 4 && 4 * block + i < p.count; i++)
            y[4 * block + i] = four[i];
    }
}

extern "C" void gan_cuda_random(const gan_random *p, gan_real *y)
{
    const gan_random *noted = (const gan_random *)gan__note(p, sizeof *p);
    GAN__RUN("random", gan__random_kernel, gan__blocks((p->count + 3) / 4), 256, *p, noted, y);
}

/* ===========================================================================================
   >>arithmetic
   ===========================================================================================
   A thread takes four neighbours at once where an array allows 16-byte accesses. */

__global__ static void gan__fill_kernel(size_t count, float value, float *y)
{
    GAN__EACH(i, count) y[i] = value;
}

extern "C" void gan_cuda_fill(const gan_fill *p, gan_real *y)
{
    GAN__RUN("fill", gan__fill_kernel, gan__blocks(p->count), 256, p->count, p->value, y);
}

template <gan_map_op OP>
__global__ static void gan__map_kernel(size_t count, float a, float b, const float *x, float *y,
                                       bool four)
{
    if (!four) {
        GAN__EACH(i, count) y[i] = gan__map_one(OP, x[i], a, b);
        return;
    }
    GAN__EACH(i, count / 4)
    {
        float4 v = ((const float4 *)x)[i];
        v.x = gan__map_one(OP, v.x, a, b);
        v.y = gan__map_one(OP, v.y, a, b);
        v.z = gan__map_one(OP, v.z, a, b);
        v.w = gan__map_one(OP, v.w, a, b);
        ((float4 *)y)[i] = v;
    }
}

static bool gan__aligned(const void *a, const void *b)
{
    return ((uintptr_t)a | (uintptr_t)b) % 16 == 0;
}

template <gan_map_op OP> static void gan__map_launch(const gan_map *p, const float *x, float *y)
{
    bool four = p->count % 4 == 0 && gan__aligned(x, y);
    GAN__RUN("map", gan__map_kernel<OP>, gan__blocks(four ? p->count / 4 : p->count), 256, p->count,
             p->a, p->b, x, y, four);
}

extern "C" void gan_cuda_map(const gan_map *p, const gan_real *x, gan_real *y)
{
    typedef void launch(const gan_map *p, const float *x, float *y);
#define GAN__ROW(op, name, needs_y, formula, derivative) gan__map_launch<op>,
    static launch *const table[] = {GAN_MAP_OPS(GAN__ROW)};
#undef GAN__ROW
    table[p->op](p, x, y);
}

/* Where element i of (N,C,H,W) lies in two arrays with these strides. */
struct gan__view {
    int size[4];
    ptrdiff_t a[4], b[4], a0, b0;
};

__device__ static void gan__place(const gan__view &v, size_t i, ptrdiff_t *a, ptrdiff_t *b)
{
    *a = v.a0;
    *b = v.b0;
    for (int d = 3; d >= 0; d--) {
        ptrdiff_t at = (ptrdiff_t)(i % v.size[d]);
        *a += at * v.a[d];
        *b += at * v.b[d];
        i /= v.size[d];
    }
}

template <gan_zip_op OP>
__global__ static void gan__zip_kernel(size_t count, gan__view v, float k, float l, const float *a,
                                       const float *b, float *y, bool flat)
{
    if (flat) { /* both arrays lie as the result does: four at a time */
        GAN__EACH(i, count / 4)
        {
            float4 s = ((const float4 *)a)[i], t = ((const float4 *)b)[i];
            s.x = gan__zip_one(OP, s.x, t.x, k, l);
            s.y = gan__zip_one(OP, s.y, t.y, k, l);
            s.z = gan__zip_one(OP, s.z, t.z, k, l);
            s.w = gan__zip_one(OP, s.w, t.w, k, l);
            ((float4 *)y)[i] = s;
        }
        return;
    }
    GAN__EACH(i, count)
    {
        ptrdiff_t in_a, in_b;
        gan__place(v, i, &in_a, &in_b);
        y[i] = gan__zip_one(OP, a[in_a], b[in_b], k, l);
    }
}

/* Is this array walked through from front to back, without gaps? */
static bool gan__is_flat(const int size[4], const ptrdiff_t stride[4])
{
    ptrdiff_t want = 1;
    for (int d = 3; d >= 0; want *= size[d], d--)
        if (size[d] > 1 && stride[d] != want)
            return false;
    return true;
}

template <gan_zip_op OP>
static void gan__zip_launch(const gan_zip *p, const float *a, const float *b, float *y)
{
    size_t count = (size_t)p->n * p->c * p->h * p->w;
    gan__view v = {{p->n, p->c, p->h, p->w},
                   {p->a[0], p->a[1], p->a[2], p->a[3]},
                   {p->b[0], p->b[1], p->b[2], p->b[3]},
                   0,
                   0};
    bool flat = count % 4 == 0 && gan__is_flat(v.size, v.a) && gan__is_flat(v.size, v.b) &&
                gan__aligned(a, b) && gan__aligned(y, y);
    GAN__RUN("zip", gan__zip_kernel<OP>, gan__blocks(flat ? count / 4 : count), 256, count, v, p->k,
             p->l, a, b, y, flat);
}

extern "C" void gan_cuda_zip(const gan_zip *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    typedef void launch(const gan_zip *p, const float *a, const float *b, float *y);
#define GAN__ROW(op, name, needs_y, formula, of_a, of_b) gan__zip_launch<op>,
    static launch *const table[] = {GAN_ZIP_OPS(GAN__ROW)};
#undef GAN__ROW
    table[p->op](p, a, b, y);
}

/* ===========================================================================================
   >>reduce
   ===========================================================================================
   Every sum is cut into parts whose number depends on the sizes alone; parts are summed in
   double, by one block each, and then in order. */

/* The kept and the summed dimensions of a sum: where output i begins in x, and how far element r
   of its sum lies from there. */
struct gan__sum_sizes {
    size_t outputs, terms, parts;
    int kept[4], summed[4];
    ptrdiff_t stride[4];
};

__device__ static ptrdiff_t gan__offset(const int size[4], const ptrdiff_t stride[4], size_t i)
{
    ptrdiff_t at = 0;
    for (int d = 3; d >= 0; d--) {
        at += (ptrdiff_t)(i % size[d]) * stride[d];
        i /= size[d];
    }
    return at;
}

/* One block for each part of each output: its 256 threads take terms 256 apart (32 threads where
   there are fewer terms). The last block of an output adds its parts in order. */
__global__ static void gan__sum_kernel(gan__sum_sizes p, const float *x, double *parts, float *y)
{
    GAN_SHARED(double, warp_sums, 8);
    size_t output = blockIdx.x / p.parts;
    size_t part = blockIdx.x % p.parts;
    size_t each = (p.terms + p.parts - 1) / p.parts;
    size_t end = part * each + each < p.terms ? part * each + each : p.terms;
    const float *from = x + gan__offset(p.kept, p.stride, output);
    double total = 0;
    for (size_t r = part * each + threadIdx.x; r < end; r += blockDim.x)
        total += from[gan__offset(p.summed, p.stride, r)];
    total = gan__block_sum(total, warp_sums);
    if (p.parts > 1) {
        if (threadIdx.x == 0)
            parts[blockIdx.x] = total;
        if (!gan__last_block(&gan__arrivals[output], (int)p.parts))
            return;
        total = 0;
        for (size_t k = 0; k < p.parts && threadIdx.x == 0; k++)
            total += __ldcg(&parts[output * p.parts + k]);
    }
    if (threadIdx.x == 0)
        y[output] = (float)total;
}

/* Neighbouring outputs are neighbours in memory, or terms are few: one thread for each output
   and part, so that a warp reads 32 numbers that lie side by side. */
__global__ static void gan__sum_columns_kernel(gan__sum_sizes p, const float *x, double *parts,
                                               float *y)
{
    GAN__EACH(i, p.outputs * p.parts)
    {
        size_t output = i % p.outputs;
        size_t part = i / p.outputs;
        size_t each = (p.terms + p.parts - 1) / p.parts;
        const float *from = x + gan__offset(p.kept, p.stride, output);
        double total = 0;
        for (size_t r = part * each; r < (part + 1) * each && r < p.terms; r++)
            total += from[gan__offset(p.summed, p.stride, r)];
        if (p.parts > 1)
            parts[output * p.parts + part] = total;
        else
            y[output] = (float)total;
    }
}

__global__ static void gan__sum_parts_kernel(size_t outputs, size_t parts, const double *part,
                                             float *y)
{
    GAN__EACH(i, outputs)
    {
        double total = 0;
        for (size_t k = 0; k < parts; k++)
            total += part[i * parts + k];
        y[i] = (float)total;
    }
}

extern "C" void gan_cuda_sum(const gan_sums *p, const gan_real *x, gan_real *y)
{
    gan__sum_sizes s;
    s.outputs = s.terms = 1;
    ptrdiff_t stride = 1;
    int last_kept = 1; /* the last dimension larger than 1 */
    for (int d = 3; d >= 0; stride *= p->in[d], d--) {
        bool kept = p->out[d] == p->in[d];
        s.kept[d] = kept ? p->in[d] : 1;
        s.summed[d] = kept ? 1 : p->in[d];
        s.stride[d] = stride;
        s.outputs *= (size_t)s.kept[d];
        s.terms *= (size_t)s.summed[d];
        if (stride == 1 && p->in[d] > 1)
            last_kept = kept;
    }
    bool columns = (last_kept && s.outputs >= 32) || s.terms < 32;
    size_t wanted = (columns ? 65536 : 1024) / s.outputs;
    size_t most = s.terms / (columns ? 16 : 1024);
    s.parts = wanted < 1 || most < 1 ? 1 : wanted < most ? wanted : most;
    double *parts = NULL;
    if (s.parts > 1)
        parts = (double *)gan__cuda_scratch(0, s.outputs * s.parts * sizeof(double));
    if (!columns) {
        GAN__RUN("sum", gan__sum_kernel, dim3((unsigned)(s.outputs * s.parts)),
                 s.terms / s.parts < 256 ? 32 : 256, s, x, parts, y);
        return;
    }
    GAN__RUN("sum", gan__sum_columns_kernel, gan__blocks(s.outputs * s.parts), 256, s, x, parts, y);
    if (s.parts > 1)
        GAN__RUN("sum", gan__sum_parts_kernel, gan__blocks(s.outputs), 256, s.outputs, s.parts,
                 parts, y);
}

/* One warp for each line of p.count numbers, p.inner apart. Its 32 lanes take every 32nd number
   each: first for the line's largest, which is subtracted so that exp does not overflow, then for
   the sum of the exponentials, then for the results. A warp beyond the last line is not active,
   but takes part in the shuffles. */
__global__ static void gan__softmax_kernel(gan_lines p, const float *x, float *y)
{
    size_t line = (size_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    size_t lane = threadIdx.x % 32;
    bool active = line < p.outer * p.inner;
    size_t start = active ? line / p.inner * p.count * p.inner + line % p.inner : 0;
    float largest = -INFINITY;
    double total = 0;
    for (size_t i = lane; active && i < p.count; i += 32)
        largest = fmaxf(largest, x[start + i * p.inner]);
    largest = gan__warp_max(largest);
    for (size_t i = lane; active && i < p.count; i += 32)
        total += expf(x[start + i * p.inner] - largest);
    total = gan__warp_sum(total);
    float scale = (float)(1 / total), shift = (float)log(total);
    for (size_t i = lane; active && i < p.count; i += 32) {
        float z = x[start + i * p.inner] - largest;
        y[start + i * p.inner] = p.logarithm ? z - shift : expf(z) * scale;
    }
}

/* gx = y*(gy - sum of gy*y), and of the logarithm gy - exp(y)*(sum of gy); a warp for each line. */
__global__ static void gan__softmax_grad_kernel(gan_lines p, const float *gy, const float *y,
                                                float *gx)
{
    size_t line = (size_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    size_t lane = threadIdx.x % 32;
    bool active = line < p.outer * p.inner;
    size_t start = active ? line / p.inner * p.count * p.inner + line % p.inner : 0;
    double total = 0;
    for (size_t i = start + lane * p.inner; active && i < start + p.count * p.inner;
         i += 32 * p.inner)
        total += (double)gy[i] * (p.logarithm ? 1 : y[i]);
    total = gan__warp_sum(total);
    for (size_t i = start + lane * p.inner; active && i < start + p.count * p.inner;
         i += 32 * p.inner)
        gx[i] = p.logarithm ? gy[i] - expf(y[i]) * (float)total : y[i] * (gy[i] - (float)total);
}

/* Blocks of 256 threads, which are 8 warps, for the lines. */
static dim3 gan__line_blocks(const gan_lines *p)
{
    return dim3((unsigned)((p->outer * p->inner + 7) / 8));
}

extern "C" void gan_cuda_softmax(const gan_lines *p, const gan_real *x, gan_real *y)
{
    GAN__RUN("softmax", gan__softmax_kernel, gan__line_blocks(p), 256, *p, x, y);
}

extern "C" void gan_cuda_softmax_grad(const gan_lines *p, const gan_real *gy, const gan_real *y,
                                      gan_real *gx)
{
    GAN__RUN("softmax_grad", gan__softmax_grad_kernel, gan__line_blocks(p), 256, *p, gy, y, gx);
}

/* ===========================================================================================
   >>shape
   =========================================================================================== */

__global__ static void gan__copy_kernel(size_t count, gan__view v, const float *x, float *y)
{
    GAN__EACH(i, count)
    {
        ptrdiff_t from, to;
        gan__place(v, i, &from, &to);
        y[to] = x[from];
    }
}

extern "C" void gan_cuda_copy(const gan_copy *p, const gan_real *x, gan_real *y)
{
    size_t count = (size_t)p->n * p->c * p->h * p->w;
    gan__view v = {{p->n, p->c, p->h, p->w},
                   {p->x[0], p->x[1], p->x[2], p->x[3]},
                   {p->y[0], p->y[1], p->y[2], p->y[3]},
                   p->x0,
                   p->y0};
    GAN__RUN("copy", gan__copy_kernel, gan__blocks(count), 256, count, v, x, y);
}

/* ===========================================================================================
   >>gather
   =========================================================================================== */

__global__ static void gan__gather_kernel(gan_index p, const float *x, const float *index, float *y)
{
    GAN__EACH(at, p.outer * p.out * p.inner)
    {
        size_t k = at % p.inner;
        size_t i = at / p.inner % p.out;
        size_t o = at / p.inner / p.out;
        size_t there = (size_t)index[o * p.step_outer + i * p.step + k * p.step_inner];
        y[at] = x[(o * p.in + there) * p.inner + k];
    }
}

/* Several numbers may go to one place: a thread adds all of one (outer, inner) in order, and no
   other thread writes where it does. */
__global__ static void gan__scatter_kernel(gan_index p, const float *x, const float *index,
                                           float *y)
{
    GAN__EACH(at, p.outer * p.inner)
    {
        size_t k = at % p.inner, o = at / p.inner;
        for (size_t i = 0; i < p.out; i++) {
            size_t there = (size_t)index[o * p.step_outer + i * p.step + k * p.step_inner];
            y[(o * p.in + there) * p.inner + k] += x[(o * p.out + i) * p.inner + k];
        }
    }
}

extern "C" void gan_cuda_gather(const gan_index *p, const gan_real *x, const gan_real *index,
                                gan_real *y)
{
    if (!p->adjoint)
        GAN__RUN("gather", gan__gather_kernel, gan__blocks(p->outer * p->out * p->inner), 256, *p,
                 x, index, y);
    else {
        size_t count = p->outer * p->in * p->inner;
        GAN__RUN("gather", gan__fill_kernel, gan__blocks(count), 256, count, 0.0f, y);
        GAN__RUN("gather", gan__scatter_kernel, gan__blocks(p->outer * p->inner), 256, *p, x, index,
                 y);
    }
}

/* ===========================================================================================
   >>matmul
   ===========================================================================================
   Products and convolutions are one product C (M,N) = A (M,K) B (K,N). A problem tells where the
   elements lie in tensors, so that the matrix of windows is never written. Row i of A and C, column
   j of B and C and term k of the sum each have an offset of their own:

       A(i,k) = a[i*a_row + term(k).a]
       B(k,j) = b[term(k).b + column(j).b],  or 0 where its pixel is in the padding: where
                term(k).row + column(j).row is not in 0 .. b_rows-1, or the same across
       C(i,j) = y[i*y_row + column(j).y]

   Versions, all callable through gan_cuda_set_version; times are of the convolution
   (128,64,32,32) -> (128,128,16,16), kernel 4x4, stride 2, pad 1:

     version  idea                                                                   time
     0        naive: a thread computes one element of C and reads a row of A and     not measured
              a column of B from global memory
     1        tiled: 256 threads hold 128x128 of C in registers, 8x8 each; 16        not measured
              terms of A and B at a time come through shared memory; an offset is
              computed once for 16 terms and 128 columns, not for each element
     2        tensor cores through nvcuda::wmma, tf32, 64x64 of C: the offset of     not measured
              each element is computed anew, which takes some fifty instructions
              for each one of the tensor cores (compute capability 8.0 and up)
     3        tensor cores through mma.sync, tf32 or bf16, copied as in version 1    not measured

   Where C is too small to fill the card and K long, K is cut into splits. A split's blocks write
   their sums to scratch memory, and the last of them adds all in the order of k. */

struct alignas(16) gan__term {
    int a, b, row, column;
};

struct gan__column {
    int b, y, row, column;
};

/* What all problems have. select(z) of each chooses batch, group or phase z and sets it. */
struct gan__problem {
    const float *a, *b;
    float *y;
    int m, n, k;
    int a_row, y_row;
    int b_rows, b_columns;
    bool a_by_k, b_by_k; /* neighbours along k are neighbours in memory, and not those along i, j */
    bool a_four;         /* terms 4k .. 4k+3 of A are, and 16 bytes may be read there at once */
};

/* An offset of a row or term that is outside: no sum with another's is inside. */
enum { GAN__OUTSIDE = -(1 << 30) };

__host__ __device__ static bool gan__inside(const gan__problem &p, gan__term term,
                                            gan__column column)
{
    return (unsigned)(term.row + column.row) < (unsigned)p.b_rows &&
           (unsigned)(term.column + column.column) < (unsigned)p.b_columns;
}

struct gan__product_problem : gan__problem {
    gan_product p;

    __host__ __device__ int batches() const
    {
        return p.n * p.c;
    }

    __host__ __device__ void select(int z)
    {
        a += z / p.c * p.a_n + z % p.c * p.a_c;
        b += z / p.c * p.b_n + z % p.c * p.b_c;
        y += (size_t)z * p.m * p.w;
        m = p.m;
        n = p.w;
        k = p.k;
        a_row = p.transpose_a ? 1 : p.k;
        y_row = p.w;
        b_rows = b_columns = 1;
    }

    __device__ gan__column column(int j) const
    {
        return {p.transpose_b ? j * p.k : j, j, 0, 0};
    }

    __device__ gan__term term(int t) const
    {
        return {p.transpose_a ? t * p.m : t, p.transpose_b ? t : t * p.w, 0, 0};
    }
};

/* ---- Who computes what. The grid has one dimension, as only x may have more than 65,535 blocks:

       block = row tile + rows * (column tile + columns * (split + splits * z))

   so that blocks that read the same columns of B run together. */

struct gan__tiling {
    int rows, columns, splits; /* tiles down and across the largest C, parts of K */
    size_t part;               /* elements of the largest C */
    float *parts;              /* sums of splits: (z, split, part) */
};

struct gan__place_in_grid {
    int row, column, split, z, tile; /* tile: the same for all splits */
};

__device__ static gan__place_in_grid gan__place_of(const gan__tiling &g, size_t block)
{
    gan__place_in_grid at;
    at.row = (int)(block % g.rows);
    at.column = (int)(block / g.rows % g.columns);
    at.split = (int)(block / g.rows / g.columns % g.splits);
    at.z = (int)(block / g.rows / g.columns / g.splits);
    at.tile = (at.z * g.columns + at.column) * g.rows + at.row;
    return at;
}

/* Terms begin .. end-1 of split: a multiple of 16, but for the last. */
__device__ static void gan__terms_of(int k, int splits, int split, int *begin, int *end)
{
    int each = ((k + splits - 1) / splits + 15) / 16 * 16;
    *begin = min(split * each, k);
    *end = min(*begin + each, k);
}

/* Writes a block's results, or adds them to those of other splits. RESULTS gives a thread's
   ROWS x COLUMNS of them: row(i), column(j), value(i,j). */
template <class P, class RESULTS>
__device__ static void gan__write_results(const P &p, const gan__tiling &g,
                                          const gan__place_in_grid &at, const RESULTS &results)
{
    float *parts = g.splits > 1 ? g.parts + (size_t)at.z * g.splits * g.part : NULL;
    if (g.splits > 1) {
        float *mine = parts + at.split * g.part;
#pragma unroll
        for (int j = 0; j < RESULTS::COLUMNS; j++)
#pragma unroll
            for (int i = 0; i < RESULTS::ROWS; i++)
                if (results.column(j) < p.n && results.row(i) < p.m)
                    mine[(size_t)results.row(i) * p.n + results.column(j)] = results.value(i, j);
        if (!gan__last_block(&gan__arrivals[at.tile], g.splits))
            return;
    }
#pragma unroll
    for (int j = 0; j < RESULTS::COLUMNS; j++) {
        int column = results.column(j);
        if (column >= p.n)
            continue;
        int y = p.column(column).y;
#pragma unroll
        for (int i = 0; i < RESULTS::ROWS; i++) {
            int row = results.row(i);
            if (row >= p.m)
                continue;
            float total = results.value(i, j);
            if (g.splits > 1) {
                total = 0;
#pragma unroll 1
                for (int s = 0; s < g.splits; s++)
                    total += __ldcg(&parts[s * g.part + (size_t)row * p.n + column]);
            }
            p.y[row * p.y_row + y] = total;
        }
    }
}

/* ---- Version 0: naive */

template <class P> __global__ static void gan__gemm_naive(P problem, gan__tiling g, int batches)
{
    GAN__EACH(e, (size_t)batches * g.part)
    {
        P p = problem;
        p.select((int)(e / g.part));
        size_t inside = e % g.part;
        if (inside >= (size_t)p.m * p.n)
            continue; /* this z has a smaller C than the largest */
        int i = (int)(inside / p.n), j = (int)(inside % p.n);
        gan__column column = p.column(j);
        float total = 0;
        for (int k = 0; k < p.k; k++) {
            gan__term term = p.term(k);
            if (gan__inside(p, term, column))
                total += p.a[i * p.a_row + term.a] * p.b[term.b + column.b];
        }
        p.y[i * p.y_row + column.y] = total;
    }
}

/* ---- Copying for versions 1 and 3. 256 threads copy 16 terms of ROWS rows of A and of 128 columns
   of B, first to registers, while the tensor cores or the multipliers are busy with the 16 terms
   before, and then to shared memory. A thread copies 2 terms of ROWS/32 rows of A, 32 apart, and
   of 4 columns of B, 32 apart. The 32 threads of a warp take 32 neighbours along i or j, or
   8 neighbours along k of 4 rows or columns, as they lie in memory:

       by_k = false                          by_k = true
       thread   0  1  2 ..  31               thread   0  1 ..  7
       row      0  1  2 ..  31, one term     term     0  1 ..  7 of row 0
                                             thread   8  9 .. 15
                                             term     0  1 ..  7 of row 1

   In shared memory a word holds one term, as float or tf32, or two neighbouring ones, as bf16. */

enum gan__number { GAN__FLOAT, GAN__TF32, GAN__BF16 };

template <gan__number NUMBER> __device__ static uint32_t gan__word_of(float first, float second)
{
    if constexpr (NUMBER == GAN__BF16)
        return gan__bf16_pair(first, second);
    else if constexpr (NUMBER == GAN__TF32)
        return gan__tf32(first);
    else
        return __float_as_uint(first);
}

/* Two tiles in shared memory, of which one is filled while the other is read. A of the tensor cores
   is [row][word], 4 words further apart than it is wide, and B [word][column], 8 further: then
   the 32 threads of a warp read from 32 banks. A of floats is [term][row]. */
template <gan__number NUMBER, int ROWS> struct gan__tile {
    static constexpr int TERMS = 16;
    static constexpr int WORDS = NUMBER == GAN__BF16 ? TERMS / 2 : TERMS;
    static constexpr int A_APART = NUMBER == GAN__FLOAT ? ROWS + 4 : WORDS + 4;
    static constexpr int B_APART = 128 + 8;
    static constexpr int A_WORDS = NUMBER == GAN__FLOAT ? WORDS * A_APART : ROWS * A_APART;
    static constexpr int B_WORDS = WORDS * B_APART;

    __device__ static int a_at(int row, int word)
    {
        return NUMBER == GAN__FLOAT ? word * A_APART + row : row * A_APART + word;
    }

    __device__ static int b_at(int word, int column)
    {
        return word * B_APART + column;
    }
};

template <class P, gan__number NUMBER, int ROWS> struct gan__copier {
    typedef gan__tile<NUMBER, ROWS> TILE;
    static constexpr int A_COUNT = ROWS / 32; /* rows of A that a thread copies */

    const P &p;
    int thread, first_row;
    int a_row, a_word, b_column, b_word; /* the first of this thread's in the tile */
    int a_from, b_from[4]; /* offsets of its first row of A, and of its columns of B */
    int b_row_of[4], b_column_of[4];
    float a[A_COUNT][2], b[4][2];

    __device__ gan__copier(const P &problem, int row0, int column0) : p(problem)
    {
        thread = threadIdx.x;
        first_row = row0;
        a_row = p.a_by_k ? thread / 8 : thread % 32;
        a_word = p.a_by_k ? thread % 8 : thread / 32;
        b_column = p.b_by_k ? thread / 8 : thread % 32;
        b_word = p.b_by_k ? thread % 8 : thread / 32;
        if (p.a_four)
            a_row = thread / 4;
        a_from = (row0 + a_row) * p.a_row;
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int j = column0 + b_column + 32 * e;
            gan__column column = p.column(j < p.n ? j : 0);
            b_from[e] = column.b;
            b_row_of[e] = j < p.n ? column.row : GAN__OUTSIDE;
            b_column_of[e] = column.column;
        }
    }

    /* The two terms of a word, or words 8 apart. */
    __device__ static int term_of(int word, int q)
    {
        return NUMBER == GAN__BF16 ? 2 * word + q : word + 8 * q;
    }

    /* Reads terms t0 .. of A and B, whose offsets are in terms. */
    __device__ void read(const gan__term *terms, int t0, int end)
    {
        if (p.a_four)
            read_a_four(terms, t0, end);
        else
            read_a(terms, t0, end);
#pragma unroll
        for (int q = 0; q < 2; q++) {
            gan__term term = terms[term_of(b_word, q)];
#pragma unroll
            for (int e = 0; e < 4; e++) {
                bool inside = (unsigned)(term.row + b_row_of[e]) < (unsigned)p.b_rows &&
                              (unsigned)(term.column + b_column_of[e]) < (unsigned)p.b_columns;
                b[e][q] = inside ? p.b[b_from[e] + term.b] : 0;
            }
        }
    }

    __device__ void read_a(const gan__term *terms, int t0, int end)
    {
#pragma unroll
        for (int q = 0; q < 2; q++) {
            int t = term_of(a_word, q);
            int from = a_from + terms[t].a;
#pragma unroll
            for (int e = 0; e < A_COUNT; e++) {
                bool inside = t0 + t < end && first_row + a_row + 32 * e < p.m;
                a[e][q] = inside ? p.a[from + 32 * e * p.a_row] : 0;
            }
        }
    }

    /* Four neighbouring terms at once: of rows thread/4 and 64 more. */
    __device__ void read_a_four(const gan__term *terms, int t0, int end)
    {
        int t = thread % 4 * 4;
        int from = a_from + terms[t].a;
#pragma unroll
        for (int e = 0; e < A_COUNT; e += 2) {
            bool inside = t0 + t < end && first_row + a_row + 32 * e < p.m;
            float4 four = make_float4(0, 0, 0, 0);
            if (inside)
                four = *(const float4 *)&p.a[from + 32 * e * p.a_row];
            a[e][0] = four.x;
            a[e][1] = four.y;
            a[e + 1][0] = four.z;
            a[e + 1][1] = four.w;
        }
    }

    /* Rounds what was read and puts it where the others find it. */
    __device__ void write(uint32_t *a_tile, uint32_t *b_tile) const
    {
        if (p.a_four)
            write_a_four(a_tile);
#pragma unroll
        for (int e = 0; e < A_COUNT && !p.a_four; e++)
            write_word(a[e][0], a[e][1], &a_tile[TILE::a_at(a_row + 32 * e, a_word)],
                       &a_tile[TILE::a_at(a_row + 32 * e, a_word + 8)]);
#pragma unroll
        for (int e = 0; e < 4; e++)
            write_word(b[e][0], b[e][1], &b_tile[TILE::b_at(b_word, b_column + 32 * e)],
                       &b_tile[TILE::b_at(b_word + 8, b_column + 32 * e)]);
    }

    __device__ static void write_word(float first, float second, uint32_t *to, uint32_t *next)
    {
        *to = gan__word_of<NUMBER>(first, second);
        if constexpr (NUMBER != GAN__BF16)
            *next = gan__word_of<NUMBER>(second, 0);
    }

    __device__ void write_a_four(uint32_t *a_tile) const
    {
        int t = thread % 4 * 4;
#pragma unroll
        for (int e = 0; e < A_COUNT; e += 2) {
            int row = a_row + 32 * e;
            const float four[4] = {a[e][0], a[e][1], a[e + 1][0], a[e + 1][1]};
            if constexpr (NUMBER == GAN__BF16) {
                *(uint2 *)&a_tile[TILE::a_at(row, t / 2)] = make_uint2(
                    gan__bf16_pair(four[0], four[1]), gan__bf16_pair(four[2], four[3]));
            } else if constexpr (NUMBER == GAN__TF32) {
                *(uint4 *)&a_tile[TILE::a_at(row, t)] = make_uint4(
                    gan__tf32(four[0]), gan__tf32(four[1]), gan__tf32(four[2]), gan__tf32(four[3]));
            } else
#pragma unroll
                for (int i = 0; i < 4; i++)
                    a_tile[TILE::a_at(row, t + i)] = __float_as_uint(four[i]);
        }
    }
};

/* The offsets of 16 terms from t0, by 16 threads. */
template <class P>
__device__ static void gan__find_terms(const P &p, int t0, int end, gan__term *to)
{
    int t = threadIdx.x;
    if (t >= 16)
        return;
    if (t0 + t < end)
        to[t] = p.term(t0 + t);
    else
        to[t] = {0, 0, GAN__OUTSIDE, GAN__OUTSIDE};
}

/* ---- Version 1: tiled. A thread's 8x8 results, here of 256 threads in 16 x 16 and ROWS = 128, are
   four squares, so that 16 neighbours read neighbouring float4 of B, which share no bank:

            columns  4x .. 4x+3     64+4x .. 64+4x+3
       rows 4y ..        4x4              4x4              x = thread % 16
         64+4y ..        4x4              4x4              y = thread / 16            */

template <int HEIGHT> struct gan__float_results {
    static constexpr int ROWS = HEIGHT / 16, COLUMNS = 8;
    float sum[ROWS][COLUMNS];
    int row0, column0;

    __device__ int row(int i) const
    {
        return row0 + i / 4 * 64 + threadIdx.x / 16 * 4 + i % 4;
    }

    __device__ int column(int j) const
    {
        return column0 + j / 4 * 64 + threadIdx.x % 16 * 4 + j % 4;
    }

    __device__ float value(int i, int j) const
    {
        return sum[i][j];
    }

    __device__ void clear()
    {
#pragma unroll
        for (int e = 0; e < ROWS * COLUMNS; e++)
            sum[e / COLUMNS][e % COLUMNS] = 0;
    }

    __device__ void multiply(const uint32_t *a_tile, const uint32_t *b_tile)
    {
        typedef gan__tile<GAN__FLOAT, HEIGHT> TILE;
        int y = threadIdx.x / 16 * 4, x = threadIdx.x % 16 * 4;
#pragma unroll
        for (int t = 0; t < TILE::TERMS; t++) {
            alignas(16) float a[ROWS];
            alignas(16) float b[COLUMNS];
#pragma unroll
            for (int i = 0; i < ROWS; i += 4)
                *(float4 *)&a[i] = *(const float4 *)&a_tile[TILE::a_at(y + i / 4 * 64, t)];
#pragma unroll
            for (int j = 0; j < COLUMNS; j += 4)
                *(float4 *)&b[j] = *(const float4 *)&b_tile[TILE::b_at(t, x + j / 4 * 64)];
#pragma unroll
            for (int e = 0; e < ROWS * COLUMNS; e++)
                sum[e / COLUMNS][e % COLUMNS] += a[e / COLUMNS] * b[e % COLUMNS];
        }
    }
};

/* ---- Version 3: tensor cores. mma.sync multiplies 16x8 words of A with 8x8 of B; the 32 threads
   of a warp hold the factors and the result between them. Thread = 4*g + t has

       A, 16 rows x 8 words       B, 8 words x 8 columns      C, 16 rows x 8 columns
                t    t+4                      g                        2t  2t+1
       g       a[0]  a[2]             t      b[0]             g       c[0] c[1]
       g+8     a[1]  a[3]             t+4    b[1]             g+8     c[2] c[3]

   A word is one term in tf32 (8 terms, m16n8k8) and two in bf16 (16 terms, m16n8k16). 8 warps
   stand 2 down and 4 across, each with HEIGHT/2 x 32 of C. */

template <gan__number NUMBER, int HEIGHT> struct gan__tensor_results {
    static constexpr int DOWN = HEIGHT / 32, ACROSS = 4; /* 16x8 matrices of a warp */
    static constexpr int ROWS = 2 * DOWN, COLUMNS = 2 * ACROSS;
    float sum[DOWN][ACROSS][4];
    int row0, column0;

    __device__ static int warp_row()
    {
        return threadIdx.x / 32 / 4 * (HEIGHT / 2) + threadIdx.x % 32 / 4;
    }

    __device__ static int warp_column()
    {
        return threadIdx.x / 32 % 4 * 32;
    }

    __device__ int row(int i) const
    {
        return row0 + warp_row() + i / 2 * 16 + i % 2 * 8;
    }

    __device__ int column(int j) const
    {
        return column0 + warp_column() + j / 2 * 8 + threadIdx.x % 4 * 2 + j % 2;
    }

    __device__ float value(int i, int j) const
    {
        return sum[i / 2][j / 2][i % 2 * 2 + j % 2];
    }

    __device__ void clear()
    {
#pragma unroll
        for (int e = 0; e < DOWN * ACROSS * 4; e++)
            sum[e / 4 / ACROSS][e / 4 % ACROSS][e % 4] = 0;
    }

    __device__ void multiply(const uint32_t *a_tile, const uint32_t *b_tile)
    {
        typedef gan__tile<NUMBER, HEIGHT> TILE;
        int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (int w = 0; w < TILE::WORDS; w += 8) {
            uint32_t a[DOWN][4], b[ACROSS][2];
#pragma unroll
            for (int e = 0; e < DOWN * 4; e++)
                a[e / 4][e % 4] =
                    a_tile[TILE::a_at(warp_row() + e / 4 * 16 + e % 2 * 8, w + t + e % 4 / 2 * 4)];
#pragma unroll
            for (int e = 0; e < ACROSS * 2; e++)
                b[e / 2][e % 2] =
                    b_tile[TILE::b_at(w + t + e % 2 * 4, warp_column() + e / 2 * 8 + g)];
#pragma unroll
            for (int e = 0; e < DOWN * ACROSS; e++)
                gan__mma<NUMBER == GAN__BF16>(sum[e / ACROSS][e % ACROSS], a[e / ACROSS],
                                              b[e % ACROSS]);
        }
    }
};

/* Versions 1 and 3: what is multiplied now was copied before, and what is multiplied next is read
   meanwhile.

       terms      0..15        16..31       32..47
       offsets    found        found        found
       read         read         read         read
       write          write        write        write
       multiply           multiply     multiply     multiply     time goes right    */
template <class P, gan__number NUMBER, int HEIGHT, class RESULTS>
__device__ static void gan__gemm_tiles(P &p, const gan__tiling &g, uint32_t *a_tiles,
                                       uint32_t *b_tiles, gan__term *terms)
{
    typedef gan__tile<NUMBER, HEIGHT> TILE;
    gan__place_in_grid at = gan__place_of(g, blockIdx.x);
    int begin, end, now = 0;
    p.select(at.z);
    gan__terms_of(p.k, g.splits, at.split, &begin, &end);
    RESULTS results;
    results.row0 = at.row * HEIGHT;
    results.column0 = at.column * 128;
    if (results.row0 >= p.m || results.column0 >= p.n)
        return; /* a phase that is smaller than the largest; the whole block leaves */
    results.clear();
    gan__copier<P, NUMBER, HEIGHT> copier(p, results.row0, results.column0);
    if (begin < end) {
        gan__find_terms(p, begin, end, terms);
        __syncthreads();
        copier.read(terms, begin, end);
        copier.write(a_tiles, b_tiles);
        gan__find_terms(p, begin + 16, end, terms + 16);
        __syncthreads();
    }
    for (int t0 = begin; t0 < end; t0 += 16, now = 1 - now) {
        bool more = t0 + 16 < end;
        if (more)
            copier.read(terms + (1 - now) * 16, t0 + 16, end);
        results.multiply(a_tiles + now * TILE::A_WORDS, b_tiles + now * TILE::B_WORDS);
        if (more) {
            copier.write(a_tiles + (1 - now) * TILE::A_WORDS, b_tiles + (1 - now) * TILE::B_WORDS);
            gan__find_terms(p, t0 + 32, end, terms + now * 16);
        }
        __syncthreads();
    }
    gan__write_results(p, g, at, results);
}

#define GAN__TILE_MEMORY(NUMBER, HEIGHT)               \
    typedef gan__tile<NUMBER, HEIGHT> TILE;            \
    GAN_SHARED(uint4, a_tiles, 2 * TILE::A_WORDS / 4); \
    GAN_SHARED(uint4, b_tiles, 2 * TILE::B_WORDS / 4); \
    GAN_SHARED(gan__term, terms, 2 * 16)

template <class P, int HEIGHT>
__global__ static void __launch_bounds__(256, HEIGHT == 64 ? 2 : 1)
    gan__gemm_tiled(P p, gan__tiling g)
{
    GAN__TILE_MEMORY(GAN__FLOAT, HEIGHT);
    gan__gemm_tiles<P, GAN__FLOAT, HEIGHT, gan__float_results<HEIGHT>>(p, g, (uint32_t *)a_tiles,
                                                                       (uint32_t *)b_tiles, terms);
}

template <class P, gan__number NUMBER, int HEIGHT>
__global__ static void __launch_bounds__(256, 2) gan__gemm_mma(P p, gan__tiling g)
{
#if GAN__HAS_TENSOR_CORES
    GAN__TILE_MEMORY(NUMBER, HEIGHT);
    gan__gemm_tiles<P, NUMBER, HEIGHT, gan__tensor_results<NUMBER, HEIGHT>>(
        p, g, (uint32_t *)a_tiles, (uint32_t *)b_tiles, terms);
#else
    (void)p;
    (void)g;
    __trap(); /* compiled for a card without them: gan_open refuses before this can run */
#endif
}

/* ---- Version 2: wmma. 4 warps hold 32x32 of C each; cp.async brings the next 16 terms while
   these are multiplied. */

/* Eight numbers where 16- and 32-byte accesses may begin: what shared arrays of tiles are made
   of. */
struct alignas(32) gan__line {
    float at[8];
};

/* 128 threads copy terms t0 .. t0+15 of 64 rows into a, [row][term], 20 apart, and of 64 columns
   into b, [term][column], 68 apart. */
template <class P>
__device__ static void gan__wmma_copy(const P &p, int row0, int column0, int t0, int end, float *a,
                                      float *b)
{
    for (int e = threadIdx.x; e < 64 * 16; e += 128) {
        int row = e / 16, t = e % 16;
        bool inside = t0 + t < end && row0 + row < p.m;
        const float *from = inside ? p.a + (row0 + row) * p.a_row + p.term(t0 + t).a : p.a;
        gan__copy_later(&a[row * 20 + t], from, inside);
    }
    for (int e = threadIdx.x; e < 16 * 64; e += 128) {
        int t = e / 64, column = e % 64;
        bool inside = t0 + t < end && column0 + column < p.n;
        const float *from = p.b;
        if (inside) {
            gan__term term = p.term(t0 + t);
            gan__column there = p.column(column0 + column);
            inside = gan__inside(p, term, there);
            from += inside ? term.b + there.b : 0;
        }
        gan__copy_later(&b[t * 68 + column], from, inside);
    }
    gan__copies_end_group();
}

struct gan__wmma_results {
    static constexpr int ROWS = 32, COLUMNS = 1;
    const float *tile; /* 64 x 64, rows 68 apart */
    int row0, column0;

    __device__ int row(int i) const
    {
        return row0 + 2 * i + threadIdx.x / 64;
    }

    __device__ int column(int) const
    {
        return column0 + threadIdx.x % 64;
    }

    __device__ float value(int i, int) const
    {
        return tile[(2 * i + threadIdx.x / 64) * 68 + threadIdx.x % 64];
    }
};

template <class P> __global__ static void gan__gemm_wmma(P p, gan__tiling g)
{
#if GAN__HAS_TENSOR_CORES
    using namespace nvcuda;
    GAN_SHARED(gan__line, a_lines, 2 * 64 * 20 / 8);
    GAN_SHARED(gan__line, b_lines, 2 * 16 * 68 / 8);
    GAN_SHARED(gan__line, c_lines, 64 * 68 / 8);
    float *a_tiles = a_lines->at, *b_tiles = b_lines->at, *c_tile = c_lines->at;
    gan__place_in_grid at = gan__place_of(g, blockIdx.x);
    int row0 = at.row * 64, column0 = at.column * 64;
    int warp_row = threadIdx.x / 64 * 32, warp_column = threadIdx.x / 32 % 2 * 32;
    int begin, end, now = 0;
    p.select(at.z);
    gan__terms_of(p.k, g.splits, at.split, &begin, &end);
    if (row0 >= p.m || column0 >= p.n)
        return;
    wmma::fragment<wmma::accumulator, 16, 16, 8, float> sum[2][2];
    for (int i = 0; i < 4; i++)
        wmma::fill_fragment(sum[i / 2][i % 2], 0.0f);
    if (begin < end)
        gan__wmma_copy(p, row0, column0, begin, end, a_tiles, b_tiles);
    for (int t0 = begin; t0 < end; t0 += 16, now = 1 - now) {
        const float *a = a_tiles + now * 64 * 20, *b = b_tiles + now * 16 * 68;
        if (t0 + 16 < end) {
            gan__wmma_copy(p, row0, column0, t0 + 16, end, a_tiles + (1 - now) * 64 * 20,
                           b_tiles + (1 - now) * 16 * 68);
            gan__copies_wait<1>();
        } else
            gan__copies_wait<0>();
        __syncthreads();
        for (int t = 0; t < 16; t += 8) {
            wmma::fragment<wmma::matrix_a, 16, 16, 8, wmma::precision::tf32, wmma::row_major> left;
            wmma::fragment<wmma::matrix_b, 16, 16, 8, wmma::precision::tf32, wmma::row_major> right;
            for (int i = 0; i < 4; i++) {
                wmma::load_matrix_sync(left, a + (warp_row + i / 2 * 16) * 20 + t, 20);
                wmma::load_matrix_sync(right, b + t * 68 + warp_column + i % 2 * 16, 68);
                for (int e = 0; e < left.num_elements; e++)
                    left.x[e] = wmma::__float_to_tf32(left.x[e]);
                for (int e = 0; e < right.num_elements; e++)
                    right.x[e] = wmma::__float_to_tf32(right.x[e]);
                wmma::mma_sync(sum[i / 2][i % 2], left, right, sum[i / 2][i % 2]);
            }
        }
        __syncthreads(); /* before the next copies overwrite what is being read */
    }
    for (int i = 0; i < 4; i++)
        wmma::store_matrix_sync(c_tile + (warp_row + i / 2 * 16) * 68 + warp_column + i % 2 * 16,
                                sum[i / 2][i % 2], 68, wmma::mem_row_major);
    __syncthreads();
    gan__wmma_results results = {c_tile, row0, column0};
    gan__write_results(p, g, at, results);
#else
    (void)p;
    (void)g;
    __trap();
#endif
}

/* ---- Thin products, whose time is that of reading, not of multiplying; in exact single
   precision for every device. */

/* M is 1 to 4, as in a layer to 1 or 3 channels: a thread computes a whole column of C. */
struct gan__thin_results {
    static constexpr int ROWS = 4, COLUMNS = 1;
    float sum[ROWS];
    int column0;

    __device__ int row(int i) const
    {
        return i;
    }

    __device__ int column(int) const
    {
        return column0 + threadIdx.x;
    }

    __device__ float value(int i, int) const
    {
        return sum[i];
    }
};

template <class P> __global__ static void gan__gemm_thin(P p, gan__tiling g)
{
    GAN_SHARED(gan__term, terms, 64);
    GAN_SHARED(float4, a, 64); /* four rows of a term */
    gan__place_in_grid at = gan__place_of(g, blockIdx.x);
    int begin, end, thread = threadIdx.x;
    p.select(at.z);
    gan__terms_of(p.k, g.splits, at.split, &begin, &end);
    gan__thin_results results = {{0, 0, 0, 0}, at.column * 256};
    if (results.column0 >= p.n)
        return;
    int j = results.column0 + thread;
    gan__column column = p.column(j < p.n ? j : 0);
    if (j >= p.n)
        column.row = GAN__OUTSIDE;
    for (int t0 = begin; t0 < end; t0 += 64) {
        int count = min(64, end - t0);
        __syncthreads();
        if (thread < count) {
            gan__term term = p.term(t0 + thread);
            float rows[4];
            for (int i = 0; i < 4; i++)
                rows[i] = i < p.m ? p.a[i * p.a_row + term.a] : 0;
            terms[thread] = term;
            a[thread] = make_float4(rows[0], rows[1], rows[2], rows[3]);
        }
        __syncthreads();
        for (int t = 0; t < count; t++) {
            float b = gan__inside(p, terms[t], column) ? p.b[terms[t].b + column.b] : 0;
            float4 rows = a[t];
            results.sum[0] += rows.x * b;
            results.sum[1] += rows.y * b;
            results.sum[2] += rows.z * b;
            results.sum[3] += rows.w * b;
        }
    }
    gan__write_results(p, g, at, results);
}

/* C has few elements and K is long, as in a layer to one number for each image: a block for each
   element. */
template <class P> __global__ static void gan__gemm_dots(P p, gan__tiling g)
{
    GAN_SHARED(double, warp_sums, 8);
    size_t inside = blockIdx.x % g.part;
    p.select((int)(blockIdx.x / g.part));
    if (inside >= (size_t)p.m * p.n)
        return;
    int i = (int)(inside / p.n);
    gan__column column = p.column((int)(inside % p.n));
    float total = 0;
    for (int k = threadIdx.x; k < p.k; k += 256) {
        gan__term term = p.term(k);
        if (gan__inside(p, term, column))
            total += p.a[i * p.a_row + term.a] * p.b[term.b + column.b];
    }
    float sum = (float)gan__block_sum(total, warp_sums);
    if (threadIdx.x == 0)
        p.y[i * p.y_row + column.y] = sum;
}

/* ---- The choice. */

enum {
    GAN__NAIVE, /* versions 0 .. 3 of the table above */
    GAN__TILED,
    GAN__WMMA,
    GAN__MMA,
    GAN__THIN, /* C has up to 4 rows: a thread for each column */
    GAN__DOTS  /* C has few elements and K is long: a block for each element */
};

/* How to compute products of at most m x n x k. */
static int gan__gemm_choice(size_t batches, int m, int n, int k)
{
    if (gan__gemm_version >= 0)
        return gan__gemm_version;
    if ((m <= 4 || n <= 4) && k >= 256 && batches * m * n <= 4096)
        return GAN__DOTS;
    if (m <= 4)
        return GAN__THIN;
    return gan__precision ? GAN__MMA : GAN__TILED;
}

/* Parts of K so that blocks, two for each multiprocessor, fill the card once. A part is 256 terms
   at least. */
static int gan__splits_of(size_t blocks, int k)
{
    size_t wanted = 2 * (size_t)gan__multiprocessors() / blocks;
    size_t most = (size_t)k / 256;
    size_t splits = wanted < most ? wanted : most;
    return splits < 1 ? 1 : (int)splits;
}

template <class P, int HEIGHT>
static void gan__gemm_launch(const char *name, const P &p, int choice, dim3 grid,
                             const gan__tiling &g)
{
    if (choice == GAN__TILED)
        GAN__RUN(name, (gan__gemm_tiled<P, HEIGHT>), grid, 256, p, g);
    else if (gan__precision == 2)
        GAN__RUN(name, (gan__gemm_mma<P, GAN__BF16, HEIGHT>), grid, 256, p, g);
    else
        GAN__RUN(name, (gan__gemm_mma<P, GAN__TF32, HEIGHT>), grid, 256, p, g);
}

/* Refuses a product of which a tensor has more numbers than an int can count, for the kernels'
   offsets are ints. a, b and c: the numbers of A, B and C. */
static void gan__check_numbers(const char *name, double a, double b, double c)
{
    double most = a > b ? a : b;
    most = most > c ? most : c;
    if (most < 2147483648.0)
        return;
    char text[160];
    snprintf(text, sizeof text, "%s of %.0f numbers: 2147483647 is the most, with a smaller batch",
             name, most);
    gan_fail("cuda", text);
}

/* Computes problem p by the version chosen for its sizes: C (m,n) = A (m,k) B (k,n), or the largest
   of them if the batches differ. height x width is the part of C, a tile, that a block computes. */
template <class P> static void gan__gemm(const char *name, const P &p, int m, int n, int k)
{
    size_t batches = (size_t)p.batches();
    int choice = gan__gemm_choice(batches, m, n, k);
    int height = choice == GAN__WMMA || m <= 64 ? 64 : 128;
    int width = choice == GAN__WMMA ? 64 : choice == GAN__THIN ? 256 : 128;
    gan__tiling g = {(m + height - 1) / height, (n + width - 1) / width, 1, (size_t)m * n, NULL};
    size_t blocks = batches * g.rows * g.columns;
    if (choice == GAN__NAIVE) {
        GAN__RUN(name, gan__gemm_naive<P>, gan__blocks(batches * g.part), 256, p, g, (int)batches);
        return;
    }
    if (choice == GAN__DOTS) {
        GAN__RUN(name, gan__gemm_dots<P>, dim3((unsigned)(batches * g.part)), 256, p, g);
        return;
    }
    g.splits = gan__splits_of(blocks, k);
    if (g.splits > 1)
        g.parts = (float *)gan__cuda_scratch(1, batches * g.splits * g.part * sizeof(float));
    dim3 grid((unsigned)(blocks * g.splits));
    if (choice == GAN__WMMA)
        GAN__RUN(name, gan__gemm_wmma<P>, grid, 128, p, g);
    else if (choice == GAN__THIN)
        GAN__RUN(name, gan__gemm_thin<P>, grid, 256, p, g);
    else if (height == 64)
        gan__gemm_launch<P, 64>(name, p, choice, grid, g);
    else
        gan__gemm_launch<P, 128>(name, p, choice, grid, g);
}

extern "C" void gan_cuda_matmul(const gan_product *p, const gan_real *a, const gan_real *b,
                                gan_real *y)
{
    gan__check_numbers("matmul", (double)p->m * p->k, (double)p->k * p->w, (double)p->m * p->w);
    gan__product_problem problem = {};
    problem.p = *p;
    problem.a = a;
    problem.b = b;
    problem.y = y;
    problem.a_by_k = !p->transpose_a; /* (M,K) has neighbours along K in memory, (K,M) along M */
    problem.b_by_k = p->transpose_b;
    problem.a_four = problem.a_by_k && p->k % 4 == 0 && p->a_n % 4 == 0 && p->a_c % 4 == 0 &&
                     gan__aligned(a, a);
    gan__gemm("matmul", problem, p->m, p->w, p->k);
}

/* ===========================================================================================
   >>conv
   =========================================================================================== */

/* A gan_conv with its defaults filled in, what the three problems share. */
struct gan__conv_problem : gan__problem {
    gan_conv p;
    int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int groups, in, out; /* channels of x and of y in a group */
    int oh, ow;

    __host__ __device__ int batches() const
    {
        return groups;
    }
};

template <class P>
static P gan__conv_of(const gan_conv *p, const float *a, const float *b, float *y)
{
    P q = {};
    q.p = *p;
    q.stride_h = p->stride_h ? p->stride_h : p->stride > 1 ? p->stride : 1;
    q.stride_w = p->stride_w ? p->stride_w : p->stride > 1 ? p->stride : 1;
    q.pad_h = p->pad + p->pad_h;
    q.pad_w = p->pad + p->pad_w;
    q.dilation_h = p->dilation_h ? p->dilation_h : p->dilation > 1 ? p->dilation : 1;
    q.dilation_w = p->dilation_w ? p->dilation_w : p->dilation > 1 ? p->dilation : 1;
    q.groups = p->groups > 1 ? p->groups : 1;
    q.in = p->c / q.groups;
    q.out = p->out_c / q.groups;
    q.oh = gan_conv_out_h(p);
    q.ow = gan_conv_out_w(p);
    gan__check_numbers("a convolution", (double)p->n * p->c * p->h * p->w,
                       (double)p->n * p->out_c * q.oh * q.ow,
                       (double)p->out_c * q.in * p->kernel_h * p->kernel_w);
    q.a = a;
    q.b = b;
    q.y = y;
    return q;
}

/* y (O, N*OH*OW) = w (O, C*KH*KW) times the windows of x: a is w, b is x. A column is a pixel of
   y, a term (c,u,v) an element of the kernel. */
struct gan__conv_forward : gan__conv_problem {
    __host__ __device__ void select(int z)
    {
        m = out;
        n = p.n * oh * ow;
        k = in * p.kernel_h * p.kernel_w;
        a += (size_t)z * out * k;
        b += (size_t)z * in * p.h * p.w;
        y += (size_t)z * out * oh * ow;
        a_row = k;
        y_row = oh * ow;
        b_rows = p.h;
        b_columns = p.w;
    }

    __device__ gan__column column(int j) const
    {
        int image = j / (oh * ow), pixel = j % (oh * ow);
        int row = pixel / ow * stride_h - pad_h, column = pixel % ow * stride_w - pad_w;
        return {(image * p.c * p.h + row) * p.w + column, image * p.out_c * oh * ow + pixel, row,
                column};
    }

    __device__ gan__term term(int t) const
    {
        int v = t % p.kernel_w, u = t / p.kernel_w % p.kernel_h;
        int channel = t / (p.kernel_h * p.kernel_w);
        int row = u * dilation_h, column = v * dilation_w;
        return {t, (channel * p.h + row) * p.w + column, row, column};
    }
};

/* One axis of a phase of the transposed convolution. Row `phase + stride*i` of x meets the rows
   u = first, first + step, .. of the kernel, and there the rows i + at, i + at - apart, .. of y.

       stride 2, kernel 4, pad 1     row of x      0    1    2    3    4
                                     phase         0    1    0    1    0
                                     rows u       1 3  0 2  1 3  0 2  1 3          */
struct gan__phase {
    int phase, count; /* of the rows of x */
    int first, step, taps;
    int at, apart;
};

__host__ __device__ static gan__phase gan__phase_of(int phase, int size, int kernel, int stride,
                                                    int pad, int dilation)
{
    gan__phase f = {phase, size > phase ? (size - phase + stride - 1) / stride : 0, 0, 1, 0, 0, 0};
    while (f.step * dilation % stride) /* stride / (greatest common divisor with dilation) */
        f.step++;
    while (f.first < f.step && (phase + pad - f.first * dilation) % stride)
        f.first++;
    if (f.first == f.step)
        return f; /* no row of the kernel meets this phase */
    f.taps = kernel > f.first ? (kernel - f.first + f.step - 1) / f.step : 0;
    f.at = (phase + pad - f.first * dilation) / stride;
    f.apart = f.step * dilation / stride;
    return f;
}

/* x (C, N*H*W) = w^T times y: a is w, b is y, y is x. The pixels of x with the same remainders by
   the strides meet the same elements of the kernel: each such phase is a problem of its own. */
struct gan__conv_data : gan__conv_problem {
    gan__phase down, across;

    __host__ __device__ int batches() const
    {
        return groups * stride_h * stride_w;
    }

    __host__ __device__ void select(int z)
    {
        int group = z / (stride_h * stride_w);
        down = gan__phase_of(z / stride_w % stride_h, p.h, p.kernel_h, stride_h, pad_h, dilation_h);
        across = gan__phase_of(z % stride_w, p.w, p.kernel_w, stride_w, pad_w, dilation_w);
        m = in;
        n = p.n * down.count * across.count;
        k = out * down.taps * across.taps;
        a += (size_t)group * out * in * p.kernel_h * p.kernel_w;
        b += (size_t)group * out * oh * ow;
        y += (size_t)group * in * p.h * p.w;
        a_row = p.kernel_h * p.kernel_w;
        y_row = p.h * p.w;
        b_rows = oh;
        b_columns = ow;
    }

    __device__ gan__column column(int j) const
    {
        int image = j / (down.count * across.count);
        int i = j / across.count % down.count;
        int row = i + down.at, column = j % across.count + across.at;
        int to_row = i * stride_h + down.phase;
        int to_column = j % across.count * stride_w + across.phase;
        return {(image * p.out_c * oh + row) * ow + column,
                (image * p.c * p.h + to_row) * p.w + to_column, row, column};
    }

    __device__ gan__term term(int t) const
    {
        int v = t % across.taps, u = t / across.taps % down.taps;
        int channel = t / across.taps / down.taps;
        int kernel = (down.first + u * down.step) * p.kernel_w + across.first + v * across.step;
        int row = -u * down.apart, column = -v * across.apart;
        return {channel * in * p.kernel_h * p.kernel_w + kernel, (channel * oh + row) * ow + column,
                row, column};
    }
};

/* w (O, C*KH*KW) = y (O, N*OH*OW) times the windows of x, transposed: a is y, b is x, y is w. A
   column is (c,u,v), an element of the kernel, a term a pixel of y. */
struct gan__conv_weight : gan__conv_problem {
    __host__ __device__ void select(int z)
    {
        m = out;
        n = in * p.kernel_h * p.kernel_w;
        k = p.n * oh * ow;
        a += (size_t)z * out * oh * ow;
        b += (size_t)z * in * p.h * p.w;
        y += (size_t)z * out * n;
        a_row = oh * ow;
        y_row = n;
        b_rows = p.h;
        b_columns = p.w;
    }

    __device__ gan__column column(int j) const
    {
        int v = j % p.kernel_w, u = j / p.kernel_w % p.kernel_h;
        int channel = j / (p.kernel_h * p.kernel_w);
        int row = u * dilation_h - pad_h, column = v * dilation_w - pad_w;
        return {(channel * p.h + row) * p.w + column, j, row, column};
    }

    __device__ gan__term term(int t) const
    {
        int image = t / (oh * ow), pixel = t % (oh * ow);
        int row = pixel / ow * stride_h, column = pixel % ow * stride_w;
        return {image * p.out_c * oh * ow + pixel, (image * p.c * p.h + row) * p.w + column, row,
                column};
    }
};

extern "C" void gan_cuda_conv2d(const gan_conv *p, const gan_real *x, const gan_real *w,
                                gan_real *y)
{
    gan__conv_forward q = gan__conv_of<gan__conv_forward>(p, w, x, y);
    int k = q.in * p->kernel_h * p->kernel_w;
    q.a_by_k = true;
    q.a_four = k % 4 == 0 && gan__aligned(w, w);
    gan__gemm("conv2d", q, q.out, p->n * q.oh * q.ow, k);
}

extern "C" void gan_cuda_conv_transpose2d(const gan_conv *p, const gan_real *y, const gan_real *w,
                                          gan_real *x)
{
    gan__conv_data q = gan__conv_of<gan__conv_data>(p, w, y, x);
    int n = 0, k = 0;
    for (int z = 0; z < q.stride_h * q.stride_w; z++) {
        gan__conv_data phase = q;
        phase.select(z);
        n = n > phase.n ? n : phase.n;
        k = k > phase.k ? k : phase.k;
    }
    gan__gemm("conv_transpose2d", q, q.in, n, k);
}

extern "C" void gan_cuda_conv2d_weight(const gan_conv *p, const gan_real *x, const gan_real *y,
                                       gan_real *w)
{
    gan__conv_weight q = gan__conv_of<gan__conv_weight>(p, y, x, w);
    q.a_by_k = q.b_by_k = true;
    q.a_four = q.oh * q.ow % 4 == 0 && gan__aligned(y, y);
    gan__gemm("conv2d_weight", q, q.out, q.in * p->kernel_h * p->kernel_w, p->n * q.oh * q.ow);
}

/* ===========================================================================================
   >>resample
   =========================================================================================== */

__global__ static void gan__resample_kernel(gan_resample p, const float *x, const float *rows,
                                            const float *columns, float *y)
{
    GAN__EACH(at, (size_t)p.n * p.c * p.out_h * p.out_w)
    {
        int j = (int)(at % p.out_w), i = (int)(at / p.out_w % p.out_h);
        size_t plane = at / p.out_w / p.out_h;
        size_t image = p.images > 1 ? plane / p.c : 0;
        const float *r = rows + 2 * (image * p.out_h + i) * p.taps_h;
        const float *c = columns + 2 * (image * p.out_w + j) * p.taps_w;
        const float *from = x + plane * p.h * p.w;
        float total = 0;
        for (int a = 0; a < p.taps_h; a++)
            for (int b = 0; b < p.taps_w && r[2 * a] >= 0; b++)
                if (c[2 * b] >= 0)
                    total += r[2 * a + 1] * c[2 * b + 1] *
                             from[(size_t)r[2 * a] * p.w + (size_t)c[2 * b]];
        y[at] = total;
    }
}

/* The adjoint in two passes, first along columns into lines (N,C,OUT_H,W), then along rows. In
   each a thread owns a whole line or column of what it writes and adds in the table's order, so
   that no two threads add to one number. */
__global__ static void gan__resample_columns_kernel(gan_resample p, const float *y,
                                                    const float *columns, float *lines)
{
    GAN__EACH(line, (size_t)p.n * p.c * p.out_h)
    {
        size_t plane = line / p.out_h;
        size_t image = p.images > 1 ? plane / p.c : 0;
        float *to = lines + line * p.w;
        for (int k = 0; k < p.w; k++)
            to[k] = 0;
        for (int j = 0; j < p.out_w; j++)
            for (int b = 0; b < p.taps_w; b++) {
                const float *tap = columns + 2 * ((image * p.out_w + j) * p.taps_w + b);
                if (tap[0] >= 0)
                    to[(int)tap[0]] += tap[1] * y[line * p.out_w + j];
            }
    }
}

__global__ static void gan__resample_rows_kernel(gan_resample p, const float *lines,
                                                 const float *rows, float *x)
{
    GAN__EACH(at, (size_t)p.n * p.c * p.w)
    {
        size_t plane = at / p.w;
        size_t k = at % p.w;
        size_t image = p.images > 1 ? plane / p.c : 0;
        for (int i = 0; i < p.h; i++)
            x[(plane * p.h + i) * p.w + k] = 0;
        for (int i = 0; i < p.out_h; i++)
            for (int a = 0; a < p.taps_h; a++) {
                const float *tap = rows + 2 * ((image * p.out_h + i) * p.taps_h + a);
                if (tap[0] >= 0)
                    x[(plane * p.h + (size_t)tap[0]) * p.w + k] +=
                        tap[1] * lines[(plane * p.out_h + i) * p.w + k];
            }
    }
}

extern "C" void gan_cuda_resample(const gan_resample *p, const gan_real *x, const gan_real *rows,
                                  const gan_real *columns, gan_real *y)
{
    size_t planes = (size_t)p->n * p->c;
    if (!p->adjoint)
        GAN__RUN("resample", gan__resample_kernel, gan__blocks(planes * p->out_h * p->out_w), 256,
                 *p, x, rows, columns, y);
    else {
        float *lines = (float *)gan__cuda_scratch(0, planes * p->out_h * p->w * sizeof(float));
        GAN__RUN("resample", gan__resample_columns_kernel, gan__blocks(planes * p->out_h), 256, *p,
                 x, columns, lines);
        GAN__RUN("resample", gan__resample_rows_kernel, gan__blocks(planes * p->w), 256, *p, lines,
                 rows, y);
    }
}

__global__ static void gan__max_index_kernel(gan_pool p, const float *x, float *y)
{
    GAN__EACH(at, (size_t)p.planes * p.out_h * p.out_w)
    {
        int j = (int)(at % p.out_w);
        int i = (int)(at / p.out_w % p.out_h);
        int best = -1;
        const float *plane = x + at / p.out_w / p.out_h * p.h * p.w;
        for (int u = 0; u < p.kernel_h; u++)
            for (int v = 0; v < p.kernel_w; v++) {
                int row = i * p.stride_h + u - p.pad_h;
                int column = j * p.stride_w + v - p.pad_w;
                int here = row * p.w + column;
                if (row < 0 || row >= p.h || column < 0 || column >= p.w)
                    continue;
                if (best < 0 || plane[here] > plane[best] || plane[here] != plane[here])
                    best = here;
            }
        y[at] = (float)best;
    }
}

extern "C" void gan_cuda_max_index(const gan_pool *p, const gan_real *x, gan_real *y)
{
    gan_pool q = *p; /* with the defaults of its axes filled in */
    q.stride_h = p->stride_h ? p->stride_h : p->stride > 1 ? p->stride : 1;
    q.stride_w = p->stride_w ? p->stride_w : p->stride > 1 ? p->stride : 1;
    q.pad_h = p->pad + p->pad_h;
    q.pad_w = p->pad + p->pad_w;
    GAN__RUN("max_index", gan__max_index_kernel,
             gan__blocks((size_t)p->planes * p->out_h * p->out_w), 256, q, x, y);
}

/* ===========================================================================================
   >>norm
   ===========================================================================================
   A channel's numbers are cut into parts, and a block sums each. How many parts there are depends
   on the sizes alone, so that the same numbers are added in the same order on every card; sums are
   in double. The variance comes from the squares of x - x_0, with x_0 the channel's first number:
   those of x would lose a small variance to rounding where the mean is large. */

struct gan__norm_parts {
    int count;   /* parts of a channel */
    size_t size; /* numbers in a part; the last one may have fewer */
};

/* About 1024 blocks for all channels together, which fill a card, and at least 2048 numbers in a
   part, which are worth a block. */
static gan__norm_parts gan__parts_of(const gan_norm *p)
{
    size_t count = p->n * p->size;
    size_t wanted = 1024 / (size_t)p->c;
    size_t most = count / 2048;
    gan__norm_parts parts;
    parts.count = (int)(wanted < 1 || most < 1 ? 1 : wanted < most ? wanted : most);
    parts.size = (count + parts.count - 1) / parts.count;
    return parts;
}

/* The results of channel c from its two sums over v and v*d, d = x - center:
     norm_sums (stats given)    v = gy, center = mean: sum of gy, and sum of gy*xhat
     norm_stats (stats NULL)    v = d, center = x_0: mean, and variance (divided by the count) */
__device__ static void gan__norm_finish(const gan_norm &p, size_t c, const float *x,
                                        const float *stats, double sum_v, double sum_vd, float *out)
{
    double count = (double)p.n * (double)p.size;
    if (stats) {
        out[c] = (float)sum_v;
        out[p.c + c] = (float)(sum_vd / sqrt((double)stats[p.c + c] + p.eps));
        return;
    }
    double var = sum_vd / count - sum_v / count * (sum_v / count);
    bool keep = var > 0 || var != var; /* rounding can make it negative; NaN stays NaN */
    out[c] = (float)(x[c * p.size] + sum_v / count);
    out[p.c + c] = (float)(keep ? var : 0);
}

/* Block c*parts.count + part sums v and v*d over a part of channel c. The last block of a channel
   that is done adds the parts' sums, always in the same order. */
__global__ static void gan__norm_sums_kernel(gan_norm p, gan__norm_parts parts, const float *gy,
                                             const float *x, const float *stats, double *sums,
                                             float *out)
{
    GAN_SHARED(double, warp_sums, 8);
    size_t c = blockIdx.x / parts.count, part = blockIdx.x % parts.count;
    size_t end = min((part + 1) * parts.size, p.n * p.size);
    unsigned size = (unsigned)p.size;
    float center = stats ? stats[c] : x[c * p.size];
    double sum_v = 0, sum_vd = 0;
    for (size_t i = part * parts.size + threadIdx.x; i < end; i += blockDim.x) {
        unsigned image = (unsigned)i / size, pixel = (unsigned)i % size;
        size_t at = ((size_t)image * p.c + c) * size + pixel;
        float d = x[at] - center;
        float v = gy ? gy[at] : d;
        sum_v += v;
        sum_vd += (double)v * d;
    }
    sum_v = gan__block_sum(sum_v, warp_sums);
    sum_vd = gan__block_sum(sum_vd, warp_sums);
    if (parts.count > 1) {
        if (threadIdx.x == 0) {
            sums[2 * blockIdx.x] = sum_v;
            sums[2 * blockIdx.x + 1] = sum_vd;
        }
        if (!gan__last_block(&gan__arrivals[c], parts.count))
            return;
        sum_v = 0;
        sum_vd = 0;
        for (int k = 0; k < parts.count && threadIdx.x == 0; k++) {
            sum_v += __ldcg(&sums[2 * (c * parts.count + k)]);
            sum_vd += __ldcg(&sums[2 * (c * parts.count + k) + 1]);
        }
    }
    if (threadIdx.x == 0)
        gan__norm_finish(p, c, x, stats, sum_v, sum_vd, out);
}

static void gan__norm_sums_of(const char *name, const gan_norm *p, const float *gy, const float *x,
                              const float *stats, float *out)
{
    gan__norm_parts parts = gan__parts_of(p);
    double *sums = NULL;
    if (parts.count > 1)
        sums = (double *)gan__cuda_scratch(0, 2 * (size_t)p->c * parts.count * sizeof(double));
    unsigned threads = parts.size < 256 ? 32 : 256;
    GAN__RUN(name, gan__norm_sums_kernel, dim3((unsigned)(p->c * parts.count)), threads, *p, parts,
             gy, x, stats, sums, out);
}

extern "C" void gan_cuda_norm_stats(const gan_norm *p, const gan_real *x, gan_real *stats)
{
    gan__norm_sums_of("norm_stats", p, NULL, x, NULL, stats);
}

extern "C" void gan_cuda_norm_sums(const gan_norm *p, const gan_real *gy, const gan_real *x,
                                   const gan_real *stats, gan_real *sums)
{
    gan__norm_sums_of("norm_sums", p, gy, x, stats, sums);
}

/* out = a*gy + b*(x - mean) + shift, with a channel's a, b and shift. For norm_apply gy is NULL and
   the first term missing; for norm_grad gan__norm_grad_body of gan.h has the formula. four: numbers
   are read and written by fours, for which size is a multiple of 4 and addresses are of 16. */
__global__ static void gan__norm_line_kernel(gan_norm p, const float *gy, const float *x,
                                             const float *stats, const float *weight,
                                             const float *bias, const float *sums, float *out,
                                             bool four)
{
    size_t count = (size_t)p.n * p.c * p.size / (four ? 4 : 1);
    size_t size = p.size / (four ? 4 : 1);
    GAN__EACH(i, count)
    {
        size_t c = i / size % p.c;
        double inverse = 1 / sqrt((double)stats[p.c + c] + p.eps);
        double total = (double)p.n * (double)p.size;
        float a = (float)(weight[c] * inverse);
        float mean = stats[c];
        float b = a;
        float shift = gy ? 0 : bias[c];
        if (gy) {
            b = p.frozen ? 0 : (float)(-a * inverse * sums[p.c + c] / total);
            shift = p.frozen ? 0 : (float)(-a * sums[c] / total);
        }
        if (four) {
            float4 v = ((const float4 *)x)[i];
            float4 u = gy ? ((const float4 *)gy)[i] : make_float4(0, 0, 0, 0);
            v.x = a * u.x + (b * (v.x - mean) + shift);
            v.y = a * u.y + (b * (v.y - mean) + shift);
            v.z = a * u.z + (b * (v.z - mean) + shift);
            v.w = a * u.w + (b * (v.w - mean) + shift);
            ((float4 *)out)[i] = v;
        } else
            out[i] = (gy ? a * gy[i] : 0) + (b * (x[i] - mean) + shift);
    }
}

static void gan__norm_line(const char *name, const gan_norm *p, const float *gy, const float *x,
                           const float *stats, const float *weight, const float *bias,
                           const float *sums, float *out)
{
    bool four = p->size % 4 == 0 && gan__aligned(x, out) && gan__aligned(gy, gy);
    GAN__RUN(name, gan__norm_line_kernel,
             gan__blocks((size_t)p->n * p->c * p->size / (four ? 4 : 1)), 256, *p, gy, x, stats,
             weight, bias, sums, out, four);
}

extern "C" void gan_cuda_norm_apply(const gan_norm *p, const gan_real *x, const gan_real *stats,
                                    const gan_real *weight, const gan_real *bias, gan_real *y)
{
    gan__norm_line("norm_apply", p, NULL, x, stats, weight, bias, NULL, y);
}

extern "C" void gan_cuda_norm_grad(const gan_norm *p, const gan_real *gy, const gan_real *x,
                                   const gan_real *stats, const gan_real *weight,
                                   const gan_real *sums, gan_real *gx)
{
    gan__norm_line("norm_grad", p, gy, x, stats, weight, NULL, sums, gx);
}

/* ===========================================================================================
   >>optim
   ===========================================================================================
   gan_step updates one parameter after the other, and many are so small that a launch takes longer
   than its work. So updates are queued here, and one launch does all of them: when the queue is
   full, or before anything else runs. */

enum { GAN__SGD_STEP, GAN__ADAM_STEP, GAN__RMSPROP_STEP };

struct gan__queued_update {
    gan_update p;
    const gan_update *noted; /* where a recorded step finds p on the device, or NULL */
    const float *g;
    float *w, *m, *v;
    size_t first_block; /* of the launch, that works for this parameter */
};

enum { GAN__QUEUE_SIZE = 32 }; /* CUDA allows a kernel 4 KiB of arguments */

struct gan__update_queue {
    int kind, count;
    gan__queued_update updates[GAN__QUEUE_SIZE];
};

static gan__update_queue gan__queue;
static size_t gan__queue_blocks; /* of all queued updates */

__device__ static void gan__update_one(int kind, const gan_update &p, float g, float *w, float *m,
                                       float *v)
{
    if (kind == GAN__SGD_STEP) {
        *m = p.beta1 * *m + g;
        *w -= p.lr * *m;
    } else if (kind == GAN__ADAM_STEP) {
        *m = p.beta1 * *m + (1 - p.beta1) * g;
        *v = p.beta2 * *v + (1 - p.beta2) * g * g;
        *w = (1 - p.lr * p.decay) * *w - p.lr * (*m / p.bias1) / (sqrtf(*v / p.bias2) + p.eps);
    } else {
        *m = p.beta2 * *m + (1 - p.beta2) * g * g;
        *w -= p.lr * g / (sqrtf(*m) + p.eps);
    }
}

/* A block of 256 threads updates 1024 numbers of one parameter, each thread four of them. Which
   parameter follows from the blocks' numbers. */
__global__ static void gan__update_kernel(gan__update_queue queue)
{
    int which = 0;
    while (which + 1 < queue.count && blockIdx.x >= queue.updates[which + 1].first_block)
        which++;
    const gan__queued_update &u = queue.updates[which];
    const gan_update p = u.noted ? *u.noted : u.p;
    for (int round = 0; round < 4; round++) {
        size_t i = (blockIdx.x - u.first_block) * 1024 + round * 256 + threadIdx.x;
        if (i < u.p.count)
            gan__update_one(queue.kind, p, u.g[i], u.w + i, u.m + i, u.v ? u.v + i : NULL);
    }
}

/* Launches what is queued. */
static void gan__launch_updates(void)
{
    if (gan__queue.count == 0)
        return;
    static const char *const names[] = {"sgd", "adam", "rmsprop"}; /* by kind */
    const gan_update *last = &gan__queue.updates[gan__queue.count - 1].p;
    gan__remember_launch(names[gan__queue.kind], last);
    GAN_LAUNCH(gan__update_kernel, dim3((unsigned)gan__queue_blocks), 256, gan__stream, gan__queue);
    gan__queue.count = 0;
    gan__queue_blocks = 0;
    gan__cuda_check(cudaGetLastError(), "a launch of gan__update_kernel");
}

/* Queues one parameter's update. All in the queue are of one kind. */
static void gan__queue_update(int kind, const gan_update *p, const float *g, float *w, float *m,
                              float *v)
{
    if (p->count == 0)
        return;
    if (gan__queue.count == GAN__QUEUE_SIZE || (gan__queue.count && gan__queue.kind != kind))
        gan__launch_updates();
    const gan_update *noted = (const gan_update *)gan__note(p, sizeof *p);
    gan__queued_update update = {*p, noted, g, w, m, v, gan__queue_blocks};
    gan__queue.kind = kind;
    gan__queue.updates[gan__queue.count++] = update;
    gan__queue_blocks += (p->count + 1023) / 1024;
}

extern "C" void gan_cuda_sgd(const gan_update *p, const gan_real *g, gan_real *w, gan_real *m)
{
    gan__queue_update(GAN__SGD_STEP, p, g, w, m, NULL);
}

extern "C" void gan_cuda_adam(const gan_update *p, const gan_real *g, gan_real *w, gan_real *m,
                              gan_real *v)
{
    gan__queue_update(GAN__ADAM_STEP, p, g, w, m, v);
}

extern "C" void gan_cuda_rmsprop(const gan_update *p, const gan_real *g, gan_real *w, gan_real *v)
{
    gan__queue_update(GAN__RMSPROP_STEP, p, g, w, v, NULL);
}

/* Waits until everything launched so far is done: before the host reads what bare kernels wrote,
   or a clock. */
extern "C" void gan_cuda_synchronize(void)
{
    gan__launch_updates();
    GAN__CHECK(cudaStreamSynchronize(gan__stream));
}

/* ===========================================================================================
   The backends
   =========================================================================================== */

/* Kernels like gan__tf32_matmul, which compute a product in the precision of that name, and
   gan__use_tf32, which puts them into a backend. */
#define GAN__PRECISE(precision, number, kernel, type)                                            \
    static void gan__##precision##_##kernel(const type *p, const gan_real *a, const gan_real *b, \
                                            gan_real *y)                                         \
    {                                                                                            \
        gan__precision = number;                                                                 \
        gan_cuda_##kernel(p, a, b, y);                                                           \
        gan__precision = 0;                                                                      \
    }
#define GAN__PRECISE_ALL(precision, number)                        \
    GAN__PRECISE(precision, number, matmul, gan_product)           \
    GAN__PRECISE(precision, number, conv2d, gan_conv)              \
    GAN__PRECISE(precision, number, conv_transpose2d, gan_conv)    \
    GAN__PRECISE(precision, number, conv2d_weight, gan_conv)       \
    static void gan__use_##precision(gan_backend *b)               \
    {                                                              \
        b->matmul = gan__##precision##_matmul;                     \
        b->conv2d = gan__##precision##_conv2d;                     \
        b->conv_transpose2d = gan__##precision##_conv_transpose2d; \
        b->conv2d_weight = gan__##precision##_conv2d_weight;       \
    }
GAN__PRECISE_ALL(tf32, 1)
GAN__PRECISE_ALL(bf16, 2)

/* The tensor cores multiply tf32 and bf16 from compute capability 8.0 on. */
static const char *gan__cuda_start_tensor(void)
{
    static char text[512];
    const char *why = gan__cuda_start();
    cudaDeviceProp card;
    if (why)
        return why;
    if (cudaGetDeviceProperties(&card, 0) == cudaSuccess && card.major < 8) {
        snprintf(text, sizeof text,
                 "%s has no tensor cores for tf32 and bf16 (compute capability %d.%d, 8.0 is "
                 "wanted): use \"cuda\"",
                 card.name, card.major, card.minor);
        return text;
    }
    if (gan__code_for_this_card() < 80)
        return gan__wrong_code("was compiled for older cards than 8.0 and does not use the tensor "
                               "cores");
    return NULL;
}

/* Runs before main, so that a program only has to be linked to this file to find the three devices.
   The backends of "cuda:tf32" and "cuda:bf16" differ from "cuda" in the products alone. */
static bool gan__cuda_register(void)
{
    gan_backend b = {"cuda",
                     gan__cuda_start,
                     gan__cuda_alloc,
                     gan__cuda_release,
                     gan__cuda_upload,
                     gan__cuda_download,
                     gan__cuda_record,
                     gan__cuda_noted,
                     gan__cuda_recorded,
                     gan__cuda_play,
                     gan__cuda_forget,
                     gan_cuda_fill,
                     gan_cuda_random,
                     gan_cuda_map,
                     gan_cuda_zip,
                     gan_cuda_copy,
                     gan_cuda_sum,
                     gan_cuda_matmul,
                     gan_cuda_conv2d,
                     gan_cuda_conv_transpose2d,
                     gan_cuda_conv2d_weight,
                     gan_cuda_norm_stats,
                     gan_cuda_norm_apply,
                     gan_cuda_norm_sums,
                     gan_cuda_norm_grad,
                     gan_cuda_resample,
                     gan_cuda_gather,
                     gan_cuda_max_index,
                     gan_cuda_softmax,
                     gan_cuda_softmax_grad,
                     gan_cuda_sgd,
                     gan_cuda_adam,
                     gan_cuda_rmsprop};
    static_assert(sizeof b == offsetof(gan_backend, fill) + 22 * sizeof(void (*)()),
                  "gan_backend has another number of kernels than this table");
    gan_backend tf32 = b, bf16 = b;
    tf32.name = "cuda:tf32";
    bf16.name = "cuda:bf16";
    tf32.start = bf16.start = gan__cuda_start_tensor;
    gan__use_tf32(&tf32);
    gan__use_bf16(&bf16);
    return gan_register_backend(&b) && gan_register_backend(&tf32) && gan_register_backend(&bf16);
}

static const bool gan__cuda_registered = gan__cuda_register();
