/* 06_cyclegan: pictures of one kind become pictures of another, and nobody ever tells which
   belongs to which. Zhu, Park, Isola and Efros 2017, "Unpaired image-to-image translation using
   cycle-consistent adversarial networks". --cut: Park, Efros, Zhang and Zhu 2020, "Contrastive
   learning for unpaired image-to-image translation".

   New since 05: there are no pairs (a, b), only a heap of pictures A and a heap B. The adversary
   asks that G(a) look like some b; what keeps it a's picture?
     - the cycle: G: A -> B and F: B -> A are trained together, and there and back must be where
       one began: F(G(a)) = a, G(F(b)) = b.
     - the identity: what is of the target's kind already stays as it is: G(b) = b, F(a) = a. It
       keeps the colours.
     - least squares losses (Mao et al. 2017), and a pool of earlier translations that D sees in
       place of the newest (Shrivastava et al. 2017): D forgets less, and the two circle each
       other less.
   CUT needs neither F nor cycle: a patch of G(a) must be recognisable, among all patches of a,
   as the one from the same place.

   Run:      make 06_cyclegan        ARGS="--data A,B --test C,D", ARGS=--cut
   Data:     --data A,B: two folders of pictures, or two IDX files. Without it: gan.h's shapes, A
             filled, B striped on dark dotted cloth. --test: the same for pictures kept apart; if
             both have as many, picture i of both should show the same thing: it is measured.
   Leaves:   out/06_cyclegan/        samples-NNNNN.png (rows a, G(a), F(G(a)), b, F(b), G(F(b));
                                     with --cut a, G(a), b, G(b)), log.csv, losses.png,
                                     state.safetensors, generator.safetensors
   Time:     four minutes of one core
   Expect:   filled shapes striped, on dark cloth, in an outline; striped ones plain on pale paper;
             place, form and colour kept. */
#include "common.h"

static int width = 16; /* channels of the first layers */
static int blocks = 3; /* residual blocks of the generators */
static bool cut;       /* --cut */

/* ---- data */

/* A heap of pictures (c,h,w). */
typedef struct {
    gan_data *set;
    int c, h, w;
} domain;

/* Items first .. first+count-1 of both are shown. */
typedef struct {
    domain a, b;
    int first, count;
} domains;

static domain domain_of(gan *g, gan_data *set)
{
    if (!set)
        fail();
    gan_mark mark = gan_here(g);
    gan_tensor *one = gan_batch(set, 1, NULL);
    domain d = {set, one->c, one->h, one->w};
    gan_clear_to(g, mark);
    return d;
}

static domains open_domains(gan *g, const char *path, int size)
{
    domains d;
    char first[1024];
    const char *comma = strchr(path, ',');
    if (!comma) {
        fprintf(stderr, "%s: two paths with a comma between them are wanted\n", path);
        exit(1);
    }
    snprintf(first, sizeof first, "%.*s", (int)(comma - path), path);
    d.a = domain_of(g, open_pictures(g, first, size));
    d.b = domain_of(g, open_pictures(g, comma + 1, size));
    int count_a = gan_data_size(d.a.set);
    int count_b = gan_data_size(d.b.set);
    d.first = 0;
    d.count = count_a < count_b ? count_a : count_b;
    return d;
}

/* count shapes to train on, or, with hold, those that come after them. */
static domains built_in(gan *g, int count, int hold, int size)
{
    domains d = {domain_of(g, gan_data_shapes(g, count + hold, size, GAN_SHAPES_FILLED)),
                 domain_of(g, gan_data_shapes(g, count + hold, size, GAN_SHAPES_STRIPED)), count,
                 hold};
    return d;
}

/* x, any pictures -> (N,3,size,size) */
static gan_tensor *as_wanted(gan_tensor *x, int size)
{
    if (x->h != size || x->w != size)
        x = gan_resize(x, size, size, GAN_BILINEAR);
    return x->c == 3 ? x : gan_expand(x, x->n, 3, x->h, x->w);
}

/* The next n of a domain, mirrored by chance. */
static gan_tensor *next(domain d, int n, int size)
{
    return gan_augment(as_wanted(gan_batch(d.set, n, NULL), size), GAN_FLIP, 0.5f);
}

/* Items i .. i+n-1 of a domain. */
static gan_tensor *items(gan *g, domain d, int i, int n, int size)
{
    size_t each = (size_t)d.c * (size_t)d.h * (size_t)d.w;
    gan_real *host = (gan_real *)malloc((size_t)n * each * sizeof *host);
    for (int k = 0; k < n; k++)
        gan_data_item(d.set, i + k, host + (size_t)k * each, NULL);
    gan_tensor *x = as_wanted(gan_from_host(g, host, n, d.c, d.h, d.w), size);
    free(host);
    return x;
}

/* ---- networks: both generators are in one model, both discriminators in another; net begins
   the names of their layers */

enum { MAPS = 4 }; /* the layers that CUT looks at */

/* Convolution, or one that doubles the size; instance norm. */
static gan_tensor *layer(gan_model *m, const char *net, const char *name, gan_tensor *x, int out,
                         int kernel, int stride, bool up)
{
    char conv[64], norm[64];
    snprintf(conv, sizeof conv, "%s.%s", net, name);
    snprintf(norm, sizeof norm, "%s.%s_norm", net, name);
    x = up ? gan_conv_transpose2d(m, conv, x, out, kernel, stride, 1)
           : gan_conv2d(m, conv, x, out, kernel, stride, (kernel - 1) / 2);
    return gan_instance_norm(m, norm, x);
}

/* x (N,3,S,S) -> (N,4*width,S/4,S/4) by two halvings and residual blocks x + f(x). map: the
   picture and what became of it on the way. */
static gan_tensor *encode(gan_model *G, const char *net, gan_tensor *x, gan_tensor *map[MAPS])
{
    map[0] = x;
    x = gan_relu(layer(G, net, "in", x, width, 7, 1, false)); /* (N,width,S,S) */
    x = gan_relu(layer(G, net, "down1", x, 2 * width, 4, 2, false));
    map[1] = x; /* (N,2*width,S/2,S/2) */
    x = gan_relu(layer(G, net, "down2", x, 4 * width, 4, 2, false));
    map[2] = x; /* (N,4*width,S/4,S/4) */
    for (int i = 0; i < blocks; i++) {
        char one[32], two[32];
        snprintf(one, sizeof one, "res%d_1", i);
        snprintf(two, sizeof two, "res%d_2", i);
        gan_tensor *y = gan_relu(layer(G, net, one, x, 4 * width, 3, 1, false));
        x = gan_add(x, layer(G, net, two, y, 4 * width, 3, 1, false));
    }
    map[3] = x;
    return x;
}

/* x (N,4*width,S/4,S/4) -> (N,3,S,S) in [-1,1]. Instance norm has taken away how bright and of
   what colour the whole picture was: the picture itself, beside the last layer's input, brings
   that back (the paper has no such skip). */
static gan_tensor *decode(gan_model *G, const char *net, gan_tensor *x, gan_tensor *picture)
{
    char out[64];
    x = gan_relu(layer(G, net, "up1", x, 2 * width, 4, 2, true));
    x = gan_relu(layer(G, net, "up2", x, width, 4, 2, true));
    snprintf(out, sizeof out, "%s.out", net);
    return gan_tanh(gan_conv2d(G, out, gan_concat(x, picture, 1), 3, 7, 1, 3));
}

/* x (N,3,S,S) of one kind -> (N,3,S,S) of the other: net "AB" is G: A -> B, "BA" is F: B -> A. */
static gan_tensor *translate(gan_model *G, const char *net, gan_tensor *x)
{
    gan_tensor *map[MAPS];
    gan_tensor *middle = encode(G, net, x, map);
    return decode(G, net, middle, x);
}

/* 05's PatchGAN: x (N,3,S,S) -> (N,1,S/4-2,S/4-2), near 1 for patches that look like the kind
   net ("A" or "B"), near 0 for others. */
static gan_tensor *discriminator(gan_model *D, const char *net, gan_tensor *x)
{
    char first[64], last[64];
    snprintf(first, sizeof first, "%s.conv1", net);
    snprintf(last, sizeof last, "%s.conv4", net);
    x = gan_leaky_relu(gan_conv2d(D, first, x, 2 * width, 4, 2, 1), 0.2f);
    x = gan_leaky_relu(layer(D, net, "conv2", x, 4 * width, 4, 2, false), 0.2f);
    x = gan_leaky_relu(layer(D, net, "conv3", x, 8 * width, 4, 1, false), 0.2f);
    return gan_conv2d(D, last, x, 1, 4, 1, 1);
}

/* ---- losses */

static gan_tensor *first_half(gan_tensor *x)
{
    return gan_slice(x, 0, 0, x->n / 2);
}

static gan_tensor *second_half(gan_tensor *x)
{
    return gan_slice(x, 0, x->n / 2, x->n / 2);
}

/* L = E (D_B(G(a)) - 1)^2 + E (D_A(F(b)) - 1)^2 + lambda (E |F(G(a)) - a| + E |G(F(b)) - b|) +
   lambda/2 (E |G(b) - b| + E |F(a) - a|). Instance norm sees each picture alone, so that a and b
   can go through G together. to_b = G(a), to_a = F(b). */
static gan_tensor *cycle_loss(gan_model *G, gan_model *D, gan_tensor *a, gan_tensor *b,
                              float lambda, float identity, gan_tensor **to_b, gan_tensor **to_a,
                              gan_tensor **cycle)
{
    gan_tensor *ab = translate(G, "AB", gan_concat(a, b, 0));
    gan_tensor *ba = translate(G, "BA", gan_concat(b, a, 0));
    *to_b = first_half(ab);
    *to_a = first_half(ba);
    *cycle = gan_add(gan_cycle_loss(a, translate(G, "BA", *to_b)),
                     gan_cycle_loss(b, translate(G, "AB", *to_a)));
    gan_tensor *same = gan_add(gan_identity_loss(b, second_half(ab)),
                               gan_identity_loss(a, second_half(ba)));
    gan_tensor *fool = gan_add(gan_g_loss(NULL, discriminator(D, "B", *to_b), GAN_LEAST_SQUARES),
                               gan_g_loss(NULL, discriminator(D, "A", *to_a), GAN_LEAST_SQUARES));
    gan_tensor *kept = gan_add(gan_mul_scalar(*cycle, lambda),
                               gan_mul_scalar(same, lambda * identity));
    return gan_add(fool, kept);
}

/* D's loss for one kind: real pictures of it, and translations to it, new and out of the pool. */
static gan_tensor *loss_of_kind(gan_model *D, const char *net, gan_tensor *real, const char *pool,
                                gan_tensor *fake)
{
    return gan_d_loss(discriminator(D, net, real),
                      discriminator(D, net, gan_image_pool(D, pool, fake, 50)), GAN_LEAST_SQUARES);
}

/* Patches of a feature map (N,C,H,W) at P places -> (N,64,1,P): two layers of their own for each
   map, then length 1. */
static gan_tensor *patches(gan_model *G, int k, gan_tensor *x, gan_tensor *places)
{
    char one[32], two[32];
    snprintf(one, sizeof one, "patch%d.fc1", k);
    snprintf(two, sizeof two, "patch%d.fc2", k);
    x = gan_gather(gan_reshape(x, x->n, x->c, 1, x->h * x->w), places, 3);
    x = gan_relu(gan_conv2d(G, one, x, 64, 1, 1, 0));
    return gan_normalize(gan_conv2d(G, two, x, 64, 1, 1, 0), 1);
}

/* count of 0 .. area-1, one from each stretch of the same length. */
static gan_tensor *some_places(gan *g, int count, int area)
{
    gan_real at[256];
    gan_to_host(gan_rand(g, count, 1, 1, 1), at);
    for (int i = 0; i < count; i++)
        at[i] = (gan_real)(int)(((gan_real)i + at[i]) * (gan_real)area / (gan_real)count);
    return gan_from_host(g, at, count, 1, 1, 1);
}

/* L = E (D_B(G(a)) - 1)^2 + lambda/2 (NCE(a) + NCE(b)). NCE(x) is a mean over layers of G's
   encoder. With features v of x and u of G(x) at P places it asks which of the P patches of x is
   that of G(x) at place i:

       E_i -ln( e^(u_i.v_i/t) / sum_j e^(u_i.v_j/t) ),  t = 0.07 */
static gan_tensor *cut_loss(gan *g, gan_model *G, gan_model *D, gan_tensor *a, gan_tensor *b,
                            float lambda, gan_tensor **to_b, gan_tensor **nce)
{
    gan_tensor *x = gan_concat(a, b, 0);
    gan_tensor *v[MAPS];
    gan_tensor *u[MAPS];
    gan_tensor *middle = encode(G, "AB", x, v);
    gan_tensor *out = decode(G, "AB", middle, x);
    encode(G, "AB", out, u);
    *to_b = first_half(out);
    *nce = NULL;
    for (int i = 0; i < MAPS; i++) {
        int area = v[i]->h * v[i]->w;
        int count = area < 128 ? area : 128;
        gan_tensor *places = some_places(g, count, area);
        gan_tensor *one = gan_patch_nce(patches(G, i, u[i], places), patches(G, i, v[i], places),
                                        0.07f);
        one = gan_mul_scalar(one, 1.0f / MAPS);
        *nce = *nce ? gan_add(*nce, one) : one;
    }
    return gan_add(gan_g_loss(NULL, discriminator(D, "B", *to_b), GAN_LEAST_SQUARES),
                   gan_mul_scalar(*nce, lambda));
}

/* ---- how good it is */

/* Mean |G(a_i) - b_i| and |F(b_i) - a_i| over the pictures kept apart, in steps of 255; without
   G |a_i - b_i|. */
static void measure(gan *g, gan_model *G, const domains *test, int size, double score[2])
{
    int count = test->count < 120 ? test->count : 120;
    score[0] = score[1] = 0;
    for (int i = 0, n; i < count; i += n) {
        gan_mark mark = gan_here(g);
        n = count - i < 10 ? count - i : 10;
        gan_tensor *a = items(g, test->a, test->first + i, n, size);
        gan_tensor *b = items(g, test->b, test->first + i, n, size);
        double to_b = (double)gan_item(gan_l1(G ? translate(G, "AB", a) : a, b));
        double to_a = (double)gan_item(gan_l1(G && !cut ? translate(G, "BA", b) : b, a));
        score[0] += to_b * 127.5 * n / count;
        score[1] += to_a * 127.5 * n / count;
        gan_clear_to(g, mark);
    }
}

static void save_rows(gan *g, gan_model *G, const domains *test, int size, int step,
                      const options *o)
{
    char name[64];
    int n = test->count < 8 ? test->count : 8;
    gan_tensor *row[6];
    row[0] = items(g, test->a, test->first, n, size);
    row[1] = translate(G, "AB", row[0]);
    gan_tensor *b = items(g, test->b, test->first, n, size);
    if (cut) {
        row[2] = b;
        row[3] = translate(G, "AB", b);
    } else {
        row[2] = translate(G, "BA", row[1]);
        row[3] = b;
        row[4] = translate(G, "BA", b);
        row[5] = translate(G, "AB", row[4]);
    }
    snprintf(name, sizeof name, "samples-%05d.png", step);
    draw(gan_concat_all(row, cut ? 4 : 6, 0), n, o, name);
}

/* Learns from data, and shows test; where its pictures come in pairs it measures, too. */
static void train(gan *g, const options *o, const domains *data, const domains *test, bool paired,
                  int size, float lambda, float identity)
{
    const float lr = 1e-3f;
    gan_model *G = gan_model_new(g, "G");
    gan_model *D = gan_model_new(g, "D");
    gan_model *average = gan_model_new(g, "average");
    gan_opt *opt_g = gan_adam(G, lr, 0.5f, 0.999f);
    gan_opt *opt_d = gan_adam(D, lr / 2, 0.5f, 0.999f);
    int first = resume_from(g, o);
    gan_progress *log = gan_progress_open(g, in_folder(o, "log.csv"), cut ? "D,G,NCE" : "D,G,cycle",
                                          first, o->steps, o->batch);
    if (!log)
        fail();

    double before[2], after[2];
    if (paired)
        measure(g, NULL, test, size, before);

    int every = o->steps / 10 > 0 ? o->steps / 10 : 1;
    for (int step = first; step < o->steps; step++) {
        gan_set_lr(opt_g, gan_lr_linear(lr, step, o->steps / 2, o->steps));
        gan_set_lr(opt_d, gan_lr_linear(lr / 2, step, o->steps / 2, o->steps));

        gan_tensor *a = next(data->a, o->batch, size);
        gan_tensor *b = next(data->b, o->batch, size);
        gan_tensor *to_a = NULL;
        gan_tensor *to_b;
        gan_tensor *keep;
        gan_tensor *g_loss = cut ? cut_loss(g, G, D, a, b, lambda, &to_b, &keep)
                                 : cycle_loss(G, D, a, b, lambda, identity, &to_b, &to_a, &keep);
        gan_minimize(opt_g, g_loss);
        gan_ema(average, G, step < 20 ? 0 : 0.995f);

        gan_tensor *d_loss = loss_of_kind(D, "B", b, "poolB", to_b);
        if (!cut)
            d_loss = gan_add(d_loss, loss_of_kind(D, "A", a, "poolA", to_a));
        gan_minimize(opt_d, d_loss);

        gan_progress_step(log, step, (double)gan_item(d_loss), (double)gan_item(g_loss),
                          (double)gan_item(keep));
        if (step == 0) {
            gan_summary(G);
            gan_summary(D);
        }
        gan_clear(g);

        if ((step + 1) % every == 0 || step + 1 == o->steps) {
            if (!o->quick || step + 1 == o->steps) {
                save_rows(g, average, test, size, step + 1, o);
                if (paired) {
                    measure(g, average, test, size, after);
                    printf("test: after %d steps: |a - b| %.1f of 255, |G(a) - b| %.1f", step + 1,
                           before[0], after[0]);
                    if (!cut)
                        printf(", |F(b) - a| %.1f", after[1]);
                    printf("\n");
                }
            }
            gan_clear(g);
            save_all(g, o, step + 1);
        }
    }
    gan_progress_close(log);
    if (!gan_save(average, in_folder(o, "generator.safetensors")))
        fail();
    draw_curves(g, o);
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/06_cyclegan", .steps = 1200, .batch = 2, .quick_steps = 6, .quick_batch = 2};
    const char *test_path = NULL;
    int size = 64;
    float lambda = 0; /* until --lambda is given: 10, or 1 with --cut */
    float identity = 0.5f;
    const flag own[] = {
        {"--test", 't', &test_path, "A,B that are shown and measured, not trained on"},
        {"--cut", 's', &cut, "CUT: A to B alone, by patches in place of the cycle"},
        {"--size", 'i', &size, "side of the pictures, a multiple of 4 (64)"},
        {"--width", 'i', &width, "channels of the first layers (16)"},
        {"--blocks", 'i', &blocks, "residual blocks (3)"},
        {"--lambda", 'f', &lambda, "weight of the cycle (10), or of the patches (1)"},
        {"--identity", 'f', &identity, "weight of the identity, a share of lambda (0.5)"},
        {0, 0, 0, 0}};
    parse(argc, argv, &o,
          "06_cyclegan: from one kind of picture to another and back, without pairs", own);
    if (o.quick) {
        size = 32;
        width = 6;
        blocks = 2;
    }
    if (size < 16 || size > 1024 || size % 4) {
        fprintf(stderr, "--size %d: a multiple of 4 from 16 to 1024 is wanted\n", size);
        exit(2);
    }
    if (lambda <= 0)
        lambda = cut ? 1 : 10;

    gan *g = open_device(&o);
    bool own_data = o.data && !o.quick;
    bool paired = true;
    int count = o.quick ? 64 : 2000;
    domains data = own_data ? open_domains(g, o.data, size) : built_in(g, count, 0, size);
    domains test = data;
    if (own_data && test_path) {
        test = open_domains(g, test_path, size);
        paired = gan_data_size(test.a.set) == gan_data_size(test.b.set);
    } else if (own_data) {
        paired = false;
        printf("no --test: what is shown has also been trained on\n");
    } else {
        test = built_in(g, count, o.quick ? 6 : 120, size);
    }

    train(g, &o, &data, &test, paired, size, lambda, identity);
    gan_close(g);
    return 0;
}
