/* 12_explain: which pixels gave it away? Four ways to ask a classifier, of digits or of photos, for
   the pixels that its answer rests on, and a way to check the answer. New: gan_grad asks for
   derivatives by the input, and by a layer inside; nothing is trained.

   Papers:   those of explain.h; Petsiuk et al. 2018 (deletion as a test)
   Run:      make 12_explain        digits; of photos, ARGS="..." with
               --net squeezenet1_1.safetensors --names imagenet_classes.txt --data my/photos
   Data:     --data MNIST's folder, an IDX file or "digits"; else data/mnist, else built-in digits.
             With --net a folder of photos.
   Leaves:   out/12_explain/        explain.png, deletion.csv, state.safetensors; of photos
                                    photos.png, deletion.csv
   Time:     30 seconds on one core
   Picture:  a digit a column: it, then the four heats, in explain.h's order, for the class it was
             given. Red is hottest. */
#include "explain.h"

/* The hottest pixels by each method, pixels at random, and pixels of ink at random. */
enum { RANDOM = METHODS, RANDOM_INK, ORDERS, COLUMNS = 12 };

static const char *const order_name[ORDERS] = {"saliency", "SmoothGrad", "integrated",
                                               "Grad-CAM", "at random",  "random ink"};

/* zoo_lenet, with its maps: (N,1,28,28) -> (N,10,1,1) */
static gan_tensor *lenet(gan_model *m, gan_tensor *x, gan_tensor **maps)
{
    x = gan_mul_scalar(gan_add_scalar(x, 1), 0.5f);
    x = gan_max_pool2d(gan_conv2d(m, "conv1", x, 20, 5, 1, 0), 2, 2, 0, false);
    *maps = gan_conv2d(m, "conv2", x, 50, 5, 1, 0); /* (N,50,8,8) */
    x = gan_max_pool2d(*maps, 2, 2, 0, false);
    return gan_linear(m, "fc2", gan_relu(gan_linear(m, "fc1", x, 500)), 10);
}

/* (N,3,224,224) -> (N,1000,1,1) */
static gan_tensor *squeezenet(gan_model *m, gan_tensor *x, gan_tensor **maps)
{
    zoo_features f;
    f.count = 0;
    x = zoo_squeezenet(m, zoo_imagenet(gan_mul_scalar(gan_add_scalar(x, 1), 0.5f)), &f, false);
    *maps = zoo_feature(&f, "12"); /* (N,512,13,13) */
    return x;
}

/* ---- is it true? Deletion: the class's probability when the hottest pixels are made blank,
   against pixels at random */

typedef struct {
    gan_real heat;
    int at;
} place;

static int hotter(const void *a, const void *b)
{
    const place *p = (const place *)a;
    const place *q = (const place *)b;
    if (p->heat != q->heat)
        return p->heat > q->heat ? -1 : 1;
    return p->at - q->at;
}

static void deletion(const subject *s, gan_tensor *x, gan_tensor *wanted, const options *o)
{
    static const int percent[6] = {0, 1, 2, 5, 10, 20};
    int area = x->h * x->w;
    int orders = x->c == 1 ? ORDERS : RANDOM_INK;
    gan_real *pixels = (gan_real *)malloc((gan_count(x) + (size_t)(x->n * area)) * sizeof *pixels);
    gan_real *heat = pixels + gan_count(x);
    place *order = (place *)malloc(sizeof *order * (size_t)area);
    double value[ORDERS][6];
    for (int method = 0; method < orders; method++)
        for (int k = 0; k < 6; k++) {
            gan_mark mark = gan_here(x->g);
            if (k == 0) {
                gan_tensor *by = method < METHODS ? explain(method, s, x, wanted)
                                                  : gan_rand(x->g, x->n, 1, x->h, x->w);
                gan_to_host(x, pixels);
                gan_to_host(by, heat);
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
    print_table("deletion: the class's probability without so many pixels", "0%,1%,2%,5%,10%,20%",
                order_name, value[0], orders, 6, o, "deletion.csv");
    free(pixels);
    free(order);
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
    options o = {.out = "out/12_explain",
                 .steps = 1,
                 .batch = 100,
                 .quick_steps = 1,
                 .quick_batch = COLUMNS};
    const char *net = NULL, *names = NULL;
    const flag own[] = {
        {"--net", 't', &net, "SqueezeNet 1.1's file: explains the photos of the folder --data"},
        {"--names", 't', &names, "its class names, one a line"},
        {0}};
    parse(argc, argv, &o, "12_explain: which pixels gave it away", own);
    if (net && !o.data) {
        fprintf(stderr, "--net wants photos: --data my/photos\n");
        exit(2);
    }
    if (o.batch < COLUMNS) {
        fprintf(stderr, "--batch %d: the picture shows %d digits\n", o.batch, COLUMNS);
        exit(2);
    }

    gan *g = open_device(&o);
    if (net) {
        explain_photos(g, &o, net, names);
        gan_close(g);
        return 0;
    }
    if (o.quick)
        points = 2;
    gan_data *data = open_digits(g, &o);
    subject digits = {zoo_classifier(g), lenet, -1};
    gan_tensor *rows[1 + METHODS];
    if (!digits.m)
        fail();
    resume_from(g, &o); /* the place in the data: another run explains other digits */
    gan_tensor *x = gan_batch(data, o.batch, NULL);
    gan_tensor *first = gan_slice(x, 0, 0, COLUMNS);
    gan_tensor *wanted = answer(&digits, first, 10000);
    deletion(&digits, x, answer(&digits, x, 10000), &o);
    rows[0] = gan_expand(first, COLUMNS, 3, 28, 28);
    for (int method = 0; method < METHODS; method++)
        rows[1 + method] = overlay(first, explain(method, &digits, first, wanted));
    draw(gan_resize(gan_concat_all(rows, 1 + METHODS, 0), 56, 56, GAN_NEAREST), COLUMNS, &o,
         "explain.png");
    save_all(g, &o, o.steps);
    gan_profile(g);
    gan_close(g);
    return 0;
}
