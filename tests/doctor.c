/* tests/doctor.c: trainings that are ill on purpose, and healthy ones. Of each illness the doctor's
   first diagnosis is the right one; about healthy trainings it is silent; it changes nothing. */
#include "test.h"

/* What is wrong with a training: one line of code, as a student would get it wrong. */
typedef enum {
    HEALTHY,
    /* the data */
    DATA_255,      /* in 0..255 */
    DATA_CONSTANT, /* all images are the same */
    DATA_NAN,      /* a batch holds NaN, from step 13 */
    /* the networks */
    D_SIGMOID,  /* D ends in a sigmoid, and the loss takes logits */
    D_DEEP,     /* six more layers with sigmoids in D: gradients vanish */
    D_LOUD,     /* six more layers with weights 20 times too large: gradients explode */
    G_NO_TANH,  /* G ends in a convolution */
    G_DEAD,     /* G's first ReLUs get no input above 0 */
    G_NO_NOISE, /* the noise is multiplied by 0: a collapsed generator */
    SAME_NOISE, /* the noise is drawn once, before the loop */
    /* the losses */
    SWAPPED,    /* D's labels are swapped */
    WRONG_SIGN, /* G minimises minus its loss */
    ROOT_OF_0,  /* from step 13 a term of D's loss has the derivative infinity * 0 */
    /* the optimizers */
    G_NEVER,       /* opt_g is never called */
    G_RATE_0,      /* opt_g has rate 0 */
    G_TO_D,        /* G's loss is given to opt_d */
    D_NEVER,       /* opt_d is never called */
    D_RATE_100,    /* D's learning rate is 100 times too high */
    G_RATE_100,    /* G's */
    BOTH_RATE_100, /* both */
    D_AHEAD,       /* D learns 1000 times faster than G, and wins */
    /* the loop */
    NO_CLEAR /* gan_clear is forgotten */
} fault;

typedef enum { BATCH, INSTANCE, LAYER, NO_NORM } norm_kind;

typedef enum { ADAM, ADAMW, RMSPROP, SGD } optimizer_kind;

typedef enum { NO_PENALTY, R1, GP, SPECTRAL, CLIP } penalty_kind;

enum { BATCH_SIZE = 16 };

/* One training. */
typedef struct {
    fault fault;
    gan_loss loss;
    penalty_kind penalty;
    norm_kind norm;
    optimizer_kind optimizer;
    gan_real rate;
    int steps, every, seed;
    bool no_doctor, plain_relu;
} training;

static char said[16384]; /* all that the doctor said in the last training */
static int first_step;   /* when it spoke first, -1: never */
static int told;         /* the sum of what gan_doctor returned */
static gan_real final_weight[64];

static gan_tensor *normed(gan_model *m, const training *t, const char *name, gan_tensor *x)
{
    switch (t->norm) {
    case BATCH: return gan_batch_norm(m, name, x);
    case INSTANCE: return gan_instance_norm(m, name, x);
    case LAYER: return gan_layer_norm(m, name, x);
    default: return x;
    }
}

/* (N,16,1,1) -> (N,1,28,28) */
static gan_tensor *generator(gan_model *G, const training *t, gan_tensor *z)
{
    if (t->fault == G_NO_NOISE)
        z = gan_mul_scalar(z, 0);
    gan_tensor *x = gan_reshape(gan_linear(G, "fc", z, 16 * 7 * 7), -1, 16, 7, 7);
    x = gan_relu(normed(G, t, "bn0", x));
    x = gan_conv_transpose2d(G, "up1", x, 8, 4, 2, 1);
    x = t->plain_relu ? gan_relu_(normed(G, t, "bn1", x)) : gan_relu(normed(G, t, "bn1", x));
    x = gan_conv_transpose2d(G, "up2", x, 1, 4, 2, 1);
    return t->fault == G_NO_TANH ? x : gan_tanh(x);
}

/* (N,1,28,28) -> (N,1,1,1) */
static gan_tensor *discriminator(gan_model *D, const training *t, gan_tensor *x)
{
    x = gan_leaky_relu(gan_conv2d(D, "conv1", x, 8, 4, 2, 1), (gan_real)0.2);
    x = gan_conv2d(D, "conv2", x, 16, 4, 2, 1);
    /* a penalty on the slope at one image does not go with batch norm, which mixes images */
    x = gan_leaky_relu(t->penalty ? x : normed(D, t, "bn2", x), (gan_real)0.2);
    for (int i = 0; (t->fault == D_DEEP || t->fault == D_LOUD) && i < 6; i++) {
        char name[16];
        snprintf(name, sizeof name, "deep%d", i);
        x = gan_linear(D, name, x, 16);
        x = t->fault == D_DEEP ? gan_sigmoid(x) : gan_leaky_relu(x, (gan_real)0.2);
    }
    x = gan_linear(D, "fc", x, 1);
    return t->fault == D_SIGMOID ? gan_sigmoid(x) : x;
}

static const training *current; /* for critic(), whose arguments gan_wgan_gp fixes */

static gan_tensor *critic(gan_model *D, gan_tensor *x)
{
    return discriminator(D, current, x);
}

/* The parameter name of m becomes factor * it + shift. */
static void change(gan_model *m, const char *name, gan_real factor, gan_real shift)
{
    gan_tensor *p = gan_find_param(m, name);
    gan_real *x = (gan_real *)malloc(gan_count(p) * sizeof *x);
    gan_to_host(p, x);
    for (size_t i = 0; i < gan_count(p); i++)
        x[i] = x[i] * factor + shift;
    gan_set(p, x);
    free(x);
}

/* The faults that lie in the first weights. */
static void spoil(const training *t, gan_model *G, gan_model *D)
{
    char name[32];
    for (int i = 0; t->fault == D_LOUD && i < 6; i++) {
        snprintf(name, sizeof name, "deep%d.weight", i);
        change(D, name, 20, 0);
    }
    if (t->fault == G_DEAD)
        change(G, "bn0.bias", 1, -10);
}

static gan_tensor *data_batch(const training *t, gan_data *data, int step)
{
    gan_tensor *real = gan_batch(data, BATCH_SIZE, NULL);
    gan *g = real->g;
    if (t->fault == DATA_255)
        return gan_mul_scalar(gan_add_scalar(real, 1), (gan_real)127.5);
    if (t->fault == DATA_CONSTANT)
        return gan_full(g, (gan_real)0.5, BATCH_SIZE, 1, 28, 28);
    if (t->fault == DATA_NAN && step == 13)
        return gan_mul(real, gan_full(g, (gan_real)NAN, 1, 1, 1, 1));
    return real;
}

static gan_opt *optimizer(const training *t, gan_model *m, gan_real rate)
{
    switch (t->optimizer) {
    case ADAMW: return gan_adamw(m, rate, (gan_real)0.5, (gan_real)0.999, (gan_real)0.01);
    case RMSPROP: return gan_rmsprop(m, rate, (gan_real)0.99);
    case SGD: return gan_sgd(m, rate, (gan_real)0.5);
    default: return gan_adam(m, rate, t->penalty == R1 ? 0 : (gan_real)0.5, (gan_real)0.99);
    }
}

static gan_tensor *d_loss_of(const training *t, gan_model *D, gan_tensor *real, gan_tensor *fake,
                             int step)
{
    gan_tensor *real_logits = discriminator(D, t, real);
    gan_tensor *fake_logits = discriminator(D, t, gan_detach(fake));
    gan_tensor *loss = t->fault == SWAPPED ? gan_d_loss(fake_logits, real_logits, t->loss)
                                           : gan_d_loss(real_logits, fake_logits, t->loss);
    if (t->penalty == R1 && step % 16 == 0)
        loss = gan_add(loss, gan_mul_scalar(gan_r1(real_logits, real), 8));
    if (t->penalty == GP)
        loss = gan_add(loss, gan_mul_scalar(gan_wgan_gp(D, critic, real, fake), 10));
    if (t->fault == ROOT_OF_0 && step >= 13) {
        gan_tensor *zero = gan_mul_scalar(gan_square(gan_slice(real_logits, 0, 0, 1)), 0);
        loss = gan_add(loss, gan_sum(gan_sqrt(zero)));
    }
    return loss;
}

/* One step of both networks; what gan_doctor returned. */
static int train_step(const training *t, gan *g, gan_model *G, gan_model *D, gan_opt *opt_g,
                      gan_opt *opt_d, gan_data *data, const gan_real *noise, int step)
{
    gan_tensor *real = data_batch(t, data, step);
    gan_tensor *z = t->fault == SAME_NOISE ? gan_from_host(g, noise, BATCH_SIZE, 16, 1, 1)
                                           : gan_randn(g, BATCH_SIZE, 16, 1, 1);
    gan_tensor *fake = generator(G, t, z);
    gan_tensor *d_loss = d_loss_of(t, D, real, fake, step);
    if (step == 0)
        spoil(t, G, D);
    if (t->fault != D_NEVER)
        gan_minimize(opt_d, d_loss);
    if (t->penalty == CLIP)
        gan_clip_weights(D, (gan_real)0.05);
    gan_tensor *g_loss = gan_g_loss(discriminator(D, t, real), discriminator(D, t, fake), t->loss);
    if (t->fault == WRONG_SIGN)
        g_loss = gan_neg(g_loss);
    if (t->fault != G_NEVER && (t->penalty != GP || step % 5 == 0)) /* five critic steps for one */
        gan_minimize(t->fault == G_TO_D ? opt_d : opt_g, g_loss);
    return t->no_doctor ? 0 : gan_doctor(g, step, t->every, real, fake, NULL, NULL);
}

static void train(training t)
{
    gan *g = gan_open("cpu", (uint64_t)t.seed);
    gan_model *G = gan_model_new(g, "G");
    gan_model *D = gan_model_new(g, "D");
    gan_real rate = t.rate != 0 ? t.rate : (gan_real)2e-4;
    bool g_fast = t.fault == G_RATE_100 || t.fault == BOTH_RATE_100;
    bool d_fast = t.fault == D_RATE_100 || t.fault == BOTH_RATE_100;
    gan_real g_rate = t.fault == G_RATE_0 ? 0
                    : t.fault == D_AHEAD  ? rate / 100
                    : g_fast              ? rate * 100
                                          : rate;
    gan_real d_rate = t.fault == D_AHEAD ? 10 * rate : d_fast ? rate * 100 : rate;
    gan_opt *opt_g = optimizer(&t, G, g_rate);
    gan_opt *opt_d = optimizer(&t, D, d_rate);
    gan_data *data = gan_data_digits(g, 1000);
    gan_real noise[BATCH_SIZE * 16];
    gan_to_host(gan_randn(g, BATCH_SIZE, 16, 1, 1), noise);
    if (t.penalty == SPECTRAL)
        gan_weights(D, GAN_SPECTRAL, 1);
    current = &t;
    said[0] = 0;
    first_step = -1;
    told = 0;
    for (int step = 0; step < t.steps; step++) {
        int now = train_step(&t, g, G, D, opt_g, opt_d, data, noise, step);
        size_t used = strlen(said);
        if (now) {
            first_step = first_step < 0 ? step : first_step;
            snprintf(said + used, sizeof said - used, "%s", gan_doctor_text(g));
        }
        told += now;
        if (t.fault != NO_CLEAR)
            gan_clear(g);
    }
    gan_real *w = (gan_real *)malloc(gan_count(gan_find_param(G, "up1.weight")) * sizeof *w);
    gan_to_host(gan_find_param(G, "up1.weight"), w);
    memcpy(final_weight, w, sizeof final_weight);
    free(w);
    gan_close(g);
}

/* ---- sick trainings */

/* What the first line that the doctor said begins with, after "doctor, step N: ". */
static const char *diagnosis(void)
{
    static char line[600];
    const char *begin = strstr(said, ": ");
    snprintf(line, sizeof line, "%s", begin ? begin + 2 : "");
    line[strcspn(line, "\n")] = 0;
    return line;
}

/* Trains with t, and wants words to begin the first diagnosis, more to be in it or behind it, and
   the first to come at last_step or before. */
static void names(training t, const char *words, const char *more, int last_step)
{
    t.every = t.every ? t.every : 20;
    t.seed = t.seed ? t.seed : 3;
    train(t);
    CHECK(strncmp(diagnosis(), words, strlen(words)) == 0,
          "fault %d, loss %d, seed %d: \"%s\" does not begin: %s", t.fault, t.loss, t.seed, words,
          said);
    CHECK(strstr(said, more), "fault %d: \"%s\" is not in: %s", t.fault, more, said);
    CHECK(first_step <= last_step, "fault %d: said first at step %d, not by %d: %s", t.fault,
          first_step, last_step, said);
    CHECK(told > 0, "fault %d: it says that nothing was told", t.fault);
}

/* The same with three losses, a seed each. */
static void names_each(fault f, int steps, const char *words, const char *more, int last_step)
{
    for (int loss = GAN_NON_SATURATING; loss <= GAN_HINGE; loss++) {
        training t = {.fault = f, .loss = (gan_loss)loss, .steps = steps, .seed = loss};
        names(t, words, more, last_step);
    }
}

static void data(void)
{
    names_each(DATA_255, 3, "the data runs from 0 to 255, the generator's tanh gives -1 to 1",
               "step 0: ", 0);
    names_each(DATA_CONSTANT, 3, "the images of the data are all the same: two differ by 0.", "",
               0);
}

static void not_a_number(void)
{
    training t = {.fault = DATA_NAN, .loss = GAN_NON_SATURATING, .steps = 40, .every = 10};
    names(t, "the data itself is not finite", "doctor, step 13:", 13);
    CHECK(!strstr(said, "step 12"), "told before it happened: %s", said);
    /* everything after is lost, and that is told again after every steps, then twice as many */
    CHECK(strstr(said, "step 14") && strstr(said, "step 24") && !strstr(said, "step 15") &&
              !strstr(said, "step 17"),
          "told too often, or not again: %s", said);
    CHECK(strstr(said, "step 14: numbers are not finite, first in ") &&
              strstr(said, "is not finite by now"),
          "the weights are not blamed: %s", said);
}

/* sqrt's derivative at 0 is infinite, times 0: finite forwards, NaN backwards. With every = 1
   the derivative itself is named, in its step. */
static void backward(void)
{
    training t = {.fault = ROOT_OF_0, .loss = GAN_NON_SATURATING, .steps = 16, .every = 1};
    names(t, "numbers are not finite, first in gan_div (kernel zip) in gan_backward (1,1,1,1)",
          "doctor, step 13: ", 13);
    CHECK(!strstr(said, "data"), "the data is blamed: %s", said);
    t.every = 10;
    names(t, "numbers are not finite, first in ", " is not finite by now", 14);
    CHECK(strstr(said, "step 14") && !strstr(said, "step 13"), "not at step 14: %s", said);
}

static void sigmoid(void)
{
    training t = {.fault = D_SIGMOID, .loss = GAN_NON_SATURATING, .steps = 3};
    names(t, "the discriminator ends in a sigmoid, and 3 terms of the losses want logits", "", 0);
    t.loss = GAN_HINGE;
    names(t, "the discriminator ends in a sigmoid, and 2 terms of the losses want logits", "", 0);
}

static void vanishing(void)
{
    for (int loss = GAN_NON_SATURATING; loss <= GAN_LEAST_SQUARES; loss++) {
        training t = {.fault = D_DEEP, .loss = (gan_loss)loss, .steps = 61};
        names(t, "the gradient vanishes on its way to D.", "times smaller", 60);
        CHECK(!strstr(said, "explodes"), "it explodes, too: %s", said);
    }
}

static void explosion(void)
{
    for (int loss = GAN_NON_SATURATING; loss <= GAN_HINGE; loss++) {
        training t = {.fault = D_LOUD, .loss = (gan_loss)loss, .norm = NO_NORM, .steps = 41};
        names(t, "the gradient explodes at D.", "times as long as the weight", 40);
        CHECK(!strstr(said, "vanishes"), "it vanishes, too: %s", said);
    }
}

static void no_tanh(void)
{
    names_each(G_NO_TANH, 61, "the fakes run from -", "Does the generator end in tanh?", 60);
}

static void dead(void)
{
    names_each(G_DEAD, 41,
               "ReLUs are dead: 100% of the channels of gan_leaky_relu (16,16,7,7) at G.bn0", "",
               40);
}

static void collapse(void)
{
    names_each(G_NO_NOISE, 61, "the generator has collapsed: two fakes differ by 0,", "", 60);
}

static void same_noise(void)
{
    names_each(SAME_NOISE, 5, "the noise is the same at every look: the generator is taught 16 ",
               "", 2);
}

static void swapped(void)
{
    names_each(SWAPPED, 6, "the discriminator's labels are swapped: ", "", 4);
    training t = {.fault = SWAPPED, .loss = GAN_WASSERSTEIN, .penalty = CLIP, .steps = 81};
    names(t, "the discriminator's labels are swapped: ", "", 4);
    CHECK(strstr(said, "Also seen: "), "what follows from it is not seen: %s", said);
}

static void wrong_sign(void)
{
    names_each(WRONG_SIGN, 6, "the sign of the generator's loss is wrong: ", "", 4);
    training t = {.fault = WRONG_SIGN, .loss = GAN_RELATIVISTIC, .steps = 6};
    names(t, "the sign of the generator's loss is wrong: ", "", 4);
    t.loss = GAN_MINIMAX;
    names(t, "the sign of the generator's loss is wrong: ", "", 4);
}

static void generator_never(void)
{
    const char *words = "the generator does not learn: no parameter of G has changed in 16 steps.";
    names_each(G_NEVER, 17, words, "Is gan_minimize called with its optimizer?", 16);
    names_each(G_RATE_0, 17, words, "Its optimizer has the learning rate 0", 16);
    names_each(G_TO_D, 17, words, "Is its loss given to the other network's optimizer?", 16);
}

static void discriminator_never(void)
{
    names_each(D_NEVER, 17,
               "the discriminator does not learn: no parameter of D has changed in 16 steps.",
               "Is gan_minimize called with its optimizer?", 16);
}

static void rates(void)
{
    names_each(D_RATE_100, 61, "the learning rate is too high for D.", "Divide it by 10", 40);
    names_each(G_RATE_100, 81, "the learning rate is too high for G.", "Divide it by 10", 80);
    names_each(BOTH_RATE_100, 21, "the learning rate is too high for ", "Divide it by 10", 20);
    training t = {.fault = BOTH_RATE_100, .loss = GAN_NON_SATURATING, .penalty = R1, .steps = 21};
    t.rate = (gan_real)2e-3;
    names(t, "the learning rate is too high for ", "doctor, step 2:", 2);
    CHECK(!strstr(diagnosis(), "explodes"), "it explodes, too: %s", said);
}

static void won(void)
{
    training t = {.fault = D_AHEAD, .loss = GAN_NON_SATURATING, .steps = 301};
    names(t, "the discriminator has won: it tells 100% of all pairs apart, logits ",
          "Lower its learning rate", 300);
    CHECK(!strstr(said, "too high"), "its rate is high, but its weights do not jump: %s", said);
}

static void no_clear(void)
{
    names_each(NO_CLEAR, 17,
               "memory grows from step to step: ", "gan_clear(g) belongs at the end of a step", 16);
}

/* ---- healthy trainings */

static const training healthy_ones[] = {
    {.loss = GAN_NON_SATURATING},
    {.loss = GAN_NON_SATURATING, .penalty = R1, .rate = (gan_real)2e-3},
    {.loss = GAN_LEAST_SQUARES, .optimizer = ADAMW},
    {.loss = GAN_HINGE, .penalty = SPECTRAL, .plain_relu = true},
    {.loss = GAN_WASSERSTEIN, .penalty = GP, .norm = LAYER},
    {.loss = GAN_WASSERSTEIN, .penalty = CLIP, .optimizer = RMSPROP, .rate = (gan_real)5e-5},
    {.loss = GAN_RELATIVISTIC, .norm = INSTANCE},
    {.loss = GAN_MINIMAX, .plain_relu = true},
    {.loss = GAN_NON_SATURATING, .optimizer = SGD, .rate = (gan_real)0.01},
    {.loss = GAN_HINGE, .norm = NO_NORM, .rate = (gan_real)1e-3},
};

enum { HEALTHY_ONES = sizeof healthy_ones / sizeof healthy_ones[0] };

static void healthy(void)
{
    for (int i = 0; i < HEALTHY_ONES; i++) {
        training t = healthy_ones[i];
        t.steps = 201;
        t.every = i % 2 ? 16 : 20;
        t.seed = i + 1;
        train(t);
        CHECK(told == 0 && said[0] == 0, "training %d: %s", i, said);
    }
}

/* An infinity that harms nobody, as in clamp(log 0), is none of the doctor's business. */
static void harmless_infinity(void)
{
    gan *g = gan_open("cpu", 1);
    gan_model *D = gan_model_new(g, "D");
    for (int step = 0; step < 3; step++) {
        gan_tensor *x = gan_randn(g, 4, 3, 1, 1), *y = gan_randn(g, 4, 3, 1, 1);
        gan_linear(D, "fc", x, 1);
        gan_linear(D, "fc", y, 1);
        gan_clamp(gan_log(gan_zeros(g, 1, 1, 1, 1)), -100, 0);
        CHECK(gan_doctor(g, step, 1, x, y, NULL, NULL) == 0, "%s", gan_doctor_text(g));
        gan_clear(g);
    }
    gan_close(g);
}

/* Looking at every step changes no bit of the training. */
static void changes_nothing(void)
{
    for (int i = 0; i < HEALTHY_ONES; i += 3) {
        training t = healthy_ones[i];
        gan_real without[64];
        t.steps = 12;
        t.every = 1;
        t.seed = 5;
        t.no_doctor = true;
        train(t);
        memcpy(without, final_weight, sizeof without);
        t.no_doctor = false;
        train(t);
        CHECK(memcmp(without, final_weight, sizeof without) == 0, "training %d: the weights differ",
              i);
    }
}

/* With gan_clear_to between the two half-steps D's loss is gone when the doctor comes. */
static void half_steps(void)
{
    gan *g = gan_open("cpu", 1);
    gan_model *G = gan_model_new(g, "G"), *D = gan_model_new(g, "D");
    gan_opt *opt_g = gan_adam(G, (gan_real)1e-3, 0, (gan_real)0.9);
    gan_opt *opt_d = gan_adam(D, (gan_real)1e-3, 0, (gan_real)0.9);
    for (int step = 0; step < 20; step++) {
        gan_tensor *real = gan_randn(g, 8, 3, 1, 1);
        gan_tensor *fake = gan_linear(G, "fc", gan_randn(g, 8, 5, 1, 1), 3);
        gan_mark mark = gan_here(g);
        gan_tensor *d_loss = gan_d_loss(gan_linear(D, "fc", real, 1),
                                        gan_linear(D, "fc", gan_detach(fake), 1), GAN_HINGE);
        gan_minimize(opt_d, d_loss);
        gan_clear_to(g, mark);
        gan_tensor *real_logits = gan_linear(D, "fc", real, 1);
        gan_tensor *fake_logits = gan_linear(D, "fc", fake, 1);
        gan_minimize(opt_g, gan_g_loss(NULL, fake_logits, GAN_HINGE));
        CHECK(gan_doctor(g, step, 1, real, fake, real_logits, fake_logits) == 0, "%s",
              gan_doctor_text(g));
        gan_clear(g);
    }
    gan_close(g);
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

static void no_device(void *g)
{
    gan_tensor *x = gan_randn((gan *)g, 4, 3, 1, 1);
    gan_doctor(NULL, 0, 1, x, x, x, x);
}

static void no_fake(void *g)
{
    gan_tensor *x = gan_randn((gan *)g, 4, 3, 1, 1);
    gan_doctor((gan *)g, 0, 1, x, NULL, x, x);
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
    CHECK(strstr(message_of(no_device, g), "gan_doctor: the device is NULL"), "%s", test_message);
    CHECK(strstr(message_of(no_fake, g), "gan_doctor: a tensor is NULL"), "%s", test_message);
    CHECK(strcmp(gan_doctor_text(NULL), "") == 0, "a device that is NULL has a text");
    CHECK(strstr(message_of(few_scores, g), "the scores (9,2,1,1) must be (N,K,1,1), N >= 10*K"),
          "%s", test_message);
    gan_close(g);
}

int main(void)
{
    run("data: 0..255, constant", data);
    run("data: NaN", not_a_number);
    run("NaN from a derivative", backward);
    run("D: a sigmoid before the loss", sigmoid);
    run("D: a vanishing gradient", vanishing);
    run("D: an explosion without batch norm", explosion);
    run("G: no tanh", no_tanh);
    run("G: dead ReLUs", dead);
    run("G: a collapsed generator", collapse);
    run("G: the same noise", same_noise);
    run("loss: swapped labels", swapped);
    run("loss: G's has the wrong sign", wrong_sign);
    run("optimizer: G never learns", generator_never);
    run("optimizer: D never learns", discriminator_never);
    run("optimizer: learning rates 100 times too high", rates);
    run("optimizer: a discriminator that has won", won);
    run("loop: no gan_clear", no_clear);
    run("missing classes", classes);
    run("silence about healthy trainings", healthy);
    run("silence about a harmless infinity", harmless_infinity);
    run("half-steps", half_steps);
    run("the doctor changes nothing", changes_nothing);
    run("mistakes", mistakes);
    return finish();
}
