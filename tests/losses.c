/* tests/losses.c: cross-entropy where a class is impossible and where a label is none, the order
   of arguments of the two losses of a GAN, and that misuse ends in one line. The values of all
   losses are compared with PyTorch's in tests/operations.c. */
#include "test.h"

static gan *g;

/* A few roundings of numbers of about 1. */
static const double TOLERANCE = sizeof(gan_real) == 4 ? 1e-6 : 1e-14;

static bool near(double got, double want)
{
    return fabs(got - want) <= TOLERANCE * fmax(1, fabs(want));
}

static gan_tensor *row(double a, double b, double c, double d) /* (1,4,1,1) */
{
    const gan_real x[4] = {(gan_real)a, (gan_real)b, (gan_real)c, (gan_real)d};
    return gan_from_host(g, x, 1, 4, 1, 1);
}

/* Logits (0, -infinity, ln 2, 0): probabilities 1/4, 0, 1/2, 1/4. */
static gan_tensor *masked(void)
{
    return row(0, -(double)INFINITY, log(2), 0);
}

/* d(cross-entropy)/d(logit) is the probability, less 1 at the label. */
static void impossible_class(void)
{
    static const double want[4] = {0.25, 0, -0.5, 0.25};
    gan_real slope[4];
    gan_tensor *logits = masked();
    gan_tensor *loss = gan_cross_entropy(logits, gan_full(g, 2, 1, 1, 1, 1));
    CHECK(near((double)gan_item(loss), log(2)), "the loss is %g", (double)gan_item(loss));
    gan_to_host(gan_grad(loss, logits), slope);
    for (int i = 0; i < 4; i++)
        CHECK(near((double)slope[i], want[i]), "d/d(logit %d) is %g, not %g", i, (double)slope[i],
              want[i]);
}

/* The label's own probability is 0: the loss is infinite, its derivative is not (as PyTorch's). */
static void impossible_label(void)
{
    static const double want[4] = {0.25, -1, 0.5, 0.25};
    gan_real slope[4];
    gan_tensor *logits = masked();
    gan_tensor *loss = gan_cross_entropy(logits, gan_full(g, 1, 1, 1, 1, 1));
    CHECK((double)gan_item(loss) > 1e300 || isinf((double)gan_item(loss)), "the loss is %g",
          (double)gan_item(loss));
    gan_to_host(gan_grad(loss, logits), slope);
    for (int i = 0; i < 4; i++)
        CHECK(near((double)slope[i], want[i]), "d/d(logit %d) is %g, not %g", i, (double)slope[i],
              want[i]);
}

/* gan_backward through a layer whose bias makes a class impossible. */
static void impossible_class_trains(void)
{
    const gan_real bias[3] = {0, -(gan_real)INFINITY, 0};
    const gan_real labels[4] = {0, 2, 2, 0};
    gan_model *m = gan_model_new(g, "m");
    gan_tensor *logits = gan_linear(m, "fc", gan_randn(g, 4, 2, 1, 1), 3);
    gan_set(gan_find_param(m, "fc.bias"), bias);
    logits = gan_linear(m, "fc", gan_randn(g, 4, 2, 1, 1), 3);
    gan_backward(gan_cross_entropy(logits, gan_from_host(g, labels, 4, 1, 1, 1)), m);
    gan_real slope[6];
    double size = 0;
    gan_to_host(gan_param_grad(gan_find_param(m, "fc.weight")), slope);
    for (int i = 0; i < 6; i++) {
        CHECK(isfinite((double)slope[i]), "a gradient is %g", (double)slope[i]);
        CHECK(i / 2 != 1 || slope[i] == 0, "the impossible class has gradient %g",
              (double)slope[i]);
        size += fabs((double)slope[i]);
    }
    CHECK(size > 0, "all gradients are 0");
}

/* Each place of each image has its own label: logits are 0 but for ln 3 at one class, so that the
   loss is ln((C-1+3)/3) where that is the label and ln(C+2) elsewhere. */
static void own_labels(void)
{
    enum { N = 2, C = 5, H = 3, W = 4 };

    gan_real logits[N * C * H * W] = {0};
    gan_real labels[N * H * W];
    double want = 0;
    for (int n = 0; n < N; n++)
        for (int place = 0; place < H * W; place++) {
            int label = (n + 2 * place) % C;
            bool right = (n + place) % 3 == 0;
            int high = right ? label : (label + 1) % C;
            labels[n * H * W + place] = (gan_real)label;
            logits[(n * C + high) * H * W + place] = (gan_real)log(3);
            want += (right ? log((C + 2) / 3.0) : log(C + 2.0)) / (N * H * W);
        }
    gan_tensor *loss = gan_cross_entropy(gan_from_host(g, logits, N, C, H, W),
                                         gan_from_host(g, labels, N, 1, H, W));
    CHECK(near((double)gan_item(loss), want), "%g, not %g", (double)gan_item(loss), want);
}

/* ---- order of arguments */

static gan_model *asked;

static gan_tensor *critic(gan_model *D, gan_tensor *x)
{
    asked = D;
    return gan_sum_to(x, x->n, 1, 1, 1);
}

static void model_goes_to_critic(void)
{
    gan_model *D = gan_model_new(g, "D");
    gan_tensor *x = gan_randn(g, 2, 1, 2, 2);
    asked = NULL;
    double value = (double)gan_item(gan_wgan_gp(D, critic, x, x)); /* |slope| is 2: (2-1)^2 */
    CHECK(asked == D && near(value, 1), "gan_wgan_gp: %g", value);
    asked = NULL;
    value = (double)gan_item(gan_dragan(D, critic, x));
    CHECK(asked == D && near(value, 1), "gan_dragan: %g", value);
}

static void real_then_fake(void)
{
    gan_tensor *real = gan_full(g, 3, 1, 1, 1, 1);
    gan_tensor *fake = gan_full(g, 1, 1, 1, 1, 1);
    CHECK(gan_item(gan_d_loss(real, fake, GAN_WASSERSTEIN)) == -2, "gan_d_loss");
    CHECK(gan_item(gan_g_loss(NULL, fake, GAN_WASSERSTEIN)) == -1, "gan_g_loss");
}

/* ---- misuse */
#define ONE      gan_zeros(g, 1, 1, 1, 1)
#define LABEL(x) gan_cross_entropy(gan_zeros(g, 1, 3, 1, 1), gan_full(g, x, 1, 1, 1, 1))

#define MISTAKES(M)                                                                               \
    M(label_large, "gan_cross_entropy: label 3 at place 0: there are 3 classes", LABEL(3))        \
    M(label_negative, "gan_cross_entropy: label -1 at place 0: there are 3 classes", LABEL(-1))   \
    M(label_half, "gan_cross_entropy: label 0.5 at place 0: it must be a whole",                  \
      LABEL((gan_real)0.5))                                                                       \
    M(label_nan, "gan_cross_entropy: label ", LABEL((gan_real)NAN))                               \
    M(cross_null, "gan_cross_entropy: a tensor is NULL", gan_cross_entropy(NULL, ONE))            \
    M(cross_labels, "gan_cross_entropy: a tensor is NULL", gan_cross_entropy(ONE, NULL))          \
    M(kind_null, "gan_loss_kind: the name is NULL", gan_loss_kind(NULL))                          \
    M(wgan_critic, "gan_wgan_gp: the critic is NULL", gan_wgan_gp(NULL, NULL, ONE, ONE))          \
    M(dragan_critic, "gan_dragan: the critic is NULL", gan_dragan(NULL, NULL, ONE))               \
    M(wgan_real, "gan_wgan_gp: a tensor is NULL", gan_wgan_gp(NULL, critic, NULL, ONE))           \
    M(d_count, "gan_d_loss: kind 6", gan_d_loss(ONE, ONE, GAN_LOSSES))                            \
    M(g_count, "gan_g_loss: kind 6", gan_g_loss(NULL, ONE, GAN_LOSSES))                           \
    M(target_null, "gan_style_loss: the array of target is NULL", gan_style_loss(NULL, &none, 1)) \
    M(maps_null, "gan_perceptual_loss: the array of x is NULL",                                   \
      gan_perceptual_loss(&none, NULL, 1))                                                        \
    M(map_null, "gan_feature_matching: a tensor is NULL", gan_feature_matching(&none, &none, 1))  \
    M(bce_null, "gan_bce_logits: a tensor is NULL", gan_bce_logits(NULL, 1))                      \
    M(mse_null, "gan_mse: a tensor is NULL", gan_mse(ONE, NULL))                                  \
    M(l1_null, "gan_l1: a tensor is NULL", gan_l1(NULL, ONE))                                     \
    M(flipped_null, "gan_rand: the device is NULL", gan_flipped_labels(NULL, 4, 1, 0))            \
    M(path_model, "gan_param: \"path_length.running_mean\": the model is NULL",                   \
      gan_path_length(NULL, ONE, ONE))

static gan_tensor *none;

#define FUNCTION(name, begins, ...)    \
    static void make_##name(void *arg) \
    {                                  \
        (void)arg;                     \
        __VA_ARGS__;                   \
    }
MISTAKES(FUNCTION)

#define ROW(name, begins, ...) {#name, begins, make_##name},

static void mistakes(void)
{
    static const struct {
        const char *name;
        const char *begins;
        void (*make)(void *);
    } table[] = {MISTAKES(ROW)};

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *message = message_of(table[i].make, NULL);
        CHECK(!strncmp(message, table[i].begins, strlen(table[i].begins)) && !strchr(message, '\n'),
              "%s: \"%s\"", table[i].name, message);
    }
}

int main(void)
{
    static const char *const backends[] = {"cpu", "ref"};
    for (int i = 0; i < 2; i++) {
        g = gan_open(backends[i], 5);
        printf("     %s\n", backends[i]);
        run("losses: a class that is impossible", impossible_class);
        run("losses: a label that is impossible", impossible_label);
        run("losses: training with an impossible class", impossible_class_trains);
        run("losses: a label for each place", own_labels);
        run("losses: the model comes first", model_goes_to_critic);
        run("losses: real, fake, kind", real_then_fake);
        run("losses: misuse ends in one line", mistakes);
        gan_close(g);
    }
    return finish();
}
