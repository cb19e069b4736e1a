/* tests/cuda/races.c: every kernel of gan_cuda.cu once or twice, small, against ref, with each of a
   block's threads a thread of the CPU and under ThreadSanitizer (-DGAN_CUDA_RACES): what two
   threads of a block, or two blocks, do to the same memory without a barrier between them is
   reported. */
#include "../test.h"
#include "cuda_names.h"

enum { MOST = 40000 };

static gan_real numbers[3][MOST], want[MOST], got[MOST], zero[MOST];

static gan_real *a = numbers[0], *b = numbers[1], *c = numbers[2];

/* Some numbers in each array, all above 0. */
static void draw(void)
{
    uint32_t seed = 7;
    for (int i = 0; i < 3 * MOST; i++) {
        seed = 1664525u * seed + 1013904223u;
        numbers[i / MOST][i % MOST] = (gan_real)((seed >> 8) / 16777216.0 + 0.01);
    }
}

static void agree(const char *kernel, size_t count, double most)
{
    double error = rel_error(got, want, count);
    CHECK(error <= most, "%s: relative error %g", kernel, error);
}

/* 1e-5: sums of some hundred numbers of the same sign, in float. */
static void test_simple(void)
{
    gan_fill fill = {1000, 2};
    gan_random random = {1, 1001, 3, 4, 5, 1, 0};
    gan_map map = {GAN_TANH, 1000, 1, 0};
    gan_zip zip = {GAN_MUL, 2, 3, 5, 7, {105, 35, 7, 1}, {0, 35, 7, 1}, 1, 0};
    gan_copy copy = {2, 3, 5, 7, {105, 35, 7, 1}, {105, 35, 1, 5}, 0, 0};
    gan_ref_fill(&fill, want);
    gan_cuda_fill(&fill, got);
    agree("fill", 1000, 0);
    gan_ref_random(&random, want);
    gan_cuda_random(&random, got);
    agree("random", 1001, 1e-6);
    gan_ref_map(&map, a, want);
    gan_cuda_map(&map, a, got);
    agree("map", 1000, 1e-6);
    gan_ref_zip(&zip, a, b, want);
    gan_cuda_zip(&zip, a, b, got);
    agree("zip", 210, 1e-6);
    gan_ref_copy(&copy, a, want);
    gan_cuda_copy(&copy, a, got);
    agree("copy", 210, 0);
}

static void test_sums(void)
{
    gan_sums all = {{1, 1, 80, 250}, {1, 1, 1, 1}};
    gan_sums columns = {{90, 40, 1, 1}, {1, 40, 1, 1}};
    gan_lines lines = {3, 70, 2, 0};
    gan_ref_sum(&all, a, want);
    gan_cuda_sum(&all, a, got);
    agree("sum of all, in parts", 1, 1e-5);
    gan_ref_sum(&columns, a, want);
    gan_cuda_sum(&columns, a, got);
    agree("sum of columns, in parts", 40, 1e-5);
    gan_ref_softmax(&lines, a, want);
    gan_cuda_softmax(&lines, a, got);
    agree("softmax", 420, 1e-5);
    gan_ref_softmax_grad(&lines, a, b, want);
    gan_cuda_softmax_grad(&lines, a, b, got);
    agree("softmax_grad", 420, 1e-5);
}

static void product(const char *kernel, const gan_conv *p, double most)
{
    size_t xn = (size_t)p->n * p->c * p->h * p->w;
    size_t yn = (size_t)p->n * p->out_c * gan_conv_out_h(p) * gan_conv_out_w(p);
    size_t wn = (size_t)p->out_c * p->c * p->kernel_h * p->kernel_w;
    gan_ref_conv2d(p, a, b, want);
    gan_cuda_conv2d(p, a, b, got);
    agree(kernel, yn, most);
    gan_ref_conv_transpose2d(p, a, b, want);
    gan_cuda_conv_transpose2d(p, a, b, got);
    agree(kernel, xn, most);
    gan_ref_conv2d_weight(p, a, b, want);
    gan_cuda_conv2d_weight(p, a, b, got);
    agree(kernel, wn, most);
}

/* Factors rounded to tf32 have 11 bits, 5e-4. */
static void test_products(void)
{
    static const char *const names[] = {"naive", "tiled", "wmma", "mma"};
    gan_conv small = {2, 3, 7, 5, 6, 3, 3, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0};
    gan_conv deep = {1, 36, 4, 4, 36, 4, 4, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0}; /* K 576: splits */
    gan_conv thin = {1, 2, 9, 9, 2, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0};
    gan_product dots = {1, 1, 3, 400, 2, 0, 0, 0, 0, 0, 0};
    for (int version = 0; version < 4; version++) {
        gan_cuda_set_version(version);
        product(names[version], &small, version < 2 ? 1e-5 : 1e-3);
        if (version)
            product(names[version], &deep, version < 2 ? 1e-5 : 1e-3);
    }
    gan_cuda_set_version(-1);
    product("thin", &thin, 1e-5);
    gan_ref_matmul(&dots, a, b, want);
    gan_cuda_matmul(&dots, a, b, got);
    agree("dots", 6, 1e-5);
}

static void norm_of(int n, int channels, size_t size)
{
    gan_norm p = {n, channels, size, (gan_real)1e-5, 0};
    size_t count = (size_t)n * (size_t)channels * size;
    static gan_real stats[200], sums[200];
    gan_ref_norm_stats(&p, a, want);
    gan_cuda_norm_stats(&p, a, got);
    agree("norm_stats", 2 * (size_t)channels, 1e-5);
    memcpy(stats, want, sizeof stats);
    gan_ref_norm_apply(&p, a, stats, b, c, want);
    gan_cuda_norm_apply(&p, a, stats, b, c, got);
    agree("norm_apply", count, 1e-5);
    gan_ref_norm_sums(&p, c, a, stats, want);
    gan_cuda_norm_sums(&p, c, a, stats, got);
    agree("norm_sums", 2 * (size_t)channels, 1e-4); /* the second cancels */
    memcpy(sums, want, sizeof sums);
    gan_ref_norm_grad(&p, c, a, stats, b, sums, want);
    gan_cuda_norm_grad(&p, c, a, stats, b, sums, got);
    agree("norm_grad", count, 1e-5);
}

static void test_norm(void)
{
    norm_of(3, 5, 12);
    norm_of(2, 2, 5000); /* in parts */
}

static void test_places(void)
{
    static const gan_real rows[] = {0, 1, 1, 1, 1, 0.5f, 2, 1};
    static const gan_real index[] = {1, 0, 1, 2};
    gan_resample resample = {1, 2, 3, 3, 4, 4, 1, 1, 1, 0};
    gan_index gather = {2, 3, 4, 5, 0, 1, 0, 0};
    gan_pool pool = {3, 6, 7, 3, 3, 2, 2, 2, 0, 0, 0, 0, 0};
    for (int adjoint = 0; adjoint < 2; adjoint++) {
        resample.adjoint = gather.adjoint = adjoint;
        gan_ref_resample(&resample, a, rows, rows, want);
        gan_cuda_resample(&resample, a, rows, rows, got);
        agree("resample", adjoint ? 18 : 32, 1e-6);
        gan_ref_gather(&gather, a, index, want);
        gan_cuda_gather(&gather, a, index, got);
        agree("gather", adjoint ? 30 : 40, 1e-6);
    }
    gan_ref_max_index(&pool, a, want);
    gan_cuda_max_index(&pool, a, got);
    agree("max_index", 27, 0);
}

static void test_updates(void)
{
    gan_update p = {1500, (gan_real)1e-2, (gan_real)0.9, (gan_real)0.99, (gan_real)1e-8, 1, 1, 0};
    for (int kind = 0; kind < 3; kind++) {
        gan_real *w[2] = {want, got};
        for (int k = 0; k < 2; k++) {
            memcpy(w[k], b, 1500 * sizeof *b);
            memset(zero, 0, sizeof zero);
            if (kind == 0)
                k ? gan_cpu_sgd(&p, a, w[k], zero) : gan_ref_sgd(&p, a, w[k], zero);
            else if (kind == 1)
                k ? gan_cpu_adam(&p, a, w[k], zero, zero + 2000)
                  : gan_ref_adam(&p, a, w[k], zero, zero + 2000);
            else
                k ? gan_cpu_rmsprop(&p, a, w[k], zero) : gan_ref_rmsprop(&p, a, w[k], zero);
        }
        agree("an update", 1500, 1e-6);
    }
}

int main(void)
{
    draw();
    run("races: fill, random, map, zip, copy", test_simple);
    run("races: sums and softmax", test_sums);
    run("races: products", test_products);
    run("races: norm", test_norm);
    run("races: resample, gather, max_index", test_places);
    run("races: updates", test_updates);
    return finish();
}
