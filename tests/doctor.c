/* tests/doctor.c: trainings that are ill on purpose. The doctor names each illness and is silent
   about healthy ones. */
#include "test.h"

enum {
    HEALTHY,
    COLLAPSE,
    EXPLOSION,
    RATE,
    DEAD,
    SWAPPED,
    CONSTANT,
    NOT_A_NUMBER,
    FROZEN,
    WON,
    VANISHING,
    BACKWARD
};

enum { BCE, R1, HINGE, WGAN, LSGAN };

/* One training: which illness, which loss, its size; and what the doctor said in all of it. */
typedef struct {
    int illness, loss, steps, every, seed;
    bool doctor, plain_relu;
} training;

static char said[8192];
static int told;
static gan_real final_weight[64];

static gan_tensor *norm(gan_model *m, const training *t, const char *name, gan_tensor *x)
{
    return t->illness == EXPLOSION ? x : gan_batch_norm(m, name, x);
}

static gan_tensor *generator(gan_model *G, const training *t,
                             gan_tensor *z) /* (N,16,1,1) -> (N,1,28,28) */
{
    if (t->illness == COLLAPSE)
        z = gan_mul_scalar(z, 0);
    gan_tensor *x = gan_reshape(gan_linear(G, "fc", z, 16 * 7 * 7), -1, 16, 7, 7);
    x = gan_relu(norm(G, t, "bn0", x));
    x = gan_conv_transpose2d(G, "up1", x, 8, 4, 2, 1);
    x = t->plain_relu ? gan_relu_(norm(G, t, "bn1", x)) : gan_relu(norm(G, t, "bn1", x));
    return gan_tanh(gan_conv_transpose2d(G, "up2", x, 1, 4, 2, 1));
}

static gan_tensor *discriminator(gan_model *D, const training *t,
                                 gan_tensor *x) /* (N,1,28,28) -> (N,1,1,1) */
{
    x = gan_leaky_relu(gan_conv2d(D, "conv1", x, 8, 4, 2, 1), (gan_real)0.2);
    x = gan_conv2d(D, "conv2", x, 16, 4, 2, 1);
    x = gan_leaky_relu(t->loss == R1 ? x : norm(D, t, "bn2", x), (gan_real)0.2);
    for (int i = 0; (t->illness == VANISHING || t->illness == EXPLOSION) && i < 6; i++) {
        char name[16];
        snprintf(name, sizeof name, "deep%d", i);
        x = gan_linear(D, name, x, 16);
        x = t->illness == VANISHING ? gan_sigmoid(x) : gan_leaky_relu(x, (gan_real)0.2);
    }
    return gan_linear(D, "fc", x, 1);
}

static void scale(gan_model *m, const char *name, gan_real factor, gan_real shift)
{
    gan_tensor *p = gan_find_param(m, name);
    gan_real *x = (gan_real *)malloc(gan_count(p) * sizeof *x);
    gan_to_host(p, x);
    for (size_t i = 0; i < gan_count(p); i++)
        x[i] = x[i] * factor + shift;
    gan_set(p, x);
    free(x);
}

static gan_tensor *d_loss_of(const training *t, gan_tensor *real, gan_tensor *fake)
{
    gan_real yes = t->illness == SWAPPED ? 0 : 1;
    if (t->loss == HINGE)
        return gan_add(gan_mean(gan_relu(gan_add_scalar(gan_neg(real), 1))),
                       gan_mean(gan_relu(gan_add_scalar(fake, 1))));
    if (t->loss == WGAN)
        return gan_sub(gan_mean(fake), gan_mean(real));
    if (t->loss == LSGAN)
        return gan_add(gan_mean(gan_square(gan_add_scalar(real, -1))), gan_mean(gan_square(fake)));
    return gan_add(gan_bce_logits(real, yes), gan_bce_logits(fake, 1 - yes));
}

static void spoil(const training *t, gan_model *G, gan_model *D) /* the first weights */
{
    char name[32];
    for (int i = 0; t->illness == EXPLOSION && i < 6; i++) {
        snprintf(name, sizeof name, "deep%d.weight", i);
        scale(D, name, 20, 0);
    }
    if (t->illness == DEAD)
        scale(G, "bn0.bias", 1, -10);
}

static void train(training t)
{
    gan *g = gan_open("cpu", (uint64_t)t.seed);
    gan_model *G = gan_model_new(g, "G"), *D = gan_model_new(g, "D");
    gan_real lr = t.loss == R1 ? (gan_real)2e-3 : (gan_real)2e-4;
    gan_real beta1 = t.loss == R1 ? 0 : (gan_real)0.5;
    gan_real beta2 = t.loss == R1 ? (gan_real)0.99 : (gan_real)0.999;
    if (t.illness == RATE)
        lr *= 100;
    gan_opt *opt_g = gan_adam(G, t.illness == WON ? 0 : lr, beta1, beta2);
    gan_opt *opt_d = gan_adam(D, t.illness == WON ? 10 * lr : lr, beta1, beta2);
    gan_data *data = gan_data_digits(g, 1000);
    said[0] = 0;
    told = 0;
    for (int step = 0; step < t.steps; step++) {
        gan_tensor *real = gan_batch(data, 32, NULL);
        gan_tensor *fake = generator(G, &t, gan_randn(g, 32, 16, 1, 1));
        if (t.illness == CONSTANT)
            real = gan_full(g, (gan_real)0.5, 32, 1, 28, 28);
        if (t.illness == NOT_A_NUMBER && step == 13)
            real = gan_mul(real, gan_full(g, (gan_real)NAN, 1, 1, 1, 1));
        gan_tensor *on_real = discriminator(D, &t, real);
        gan_tensor *d_loss = d_loss_of(&t, on_real, discriminator(D, &t, gan_detach(fake)));
        if (step == 0)
            spoil(&t, G, D);
        if (t.loss == R1 && step % 16 == 0)
            d_loss = gan_add(
                d_loss, gan_mul_scalar(gan_sum(gan_square(
                                           gan_grad(gan_sum(discriminator(D, &t, real)), real))),
                                       (gan_real)0.25));
        if (t.illness == BACKWARD && step >= 13)
            d_loss = gan_add(
                d_loss,
                gan_sum(gan_sqrt(gan_mul_scalar(gan_square(gan_slice(on_real, 0, 0, 1)), 0))));
        if (t.illness == HEALTHY && t.every == 16)
            gan_clamp(gan_log(gan_zeros(g, 1, 1, 1, 1)), -100,
                      0); /* an infinity that does no harm */
        if (t.illness != FROZEN)
            gan_minimize(opt_d, d_loss);
        gan_tensor *g_logits = discriminator(D, &t, fake);
        gan_minimize(opt_g, t.loss == BCE || t.loss == R1 ? gan_bce_logits(g_logits, 1)
                            : t.loss == LSGAN ? gan_mse(g_logits, gan_full(g, 1, 32, 1, 1, 1))
                                              : gan_neg(gan_mean(g_logits)));
        int now = t.doctor ? gan_doctor(g, step, t.every, real, fake, NULL, NULL) : 0;
        if (now) {
            told += now;
            snprintf(said + strlen(said), sizeof said - strlen(said), "%s", gan_doctor_text(g));
        }
        gan_clear(g);
    }
    gan_real *w = (gan_real *)malloc(gan_count(gan_find_param(G, "up1.weight")) * sizeof *w);
    gan_to_host(gan_find_param(G, "up1.weight"), w);
    memcpy(final_weight, w, sizeof final_weight);
    free(w);
    gan_close(g);
}

/* The words are in what the doctor says of such a training, the others not. */
static void names(int illness, int loss, int steps, int every, const char *words, const char *more,
                  const char *other)
{
    training t = {illness, loss, steps, every, 3, true, false};
    train(t);
    CHECK(strstr(said, words) && strstr(said, more), "\"%s\" and \"%s\" are not in: %s", words,
          more, said);
    CHECK(!*other || !strstr(said, other), "\"%s\" is in: %s", other, said);
    CHECK(told > 0, "it says nothing was told");
}

static void collapse(void)
{
    names(COLLAPSE, BCE, 61, 10, "the generator has collapsed: two fakes differ by 0,",
          "doctor, step 20:", "won");
}

static void explosion(void)
{
    names(EXPLOSION, BCE, 61, 10, "the gradient explodes at ", "times as long as the weight",
          "vanishes");
}

static void rate(void)
{
    names(RATE, R1, 21, 2, "doctor, step 4: the learning rate is too high for ", "Divide it by 10",
          "explodes");
}

static void dead(void)
{
    names(DEAD, BCE, 61, 10,
          "doctor, step 30: ReLUs are dead: 100% of the channels of gan_leaky_relu (32,16,7,7) at "
          "G.bn0",
          "", "explodes");
}

static void swapped(void)
{
    names(SWAPPED, BCE, 151, 10, "the discriminator takes fakes for real", "labels swapped?",
          "won");
}

static void constant(void)
{
    names(CONSTANT, BCE, 21, 10,
          "doctor, step 0: the images of the data are all the same: two differ by 0.", "",
          "collapsed");
}

static void frozen(void)
{
    names(FROZEN, BCE, 61, 10, "the discriminator does not learn: no parameter of D has changed",
          "doctor, step 20:", "too high");
}

static void won(void)
{
    names(WON, BCE, 201, 10, "the discriminator has won: it tells 100% of all pairs apart, logits",
          "Lower its learning rate", "too high");
}

static void vanishing(void)
{
    names(VANISHING, BCE, 61, 10, "the gradient vanishes on its way to D.", "times smaller",
          "explodes");
}

static void not_a_number(void)
{
    names(NOT_A_NUMBER, BCE, 20, 10, "doctor, step 13: the data itself is not finite", "",
          "step 12");
    /* everything after is lost, and that is told again after 2, 4 ... looks: steps 14 and 16,
       not each */
    CHECK(strstr(said, "step 14") && strstr(said, "step 16") && !strstr(said, "step 15") &&
              !strstr(said, "step 17"),
          "told too often: %s", said);
    CHECK(strstr(said, "step 14: numbers are not finite, first in ") &&
              strstr(said, "is not finite by now"),
          "the weights are not blamed: %s", said);
}

/* sqrt's derivative at 0 is infinite, times 0: finite forwards, NaN backwards. With every = 1
   the derivative itself is named, in its step. */
static void backward(void)
{
    names(BACKWARD, BCE, 16, 1,
          "doctor, step 13: numbers are not finite, first in gan_div (kernel zip) in gan_backward "
          "(1,1,1,1)",
          "", "data");
    names(BACKWARD, BCE, 16, 10, "doctor, step 14: numbers are not finite, first in ",
          " is not finite by now", "step 13");
}

static void healthy(void)
{
    for (int loss = BCE; loss <= LSGAN; loss++)
        for (int seed = 1; seed <= 2; seed++) {
            training t = {HEALTHY, loss, 301, seed == 1 ? 10 : 16, seed, true, seed == 2};
            train(t);
            CHECK(told == 0 && said[0] == 0, "loss %d, seed %d: %s", loss, seed, said);
        }
}

/* Looking at every step changes no bit of the training. */
static void changes_nothing(void)
{
    training t = {HEALTHY, BCE, 30, 1, 5, false, false};
    gan_real without[64];
    train(t);
    memcpy(without, final_weight, sizeof without);
    t.doctor = true;
    train(t);
    CHECK(memcmp(without, final_weight, sizeof without) == 0, "the weights differ");
}

static void classes(void)
{
    gan *g = gan_open("cpu", 1);
    gan_model *D = gan_model_new(g, "D");
    gan_real scores[40 * 4];
    gan_tensor *x = gan_randn(g, 4, 3, 1, 1);
    gan_tensor *y = gan_randn(g, 4, 3, 1, 1);
    CHECK(strcmp(gan_doctor_text(g), "") == 0, "there is a text before anything was said");
    gan_linear(D, "fc", x, 1);
    gan_linear(D, "fc", y, 1);
    CHECK(gan_doctor(g, 7, 1, x, y, NULL, NULL) == 0, "a first look at noise: %s",
          gan_doctor_text(g));
    for (int i = 0; i < 40; i++)
        for (int c = 0; c < 4; c++)
            scores[i * 4 + c] = c == (i % 2 ? 3 : 1); /* never 0 nor 2 */
    CHECK(gan_doctor_classes(g, gan_from_host(g, scores, 40, 4, 1, 1)) == 2, "not two are missing");
    CHECK(strcmp(gan_doctor_text(g),
                 "doctor, step 7: the generator leaves out 2 of 4 classes in "
                 "40 fakes: 0 2. Train longer, or make the class an input\n") == 0,
          "%s", gan_doctor_text(g));
    for (int i = 0; i < 40; i++)
        scores[i * 4 + i % 4] = 2;
    CHECK(gan_doctor_classes(g, gan_from_host(g, scores, 40, 4, 1, 1)) == 0, "all are there");
    gan_close(g);
}

static void never(void *g)
{
    gan_tensor *x = gan_randn((gan *)g, 4, 3, 1, 1);
    gan_doctor((gan *)g, 0, 0, x, x, x, x);
}

static void no_logits(void *g)
{
    gan_tensor *x = gan_randn((gan *)g, 4, 3, 1, 1);
    gan_doctor((gan *)g, 0, 1, x, x, NULL, NULL);
}

static void few_scores(void *g)
{
    gan_doctor_classes((gan *)g, gan_randn((gan *)g, 9, 2, 1, 1));
}

static void mistakes(void)
{
    gan *g = gan_open("cpu", 1);
    CHECK(strstr(message_of(never, g), "gan_doctor: it wants every >= 1, not 0"), "%s",
          test_message);
    CHECK(strstr(message_of(no_logits, g), "gan_doctor: no tensor (4,1,1,1) comes from the images "
                                           "(4,3,1,1): hand over the logits"),
          "%s", test_message);
    CHECK(strstr(message_of(few_scores, g), "the scores (9,2,1,1) must be (N,K,1,1), N >= 10*K"),
          "%s", test_message);
    gan_close(g);
}

int main(void)
{
    run("a collapsed generator", collapse);
    run("an explosion without batch norm", explosion);
    run("a learning rate 100 times too high", rate);
    run("dead ReLUs", dead);
    run("swapped labels", swapped);
    run("constant images", constant);
    run("NaN in the data", not_a_number);
    run("NaN from a derivative", backward);
    run("a frozen discriminator", frozen);
    run("a discriminator that has won", won);
    run("a vanishing gradient", vanishing);
    run("missing classes", classes);
    run("silence about healthy trainings", healthy);
    run("the doctor changes nothing", changes_nothing);
    run("mistakes", mistakes);
    return finish();
}
