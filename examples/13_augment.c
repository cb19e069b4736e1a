/* 13_augment: what are a GAN's images good for? A classifier learns digits from 5, 10, 20, 50
   labelled images of each class, with and without the images of a conditional GAN that has seen
   no more labels than that, and its accuracy on test images is drawn over the number of labels.

   Four classifiers that are alike in all but their images (lines 1 to 4 of the picture):

     1 alone     the labelled images as they are
     2 shifted   the same, shifted by up to three pixels: ordinary augmentation, which knows a
                 truth about digits and costs nothing
     3 GAN       half of each batch are shifted labelled images, half are drawn by the generator,
                 with the class that it was asked for
     4 guesses   half of each batch are images without a label, which take the answer of classifier
                 2 for theirs (Lee 2013: pseudo-labels)

   The GAN is 03's with the projection discriminator, and sees the labelled images alone. New in
   it, against learning them by heart: the discriminator looks through random shifts and holes
   (DiffAugment: Zhao et al. 2020), and the generator pays for drawing two noises alike (Mao et
   al. 2019), without which it settles on one image a class. --guesses trains it on all images,
   with classifier 2's answers for labels.

   Run:      make 13_augment
   Data:     --data as 03's; test images are MNIST's, or built-in digits of another seed
   Time:     318 s of one core for the 4 x 3 experiments; two cores take less
   Leaves:   out/13_augment/       curve.png, samples-NNN.png (the generator's with NNN labels a
                                   class, a class a row), log.csv, state.safetensors, from which
                                   --resume goes on with the first experiment that is not in it */
#include "digits.h"

enum { ALONE, SHIFTED, DRAWN, GUESSES, WAYS };

static const char *const way_name[WAYS] = {"alone", "shifted", "GAN", "guesses"};

static bool guesses;           /* --guesses */
static int width = 32;         /* of the GAN: digits.h */
static int lessons = 300;      /* a classifier's steps */
static int test_count = 10000; /* test images */

/* Images in host memory with their classes. */
typedef struct {
    int count;
    gan_real *image, *label;
} pictures;

/* n of them by chance: (n,1,28,28), and *y (n,1,1,1). */
static gan_tensor *pick(gan *g, const pictures *from, int n, gan_tensor **y)
{
    gan_real *x = (gan_real *)malloc((size_t)n * 786 * sizeof *x);
    gan_real *label = x + (size_t)n * 784;
    gan_real *chance = label + n;
    gan_to_host(gan_rand(g, n, 1, 1, 1), chance);
    for (int i = 0; i < n; i++) {
        int k = (int)(chance[i] * (gan_real)from->count);
        memcpy(x + 784 * i, from->image + 784 * k, 784 * sizeof *x);
        label[i] = from->label[k];
    }
    gan_tensor *images = gan_from_host(g, x, n, 1, 28, 28);
    *y = gan_from_host(g, label, n, 1, 1, 1);
    free(x);
    return images;
}

/* The first of each class, in the order that the seed gives the data. The other labels are not
   looked at again. */
static pictures choose(gan *g, gan_data *data, int each)
{
    pictures few;
    few.count = 0;
    few.image = (gan_real *)malloc((size_t)each * 7840 * sizeof(gan_real));
    few.label = (gan_real *)malloc((size_t)each * 10 * sizeof(gan_real));
    int have[10] = {0};
    for (int seen = 0; few.count < 10 * each && seen < gan_data_size(data); seen++) {
        gan_tensor *y;
        gan_tensor *x = gan_batch(data, 1, &y);
        int label = (int)gan_item(y);
        if (label < 10 && have[label]++ < each) {
            gan_to_host(x, few.image + 784 * few.count);
            few.label[few.count++] = (gan_real)label;
        }
        gan_clear(g);
    }
    return few;
}

/* x through random changes of the kinds which (GAN_SHIFT, GAN_CUTOUT). gan_augment fills with 0;
   so that this is black, [-1,1] is [0,2] meanwhile. */
static gan_tensor *changed(gan_tensor *x, int which)
{
    return gan_add_scalar(gan_augment(gan_add_scalar(x, 1), which, 1), -1);
}

/* ---- the classifiers */

/* x (N,1,28,28) -> (N,10,1,1) */
static gan_tensor *classifier(gan_model *C, gan_tensor *x)
{
    x = gan_conv2d(C, "conv1", x, 16, 5, 1, 0);
    x = gan_relu(gan_max_pool2d(x, 2, 2, 0, false)); /* (N,16,12,12) */
    x = gan_conv2d(C, "conv2", x, 32, 5, 1, 0);
    x = gan_relu(gan_max_pool2d(x, 2, 2, 0, false)); /* (N,32,4,4) */
    x = gan_relu(gan_linear(C, "fc1", x, 128));      /* (N,128,1,1) */
    return gan_linear(C, "fc2", gan_dropout(C, x, 0.5f), 10);
}

/* What C takes x (n,1,28,28) for: (n,1,1,1). */
static gan_tensor *answers(gan *g, gan_model *C, gan_tensor *x)
{
    gan_real *p = (gan_real *)malloc((size_t)x->n * 11 * sizeof *p);
    gan_real *label = p + (size_t)x->n * 10;
    gan_eval(C);
    gan_to_host(classifier(C, x), p);
    for (int i = 0; i < x->n; i++) {
        int best = 0;
        for (int k = 1; k < 10; k++)
            best = p[10 * i + k] > p[10 * i + best] ? k : best;
        label[i] = (gan_real)best;
    }
    gan_tensor *y = gan_from_host(g, label, x->n, 1, 1, 1);
    free(p);
    return y;
}

/* Half a batch or a whole one of what classifiers and GAN learn from: labelled images, or any
   images with the teacher's answers. */
static gan_tensor *lesson(gan *g, const pictures *few, gan_data *all, gan_model *teacher, int n,
                          gan_tensor **y)
{
    if (!teacher)
        return pick(g, few, n, y);
    gan_tensor *x = gan_batch(all, n, NULL);
    *y = answers(g, teacher, x);
    return x;
}

/* ---- the GAN: 03's */

static gan_tensor *generator(gan_model *G, gan_tensor *z, gan_tensor *y)
{
    return digits_of_class(G, z, y, width);
}

static gan_tensor *discriminator(gan_model *D, gan_tensor *x, gan_tensor *y)
{
    return digits_projection(D, digits_features(D, x, width), y);
}

/* Of two drawn images of the same class: how far apart their noises are, over how far apart they
   are. Halves of z and x have the same classes. */
static gan_tensor *alike(gan_tensor *z, gan_tensor *x)
{
    int n = x->n / 2;
    return gan_div(gan_l1(gan_slice(z, 0, 0, n), gan_slice(z, 0, n, n)),
                   gan_add_scalar(gan_l1(gan_slice(x, 0, 0, n), gan_slice(x, 0, n, n)), 1e-3f));
}

static void train_gan(gan *g, const options *o, gan_model *average, const pictures *few,
                      gan_data *all, gan_model *teacher)
{
    const float lr = 2e-3f;
    const int how = GAN_SHIFT | GAN_CUTOUT;
    const int half = o->batch / 2;
    gan_model *G = gan_model_new(g, "G");
    gan_model *D = gan_model_new(g, "D");
    gan_opt *opt_g = gan_adam(G, lr, 0, 0.99f);
    gan_opt *opt_d = gan_adam(D, lr, 0, 0.99f);
    gan_tensor *y;
    for (int step = 0; step < o->steps; step++) {
        gan_set_lr(opt_g, gan_lr_linear(lr, step, 0, o->steps));
        gan_set_lr(opt_d, gan_lr_linear(lr, step, 0, o->steps));
        gan_tensor *real = changed(lesson(g, few, all, teacher, 2 * half, &y), how);
        gan_tensor *z = gan_randn(g, 2 * half, 64, 1, 1);
        gan_tensor *ask = gan_concat(gan_slice(y, 0, 0, half), gan_slice(y, 0, 0, half), 0);
        gan_tensor *fake = generator(G, z, ask);
        gan_tensor *a = discriminator(D, real, y);
        gan_tensor *b = discriminator(D, changed(gan_detach(fake), how), ask);
        gan_tensor *d_loss = gan_d_loss(a, b, GAN_NON_SATURATING);
        if (step % 16 == 0)
            d_loss = gan_add(d_loss, gan_mul_scalar(gan_r1(a, real), 8));
        gan_minimize(opt_d, d_loss);
        gan_tensor *g_loss = gan_g_loss(NULL, discriminator(D, changed(fake, how), ask),
                                        GAN_NON_SATURATING);
        gan_minimize(opt_g, gan_add(g_loss, gan_mul_scalar(alike(z, fake), 0.1f)));
        gan_ema(average, G, gan_ema_decay(step, o->batch, 5000, 0.05f));
        gan_clear(g);
    }
    /* Batch norm's statistics for the averaged weights, through which no batch has gone. */
    for (int i = 0; i < 10; i++) {
        pick(g, few, 2 * o->batch, &y);
        generator(average, gan_randn(g, y->n, 64, 1, 1), y);
        gan_clear(g);
    }
    gan_eval(average);
}

/* ---- the experiment */

/* A new classifier, taught in one of the ways, which tells what the second half of its batches
   is. */
static gan_model *teach(gan *g, int way, const options *o, const pictures *few, gan_data *all,
                        gan_model *teacher, gan_model *G)
{
    gan_model *C = gan_model_new(g, way_name[way]);
    gan_opt *adam = gan_adamw(C, 1e-3f, 0.9f, 0.999f, 0.1f);
    int half = o->batch / 2;
    for (int step = 0; step < lessons; step++) {
        gan_tensor *y, *more;
        gan_tensor *x = pick(g, few, half, &y);
        gan_tensor *other = lesson(g, few, all, way == GUESSES ? teacher : NULL, half, &more);
        if (way == DRAWN)
            other = gan_detach(generator(G, gan_randn(g, half, 64, 1, 1), more));
        x = gan_concat(x, other, 0);
        if (way != ALONE)
            x = changed(x, GAN_SHIFT);
        gan_set_lr(adam, gan_lr_cosine(1e-3f, step, lessons));
        gan_train(C);
        gan_minimize(adam, gan_cross_entropy(classifier(C, x), gan_concat(y, more, 0)));
        gan_clear(g);
    }
    return C;
}

/* The share of the test images that C names rightly. */
static double accuracy(gan *g, gan_model *C, gan_data *test)
{
    int count = gan_data_size(test) < test_count ? gan_data_size(test) : test_count;
    int right = 0;
    int label[100];
    gan_real guess[100];
    gan_real *image = (gan_real *)malloc(78400 * sizeof *image);
    for (int first = 0; first + 100 <= count; first += 100) {
        for (int i = 0; i < 100; i++)
            gan_data_item(test, first + i, image + 784 * i, &label[i]);
        gan_to_host(answers(g, C, gan_from_host(g, image, 100, 1, 28, 28)), guess);
        for (int i = 0; i < 100; i++)
            right += (int)guess[i] == label[i];
        gan_clear(g);
    }
    free(image);
    return (double)right / (count / 100 * 100);
}

/* The four accuracies with so many labels a class, on a device of its own: the same whatever has
   been computed before. */
static void experiment(const options *o, int each, int round, double *result)
{
    options own = *o;
    own.seed += (unsigned long long)round;
    gan *g = open_device(&own);
    gan *other = gan_open(o->device, own.seed + 1000);
    if (!other)
        fail();
    gan_set_threads(other, o->threads);
    gan_data *data = open_digits(g, &own);
    gan_data *test = NULL;
    if (!o->quick && !(o->data && strcmp(o->data, "digits") == 0))
        test = open_mnist(other, o->data ? o->data : "data/mnist", "t10k");
    if (!test)
        test = gan_data_digits(other, test_count);
    pictures few = choose(g, data, each);
    gan_model *C[WAYS];
    gan_model *G = gan_model_new(g, "average");
    for (int way = ALONE; way <= SHIFTED; way++)
        C[way] = teach(g, way, o, &few, data, NULL, NULL);
    train_gan(g, o, G, &few, data, guesses ? C[SHIFTED] : NULL);
    if (round == 0) {
        char name[64];
        gan_real y[200];
        for (int i = 0; i < 200; i++)
            y[i] = (gan_real)(i / 20);
        snprintf(name, sizeof name, "samples-%03d.png", each);
        draw(generator(G, gan_randn(g, 200, 64, 1, 1), gan_from_host(g, y, 200, 1, 1, 1)), 20, o,
             name);
        gan_clear(g);
    }
    for (int way = DRAWN; way < WAYS; way++)
        C[way] = teach(g, way, o, &few, data, C[SHIFTED], G);
    for (int way = 0; way < WAYS; way++)
        result[way] = accuracy(g, C[way], test);
    free(few.image);
    free(few.label);
    gan_close(g);
    gan_close(other);
}

static int by_size(const void *a, const void *b)
{
    return *(const gan_real *)a < *(const gan_real *)b ? -1 : 1;
}

#ifdef INCLUDE_STB_IMAGE_WRITE_H
/* Accuracy, from the tenth below the worst up to 1, over count >= 2 numbers of labels a class;
   line k+1 is value[..][k]. */
static void save_curve(gan *g, const int *labels, double (*value)[WAYS], int count,
                       const options *o)
{
    static const gan_real grey[3] = {0.4f, 0.4f, 0.4f};
    static const gan_real colour[WAYS][3] = {
        {-0.7f, -0.7f, -0.7f}, {-1, -0.4f, 0.8f}, {0.9f, -0.5f, -1}, {-1, 0.3f, -0.8f}};
    const int bottom = CURVE_H - CURVE_BOTTOM - 1;
    const int tall = bottom - 16;
    const int left = CURVE_LEFT + 30;
    const int part = (CURVE_W - left - 50) / (count - 1);
    double least = 1;
    char label[16];
    gan_real *image = (gan_real *)malloc(sizeof *image * 3 * CURVE_W * CURVE_H);
    for (int i = 0; i < 3 * CURVE_W * CURVE_H; i++)
        image[i] = 1;
    for (int i = 0; i < count * WAYS; i++)
        least = fmin(least, value[i / WAYS][i % WAYS]);
    least = floor(least * 9.99) / 10;
    for (int tick = 0; tick <= 4; tick++) {
        int y = bottom - tick * tall / 4;
        for (int x = CURVE_LEFT; x < CURVE_W; x++)
            dot(image, x, y, grey);
        snprintf(label, sizeof label, "%.2f", least + (1 - least) * tick / 4);
        text(image, 0, y - 4, label, grey);
    }
    for (int i = 0; i < count; i++) {
        snprintf(label, sizeof label, "%d", labels[i]);
        text(image, left + i * part - 4, CURVE_H - 14, label, grey);
    }
    for (int way = 0; way < WAYS; way++) {
        snprintf(label, sizeof label, "%d", way + 1);
        text(image, CURVE_W - 120 + 20 * way, bottom - 24, label, colour[way]);
        for (int x = 0; x <= part * (count - 1); x++) {
            int i = x / part < count - 1 ? x / part : count - 2;
            int size = (x + 3) % part > 6 ? 1 : 3; /* thick at what was measured */
            double v = value[i][way] + (value[i + 1][way] - value[i][way]) * (x - i * part) / part;
            for (int d = -size; d <= size; d++)
                dot(image, left + x, bottom - (int)((v - least) / (1 - least) * tall) + d,
                    colour[way]);
        }
    }
    draw(gan_from_host(g, image, 1, 3, CURVE_H, CURVE_W), 1, o, "curve.png");
    free(image);
}
#endif

enum { BUDGETS = 4, ROUNDS = 32 };

int main(int argc, char **argv)
{
    options o = {
        .out = "out/13_augment", .steps = 600, .batch = 32, .quick_steps = 4, .quick_batch = 8};
    int labels[BUDGETS] = {5, 10, 20, 50};
    int budgets = BUDGETS;
    int rounds = 3;
    const flag own[] = {
        {"--rounds", 'i', &rounds, "seeds that the median is of, at most 32"},
        {"--lessons", 'i', &lessons, "a classifier's steps"},
        {"--guesses", 's', &guesses, "the GAN learns from all images, labelled by classifier 2"},
        {NULL, 0, NULL, NULL}};
    parse(argc, argv, &o, "13_augment: a GAN's images help a classifier that has few labels", own);
    if (o.quick) {
        budgets = 2;
        rounds = 2;
        lessons = 4;
        width = 8;
        test_count = 100;
    }
    rounds = rounds > ROUNDS ? ROUNDS : rounds;

    gan *book = open_device(&o); /* keeps the table; its steps are experiments */
    gan_tensor *table = gan_param(gan_model_new(book, "table"), "accuracy", BUDGETS, WAYS, ROUNDS,
                                  1);
    gan_real all[BUDGETS][WAYS][ROUNDS] = {{{0}}};
    double median[BUDGETS][WAYS] = {{0}};
    double result[WAYS];
    int first = resume_from(book, &o);
    if (first)
        gan_to_host(table, &all[0][0][0]);
    FILE *log = fopen(in_folder(&o, "log.csv"), "w");
    if (!log) {
        perror(o.out);
        exit(1);
    }
    fprintf(log, "round,labels,alone,shifted,GAN,guesses\n");
    for (int done = 0; done < rounds * budgets; done++) {
        int round = done / budgets;
        int b = done % budgets;
        if (done >= first) {
            experiment(&o, labels[b], round, result);
            for (int way = 0; way < WAYS; way++)
                all[b][way][round] = (gan_real)result[way];
            gan_set(table, &all[0][0][0]);
            save_all(book, &o, done + 1);
        }
        double v[WAYS];
        for (int way = 0; way < WAYS; way++)
            v[way] = (double)all[b][way][round];
        fprintf(log, "%d,%d,%.4f,%.4f,%.4f,%.4f\n", round, labels[b], v[0], v[1], v[2], v[3]);
        printf("round %d, %2d labels a class: alone %.4f, shifted %.4f, GAN %.4f, guesses %.4f\n",
               round, labels[b], v[0], v[1], v[2], v[3]);
        fflush(log);
        fflush(stdout);
    }
    fclose(log);
    printf("\nmedian of %d\nlabels a class", rounds);
    for (int way = 0; way < WAYS; way++)
        printf(" %10s", way_name[way]);
    for (int b = 0; b < budgets; b++) {
        printf("\n%14d", labels[b]);
        for (int way = 0; way < WAYS; way++) {
            gan_real *of = all[b][way];
            qsort(of, (size_t)rounds, sizeof *of, by_size);
            median[b][way] = (double)(of[(rounds - 1) / 2] + of[rounds / 2]) / 2;
            printf(" %10.4f", median[b][way]);
        }
    }
    printf("\n");
#ifdef INCLUDE_STB_IMAGE_WRITE_H
    save_curve(book, labels, median, budgets, &o);
#endif
    gan_close(book);
    return 0;
}
