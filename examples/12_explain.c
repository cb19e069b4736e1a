/* 12_explain: which pixels gave it away? Four ways to ask a network for the pixels that its
   answer rests on, shown as heat over the picture: for a classifier of digits (or of photos),
   and for a discriminator that calls a picture fake. And two ways to check the answer.

   Papers:   Simonyan et al. 2014 (saliency), Smilkov et al. 2017 (SmoothGrad), Sundararajan et al.
             2017 (integrated gradients),
             Selvaraju et al. 2017 (Grad-CAM); Petsiuk et al. 2018 (deletion as a test).
   New:      gan_grad asks for derivatives by the input, and by a layer inside; nothing is trained
             but a small DCGAN.
   Run:      make 12_explain        of photos: ARGS="--net squeezenet1_1.safetensors --names
             imagenet_classes.txt --data my/photos"
   --data    MNIST's folder, an IDX file or "digits"; else data/mnist, else built-in digits. With
             --net a folder of photos. The discriminator
             is that of out/01_dcgan/state.safetensors where it is there (--from: of another), else
               one trained here.
   Leaves:   out/12_explain/     explain.png, deletion.csv, faults.csv, log.csv, state.safetensors;
             of photos photos.png, deletion.csv
   Time:     53 s on one core, so about half a minute on two
   Picture:  a digit a column: it, then the four heats (in the order above) for the class it was
   given; below, fakes, the same with a fault in
             the frame, and the four heats for "this is fake". Red is hottest.

   S is the score explained: a class's logit, or -D(x), for x is fake. (Of +D Grad-CAM keeps what
   speaks for real, which can be nothing.)
     saliency               |dS/dx|: which pixels would change S
     SmoothGrad             |mean over k of dS/dx(x + noise_k)|: the same with less grain
     integrated gradients   |(x - b) mean over 0 < t < 1 of dS/dx(b + t(x - b))|, b blank; without
                            |.| its sum is S(x) - S(b)
     Grad-CAM               ReLU(sum over k of alpha_k A_k), alpha_k = mean over i,j of
                            dS/dA_k[i,j]; A_k a layer's maps: coarse */
#include "common.h"
#include "zoo.h"

enum { SALIENCY, SMOOTHGRAD, INTEGRATED, GRAD_CAM, METHODS, RANDOM = METHODS, RANDOM_INK, ORDERS };

enum { NOISE, NEGATIVE, ANOTHER, FAULTS, PATCH = 8, COLUMNS = 12 };

static const char *const order_name[ORDERS] = {"saliency", "SmoothGrad", "integrated",
                                               "Grad-CAM", "at random",  "random ink"};
static const char *const fault_name[2 * FAULTS] = {"before",   "noise",  "before",
                                                   "negative", "before", "another's patch"};

static int units = 64,
           points =
               /* channels of G's and D's layers; gradients averaged by SmoothGrad and integrated
           gradients */
           16;
/* A network under questioning: x (N,C,H,W) in [-1,1] -> logits (N,K,1,1), and the maps A
   (N,k,h,w) of the layer that Grad-CAM reads. */
typedef gan_tensor *forward(gan_model *m, gan_tensor *x, gan_tensor **maps);

typedef struct {
    gan_model *m;
    forward *f;
    float blank;
} subject; /* blank: the value of a pixel that says nothing */

static gan_tensor *lenet(
    gan_model *m, gan_tensor *x,
    gan_tensor **maps) /* (N,1,28,28) -> (N,10,1,1): zoo_lenet, its maps handed out */
{
    x = gan_mul_scalar(gan_add_scalar(x, 1), 0.5f);
    x = gan_max_pool2d(gan_conv2d(m, "conv1", x, 20, 5, 1, 0), 2, 2, 0, false);
    *maps = gan_conv2d(m, "conv2", x, 50, 5, 1, 0); /* (N,50,8,8) */
    return gan_linear(
        m, "fc2", gan_relu(gan_linear(m, "fc1", gan_max_pool2d(*maps, 2, 2, 0, false), 500)), 10);
}

static gan_tensor *squeezenet(gan_model *m, gan_tensor *x,
                              gan_tensor **maps) /* (N,3,224,224) -> (N,1000,1,1) */
{
    zoo_features f;
    f.count = 0;
    x = zoo_squeezenet(m, zoo_imagenet(gan_mul_scalar(gan_add_scalar(x, 1), 0.5f)), &f, false);
    *maps = zoo_feature(&f, "12"); /* (N,512,13,13) */
    return x;
}

static gan_tensor *generator(gan_model *G,
                             gan_tensor *z) /* 01_dcgan's: (N,100,1,1) -> (N,1,28,28) */
{
    gan_tensor *x = gan_reshape(gan_linear(G, "fc", z, 2 * units * 7 * 7), -1, 2 * units, 7, 7);
    x = gan_conv_transpose2d(G, "up1", gan_relu(gan_batch_norm(G, "bn0", x)), units, 4, 2,
                             1); /* (N,64,14,14) */
    return gan_tanh(
        gan_conv_transpose2d(G, "up2", gan_relu(gan_batch_norm(G, "bn1", x)), 1, 4, 2, 1));
}

static gan_tensor *discriminator(gan_model *D, gan_tensor *x,
                                 gan_tensor **maps) /* 01_dcgan's: (N,1,28,28) -> (N,1,1,1) */
{
    x = gan_leaky_relu(gan_conv2d(D, "conv1", x, units, 4, 2, 1), 0.2f);         /* (N,64,14,14) */
    *maps = gan_leaky_relu(gan_conv2d(D, "conv2", x, 2 * units, 4, 2, 1), 0.2f); /* (N,128,7,7) */
    return gan_linear(D, "fc", *maps, 1);
}

/* ---- the four questions */

/* Heat (N,1,H,W) of x for S = sum of wanted * logits; wanted (N,K,1,1) is 1 at the class asked
   about, or -1 for a discriminator's "fake". */
static gan_tensor *explain(int method, const subject *s, gan_tensor *x, gan_tensor *wanted)
{
    gan *g = x->g;
    size_t count = gan_count(x);
    int times = method == SMOOTHGRAD || method == INTEGRATED ? points : 1;
    gan_real *mean = (gan_real *)calloc(2 * count, sizeof *mean);
    gan_real *one = mean + count;
    gan_mark mark = gan_here(g);
    for (int k = 0; k < times; k++) {
        gan_tensor *maps, *at = x;
        float t = ((float)k + 0.5f) / (float)times;
        if (method == SMOOTHGRAD)
            at = gan_add(x, gan_mul_scalar(gan_randn(g, x->n, x->c, x->h, x->w),
                                           0.3f)); /* 15% of the range */
        if (method == INTEGRATED)
            at = gan_add_scalar(gan_mul_scalar(x, t), (1 - t) * s->blank); /* b + t(x - b) */
        at = gan_detach(at);
        gan_tensor *S = gan_sum(gan_mul(wanted, s->f(s->m, at, &maps)));
        if (method == GRAD_CAM) {
            gan_tensor *alpha = gan_mean_to(gan_grad(S, maps), x->n, maps->c, 1, 1);
            free(mean);
            return gan_detach(
                gan_resize(gan_relu(gan_sum_to(gan_mul(alpha, maps), x->n, 1, maps->h, maps->w)),
                           x->h, x->w, GAN_BILINEAR));
        }
        gan_to_host(gan_grad(S, at), one);
        for (size_t i = 0; i < count; i++)
            mean[i] += one[i] / (gan_real)times;
        gan_clear_to(g, mark); /* one pass through the network is held at a time */
    }
    gan_tensor *slope = gan_from_host(g, mean, x->n, x->c, x->h, x->w);
    if (method == INTEGRATED)
        slope = gan_mul(slope, gan_add_scalar(x, -s->blank));
    free(mean);
    return gan_sum_to(gan_abs(slope), x->n, 1, x->h, x->w); /* colours are added up */
}

/* (N,K,1,1): the network's answer; as steep as 10000 the softmax is 1 at the largest logit, the
   class that it names. */
static gan_tensor *answer(const subject *s, gan_tensor *x, float steep)
{
    gan_tensor *maps;
    return gan_detach(gan_softmax(gan_mul_scalar(s->f(s->m, x, &maps), steep), 1));
}

/* x (N,C,H,W), its heat (N,1,H,W) -> (N,3,H,W): the picture, grey and dark, and over it from
   green to red as it gets hot. */
static gan_tensor *overlay(gan_tensor *x, gan_tensor *heat)
{
    gan_tensor *t = gan_div(heat, gan_add_scalar(gan_max_pool2d(heat, 0, 1, 0, false),
                                                 (gan_real)1e-20)); /* 1 at the hottest pixel */
    gan_tensor *red = gan_clamp(gan_add_scalar(gan_mul_scalar(t, 4), -1), -1, 1);
    gan_tensor *green = gan_clamp(gan_add_scalar(gan_mul_scalar(t, -4), 3), -1, 1);
    gan_tensor *part[3] = {red, green, gan_full(x->g, -1, x->n, 1, x->h, x->w)};
    gan_tensor *opaque = gan_clamp(gan_mul_scalar(t, 2), 0, 1);
    gan_tensor *dark = gan_add_scalar(gan_mul_scalar(gan_mean_to(x, x->n, 1, x->h, x->w), 0.35f),
                                      -0.65f);
    return gan_add(dark, gan_mul(opaque, gan_sub(gan_concat_all(part, 3, 1), dark)));
}

/* x (N,1,H,W) -> (N,3,H,W): with a frame around where mask (N,1,H,W) is 1. */
static gan_tensor *framed(gan_tensor *x, gan_tensor *mask)
{
    static const gan_real blue[3] = {-1, (gan_real)0.6, 1};
    gan_tensor *frame = gan_sub(gan_max_pool2d(mask, 3, 1, 1, false), mask);
    return gan_add(x, gan_mul(frame, gan_sub(gan_from_host(x->g, blue, 1, 3, 1, 1), x)));
}

/* Numbers (rows,columns) on the terminal and in out/name; the columns' names are comma
   separated. */
static void table(const char *about, const char *columns, const char *const *row,
                  const double *value, int rows, int width, const options *o, const char *name)
{
    FILE *csv = fopen(in_folder(o, name), "w");
    if (!csv) {
        perror(name);
        exit(1);
    }
    fprintf(csv, "row,%s\n", columns);
    printf("%s\n%20s", about, "");
    for (const char *c = columns; c; c = strchr(c, ',') ? strchr(c, ',') + 1 : NULL)
        printf("%12.*s", (int)strcspn(c, ","), c);
    for (int i = 0; i < rows * width; i++) {
        if (i % width == 0) {
            printf("\n  %-18s", row[i / width]);
            fprintf(csv, "%s", row[i / width]);
        }
        printf("%12.3f", value[i]);
        fprintf(csv, i % width == width - 1 ? ",%.4f\n" : ",%.4f", value[i]);
    }
    if (fclose(csv) != 0) {
        perror(name);
        exit(1);
    }
    printf("\n");
}

/* ---- is it true? Deletion: the class's probability when the hottest pixels are made blank,
   against pixels at random */

typedef struct {
    gan_real heat;
    int at;
} place;

static int hotter(const void *a, const void *b)
{
    const place *p = (const place *)a, *q = (const place *)b;
    return p->heat > q->heat ? -1 : p->heat < q->heat ? 1 : p->at - q->at;
}

static void deletion(const subject *s, gan_tensor *x, gan_tensor *wanted, const options *o)
{
    static const int percent[6] = {0, 1, 2, 5, 10, 20};
    int area = x->h * x->w, orders = x->c == 1 ? ORDERS : RANDOM_INK;
    gan_real *pixels = (gan_real *)malloc((gan_count(x) + (size_t)(x->n * area)) * sizeof *pixels);
    gan_real *heat = pixels + gan_count(x);
    place *order = (place *)malloc(sizeof *order * (size_t)area);
    double value[ORDERS][6];
    for (int method = 0; method < orders; method++)
        for (int k = 0; k < 6; k++) {
            gan_mark mark = gan_here(x->g);
            if (k == 0) {
                gan_to_host(x, pixels);
                gan_to_host(method < METHODS ? explain(method, s, x, wanted)
                                             : gan_rand(x->g, x->n, 1, x->h, x->w),
                            heat);
                for (int i = 0; i < x->n * area && method == RANDOM_INK; i++)
                    heat[i] *= pixels[i] > s->blank + 0.5f;
            }
            for (int n = 0; n < x->n; n++) {
                for (int i = 0; i < area; i++) {
                    order[i].heat = heat[n * area + i];
                    order[i].at = i;
                }
                qsort(order, (size_t)area, sizeof *order, hotter);
                for (int i = 0; i < area * percent[k] / 100 * x->c; i++)
                    pixels[(n * x->c + i % x->c) * area + order[i / x->c].at] = s->blank;
            }
            gan_tensor *p = answer(s, gan_from_host(x->g, pixels, x->n, x->c, x->h, x->w), 1);
            value[method][k] = (double)gan_item(gan_sum(gan_mul(wanted, p))) / x->n;
            gan_clear_to(x->g, mark);
        }
    table("deletion: the class's probability without so many pixels", "0%,1%,2%,5%,10%,20%",
          order_name, value[0], orders, 6, o, "deletion.csv");
    free(pixels);
    free(order);
}

/* ---- the discriminator: 01's training in short, and faults planted in what its generator draws */

static void train(gan *g, gan_data *data, const options *o, const char *from, gan_model *G,
                  gan_model *D, gan_model *average)
{
    gan_opt *opt_g = gan_adam(G, 2e-3f, 0, 0.99f);
    gan_opt *opt_d = gan_adam(D, 2e-3f, 0, 0.99f);
    int first = 0;
    if (!from || !there(from) || !gan_load_state(g, from, &first))
        first = resume_from(g, o);
    else
        printf("discriminator and generator: those of %s, after %d steps\n", from, first);
    gan_progress *log = gan_progress_open(g, in_folder(o, "log.csv"), "D,G", first, o->steps,
                                          o->batch);
    if (!log)
        fail();
    for (int step = first; step < o->steps; step++) {
        gan_tensor *real = gan_batch(data, o->batch, NULL);
        gan_tensor *fake = generator(G, gan_randn(g, o->batch, 100, 1, 1));
        gan_tensor *maps;
        gan_tensor *a = discriminator(D, real, &maps);
        gan_tensor *b = discriminator(D, gan_detach(fake), &maps);
        gan_tensor *d_loss = gan_d_loss(a, b, GAN_NON_SATURATING);
        float rate = 2e-3f * (1 - (float)step / (float)o->steps);
        gan_set_lr(opt_g, rate);
        gan_set_lr(opt_d, rate);
        gan_minimize(opt_d,
                     step % 16 == 0 ? gan_add(d_loss, gan_mul_scalar(gan_r1(a, real), 8)) : d_loss);
        gan_tensor *g_loss = gan_g_loss(NULL, discriminator(D, fake, &maps), GAN_NON_SATURATING);
        gan_minimize(opt_g, g_loss);
        gan_ema(average, G, step < 20 ? 0 : 0.99f);
        gan_progress_step(log, step, (double)gan_item(d_loss), (double)gan_item(g_loss));
        gan_clear(g);
        if ((step + 1) % 200 == 0 || step + 1 == o->steps)
            save_all(g, o, step + 1);
    }
    gan_progress_close(log);
}

/* x (N,1,28,28) with something wrong where mask is 1, a patch of 8x8 somewhere in each picture. */
static gan_tensor *plant(int fault, gan_tensor *x, gan_tensor **mask)
{
    gan *g = x->g;
    gan_real *m = (gan_real *)malloc((size_t)x->n * 786 * sizeof *m);
    gan_real *at = m + x->n * 784;
    gan_to_host(gan_rand(g, x->n, 2, 1, 1), at);
    for (int i = 0; i < x->n * 784; i++) {
        int down = i % 784 / 28 - 5 - (int)(at[i / 784 * 2] * 11);
        int right = i % 28 - 5 - (int)(at[i / 784 * 2 + 1] * 11);
        m[i] = down >= 0 && down < PATCH && right >= 0 && right < PATCH;
    }
    *mask = gan_from_host(g, m, x->n, 1, 28, 28);
    free(m);
    gan_tensor *wrong = fault == NOISE
                          ? gan_add_scalar(gan_mul_scalar(gan_rand(g, x->n, 1, 28, 28), 2), -1)
                      : fault == NEGATIVE
                          ? gan_neg(x)
                          : gan_concat(gan_slice(x, 0, 1, x->n - 1), gan_slice(x, 0, 0, 1), 0);
    return gan_add(x, gan_mul(*mask, gan_sub(wrong, x)));
}

/* For each fault, in n fakes: D, and the share of the heat for "fake" in the patch, without and
   with the fault. rows: 6 rows of pictures, of which each fault fills a third. */
static void faults(gan *g, const subject *s, gan_model *G, int n, const options *o,
                   gan_tensor **rows)
{
    double value[2 * FAULTS][1 + METHODS];
    int some = COLUMNS / FAULTS;
    for (int fault = 0; fault < FAULTS; fault++) {
        gan_tensor *fake = generator(G, gan_randn(g, n, 100, 1, 1));
        gan_tensor *mask;
        gan_tensor *maps;
        gan_tensor *both[2] = {fake, plant(fault, fake, &mask)};
        rows[fault] = gan_expand(gan_slice(fake, 0, 0, some), some, 3, 28, 28);
        rows[FAULTS + fault] = framed(gan_slice(both[1], 0, 0, some), gan_slice(mask, 0, 0, some));
        for (int planted = 0; planted < 2; planted++) {
            gan_tensor *x = both[planted];
            gan_tensor *wanted = gan_full(g, -1, n, 1, 1, 1);
            double *row = value[2 * fault + planted];
            row[0] = (double)gan_item(gan_mean(s->f(s->m, x, &maps)));
            for (int method = 0; method < METHODS; method++) {
                gan_tensor *heat = explain(method, s, x, wanted);
                gan_tensor *all = gan_add_scalar(gan_sum_to(heat, n, 1, 1, 1), (gan_real)1e-20);
                row[1 + method] = (double)gan_item(
                    gan_mean(gan_div(gan_sum_to(gan_mul(heat, mask), n, 1, 1, 1), all)));
                if (planted)
                    rows[(2 + method) * FAULTS + fault] = overlay(gan_slice(x, 0, 0, some),
                                                                  gan_slice(heat, 0, 0, some));
            }
        }
    }
    table("faults: D(x), and the share of the heat in the patch, which is 0.082 of the area",
          "D,saliency,SmoothGrad,integrated,Grad-CAM", fault_name, value[0], 2 * FAULTS,
          1 + METHODS, o, "faults.csv");
}

/* ---- photos, by SqueezeNet: up to six of the folder --data, and what it names them */

static void explain_photos(gan *g, const options *o, const char *net, const char *names)
{
    subject s = {gan_model_new(g, "squeezenet"), squeezenet, 0};
    gan_data *data = o->data ? open_pictures(g, o->data, 224) : NULL;
    if (!data || !gan_load(s.m, net))
        fail();
    int n = gan_data_size(data) < 6 ? gan_data_size(data) : 6;
    int size = 3 * 224 * 224;
    gan_real *pixels = (gan_real *)malloc((size_t)(n * size) * sizeof *pixels);
    for (int i = 0; i < n; i++)
        gan_data_item(data, i, pixels + i * size, NULL);
    FILE *file = names ? fopen(names, "r") : NULL;
    gan_tensor *x = gan_from_host(g, pixels, n, 3, 224, 224);
    gan_tensor *wanted = answer(&s, x, 10000);
    gan_tensor *rows[1 + METHODS] = {x};
    gan_to_host(wanted, pixels); /* (n,1000,1,1) */
    char line[128] = "\n";
    for (int k = 0; k < 1000 && (!file || fgets(line, sizeof line, file)); k++)
        for (int i = 0; i < n; i++)
            if (pixels[1000 * i + k] > 0.5f)
                printf("photo %d: class %d %s", i + 1, k, line);
    if (file)
        fclose(file);
    for (int method = 0; method < METHODS; method++)
        rows[1 + method] = overlay(x, explain(method, &s, x, wanted));
    draw(gan_avg_pool2d(gan_concat_all(rows, 1 + METHODS, 0), 2, 2, 0), n, o, "photos.png");
    deletion(&s, x, wanted, o);
    free(pixels);
}

int main(int argc, char **argv)
{
    options o = {"cpu", "out/12_explain", 800, 32, 10, 8, 42, NULL, 0, false, false};
    const char *net = NULL, *names = NULL, *from = NULL;
    const flag own[] = {
        {"--net", 't', &net, "SqueezeNet 1.1's file: explains the photos of the folder --data"},
        {"--names", 't', &names, "its class names, one a line"},
        {"--from", 't', &from,
         "a state of 01_dcgan for its discriminator (out/01_dcgan/state.safetensors)"},
        {0}};
    parse(argc, argv, &o, "12_explain: which pixels gave it away", own);

    if (net && !o.data) {
        fprintf(stderr, "--net wants photos: --data my/photos\n");
        exit(2);
    }

    gan *g = open_device(&o);
    if (net) {
        explain_photos(g, &o, net, names);
        gan_close(g);
        return 0;
    }
    if (o.quick) {
        units = 16;
        points = 2;
    }
    int n = o.quick ? COLUMNS : 100;
    gan_model *G = gan_model_new(g, "G");
    gan_model *D = gan_model_new(g, "D");
    gan_model *average = gan_model_new(g, "average");
    gan_data *data = open_digits(g, &o);
    train(g, data, &o,
          from                  ? from
          : o.quick || o.resume ? NULL
                                : "out/01_dcgan/state.safetensors",
          G, D, average);

    subject digits = {zoo_classifier(g), lenet, -1};
    subject judge = {D, discriminator, -1};
    gan_tensor *part[1 + METHODS + 6 * FAULTS];
    if (!digits.m)
        fail();
    gan_tensor *x = gan_batch(data, n, NULL);
    gan_tensor *first = gan_slice(x, 0, 0, COLUMNS);
    gan_tensor *wanted = answer(&digits, first, 10000);
    deletion(&digits, x, answer(&digits, x, 10000), &o);
    part[0] = gan_expand(first, COLUMNS, 3, 28, 28);
    for (int method = 0; method < METHODS; method++)
        part[1 + method] = overlay(first, explain(method, &digits, first, wanted));
    faults(g, &judge, average, n, &o, part + 1 + METHODS);
    draw(gan_resize(gan_concat_all(part, 1 + METHODS + 6 * FAULTS, 0), 56, 56, GAN_NEAREST),
         COLUMNS, &o, "explain.png");
    gan_profile(g);
    gan_close(g);
    return 0;
}
