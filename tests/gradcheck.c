/* tests/gradcheck.c: gan_gradcheck and gan_gradgradcheck themselves. Mistakes are planted, and must
   be found and named; good code must leave gan_error() and the inputs alone.

       cc -O2 tests/gradcheck.c -o gradcheck -lm && ./gradcheck     (also with -DGAN_REAL=double) */

#include "test.h"

static const double tolerance = GAN_GRADCHECK_TOLERANCE;

/* gan_error() with a text that no check writes. */
static void leave_text(void *arg)
{
    (void)arg;
    gan_fail("nothing of gan_gradcheck", "s");
}

static bool text_is_left(void)
{
    return !strcmp(gan_error(), "nothing of gan_gradcheck: s");
}

/* Inputs of 2, 3 and 2 numbers, between 0.5 and 1.5; the third has the first's shape. */
static gan *open_inputs(gan_tensor *in[3])
{
    gan *g = gan_open("cpu", 3);
    in[0] = gan_add_scalar(gan_rand(g, 1, 2, 1, 1), (gan_real)0.5);
    in[1] = gan_add_scalar(gan_rand(g, 3, 1, 1, 1), (gan_real)0.5);
    in[2] = gan_add_scalar(gan_rand(g, 1, 2, 1, 1), (gan_real)0.5);
    message_of(leave_text, NULL);
    return g;
}

/* ---- functions to check */

static gan_tensor *good(gan *g, gan_tensor **in, void *user)
{
    (void)g;
    (void)user;
    return gan_tanh(gan_add(gan_mul(in[0], in[1]), in[2]));
}

static gan_tensor *detached(gan *g, gan_tensor **in, void *user)
{
    (void)g;
    (void)user;
    return gan_mul(gan_mul(in[0], in[1]), gan_square(gan_detach(in[2])));
}

static gan_tensor *half_detached(gan *g, gan_tensor **in, void *user)
{
    (void)g;
    (void)user;
    return gan_mul(gan_mul(in[0], in[1]), gan_mul(gan_detach(in[2]), in[2]));
}

/* The part that is detached is a thousandth of the rest: its differences are under 1% of the
   largest derivative, by which the relative error is measured. */
static gan_tensor *small_detached(gan *g, gan_tensor **in, void *user)
{
    (void)g;
    (void)user;
    gan_tensor *small = gan_mul_scalar(gan_square(gan_detach(in[2])), (gan_real)4e-3);
    return gan_add(gan_mul(in[0], in[1]), small);
}

static gan_tensor *without_third(gan *g, gan_tensor **in, void *user)
{
    (void)g;
    (void)user;
    return gan_tanh(gan_mul(in[0], in[1]));
}

static gan_tensor *constant(gan *g, gan_tensor **in, void *user)
{
    (void)in;
    (void)user;
    return gan_full(g, 3, 1, 2, 1, 1);
}

static gan_tensor *linear(gan *g, gan_tensor **in, void *user)
{
    (void)g;
    (void)user;
    return gan_add(gan_mul_scalar(in[0], 2), gan_sub(in[1], in[2]));
}

/* a's derivative b is right, and so is b's, but for the tape: it is cut in in[0]. */
static gan_tensor *cut_behind(gan *g, gan_tensor **in, void *user)
{
    (void)g;
    (void)user;
    return gan_add(gan_mul(gan_detach(in[0]), gan_mul(in[1], in[1])), gan_square(in[2]));
}

static gan_tensor *not_a_number(gan *g, gan_tensor **in, void *user)
{
    (void)g;
    (void)user;
    return gan_log(gan_neg(gan_mul(in[0], gan_add(in[1], in[2]))));
}

/* ---- the tests */

static void test_good(void)
{
    gan_tensor *in[3];
    gan *g = open_inputs(in);
    double first = gan_gradcheck(g, good, in, 3, NULL);
    CHECK(first > 0 && first <= tolerance, "the error is %g: %s", first, gan_error());
    CHECK(text_is_left(), "gan_gradcheck wrote: %s", gan_error());
    double second = gan_gradgradcheck(g, good, in, 3, NULL);
    CHECK(second > 0 && second <= tolerance, "the second error is %g: %s", second, gan_error());
    CHECK(text_is_left(), "gan_gradgradcheck wrote: %s", gan_error());
    gan_close(g);
}

/* Must be infinite and name the input. */
static void check_found(gan_function *f, int order, const char *input)
{
    gan_tensor *in[3];
    gan *g = open_inputs(in);
    double error = order == 1 ? gan_gradcheck(g, f, in, 3, NULL)
                              : gan_gradgradcheck(g, f, in, 3, NULL);
    CHECK(error == INFINITY, "the error is %g", error);
    CHECK(strstr(gan_error(), input) && strstr(gan_error(), "gan_detach"),
          "gan_error() does not say \"%s\": %s", input, gan_error());
    gan_close(g);
}

static void test_detach_is_found(void)
{
    check_found(detached, 1, "input 2");
}

static void test_small_detach_is_found(void)
{
    check_found(small_detached, 1, "input 2");
}

static void test_detach_is_found_in_second(void)
{
    check_found(cut_behind, 2, "input 0");
}

/* Half of the derivative is missing: not infinite, but named. */
static void test_half_is_found(void)
{
    gan_tensor *in[3];
    gan *g = open_inputs(in);
    double error = gan_gradcheck(g, half_detached, in, 3, NULL);
    CHECK(fabs(error - 0.5) <= tolerance, "the error is %g, not 0.5", error);
    CHECK(strstr(gan_error(), "worst at input 2"), "gan_error() is: %s", gan_error());
    gan_close(g);
}

static void test_no_dependence(void)
{
    gan_tensor *in[3];
    gan *g = open_inputs(in);
    double error = gan_gradcheck(g, without_third, in, 3, NULL);
    CHECK(error <= tolerance, "the error is %g: %s", error, gan_error());
    CHECK(strstr(gan_error(), "f does not depend on input 2"), "gan_error() is: %s", gan_error());
    message_of(leave_text, NULL);
    error = gan_gradgradcheck(g, without_third, in, 3, NULL);
    CHECK(error <= tolerance && text_is_left(), "second order: %g: %s", error, gan_error());
    gan_close(g);
}

static void test_constant(void)
{
    gan_tensor *in[3];
    gan *g = open_inputs(in);
    double error = gan_gradcheck(g, constant, in, 3, NULL);
    CHECK(error == INFINITY, "the error is %g", error);
    CHECK(strstr(gan_error(), "nothing was tested"), "gan_error() is: %s", gan_error());
    gan_close(g);
}

static void test_linear(void)
{
    gan_tensor *in[3];
    gan *g = open_inputs(in);
    double error = gan_gradgradcheck(g, linear, in, 3, NULL);
    CHECK(error == 0 && text_is_left(), "the error is %g: %s", error, gan_error());
    gan_close(g);
}

static void test_nan(void)
{
    gan_tensor *in[3];
    gan *g = open_inputs(in);
    double error = gan_gradcheck(g, not_a_number, in, 3, NULL);
    CHECK(error == INFINITY, "the error is %g", error);
    CHECK(strstr(gan_error(), "input 0, element 0"), "gan_error() is: %s", gan_error());
    gan_close(g);
}

/* ---- parameters as inputs */

typedef struct {
    gan_model *model;
    gan_tensor *in[3]; /* x, weight, bias */
    bool detached;     /* a mistake: the weight */
    int calls, last;   /* the call that ends in an error, or 0 */
} layer;

static gan_tensor *layer_of(gan *g, gan_tensor **in, void *user)
{
    layer *l = (layer *)user;
    (void)g;
    l->calls++;
    if (l->calls == l->last)
        gan_fail("my_layer", "it ends here");
    if (l->detached)
        return gan_tanh(gan_linear_f(in[0], gan_detach(in[1]), in[2]));
    return gan_tanh(gan_linear(l->model, "fc", in[0], 2));
}

enum { NUMBERS = 12 + 6 + 2 };

static gan *open_layer(layer *l, gan_real start[NUMBERS])
{
    gan *g = gan_open("cpu", 5);
    memset(l, 0, sizeof *l);
    l->model = gan_model_new(g, "m");
    l->in[0] = gan_randn(g, 4, 3, 1, 1);
    gan_linear(l->model, "fc", l->in[0], 2);
    l->in[1] = gan_find_param(l->model, "fc.weight");
    l->in[2] = gan_find_param(l->model, "fc.bias");
    gan_to_host(l->in[0], start);
    gan_to_host(l->in[1], start + 12);
    gan_to_host(l->in[2], start + 18);
    return g;
}

static bool same_numbers(layer *l, const gan_real start[NUMBERS])
{
    gan_real now[NUMBERS];
    gan_to_host(l->in[0], now);
    gan_to_host(l->in[1], now + 12);
    gan_to_host(l->in[2], now + 18);
    return !memcmp(now, start, sizeof now);
}

static void test_parameters(void)
{
    layer l;
    gan_real start[NUMBERS];
    gan *g = open_layer(&l, start);
    double first = gan_gradcheck(g, layer_of, l.in, 3, &l);
    double second = gan_gradgradcheck(g, layer_of, l.in, 3, &l);
    CHECK(first > 0 && first <= tolerance, "the error is %g: %s", first, gan_error());
    CHECK(second > 0 && second <= tolerance, "the second error is %g: %s", second, gan_error());
    CHECK(same_numbers(&l, start), "the inputs have other numbers afterwards");
    l.detached = true;
    first = gan_gradcheck(g, layer_of, l.in, 3, &l);
    CHECK(first == INFINITY && strstr(gan_error(), "input 1"), "a detached weight: %g: %s", first,
          gan_error());
    CHECK(same_numbers(&l, start), "the inputs have other numbers after a mistake");
    gan_close(g);
}

static gan *device;

static void check_layer(void *arg)
{
    layer *l = (layer *)arg;
    gan_gradcheck(device, layer_of, l->in, 3, l);
}

/* An error in the middle of a difference, for each of the first calls. */
static void test_restored_after_error(void)
{
    layer l;
    gan_real start[NUMBERS];
    device = open_layer(&l, start);
    for (int last = 1; last <= 4 * NUMBERS + 1; last += 5) {
        l.calls = 0;
        l.last = last;
        const char *message = message_of(check_layer, &l);
        CHECK(!strcmp(message, "my_layer: it ends here"), "call %d: the message is \"%s\"", last,
              message);
        CHECK(same_numbers(&l, start), "call %d: an input is left with another number", last);
    }
    l.last = 0;
    double error = gan_gradcheck(device, layer_of, l.in, 3, &l);
    CHECK(error > 0 && error <= tolerance, "afterwards the error is %g: %s", error, gan_error());
    gan_close(device);
}

/* ---- bad arguments */

static gan_tensor *null_result(gan *g, gan_tensor **in, void *user)
{
    (void)g;
    (void)in;
    (void)user;
    return NULL;
}

static gan *other;

static void wrong_arguments(void *arg)
{
    gan_tensor *in[2];
    in[0] = gan_full(device, 1, 1, 1, 1, 1);
    in[1] = NULL;
    switch (*(int *)arg) {
    case 0: gan_gradcheck(NULL, good, in, 1, NULL); break;
    case 1: gan_gradcheck(device, NULL, in, 1, NULL); break;
    case 2: gan_gradcheck(device, good, NULL, 1, NULL); break;
    case 3: gan_gradcheck(device, good, in, 0, NULL); break;
    case 4: gan_gradcheck(device, good, in, 2, NULL); break;
    case 5: gan_gradcheck(device, null_result, in, 1, NULL); break;
    default: gan_gradgradcheck(other, good, in, 1, NULL); break;
    }
}

static void test_arguments(void)
{
    static const char *const want[] = {
        "gan_gradcheck: the device is NULL",
        "gan_gradcheck: f is NULL",
        "gan_gradcheck: in is NULL",
        "gan_gradcheck: 0 inputs: 1 or more are wanted",
        "gan_gradcheck: a tensor is NULL",
        "gan_gradcheck: f gives NULL, a tensor is wanted",
        "gan_gradgradcheck: input 0 belongs to another gan_open",
    };
    device = gan_open("cpu", 1);
    other = gan_open("cpu", 1);
    for (int i = 0; i < 7; i++) {
        const char *message = message_of(wrong_arguments, &i);
        CHECK(!strcmp(message, want[i]), "the message is \"%s\", not \"%s\"", message, want[i]);
    }
    gan_close(other);
    gan_close(device);
}

int main(void)
{
    run("good code leaves gan_error() alone", test_good);
    run("a detached input is found and named", test_detach_is_found);
    run("one with small derivatives, too", test_small_detach_is_found);
    run("one whose second derivative is cut", test_detach_is_found_in_second);
    run("half a derivative is found", test_half_is_found);
    run("an input that f does not depend on is named", test_no_dependence);
    run("a constant f tests nothing", test_constant);
    run("a linear f has no second derivative", test_linear);
    run("a NaN is infinite", test_nan);
    run("parameters as inputs, put back to the bit", test_parameters);
    run("put back after an error in f", test_restored_after_error);
    run("bad arguments", test_arguments);
    return finish();
}
