/* tests/look.c: what gan_summary and gan_profile print, and what gan_profile_flops counts.

       cc -O2 tests/look.c -o look -lm && ./look

   Standard output goes to a temporary file while they print. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "test.h"

#ifndef _WIN32
#include <unistd.h>

static char printed[8192];

/* What f(what) prints, in printed; false if the output could not be caught. */
static bool catch_output(void (*f)(void *), void *what)
{
    FILE *file = tmpfile();
    fflush(stdout);
    int screen = dup(STDOUT_FILENO);
    if (!file || screen < 0 || dup2(fileno(file), STDOUT_FILENO) < 0)
        return false;
    f(what);
    fflush(stdout);
    dup2(screen, STDOUT_FILENO);
    close(screen);
    rewind(file);
    size_t n = fread(printed, 1, sizeof printed - 1, file);
    printed[n] = 0;
    fclose(file);
    return true;
}

static void summary(void *m)
{
    gan_summary((gan_model *)m);
}

static void profile(void *g)
{
    gan_profile((gan *)g);
}

/* The line that begins with this word, cut off at its end, blanks made single; "" if there is
   none. */
static const char *line_of(const char *word)
{
    static char line[256];
    size_t n = 0, length = strlen(word);
    for (const char *at = printed; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
        if (strncmp(at, word, length) || at[length] != ' ')
            continue;
        for (; *at && *at != '\n' && n < sizeof line - 1; at++)
            if (*at != ' ' || (n && line[n - 1] != ' '))
                line[n++] = *at;
        break;
    }
    line[n] = 0;
    return line;
}

/* Counted by hand: 4*3*3*3 weights and 4 biases; 2*4; 5*256 and 5; 6*2*4*4 and 2; running
   statistics are not learned. */
static void test_summary(void)
{
    static const char *const want[][2] = {
        {"conv", "conv conv2d (2,4,8,8) 112"},
        {"bn", "bn batch_norm (2,4,8,8) 8"},
        {"up", "up conv_transpose2d (2,2,16,16) 130"},
        {"fc", "fc linear (2,5,1,1) 1285"},
        {"total", "total 1535"},
        {"D", "D layer output (N,C,H,W) parameters"},
    };
    gan *g = gan_open("cpu", 1);
    gan_model *m = gan_model_new(g, "D");
    for (int twice = 0; twice < 2; twice++) { /* the second use of a layer adds no line */
        gan_tensor *x = gan_conv2d(m, "conv", gan_randn(g, 2, 3, 8, 8), 4, 3, 1, 1);
        x = gan_batch_norm(m, "bn", x);
        gan_conv_transpose2d(m, "up", x, 2, 4, 2, 1);
        gan_linear(m, "fc", x, 5);
    }
    CHECK(catch_output(summary, m), "the output could not be caught");
    for (int i = 0; i < 6; i++)
        CHECK(!strcmp(line_of(want[i][0]), want[i][1]), "the line of %s is: %s", want[i][0],
              line_of(want[i][0]));
    int lines = 0;
    for (const char *at = printed; *at; at++)
        lines += *at == '\n';
    CHECK(lines == 6, "%d lines, 6 are wanted", lines);
    CHECK(gan_param_count(m) == 1535, "gan_param_count says %d", (int)gan_param_count(m));
    gan_close(g);
}

/* A multiply-add is two operations: N*O*OH*OW*(C/groups)*KH*KW of them in a convolution and in
   either adjoint, N*C*M*K*W in a product. */
static void test_flops(void)
{
    gan *g = gan_open("cpu", 1);
    gan_tensor *x = gan_randn(g, 2, 3, 9, 7);
    gan_tensor *w = gan_randn(g, 4, 3, 3, 3);
    CHECK(gan_profile_flops(g) == 0, "random numbers count as %d operations",
          (int)gan_profile_flops(g));
    gan_tensor *y = gan_conv2d_f(x, w, NULL, 2, 1, 1); /* (2,4,5,4) */
    size_t conv = (size_t)2 * 2 * 4 * 5 * 4 * 3 * 3 * 3;
    CHECK(gan_profile_flops(g) == conv, "a convolution: %d, want %d", (int)gan_profile_flops(g),
          (int)conv);
    gan_grad(gan_sum(gan_square(y)), w);
    CHECK(gan_profile_flops(g) == 2 * conv, "with its derivative in the weight: %d, want %d",
          (int)gan_profile_flops(g), (int)(2 * conv));
    gan_matmul(gan_randn(g, 2, 3, 5, 7), gan_randn(g, 1, 3, 7, 4));
    size_t all = 2 * conv + (size_t)2 * 2 * 3 * 5 * 7 * 4;
    CHECK(gan_profile_flops(g) == all, "with a product: %d, want %d", (int)gan_profile_flops(g),
          (int)all);
    CHECK(catch_output(profile, g) && gan_profile_flops(g) == 0, "gan_profile does not start anew");
    gan_close(g);
}

static void test_profile(void)
{
    gan *g = gan_open("cpu", 1);
    gan_tensor *x = gan_randn(g, 2, 3, 9, 7);
    for (int i = 0; i < 5; i++)
        x = gan_tanh(x);
    gan_square(gan_matmul(gan_randn(g, 1, 1, 50, 70), gan_randn(g, 1, 1, 70, 60)));
    double calls, ms, flops, bytes, share, total = 0;
    char name[32];
    CHECK(catch_output(profile, g), "the output could not be caught");
    CHECK(!strcmp(line_of("cpu"), "cpu calls ms GFLOP/s GB/s share"), "the first line is: %s",
          line_of("cpu"));
    CHECK(sscanf(line_of("map"), "%31s %lf %lf %lf %lf %lf", name, &calls, &ms, &flops, &bytes,
                 &share) == 6 &&
              calls == 6,
          "six maps are: %s", line_of("map"));
    CHECK(sscanf(line_of("matmul"), "%31s %lf", name, &calls) == 2 && calls == 1,
          "one product is: %s", line_of("matmul"));
    CHECK(sscanf(line_of("random"), "%31s %lf", name, &calls) == 2 && calls == 3,
          "three draws are: %s", line_of("random"));
    CHECK(!*line_of("conv2d"), "a kernel that was not called is listed: %s", line_of("conv2d"));
    double last = 1e9;
    for (const char *at = strchr(printed, '\n');
         at &&
         sscanf(at, "%31s %lf %lf %lf %lf %lf", name, &calls, &ms, &flops, &bytes, &share) == 6;
         at = strchr(at + 1, '\n')) {
        CHECK(share <= last, "%s has %g%% and comes after less", name, share);
        last = share;
        total += share;
    }
    CHECK(fabs(total - 100) <= 1, "the shares sum to %g%%", total); /* each is rounded to 0.1 */
    CHECK(catch_output(profile, g) && !*line_of("map"), "the second profile still has: %s",
          line_of("map"));
    gan_close(g);
}
#endif

static void no_model(void *unused)
{
    (void)unused;
    gan_summary(NULL);
}

static void no_device(void *which)
{
    if (*(int *)which)
        gan_profile(NULL);
    else
        gan_profile_flops(NULL);
}

static void test_mistakes(void)
{
    CHECK(strstr(message_of(no_model, NULL), "gan_summary: the model is NULL"), "%s", test_message);
    for (int i = 0; i < 2; i++)
        CHECK(strstr(message_of(no_device, &i), i ? "gan_profile: the device is NULL"
                                                  : "gan_profile_flops: the device is NULL"),
              "%s", test_message);
}

#ifndef _WIN32
/* Two sets of three points, two classes: what the line says is what the functions return, and N
   and d stand beside it. */
static const gan_real real_points[] = {0, 0, 1, 0, 0, 1, 2, 2, 1, 3},
                      fake_points[] = {0, 1, 1, 1, 3, 0, 2, 1, 1, 2};
static const gan_real sure[] = {1, 0, 1, 0, 1, 0, 0.5f, 0.5f, 1, 0};
static double printed_distance;

static void scores(void *unused)
{
    (void)unused;
    printed_distance = gan_print_scores("five points", real_points, 5, fake_points, 5, 2, sure, 2);
}

static void test_scores(void)
{
    char want[256];
    int histogram[2];
    double distance = gan_frechet_distance(real_points, 5, fake_points, 5, 2);
    CHECK(catch_output(scores, NULL), "the output could not be caught");
    snprintf(want, sizeof want,
             "five points: N 5 real, 5 fake, d 2: Frechet %.4g, kernel %.4g, precision %.3f, "
             "recall %.3f, inception %.3f, modes %d of 2\n",
             distance, gan_kernel_distance(real_points, 5, fake_points, 5, 2),
             gan_precision(real_points, 5, fake_points, 5, 2, 3),
             gan_precision(fake_points, 5, real_points, 5, 2, 3), gan_inception_score(sure, 5, 2),
             gan_modes(sure, 5, 2, histogram));
    CHECK(strcmp(printed, want) == 0, "printed: %s wanted: %s", printed, want);
    CHECK(printed_distance == distance && distance > 0, "it returned %g, the distance is %g",
          printed_distance, distance);
}
#endif

int main(void)
{
#ifndef _WIN32
    run("look: summary", test_summary);
    run("look: operations are counted", test_flops);
    run("look: profile", test_profile);
    run("look: scores", test_scores);
#endif
    run("look: mistakes", test_mistakes);
    return finish();
}
