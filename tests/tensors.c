/* tests/tensors.c: a tensor's life. One that gan_clear or gan_clear_to has freed is recognised
   wherever it is used, also steps later, at no cost in memory; NULL ends in one line everywhere.

       cc -O2 tests/tensors.c -o tensors -lm && ./tensors */

#include "test.h"

static gan *g;
static gan_model *model;
static gan_opt *opt;

/* ---- uses of a tensor (1,1,1,1): what the message begins with, the call */

static gan_tensor *used; /* the tensor, freed or NULL */

static gan_tensor *one(void)
{
    return gan_full(g, 1, 1, 1, 1, 1);
}

static gan_tensor *critic(gan_model *m, gan_tensor *x)
{
    return gan_linear(m, "fc", x, 1);
}

static gan_tensor *both_of(gan_tensor *a, gan_tensor *b, int count)
{
    gan_tensor *parts[2];
    parts[0] = a;
    parts[1] = b;
    return gan_concat_all(parts, count, 1);
}

static gan_tensor *itself(gan *device, gan_tensor **in, void *user)
{
    (void)device;
    (void)user;
    return gan_square(in[0]);
}

static gan_real number[1];

#define USES(U)                                                             \
    U(count, "gan_count", gan_count(used))                                  \
    U(to_host, "gan_to_host", gan_to_host(used, number))                    \
    U(item, "gan_item", gan_item(used))                                     \
    U(set, "gan_set", gan_set(used, number))                                \
    U(detach, "gan_detach", gan_detach(used))                               \
    U(add, "gan_add", gan_add(used, one()))                                 \
    U(add_second, "gan_add", gan_add(one(), used))                          \
    U(exp, "gan_exp", gan_exp(used))                                        \
    U(relu_, "gan_relu_", gan_relu_(used))                                  \
    U(sum, "gan_sum", gan_sum(used))                                        \
    U(mean, "gan_mean", gan_mean(used))                                     \
    U(sum_to, "gan_sum_to", gan_sum_to(used, 1, 1, 1, 1))                   \
    U(mean_to, "gan_mean_to", gan_mean_to(used, 1, 1, 1, 1))                \
    U(expand, "gan_expand", gan_expand(used, 2, 1, 1, 1))                   \
    U(softmax, "gan_softmax", gan_softmax(used, 1))                         \
    U(log_softmax, "gan_log_softmax", gan_log_softmax(used, 1))             \
    U(reshape, "gan_reshape", gan_reshape(used, 1, 1, 1, 1))                \
    U(permute, "gan_permute", gan_permute(used, 1, 0, 2, 3))                \
    U(transpose, "gan_transpose", gan_transpose(used, 0, 1))                \
    U(slice, "gan_slice", gan_slice(used, 0, 0, 1))                         \
    U(concat, "gan_concat", gan_concat(used, one(), 1))                     \
    U(concat_second, "gan_concat", gan_concat(one(), used, 1))              \
    U(concat_all, "gan_concat", both_of(one(), used, 2))                    \
    U(concat_all_1, "gan_concat_all", both_of(used, NULL, 1))               \
    U(gather, "gan_gather", gan_gather(used, one(), 1))                     \
    U(gather_index, "gan_gather", gan_gather(one(), used, 1))               \
    U(scatter, "gan_scatter_add", gan_scatter_add(used, one(), 1, 2))       \
    U(scatter_index, "gan_scatter_add", gan_scatter_add(one(), used, 1, 2)) \
    U(one_hot, "gan_one_hot", gan_one_hot(used, 3))                         \
    U(matmul, "gan_matmul", gan_matmul(used, one()))                        \
    U(layer, "gan_linear", critic(model, used))                             \
    U(grad_y, "gan_grad", gan_grad(used, one()))                            \
    U(grad_x, "gan_grad", gan_grad(one(), used))                            \
    U(backward, "gan_backward", gan_backward(used, model))                  \
    U(minimize, "gan_minimize", gan_minimize(opt, used))                    \
    U(param_grad, "gan_param_grad", gan_param_grad(used))                   \
    U(gradcheck, "gan_gradcheck", gan_gradcheck(g, itself, &used, 1, NULL))

#define FUNCTION(name, begins, call)  \
    static void use_##name(void *arg) \
    {                                 \
        (void)arg;                    \
        (void)(call);                 \
    }
USES(FUNCTION)

#define ROW(name, begins, call) {#name, begins, use_##name},

static const struct use {
    const char *name, *begins;
    void (*make)(void *);
} uses[] = {USES(ROW)};

enum { USE_COUNT = sizeof uses / sizeof *uses };

/* Every use of `used` ends in one line that begins with the function and holds what. */
static void check_uses(const char *when, const char *what, const char *also)
{
    for (int i = 0; i < USE_COUNT; i++) {
        const char *message = message_of(uses[i].make, NULL);
        CHECK(*message, "%s, %s: it is let through", when, uses[i].name);
        CHECK(!strncmp(message, uses[i].begins, strlen(uses[i].begins)),
              "%s, %s: the message begins otherwise: %s", when, uses[i].name, message);
        CHECK(strstr(message, what) && strstr(message, also),
              "%s, %s: the message does not say \"%s\" and \"%s\": %s", when, uses[i].name, what,
              also, message);
        CHECK(!strchr(message, '\n'), "%s, %s: more than one line: %s", when, uses[i].name,
              message);
    }
    gan_tensor *x = gan_full(g, 3, 1, 1, 1, 1);
    CHECK(gan_item(gan_grad(gan_square(x), x)) == 6, "%s: the device does not work afterwards",
          when);
}

/* A step of a training: forward, two gan_backward, a penalty's second derivative. */
static gan_tensor *step(void)
{
    gan_tensor *x = gan_randn(g, 4, 3, 1, 1);
    gan_tensor *loss = gan_mean(gan_square(critic(model, gan_tanh(x))));
    gan_minimize(opt, loss);
    gan_tensor *slope = gan_grad(gan_sum(gan_tanh(critic(model, x))), x);
    gan_minimize(opt, gan_mean(gan_square(slope)));
    return loss;
}

static void open_all(void)
{
    g = gan_open("cpu", 1);
    model = gan_model_new(g, "m");
    opt = gan_adam(model, (gan_real)1e-3, (gan_real)0.5, (gan_real)0.999);
}

/* ---- the tests ---- */

static void test_null(void)
{
    open_all();
    used = NULL;
    check_uses("NULL", "a tensor is NULL", "");
    gan_close(g);
}

static void test_cleared(void)
{
    open_all();
    used = step();
    gan_clear(g);
    check_uses("at once", "(1,1,1,1) was freed by gan_clear", "gan_to_host");
    gan_close(g);
}

/* From the first step on, and from the fifth, when structs are used again. */
static void test_cleared_steps_ago(void)
{
    for (int first = 0; first < 5; first += 4)
        for (int ago = 1; ago <= 2; ago++) {
            open_all();
            for (int i = 0; i < first; i++) {
                step();
                gan_clear(g);
            }
            used = step();
            gan_clear(g);
            for (int i = 0; i < ago; i++) {
                if (i > 0)
                    gan_clear(g);
                step();
            }
            check_uses(ago == 1 ? "a step later" : "two steps later",
                       "(1,1,1,1) was freed by gan_clear", "gan_to_host");
            if (test_failed_now)
                return;
            gan_close(g);
        }
}

static void test_cleared_to(void)
{
    open_all();
    gan_tensor *kept = one();
    gan_mark mark = gan_here(g);
    used = step();
    gan_clear_to(g, mark);
    CHECK(gan_item(kept) == 1, "gan_clear_to freed what was there before the mark");
    check_uses("after gan_clear_to", "(1,1,1,1) was freed by gan_clear", "gan_to_host");
    step();
    check_uses("after gan_clear_to and a step", "(1,1,1,1) was freed by gan_clear", "gan_to_host");
    CHECK(gan_item(kept) == 1, "what was there before the mark is gone");
    gan_close(g);
}

static void overwritten(void *arg)
{
    (void)arg;
    gan_square(used);
}

/* The two messages are told apart: before gan_clear it is the in-place function's. */
static void test_overwritten(void)
{
    open_all();
    used = gan_neg(one());
    gan_relu_(used);
    const char *message = message_of(overwritten, NULL);
    CHECK(strstr(message, "overwritten by an in-place function"), "the message is: %s", message);
    gan_clear(g);
    message = message_of(overwritten, NULL);
    CHECK(strstr(message, "freed by gan_clear"), "after gan_clear the message is: %s", message);
    gan_close(g);
}

/* Recognising freed tensors costs memory for a bounded number of structs, and no allocator is
   called once those are there: a training, and a loop over gan_clear_to alone. */
static void test_bounded(void)
{
    open_all();
    test_allocations = 0;
    for (int i = 0; i < 50; i++) {
        test_counting = i >= 4;
        step();
        gan_clear(g);
    }
    test_counting = 0;
    CHECK(test_allocations == 0, "steps: %d calls of the allocator", test_allocations);
    gan_mark mark = gan_here(g);
    for (int i = 0; i < 3000; i++) {
        test_counting = i >= 100;
        step();
        gan_clear_to(g, mark);
    }
    test_counting = 0;
    CHECK(test_allocations == 0, "gan_clear_to: %d calls of the allocator", test_allocations);
    gan_close(g);
}

/* A large first step, then small ones: they too stop asking for memory. */
static void test_small_after_large(void)
{
    open_all();
    gan_tensor *x = one();
    for (int i = 0; i < 5000; i++)
        x = gan_add_scalar(x, 1);
    CHECK(gan_item(x) == 5001, "5,000 additions give %g", (double)gan_item(x));
    gan_clear(g);
    test_allocations = 0;
    for (int i = 0; i < 50; i++) {
        test_counting = i >= 4;
        step();
        gan_clear(g);
    }
    test_counting = 0;
    CHECK(test_allocations == 0, "%d calls of the allocator", test_allocations);
    gan_close(g);
}

static void to_nowhere(void *arg)
{
    (void)arg;
    gan_to_host(gan_zeros(g, 2, 3, 1, 1), NULL);
}

static void set_nothing(void *arg)
{
    (void)arg;
    gan_set(gan_zeros(g, 2, 3, 1, 1), NULL);
}

static void from_nothing(void *arg)
{
    (void)arg;
    gan_from_host(g, NULL, 2, 3, 1, 1);
}

static void zeros_of_nothing(void *arg)
{
    (void)arg;
    gan_zeros(NULL, 2, 3, 1, 1);
}

static void full_of_nothing(void *arg)
{
    (void)arg;
    gan_full(NULL, 1, 2, 3, 1, 1);
}

static void minimize_nothing(void *arg)
{
    (void)arg;
    gan_minimize(NULL, one());
}

static void backward_nothing(void *arg)
{
    (void)arg;
    gan_backward(one(), NULL);
}

static void test_null_arguments(void)
{
    static const struct {
        void (*make)(void *);
        const char *begins, *says;
    } rows[] = {
        {to_nowhere, "gan_to_host", "out is NULL"},
        {set_nothing, "gan_set", "data is NULL"},
        {from_nothing, "gan_from_host", "data is NULL"},
        {zeros_of_nothing, "gan_zeros", "device is NULL"},
        {full_of_nothing, "gan_full", "device is NULL"},
        {minimize_nothing, "gan_minimize", "optimizer is NULL"},
        {backward_nothing, "gan_backward", "model is NULL"},
    };

    open_all();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *message = message_of(rows[i].make, NULL);
        CHECK(!strncmp(message, rows[i].begins, strlen(rows[i].begins)) &&
                  strstr(message, rows[i].says) && !strchr(message, '\n'),
              "%s: the message is \"%s\"", rows[i].begins, message);
    }
    gan_close(g);
}

int main(void)
{
    run("NULL in place of a tensor", test_null);
    run("NULL in place of the rest", test_null_arguments);
    run("a tensor after gan_clear", test_cleared);
    run("a tensor steps after gan_clear", test_cleared_steps_ago);
    run("a tensor after gan_clear_to", test_cleared_to);
    run("freed or overwritten", test_overwritten);
    run("freed structs are bounded", test_bounded);
    run("small steps after a large one", test_small_after_large);
    return finish();
}
