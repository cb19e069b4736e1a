/* tests/kernels.c: every kernel of `ref` against slow loops that go about it in another way, and
   every kernel of `cpu` against `ref`, on the shapes that go wrong: odd, tiny, larger than a
   tile by one.

       cc -O2 tests/kernels.c -o kernels -lm && ./kernels        (-DGAN_MAX_VECTOR=16: the same
         with narrower vectors)

   Every output starts as NaN and lies between guard values, every input is compared with a copy:
   a kernel that leaves an element out, writes beside its output or into its input is caught as
   surely as one that computes something else. */

#include "test.h"
#ifdef TEST_BACKEND /* a kernel of one's own in the place of cpu's: see gan_backend in gan.h */
#include TEST_BACKEND
#endif
#ifdef TEST_CUDA
#include "cuda/cuda_names.h"

enum {
    SLOWER = 10
}; /* a GPU's thousands of threads take their turns on a CPU: fewer random shapes */
#else
enum { SLOWER = 1 };
#endif

/* Products and sums of up to some 8000 random numbers lose about sqrt(8000)/2 roundings of 6e-8:
   3e-6. One wrong element in the largest output here (1e5 elements) shows as 3e-3. In double the
   same holds with roundings of 1e-16. */
#define SUM_TOLERANCE (sizeof(gan_real) == 4 ? 1e-5 : 1e-13)

/* A function of one number: 4 roundings of 6e-8 and a half for the vector versions of exp and
   log, 8 in all. */
#define MAP_TOLERANCE (sizeof(gan_real) == 4 ? 5e-7 : 1e-15)

/* ---- numbers for the tests: not gan_random, which is under test itself ---- */

static uint64_t state;

static uint32_t bits(void)
{
    state = state * 6364136223846793005u +
            1442695040888963407u; /* Knuth's MMIX generator: the high bits are the good ones */
    return (uint32_t)(state >> 32);
}

static int between(int lo, int hi)
{
    return lo + (int)(bits() % (uint32_t)(hi - lo + 1));
}

static double uniform(double lo, double hi)
{
    return lo + (hi - lo) * bits() / 4294967296.0;
}

/* ---- buffers ---- */

#ifdef TEST_ALIGNED
enum { GUARD = 36, MOST = 24 }; /* 36 numbers before the first: every buffer is aligned to four */
#else
enum { GUARD = 37, MOST = 24 }; /* 37 numbers before the first: no buffer is aligned to a vector */
#endif
static struct {
    gan_real *memory, *copy;
    size_t count;
} buffers[MOST];

static int buffer_count;

/* n numbers between guards: NaN all over. */
static gan_real *output(size_t n)
{
    gan_real *memory = (gan_real *)malloc((n + 2 * GUARD) * sizeof *memory);
    if (!memory || buffer_count == MOST) {
        fprintf(stderr, "kernels.c: no room for a buffer\n");
        exit(2);
    }
    for (size_t i = 0; i < n + 2 * GUARD; i++)
        memory[i] = (gan_real)NAN;
    buffers[buffer_count].memory = memory;
    buffers[buffer_count].copy = NULL;
    buffers[buffer_count++].count = n;
    return memory + GUARD;
}

/* The last buffer made is an input: it must not change from now on. */
static void keep(void)
{
    size_t bytes = buffers[buffer_count - 1].count * sizeof(gan_real);
    gan_real *copy = (gan_real *)malloc(bytes + 1);
    if (!copy)
        exit(2);
    memcpy(copy, buffers[buffer_count - 1].memory + GUARD, bytes);
    buffers[buffer_count - 1].copy = copy;
}

/* n random numbers between lo and hi; the guards around them are NaN, so that a kernel that uses
   one betrays itself. */
static gan_real *input(size_t n, double lo, double hi)
{
    gan_real *x = output(n);
    for (size_t i = 0; i < n; i++)
        x[i] = (gan_real)uniform(lo, hi);
    keep();
    return x;
}

/* A buffer that a kernel reads and writes. */
static gan_real *like(const gan_real *x, size_t n)
{
    gan_real *y = output(n);
    memcpy(y, x, n * sizeof *y);
    return y;
}

/* The end of a case: all guards are whole, no input has changed. Frees all buffers. */
static void done(const char *what)
{
    const char *harm = NULL;
    for (int b = 0; b < buffer_count; b++) {
        gan_real *memory = buffers[b].memory;
        gan_real *end = memory + GUARD + buffers[b].count;
        for (int i = 0; i < GUARD; i++)
            if (!isnan(memory[i]) || !isnan(end[i]))
                harm = "wrote outside its output";
        if (buffers[b].copy &&
            memcmp(buffers[b].copy, memory + GUARD, buffers[b].count * sizeof *memory))
            harm = "changed its input";
        free(buffers[b].copy);
        free(memory);
    }
    buffer_count = 0;
    if (test_failed_now)
        return;
    CHECK(!harm, "%s: a kernel %s", what, harm);
}

/* How far cpu may be from ref: more where a version of a kernel rounds its factors. */
static double cpu_tolerance = SUM_TOLERANCE;

/* The three results of a kernel: slow is the loop in this file. */
static void agree(const char *what, const gan_real *slow, const gan_real *ref, const gan_real *cpu,
                  size_t n)
{
    if (test_failed_now)
        return;
    double r = rel_error(ref, slow, n), c = rel_error(cpu, ref, n);
    CHECK(r <= SUM_TOLERANCE, "%s: ref is off by %g", what, r);
    CHECK(c <= cpu_tolerance, "%s: cpu differs from ref by %g", what, c);
}

/* The worst error of one element, relative to it. Equal infinities and two NaNs are the same;
   what underflows in gan_real may. */
static double worst(const gan_real *a, const gan_real *b, size_t n, size_t *where)
{
    double most = 0, tiny = sizeof(gan_real) == 4 ? 2e-38 : 1e-307;
    for (size_t i = 0; i < n; i++) {
        double x = (double)a[i];
        double y = (double)b[i];
        double error = fabs(x - y) / (fabs(y) + tiny / MAP_TOLERANCE);
        if ((isnan(x) && isnan(y)) || x == y)
            continue;
        if (!(error <= most)) {
            most = isfinite(error) ? error : INFINITY;
            *where = i;
        }
    }
    return most;
}

static void agree_each(const char *what, const gan_real *slow, const gan_real *ref,
                       const gan_real *cpu, size_t n)
{
    size_t i = 0, j = 0;
    if (test_failed_now)
        return;
    double r = worst(ref, slow, n, &i), c = worst(cpu, ref, n, &j);
    CHECK(r <= MAP_TOLERANCE, "%s: ref's element %d is %.9g, want %.9g", what, (int)i,
          (double)ref[i], (double)slow[i]);
    CHECK(c <= MAP_TOLERANCE, "%s: cpu's element %d is %.9g, ref's %.9g", what, (int)j,
          (double)cpu[j], (double)ref[j]);
}

static void same(const char *what, const gan_real *a, const gan_real *b, size_t n)
{
    if (test_failed_now)
        return;
    CHECK(!memcmp(a, b, n * sizeof *a), "%s: not the same bits", what);
}

/* Sums are made in double and rounded once. */
static double *zeros(size_t n)
{
    double *d = (double *)calloc(n + 1, sizeof *d);
    if (!d)
        exit(2);
    return d;
}

static void store(double *sum, gan_real *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (gan_real)sum[i];
    free(sum);
}

static char text[300];
#define TEXT(...) (snprintf(text, sizeof text, __VA_ARGS__), text)

/* ---- fill ---- */

static void test_fill(void)
{
    static const size_t counts[] = {0, 1, 3, 16, 17, 1001, 140001};
    for (int i = 0; i < 7; i++) {
        gan_fill p = {counts[i], (gan_real)-2.5};
        gan_real *slow = output(p.count);
        gan_real *ref = output(p.count);
        gan_real *cpu = output(p.count);
        for (size_t k = 0; k < p.count; k++)
            slow[k] = (gan_real)-2.5;
        gan_ref_fill(&p, ref);
        gan_cpu_fill(&p, cpu);
        same("fill", ref, slow, p.count);
        same("fill", cpu, slow, p.count);
        done("fill");
    }
}

/* ---- map ---- */

static double map_of(int op, double a, double b, double x)
{
    switch (op) {
    case GAN_AFFINE: return a * x + b;
    case GAN_EXP: return exp(x);
    case GAN_LOG: return log(x);
    case GAN_SQRT: return sqrt(x);
    case GAN_RSQRT: return 1 / sqrt(x);
    case GAN_SQUARE: return x * x;
    case GAN_ABS: return x < 0 ? -x : x;
    case GAN_SIGN: return (x > 0) - (x < 0);
    case GAN_CLAMP: return fmin(fmax(x, a), b);
    case GAN_LEAKY: return x > 0 ? x : a * x;
    case GAN_TANH: return tanh(x);
    case GAN_SIGMOID: return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
    case GAN_SOFTPLUS: return fmax(x, 0) + log1p(exp(-fabs(x)));
    case GAN_ERF: return erf(x);
    }
    printf("map op %d has no formula in map_of\n", op);
    return NAN;
}

static void map(int op, gan_real a, gan_real b, const gan_real *values, size_t n)
{
    gan_map p = {op, n, a, b};
    gan_real *x = like(values, n);
    keep();
    gan_real *slow = output(n), *ref = output(n), *cpu = output(n);
    for (size_t i = 0; i < n; i++)
        slow[i] = (gan_real)map_of(op, (double)a, (double)b, (double)x[i]);
    gan_ref_map(&p, x, ref);
    gan_cpu_map(&p, x, cpu);
    agree_each(TEXT("map op %d, %d numbers", op, (int)n), slow, ref, cpu, n);
    done(text);
}

static void test_map(void)
{
    enum { SWEEP = 20001 };

    static gan_real x[SWEEP];
    for (int op = GAN_AFFINE; op < GAN__MAP_OP_COUNT; op++) {
        bool positive = op == GAN_LOG || op == GAN_SQRT || op == GAN_RSQRT;
        gan_real a = (gan_real)(op == GAN_AFFINE ? 2 : op == GAN_CLAMP ? -0.5 : 0.2);
        gan_real b = (gan_real)(op == GAN_AFFINE ? 0 : 0.75);
        for (int i = 0; i < SWEEP; i++)
            x[i] = (gan_real)(positive ? 0.01 * (i + 1) : 0.009 * (i - SWEEP / 2)); /* to +-90 */
        map(op, a, b, x, SWEEP);
        for (int i = 0; i < SWEEP; i++)
            x[i] = (gan_real)(x[i] / 1000); /* near 0, where 1 - 1 loses digits */
        map(op, a, b, x, SWEEP);
        for (size_t n = 0; n < 40; n++)
            map(op, a, b, x + 5000, n);
    }
    map(GAN_LEAKY, 0, 0, x, 100); /* ReLU */
}

/* Edges: what must not overflow, and NaN, which must come through so that a broken network
   shows. */
static void test_map_edges(void)
{
    static const double edges[] = {0,  -0.0, 1,   -1,   1e-30, -1e-30, 20,       -20,       87, -87,
                                   89, -89,  1e4, -1e4, 1e18,  -1e18,  INFINITY, -INFINITY, NAN};

    enum { N = sizeof edges / sizeof *edges };

    gan_real x[N];
    for (int i = 0; i < N; i++)
        x[i] = (gan_real)edges[i];
    for (int op = GAN_EXP; op < GAN__MAP_OP_COUNT; op++)
        if (op == GAN_LEAKY || op == GAN_CLAMP || op == GAN_SIGN)
            map(op, (gan_real)0.2, 2, x, N - 1);
        else
            map(op, 0, 0, x, N);
    for (int op = GAN_AFFINE; op < GAN__MAP_OP_COUNT; op++) {
        gan_map p = {op, 1, (gan_real)0.5, 1};
        gan_real ref, cpu, nan = (gan_real)NAN;
        if (op == GAN_SIGN)
            continue; /* it has only three values */
        gan_ref_map(&p, &nan, &ref);
        gan_cpu_map(&p, &nan, &cpu);
        CHECK(isnan(ref) && isnan(cpu), "map op %d makes a number of NaN: ref %g, cpu %g", op,
              (double)ref, (double)cpu);
    }
}

/* The error of got in units in the last place of right. What is below the smallest normal number
   may be 0: such an error counts 4. At the largest number a rounding decides between it and
   infinity. */
static double ulps(double got, double right)
{
    bool single = sizeof(gan_real) == 4;
    double least = single ? 1.17549435e-38 : 2.2250738585072014e-308;
    double most = single ? 3.4028234663852886e38 : 1.7976931348623157e308;
    double unit = fabs(right) > least ? ldexp(1, ilogb(right) - (single ? 23 : 52)) : 0;
    if (isnan(right))
        return isnan(got) ? 0 : INFINITY;
    if (fabs(right) > most * (1 - 4e-7))
        return fabs(got) > most * (1 - 4e-7) && (got > 0) == (right > 0) ? 0 : INFINITY;
    double error = fabs(got - right) / fmax(unit, least / 4);
    return isnan(error) ? INFINITY : error;
}

/* In single precision cpu has an exp and a tanh of its own. Every 1999th float there is, of
   either sign and all sizes, NaNs among them, against libm in double; 4 units are for a
   polynomial, its argument's rounding and two scalings. */
static void test_map_accuracy(void)
{
    static const struct {
        int op;
        const char *name;
        double allowed;
    } ops[] = {
        {GAN_EXP, "exp", 4},
        {GAN_TANH, "tanh", 4},
        {GAN_SIGMOID, "sigmoid", 4},
        {GAN_ERF, "erf", 4},
    };

    enum { N = 4096 };

    static gan_real x[N], ref[N], cpu[N];
    for (int k = 0; k < 4; k++) {
        double worst_ref = 0, worst_cpu = 0, at = 0;
        uint64_t next = 0;
        while (next < (uint64_t)1 << 32) {
            gan_map p = {ops[k].op, 0, 0, 0};
            for (; p.count < N && next < (uint64_t)1 << 32; next += 1999) {
                uint32_t word = (uint32_t)next;
                float value;
                memcpy(&value, &word, sizeof value);
                x[p.count++] = (gan_real)value;
            }
            gan_ref_map(&p, x, ref);
            gan_cpu_map(&p, x, cpu);
            for (size_t i = 0; i < p.count; i++) {
                double right = map_of(ops[k].op, 0, 0, (double)x[i]);
                double r = ulps((double)ref[i], right);
                double c = ulps((double)cpu[i], right);
                worst_ref = fmax(worst_ref, r);
                if (c > worst_cpu) {
                    worst_cpu = c;
                    at = (double)x[i];
                }
            }
        }
        CHECK(worst_ref <= ops[k].allowed, "ref's %s is off by %g units in the last place",
              ops[k].name, worst_ref);
        CHECK(worst_cpu <= ops[k].allowed, "cpu's %s is off by %g units in the last place, at %.9g",
              ops[k].name, worst_cpu, at);
    }
}

/* Exactly right where a network counts on it: e^0 = 1, tanh of 0 is 0, of far away 1, sigmoid(0)
   = 1/2. */
static void test_map_exact(void)
{
    static const struct {
        int op;
        double x, y;
    } known[] = {
        {GAN_EXP, 0, 1},
        {GAN_EXP, -0.0, 1},
        {GAN_EXP, -INFINITY, 0},
        {GAN_EXP, INFINITY, INFINITY},
        {GAN_EXP, -1e4, 0},
        {GAN_EXP, 1e4, INFINITY},
        {GAN_TANH, 0, 0},
        {GAN_TANH, -0.0, 0},
        {GAN_TANH, INFINITY, 1},
        {GAN_TANH, -INFINITY, -1},
        {GAN_TANH, 40, 1},
        {GAN_TANH, -40, -1},
        {GAN_SIGMOID, 0, 0.5},
        {GAN_SIGMOID, INFINITY, 1},
        {GAN_SIGMOID, -INFINITY, 0},
        {GAN_SIGMOID, 1e4, 1},
        {GAN_SIGMOID, -1e4, 0},
        {GAN_ERF, 0, 0},
        {GAN_ERF, INFINITY, 1},
        {GAN_ERF, -INFINITY, -1},
        {GAN_ERF, 40, 1},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        gan_map p = {known[i].op, 21, 0, 0};
        gan_real x[21], ref[21], cpu[21], y = (gan_real)known[i].y;
        for (int k = 0; k < 21; k++)
            x[k] = (gan_real)known[i].x;
        gan_ref_map(&p, x, ref);
        gan_cpu_map(&p, x, cpu);
        for (int k = 0; k < 21; k++)
            CHECK(ref[k] == y && cpu[k] == y, "op %d of %g: ref %.9g, cpu %.9g, want %.9g",
                  known[i].op, known[i].x, (double)ref[k], (double)cpu[k], known[i].y);
    }
}

/* ---- zip ---- */

static double zip_of(int op, double k, double l, double a, double b)
{
    switch (op) {
    case GAN_MIX: return k * a + l * b;
    case GAN_MUL: return a * b;
    case GAN_DIV: return a / b;
    case GAN_GATE: return b > 0 ? a : k * a;
    case GAN_INSIDE: return b >= k && b <= l ? a : 0;
    case GAN_DTANH: return a * (1 - b * b);
    case GAN_DSIGMOID: return a * b * (1 - b);
    case GAN_EQUAL: return a == b;
    }
    printf("zip op %d has no formula in zip_of\n", op);
    return NAN;
}

/* How far apart neighbours lie in an array that has only the dimensions of `has`, one bit each:
   0 where it repeats. */
static size_t strides(const int shape[4], int has, ptrdiff_t stride[4])
{
    size_t size = 1;
    for (int d = 3; d >= 0; d--) {
        stride[d] = has >> d & 1 ? (ptrdiff_t)size : 0;
        if (has >> d & 1)
            size *= (size_t)shape[d];
    }
    return size;
}

static void zip(int op, const int shape[4], int has_a, int has_b)
{
    gan_zip p = {op,  shape[0], shape[1],       shape[2],      shape[3],
                 {0}, {0},      (gan_real)0.25, (gan_real)0.75};
    size_t n = (size_t)p.n * p.c * p.h * p.w;
    size_t an = strides(shape, has_a, p.a);
    size_t bn = strides(shape, has_b, p.b);
    gan_real *a = input(an, 0.1, 1);
    gan_real *b = input(bn, op == GAN_GATE ? -1 : 0.1,
                        0.9); /* positive: sums without cancellation */
    gan_real *slow = output(n), *ref = output(n), *cpu = output(n);
    for (size_t i = 0; i < n; i++) {
        ptrdiff_t ia = 0, ib = 0;
        size_t rest = i;
        for (int d = 3; d >= 0; d--) {
            ptrdiff_t at = (ptrdiff_t)(rest % (size_t)shape[d]);
            ia += at * p.a[d];
            ib += at * p.b[d];
            rest /= (size_t)shape[d];
        }
        slow[i] = (gan_real)zip_of(op, (double)p.k, (double)p.l, (double)a[ia], (double)b[ib]);
    }
    gan_ref_zip(&p, a, b, ref);
    gan_cpu_zip(&p, a, b, cpu);
    agree_each(TEXT("zip op %d of (%d,%d,%d,%d), dimensions %x and %x", op, p.n, p.c, p.h, p.w,
                    has_a, has_b),
               slow, ref, cpu, n);
    done(text);
}

static void test_zip(void)
{
    static const int shapes[][4] = {{2, 3, 4, 5},  {3, 1, 1, 37}, {1, 1, 1, 1},
                                    {1, 19, 1, 1}, {2, 5, 9, 1},  {1, 2, 7, 67}};
    for (int s = 0; s < 6; s++)
        for (int op = GAN_MIX; op < GAN__ZIP_OP_COUNT; op++)
            for (int ab = 0; ab < 256; ab++)
                zip(op, shapes[s], ab & 15, ab >> 4);
    for (int ab = 0; ab < 256;
         ab++) { /* large enough to be shared among threads, which cut it where they like */
        static const int large[4] = {3, 4, 37, 79};
        zip(GAN_MIX, large, ab & 15, ab >> 4);
    }
}

/* Operands need not be in order: a transposed one has strides of its own. */
static void test_zip_strides(void)
{
    for (int op = GAN_MIX; op < GAN__ZIP_OP_COUNT; op++) {
        gan_zip p = {op,
                     2,
                     3,
                     18,
                     21,
                     {1134, 378, 1, 18},
                     {378, 756, 21, 1},
                     (gan_real)0.25,
                     (gan_real)0.75};
        gan_real *a = input(2268, 0.1, 1);
        gan_real *b = input(2268, 0.1, 0.9);
        gan_real *slow = output(2268);
        gan_real *ref = output(2268);
        gan_real *cpu = output(2268);
        gan_real *y = slow;
        for (int n = 0; n < 2; n++)
            for (int c = 0; c < 3; c++)
                for (int h = 0; h < 18; h++)
                    for (int w = 0; w < 21; w++)
                        *y++ = (gan_real)zip_of(op, 0.25, 0.75,
                                                (double)a[n * 1134 + c * 378 + h + w * 18],
                                                (double)b[n * 378 + c * 756 + h * 21 + w]);
        gan_ref_zip(&p, a, b, ref);
        gan_cpu_zip(&p, a, b, cpu);
        agree_each(TEXT("zip op %d of a transposed operand", op), slow, ref, cpu, 2268);
        done(text);
    }
}

/* Where the piecewise ones switch: at 0, and at the ends of the interval, which belong to it.
   Each b several times, in vectors and after. */
static void test_zip_edges(void)
{
    static const double edges[] = {0,          -0.0,       0.25, 0.75, 0.25000003, 0.24999998,
                                   0.75000006, 0.74999994, 1,    -1,   INFINITY,   -INFINITY};

    enum { N = 12 * 37 };

    for (int op = GAN_GATE; op <= GAN_INSIDE; op++) {
        gan_zip p = {op, 1, 1, 1, N, {0, 0, 0, 1}, {0, 0, 0, 1}, (gan_real)0.25, (gan_real)0.75};
        gan_real *a = input(N, 0.1, 1);
        gan_real *b = output(N);
        gan_real *slow = output(N);
        gan_real *ref = output(N);
        gan_real *cpu = output(N);
        for (int i = 0; i < N; i++) {
            b[i] = (gan_real)edges[i % 12];
            slow[i] = (gan_real)zip_of(op, 0.25, 0.75, (double)a[i], (double)b[i]);
        }
        gan_ref_zip(&p, a, b, ref);
        gan_cpu_zip(&p, a, b, cpu);
        agree_each(TEXT("zip op %d where it switches", op), slow, ref, cpu, N);
        done(text);
    }
}

/* Equality: of numbers that are often the same, of zeros of either sign, of infinities; a NaN
   equals nothing. */
static void test_equal(void)
{
    static const double values[] = {0, -0.0, 1, 1.5, -1, INFINITY, -INFINITY, NAN};

    enum { N = 8 * 8 * 5 + 3 };

    gan_zip p = {GAN_EQUAL, 1, 1, 1, N, {0, 0, 0, 1}, {0, 0, 0, 1}, 0, 0};
    gan_real *a = output(N);
    gan_real *b = output(N);
    gan_real *slow = output(N);
    gan_real *ref = output(N);
    gan_real *cpu = output(N);
    for (int i = 0; i < N; i++) {
        double u = values[i % 8], v = values[i / 8 % 8];
        a[i] = (gan_real)u;
        b[i] = (gan_real)v;
        slow[i] = (gan_real)(i % 8 != 7 && i / 8 % 8 != 7 &&
                             (i % 8 == i / 8 % 8 || (i % 8 < 2 && i / 8 % 8 < 2)));
    }
    gan_ref_zip(&p, a, b, ref);
    gan_cpu_zip(&p, a, b, cpu);
    same("ref's equality", ref, slow, N);
    same("cpu's equality", cpu, slow, N);
    done("equality");
}

/* ---- copy ---- */

/* p from an x of xn numbers into a y of yn, of which the copy must touch only its own. */
static void copy(const gan_copy *p, size_t xn, size_t yn)
{
    gan_real *x = input(xn, -1, 1);
    gan_real *start = input(yn, -1, 1);
    gan_real *slow = like(start, yn);
    gan_real *ref = like(start, yn);
    gan_real *cpu = like(start, yn);
    for (int i = p->n * p->c * p->h * p->w;
         i-- > 0;) { /* from the last: the order must not matter */
        int w = i % p->w;
        int h = i / p->w % p->h;
        int c = i / p->w / p->h % p->c;
        int n = i / p->w / p->h / p->c;
        slow[p->y0 + n * p->y[0] + c * p->y[1] + h * p->y[2] + w * p->y[3]] =
            x[p->x0 + n * p->x[0] + c * p->x[1] + h * p->x[2] + w * p->x[3]];
    }
    gan_ref_copy(p, x, ref);
    gan_cpu_copy(p, x, cpu);
    same(TEXT("ref's copy of (%d,%d,%d,%d)", p->n, p->c, p->h, p->w), ref, slow, yn);
    same(TEXT("cpu's copy of (%d,%d,%d,%d)", p->n, p->c, p->h, p->w), cpu, slow, yn);
    done(text);
}

static void test_copy_permute(void)
{
    static const int shapes[][4] = {{2, 3, 4, 5}, {3, 1, 17, 33}, {1, 1, 70, 65},
                                    {1, 1, 1, 1}, {2, 66, 3, 1},  {5, 9, 31, 29}};
    for (int s = 0; s < 6; s++)
        for (int order = 0; order < 256; order++) {
            int d[4] = {order & 3, order >> 2 & 3, order >> 4 & 3, order >> 6};
            ptrdiff_t xs[4], ys[4];
            if ((1 << d[0] | 1 << d[1] | 1 << d[2] | 1 << d[3]) != 15)
                continue; /* not a permutation */
            int to[4] = {shapes[s][d[0]], shapes[s][d[1]], shapes[s][d[2]], shapes[s][d[3]]};
            size_t size = strides(shapes[s], 15, xs);
            strides(to, 15, ys);
            gan_copy p = {to[0],
                          to[1],
                          to[2],
                          to[3],
                          {xs[d[0]], xs[d[1]], xs[d[2]], xs[d[3]]},
                          {ys[0], ys[1], ys[2], ys[3]},
                          0,
                          0};
            copy(&p, size, size);
        }
}

static void test_copy_parts(void)
{
    static const int shape[4] = {3, 4, 5, 19};
    ptrdiff_t full[4];
    size_t size = strides(shape, 15, full);
    for (int dim = 0; dim < 4;
         dim++) /* a slice, and its adjoint: into the middle of a larger one */
        for (int back = 0; back < 2; back++) {
            int part[4] = {3, 4, 5, 19};
            ptrdiff_t own[4];
            part[dim] -= 2;
            size_t small = strides(part, 15, own);
            gan_copy p = {part[0],
                          part[1],
                          part[2],
                          part[3],
                          {0},
                          {0},
                          back ? 0 : full[dim],
                          back ? full[dim] : 0};
            memcpy(p.x, back ? own : full, sizeof p.x);
            memcpy(p.y, back ? full : own, sizeof p.y);
            copy(&p, back ? small : size, back ? size : small);
        }
    for (int has = 0; has < 16; has++) { /* expand: x has some dimensions only */
        gan_copy p = {3, 4, 5, 19, {0}, {0}, 0, 0};
        size_t xn = strides(shape, has, p.x);
        memcpy(p.y, full, sizeof p.y);
        copy(&p, xn, size);
    }
}

/* ---- sum ---- */

static void sum(const int in[4], int over, double lo, double hi)
{
    gan_sums p = {{in[0], in[1], in[2], in[3]}, {in[0], in[1], in[2], in[3]}};
    ptrdiff_t ys[4];
    for (int d = 0; d < 4; d++)
        if (over >> d & 1)
            p.out[d] = 1;
    size_t xn = (size_t)in[0] * in[1] * in[2] * in[3];
    size_t yn = strides(in, 15 & ~over, ys);
    gan_real *x = input(xn, lo, hi);
    gan_real *slow = output(yn);
    gan_real *ref = output(yn);
    gan_real *cpu = output(yn);
    double *total = zeros(yn);
    for (size_t i = 0; i < xn; i++) { /* each number goes to its place */
        size_t rest = i, to = 0;
        for (int d = 3; d >= 0; d--) {
            to += rest % (size_t)in[d] * (size_t)ys[d];
            rest /= (size_t)in[d];
        }
        total[to] += (double)x[i];
    }
    store(total, slow, yn);
    gan_ref_sum(&p, x, ref);
    gan_cpu_sum(&p, x, cpu);
    agree(TEXT("sum of (%d,%d,%d,%d) over %x", in[0], in[1], in[2], in[3], over), slow, ref, cpu,
          yn);
    done(text);
}

static void test_sum(void)
{
    static const int shapes[][4] = {{2, 3, 4, 5},     {3, 1, 7, 33},   {5, 6, 1, 1},
                                    {1, 1, 1, 1},     {1, 1, 1, 1000}, {16, 9, 7, 7},
                                    {1, 40, 3, 129},  {70, 2, 1, 1},   {1, 1, 65, 17},
                                    {40, 30, 20, 10}, {3, 2100, 1, 2}};
    for (int s = 0; s < 11; s++)
        for (int over = 0; over < 16; over++)
            sum(shapes[s], over, -1, 1);
}

/* A million numbers near 1 in single precision: a plain running sum would be off by 1e-4 and
   more. */
static void test_sum_long(void)
{
    static const int shape[4] = {1, 1, 1000, 1000};
    sum(shape, 15, 0.5, 1.5);
    sum(shape, 4, 0.5, 1.5);
}

/* ---- matmul ---- */

static void matmul(const gan_product *p, size_t an, size_t bn)
{
    size_t mw = (size_t)p->m * p->w, yn = mw * p->n * p->c;
    gan_real *a = input(an, -1, 1);
    gan_real *b = input(bn, -1, 1);
    gan_real *slow = output(yn);
    gan_real *ref = output(yn);
    gan_real *cpu = output(yn);
    double *y = zeros(yn);
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++)
            for (int k = 0; k < p->k; k++) { /* a sum of outer products */
                const gan_real *an_ = a + n * p->a_n + c * p->a_c;
                const gan_real *bn_ = b + n * p->b_n + c * p->b_c;
                double *to = y + ((size_t)n * p->c + c) * mw;
                for (int m = 0; m < p->m; m++) {
                    double left = (double)(p->transpose_a ? an_[(size_t)k * p->m + m]
                                                          : an_[(size_t)m * p->k + k]);
                    for (int w = 0; w < p->w; w++)
                        to[(size_t)m * p->w + w] += left *
                                                    (double)(p->transpose_b
                                                                 ? bn_[(size_t)w * p->k + k]
                                                                 : bn_[(size_t)k * p->w + w]);
                }
            }
    store(y, slow, yn);
    gan_ref_matmul(p, a, b, ref);
    gan_cpu_matmul(p, a, b, cpu);
    agree(
        TEXT("matmul of %d x %d batches, %d x %d x %d, transposes %d %d, batch strides %d %d %d %d",
             p->n, p->c, p->m, p->k, p->w, p->transpose_a, p->transpose_b, (int)p->a_n, (int)p->a_c,
             (int)p->b_n, (int)p->b_c),
        slow, ref, cpu, yn);
    done(text);
}

static void test_matmul(void)
{
    static const int sizes[][3] = {{1, 1, 1},     {7, 5, 3},    {1, 257, 1},    {1, 40, 100},
                                   {100, 40, 1},  {8, 256, 48}, {9, 257, 49},   {13, 1030, 95},
                                   {800, 70, 31}, {5, 3, 800},  {257, 20, 257}, {47, 513, 50}};
    for (int s = 0; s < 12; s++)
        for (int t = 0; t < 4; t++) {
            gan_product p = {1, 1, sizes[s][0], sizes[s][1], sizes[s][2], t & 1, t >> 1, 0, 0,
                             0, 0};
            matmul(&p, (size_t)p.m * p.k, (size_t)p.k * p.w);
        }
}

/* A long sum of equal terms, where roundings all go the same way: added in blocks of 256 and
   then block by block, (256 + K/256) roundings of 2^-24 can add up, 4e-5; one after the other it
   would be K of them. */
static void test_matmul_long(void)
{
    enum { K = 100000 };

    gan_product p = {1, 1, 1, K, 1, 0, 0, 0, 0, 0, 0};
    gan_real *a = (gan_real *)malloc(2 * K * sizeof *a), y = 0;
    for (int i = 0; i < K; i++) {
        a[i] = (gan_real)0.93;
        a[K + i] = (gan_real)6.7e-5;
    }
    gan_cpu_matmul(&p, a, a + K, &y);
    double exact = K * (double)a[0] * (double)a[K];
    double error = fabs((double)y - exact) / exact;
    free(a);
    CHECK(error <= (256 + K / 256) / 16777216.0,
          "100,000 equal terms: %.9g, not %.9g, an error of %.2g", (double)y, exact, error);
}

static void test_matmul_batches(void)
{
    for (int t = 0; t < 4; t++)
        for (int has = 0; has < 16;
             has++) { /* which of N and C each operand has: the others are repeated */
            gan_product p = {2, 3, 10, 6, 51, t & 1, t >> 1, 0, 0, 0, 0};
            int a = p.m * p.k;
            int b = p.k * p.w;
            int ac = has & 1 ? 3 : 1;
            int an = has & 2 ? 2 : 1;
            int bc = has & 4 ? 3 : 1;
            int bn = has & 8 ? 2 : 1;
            p.a_c = ac > 1 ? a : 0;
            p.a_n = an > 1 ? a * ac : 0;
            p.b_c = bc > 1 ? b : 0;
            p.b_n = bn > 1 ? b * bc : 0;
            matmul(&p, (size_t)a * ac * an, (size_t)b * bc * bn);
        }
}

/* ---- conv ---- */

static int at_least_1(int x)
{
    return x ? x : 1;
}

/* Of the two axes, h 0 and w 1: what a gan_conv's or gan_pool's fields mean. */
static int step(int both, const int one[2], int axis)
{
    return at_least_1(one[axis] ? one[axis] : both);
}

/* y: every pixel of x is thrown at the outputs that see it. */
static void slow_conv2d(const gan_conv *p, const gan_real *x, const gan_real *w, gan_real *y)
{
    const int stride[2] = {p->stride_h, p->stride_w}, dilation[2] = {p->dilation_h, p->dilation_w};
    int sh = step(p->stride, stride, 0);
    int sw = step(p->stride, stride, 1);
    int dh = step(p->dilation, dilation, 0);
    int dw = step(p->dilation, dilation, 1);
    int ph = p->pad + p->pad_h;
    int pw = p->pad + p->pad_w;
    int g = at_least_1(p->groups);
    int cg = p->c / g;
    int og = p->out_c / g;
    int oh = gan_conv_out_h(p);
    int ow = gan_conv_out_w(p);
    size_t yn = (size_t)p->n * p->out_c * oh * ow;
    double *sum = zeros(yn);
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++)
            for (int h = 0; h < p->h; h++)
                for (int v = 0; v < p->w; v++) {
                    double pixel = (double)*x++;
                    for (int kh = 0; kh < p->kernel_h; kh++)
                        for (int kw = 0; kw < p->kernel_w; kw++) {
                            int top = h + ph - kh * dh, left = v + pw - kw * dw;
                            if (top < 0 || left < 0 || top % sh || left % sw || top / sh >= oh ||
                                left / sw >= ow)
                                continue;
                            for (int o = c / cg * og; o < (c / cg + 1) * og; o++)
                                sum[(((size_t)n * p->out_c + o) * oh + top / sh) * ow +
                                    left / sw] +=
                                    pixel *
                                    (double)w[((o * cg + c % cg) * p->kernel_h + kh) * p->kernel_w +
                                              kw];
                        }
                }
    store(sum, y, yn);
}

/* x: y is spread out with stride - 1 zeros between its elements and a rim of zeros, then
   convolved with the flipped kernel, whose taps lie a dilation apart. */
static void slow_conv_transpose2d(const gan_conv *p, const gan_real *y, const gan_real *w,
                                  gan_real *x)
{
    const int stride[2] = {p->stride_h, p->stride_w}, dilation[2] = {p->dilation_h, p->dilation_w};
    int sh = step(p->stride, stride, 0);
    int sw = step(p->stride, stride, 1);
    int dh = step(p->dilation, dilation, 0);
    int dw = step(p->dilation, dilation, 1);
    int ph = p->pad + p->pad_h;
    int pw = p->pad + p->pad_w;
    int g = at_least_1(p->groups);
    int cg = p->c / g;
    int og = p->out_c / g;
    int oh = gan_conv_out_h(p);
    int ow = gan_conv_out_w(p);
    int kh = p->kernel_h;
    int kw = p->kernel_w;
    int top = dh * (kh - 1);
    int left = dw * (kw - 1);
    int zh = p->h + 2 * ph + top;
    int zw = p->w + 2 * pw + left;
    size_t xn = (size_t)p->n * p->c * p->h * p->w;
    double *sum = zeros(xn), *z = zeros((size_t)zh * zw);
    for (int n = 0; n < p->n; n++)
        for (int o = 0; o < p->out_c; o++) {
            for (int i = 0; i < oh; i++)
                for (int j = 0; j < ow; j++)
                    z[(i * sh + top) * zw + j * sw + left] = (double)
                        y[(((size_t)n * p->out_c + o) * oh + i) * ow + j];
            for (int k = 0; k < cg; k++) {
                const gan_real *kernel = w + (size_t)(o * cg + k) * kh * kw;
                double *to = sum + ((size_t)n * p->c + o / og * cg + k) * p->h * p->w;
                for (int h = 0; h < p->h; h++)
                    for (int v = 0; v < p->w; v++)
                        for (int a = 0; a < kh; a++)
                            for (int b = 0; b < kw; b++)
                                to[h * p->w + v] += z[(h + ph + a * dh) * zw + v + pw + b * dw] *
                                                    (double)kernel[(kh - 1 - a) * kw + kw - 1 - b];
            }
        }
    free(z);
    store(sum, x, xn);
}

/* w: every output sends its gradient, times the window of a zero-padded copy of the image that
   it saw, to the weight. */
static void slow_conv2d_weight(const gan_conv *p, const gan_real *x, const gan_real *y, gan_real *w)
{
    const int stride[2] = {p->stride_h, p->stride_w}, dilation[2] = {p->dilation_h, p->dilation_w};
    int sh = step(p->stride, stride, 0);
    int sw = step(p->stride, stride, 1);
    int dh = step(p->dilation, dilation, 0);
    int dw = step(p->dilation, dilation, 1);
    int ph = p->pad + p->pad_h;
    int pw = p->pad + p->pad_w;
    int g = at_least_1(p->groups);
    int cg = p->c / g;
    int og = p->out_c / g;
    int oh = gan_conv_out_h(p);
    int ow = gan_conv_out_w(p);
    int kh = p->kernel_h;
    int kw = p->kernel_w;
    int rows = p->h + 2 * ph;
    int columns = p->w + 2 * pw;
    size_t wn = (size_t)p->out_c * cg * kh * kw;
    double *sum = zeros(wn), *padded = zeros((size_t)rows * columns);
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++) {
            for (int h = 0; h < p->h; h++)
                for (int v = 0; v < p->w; v++)
                    padded[(h + ph) * columns + v + pw] = (double)
                        x[(((size_t)n * p->c + c) * p->h + h) * p->w + v];
            for (int o = c / cg * og; o < (c / cg + 1) * og; o++)
                for (int i = 0; i < oh; i++)
                    for (int j = 0; j < ow; j++) {
                        double gradient = (double)y[(((size_t)n * p->out_c + o) * oh + i) * ow + j];
                        for (int a = 0; a < kh; a++)
                            for (int b = 0; b < kw; b++)
                                sum[((o * cg + c % cg) * kh + a) * kw + b] +=
                                    gradient *
                                    padded[(i * sh + a * dh) * columns + j * sw + b * dw];
                    }
        }
    free(padded);
    store(sum, w, wn);
}

static void conv(const gan_conv *p)
{
    size_t xn = (size_t)p->n * p->c * p->h * p->w;
    size_t yn = (size_t)p->n * p->out_c * gan_conv_out_h(p) * gan_conv_out_w(p);
    size_t wn = (size_t)p->out_c * (p->c / at_least_1(p->groups)) * p->kernel_h * p->kernel_w;
    gan_real *x = input(xn, -1, 1);
    gan_real *w = input(wn, -1, 1);
    gan_real *y = input(yn, -1, 1);
    gan_real *slow_y = output(yn);
    gan_real *ref_y = output(yn);
    gan_real *cpu_y = output(yn);
    gan_real *slow_x = output(xn);
    gan_real *ref_x = output(xn);
    gan_real *cpu_x = output(xn);
    gan_real *slow_w = output(wn);
    gan_real *ref_w = output(wn);
    gan_real *cpu_w = output(wn);
    char shape[200];
    snprintf(shape, sizeof shape,
             "(%d,%d,%d,%d) to %d channels, kernel %dx%d, stride %d (%d,%d), pad %d (%d,%d), "
             "groups %d, dilation %d (%d,%d)",
             p->n, p->c, p->h, p->w, p->out_c, p->kernel_h, p->kernel_w, p->stride, p->stride_h,
             p->stride_w, p->pad, p->pad_h, p->pad_w, p->groups, p->dilation, p->dilation_h,
             p->dilation_w);

    slow_conv2d(p, x, w, slow_y);
    gan_ref_conv2d(p, x, w, ref_y);
    gan_cpu_conv2d(p, x, w, cpu_y);
    agree(TEXT("conv2d %s", shape), slow_y, ref_y, cpu_y, yn);

    slow_conv_transpose2d(p, y, w, slow_x);
    gan_ref_conv_transpose2d(p, y, w, ref_x);
    gan_cpu_conv_transpose2d(p, y, w, cpu_x);
    agree(TEXT("conv_transpose2d %s", shape), slow_x, ref_x, cpu_x, xn);

    slow_conv2d_weight(p, x, y, slow_w);
    gan_ref_conv2d_weight(p, x, y, ref_w);
    gan_cpu_conv2d_weight(p, x, y, cpu_w);
    agree(TEXT("conv2d_weight %s", shape), slow_w, ref_w, cpu_w, wn);
    done(shape);
}

static void test_conv(void)
{
    static const gan_conv table[] = {
        /* n   c   h   w    o  kh kw  s  p  g  d */
        {1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, ALIKE}, /* one of everything */
        {1, 1, 5, 5, 1, 3, 3, 1, 1, 1, 1, ALIKE},
        {2, 3, 5, 5, 2, 3, 3, 0, 0, 0, 0, ALIKE},  /* 0 for stride, groups and dilation means 1 */
        {2, 3, 7, 9, 4, 3, 3, 2, 1, 1, 1, ALIKE},  /* stride 2, odd sizes */
        {1, 3, 8, 10, 5, 3, 3, 2, 1, 1, 1, ALIKE}, /* the last row and column are not reached */
        {2, 2, 3, 4, 3, 7, 5, 1, 3, 1, 1, ALIKE},  /* kernel larger than the image */
        {1, 2, 2, 2, 3, 5, 5, 3, 2, 1, 1, ALIKE},
        {1, 2, 4, 4, 3, 2, 2, 1, 3, 1, 1, ALIKE}, /* windows that lie in the padding only */
        {1, 2, 9, 9, 3, 2, 2, 5, 0, 1, 1,
         ALIKE}, /* stride larger than the kernel: pixels that no window sees */
        {3, 2, 6, 1, 4, 3, 1, 1, 0, 1, 1, ALIKE},  /* one column */
        {3, 2, 1, 11, 4, 1, 4, 2, 1, 1, 1, ALIKE}, /* one row */
        {2, 4, 6, 5, 6, 3, 2, 1, 0, 2, 1, ALIKE},  /* groups */
        {1, 5, 9, 7, 5, 3, 3, 2, 1, 5, 1, ALIKE},  /* depthwise */
        {2, 3, 6, 6, 6, 3, 3, 1, 1, 3, 1, ALIKE},
        {5, 1, 12, 12, 64, 4, 4, 2, 1, 1, 1, ALIKE}, /* a discriminator's layers */
        {3, 64, 6, 6, 33, 4, 4, 2, 1, 1, 1, ALIKE},
        {2, 29, 7, 7, 97, 3, 3, 1, 1, 1, 1, ALIKE},  /* depth 261: one block and 5 */
        {2, 70, 6, 6, 50, 3, 3, 1, 1, 1, 1, ALIKE},  /* depth 630 */
        {3, 1, 17, 17, 9, 4, 4, 1, 2, 1, 1, ALIKE},  /* 972 columns */
        {4, 3, 4, 4, 800, 4, 4, 1, 0, 1, 1, ALIKE},  /* 800 rows, one pixel */
        {1, 257, 1, 1, 49, 1, 1, 1, 0, 1, 1, ALIKE}, /* a matrix product */
        {2, 260, 3, 3, 41, 1, 1, 2, 0, 1, 1, ALIKE},
        {11, 2, 30, 31, 3, 3, 3, 1, 1, 1, 1,
         ALIKE}, /* 10230 outputs: the weight gradient's depth, and more than fit a cache */
        {5, 4, 46, 47, 6, 3, 3, 1, 1, 2, 1, ALIKE},
        {33, 3, 5, 5, 7, 5, 5, 1, 0, 1, 1, ALIKE},
        {1, 1, 3, 3, 1, 2, 2, 1, 0, 1, 2, ALIKE}, /* dilated: one tap in each corner of the image */
        {2, 3, 9, 7, 4, 3, 3, 1, 2, 1, 2, ALIKE}, /* the size stays */
        {2, 3, 9, 10, 4, 3, 3, 2, 2, 1, 2,
         ALIKE}, /* stride and dilation have a common factor: pixels that no tap sees */
        {1, 2, 11, 8, 3, 2, 3, 3, 3, 1, 2, ALIKE},
        {1, 2, 8, 13, 5, 3, 2, 2, 3, 1, 3, ALIKE},
        {2, 10, 12, 11, 20, 3, 3, 1, 4, 1, 4, ALIKE},
        {2, 6, 10, 9, 9, 3, 3, 1, 2, 3, 2, ALIKE}, /* with groups */
        {1, 7, 9, 9, 7, 3, 5, 2, 2, 7, 2, ALIKE},  /* depthwise */
        {3, 5, 6, 6, 4, 1, 1, 1, 0, 1, 5, ALIKE},  /* a dilation without effect */
        {2, 29, 13, 13, 65, 3, 3, 1, 3, 1, 3, ALIKE},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        conv(&table[i]);
}

static void test_conv_random(void)
{
    for (int i = 0; i < 240;) {
        int g = between(1, 3);
        gan_conv p = {between(1, 4),
                      g * between(1, 6),
                      between(1, 13),
                      between(1, 13),
                      g * between(1, 10),
                      between(1, 6),
                      between(1, 6),
                      between(1, 3),
                      between(0, 3),
                      g,
                      i % 4 == 1 ? between(2, 4) : 1,
                      ALIKE};
        if (i % 10 == 3)
            p.c *= 13;
        if (i % 10 == 7)
            p.out_c *= 9;
        if (p.h + 2 * p.pad <= p.dilation * (p.kernel_h - 1) ||
            p.w + 2 * p.pad <= p.dilation * (p.kernel_w - 1))
            continue; /* no output */
        conv(&p);
        i++;
    }
}

/* How many pixels of an axis a window needs inside the image: its length without the padding. */
static int reach(const gan_conv *p, int axis)
{
    const int dilation[2] = {p->dilation_h, p->dilation_w};
    int kernel = axis ? p->kernel_w : p->kernel_h;
    int pad = p->pad + (axis ? p->pad_w : p->pad_h);
    return step(p->dilation, dilation, axis) * (kernel - 1) + 1 - 2 * pad;
}

/* Each axis has a stride, a padding and a dilation of its own: odd sizes, strides that do not
   divide, channels 1 and 3 (few) and more, groups; of the fields for one axis some are 0. */
static void test_conv_axes(void)
{
    static const int channels[4] = {1, 3, 2, 9};
    gan_conv p = {.n = 2, .c = 3, .h = 9, .w = 8, .out_c = 4, .kernel_h = 3, .kernel_w = 5};
    p.pad_w = 3;
    CHECK(gan_conv_out_h(&p) == 7 && gan_conv_out_w(&p) == 10, "padding (0,3): %d x %d",
          gan_conv_out_h(&p), gan_conv_out_w(&p));
    p.pad = 1;
    p.stride = 2;
    p.stride_w = 3;
    p.dilation_h = 2;
    CHECK(gan_conv_out_h(&p) == 4 && gan_conv_out_w(&p) == 4,
          "stride (2,3), padding (1,4), dilation (2,1): %d x %d", gan_conv_out_h(&p),
          gan_conv_out_w(&p));
    conv(&p);
    for (int i = 0; i < 360;) {
        memset(&p, 0, sizeof p);
        p.groups = i % 3 == 0 ? between(1, 3) : 0;
        int each = channels[i % 4] * (i % 12 == 11 ? 5 : 1);
        p.n = between(1, 3);
        p.c = at_least_1(p.groups) * each;
        p.out_c = at_least_1(p.groups) * between(1, i % 5 == 4 ? 40 : 6);
        p.h = between(1, 15);
        p.w = between(1, 15);
        p.kernel_h = between(1, 5);
        p.kernel_w = between(1, 5);
        p.stride = between(0, 2);
        p.stride_h = between(0, 4);
        p.stride_w = between(0, 4);
        p.pad = between(0, 2);
        p.pad_h = between(-p.pad, 2);
        p.pad_w = between(-p.pad, 3);
        if (i % 2) {
            p.dilation = between(0, 2);
            p.dilation_h = between(0, 3);
            p.dilation_w = between(0, 3);
        }
        if (gan_conv_out_h(&p) < 1 || gan_conv_out_w(&p) < 1 || reach(&p, 0) > p.h ||
            reach(&p, 1) > p.w)
            continue; /* no output */
        conv(&p);
        i++;
    }
}

/* A NaN in one pixel reaches the outputs that see it and no others, however the work is cut into
   tiles. */
static void test_conv_nan(void)
{
    for (int channels = 6; channels <= 10; channels += 4) {
        gan_conv p = {2, channels, 9, 11, 10, 3, 3, 2, 1, 2, 1 + (channels == 10), ALIKE};
        size_t xn = (size_t)2 * channels * 9 * 11;
        size_t wn = (size_t)10 * channels / 2 * 3 * 3;
        size_t yn = (size_t)2 * 10 * gan_conv_out_h(&p) * gan_conv_out_w(&p);
        size_t sizes[3] = {yn, xn, wn};
        gan_real *x = like(input(xn, -1, 1), xn);
        gan_real *y = like(input(yn, -1, 1), yn);
        gan_real *w = input(wn, -1, 1);
        gan_real *slow[3] = {output(yn), output(xn), output(wn)};
        gan_real *cpu[3] = {output(yn), output(xn), output(wn)};
        x[700] = y[390] = (gan_real)NAN;
        slow_conv2d(&p, x, w, slow[0]);
        gan_cpu_conv2d(&p, x, w, cpu[0]);
        slow_conv_transpose2d(&p, y, w, slow[1]);
        gan_cpu_conv_transpose2d(&p, y, w, cpu[1]);
        y[390] = 0;
        slow_conv2d_weight(&p, x, y, slow[2]);
        gan_cpu_conv2d_weight(&p, x, y, cpu[2]);
        for (int k = 0; k < 3; k++)
            for (size_t i = 0; i < sizes[k]; i++)
                CHECK(!isnan(slow[k][i]) == !isnan(cpu[k][i]),
                      "kernel %d of %d channels: element %d is %g, want %g", k, channels, (int)i,
                      (double)cpu[k][i], (double)slow[k][i]);
        done("a NaN");
    }
}

/* ---- norm ---- */

/* x, the slow loops' statistics of it and the five kernels. centre: where x lies; far from 0 the
   variance is easily lost. */
static void norm(int n, int c, size_t size, double centre, int frozen)
{
    gan_norm p = {n, c, size, (gan_real)1e-5, frozen};
    size_t count = (size_t)n * c * size;
    size_t each = (size_t)n * size;
    size_t cn = (size_t)c;
    gan_real *x = input(count, centre - 1, centre + 1);
    gan_real *gy = input(count, -1, 1);
    gan_real *weight = input(cn, 0.5, 2);
    gan_real *bias = input(cn, -1, 1);
    gan_real *stats = output(2 * cn), *sums = output(2 * cn);
    gan_real *ref_s = output(2 * cn);
    gan_real *cpu_s = output(2 * cn);
    gan_real *slow = output(count);
    gan_real *ref = output(count);
    gan_real *cpu = output(count);

    for (int k = 0; k < c; k++) { /* two passes: the mean, then the squares about it */
        double mean = 0, var = 0;
        for (size_t i = 0; i < each; i++)
            mean += (double)x[(i / size * cn + k) * size + i % size] / (double)each;
        for (size_t i = 0; i < each; i++)
            var += pow((double)x[(i / size * cn + k) * size + i % size] - mean, 2) / (double)each;
        stats[k] = (gan_real)mean;
        stats[cn + k] = (gan_real)var;
    }
    gan_ref_norm_stats(&p, x, ref_s);
    gan_cpu_norm_stats(&p, x, cpu_s);
    for (int k = 0; k < c && centre == 0; k++) {
        stats[k] += 1;
        ref_s[k] += 1;
        cpu_s[k] += 1;
    } /* a mean near 0 is as exact as its terms */
    agree(TEXT("norm_stats: mean of (%d,%d,%d) at %g", n, c, (int)size, centre), stats, ref_s,
          cpu_s, cn);
    for (int k = 0; k < c && centre == 0; k++)
        stats[k] -= 1;
    agree(TEXT("norm_stats: variance of (%d,%d,%d) at %g", n, c, (int)size, centre), stats + cn,
          ref_s + cn, cpu_s + cn, cn);

    /* From here on the inputs are the slow statistics. x - mean is exact to a rounding of x
       itself, which xhat magnifies by |centre|: everything else is compared at 0. */
    if (centre != 0) {
        done("norm");
        return;
    }
#define CHANNEL(i) ((i) / size % cn)
#define XHAT(i) \
    (((double)x[i] - (double)stats[CHANNEL(i)]) / sqrt((double)stats[cn + CHANNEL(i)] + 1e-5))
    for (size_t i = 0; i < count; i++)
        slow[i] = (gan_real)(XHAT(i) * (double)weight[CHANNEL(i)] + (double)bias[CHANNEL(i)]);
    gan_ref_norm_apply(&p, x, stats, weight, bias, ref);
    gan_cpu_norm_apply(&p, x, stats, weight, bias, cpu);
    agree(TEXT("norm_apply of (%d,%d,%d)", n, c, (int)size), slow, ref, cpu, count);

    double *total = zeros(2 * cn);
    for (size_t i = 0; i < count; i++) {
        total[CHANNEL(i)] += (double)gy[i];
        total[cn + CHANNEL(i)] += (double)gy[i] * XHAT(i);
    }
    store(total, sums, 2 * cn);
    gan_ref_norm_sums(&p, gy, x, stats, ref_s);
    gan_cpu_norm_sums(&p, gy, x, stats, cpu_s);
    agree(TEXT("norm_sums of (%d,%d,%d)", n, c, (int)size), sums, ref_s, cpu_s, 2 * cn);

    for (size_t i = 0; i < count; i++) {
        double mean = ((double)sums[CHANNEL(i)] + XHAT(i) * (double)sums[cn + CHANNEL(i)]) /
                      (double)each;
        slow[i] = (gan_real)((double)weight[CHANNEL(i)] /
                             sqrt((double)stats[cn + CHANNEL(i)] + 1e-5) *
                             ((double)gy[i] - (frozen ? 0 : mean)));
    }
    gan_ref_norm_grad(&p, gy, x, stats, weight, sums, ref);
    gan_cpu_norm_grad(&p, gy, x, stats, weight, sums, cpu);
    /* Of two numbers normalisation makes -1 and 1 whatever they are: the gradient is nothing but
       rounding. */
    if (each > 2 || frozen)
        agree(TEXT("norm_grad of (%d,%d,%d), frozen %d", n, c, (int)size, frozen), slow, ref, cpu,
              count);
    done("norm");
}

static void test_norm(void)
{
    static const int shapes[][3] = {{1, 1, 2},    {2, 3, 5},    {1, 4, 49},  {7, 1, 33},
                                    {64, 5, 16},  {3, 2, 1000}, {33, 7, 1},  {5, 130, 3},
                                    {1, 1, 7001}, {2, 800, 3},  {40, 30, 20}};
    for (int s = 0; s < 11; s++) {
        norm(shapes[s][0], shapes[s][1], (size_t)shapes[s][2], 0, 0);
        norm(shapes[s][0], shapes[s][1], (size_t)shapes[s][2], 0, 1);
        norm(shapes[s][0], shapes[s][1], (size_t)shapes[s][2], 1000, 0);
    }
}

/* ---- resample ---- */

/* A table (IMAGES,OUT,TAPS,2): indices into 0..in-1, some of them -1, some twice for one output;
   weights of either sign. */
static gan_real *taps(int images, int in, int out, int count)
{
    size_t n = (size_t)images * out * count;
    gan_real *table = output(2 * n);
    for (size_t i = 0; i < n; i++) {
        table[2 * i] = (gan_real)between(-1, in - 1);
        table[2 * i + 1] = (gan_real)uniform(-1, 1);
        if (table[2 * i] < 0)
            table[2 * i + 1] =
                (gan_real)(i % 2 ? 0 : NAN); /* the weight of a tap outside does not matter */
    }
    keep();
    return table;
}

/* The table of one image as a full matrix (OUT,IN): a resampling is the product ROWS x
   COLUMNS^T. */
static double *as_matrix(const gan_real *table, int image, int in, int out, int count)
{
    double *matrix = zeros((size_t)out * in);
    for (int i = 0; i < out * count; i++) {
        const gan_real *tap = table + 2 * ((size_t)image * out * count + i);
        if (tap[0] >= 0)
            matrix[i / count * in + (int)tap[0]] += (double)tap[1];
    }
    return matrix;
}

static void resample(int n, int c, int h, int w, int out_h, int out_w, int taps_h, int taps_w,
                     int images)
{
    gan_resample p = {n, c, h, w, out_h, out_w, taps_h, taps_w, images, 0};
    size_t xn = (size_t)n * c * h * w;
    size_t yn = (size_t)n * c * out_h * out_w;
    gan_real *x = input(xn, -1, 1);
    gan_real *gy = input(yn, -1, 1);
    gan_real *rows = taps(images, h, out_h, taps_h);
    gan_real *columns = taps(images, w, out_w, taps_w);
    gan_real *slow[2] = {output(yn), output(xn)};
    gan_real *ref[2] = {output(yn), output(xn)};
    gan_real *cpu[2] = {output(yn), output(xn)};
    for (int plane = 0; plane < n * c; plane++) {
        int image = images > 1 ? plane / c : 0;
        double *r = as_matrix(rows, image, h, out_h, taps_h);
        double *k = as_matrix(columns, image, w, out_w, taps_w);
        double *y = zeros((size_t)out_h * out_w);
        double *gx = zeros((size_t)h * w);
        for (int i = 0; i < out_h; i++)
            for (int a = 0; a < h; a++)
                for (int j = 0; j < out_w; j++)
                    for (int b = 0; b < w; b++) {
                        double factor = r[i * h + a] * k[j * w + b];
                        y[i * out_w + j] += factor * (double)x[((size_t)plane * h + a) * w + b];
                        gx[a * w + b] += factor *
                                         (double)gy[((size_t)plane * out_h + i) * out_w + j];
                    }
        store(y, slow[0] + (size_t)plane * out_h * out_w, (size_t)out_h * out_w);
        store(gx, slow[1] + (size_t)plane * h * w, (size_t)h * w);
        free(r);
        free(k);
    }
    for (p.adjoint = 0; p.adjoint < 2; p.adjoint++) {
        gan_ref_resample(&p, p.adjoint ? gy : x, rows, columns, ref[p.adjoint]);
        gan_cpu_resample(&p, p.adjoint ? gy : x, rows, columns, cpu[p.adjoint]);
        agree(TEXT("resample%s of (%d,%d,%d,%d) to %dx%d, %dx%d taps, tables of %d",
                   p.adjoint ? "'s adjoint" : "", n, c, h, w, out_h, out_w, taps_h, taps_w, images),
              slow[p.adjoint], ref[p.adjoint], cpu[p.adjoint], p.adjoint ? xn : yn);
    }
    done(text);
}

static void test_resample(void)
{
    static const int table[][9] = {
        /* n  c  h   w  to      taps  images */
        {1, 1, 1, 1, 1, 1, 1, 1, 1},     {1, 1, 1, 1, 9, 19, 1, 3, 1},
        {2, 3, 17, 19, 1, 1, 4, 2, 1},   {3, 2, 5, 33, 7, 40, 2, 2, 3},
        {4, 1, 6, 7, 6, 7, 1, 1, 4},     {2, 5, 16, 16, 32, 32, 2, 2, 1},
        {2, 5, 32, 32, 16, 16, 4, 4, 2}, {1, 9, 31, 1, 12, 70, 5, 1, 1},
        {5, 1, 1, 65, 33, 2, 1, 9, 5},   {1, 4, 40, 41, 39, 42, 12, 11, 1},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const int *t = table[i];
        resample(t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8]);
    }
    for (int i = 0; i < 120 / SLOWER; i++) {
        int n = between(1, 4);
        resample(n, between(1, 4), between(1, 12), between(1, 20), between(1, 12), between(1, 20),
                 between(1, 4), between(1, 4), i % 3 ? 1 : n);
    }
}

/* Where every tap of a row or column lies outside, the number is 0, whatever x holds; a NaN
   reaches what uses it only. */
static void test_resample_outside(void)
{
    for (int adjoint = 0; adjoint < 2; adjoint++) {
        gan_resample p = {1, 2, 3, 3, 3, 3, 1, 1, 1, adjoint};
        static const gan_real rows[] = {-1, 0, 1, 1, 2, 1};
        static const gan_real columns[] = {0, 1, -1, 0, 2, 1};
        gan_real x[18], ref[18], cpu[18];
        for (int i = 0; i < 18; i++)
            x[i] = (gan_real)(i + 1);
        x[4] = x[0] = x[10] = (gan_real)
            NAN; /* row 1, column 1; the corner; row 0, column 1 of plane 1: none is used */
        gan_ref_resample(&p, x, rows, columns, ref);
        gan_cpu_resample(&p, x, rows, columns, cpu);
        for (int i = 0; i < 18; i++) {
            gan_real want = i % 9 / 3 > 0 && i % 3 != 1 ? x[i] : 0;
            CHECK(ref[i] == want && cpu[i] == want,
                  "adjoint %d, element %d: ref %g, cpu %g, want %g", adjoint, i, (double)ref[i],
                  (double)cpu[i], (double)want);
        }
    }
}

/* ---- gather ---- */

enum { LIST, FULL_INDEX };

static void gather(size_t outer, size_t in, size_t out, size_t inner, int kind)
{
    gan_index p = {outer, in, out, inner, 0, 1, 0, 0};
    size_t xn = outer * in * inner;
    size_t yn = outer * out * inner;
    size_t index_count = kind == LIST ? out : yn;
    if (kind == FULL_INDEX) {
        p.step_outer = out * inner;
        p.step = inner;
        p.step_inner = 1;
    }
    gan_real *x = input(xn, -1, 1);
    gan_real *gy = input(yn, -1, 1);
    gan_real *index = output(index_count);
    for (size_t i = 0; i < index_count; i++)
        index[i] = (gan_real)(i % 5 ? between(0, (int)in - 1) : (int)in - 1); /* some often */
    keep();
    gan_real *slow = output(yn);
    gan_real *ref = output(yn);
    gan_real *cpu = output(yn);
    gan_real *slow_x = output(xn);
    gan_real *ref_x = output(xn);
    gan_real *cpu_x = output(xn);
    double *total = zeros(xn);
    for (size_t i = yn; i-- > 0;) { /* numbered through: o, i and k from one number */
        size_t k = i % inner;
        size_t o = i / inner / out;
        size_t from = (size_t)index[kind == LIST ? i / inner % out : i];
        slow[i] = x[o * in * inner + from * inner + k];
        total[o * in * inner + from * inner + k] += (double)gy[i];
    }
    store(total, slow_x, xn);
    gan_ref_gather(&p, x, index, ref);
    gan_cpu_gather(&p, x, index, cpu);
    same(TEXT("ref's gather of (%d,%d,%d) to %d, index of kind %d", (int)outer, (int)in, (int)inner,
              (int)out, kind),
         ref, slow, yn);
    same(TEXT("cpu's gather of (%d,%d,%d) to %d, index of kind %d", (int)outer, (int)in, (int)inner,
              (int)out, kind),
         cpu, slow, yn);
    p.adjoint = 1;
    gan_ref_gather(&p, gy, index, ref_x);
    gan_cpu_gather(&p, gy, index, cpu_x);
    agree(TEXT("gather's adjoint of (%d,%d,%d) from %d, index of kind %d", (int)outer, (int)in,
               (int)inner, (int)out, kind),
          slow_x, ref_x, cpu_x, xn);
    done(text);
}

static void test_gather(void)
{
    static const size_t sizes[][4] = {
        {1, 1, 1, 1},  {1, 7, 19, 1},   {1, 7, 3, 37},     {1, 5, 40, 4001}, {9, 4, 6, 1},
        {3, 17, 2, 5}, {70, 30, 33, 9}, {1, 300, 5000, 3}, {2, 1, 8, 16},    {4000, 3, 2, 1}};
    for (int s = 0; s < 10; s++)
        for (int kind = LIST; kind <= FULL_INDEX; kind++)
            gather(sizes[s][0], sizes[s][1], sizes[s][2], sizes[s][3], kind);
    for (int i = 0; i < 100; i++)
        gather(i % 2 ? 1 : (size_t)between(1, 6), (size_t)between(1, 9), (size_t)between(1, 12),
               (size_t)between(1, 40), i / 2 % 2);
}

/* ---- max_index ---- */

/* The index of the largest: of equal ones the first in the window's reading order; of NaNs the
   last. */
static void max_index(const gan_pool *p, int values)
{
    const int stride[2] = {p->stride_h, p->stride_w};
    size_t xn = (size_t)p->planes * p->h * p->w;
    size_t yn = (size_t)p->planes * p->out_h * p->out_w;
    gan_real *x = output(xn);
    for (size_t i = 0; i < xn; i++)
        x[i] = (gan_real)(values ? between(0, values) - values
                                 : uniform(-9, -8)); /* ties, or none; 0 would win */
    if (values > 4)
        for (size_t i = 0; i < xn; i += 23)
            x[i] = (gan_real)(i % 2 ? NAN : -INFINITY);
    keep();
    gan_real *slow = output(yn);
    gan_real *ref = output(yn);
    gan_real *cpu = output(yn);
    gan_real *y = slow;
    for (size_t k = 0; k < yn; k++) {
        int i = (int)(k / p->out_w % p->out_h);
        int j = (int)(k % p->out_w);
        int best = -1;
        const gan_real *plane = x + k / p->out_w / p->out_h * p->h * p->w;
        for (int at = p->h * p->w - 1; at >= 0;
             at--) { /* every pixel from the last: is it in the window, and not below the best? */
            int row = at / p->w + p->pad + p->pad_h - i * step(p->stride, stride, 0);
            int column = at % p->w + p->pad + p->pad_w - j * step(p->stride, stride, 1);
            if (row < 0 || row >= p->kernel_h || column < 0 || column >= p->kernel_w)
                continue;
            if (best < 0 || (!isnan(plane[best]) && (isnan(plane[at]) || plane[at] >= plane[best])))
                best = at;
        }
        *y++ = (gan_real)best;
    }
    gan_ref_max_index(p, x, ref);
    gan_cpu_max_index(p, x, cpu);
    same(TEXT("ref's max_index of %d planes %dx%d to %dx%d", p->planes, p->h, p->w, p->out_h,
              p->out_w),
         ref, slow, yn);
    same(TEXT("cpu's max_index of %d planes %dx%d to %dx%d", p->planes, p->h, p->w, p->out_h,
              p->out_w),
         cpu, slow, yn);
    done(text);
}

static void test_max_index(void)
{
    static const gan_pool table[] = {
        /* planes h  w   to      kernel s  p */
        {1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0},   {3, 4, 6, 2, 3, 2, 2, 2, 0, 0, 0, 0, 0},
        {2, 7, 9, 4, 5, 3, 3, 2, 1, 0, 0, 0, 0},   {70, 5, 5, 1, 1, 5, 5, 1, 0, 0, 0, 0, 0},
        {4, 9, 9, 3, 3, 2, 2, 4, 0, 0, 0, 0, 0},   {3, 6, 5, 6, 5, 3, 3, 1, 1, 0, 0, 0, 0},
        {2, 7, 7, 4, 4, 3, 3, 2, 0, 0, 0, 0, 0}, /* ceil: the last window hangs over */
        {5, 3, 8, 2, 4, 2, 3, 2, 1, 0, 0, 0, 0},   {2, 40, 33, 20, 17, 3, 2, 2, 1, 0, 0, 0, 0},
        {3, 9, 9, 4, 3, 3, 2, 2, 1, 0, 4, 0, 0}, /* strides (2,4) */
        {2, 8, 11, 9, 5, 2, 5, 1, 0, 0, 2, 1, 1},  {4, 6, 13, 2, 8, 4, 1, 3, 0, 0, 1, 1, 0},
        {1, 5, 40, 3, 21, 3, 3, 0, 1, 2, 2, 0, 0}, /* a line longer than a vector */
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        max_index(&table[i], 0);
        max_index(&table[i], 2);
        max_index(&table[i], 9);
    }
}

/* ---- softmax ---- */

static void softmax(size_t outer, size_t count, size_t inner, double lo, double hi, int logarithm)
{
    gan_lines p = {outer, count, inner, logarithm};
    size_t n = outer * count * inner;
    gan_real *x = input(n, lo, hi);
    gan_real *gy = input(n, -1, 1);
    gan_real *y = output(n);
    gan_real *ref = output(n);
    gan_real *cpu = output(n);
    gan_real *slow = output(n);
    gan_real *ref_g = output(n);
    gan_real *cpu_g = output(n);
    for (size_t o = 0; o < outer; o++)
        for (size_t k = 0; k < inner; k++) { /* each number by itself: 1 / sum of e^(others - it) */
            const gan_real *line = x + o * count * inner + k;
            for (size_t i = 0; i < count; i++) {
                double total = 0;
                for (size_t j = 0; j < count; j++)
                    total += exp((double)line[j * inner] - (double)line[i * inner]);
                y[line - x + i * inner] = (gan_real)(logarithm ? -log(total) : 1 / total);
            }
            for (size_t i = 0; i < count;
                 i++) { /* the derivative: a row of the Jacobian, of y as it was rounded */
                double sum = 0;
                for (size_t j = 0; j < count; j++) {
                    double yi = (double)y[line - x + i * inner];
                    double yj = (double)y[line - x + j * inner];
                    double g = (double)gy[line - x + j * inner];
                    sum += logarithm ? g * ((i == j) - exp(yi)) : g * yj * ((i == j) - yi);
                }
                slow[line - x + i * inner] = (gan_real)sum;
            }
        }
    gan_ref_softmax(&p, x, ref);
    gan_cpu_softmax(&p, x, cpu);
    const char *name = logarithm ? "log_softmax" : "softmax";
    agree(TEXT("%s of (%d,%d,%d) from %g to %g", name, (int)outer, (int)count, (int)inner, lo, hi),
          y, ref, cpu, n);
    gan_ref_softmax_grad(&p, gy, y, ref_g);
    gan_cpu_softmax_grad(&p, gy, y, cpu_g);
    for (size_t i = 0; i < n && count > 1 && hi - lo > 100; i++) {
        slow[i] += gy[i];
        ref_g[i] += gy[i];
        cpu_g[i] += gy[i];
    } /* one number has it all: differences cancel */
    if (count > 1)
        agree(TEXT("%s's derivative at (%d,%d,%d)", name, (int)outer, (int)count, (int)inner), slow,
              ref_g, cpu_g, n);
    for (size_t i = 0; i < n && count == 1 && !test_failed_now;
         i++) /* of one number softmax is 1 */
        CHECK(fabs((double)ref_g[i]) <= 1e-6 && fabs((double)cpu_g[i]) <= 1e-6,
              "the slope of one number's %s is %g, %g", name, (double)ref_g[i], (double)cpu_g[i]);
    done(text);
}

static void test_softmax(void)
{
    static const size_t sizes[][3] = {{1, 1, 1},   {3, 1, 5},   {4, 10, 1},
                                      {2, 7, 9},   {1, 17, 1},  {1, 300, 3},
                                      {33, 49, 1}, {5, 64, 16}, {1, 1000, 1}};
    for (int s = 0; s < 9; s++)
        for (int logarithm = 0; logarithm < 2; logarithm++) {
            softmax(sizes[s][0], sizes[s][1], sizes[s][2], -2, 2, logarithm);
            softmax(sizes[s][0], sizes[s][1], sizes[s][2], -60, 60, logarithm);
            softmax(sizes[s][0], sizes[s][1], sizes[s][2], 9998, 10002,
                    logarithm); /* e^x alone would overflow */
            softmax(sizes[s][0], sizes[s][1], sizes[s][2], -10002, -9998, logarithm);
        }
}

/* -infinity takes no part; the largest float does not overflow; a NaN, or nothing but -infinity,
   is NaN and stays in its line. */
static void test_softmax_edges(void)
{
    double most = sizeof(gan_real) == 4 ? 3e38 : 1e308;
    for (int logarithm = 0; logarithm < 2; logarithm++)
        for (int turned = 0; turned < 2;
             turned++) { /* four lines of three, side by side or one after the other */
            gan_lines p = {turned ? 1u : 4u, 3, turned ? 4u : 1u, logarithm};
            const double lines[4][3] = {{1, -INFINITY, 1},
                                        {most, -most, 0},
                                        {1, NAN, 2},
                                        {-INFINITY, -INFINITY, -INFINITY}};
            const double want[2][2][3] = {
                {{0.5, 0, 0.5}, {1, 0, 0}},
                {{-0.69314718055994531, -INFINITY, -0.69314718055994531}, {0, -most, -most}}};
            gan_real x[12], y[2][12];
            for (int i = 0; i < 12; i++)
                x[turned ? i % 3 * 4 + i / 3 : i] = (gan_real)lines[i / 3][i % 3];
            gan_ref_softmax(&p, x, y[0]);
            gan_cpu_softmax(&p, x, y[1]);
            for (int k = 0; k < 2; k++)
                for (int i = 0; i < 12; i++) {
                    double got = (double)y[k][turned ? i % 3 * 4 + i / 3 : i];
                    if (i >= 6) {
                        CHECK(isnan(got), "%s, line %d: %g, want NaN", k ? "cpu" : "ref", i / 3,
                              got);
                        continue;
                    }
                    if (logarithm && i > 3) { /* -2 most is -infinity */
                        double right = i == 4 ? -INFINITY : -most;
                        CHECK(got == right || fabs(got - right) <= 1e-6 * most,
                              "%s, log: %g, want %g", k ? "cpu" : "ref", got, right);
                        continue;
                    }
                    CHECK(fabs(got - want[logarithm][i / 3][i % 3]) <= 1e-6 ||
                              got == want[logarithm][i / 3][i % 3],
                          "%s, log %d, line %d, number %d: %g", k ? "cpu" : "ref", logarithm, i / 3,
                          i % 3, got);
                }
        }
}

/* ---- sgd, adam, rmsprop ---- */

enum { SGD, ADAM, ADAMW, RMSPROP };

static void update(size_t n, int kind)
{
    bool adam = kind == ADAM || kind == ADAMW, sgd = kind == SGD;
    double decay = kind == ADAMW ? 2.5 : 0;
    gan_real *g = input(n, -1, 1);
    gan_real *start = input(n, -1, 1);
    gan_real *zero = input(n, 0, 0);
    gan_real *p[3], *m[3], *v[3]; /* slow, ref, cpu */
    double *dp = zeros(n), *dm = zeros(n), *dv = zeros(n);
    for (int k = 0; k < 3; k++) {
        p[k] = like(start, n);
        m[k] = like(zero, n);
        v[k] = like(zero, n);
    }
    for (size_t i = 0; i < n; i++)
        dp[i] = (double)start[i];
    for (int step = 1; step <= 5; step++) {
        gan_update u = {n,
                        (gan_real)0.01,
                        (gan_real)0.5,
                        (gan_real)0.75,
                        (gan_real)1e-3,
                        (gan_real)(1 - pow(0.5, step)),
                        (gan_real)(1 - pow(0.75, step)),
                        (gan_real)decay};
        for (size_t i = 0; i < n; i++) {
            double gradient = (double)g[i];
            dm[i] = adam ? dm[i] + (1 - 0.5) * (gradient - dm[i]) : 0.5 * dm[i] + gradient;
            dv[i] += (1 - 0.75) * (gradient * gradient - dv[i]);
            dp[i] -= 0.01 * decay * dp[i];
            if (adam)
                dp[i] -= 0.01 * (dm[i] / (1 - pow(0.5, step)) /
                                 (sqrt(dv[i] / (1 - pow(0.75, step))) + 1e-3));
            else
                dp[i] -= 0.01 * (sgd ? dm[i] : gradient / (sqrt(dv[i]) + 1e-3));
        }
        if (adam) {
            gan_ref_adam(&u, g, p[1], m[1], v[1]);
            gan_cpu_adam(&u, g, p[2], m[2], v[2]);
        } else if (sgd) {
            gan_ref_sgd(&u, g, p[1], m[1]);
            gan_cpu_sgd(&u, g, p[2], m[2]);
        } else {
            gan_ref_rmsprop(&u, g, p[1], v[1]);
            gan_cpu_rmsprop(&u, g, p[2], v[2]);
        }
    }
    store(dp, p[0], n);
    store(dm, m[0], n);
    store(dv, v[0], n);
    const char *name = adam ? decay != 0 ? "adamw" : "adam" : sgd ? "sgd" : "rmsprop";
    agree(TEXT("%s of %d, parameter", name, (int)n), p[0], p[1], p[2], n);
    if (adam || sgd)
        agree(TEXT("%s of %d, first moment", name, (int)n), m[0], m[1], m[2], n);
    if (!sgd)
        agree(TEXT("%s of %d, second moment", name, (int)n), v[0], v[1], v[2], n);
    done(name);
}

static void updates(int kind)
{
    for (size_t n = 0; n < 70; n++)
        update(n, kind);
    update(40009, kind);
}

static void test_sgd(void)
{
    updates(SGD);
}

static void test_adam(void)
{
    updates(ADAM);
}

static void test_adamw(void)
{
    updates(ADAMW);
}

static void test_rmsprop(void)
{
    updates(RMSPROP);
}

/* ---- random ---- */

/* Philox4x32-10: ten rounds of two multiplications (Salmon et al. 2011, "Parallel random
   numbers: as easy as 1, 2, 3"). */
static void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    memcpy(out, counter, 4 * sizeof *out);
    for (uint32_t round = 0; round < 10; round++) {
        uint64_t p = (uint64_t)0xD2511F53 * out[0];
        uint64_t q = (uint64_t)0xCD9E8D57 * out[2];
        out[0] = (uint32_t)(q >> 32) ^ out[1] ^ (key[0] + round * 0x9E3779B9u);
        out[2] = (uint32_t)(p >> 32) ^ out[3] ^ (key[1] + round * 0xBB67AE85u);
        out[1] = (uint32_t)q;
        out[3] = (uint32_t)p;
    }
}

/* The vectors that Random123 publishes (kat_vectors), of this file's Philox and of the kernels':
   a uniform number is a word's upper 24 bits, numbers 4i..4i+3 are the words of counter (i,
   stream), the key is the seed. */
static void test_random_vectors(void)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    for (int i = 0; i < 3; i++) {
        const uint32_t *c = known[i].counter;
        gan_random p = {0,
                        3,
                        known[i].key[0] | (uint64_t)known[i].key[1] << 32,
                        c[2] | (uint64_t)c[3] << 32,
                        c[0] | (uint64_t)c[1] << 32,
                        1,
                        0};
        gan_real ref[3], cpu[3];
        uint32_t out[4];
        philox(known[i].counter, known[i].key, out);
        CHECK(!memcmp(out, known[i].out, sizeof out),
              "this file's Philox is wrong: vector %d begins %08x", i, (unsigned)out[0]);
        gan_ref_random(&p, ref);
        gan_cpu_random(&p, cpu);
        for (int k = 0; k < 3; k++)
            CHECK(ref[k] == (gan_real)(known[i].out[k] >> 8) / 16777216 && cpu[k] == ref[k],
                  "vector %d, word %d: ref %.9g, cpu %.9g", i, k, (double)ref[k], (double)cpu[k]);
    }
}

/* Numbers 4*index and on of a stream are the same whoever draws them, however many at a time,
   and no other stream or seed has them. */
static void test_random_parts(void)
{
    for (int normal = 0; normal < 2; normal++)
        for (size_t n = 0; n < 9001; n += n < 20 ? 1 : 2993) {
            gan_random all = {normal, 9040, 5, 7, 0, 1, 0};
            gan_random part = {normal, n, 5, 7, 10, 1, 0};
            gan_random stream = part;
            gan_random seed = part;
            gan_real *whole = output(9040);
            gan_real *ref = output(n);
            gan_real *cpu = output(n);
            gan_real *other = output(n);
            stream.stream = 8;
            seed.seed = 6;
            gan_ref_random(&all, whole);
            gan_ref_random(&part, ref);
            gan_cpu_random(&part, cpu);
            same("random, ref's part", ref, whole + 40, n);
            same("random, cpu's part", cpu, whole + 40, n);
            gan_cpu_random(&stream, other);
            for (size_t i = 0; i < n; i++)
                CHECK(other[i] != ref[i], "stream 8 has stream 7's number %d", (int)i);
            gan_cpu_random(&seed, other);
            for (size_t i = 0; i < n; i++)
                CHECK(other[i] != ref[i], "seed 6 has seed 5's number %d", (int)i);
            done("random");
        }
}

/* Of n = 400,000 draws the mean is off by 1/sqrt(n) = 0.0016 standard deviations, the variance
   by sqrt(2/n), the fourth moment by sqrt(96/n); a fixed seed that is within 4 of these stays
   so. */
static void test_random_statistics(void)
{
    enum { N = 400000 };

    gan_real *x = (gan_real *)malloc(N * sizeof *x);
    gan_real *y = (gan_real *)malloc(N * sizeof *y);
    double mean = 0;
    double square = 0;
    double fourth = 0;
    double bins[20] = {0};
    double chi = 0;
    gan_random normal = {1, N, 5, 1, 0, 1, 0};
    gan_random uniform_ = {0, N, 5, 2, 0, 1, 0};
    gan_random scaled = {1, N, 5, 1, 0, 3, 2};
    gan_ref_random(&normal, x);
    gan_cpu_random(&normal, y);
    CHECK(!memcmp(x, y, N * sizeof *x), "ref and cpu draw different normals");
    for (int i = 0; i < N; i++)
        mean += x[i] / (double)N;
    for (int i = 0; i < N; i++) {
        square += (double)x[i] * x[i] / N;
        fourth += (double)x[i] * x[i] * x[i] * x[i] / N;
    }
    CHECK(fabs(mean) <= 4 / sqrt(N), "mean %g", mean);
    CHECK(fabs(square - 1) <= 4 * sqrt(2.0 / N), "variance %g", square);
    CHECK(fabs(fourth - 3) <= 4 * sqrt(96.0 / N), "fourth moment %g, 3 is a normal's", fourth);
    gan_ref_random(&scaled, y);
    for (int i = 0; i < N; i += 997)
        CHECK(fabs(y[i] - (2 + 3 * (double)x[i])) <= 1e-5, "3 times %g and 2 is not %g",
              (double)x[i], (double)y[i]);
    gan_cpu_random(&uniform_, x);
    for (int i = 0; i < N; i++) {
        CHECK(x[i] >= 0 && x[i] < 1, "a uniform number is %g", (double)x[i]);
        bins[(int)(20 * x[i])]++;
    }
    for (int i = 0; i < 20; i++)
        chi += (bins[i] - N / 20.0) * (bins[i] - N / 20.0) / (N / 20.0);
    CHECK(chi < 43.8, "chi square of 20 bins is %g; above 43.8 once in 1000 seeds", chi);
    free(x);
    free(y);
}

#ifdef TEST_CUDA
/* A convolution with a stride, a padding and a dilation of each axis: odd sizes, strides that do
   not divide, channels 1, 3 and up to 140, so that K is long enough to be cut into splits. */
static gan_conv random_conv(int i)
{
    static const int few[2] = {1, 3};
    gan_conv p = {0};
    p.groups = i % 5 == 4 ? 2 : 1;
    p.n = between(1, 3);
    p.c = p.groups * (i % 3 ? between(1, 40) : few[i % 2]);
    p.out_c = p.groups * (i % 4 ? between(1, i % 8 == 1 ? 140 : 40) : few[i % 3 % 2]);
    do {
        p.h = between(1, 11);
        p.w = between(1, 11);
        p.kernel_h = between(1, 5);
        p.kernel_w = between(1, 5);
        p.stride_h = between(1, 4);
        p.stride_w = between(1, 4);
        p.pad_h = between(0, 3);
        p.pad_w = between(0, 3);
        p.dilation_h = i % 6 ? 1 : between(1, 3);
        p.dilation_w = i % 6 ? 1 : between(1, 3);
    } while (p.h + 2 * p.pad_h <= p.dilation_h * (p.kernel_h - 1) ||
             p.w + 2 * p.pad_w <= p.dilation_w * (p.kernel_w - 1)); /* no output */
    return p;
}

/* Each version of the product on the same shapes. Factors in tf32 are rounded to 11 bits, 5e-4:
   sums of products of random sign keep that relative error. */
static void test_versions(void)
{
    static const double tolerance[4] = {SUM_TOLERANCE, SUM_TOLERANCE, 1e-3, 1e-3};
    for (int version = 0; version < 4; version++) {
        gan_cuda_set_version(version);
        cpu_tolerance = tolerance[version];
        state = 77;
        gan_conv phases = {2, 128, 7, 7, 8, 4, 4, 2, 1, 1, 1, ALIKE};
        conv(&phases); /* both adjoints with splits; phases of 16, 12 and 9 pixels */
        phases.out_c = 128;
        phases.c = 8;
        conv(&phases);
        for (int i = 0; i < (version == 2 ? 4 : 16); i++) { /* wmma is slow on a CPU */
            gan_conv p = random_conv(i);
            conv(&p);
        }
        for (int i = 0; i < (version == 2 ? 2 : 8); i++) {
            int m = between(1, i % 4 ? 20 : 200), k = between(1, i % 5 ? 40 : 1200);
            int w = between(1, i % 3 ? 20 : 200);
            gan_product p = {1, 2, m, k, w, i & 1, i >> 1 & 1, 0, m * k, 0, k * w};
            matmul(&p, (size_t)2 * m * k, (size_t)2 * k * w);
        }
    }
    gan_cuda_set_version(-1);
    cpu_tolerance = SUM_TOLERANCE;
}

/* More than 65,535 of what a grid counts along y and z at most. */
static void test_many(void)
{
    gan_product p = {1, 65600, 1, 1, 1, 0, 0, 0, 1, 0, 1};
    gan_cuda_set_version(0);
    matmul(&p, 65600, 65600);
    gan_cuda_set_version(-1);
    gan_norm q = {1, 65600, 1, (gan_real)1e-5, 0};
    gan_real *x = input(65600, -1, 1), *s = output(2 * 65600);
    gan_cuda_norm_stats(&q, x, s);
    for (int c = 0; c < 65600; c++)
        CHECK(s[c] == x[c] && s[65600 + c] == 0, "channel %d: mean %g of %g", c, (double)s[c],
              (double)x[c]);
    done("norm of 65,600 channels");
}
#endif

int main(void)
{
    state = 1;
    run("kernels: fill", test_fill);
    run("kernels: map", test_map);
    run("kernels: map's edges", test_map_edges);
    run("kernels: exp, tanh, sigmoid, erf of all floats", test_map_accuracy);
    run("kernels: map, exact values", test_map_exact);
    run("kernels: zip", test_zip);
    run("kernels: zip with other strides", test_zip_strides);
    run("kernels: zip's edges", test_zip_edges);
    run("kernels: zip's equality", test_equal);
    run("kernels: copy, permuting", test_copy_permute);
    run("kernels: copy, of parts", test_copy_parts);
    run("kernels: sum over every subset", test_sum);
    run("kernels: sum of a million", test_sum_long);
    run("kernels: matmul", test_matmul);
    run("kernels: matmul, a long sum", test_matmul_long);
    run("kernels: matmul of batches", test_matmul_batches);
    run("kernels: convolution and adjoints, awkward", test_conv);
    run("kernels: convolution and adjoints, random", test_conv_random);
    run("kernels: convolution and adjoints, two axes", test_conv_axes);
    run("kernels: convolution, NaN stays where it belongs", test_conv_nan);
#ifdef TEST_CUDA
    run("kernels: every version of the product", test_versions);
    run("kernels: more than 65,535 batches and channels", test_many);
#endif
    run("kernels: norm", test_norm);
    run("kernels: resample and its adjoint", test_resample);
    run("kernels: resample, taps outside", test_resample_outside);
    run("kernels: gather and its adjoint", test_gather);
    run("kernels: max_index", test_max_index);
    run("kernels: softmax and its derivative", test_softmax);
    run("kernels: softmax's edges", test_softmax_edges);
    run("kernels: sgd", test_sgd);
    run("kernels: adam", test_adam);
    run("kernels: adam with decay", test_adamw);
    run("kernels: rmsprop", test_rmsprop);
    run("kernels: random, known answers", test_random_vectors);
    run("kernels: random, in parts", test_random_parts);
    run("kernels: random, statistics", test_random_statistics);
    return finish();
}
