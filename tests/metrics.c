/* tests/metrics.c: scores of samples, against formulas' known values, tests/expected/metrics.py,
   and slow loops in double. */
#include "test.h"

/* python3 tests/expected/metrics.py prints these. */
#define FRECHET   0.55323499069734
#define SINGULAR  5.39189253368583
#define KERNEL    0.290423537324506
#define PRECISION 0.86
#define RECALL    0.933333333333333
#define INCEPTION 1.13566694440505

static bool near_to(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance;
} /* false for a NaN */

/* As numbers and features in tests/expected/metrics.py: exact in single precision. */
static void features(uint32_t seed, int n, int d, double shift, gan_real *x)
{
    for (int i = 0; i < n * d; i++) {
        seed = 1664525u * seed + 1013904223u;
        x[i] = (gan_real)((seed >> 16) / 65536.0 - 0.5);
    }
    for (int i = n * d - 1; i >= 0; i--)
        x[i] += (i % d ? 2 * x[i - 1] : 0) + (gan_real)shift;
}

static double uniform(uint32_t *seed)
{
    *seed = 1664525u * *seed + 1013904223u;
    return (*seed >> 8) / 16777216.0 - 0.5;
}

/* -------------------------------------------------------------------------------------------
   Eigenvalues
   ------------------------------------------------------------------------------------------- */

/* "" or what is wrong with the decomposition of a: a v = value v, vectors orthogonal and of
   length 1, values falling. */
static const char *wrong_eigen(const double *a, int n, double *values)
{
    double *v = (double *)malloc(sizeof *v * (size_t)n * n);
    double size = 0;
    const char *wrong = "";
    memcpy(v, a, sizeof *v * (size_t)n * n);
    gan_eigen_symmetric(v, n, values);
    for (int i = 0; i < n * n; i++)
        size += a[i] * a[i];
    double tolerance = 1e-13 *
                       sqrt(size); /* n up to 60 roundings of 1e-16, and the rotations' 5e-15 */
    for (int i = 0; i < n; i++) {
        if (i && !(values[i] <= values[i - 1] + tolerance))
            wrong = "the order";
        for (int k = 0; k < n; k++) {
            double av = 0, dot = 0;
            for (int j = 0; j < n; j++) {
                av += a[k * n + j] * v[i * n + j];
                dot += v[i * n + j] * v[k * n + j];
            }
            if (!near_to(av, values[i] * v[i * n + k], tolerance))
                wrong = "a v = value v";
            if (!near_to(dot, i == k, 1e-12))
                wrong = "the vectors' products";
        }
    }
    free(v);
    return wrong;
}

static void eigen_known(void)
{
    double values[3];
    double two[4] = {2, 1, 1, 2};
    double diagonal[9] = {-5, 0, 0, 0, 7, 0, 0, 0, 1};
    double one[1] = {-3};
    double zero[9] = {0};
    double rank_one[9] = {1, 2, 3, 2, 4, 6, 3, 6, 9};
    double same[9] = {4, 0, 0, 0, 4, 0, 0, 0, 4};
    CHECK(!*wrong_eigen(two, 2, values) && near_to(values[0], 3, 1e-13) &&
              near_to(values[1], 1, 1e-13),
          "2 1 1 2: %g %g", values[0], values[1]);
    CHECK(!*wrong_eigen(diagonal, 3, values), "diagonal: %s", wrong_eigen(diagonal, 3, values));
    CHECK(near_to(values[0], 7, 1e-13) && near_to(values[1], 1, 1e-13) &&
              near_to(values[2], -5, 1e-13),
          "-5 7 1: %g %g %g", values[0], values[1], values[2]);
    CHECK(!*wrong_eigen(one, 1, values) && near_to(values[0], -3, 1e-14), "of one number: %g",
          values[0]);
    CHECK(!*wrong_eigen(zero, 3, values) && values[0] == 0 && values[2] == 0, "zeros: %s, %g",
          wrong_eigen(zero, 3, values), values[0]);
    CHECK(!*wrong_eigen(rank_one, 3, values) && near_to(values[0], 14, 1e-12) &&
              near_to(values[2], 0, 1e-13),
          "rank 1: %g %g", values[0], values[2]);
    CHECK(!*wrong_eigen(same, 3, values) && near_to(values[0], 4, 1e-13) &&
              near_to(values[2], 4, 1e-13),
          "4 4 4: %g %g", values[0], values[2]);
    two[1] = two[2] = NAN;
    gan_eigen_symmetric(two, 2, values);
    CHECK(isnan(values[0]) && isnan(values[1]), "of a NaN: %g %g", values[0], values[1]);
}

static void eigen_random(void)
{
    static double a[60 * 60], values[60];
    uint32_t seed = 7;
    for (int n = 2; n <= 60; n += 29)
        for (int kind = 0; kind < 3;
             kind++) { /* any; singular, of rank n/2; half of the values the same */
            static double x[60 * 60];
            double trace = 0, sum = 0;
            for (int i = 0; i < n * n; i++)
                x[i] = uniform(&seed);
            for (int i = 0; i < n; i++)
                for (int j = 0; j < n; j++) {
                    double products = kind == 2 && i == j ? 3 : 0;
                    for (int k = 0; k < n / 2; k++)
                        products += x[i * n + k] * x[j * n + k];
                    a[i * n + j] = kind ? products : x[i > j ? i * n + j : j * n + i];
                }
            const char *wrong = wrong_eigen(a, n, values);
            CHECK(!*wrong, "n %d, kind %d: %s", n, kind, wrong);
            for (int i = 0; i < n; i++) {
                trace += a[i * n + i];
                sum += values[i];
            }
            CHECK(near_to(trace, sum, 1e-11), "n %d, kind %d: the values' sum is %g, the trace %g",
                  n, kind, sum, trace);
            CHECK(kind == 0 || near_to(values[n - 1], kind == 2 ? 3 : 0, 1e-12),
                  "n %d, kind %d: the smallest is %g", n, kind, values[n - 1]);
        }
}

/* -------------------------------------------------------------------------------------------
   Scores of features
   ------------------------------------------------------------------------------------------- */
static gan_real a[4096], b[4096];

static void by_numpy(void)
{
    features(1, 60, 5, 0, a);
    features(2, 50, 5, 0.25, b);
    /* 1e-9: both are right to about 1e-13; the roots of eigenvalues near 0 cost half the digits */
    CHECK(near_to(gan_frechet_distance(a, 60, b, 50, 5), FRECHET, 1e-9), "Frechet %.15g, not %.15g",
          gan_frechet_distance(a, 60, b, 50, 5), FRECHET);
    CHECK(near_to(gan_frechet_distance(b, 50, a, 60, 5), FRECHET, 1e-9),
          "Frechet, the other way: %.15g", gan_frechet_distance(b, 50, a, 60, 5));
    CHECK(near_to(gan_kernel_distance(a, 60, b, 50, 5), KERNEL, 1e-12), "kernel %.15g, not %.15g",
          gan_kernel_distance(a, 60, b, 50, 5), KERNEL);
    CHECK(near_to(gan_kernel_distance(b, 50, a, 60, 5), KERNEL, 1e-12),
          "kernel, the other way: %.15g", gan_kernel_distance(b, 50, a, 60, 5));
    double precision = gan_precision(a, 60, b, 50, 5, 3);
    double recall = gan_precision(b, 50, a, 60, 5, 3);
    CHECK(near_to(precision, PRECISION, 1e-12) && near_to(recall, RECALL, 1e-12),
          "precision %.15g, recall %.15g", precision, recall);
    features(3, 9, 12, 0, a);
    features(4, 7, 12, 0.25, b);
    CHECK(near_to(gan_frechet_distance(a, 9, b, 7, 12), SINGULAR, 1e-6),
          "Frechet of fewer rows than numbers: %.15g, not %.15g",
          gan_frechet_distance(a, 9, b, 7, 12),
          /* 1e-6: the roots of numpy's and this eigenvalues that are rounding, 1e-8 each */
          SINGULAR);
}

/* Each column alone: values +-s about a mean, in a pattern that makes all columns independent,
   so that mean and covariance are exact. */
static void diagonal_gaussians(void)
{
    static const double mean[2][3] = {{0, 1, -2}, {3, 1, -1}};
    static const double deviation[2][3] = {{1, 2, 0.5}, {2, 2, 0}};
    double expected = 0;
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < 8; i++)
            for (int k = 0; k < 3; k++) /* the sample variance of +-s in 8 rows is s^2 8/7 */
                (side ? b : a)[i * 3 + k] = (gan_real)(mean[side][k] +
                                                       (i >> k & 1 ? 1 : -1) * deviation[side][k]);
    for (int k = 0; k < 3; k++)
        expected += pow(mean[0][k] - mean[1][k], 2) +
                    pow(deviation[0][k] - deviation[1][k], 2) * 8 / 7;
    double got = gan_frechet_distance(
        a, 8, b, 8, 3); /* the third column of b is constant: a singular covariance */
    CHECK(near_to(got, expected, 1e-7), "%.12g, not %.12g", got,
          expected); /* the root of an eigenvalue of 1e-16 */
}

static void same_and_moved(void)
{
    for (int n = 6; n <= 30; n += 24) { /* fewer rows than numbers, and more */
        features(5, n, 10, 0, a);
        for (int i = 0; i < n; i++)
            a[i * 10 + 4] = 1; /* a constant column */
        double self = gan_frechet_distance(a, n, a, n, 10);
        CHECK(self >= 0 && self <= 1e-6, "n %d, with itself: %g", n, self);
        for (int i = 0; i < n * 10; i++)
            b[i] = a[(n * 10 + i - 30) % (n * 10)]; /* rows in another order */
        CHECK(near_to(gan_frechet_distance(a, n, b, n, 10), 0, 1e-6), "n %d, other order: %g", n,
              gan_frechet_distance(a, n, b, n, 10));
        double before = gan_kernel_distance(a, n, a, n, 10);
        double after = gan_kernel_distance(a, n, b, n, 10);
        CHECK(near_to(before, after, 1e-12), "n %d, kernel distance, other order: %g, %g", n,
              before, after);
        for (int i = 0; i < n * 10; i++)
            b[i] = a[i] +
                   (i % 10 == 2 ? 3 : 0); /* moved by 3 along an axis: only the means differ */
        CHECK(near_to(gan_frechet_distance(a, n, b, n, 10), 9, 1e-6), "n %d, moved: %g", n,
              gan_frechet_distance(a, n, b, n, 10));
        CHECK(gan_precision(a, n, a, n, 10, 3) == 1, "a set with itself: precision %g",
              gan_precision(a, n, a, n, 10, 3));
    }
    features(5, 30, 10, 0, b);
    b[77] = NAN;
    features(5, 30, 10, 0, a);
    CHECK(isnan(gan_frechet_distance(a, 30, b, 30, 10)) &&
              isnan(gan_frechet_distance(b, 30, a, 30, 10)),
          "a NaN in the features: Frechet");
    CHECK(isnan(gan_kernel_distance(a, 30, b, 30, 10)) &&
              isnan(gan_precision(a, 30, b, 30, 10, 3)) &&
              isnan(gan_precision(b, 30, a, 30, 10, 3)),
          "a NaN in the features: kernel, precision");
}

static void kernel_by_hand(void)
{
    gan_real x[2] = {1, 2},
             y[2] = {0, 3}; /* d = 1: k = (xy + 1)^3: within x 27; within y 1; across 1 64 1 343 */
    double got = gan_kernel_distance(x, 2, y, 2, 1);
    double expected = 27 + 1 - 2 * (1 + 64 + 1 + 343) / 4.0;
    CHECK(near_to(got, expected, 1e-12), "%g, not %g", got, expected);
}

static void precision_and_recall(void)
{
    double precision, recall;
    for (int i = 0; i < 20; i++) {
        a[i] = (gan_real)i;
        b[i] = (gan_real)(i + 100);
    }
    precision = gan_precision(a, 20, b, 20, 1, 3);
    recall = gan_precision(b, 20, a, 20, 1, 3);
    CHECK(precision == 0 && recall == 0, "far apart: %g, %g", precision, recall);
    precision = gan_precision(a, 20, a, 5, 1, 1);
    recall = gan_precision(
        a, 5, a, 20, 1,
        1); /* 0..4 of 0..19; a reach is 1: 5 of 20 lie within 1 of 0..4, and 5 itself */
    CHECK(precision == 1 && near_to(recall, 6 / 20.0, 1e-12), "a part: %g, %g", precision, recall);
    precision = gan_precision(a, 5, a, 20, 1, 1);
    recall = gan_precision(a, 20, a, 5, 1, 1);
    CHECK(near_to(precision, 6 / 20.0, 1e-12) && recall == 1, "a part, the other way: %g, %g",
          precision, recall);
    for (int i = 0; i < 8; i++) {
        a[i] = 2;
        b[i] = 2;
    } /* every distance is 0, and 0 is within reach of 0 */
    precision = gan_precision(a, 8, b, 8, 1, 3);
    recall = gan_precision(b, 8, a, 8, 1, 3);
    CHECK(precision == 1 && recall == 1, "points that coincide: %g, %g", precision, recall);
}

static void inception_and_modes(void)
{
    static gan_real p[40 * 6];
    int histogram[6];
    features(5, 40, 6, 0, p);
    for (int i = 0; i < 40; i++) {
        double sum = 0;
        for (int y = 0; y < 6; y++)
            sum += exp((double)p[i * 6 + y]);
        for (int y = 0; y < 6; y++)
            p[i * 6 + y] = (gan_real)(exp((double)p[i * 6 + y]) / sum);
    }
    /* 1e-6: the probabilities are rounded to gan_real */
    CHECK(near_to(gan_inception_score(p, 40, 6), INCEPTION, 1e-6), "inception %.12g, not %.12g",
          gan_inception_score(p, 40, 6), INCEPTION);
    for (int i = 0; i < 40; i++) /* sure of a class each, 1 and 4 missing */
        for (int y = 0; y < 6; y++)
            p[i * 6 + y] = y == (i % 4 == 1 ? 5 : i % 4 + (i % 4 == 1));
    CHECK(near_to(gan_inception_score(p, 40, 6), 4, 1e-12), "four classes: inception %g",
          gan_inception_score(p, 40, 6));
    int modes = gan_modes(p, 40, 6, histogram);
    CHECK(modes == 4, "modes %d of 6", modes);
    CHECK(histogram[0] == 10 && histogram[1] == 0 && histogram[2] == 10 && histogram[3] == 10 &&
              histogram[4] == 0 && histogram[5] == 10,
          "histogram %d %d %d %d %d %d", histogram[0], histogram[1], histogram[2], histogram[3],
          histogram[4], histogram[5]);
    for (int i = 0; i < 240; i++)
        p[i] = (gan_real)(1 / 6.0);
    CHECK(near_to(gan_inception_score(p, 40, 6), 1, 1e-6), "the same rows: inception %g",
          gan_inception_score(p, 40, 6));
    CHECK(gan_modes(p, 40, 6, histogram) == 1 && histogram[0] == 40,
          "of equals the first: %d in class 0", histogram[0]);
    p[3] = NAN;
    CHECK(gan_modes(p, 1, 6, histogram) == 0 && histogram[0] == 0, "a row with a NaN counts");
    CHECK(isnan(gan_inception_score(p, 40, 6)), "a NaN in the probabilities");
}

static void threads(void)
{
    double result[2][4];
    features(1, 300, 5, 0, a);
    features(2, 200, 5, 0.25, b);
    for (int i = 0; i < 2; i++) {
        gan_set_threads(NULL, i ? 5 : 1);
        result[i][0] = gan_frechet_distance(a, 300, b, 200, 5);
        result[i][1] = gan_kernel_distance(a, 300, b, 200, 5);
        result[i][2] = gan_precision(a, 300, b, 200, 5, 3);
        result[i][3] = gan_precision(b, 200, a, 300, 5, 3);
    }
    gan_set_threads(NULL, 0);
    CHECK(memcmp(result[0], result[1], sizeof result[0]) == 0, "1 and 5 threads differ");
}

/* -------------------------------------------------------------------------------------------
   The generator's path
   ------------------------------------------------------------------------------------------- */
static gan_tensor *three_times(gan_model *m, gan_tensor *x)
{
    (void)m;
    return gan_reshape(gan_mul_scalar(x, 3), -1, 1, 1, x->c);
}

static gan_tensor *layer(gan_model *m, gan_tensor *x)
{
    return gan_linear(m, "fc", x, 4);
}

/* A linear map has no error of its own: |d z/dt|^2 from the same draws. */
static void path_length(void)
{
    enum { BATCH = 50, LATENT = 8 };

    gan_real ends[2 * BATCH * LATENT], t[BATCH];
    double expected = 0, pi_2 = acos(-1.0) / 2;
    gan *g = gan_open("cpu", 9), *same = gan_open("cpu", 9);
    gan_model *m = gan_model_new(g, "G"), *f = gan_model_new(g, "F");
    for (int batch = 0; batch < 2; batch++) {
        gan_to_host(gan_randn(same, 2 * BATCH, LATENT, 1, 1), ends);
        gan_to_host(gan_rand(same, BATCH, 1, 1, 1), t);
        for (int i = 0; i < BATCH * LATENT; i++) {
            double w = pi_2 * (double)t[i / LATENT];
            double slope = pi_2 *
                           (cos(w) * (double)ends[BATCH * LATENT + i] - sin(w) * (double)ends[i]);
            expected += 9 * slope * slope / (2 * BATCH);
        }
    }
    double got = gan_perceptual_path_length(m, three_times, NULL, NULL, LATENT, BATCH, 2, 1e-4);
    /* 5e-3: z is rounded to 6e-8, which is 6e-4 of a step of 1e-4, at random in each of 800
       numbers */
    CHECK(near_to(got / expected, 1, 5e-3), "%g, not %g", got, expected);
    gan_perceptual_path_length(m, layer, f, layer, LATENT, BATCH, 1, 1e-4);
    size_t before = gan_memory(g, NULL);
    gan_mark here = gan_here(g);
    double twice = gan_perceptual_path_length(m, layer, f, layer, LATENT, BATCH, 3, 1e-4);
    gan_mark there = gan_here(g);
    CHECK(twice > 0 && here.tape == there.tape && gan_memory(g, NULL) == before,
          "it leaves tensors behind");
    gan_close(g);
    gan_close(same);
}

/* -------------------------------------------------------------------------------------------
   Images
   ------------------------------------------------------------------------------------------- */

/* Wang's formulas, window by window in double: SSIM in both[0], its factor with C2 in both[1]. */
static void slow_ssim(const double *x, const double *y, int h, int w, double range, double both[2])
{
    double c1 = pow(0.01 * range, 2);
    double c2 = pow(0.03 * range, 2);
    double norm = 0;
    both[0] = both[1] = 0;
    for (int u = -5; u <= 5; u++)
        for (int v = -5; v <= 5; v++)
            norm += exp(-(u * u + v * v) / (2 * 1.5 * 1.5));
    for (int i = 5; i < h - 5; i++)
        for (int j = 5; j < w - 5; j++) {
            double mx = 0, my = 0, vx = 0, vy = 0, cov = 0;
            for (int pass = 0; pass < 2;
                 pass++) /* the means first, then the deviations from them */
                for (int u = -5; u <= 5; u++)
                    for (int v = -5; v <= 5; v++) {
                        double weight = exp(-(u * u + v * v) / 4.5) / norm;
                        double p = x[(i + u) * w + j + v];
                        double q = y[(i + u) * w + j + v];
                        if (pass == 0) {
                            mx += weight * p;
                            my += weight * q;
                        } else {
                            vx += weight * (p - mx) * (p - mx);
                            vy += weight * (q - my) * (q - my);
                            cov += weight * (p - mx) * (q - my);
                        }
                    }
            double s = (2 * cov + c2) / (vx + vy + c2);
            double l = (2 * mx * my + c1) / (mx * mx + my * my + c1);
            both[0] += l * s / ((h - 10) * (w - 10));
            both[1] += s / ((h - 10) * (w - 10));
        }
}

static double slow_ms_ssim(double *x, double *y, int h, int w, double range)
{
    static const double power[5] = {0.0448, 0.2856, 0.3001, 0.2363, 0.1333};
    double product = 1, both[2];
    for (int scale = 0; scale < 5; scale++, h /= 2, w /= 2) {
        slow_ssim(x, y, h, w, range, both);
        product *= pow(both[scale < 4], power[scale]);
        for (int image = 0; image < 2; image++) {
            double *p = image ? y : x;
            for (int i = 0; i < h / 2; i++)
                for (int j = 0; j < w / 2; j++) {
                    const double *q = p + 2 * i * w + 2 * j;
                    p[i * (w / 2) + j] = (q[0] + q[1] + q[w] + q[w + 1]) /
                                         4; /* below what is still to be read */
                }
        }
    }
    return product;
}

/* Two images that resemble each other, flat in one corner, in host[0] and host[1]. */
static void pictures(int planes, int h, int w, gan_real *x, gan_real *y)
{
    uint32_t seed = 11;
    for (int i = 0; i < planes * h * w; i++) {
        int row = i / w % h, column = i % w, plane = i / (h * w);
        double smooth = 0.6 * sin(row * 0.2 + plane) * cos(column * 0.15);
        bool flat = row < h / 3 && column < w / 3;
        x[i] = (gan_real)(flat ? 0.9 : smooth + 0.3 * uniform(&seed));
        y[i] = (gan_real)(flat ? 0.8 : 0.9 * smooth + 0.1 + 0.4 * uniform(&seed));
    }
}

static void ssim(void)
{
    enum { N = 2, C = 3, H = 15, W = 20, COUNT = N * C * H * W };

    static gan_real x[COUNT], y[COUNT];
    static double u[COUNT], v[COUNT];
    double expected = 0, both[2], psnr = 0;
    gan *g = gan_open("cpu", 1);
    pictures(N * C, H, W, x, y);
    gan_tensor *a = gan_from_host(g, x, N, C, H, W);
    gan_tensor *b = gan_from_host(g, y, N, C, H, W);
    for (int i = 0; i < COUNT; i++) {
        u[i] = (double)x[i];
        v[i] = (double)y[i];
    }
    for (int plane = 0; plane < N * C; plane++) {
        slow_ssim(u + plane * H * W, v + plane * H * W, H, W, 2, both);
        expected += both[0] / (N * C);
    }
    for (int n = 0; n < N; n++) {
        double squares = 0;
        for (int i = n * COUNT / N; i < (n + 1) * COUNT / N; i++)
            squares += (u[i] - v[i]) * (u[i] - v[i]);
        psnr += 10 * log10(4 / (squares * N / COUNT)) / N;
    }
    /* 1e-5: means of squares are right to 1e-7 in single precision, and flat windows divide by
       C2 = 4e-3 */
    CHECK(near_to(gan_ssim(a, b, 2), expected, 1e-5), "ssim %.9g, not %.9g", gan_ssim(a, b, 2),
          expected);
    CHECK(expected > 0.2 && expected < 0.9, "the pictures say nothing: ssim %g", expected);
    CHECK(near_to(gan_ssim(b, a, 2), expected, 1e-5), "ssim, the other way: %.9g",
          gan_ssim(b, a, 2));
    CHECK(near_to(gan_ssim(a, a, 2), 1, 1e-6), "ssim of equal images: %.9g", gan_ssim(a, a, 2));
    CHECK(near_to(gan_psnr(a, b, 2), psnr, 1e-5), "psnr %.9g, not %.9g", gan_psnr(a, b, 2), psnr);
    CHECK(gan_psnr(a, a, 2) == INFINITY, "psnr of equal images: %g", gan_psnr(a, a, 2));
    CHECK(near_to(gan_psnr(gan_zeros(g, 1, 1, 2, 2), gan_full(g, (gan_real)0.1, 1, 1, 2, 2), 1), 20,
                  1e-5),
          "psnr of a tenth is 20 dB");
    gan_mark before = gan_here(g);
    gan_ssim(a, b, 2);
    gan_mark after = gan_here(g);
    CHECK(before.tape == after.tape, "ssim leaves tensors behind");
    gan_close(g);
}

static void ms_ssim(void)
{
    enum { H = 177, W = 190, COUNT = 2 * H * W }; /* odd at some scale */

    static gan_real x[COUNT], y[COUNT];
    static double u[COUNT], v[COUNT];
    double expected = 0;
    gan *g = gan_open("cpu", 1);
    pictures(2, H, W, x, y);
    gan_tensor *a = gan_from_host(g, x, 2, 1, H, W);
    gan_tensor *b = gan_from_host(g, y, 2, 1, H, W);
    for (int i = 0; i < COUNT; i++) {
        u[i] = (double)x[i];
        v[i] = (double)y[i];
    }
    for (int n = 0; n < 2; n++)
        expected += slow_ms_ssim(u + n * H * W, v + n * H * W, H, W, 2) / 2;
    CHECK(expected > 0.2 && expected < 0.95, "the pictures say nothing: ms-ssim %g", expected);
    CHECK(near_to(gan_ms_ssim(a, b, 2), expected, 1e-5), "%.9g, not %.9g", gan_ms_ssim(a, b, 2),
          expected);
    CHECK(near_to(gan_ms_ssim(a, a, 2), 1, 1e-6), "equal images: %.9g", gan_ms_ssim(a, a, 2));
    CHECK(gan_ms_ssim(a, gan_neg(a), 2) == 0, "opposite images: %.9g",
          gan_ms_ssim(a, gan_neg(a), 2)); /* negative means are 0 */
    gan_close(g);
}

/* -------------------------------------------------------------------------------------------
   Mistakes
   ------------------------------------------------------------------------------------------- */
static gan *mistaken;

static void mistake(void *which)
{
    int histogram[2];
    gan_tensor *x = gan_zeros(mistaken, 1, 1, 10, 20);
    switch (*(int *)which) {
    case 0: gan_frechet_distance(a, 1, b, 5, 3); break;
    case 1: gan_frechet_distance(a, 5, NULL, 5, 3); break;
    case 2: gan_kernel_distance(a, 5, b, 5, 0); break;
    case 3: gan_precision(b, 3, a, 5, 2, 3); break;
    case 4: gan_precision(a, 5, b, 3, 2, 0); break;
    case 5: gan_inception_score(a, 0, 4); break;
    case 6: gan_modes(NULL, 3, 2, histogram); break;
    case 7: gan_perceptual_path_length(NULL, NULL, NULL, NULL, 4, 4, 4, 1e-4); break;
    case 8:
        gan_perceptual_path_length(gan_model_new(mistaken, "G"), layer, NULL, NULL, 4, 4, 4, 0);
        break;
    case 9: gan_ssim(x, x, 2); break;
    case 10: gan_ms_ssim(x, x, 2); break;
    case 11: gan_psnr(x, gan_zeros(mistaken, 1, 1, 20, 10), 2); break;
    case 12: gan_psnr(x, x, 0); break;
    case 13: gan_modes(a, 3, 2, NULL); break;
    case 14: gan_eigen_symmetric(NULL, 2, NULL); break;
    case 15: gan_ssim(x, NULL, 2); break;
    }
}

static void mistakes(void)
{
    static const char *const says[16][2] = {{"gan_frechet_distance", "(1,3)"},
                                            {"gan_frechet_distance", "NULL"},
                                            {"gan_kernel_distance", "(5,0)"},
                                            {"gan_precision", "(3,2): 4 or more"},
                                            {"gan_precision", "k is 0"},
                                            {"gan_inception_score", "(0,4)"},
                                            {"gan_modes", "NULL"},
                                            {"gan_perceptual_path_length", "NULL"},
                                            {"gan_perceptual_path_length", "eps 0"},
                                            {"gan_ssim", "(1,1,10,20): sides of 11"},
                                            {"gan_ms_ssim", "sides of 176"},
                                            {"gan_psnr", "(1,1,10,20) and (1,1,20,10)"},
                                            {"gan_psnr", "range 0"},
                                            {"gan_modes", "histogram is NULL"},
                                            {"gan_eigen_symmetric", "NULL"},
                                            {"gan_ssim", "NULL"}};
    mistaken = gan_open("cpu", 1);
    for (int i = 0; i < 16; i++) {
        const char *message = message_of(mistake, &i);
        CHECK(strstr(message, says[i][0]) && strstr(message, says[i][1]), "mistake %d says: %s", i,
              message);
    }
    gan_close(mistaken);
}

int main(void)
{
    run("metrics: eigenvalues that are known", eigen_known);
    run("metrics: eigenvectors of random, singular and repeated matrices", eigen_random);
    run("metrics: Frechet, kernel, precision and recall as numpy computes them", by_numpy);
    run("metrics: Frechet distance of Gaussians with a formula", diagonal_gaussians);
    run("metrics: a set with itself, reordered, moved, with a NaN", same_and_moved);
    run("metrics: kernel distance by hand", kernel_by_hand);
    run("metrics: precision and recall, apart, in part, coinciding", precision_and_recall);
    run("metrics: inception score and modes", inception_and_modes);
    run("metrics: the same bits on any number of threads", threads);
    run("metrics: path length of a linear map", path_length);
    run("images: PSNR and SSIM", ssim);
    run("images: MS-SSIM", ms_ssim);
    run("metrics: mistakes are told", mistakes);
    return finish();
}
