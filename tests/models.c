/* tests/models.c: what a model's parameters and buffers are: which of them train, what gan_freeze
   does, what a file brings back, and that misuse ends in one line. */
#include "test.h"

static gan *g;
static char path[512]; /* a scratch file beside this program: main() names and removes it */

static gan_tensor *net(gan_model *m, gan_tensor *x)
{
    x = gan_batch_norm(m, "bn", gan_linear(m, "fc", x, 3));
    return gan_linear(m, "out", gan_tanh(x), 1);
}

static gan_tensor *loss_of(gan_model *m)
{
    return gan_mean(gan_square(net(m, gan_randn(g, 4, 2, 1, 1))));
}

static bool has_gradient(gan_tensor *param)
{
    return gan_item(gan_sum(gan_abs(gan_param_grad(param)))) != 0;
}

/* A copy of every number of m, in the order of its parameters; at most 64. */
static int numbers_of(gan_model *m, gan_real *to)
{
    int count = 0;
    for (int i = 0; gan_param_name(m, i); i++) {
        gan_tensor *t = gan_find_param(m, gan_param_name(m, i));
        gan_to_host(t, to + count);
        count += (int)gan_count(t);
    }
    return count;
}

static bool same_as(gan_tensor *t, const gan_real *want)
{
    gan_real got[64];
    gan_to_host(t, got);
    return memcmp(got, want, gan_count(t) * sizeof *got) == 0;
}

/* ---- freezing */

static gan_opt *optimizer(gan_model *m, int kind)
{
    return kind == 0 ? gan_sgd(m, (gan_real)0.1, 0)
         : kind == 1 ? gan_adam(m, (gan_real)0.1, 0, (gan_real)0.9)
         : kind == 2 ? gan_rmsprop(m, (gan_real)0.1, (gan_real)0.9)
                     : gan_lbfgs(m, (gan_real)0.1, 3);
}

static void frozen_stays(void)
{
    for (int kind = 0; kind < 4; kind++) {
        gan_real before[64], after[64];
        gan_model *m = gan_model_new(g, "frozen");
        gan_opt *opt = optimizer(m, kind);
        gan_minimize(opt, loss_of(m));
        gan_eval(m); /* or batch norm's running statistics move */
        gan_backward(loss_of(m), m);
        CHECK(has_gradient(gan_find_param(m, "fc.weight")), "gan_backward left no gradient");
        int count = numbers_of(m, before);

        gan_freeze(m);
        CHECK(!has_gradient(gan_find_param(m, "fc.weight")), "a gradient waits in a frozen model");
        gan_step(opt);
        gan_backward(loss_of(m), m);
        CHECK(!has_gradient(gan_find_param(m, "fc.weight")), "a frozen parameter got a gradient");
        gan_step(opt);
        gan_clip_weights(m, 0);
        numbers_of(m, after);
        CHECK(!memcmp(before, after, (size_t)count * sizeof *before),
              "optimizer %d changes a frozen model", kind);
        CHECK(gan_param_count(m) == 9 + 6 + 4, "a frozen model has %.0f numbers",
              (double)gan_param_count(m));

        gan_unfreeze(m);
        gan_minimize(opt, loss_of(m));
        numbers_of(m, after);
        CHECK(memcmp(before, after, (size_t)count * sizeof *before),
              "optimizer %d does not change an unfrozen model", kind);
        gan_clear(g);
    }
}

/* A generator trains through a frozen discriminator just as through another. */
static void through_frozen(void)
{
    gan_real trained[2][64];
    int count = 0;
    for (int freeze = 0; freeze < 2; freeze++) {
        gan *own = gan_open("cpu", 5);
        gan_model *G = gan_model_new(own, "G");
        gan_model *D = gan_model_new(own, "D");
        gan_opt *opt = gan_adam(G, (gan_real)0.01, 0, (gan_real)0.9);
        for (int step = 0; step < 3; step++) {
            gan_tensor *fake = gan_tanh(gan_linear(G, "fc", gan_randn(own, 4, 2, 1, 1), 2));
            gan_tensor *logits = net(D, fake);
            if (freeze)
                gan_freeze(D); /* in the first step before it has a gradient, later again */
            gan_minimize(opt, gan_bce_logits(logits, 1));
            CHECK(!has_gradient(gan_find_param(D, "fc.weight")), "D has got a gradient");
            gan_clear(own);
        }
        count = numbers_of(G, trained[freeze]);
        gan_close(own);
    }
    CHECK(!memcmp(trained[0], trained[1], (size_t)count * sizeof **trained),
          "G learns something else when D is frozen");
}

/* Layers made while the model is frozen are constants too; their buffers are not. */
static void frozen_before_first_use(void)
{
    gan_real zero[3] = {0, 0, 0};
    gan_model *m = gan_model_new(g, "late");
    gan_opt *opt = gan_sgd(m, 1, 0);
    gan_freeze(m);
    gan_backward(loss_of(m), m);
    CHECK(!has_gradient(gan_find_param(m, "fc.weight")), "a parameter to come got a gradient");
    gan_step(opt);
    CHECK(!same_as(gan_find_param(m, "bn.running_mean"), zero),
          "batch norm's running mean does not move in a frozen model that trains");
}

static void minimize_frozen(void *arg)
{
    gan_model *m = (gan_model *)arg;
    gan_minimize(gan_sgd(m, 1, 0), loss_of(m));
}

static void frozen_is_said(void)
{
    gan_model *m = gan_model_new(g, "D");
    gan_freeze(m);
    const char *message = message_of(minimize_frozen, m);
    CHECK(!strncmp(message, "gan_minimize: ", 14) && strstr(message, "\"D\" is frozen") &&
              strstr(message, "gan_unfreeze"),
          "\"%s\"", message);
    gan_unfreeze(m);
    CHECK(!*message_of(minimize_frozen, m), "it is not taken back: %s", test_message);
}

/* ---- buffers */

static void buffer_is_kept(void)
{
    const gan_real start[2] = {0, 0};
    const gan_real set[2] = {3, 4};
    gan_model *m = gan_model_new(g, "m");
    gan_model *average = gan_model_new(g, "average");
    gan_opt *opt = gan_sgd(m, 1, 0);
    gan_init_model(m, GAN_INIT_NORMAL, 1);
    gan_tensor *kept = gan_buffer(m, "count.weight", 1, 2, 1, 1);
    gan_tensor *w = gan_param(m, "w", 1, 2, 1, 1);
    CHECK(same_as(kept, start), "a buffer does not start at 0");
    CHECK(gan_buffer(m, "count.weight", 1, 2, 1, 1) == kept, "a second buffer of that name");
    CHECK(gan_find_param(m, "count.weight") == kept, "gan_find_param does not find a buffer");
    CHECK(gan_param(m, "count.weight", 1, 2, 1, 1) == kept, "gan_param does not find a buffer");
    CHECK(gan_param_count(m) == 2, "%.0f numbers train", (double)gan_param_count(m));
    gan_set(kept, set);
    gan_init_model(m, GAN_INIT_NORMAL, 1);
    gan_minimize(opt, gan_sum(gan_mul(kept, w)));
    CHECK(same_as(kept, set), "gan_init_model or gan_minimize changed a buffer");
    gan_ema(average, m, (gan_real)0.5);
    gan_set(kept, start);
    gan_ema(average, m, (gan_real)0.5);
    CHECK(same_as(gan_find_param(average, "count.weight"), start), "gan_ema averages a buffer");
    CHECK(gan_param_count(average) == 2, "in the average, a buffer trains");
}

/* The name says nothing: a parameter may be called as a buffer is in PyTorch. */
static void names_do_not_decide(void)
{
    static const char *const names[] = {"running_shoes", "fc.running_mean", "a.weight_u",
                                        "running_var"};
    gan_model *m = gan_model_new(g, "m");
    gan_opt *opt = gan_sgd(m, 1, 0);
    for (int i = 0; i < 4; i++) {
        gan_real before[4], after[4];
        gan_tensor *p = gan_param(m, names[i], 1, 4, 1, 1);
        gan_to_host(p, before);
        gan_minimize(opt, gan_sum(p)); /* its gradient is 1, and so is the step */
        gan_to_host(p, after);
        for (int k = 0; k < 4; k++)
            CHECK(fabs((double)(before[k] - after[k]) - 1) <= 1e-6, "%s does not train", names[i]);
    }
}

/* A layer that asks for its buffer makes one of what was a parameter until then. */
static void layer_takes_buffer(void)
{
    gan_model *m = gan_model_new(g, "m");
    const gan_real mean[1] = {2};
    gan_set(gan_param(m, "bn.running_mean", 1, 1, 1, 1), mean);
    CHECK(gan_param_count(m) == 1, "gan_param made a buffer");
    gan_eval(m);
    gan_tensor *y = gan_batch_norm(m, "bn", gan_full(g, 2, 3, 1, 1, 1));
    CHECK(gan_item(gan_sum(gan_abs(y))) == 0, "batch norm does not use the mean that is there");
    CHECK(gan_param_count(m) == 2, "weight and bias are 2 numbers, not %.0f",
          (double)gan_param_count(m));
}

/* ---- files */

static void make_all(gan_model *m)
{
    net(m, gan_randn(g, 4, 2, 1, 1));
    gan_spectral_norm(m, "s", gan_param(m, "s.weight", 2, 3, 1, 1));
    gan_param(m, "running_shoes", 1, 5, 1, 1);
    gan_param(m, "fc.running_mean", 1, 5, 1, 1);
    gan_buffer(m, "a \"quoted\\name\"", 1, 7, 1, 1);
    gan_buffer(m, "plain", 1, 7, 1, 1);
}

/* The buffers of an empty model that a file fills are those of the one that was saved. */
static void file_keeps_flags(void)
{
    gan_model *m = gan_model_new(g, "m");
    make_all(m);
    size_t trained = 9 + 6 + 4 + 6 + 5 + 5;
    CHECK(gan_param_count(m) == trained, "%.0f numbers train", (double)gan_param_count(m));
    for (int half = 0; half < 2; half++) {
        gan_model *read = gan_model_new(g, "read");
        CHECK(half ? gan_save_f16(m, path) : gan_save(m, path), "%s", gan_error());
        CHECK(gan_load(read, path), "%s", gan_error());
        CHECK(gan_param_count(read) == trained, "after gan_load, %.0f numbers train, not %.0f",
              (double)gan_param_count(read), (double)trained);
        gan_clip_weights(read, 0); /* every number that trains becomes 0, no other does */
        gan_real one[7] = {1, 1, 1, 1, 1, 1, 1};
        CHECK(gan_item(gan_sum(gan_find_param(read, "bn.running_var"))) != 0,
              "a running variance was trained");
        CHECK(gan_item(gan_sum(gan_abs(gan_find_param(read, "fc.running_mean")))) == 0,
              "a parameter called running_mean became a buffer");
        gan_set(gan_find_param(read, "plain"), one);
        gan_clip_weights(read, 0);
        CHECK(same_as(gan_find_param(read, "plain"), one), "a buffer became a parameter");
    }
}

static void state_keeps_flags(void)
{
    gan *first = gan_open("cpu", 1);
    gan_model *m = gan_model_new(first, "m");
    gan_linear(m, "fc", gan_zeros(first, 1, 2, 1, 1), 1);
    gan_buffer(m, "kept", 1, 2, 1, 1);
    gan_param(gan_model_new(first, "other"), "kept", 1, 4, 1, 1);
    CHECK(gan_save_state(first, path, 7), "%s", gan_error());
    gan_close(first);
    gan *second = gan_open("cpu", 1);
    gan_model *read = gan_model_new(second, "m");
    gan_model *other = gan_model_new(second, "other");
    bool done = gan_load_state(second, path, NULL);
    CHECK(done, "%s", gan_error());
    CHECK(gan_param_count(read) == 3 && gan_param_count(other) == 4,
          "after gan_load_state, %.0f and %.0f numbers train", (double)gan_param_count(read),
          (double)gan_param_count(other));
    gan_close(second);
}

static void write_safetensors(const char *header, size_t numbers)
{
    static const char zeros[256];
    unsigned char size[8] = {0};
    size_t length = strlen(header);
    FILE *file = fopen(path, "wb");
    size[0] = (unsigned char)(length & 255);
    size[1] = (unsigned char)(length >> 8);
    bool done = file && fwrite(size, 1, 8, file) == 8 && fwrite(header, 1, length, file) == length;
    done = done && fwrite(zeros, 4, numbers, file) == numbers;
    if (file)
        fclose(file);
    if (!done)
        printf("cannot write %s\n", path);
}

/* A file without the list, PyTorch's: what its layers keep is known by name. */
static void torch_buffers(void)
{
    write_safetensors(
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"bn.running_mean\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
        "\"bn.running_var\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]},"
        "\"c.weight_u\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]},"
        "\"c.weight_v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[24,32]},"
        "\"running_shoes\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[32,40]},"
        "\"c.weight_v2\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[40,48]}}",
        12);
    gan_model *m = gan_model_new(g, "m");
    CHECK(gan_load(m, path), "%s", gan_error());
    CHECK(gan_param_count(m) == 4, "%.0f numbers train", (double)gan_param_count(m));
}

/* ---- misuse */

#define NULL_MODEL(M)                                           \
    M(gan_train, gan_train(NULL))                               \
    M(gan_eval, gan_eval(NULL))                                 \
    M(gan_freeze, gan_freeze(NULL))                             \
    M(gan_unfreeze, gan_unfreeze(NULL))                         \
    M(gan_freeze_norm, gan_freeze_norm(NULL))                   \
    M(gan_param, gan_param(NULL, "w", 1, 1, 1, 1))              \
    M(gan_buffer, gan_buffer(NULL, "w", 1, 1, 1, 1))            \
    M(gan_find_param, gan_find_param(NULL, "w"))                \
    M(gan_param_count, gan_param_count(NULL))                   \
    M(gan_param_name, gan_param_name(NULL, 0))                  \
    M(gan_init_model, gan_init_model(NULL, GAN_INIT_NORMAL, 1)) \
    M(gan_weights, gan_weights(NULL, GAN_SPECTRAL, 1))          \
    M(gan_sgd, gan_sgd(NULL, 1, 0))                             \
    M(gan_adam, gan_adam(NULL, 1, 0, 0))                        \
    M(gan_adamw, gan_adamw(NULL, 1, 0, 0, 0))                   \
    M(gan_rmsprop, gan_rmsprop(NULL, 1, 0))                     \
    M(gan_lbfgs, gan_lbfgs(NULL, 1, 3))                         \
    M(gan_clip_grad_norm, gan_clip_grad_norm(NULL, 1))          \
    M(gan_clip_grad_value, gan_clip_grad_value(NULL, 1))        \
    M(gan_clip_weights, gan_clip_weights(NULL, 1))

#define OTHER_MISTAKES(M)                                                                         \
    M(init_null, "gan_init_param: a tensor is NULL", gan_init_param(NULL, GAN_INIT_NORMAL, 1))    \
    M(init_kind, "gan_init_model: kind 9",                                                        \
      gan_init_model(gan_model_new(g, "m"), (gan_init_kind)9, 1))                                 \
    M(init_gain, "gan_init_model: kind 1, gain -1",                                               \
      gan_init_model(gan_model_new(g, "m"), GAN_INIT_NORMAL, -1))                                 \
    M(param_name, "gan_param: the name is NULL",                                                  \
      gan_param(gan_model_new(g, "m"), NULL, 1, 1, 1, 1))                                         \
    M(buffer_name, "gan_buffer: the name is empty",                                               \
      gan_buffer(gan_model_new(g, "m"), "", 1, 1, 1, 1))                                          \
    M(find_name, "gan_find_param: the name is NULL", gan_find_param(gan_model_new(g, "m"), NULL)) \
    M(buffer_shape, "gan_buffer: \"b\" is (1,2,1,1), (1,3,1,1) is asked for", {                   \
        gan_model *m = gan_model_new(g, "m");                                                     \
        gan_buffer(m, "b", 1, 2, 1, 1);                                                           \
        gan_buffer(m, "b", 1, 3, 1, 1);                                                           \
    })                                                                                            \
    M(set_lr_null, "gan_set_lr: the optimizer is NULL", gan_set_lr(NULL, 1))                      \
    M(set_lr_negative, "gan_set_lr: learning rate -1",                                            \
      gan_set_lr(gan_sgd(gan_model_new(g, "m"), 1, 0), -1))                                       \
    M(step_null, "gan_step: the optimizer is NULL", gan_step(NULL))                               \
    M(minimize_opt, "gan_minimize: the optimizer is NULL", gan_minimize(NULL, NULL))              \
    M(minimize_loss, "gan_minimize: a tensor is NULL",                                            \
      gan_minimize(gan_sgd(gan_model_new(g, "m"), 1, 0), NULL))                                   \
    M(backward_model, "gan_backward: the model is NULL",                                          \
      gan_backward(gan_zeros(g, 1, 1, 1, 1), NULL))                                               \
    M(grad_null, "gan_param_grad: a tensor is NULL", gan_param_grad(NULL))                        \
    M(ema_null, "gan_ema: a model is NULL", gan_ema(NULL, gan_model_new(g, "m"), 0))              \
    M(ema_from, "gan_ema: a model is NULL", gan_ema(gan_model_new(g, "m"), NULL, 0))              \
    M(copy_null, "gan_copy_params: a model is NULL", gan_copy_params(gan_model_new(g, "m"), NULL))

#define NULL_FUNCTION(name, call)      \
    static void null_##name(void *arg) \
    {                                  \
        (void)arg;                     \
        call;                          \
    }
NULL_MODEL(NULL_FUNCTION)

#define FUNCTION(name, begins, ...)    \
    static void make_##name(void *arg) \
    {                                  \
        (void)arg;                     \
        __VA_ARGS__;                   \
    }
OTHER_MISTAKES(FUNCTION)

#define NULL_ROW(name, call)   {#name, #name ": the model is NULL", null_##name},
#define ROW(name, begins, ...) {#name, begins, make_##name},

static void mistakes(void)
{
    static const struct {
        const char *name;
        const char *begins;
        void (*make)(void *);
    } table[] = {NULL_MODEL(NULL_ROW) OTHER_MISTAKES(ROW)};

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *message = message_of(table[i].make, NULL);
        CHECK(!strncmp(message, table[i].begins, strlen(table[i].begins)) && !strchr(message, '\n'),
              "%s: \"%s\"", table[i].name, message);
    }
}

int main(int argc, char **argv)
{
    snprintf(path, sizeof path, "%s.tmp", argc > 0 ? argv[0] : "models");
    g = gan_open("cpu", 3);
    run("models: a frozen model stays as it is", frozen_stays);
    run("models: training through a frozen model", through_frozen);
    run("models: frozen before its first use", frozen_before_first_use);
    run("models: gan_minimize of a frozen model", frozen_is_said);
    run("models: a buffer is kept, not trained", buffer_is_kept);
    run("models: names do not decide what trains", names_do_not_decide);
    run("models: a layer takes its buffer", layer_takes_buffer);
    run("models: a file keeps what trains", file_keeps_flags);
    run("models: the state of a training does too", state_keeps_flags);
    run("models: buffers in PyTorch's files", torch_buffers);
    run("models: misuse ends in one line", mistakes);
    gan_close(g);
    remove(path);
    return finish();
}
