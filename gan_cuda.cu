/* gan_cuda.cu - gan.h's kernels on an NVIDIA GPU. Compile it beside your program and gan_open("cuda", seed) is there:

       nvcc -O3 -c gan_cuda.cu && cc -O2 main.c gan_cuda.o -lcudart -lstdc++ -lm

   Devices: "cuda" is exact single precision; "cuda:tf32" and "cuda:bf16" let the tensor cores do products and convolutions, whose factors are
   then rounded to 10 or 7 bits after the point. Results agree with the CPU's to rounding, and the same seed gives the same bits on every run of
   the same card: nothing is added up in an order that chance decides, no atomics on floating-point numbers.

   The chapters have gan.h's tags in gan.h's order. Each bare kernel gan_cuda_NAME has the signature of gan_ref_NAME with device pointers. The
   arithmetic of every kernel is gan.h's, whose comments hold the formulas; the comments here say who computes what: a grid of blocks of threads,
   32 threads a warp. Without a GPU the same file runs on the CPU by tests/cuda_on_cpu.h, which gives CUDA's words a meaning there.

   In gan.h's words: number type float only; a program made with GAN_STATIC cannot link to this file. */
#ifdef GAN_CUDA_ON_CPU
#include "tests/cuda_on_cpu.h"
#else
#include <cuda_runtime.h>
#include <mma.h>
#define GAN_SHARED(type, name, count) __shared__ type name[count]
#define GAN_LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#endif
#include "gan.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static_assert(sizeof(gan_real) == 4, "gan_cuda.cu computes with float: GAN_REAL must not be double");

/* ===========================================================================================
   >>errors
   =========================================================================================== */

static const char *gan__kernel_running = "";   /* the kernel launched last, for messages */

/* Ends the program, or calls gan_on_error's function, where a CUDA call fails that should not. */
static void gan__cuda_check(cudaError_t status, const char *call)
{
    if (status == cudaSuccess) return;
    char text[512];
    snprintf(text, sizeof text, "%s failed: %s%s%s", call, cudaGetErrorString(status), *gan__kernel_running ? "; the last kernel was " : "", gan__kernel_running);
    gan_fail("cuda", text);
}
#define GAN__CHECK(call) gan__cuda_check(call, #call)

/* ===========================================================================================
   >>kernels
   =========================================================================================== */

#define GAN__CUDA(name, type, in, out) extern "C" void gan_cuda_##name GAN__##in##_##out(type);
GAN_KERNELS(GAN__CUDA)
#undef GAN__CUDA

static cudaStream_t gan__stream;
static int gan__precision;              /* of products: 0 float, 1 tf32, 2 bf16 */
static int gan__gemm_version = -1;      /* chosen by gan_cuda_set_version; -1: the best for the precision */

/* Chooses the version of the product: 0 naive, 1 tiled, 2 tensor cores in tf32, 3 in bf16; -1 the best for the device's name. */
extern "C" void gan_cuda_set_version(int version) { gan__gemm_version = version; }

static void gan__flush(void);

/* A launch of kernel with threads of a block, enough of them for count; the update kernels that wait go first. */
#define GAN__RUN(name, kernel, grid, block, ...)                                   \
    do {                                                                           \
        gan__flush();                                                              \
        gan__kernel_running = name;                                                \
        GAN_LAUNCH(kernel, grid, block, gan__stream, __VA_ARGS__);                 \
        gan__cuda_check(cudaGetLastError(), name);                                 \
    } while (0)

/* Blocks of 256 threads for count pieces of work; a thread takes more than one where there are very many. */
static dim3 gan__blocks(size_t count)
{
    size_t blocks = (count + 255) / 256;
    return dim3((unsigned)(blocks < 1 ? 1 : blocks > 65535 * 8 ? 65535 * 8 : blocks));
}
#define GAN__EACH(i, count) for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < (count); i += (size_t)gridDim.x * blockDim.x)

/* ===========================================================================================
   >>device
   =========================================================================================== */

/* Scratch memory of a kernel call in the device: kept, and moved to twice the size when a call wants more. */
static void *gan__scratch[2];
static size_t gan__scratch_size[2];
static void *gan__cuda_scratch(int which, size_t bytes)
{
    if (gan__scratch_size[which] < bytes) {
        GAN__CHECK(cudaStreamSynchronize(gan__stream));
        if (gan__scratch[which]) GAN__CHECK(cudaFree(gan__scratch[which]));
        gan__scratch[which] = NULL, gan__scratch_size[which] = 0;
        GAN__CHECK(cudaMalloc(&gan__scratch[which], 2 * bytes));
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
    if (driver == 0) return "there is no NVIDIA driver here: install the one for your card, or use \"cpu\"";
    if (status == cudaErrorInsufficientDriver || driver / 1000 < runtime / 1000) {
        snprintf(text, sizeof text, "the NVIDIA driver is for CUDA %d.%d, this program for %d.%d: install a newer driver, or compile gan_cuda.cu with an older toolkit",
                 driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
        return text;
    }
    if (status != cudaSuccess || devices == 0) {
        snprintf(text, sizeof text, "no GPU that CUDA can use (%s): use \"cpu\"", status == cudaSuccess ? "none found" : cudaGetErrorString(status));
        return text;
    }
    if (!gan__stream && (status = cudaStreamCreate(&gan__stream)) != cudaSuccess) {
        snprintf(text, sizeof text, "the GPU does not start (%s): another program may hold all its memory", cudaGetErrorString(status));
        return text;
    }
    return NULL;
}

static void *gan__cuda_alloc(size_t bytes)
{
    void *memory = NULL;
    gan__flush();
    if (cudaMalloc(&memory, bytes + 64) == cudaSuccess) return memory;
    cudaGetLastError();                     /* gan.h says how much was wanted and how much is held */
    return NULL;
}

static void gan__cuda_release(void *memory)
{
    gan__flush();
    GAN__CHECK(cudaStreamSynchronize(gan__stream));
    GAN__CHECK(cudaFree(memory));
}

static void gan__cuda_upload(void *device, const void *host, size_t bytes)
{
    gan__flush();
    GAN__CHECK(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, gan__stream));
    GAN__CHECK(cudaStreamSynchronize(gan__stream));
}

static void gan__cuda_download(void *host, const void *device, size_t bytes)
{
    gan__flush();
    GAN__CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, gan__stream));
    GAN__CHECK(cudaStreamSynchronize(gan__stream));
}

/* ---- sums inside a block of 256 threads: over warps by shuffles, then over the 8 warps. Every thread gets the total. */
__device__ static double gan__block_sum(double value, double *room)
{
    for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(0xffffffffu, value, apart);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0;
    for (int warp = 0; warp < (int)blockDim.x / 32; warp++) value += room[warp];
    __syncthreads();
    return value;
}

/* ===========================================================================================
   >>random
   =========================================================================================== */

__device__ static void gan__philox(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b, c3 = (uint32_t)a;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* A thread draws the four numbers of one Philox block. */
__global__ static void gan__random_kernel(gan_random p, float *y)
{
    GAN__EACH(block, (p.count + 3) / 4) {
        uint32_t word[4];
        float out[4];
        gan__philox(p.seed, p.stream, p.index + block, word);
        for (int i = 0; i < 4; i++) out[i] = (float)(word[i] >> 8) * (1.0f / 16777216);
        for (int i = 0; p.normal && i < 4; i += 2) {
            float radius = (float)sqrt(-2 * log((double)out[i] + 0.5 / 16777216)), angle = (float)(6.28318530717958647692 * (double)out[i + 1]);
            out[i] = radius * (float)cos((double)angle);
            out[i + 1] = radius * (float)sin((double)angle);
        }
        for (int i = 0; i < 4 && 4 * block + i < p.count; i++) y[4 * block + i] = p.shift + p.scale * out[i];
    }
}

extern "C" void gan_cuda_random(const gan_random *p, gan_real *y) { GAN__RUN("random", gan__random_kernel, gan__blocks((p->count + 3) / 4), 256, *p, y); }

/* ===========================================================================================
   >>arithmetic
   ===========================================================================================
   A thread takes four neighbours at once where an array allows 16-byte accesses. */

__global__ static void gan__fill_kernel(size_t count, float value, float *y)
{
    GAN__EACH(i, count) y[i] = value;
}

extern "C" void gan_cuda_fill(const gan_fill *p, gan_real *y) { GAN__RUN("fill", gan__fill_kernel, gan__blocks(p->count), 256, p->count, p->value, y); }

template <int OP> __device__ static float gan__map_one(float x, float a, float b)
{
    switch (OP) {
    case GAN_AFFINE: return a * x + b;
    case GAN_EXP: return expf(x);
    case GAN_LOG: return logf(x);
    case GAN_SQRT: return sqrtf(x);
    case GAN_RSQRT: return 1 / sqrtf(x);
    case GAN_SQUARE: return x * x;
    case GAN_ABS: return fabsf(x);
    case GAN_SIGN: return (float)((x > 0) - (x < 0));
    case GAN_CLAMP: return x < a ? a : x > b ? b : x;
    case GAN_LEAKY: return x > 0 ? x : a * x;
    case GAN_TANH: return tanhf(x);
    case GAN_SIGMOID: return 1 / (1 + expf(-x));
    case GAN_SOFTPLUS: return (x > 0 ? x : 0) + log1pf(expf(-fabsf(x)));
    default: return erff(x);            /* GAN_ERF */
    }
}

template <int OP> __global__ static void gan__map_kernel(size_t count, float a, float b, const float *x, float *y, bool four)
{
    if (!four) {
        GAN__EACH(i, count) y[i] = gan__map_one<OP>(x[i], a, b);
        return;
    }
    GAN__EACH(i, count / 4) {
        float4 v = ((const float4 *)x)[i];
        v.x = gan__map_one<OP>(v.x, a, b), v.y = gan__map_one<OP>(v.y, a, b), v.z = gan__map_one<OP>(v.z, a, b), v.w = gan__map_one<OP>(v.w, a, b);
        ((float4 *)y)[i] = v;
    }
}

static bool gan__aligned(const void *a, const void *b) { return ((uintptr_t)a | (uintptr_t)b) % 16 == 0; }

template <int OP> static void gan__map_launch(const gan_map *p, const float *x, float *y)
{
    bool four = p->count % 4 == 0 && gan__aligned(x, y);
    GAN__RUN("map", gan__map_kernel<OP>, gan__blocks(four ? p->count / 4 : p->count), 256, p->count, p->a, p->b, x, y, four);
}

extern "C" void gan_cuda_map(const gan_map *p, const gan_real *x, gan_real *y)
{
    typedef void launch(const gan_map *p, const float *x, float *y);
    static launch *const table[] = {                    /* in the order of GAN_AFFINE .. */
        gan__map_launch<0>, gan__map_launch<1>, gan__map_launch<2>, gan__map_launch<3>, gan__map_launch<4>, gan__map_launch<5>, gan__map_launch<6>,
        gan__map_launch<7>, gan__map_launch<8>, gan__map_launch<9>, gan__map_launch<10>, gan__map_launch<11>, gan__map_launch<12>, gan__map_launch<13>};
    static_assert(sizeof table / sizeof *table == GAN_ERF + 1, "one entry for each operation of gan_map");
    table[p->op](p, x, y);
}

template <int OP> __device__ static float gan__zip_one(float a, float b, float k, float l)
{
    switch (OP) {
    case GAN_MIX: return k * a + l * b;
    case GAN_MUL: return a * b;
    case GAN_DIV: return a / b;
    case GAN_GATE: return b > 0 ? a : k * a;
    case GAN_INSIDE: return b >= k && b <= l ? a : 0;
    case GAN_DTANH: return a * (1 - b * b);
    case GAN_DSIGMOID: return a * b * (1 - b);
    default: return (float)(a == b);    /* GAN_EQUAL */
    }
}

/* Where element i of (N,C,H,W) lies in two arrays with these strides. */
struct gan__view { int size[4]; ptrdiff_t a[4], b[4], a0, b0; };
__device__ static void gan__place(const gan__view &v, size_t i, ptrdiff_t *a, ptrdiff_t *b)
{
    *a = v.a0, *b = v.b0;
    for (int d = 3; d >= 0; d--) {
        ptrdiff_t at = (ptrdiff_t)(i % v.size[d]);
        *a += at * v.a[d], *b += at * v.b[d];
        i /= v.size[d];
    }
}

template <int OP> __global__ static void gan__zip_kernel(size_t count, gan__view v, float k, float l, const float *a, const float *b, float *y, bool flat)
{
    if (flat) {                         /* both arrays lie as the result does: four at a time */
        GAN__EACH(i, count / 4) {
            float4 s = ((const float4 *)a)[i], t = ((const float4 *)b)[i];
            s.x = gan__zip_one<OP>(s.x, t.x, k, l), s.y = gan__zip_one<OP>(s.y, t.y, k, l), s.z = gan__zip_one<OP>(s.z, t.z, k, l), s.w = gan__zip_one<OP>(s.w, t.w, k, l);
            ((float4 *)y)[i] = s;
        }
        return;
    }
    GAN__EACH(i, count) {
        ptrdiff_t in_a, in_b;
        gan__place(v, i, &in_a, &in_b);
        y[i] = gan__zip_one<OP>(a[in_a], b[in_b], k, l);
    }
}

/* Is this array walked through from front to back, without gaps? */
static bool gan__is_flat(const int size[4], const ptrdiff_t stride[4])
{
    ptrdiff_t want = 1;
    for (int d = 3; d >= 0; want *= size[d], d--)
        if (size[d] > 1 && stride[d] != want) return false;
    return true;
}

template <int OP> static void gan__zip_launch(const gan_zip *p, const float *a, const float *b, float *y)
{
    size_t count = (size_t)p->n * p->c * p->h * p->w;
    gan__view v = {{p->n, p->c, p->h, p->w}, {p->a[0], p->a[1], p->a[2], p->a[3]}, {p->b[0], p->b[1], p->b[2], p->b[3]}, 0, 0};
    bool flat = count % 4 == 0 && gan__is_flat(v.size, v.a) && gan__is_flat(v.size, v.b) && gan__aligned(a, b) && gan__aligned(y, y);
    GAN__RUN("zip", gan__zip_kernel<OP>, gan__blocks(flat ? count / 4 : count), 256, count, v, p->k, p->l, a, b, y, flat);
}

extern "C" void gan_cuda_zip(const gan_zip *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    typedef void launch(const gan_zip *p, const float *a, const float *b, float *y);
    static launch *const table[] = {gan__zip_launch<0>, gan__zip_launch<1>, gan__zip_launch<2>, gan__zip_launch<3>,       /* GAN_MIX .. */
                                    gan__zip_launch<4>, gan__zip_launch<5>, gan__zip_launch<6>, gan__zip_launch<7>};
    static_assert(sizeof table / sizeof *table == GAN_EQUAL + 1, "one entry for each operation of gan_zip");
    table[p->op](p, a, b, y);
}

/* ===========================================================================================
   >>reduce
   ===========================================================================================
   Every sum is cut into parts whose number depends on the sizes alone; parts are summed in double, by one block each, and then in order. */

/* The kept and the summed dimensions of a sum: where output i begins in x, and how far element r of its sum lies from there. */
struct gan__sum_sizes { size_t outputs, terms, parts; int kept[4], summed[4]; ptrdiff_t stride[4]; };

__device__ static ptrdiff_t gan__offset(const int size[4], const ptrdiff_t stride[4], size_t i)
{
    ptrdiff_t at = 0;
    for (int d = 3; d >= 0; d--) at += (ptrdiff_t)(i % size[d]) * stride[d], i /= size[d];
    return at;
}

/* One block for each part of each output: its 256 threads take terms 256 apart. */
__global__ static void gan__sum_kernel(gan__sum_sizes p, const float *x, double *parts)
{
    GAN_SHARED(double, room, 8);
    size_t output = blockIdx.x / p.parts, part = blockIdx.x % p.parts, each = (p.terms + p.parts - 1) / p.parts;
    size_t end = part * each + each < p.terms ? part * each + each : p.terms;
    const float *from = x + gan__offset(p.kept, p.stride, output);
    double total = 0;
    for (size_t r = part * each + threadIdx.x; r < end; r += blockDim.x) total += from[gan__offset(p.summed, p.stride, r)];
    total = gan__block_sum(total, room);
    if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

/* Neighbouring outputs are neighbours in memory: one thread for each output and part, so that a warp reads 32 numbers that lie side by side. */
__global__ static void gan__sum_columns_kernel(gan__sum_sizes p, const float *x, double *parts)
{
    GAN__EACH(i, p.outputs * p.parts) {
        size_t output = i % p.outputs, part = i / p.outputs, each = (p.terms + p.parts - 1) / p.parts;
        const float *from = x + gan__offset(p.kept, p.stride, output);
        double total = 0;
        for (size_t r = part * each; r < (part + 1) * each && r < p.terms; r++) total += from[gan__offset(p.summed, p.stride, r)];
        parts[output * p.parts + part] = total;
    }
}

__global__ static void gan__sum_parts_kernel(size_t outputs, size_t parts, const double *part, float *y)
{
    GAN__EACH(i, outputs) {
        double total = 0;
        for (size_t k = 0; k < parts; k++) total += part[i * parts + k];
        y[i] = (float)total;
    }
}

extern "C" void gan_cuda_sum(const gan_sums *p, const gan_real *x, gan_real *y)
{
    gan__sum_sizes s;
    s.outputs = s.terms = 1;
    ptrdiff_t stride = 1;
    int last_kept = 1;                                  /* the last dimension larger than 1 */
    for (int d = 3; d >= 0; stride *= p->in[d], d--) {
        bool kept = p->out[d] == p->in[d];
        s.kept[d] = kept ? p->in[d] : 1, s.summed[d] = kept ? 1 : p->in[d], s.stride[d] = stride;
        s.outputs *= (size_t)s.kept[d], s.terms *= (size_t)s.summed[d];
        if (stride == 1 && p->in[d] > 1) last_kept = kept;
    }
    bool columns = last_kept && s.outputs >= 32;
    size_t wanted = (columns ? 65536 : 1024) / s.outputs, most = s.terms / (columns ? 16 : 1024);
    s.parts = wanted < 1 || most < 1 ? 1 : wanted < most ? wanted : most;
    double *parts = (double *)gan__cuda_scratch(0, s.outputs * s.parts * sizeof(double));
    if (columns) GAN__RUN("sum", gan__sum_columns_kernel, gan__blocks(s.outputs * s.parts), 256, s, x, parts);
    else GAN__RUN("sum", gan__sum_kernel, dim3((unsigned)(s.outputs * s.parts)), 256, s, x, parts);
    GAN__RUN("sum", gan__sum_parts_kernel, gan__blocks(s.outputs), 256, s.outputs, s.parts, parts, y);
}

/* One warp for each line: its largest number, its sum, then its results; 32 lanes take numbers 32 apart. */
__global__ static void gan__softmax_kernel(gan_lines p, const float *x, float *y)
{
    size_t line = (size_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    bool active = line < p.outer * p.inner;
    size_t start = active ? line / p.inner * p.count * p.inner + line % p.inner : 0;
    float most = -INFINITY;
    double total = 0;
    for (size_t i = lane; active && i < p.count; i += 32) most = fmaxf(most, x[start + i * p.inner]);
    for (int apart = 16; apart > 0; apart /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, apart));
    for (size_t i = lane; active && i < p.count; i += 32) total += expf(x[start + i * p.inner] - most);
    for (int apart = 16; apart > 0; apart /= 2) total += __shfl_xor_sync(0xffffffffu, total, apart);
    float scale = (float)(1 / total), shift = (float)log(total);
    for (size_t i = lane; active && i < p.count; i += 32) {
        float z = x[start + i * p.inner] - most;
        y[start + i * p.inner] = p.log_ ? z - shift : expf(z) * scale;
    }
}

__global__ static void gan__softmax_grad_kernel(gan_lines p, const float *gy, const float *y, float *gx)
{
    size_t line = (size_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    bool active = line < p.outer * p.inner;
    size_t start = active ? line / p.inner * p.count * p.inner + line % p.inner : 0;
    double total = 0;
    for (size_t i = start + lane * p.inner; active && i < start + p.count * p.inner; i += 32 * p.inner) total += (double)gy[i] * (p.log_ ? 1 : y[i]);
    for (int apart = 16; apart > 0; apart /= 2) total += __shfl_xor_sync(0xffffffffu, total, apart);
    for (size_t i = start + lane * p.inner; active && i < start + p.count * p.inner; i += 32 * p.inner)
        gx[i] = p.log_ ? gy[i] - expf(y[i]) * (float)total : y[i] * (gy[i] - (float)total);
}

static dim3 gan__line_blocks(const gan_lines *p) { return dim3((unsigned)((p->outer * p->inner + 7) / 8)); }

extern "C" void gan_cuda_softmax(const gan_lines *p, const gan_real *x, gan_real *y)
{
    GAN__RUN("softmax", gan__softmax_kernel, gan__line_blocks(p), 256, *p, x, y);
}

extern "C" void gan_cuda_softmax_grad(const gan_lines *p, const gan_real *gy, const gan_real *y, gan_real *gx)
{
    GAN__RUN("softmax_grad", gan__softmax_grad_kernel, gan__line_blocks(p), 256, *p, gy, y, gx);
}

/* ===========================================================================================
   >>shape
   =========================================================================================== */

__global__ static void gan__copy_kernel(size_t count, gan__view v, const float *x, float *y)
{
    GAN__EACH(i, count) {
        ptrdiff_t from, to;
        gan__place(v, i, &from, &to);
        y[to] = x[from];
    }
}

extern "C" void gan_cuda_copy(const gan_copy *p, const gan_real *x, gan_real *y)
{
    size_t count = (size_t)p->n * p->c * p->h * p->w;
    gan__view v = {{p->n, p->c, p->h, p->w}, {p->x[0], p->x[1], p->x[2], p->x[3]}, {p->y[0], p->y[1], p->y[2], p->y[3]}, p->x0, p->y0};
    GAN__RUN("copy", gan__copy_kernel, gan__blocks(count), 256, count, v, x, y);
}

/* ===========================================================================================
   >>gather
   =========================================================================================== */

__global__ static void gan__gather_kernel(gan_index p, const float *x, const float *index, float *y)
{
    GAN__EACH(at, p.outer * p.out * p.inner) {
        size_t k = at % p.inner, i = at / p.inner % p.out, o = at / p.inner / p.out;
        size_t there = (size_t)index[o * p.step_outer + i * p.step + k * p.step_inner];
        y[at] = x[(o * p.in + there) * p.inner + k];
    }
}

/* Several numbers may go to one place: a thread adds all of one (outer, inner) in order, and no other thread writes where it does. */
__global__ static void gan__scatter_kernel(gan_index p, const float *x, const float *index, float *y)
{
    GAN__EACH(at, p.outer * p.inner) {
        size_t k = at % p.inner, o = at / p.inner;
        for (size_t i = 0; i < p.out; i++) {
            size_t there = (size_t)index[o * p.step_outer + i * p.step + k * p.step_inner];
            y[(o * p.in + there) * p.inner + k] += x[(o * p.out + i) * p.inner + k];
        }
    }
}

extern "C" void gan_cuda_gather(const gan_index *p, const gan_real *x, const gan_real *index, gan_real *y)
{
    if (!p->adjoint) GAN__RUN("gather", gan__gather_kernel, gan__blocks(p->outer * p->out * p->inner), 256, *p, x, index, y);
    else {
        size_t count = p->outer * p->in * p->inner;
        GAN__RUN("gather", gan__fill_kernel, gan__blocks(count), 256, count, 0.0f, y);
        GAN__RUN("gather", gan__scatter_kernel, gan__blocks(p->outer * p->inner), 256, *p, x, index, y);
    }
}
