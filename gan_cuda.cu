/* gan_cuda.cu - gan.h's kernels on an NVIDIA GPU. Compile it beside your program and
   gan_open("cuda", seed) is there:

       nvcc -O3 -c gan_cuda.cu && cc -O2 main.c gan_cuda.o -lcudart -lstdc++ -lm

   Devices: "cuda" is exact single precision; "cuda:tf32" and "cuda:bf16" let the tensor cores do
   products and convolutions, whose factors are then rounded to 10 or 7 bits after the point.
   Results agree with the CPU's to rounding, and the same seed gives the same bits on every run
   of the same card: nothing is added up in an order that chance decides, no atomics on
   floating-point numbers.

   The chapters have gan.h's tags in gan.h's order. Each bare kernel gan_cuda_NAME has the
   signature of gan_ref_NAME with device pointers. The arithmetic of every kernel is gan.h's,
   whose comments hold the formulas; the comments here say who computes what: a grid of blocks of
   threads, 32 threads a warp. Without a GPU the same file runs on the CPU by
   tests/cuda_on_cpu.h, which gives CUDA's words a meaning there.

   In gan.h's words: number type float only; a program made with GAN_STATIC cannot link to this
   file. */
#ifdef GAN_CUDA_ON_CPU
#include "tests/cuda_on_cpu.h"
#else
#include <cuda_runtime.h>
#include <cuda_bf16.h>
#include <mma.h>
#define GAN_SHARED(type, name, count)                __shared__ type name[count]
#define GAN_LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#endif
/* gan.h's functions that both compute with: Philox, and the elementwise operations. */
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

/* The kernel launched last, its sizes and what puts them into words: for messages, so that a
   launch only copies. */
static struct {
    const char *name;
    alignas(16) char sizes[128];
    void (*say)(const char *sizes, char *text, size_t room);
} gan__last;

static void gan__say(const gan_fill &p, char *text, size_t room)
{
    snprintf(text, room, "%zu numbers", p.count);
}

static void gan__say(const gan_random &p, char *text, size_t room)
{
    snprintf(text, room, "%zu numbers", p.count);
}

static void gan__say(const gan_map &p, char *text, size_t room)
{
    snprintf(text, room, "operation %d, %zu numbers", p.op, p.count);
}

static void gan__say(const gan_update &p, char *text, size_t room)
{
    snprintf(text, room, "the last parameter has %zu numbers", p.count);
}

static void gan__say(const gan_zip &p, char *text, size_t room)
{
    snprintf(text, room, "operation %d, (%d,%d,%d,%d)", p.op, p.n, p.c, p.h, p.w);
}

static void gan__say(const gan_copy &p, char *text, size_t room)
{
    snprintf(text, room, "(%d,%d,%d,%d)", p.n, p.c, p.h, p.w);
}

static void gan__say(const gan_sums &p, char *text, size_t room)
{
    snprintf(text, room, "(%d,%d,%d,%d) -> (%d,%d,%d,%d)", p.in[0], p.in[1], p.in[2], p.in[3],
             p.out[0], p.out[1], p.out[2], p.out[3]);
}

static void gan__say(const gan_product &p, char *text, size_t room)
{
    snprintf(text, room, "%d x %d times (%d,%d)%s (%d,%d)%s", p.n, p.c, p.m, p.k,
             p.transpose_a ? " transposed" : "", p.k, p.w, p.transpose_b ? " transposed" : "");
}

static void gan__say(const gan_conv &p, char *text, size_t room)
{
    snprintf(
        text, room,
        "(%d,%d,%d,%d) -> (%d,%d,%d,%d), kernel %dx%d, stride %d, pad %d, groups %d, dilation %d",
        p.n, p.c, p.h, p.w, p.n, p.out_c, gan_conv_out_h(&p), gan_conv_out_w(&p), p.kernel_h,
        p.kernel_w, p.stride, p.pad, p.groups, p.dilation);
}

static void gan__say(const gan_norm &p, char *text, size_t room)
{
    snprintf(text, room, "(%d,%d,%zu)", p.n, p.c, p.size);
}

static void gan__say(const gan_resample &p, char *text, size_t room)
{
    snprintf(text, room, "(%d,%d,%d,%d) -> %d x %d%s", p.n, p.c, p.h, p.w, p.out_h, p.out_w,
             p.adjoint ? ", the adjoint" : "");
}

static void gan__say(const gan_index &p, char *text, size_t room)
{
    snprintf(text, room, "(%zu,%zu,%zu) -> (%zu,%zu,%zu)%s", p.outer, p.in, p.inner, p.outer, p.out,
             p.inner, p.adjoint ? ", the adjoint" : "");
}

static void gan__say(const gan_pool &p, char *text, size_t room)
{
    snprintf(text, room, "%d planes of %d x %d -> %d x %d", p.planes, p.h, p.w, p.out_h, p.out_w);
}

static void gan__say(const gan_lines &p, char *text, size_t room)
{
    snprintf(text, room, "(%zu,%zu,%zu)", p.outer, p.count, p.inner);
}

template <class T> static void gan__say_sizes(const char *sizes, char *text, size_t room)
{
    gan__say(*(const T *)sizes, text, room);
}

/* A kernel is to be launched: p is its sizes, or a problem of the product that holds them. */
template <class T> static void gan__launching(const char *name, const T *p)
{
    static_assert(sizeof *p <= sizeof gan__last.sizes, "room for the sizes of every kernel");
    gan__last.name = name, gan__last.say = gan__say_sizes<T>;
    memcpy(gan__last.sizes, p, sizeof *p);
}

template <class P> static void gan__launching(const char *name, const P &problem)
{
    gan__launching(name, &problem.p);
}

/* Ends the program, or calls gan_on_error's function, where a CUDA call fails that should not. A
   kernel that goes wrong shows in a later call. */
static void gan__cuda_check(cudaError_t status, const char *call)
{
    if (status == cudaSuccess)
        return;
    char text[768], sizes[256] = "";
    if (gan__last.say)
        gan__last.say(gan__last.sizes, sizes, sizeof sizes);
    snprintf(text, sizeof text, "%s failed: %s%s%s%s%s", call, cudaGetErrorString(status),
             gan__last.name ? "; the last kernel was " : "", gan__last.name ? gan__last.name : "",
             gan__last.say ? ", " : "", sizes);
    gan_fail("cuda", text);
}

#define GAN__CHECK(call) gan__cuda_check(call, #call)

/* ===========================================================================================
   >>kernels
   =========================================================================================== */

static cudaStream_t gan__stream;
static int gan__precision; /* of products: 0 float, 1 tf32, 2 bf16 */
static int gan__gemm_version =
    -1; /* chosen by gan_cuda_set_version; -1: the best for the precision */

/* Chooses the version of the product: 0 naive, 1 tiled, 2 tensor cores in tf32, 3 in bf16; -1
   the best for the device's name. */
extern "C" void gan_cuda_set_version(int version)
{
    gan__gemm_version = version;
}

static void gan__flush(void);

/* A launch of kernel, with p where it stands as the sizes that a message tells; the update
   kernels that wait go first. */
#define GAN__RUN(name, kernel, grid, block, ...)                     \
    do {                                                             \
        gan__flush();                                                \
        gan__launching(name, p);                                     \
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
        if (cudaMalloc(&gan__scratch[which], 2 * bytes) == cudaErrorMemoryAllocation) {
            char text[160];
            snprintf(text, sizeof text,
                     "no memory on the GPU for %.0f bytes of scratch: a smaller batch, or \"cpu\", "
                     "needs less",
                     2.0 * (double)bytes);
            gan_fail("cuda", text);
        }
        gan__scratch_size[which] = 2 * bytes;
    }
    return gan__scratch[which];
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
    return NULL;
}

static void *gan__cuda_alloc(size_t bytes)
{
    void *memory = NULL;
    gan__flush();
    if (cudaMalloc(&memory, bytes + 64) == cudaSuccess)
        return memory;
    cudaGetLastError(); /* gan.h says how much was wanted and how much is held */
    return NULL;
}

static void gan__cuda_release(void *memory)
{
    gan__flush();
    GAN__CHECK(cudaStreamSynchronize(gan__stream));
    GAN__CHECK(cudaFree(memory));
}

/* ---- gan_capture: while a recording is made, the stream notes what is launched in a graph.
   What is other in each play, the sizes of random numbers and updates and what is uploaded, lies
   in host, which is copied to device before the graph is launched; the kernels read it there. */
struct gan__recording {
    cudaGraphExec_t graph;
    char *host, *device;
    size_t used, last;
};

enum { GAN__RECORDING_ROOM = 1 << 18 };

static gan__recording *gan__recorded; /* the one being made, or NULL */
static bool gan__recorded_all;        /* all there was room for */

/* Notes bytes of the host: where on the device they will be. NULL if nothing is recorded. */
static const void *gan__note(const void *bytes, size_t count)
{
    gan__recording *r = gan__recorded;
    if (!r)
        return NULL;
    size_t next = (r->used + count + 15) / 16 * 16;
    if (next > GAN__RECORDING_ROOM) {
        gan__recorded_all = false;
        next = r->used = 0;
    } else
        memcpy(r->host + r->used, bytes, count);
    r->last = r->used;
    r->used = next;
    return r->device + r->last;
}

static void gan__cuda_record(void)
{
    gan__flush();
    gan__recorded = new gan__recording();
    gan__recordings++;
    gan__recorded->host = new char[GAN__RECORDING_ROOM];
    GAN__CHECK(cudaMalloc(&gan__recorded->device, GAN__RECORDING_ROOM));
    gan__recorded_all = true;
    GAN__CHECK(cudaStreamBeginCapture(gan__stream, cudaStreamCaptureModeRelaxed));
}

static void *gan__cuda_noted(void)
{
    return gan__recorded->host + gan__recorded->last;
}

static void gan__cuda_forget(void *recording)
{
    gan__recording *r = (gan__recording *)recording;
    if (!r)
        return;
    GAN__CHECK(cudaStreamSynchronize(gan__stream));
    if (r->graph)
        GAN__CHECK(cudaGraphExecDestroy(r->graph));
    GAN__CHECK(cudaFree(r->device));
    delete[] r->host;
    delete r;
    if (--gan__recordings == 0)
        while (gan__outgrown_count)
            GAN__CHECK(cudaFree(gan__outgrown[--gan__outgrown_count]));
}

static void *gan__cuda_recorded(void)
{
    gan__recording *r = gan__recorded;
    cudaGraph_t graph = NULL;
    if (!r)
        return NULL;
    gan__flush();
    gan__recorded = NULL;
    bool good = cudaStreamEndCapture(gan__stream, &graph) == cudaSuccess && gan__recorded_all &&
                cudaGraphInstantiateWithFlags(&r->graph, graph, 0) == cudaSuccess;
    if (graph)
        GAN__CHECK(cudaGraphDestroy(graph));
    cudaGetLastError();
    if (good)
        return r;
    gan__cuda_forget(r);
    return NULL;
}

/* host is ordinary memory, which cudaMemcpyAsync has read when it returns: the next play's bytes
   may be written while this one is under way. */
static void gan__cuda_play(void *recording)
{
    gan__recording *r = (gan__recording *)recording;
    gan__flush();
    GAN__CHECK(cudaMemcpyAsync(r->device, r->host, r->used, cudaMemcpyHostToDevice, gan__stream));
    gan__last.name = "in a recorded step";
    gan__last.say = NULL;
    GAN__CHECK(cudaGraphLaunch(r->graph, gan__stream));
}

static void gan__cuda_upload(void *device, const void *host, size_t bytes)
{
    gan__flush();
    if (gan__recorded) {
        const void *noted = gan__note(host, bytes);
        GAN__CHECK(cudaMemcpyAsync(device, noted, bytes, cudaMemcpyDeviceToDevice, gan__stream));
        return;
    }
    GAN__CHECK(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, gan__stream));
    GAN__CHECK(cudaStreamSynchronize(gan__stream));
}

static void gan__cuda_download(void *host, const void *device, size_t bytes)
{
    gan__flush();
    GAN__CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, gan__stream));
    GAN__CHECK(cudaStreamSynchronize(gan__stream));
}

/* ---- sums inside a block of 256 threads: over warps by shuffles, then over the 8 warps. Every
   thread gets the total. */
__device__ static double gan__block_sum(double value, double *room)
{
    for (int apart = 16; apart > 0; apart /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, apart);
    if (threadIdx.x % 32 == 0)
        room[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0;
    for (int warp = 0; warp < (int)blockDim.x / 32; warp++)
        value += room[warp];
    __syncthreads();
    return value;
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
   there are fewer terms). */
__global__ static void gan__sum_kernel(gan__sum_sizes p, const float *x, double *parts)
{
    GAN_SHARED(double, room, 8);
    size_t output = blockIdx.x / p.parts;
    size_t part = blockIdx.x % p.parts;
    size_t each = (p.terms + p.parts - 1) / p.parts;
    size_t end = part * each + each < p.terms ? part * each + each : p.terms;
    const float *from = x + gan__offset(p.kept, p.stride, output);
    double total = 0;
    for (size_t r = part * each + threadIdx.x; r < end; r += blockDim.x)
        total += from[gan__offset(p.summed, p.stride, r)];
    total = gan__block_sum(total, room);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = total;
}

/* Neighbouring outputs are neighbours in memory, or terms are few: one thread for each output
   and part, so that a warp reads 32 numbers that lie side by side. */
__global__ static void gan__sum_columns_kernel(gan__sum_sizes p, const float *x, double *parts)
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
        parts[output * p.parts + part] = total;
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
    double *parts = (double *)gan__cuda_scratch(0, s.outputs * s.parts * sizeof(double));
    if (columns)
        GAN__RUN("sum", gan__sum_columns_kernel, gan__blocks(s.outputs * s.parts), 256, s, x,
                 parts);
    else
        GAN__RUN("sum", gan__sum_kernel, dim3((unsigned)(s.outputs * s.parts)),
                 s.terms / s.parts < 256 ? 32 : 256, s, x, parts);
    GAN__RUN("sum", gan__sum_parts_kernel, gan__blocks(s.outputs), 256, s.outputs, s.parts, parts,
             y);
}

/* One warp for each line: its largest number, its sum, then its results; 32 lanes take numbers
   32 apart. */
__global__ static void gan__softmax_kernel(gan_lines p, const float *x, float *y)
{
    size_t line = (size_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    size_t lane = threadIdx.x % 32;
    bool active = line < p.outer * p.inner;
    size_t start = active ? line / p.inner * p.count * p.inner + line % p.inner : 0;
    float most = -INFINITY;
    double total = 0;
    for (size_t i = lane; active && i < p.count; i += 32)
        most = fmaxf(most, x[start + i * p.inner]);
    for (int apart = 16; apart > 0; apart /= 2)
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, apart));
    for (size_t i = lane; active && i < p.count; i += 32)
        total += expf(x[start + i * p.inner] - most);
    for (int apart = 16; apart > 0; apart /= 2)
        total += __shfl_xor_sync(0xffffffffu, total, apart);
    float scale = (float)(1 / total), shift = (float)log(total);
    for (size_t i = lane; active && i < p.count; i += 32) {
        float z = x[start + i * p.inner] - most;
        y[start + i * p.inner] = p.log_ ? z - shift : expf(z) * scale;
    }
}

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
        total += (double)gy[i] * (p.log_ ? 1 : y[i]);
    for (int apart = 16; apart > 0; apart /= 2)
        total += __shfl_xor_sync(0xffffffffu, total, apart);
    for (size_t i = start + lane * p.inner; active && i < start + p.count * p.inner;
         i += 32 * p.inner)
        gx[i] = p.log_ ? gy[i] - expf(y[i]) * (float)total : y[i] * (gy[i] - (float)total);
}

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
   Products and convolutions are one kernel: C (M,N) = A (M,K) B (K,N), whose problem says where
   an element of A, of B and of C lies in memory, so that no matrix of windows is ever written.
   Versions, all callable through gan_cuda_set_version; time is that of the convolution
   (128,64,32,32) -> (128,128,16,16), kernel 4x4, stride 2, pad 1, and of its two adjoints:

     version  idea
              time
     0        naive: a thread computes one element of C, reading a row of A and a column of B from
              global memory            not measured
     1        tiled: 256 threads hold a tile of 64x64 of C in registers, 4x4 each; A and B come
              through shared memory,      not measured
              16 terms at a time
     2        tensor cores, tf32: 4 warps hold 32x32 each; cp.async brings the next 16 terms while
              these are multiplied     not measured
              (compute 8.0 and up)
     3        the same with factors rounded to bf16
              not measured

   Where C is small and K long, K is cut into splits, each summed by blocks of its own, and the
   splits are added in order afterwards. */

/* How a problem is asked: select(z) chooses the batch, group or phase z and sets m, n, k;
   column(j) and tap(k) hold what all rows of a column, and all rows and columns of a term,
   share; left and right give an element's address, or NULL where it is 0; out gives C's. */
struct gan__column {
    int image, i, j;
    bool inside;
};

struct gan__tap {
    int a, b, u, v;
};

struct gan__product_problem {
    gan_product p;
    const float *a, *b;
    float *y;
    int m, n, k;

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
    }

    __device__ gan__column column(int j) const
    {
        return {0, 0, j, j < n};
    }

    __device__ gan__tap tap(int t) const
    {
        return {t, 0, 0, 0};
    }

    __device__ const float *left(int i, gan__tap t) const
    {
        return a + (p.transpose_a ? (size_t)t.a * p.m + i : (size_t)i * p.k + t.a);
    }

    __device__ const float *right(gan__tap t, gan__column c) const
    {
        return b + (p.transpose_b ? (size_t)c.j * p.k + t.a : (size_t)t.a * p.w + c.j);
    }

    __device__ float *out(int i, gan__column c) const
    {
        return y + (size_t)i * p.w + c.j;
    }
};

/* Eight numbers where 16- and 32-byte accesses may begin: what shared arrays of tiles are made
   of. */
struct alignas(32) gan__line {
    float at[8];
};

struct alignas(32) gan__half_line {
    __nv_bfloat16 at[16];
};

template <class P> __global__ static void gan__gemm_naive(P p, int splits, float *parts)
{
    int z = blockIdx.z / splits, split = blockIdx.z % splits;
    p.select(z);
    int each = (p.k + splits - 1) / splits;
    int end = min((split + 1) * each, p.k);
    GAN__EACH(e, (size_t)p.m * p.n)
    {
        int i = (int)(e / p.n), j = (int)(e % p.n);
        gan__column c = p.column(j);
        float total = 0;
        for (int t = split * each; t < end; t++) {
            gan__tap tap = p.tap(t);
            const float *a = p.left(i, tap), *b = p.right(tap, c);
            if (a && b)
                total += *a * *b;
        }
        if (splits > 1)
            parts[(size_t)blockIdx.z * p.m * p.n + e] = total;
        else
            *p.out(i, c) = total;
    }
}

template <class P> __global__ static void gan__gemm_splits(P p, int splits, const float *parts)
{
    p.select(blockIdx.z);
    GAN__EACH(e, (size_t)p.m * p.n)
    {
        float total = 0;
        for (int s = 0; s < splits; s++)
            total += parts[((size_t)blockIdx.z * splits + s) * p.m * p.n + e];
        *p.out((int)(e / p.n), p.column((int)(e % p.n))) = total;
    }
}

/* 256 threads load 64x16 of A and 16x64 of B, four numbers each; then each multiplies its 4 rows
   with its 4 columns. */
template <class P> __global__ static void gan__gemm_tiled(P p, int splits, float *parts)
{
    GAN_SHARED(gan__line, a_lines, 16 * 68 / 8);
    GAN_SHARED(gan__line, b_lines, 16 * 68 / 8);
    float *a_tile = a_lines->at,
          *b_tile =
              b_lines
                  /* [k][row], [k][column]; 68 and not 64 apart, so that a column's numbers lie in
                  different banks */
                  ->at;
    GAN_SHARED(gan__tap, taps, 16);
    int z = blockIdx.z / splits;
    int split = blockIdx.z % splits;
    int thread = threadIdx.x;
    p.select(z);
    int row0 = blockIdx.y * 64;
    int column0 = blockIdx.x * 64;
    int each = (p.k + splits - 1) / splits;
    int end = min((split + 1) * each, p.k);
    if (row0 >= p.m || column0 >= p.n)
        return; /* a phase that is smaller than the largest; the whole block leaves */
    gan__column mine = p.column(column0 + thread % 64);
    int first_row = thread / 16 * 4, first_column = thread % 16 * 4;
    float sum[4][4] = {};
    for (int t0 = split * each; t0 < end; t0 += 16) {
        if (thread < 16 && t0 + thread < end)
            taps[thread] = p.tap(t0 + thread);
        __syncthreads();
        for (int e = 0; e < 4; e++) {
            int t = thread % 16, row = thread / 16 + 16 * e;
            const float *from = t0 + t < end && row0 + row < p.m ? p.left(row0 + row, taps[t])
                                                                 : NULL;
            a_tile[t * 68 + row] = from ? *from : 0;
            t = thread / 64 + 4 * e;
            from = t0 + t < end && mine.inside ? p.right(taps[t], mine) : NULL;
            b_tile[t * 68 + thread % 64] = from ? *from : 0;
        }
        __syncthreads();
        for (int t = 0; t < 16; t++) {
            float4 a = *(const float4 *)&a_tile[t * 68 + first_row];
            float4 b = *(const float4 *)&b_tile[t * 68 + first_column];
            float rows[4] = {a.x, a.y, a.z, a.w};
            float columns[4] = {b.x, b.y, b.z, b.w};
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++)
                    sum[i][j] += rows[i] * columns[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int row = row0 + first_row + i;
            int column = column0 + first_column + j;
            if (row >= p.m || column >= p.n)
                continue;
            if (splits > 1)
                parts[((size_t)blockIdx.z * p.m + row) * p.n + column] = sum[i][j];
            else
                *p.out(row, p.column(column)) = sum[i][j];
        }
}

/* ---- tensor cores */

/* Four bytes from global to shared memory that arrive later (cp.async, compute 8.0 and up); zero
   where from is NULL. */
__device__ static void gan__fetch(float *to, const float *from)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    unsigned address = (unsigned)__cvta_generic_to_shared(to);
    int bytes = from ? 4 : 0; /* bytes that are not read are 0 */
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address),
                 "l"(from ? from : to), "r"(bytes));
#else
    *to = from ? *from : 0;
#endif
}

__device__ static void gan__fetch_commit(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;");
#endif
}

/* Waits until at most the newest group is under way (pending 1), or none (0). */
template <int PENDING> __device__ static void gan__fetch_wait(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING));
#endif
}

/* 128 threads fetch terms t0 .. t0+16 of 64 rows and 64 columns into a [row][k] of 20 apart and
   b [k][column] of 68 apart. */
template <class P>
__device__ static void gan__fetch_tiles(const P &p, int row0, gan__column mine, int t0, int end,
                                        float *a, float *b)
{
    int thread = threadIdx.x, t = thread % 16;
    gan__tap tap = p.tap(t0 + t < end ? t0 + t : 0);
    for (int row = thread / 16; row < 64; row += 8)
        gan__fetch(&a[row * 20 + t],
                   t0 + t < end && row0 + row < p.m ? p.left(row0 + row, tap) : NULL);
    for (t = thread / 64; t < 16; t += 2)
        gan__fetch(&b[t * 68 + thread % 64],
                   t0 + t < end && mine.inside ? p.right(p.tap(t0 + t), mine) : NULL);
    gan__fetch_commit();
}

template <class P, bool BF16> __global__ static void gan__gemm_tensor(P p, int splits, float *parts)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    using namespace nvcuda;
    GAN_SHARED(gan__line, a_lines, 2 * 64 * 20 / 8);
    GAN_SHARED(gan__line, b_lines, 2 * 16 * 68 / 8);
    GAN_SHARED(gan__line, c_lines, 64 * 68 / 8);
    GAN_SHARED(gan__half_line, a_half_lines, 64 * 24 / 16);
    GAN_SHARED(gan__half_line, b_half_lines, 16 * 72 / 16);
    float *a_tiles = a_lines->at;
    float *b_tiles = b_lines->at;
    float *c_tile = c_lines->at;
    __nv_bfloat16 *a_half = a_half_lines->at;
    __nv_bfloat16 *b_half = b_half_lines->at;
    int z = blockIdx.z / splits;
    int split = blockIdx.z % splits;
    int thread = threadIdx.x;
    int warp = thread / 32;
    p.select(z);
    int row0 = blockIdx.y * 64;
    int column0 = blockIdx.x * 64;
    int each = (p.k + splits - 1) / splits;
    int begin = split * each;
    int end = min(begin + each, p.k);
    if (row0 >= p.m || column0 >= p.n)
        return;
    gan__column mine = p.column(column0 + thread % 64);
    int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
    wmma::fragment<wmma::accumulator, 16, 16, BF16 ? 16 : 8, float> sum[2][2];
    for (int i = 0; i < 4; i++)
        wmma::fill_fragment(sum[i / 2][i % 2], 0.0f);
    if (begin < end)
        gan__fetch_tiles(p, row0, mine, begin, end, a_tiles, b_tiles);
    for (int t0 = begin, now = 0; t0 < end; t0 += 16, now = 1 - now) {
        float *a = a_tiles + now * 64 * 20, *b = b_tiles + now * 16 * 68;
        if (t0 + 16 < end)
            gan__fetch_tiles(p, row0, mine, t0 + 16, end, a_tiles + (1 - now) * 64 * 20,
                             b_tiles + (1 - now) * 16 * 68),
                gan__fetch_wait<1>();
        else
            gan__fetch_wait<0>();
        __syncthreads();
        if constexpr (BF16) {
            for (int e = thread; e < 64 * 16; e += 128) {
                a_half[e / 16 * 24 + e % 16] = __float2bfloat16(a[e / 16 * 20 + e % 16]);
                b_half[e / 64 * 72 + e % 64] = __float2bfloat16(b[e / 64 * 68 + e % 64]);
            }
            __syncthreads();
            wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::row_major> left[2];
            wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, wmma::row_major> right[2];
            for (int i = 0; i < 2; i++) {
                wmma::load_matrix_sync(left[i], a_half + (warp_row + 16 * i) * 24, 24);
                wmma::load_matrix_sync(right[i], b_half + warp_column + 16 * i, 72);
            }
            for (int i = 0; i < 4; i++)
                wmma::mma_sync(sum[i / 2][i % 2], left[i / 2], right[i % 2], sum[i / 2][i % 2]);
        } else {
            for (int half = 0; half < 16; half += 8) {
                wmma::fragment<wmma::matrix_a, 16, 16, 8, wmma::precision::tf32, wmma::row_major>
                    left[2];
                wmma::fragment<wmma::matrix_b, 16, 16, 8, wmma::precision::tf32, wmma::row_major>
                    right[2];
                for (int i = 0; i < 2; i++) {
                    wmma::load_matrix_sync(left[i], a + (warp_row + 16 * i) * 20 + half, 20);
                    wmma::load_matrix_sync(right[i], b + half * 68 + warp_column + 16 * i, 68);
                    for (int e = 0; e < left[i].num_elements; e++)
                        left[i].x[e] = wmma::__float_to_tf32(left[i].x[e]);
                    for (int e = 0; e < right[i].num_elements; e++)
                        right[i].x[e] = wmma::__float_to_tf32(right[i].x[e]);
                }
                for (int i = 0; i < 4; i++)
                    wmma::mma_sync(sum[i / 2][i % 2], left[i / 2], right[i % 2], sum[i / 2][i % 2]);
            }
        }
        __syncthreads(); /* before the next fetch overwrites what is being read */
    }
    for (int i = 0; i < 4; i++)
        wmma::store_matrix_sync(c_tile + (warp_row + i / 2 * 16) * 68 + warp_column + i % 2 * 16,
                                sum[i / 2][i % 2], 68, wmma::mem_row_major);
    __syncthreads();
    for (int e = thread; e < 64 * 64; e += 128) {
        int row = row0 + e / 64, column = column0 + e % 64;
        if (row >= p.m || column >= p.n)
            continue;
        if (splits > 1)
            parts[((size_t)blockIdx.z * p.m + row) * p.n + column] = c_tile[e / 64 * 68 + e % 64];
        else
            *p.out(row, p.column(column)) = c_tile[e / 64 * 68 + e % 64];
    }
#endif
}

/* The largest problem of the batch is m x n x k. */
template <class P> static void gan__gemm(const char *name, const P &p, int m, int n, int k)
{
    int version = gan__gemm_version >= 0 ? gan__gemm_version : gan__precision + 1;
    int batches = p.batches();
    int splits = 1;
    size_t across = ((size_t)n + 63) / 64;
    size_t down = ((size_t)m + 63) / 64;
    size_t blocks = across * down * batches;
    if (blocks < 256 && k >= 512) {
        splits = (int)((256 + blocks - 1) / blocks);
        splits = splits < k / 256 ? splits : k / 256;
    }
    float *parts = splits > 1 ? (float *)gan__cuda_scratch(1, (size_t)batches * splits * m * n *
                                                                  sizeof(float))
                              : NULL;
    dim3 tiles((unsigned)across, (unsigned)down, (unsigned)(batches * splits)),
        each = gan__blocks((size_t)m * n);
    each.z = batches * splits;
    if (version == 0)
        GAN__RUN(name, gan__gemm_naive<P>, each, 256, p, splits, parts);
    else if (version == 1)
        GAN__RUN(name, gan__gemm_tiled<P>, tiles, 256, p, splits, parts);
    else if (version == 2)
        GAN__RUN(name, (gan__gemm_tensor<P, false>), tiles, 128, p, splits, parts);
    else
        GAN__RUN(name, (gan__gemm_tensor<P, true>), tiles, 128, p, splits, parts);
    each.z = batches;
    if (splits > 1)
        GAN__RUN(name, gan__gemm_splits<P>, each, 256, p, splits, parts);
}

extern "C" void gan_cuda_matmul(const gan_product *p, const gan_real *a, const gan_real *b,
                                gan_real *y)
{
    gan__product_problem problem = {*p, a, b, y, 0, 0, 0};
    gan__gemm("matmul", problem, p->m, p->w, p->k);
}

/* ===========================================================================================
   >>conv
   =========================================================================================== */

/* What the three problems share: sizes of a group, and of the planes. */
struct gan__conv_problem {
    gan_conv p;
    int s, d, groups, c, o, oh, ow, m, n, k;
    const float *a, *b;
    float *y;

    __host__ __device__ int batches() const
    {
        return groups;
    }
};

template <class P>
static P gan__conv_of(const gan_conv *p, const float *a, const float *b, float *y)
{
    P q;
    q.p = *p;
    q.s = p->stride > 1 ? p->stride : 1;
    q.d = p->dilation > 1 ? p->dilation : 1;
    q.groups = p->groups > 1 ? p->groups : 1;
    q.c = p->c / q.groups;
    q.o = p->out_c / q.groups;
    q.oh = gan_conv_out_h(p);
    q.ow = gan_conv_out_w(p);
    q.m = q.n = q.k = 0;
    q.a = a;
    q.b = b;
    q.y = y;
    return q;
}

/* Column j of images x rows x columns. */
__device__ static gan__column gan__column_of(int j, int n, int rows, int columns)
{
    return {j / (rows * columns), j / columns % rows, j % columns, j < n};
}

/* y (O, N*OH*OW) = w (O, C*KH*KW) times the windows of x: a is w, b is x. */
struct gan__conv_forward : gan__conv_problem {
    __host__ __device__ void select(int z)
    {
        m = o;
        n = p.n * oh * ow;
        k = c * p.kernel_h * p.kernel_w;
        a += (size_t)z * o * k;
        b += (size_t)z * c * p.h * p.w;
        y += (size_t)z * o * oh * ow;
    }

    __device__ gan__column column(int j) const
    {
        return gan__column_of(j, n, oh, ow);
    }

    __device__ gan__tap tap(int t) const
    {
        int v = t % p.kernel_w, u = t / p.kernel_w % p.kernel_h;
        return {t, t / (p.kernel_h * p.kernel_w), u * d - p.pad, v * d - p.pad};
    }

    __device__ const float *left(int i, gan__tap t) const
    {
        return a + (size_t)i * k + t.a;
    }

    __device__ const float *right(gan__tap t, gan__column at) const
    {
        int row = at.i * s + t.u, column = at.j * s + t.v;
        if (row < 0 || row >= p.h || column < 0 || column >= p.w)
            return NULL;
        return b + (((size_t)at.image * p.c + t.b) * p.h + row) * p.w + column;
    }

    __device__ float *out(int i, gan__column at) const
    {
        return y + (((size_t)at.image * p.out_c + i) * oh + at.i) * ow + at.j;
    }
};

/* x (C, N*H*W) = w^T times the windows of y; the pixels (i*S + p, j*S + q) meet the same taps,
   so that phase (p,q) is a problem of its own. With dilation there is one phase, and taps that
   fall between y's pixels are NULL. a is w, b is y, y is x. */
struct gan__conv_data : gan__conv_problem {
    int step, phase_h, phase_w, u0, v0, tu, tv, rows, columns;

    __host__ __device__ int batches() const
    {
        return groups * (d > 1 ? 1 : s * s);
    }

    __host__ __device__ void select(int z)
    {
        step = d > 1 ? 1 : s;
        int group = z / (step * step);
        phase_h = z / step % step;
        phase_w = z % step;
        u0 = (phase_h + p.pad) % step;
        v0 = (phase_w + p.pad) % step;
        tu = p.kernel_h > u0 ? (p.kernel_h - u0 + step - 1) / step : 0;
        tv = p.kernel_w > v0 ? (p.kernel_w - v0 + step - 1) / step : 0;
        rows = p.h > phase_h ? (p.h - phase_h + step - 1) / step : 0;
        columns = p.w > phase_w ? (p.w - phase_w + step - 1) / step : 0;
        m = c;
        n = p.n * rows * columns;
        k = o * tu * tv;
        a += (size_t)group * o * c * p.kernel_h * p.kernel_w;
        b += (size_t)group * o * oh * ow;
        y += (size_t)group * c * p.h * p.w;
    }

    __device__ gan__column column(int j) const
    {
        return gan__column_of(j, n, rows, columns);
    }

    __device__ gan__tap tap(int t) const
    {
        int v = tv ? v0 + t % tv * step : 0;
        int u = tv ? u0 + t / tv % tu * step : 0;
        int channel = tv ? t / tv / tu : 0;
        return {channel * c * p.kernel_h * p.kernel_w + u * p.kernel_w + v, channel, u * d, v * d};
    }

    __device__ const float *left(int i, gan__tap t) const
    {
        return a + t.a + (size_t)i * p.kernel_h * p.kernel_w;
    }

    __device__ const float *right(gan__tap t, gan__column at) const
    {
        int row = at.i * step + phase_h + p.pad - t.u;
        int column = at.j * step + phase_w + p.pad - t.v;
        if (row < 0 || column < 0 || row % s || column % s || row / s >= oh || column / s >= ow)
            return NULL;
        return b + (((size_t)at.image * p.out_c + t.b) * oh + row / s) * ow + column / s;
    }

    __device__ float *out(int i, gan__column at) const
    {
        return y + (((size_t)at.image * p.c + i) * p.h + at.i * step + phase_h) * p.w +
               at.j * step + phase_w;
    }
};

/* w (O, C*KH*KW) = y (O, N*OH*OW) times the windows of x, transposed: a is y, b is x, y is w. A
   column is (c,u,v), a term a place of y. */
struct gan__conv_weight : gan__conv_problem {
    __host__ __device__ void select(int z)
    {
        m = o;
        n = c * p.kernel_h * p.kernel_w;
        k = p.n * oh * ow;
        a += (size_t)z * o * oh * ow;
        b += (size_t)z * c * p.h * p.w;
        y += (size_t)z * o * n;
    }

    __device__ gan__column column(int j) const
    {
        return {j / (p.kernel_h * p.kernel_w), j / p.kernel_w % p.kernel_h, j % p.kernel_w, j < n};
    }

    __device__ gan__tap tap(int t) const
    {
        return {t / (oh * ow), t % (oh * ow), t / ow % oh, t % ow};
    }

    __device__ const float *left(int i, gan__tap t) const
    {
        return a + ((size_t)t.a * p.out_c + i) * oh * ow + t.b;
    }

    __device__ const float *right(gan__tap t, gan__column at) const
    {
        int row = t.u * s + at.i * d - p.pad;
        int column = t.v * s + at.j * d - p.pad;
        if (row < 0 || row >= p.h || column < 0 || column >= p.w)
            return NULL;
        return b + (((size_t)t.a * p.c + at.image) * p.h + row) * p.w + column;
    }

    __device__ float *out(int i, gan__column at) const
    {
        return y + (size_t)i * n + (at.image * p.kernel_h + at.i) * p.kernel_w + at.j;
    }
};

extern "C" void gan_cuda_conv2d(const gan_conv *p, const gan_real *x, const gan_real *w,
                                gan_real *y)
{
    gan__conv_forward q = gan__conv_of<gan__conv_forward>(p, w, x, y);
    gan__gemm("conv2d", q, q.o, p->n * q.oh * q.ow, q.c * p->kernel_h * p->kernel_w);
}

extern "C" void gan_cuda_conv_transpose2d(const gan_conv *p, const gan_real *y, const gan_real *w,
                                          gan_real *x)
{
    gan__conv_data q = gan__conv_of<gan__conv_data>(p, w, y, x), most = q;
    most.select(0); /* phase 0 has the most pixels, though not always the most taps */
    gan__gemm("conv_transpose2d", q, q.c, most.n, most.k);
}

extern "C" void gan_cuda_conv2d_weight(const gan_conv *p, const gan_real *x, const gan_real *y,
                                       gan_real *w)
{
    gan__conv_weight q = gan__conv_of<gan__conv_weight>(p, y, x, w);
    gan__gemm("conv2d_weight", q, q.o, q.c * p->kernel_h * p->kernel_w, p->n * q.oh * q.ow);
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
                int row = i * p.stride + u - p.pad;
                int column = j * p.stride + v - p.pad;
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
    GAN__RUN("max_index", gan__max_index_kernel,
             gan__blocks((size_t)p->planes * p->out_h * p->out_w), 256, *p, x, y);
}

/* ===========================================================================================
   >>norm
   ===========================================================================================
   A channel's numbers are cut into parts, whose number depends on the sizes alone; sums are in
   double. Deviations are taken from the channel's first number, so that a large mean does not
   drown a small variance. */

struct gan__norm_parts {
    int parts;
    size_t each;
};

static gan__norm_parts gan__parts_of(const gan_norm *p)
{
    size_t count = p->n * p->size;
    size_t parts = 1024 / (size_t)p->c;
    size_t most = count / 2048;
    gan__norm_parts q;
    q.parts = (int)(parts < 1 || most < 1 ? 1 : parts < most ? parts : most);
    q.each = (count + q.parts - 1) / q.parts;
    return q;
}

/* Sums over part blockIdx.x of channel blockIdx.y: of x - first and its square, or with gy of gy
   and gy*(x - mean). */
__global__ static void gan__norm_sums_kernel(gan_norm p, gan__norm_parts q, const float *gy,
                                             const float *x, const float *s, double *sums)
{
    GAN_SHARED(double, room, 8);
    size_t c = blockIdx.y;
    size_t count = p.n * p.size;
    size_t end = min((blockIdx.x + 1) * q.each, count);
    float center = s ? s[c] : x[c * p.size];
    double one = 0, two = 0;
    for (size_t i = blockIdx.x * q.each + threadIdx.x; i < end; i += blockDim.x) {
        size_t at = (i / p.size * p.c + c) * p.size + i % p.size;
        float d = x[at] - center;
        one += gy ? gy[at] : d;
        two += (double)(gy ? gy[at] : d) * d;
    }
    one = gan__block_sum(one, room);
    two = gan__block_sum(two, room);
    if (threadIdx.x == 0) {
        sums[2 * (c * q.parts + blockIdx.x)] = one;
        sums[2 * (c * q.parts + blockIdx.x) + 1] = two;
    }
}

/* The parts in order: mean and biased variance, or sum of gy and sum of gy*xhat. */
__global__ static void gan__norm_parts_kernel(gan_norm p, gan__norm_parts q, const float *x,
                                              const float *s, const double *sums, float *out)
{
    GAN__EACH(c, (size_t)p.c)
    {
        double one = 0, two = 0, count = (double)p.n * (double)p.size;
        for (int k = 0; k < q.parts; k++) {
            one += sums[2 * (c * q.parts + k)];
            two += sums[2 * (c * q.parts + k) + 1];
        }
        double var = two / count - one / count * (one / count);
        out[c] = (float)(s ? one : x[c * p.size] + one / count);
        out[p.c + c] = (float)(s                       ? two / sqrt((double)s[p.c + c] + p.eps)
                               : var > 0 || var != var ? var
                                                       : 0);
    }
}

static void gan__norm_sums_of(const char *name, const gan_norm *p, const float *gy, const float *x,
                              const float *s, float *out)
{
    gan__norm_parts q = gan__parts_of(p);
    double *sums = (double *)gan__cuda_scratch(0, 2 * (size_t)p->c * q.parts * sizeof(double));
    GAN__RUN(name, gan__norm_sums_kernel, dim3((unsigned)q.parts, (unsigned)p->c), 256, *p, q, gy,
             x, s, sums);
    GAN__RUN(name, gan__norm_parts_kernel, gan__blocks((size_t)p->c), 256, *p, q, x, s, sums, out);
}

extern "C" void gan_cuda_norm_stats(const gan_norm *p, const gan_real *x, gan_real *s)
{
    gan__norm_sums_of("norm_stats", p, NULL, x, NULL, s);
}

extern "C" void gan_cuda_norm_sums(const gan_norm *p, const gan_real *gy, const gan_real *x,
                                   const gan_real *s, gan_real *sums)
{
    gan__norm_sums_of("norm_sums", p, gy, x, s, sums);
}

/* out = a*u + b*(x - mean) + shift with the channel's numbers: gy is NULL for norm_apply, where
   u is not used. */
__global__ static void gan__norm_line_kernel(gan_norm p, const float *gy, const float *x,
                                             const float *s, const float *weight, const float *bias,
                                             const float *sums, float *out, bool four)
{
    size_t count = (size_t)p.n * p.c * p.size / (four ? 4 : 1);
    size_t size = p.size / (four ? 4 : 1);
    GAN__EACH(i, count)
    {
        size_t c = i / size % p.c;
        double inverse = 1 / sqrt((double)s[p.c + c] + p.eps);
        double total = (double)p.n * (double)p.size;
        float a = (float)(weight[c] * inverse);
        float mean = s[c];
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
                           const float *s, const float *weight, const float *bias,
                           const float *sums, float *out)
{
    bool four = p->size % 4 == 0 && gan__aligned(x, out) && gan__aligned(gy, gy);
    GAN__RUN(name, gan__norm_line_kernel,
             gan__blocks((size_t)p->n * p->c * p->size / (four ? 4 : 1)), 256, *p, gy, x, s, weight,
             bias, sums, out, four);
}

extern "C" void gan_cuda_norm_apply(const gan_norm *p, const gan_real *x, const gan_real *s,
                                    const gan_real *weight, const gan_real *bias, gan_real *y)
{
    gan__norm_line("norm_apply", p, NULL, x, s, weight, bias, NULL, y);
}

extern "C" void gan_cuda_norm_grad(const gan_norm *p, const gan_real *gy, const gan_real *x,
                                   const gan_real *s, const gan_real *weight, const gan_real *sums,
                                   gan_real *gx)
{
    gan__norm_line("norm_grad", p, gy, x, s, weight, NULL, sums, gx);
}

/* ===========================================================================================
   >>optim
   ===========================================================================================
   gan_step calls an update kernel for each parameter. They wait here until something else is to
   run, and then go as one launch. */

enum { GAN__SGD_STEP, GAN__ADAM_STEP, GAN__RMSPROP_STEP };

struct gan__waiting {
    gan_update p;
    const gan_update *noted;
    const float *g;
    float *w, *m, *v;
    size_t first;
}; /* first: blocks before this one's */

struct gan__updates {
    int kind, count;
    gan__waiting of[32];
};

static gan__updates gan__queue;
static size_t gan__queue_blocks;

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

/* A block of 256 threads updates 1024 numbers of one parameter. */
__global__ static void gan__update_kernel(gan__updates all)
{
    int k = 0;
    while (k + 1 < all.count && blockIdx.x >= all.of[k + 1].first)
        k++;
    const gan__waiting &u = all.of[k];
    const gan_update p = u.noted ? *u.noted : u.p;
    for (int e = 0; e < 4; e++) {
        size_t i = (blockIdx.x - u.first) * 1024 + e * 256 + threadIdx.x;
        if (i < u.p.count)
            gan__update_one(all.kind, p, u.g[i], u.w + i, u.m + i, u.v ? u.v + i : NULL);
    }
}

static void gan__flush(void)
{
    if (gan__queue.count == 0)
        return;
    static const char *const names[] = {"sgd", "adam", "rmsprop"};
    const gan_update *last = &gan__queue.of[gan__queue.count - 1].p;
    gan__launching(names[gan__queue.kind], last);
    GAN_LAUNCH(gan__update_kernel, dim3((unsigned)gan__queue_blocks), 256, gan__stream, gan__queue);
    gan__queue.count = 0;
    gan__queue_blocks = 0;
    gan__cuda_check(cudaGetLastError(), "a launch of gan__update_kernel");
}

static void gan__wait(int kind, const gan_update *p, const float *g, float *w, float *m, float *v)
{
    if (p->count == 0)
        return;
    if (gan__queue.count == 32 || (gan__queue.count && gan__queue.kind != kind))
        gan__flush();
    gan__waiting one = {
        *p, (const gan_update *)gan__note(p, sizeof *p), g, w, m, v, gan__queue_blocks};
    gan__queue.kind = kind;
    gan__queue.of[gan__queue.count++] = one;
    gan__queue_blocks += (p->count + 1023) / 1024;
}

extern "C" void gan_cuda_sgd(const gan_update *p, const gan_real *g, gan_real *w, gan_real *m)
{
    gan__wait(GAN__SGD_STEP, p, g, w, m, NULL);
}

extern "C" void gan_cuda_adam(const gan_update *p, const gan_real *g, gan_real *w, gan_real *m,
                              gan_real *v)
{
    gan__wait(GAN__ADAM_STEP, p, g, w, m, v);
}

extern "C" void gan_cuda_rmsprop(const gan_update *p, const gan_real *g, gan_real *w, gan_real *v)
{
    gan__wait(GAN__RMSPROP_STEP, p, g, w, v, NULL);
}

/* Waits until everything launched so far is done: before the host reads what bare kernels wrote,
   or a clock. */
extern "C" void gan_cuda_synchronize(void)
{
    gan__flush();
    GAN__CHECK(cudaStreamSynchronize(gan__stream));
}

/* ===========================================================================================
   The backends
   =========================================================================================== */

/* Products in another precision: the kernel's name with tf32 or bf16 in it. */
#define GAN__PRECISE(precision, number, kernel, type)                                            \
    static void gan__##precision##_##kernel(const type *p, const gan_real *a, const gan_real *b, \
                                            gan_real *y)                                         \
    {                                                                                            \
        gan__precision = number;                                                                 \
        gan_cuda_##kernel(p, a, b, y);                                                           \
        gan__precision = 0;                                                                      \
    }
#define GAN__PRECISE_ALL(precision, number)                                           \
    GAN__PRECISE(precision, number, matmul, gan_product)                              \
    GAN__PRECISE(precision, number, conv2d, gan_conv)                                 \
    GAN__PRECISE(precision, number, conv_transpose2d, gan_conv)                       \
    GAN__PRECISE(precision, number, conv2d_weight, gan_conv)                          \
    static void gan__use_##precision(gan_backend *b)                                  \
    {                                                                                 \
        b->matmul = gan__##precision##_matmul, b->conv2d = gan__##precision##_conv2d; \
        b->conv_transpose2d = gan__##precision##_conv_transpose2d,                    \
        b->conv2d_weight = gan__##precision##_conv2d_weight;                          \
    }
GAN__PRECISE_ALL(tf32, 1)
GAN__PRECISE_ALL(bf16, 2)

/* The tensor cores multiply tf32 and bf16 from compute capability 8.0 on. */
static const char *gan__cuda_start_tensor(void)
{
    static char text[256];
    const char *why = gan__cuda_start();
    cudaDeviceProp card;
    if (why)
        return why;
    if (cudaGetDeviceProperties(&card, 0) != cudaSuccess || card.major >= 8)
        return NULL;
    snprintf(text, sizeof text,
             "%s has no tensor cores for tf32 and bf16 (compute capability %d.%d, 8.0 is wanted): "
             "use \"cuda\"",
             card.name, card.major, card.minor);
    return text;
}

/* Before main: a program that is linked to this file finds the three devices. */
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
