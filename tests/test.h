/* tests/test.h: what every test program shares. A test is a function without arguments; main()
   runs each and returns finish(). */
#ifndef TEST_H
#define TEST_H

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stb.h"

/* The library's allocator, which a test may count. */
#ifdef TEST_LINKED
extern int test_counting, test_allocations;
#else
int test_counting, test_allocations;

static void *test_malloc(size_t bytes)
{
    if (test_counting)
        test_allocations++;
    return malloc(bytes);
}

static void test_free(void *memory)
{
    if (test_counting)
        test_allocations++;
    free(memory);
}

#define GAN_MALLOC test_malloc
#define GAN_FREE   test_free
#define GAN_IMPLEMENTATION
#endif
#include "../gan.h"

#ifndef TEST_LIBRARY

/* gan_conv2d_with_f(x, weight, bias, OPTIONS(.stride = 2)) */
#define OPTIONS(...) ((gan_conv_options){__VA_ARGS__})
#define WINDOW(...)  ((gan_pool_options){__VA_ARGS__})

/* The last fields of a gan_conv whose two axes are alike. */
#define ALIKE 0, 0, 0, 0, 0, 0

static const char *test_name = "";
static int tests_passed, tests_failed, test_failed_now;

/* Inside a test: if cond is false, prints FAIL and the text (as printf), and leaves the test. */
#define CHECK(cond, ...)                       \
    do {                                       \
        if (!(cond)) {                         \
            printf("FAIL %s: ", test_name);    \
            printf(__VA_ARGS__);               \
            printf("  (line %d)\n", __LINE__); \
            test_failed_now = 1;               \
            return;                            \
        }                                      \
    } while (0)

/* Runs one test and prints its line. */
static inline void run(const char *name, void (*test)(void))
{
    test_name = name;
    test_failed_now = 0;
    test();
    if (test_failed_now)
        tests_failed++;
    else {
        tests_passed++;
        printf("ok   %s\n", name);
    }
    fflush(stdout); /* a crash in the next test must not take this line with it */
}

/* The last line, and the exit status of the program. */
static inline int finish(void)
{
    printf("%d passed, %d failed\n", tests_passed, tests_failed);
    return tests_failed != 0;
}

static jmp_buf test_escape;
static char test_message[1024];

static inline void test_catch(const char *message, void *user)
{
    (void)user;
    snprintf(test_message, sizeof test_message, "%s", message);
    longjmp(test_escape, 1);
}

/* Runs f(arg), which is expected to make a mistake: the message that gan.h would have aborted
   with, or "" if f returned. */
static inline const char *message_of(void (*f)(void *), void *arg)
{
    test_message[0] = 0;
    gan_on_error(test_catch, NULL);
    if (!setjmp(test_escape))
        f(arg);
    gan_on_error(NULL, NULL);
    return test_message;
}

/* |a - b| / |b| in the Euclidean norm, or |a| where b is zero. Infinity if any number is not
   finite. */
static inline double rel_error(const gan_real *a, const gan_real *b, size_t n)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double x = (double)a[i], y = (double)b[i];
        if (!isfinite(x) || !isfinite(y))
            return INFINITY;
        difference += (x - y) * (x - y);
        size += y * y;
    }
    return size > 0 ? sqrt(difference / size) : sqrt(difference);
}

#endif /* TEST_LIBRARY */
#endif
