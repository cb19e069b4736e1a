/* 03_conditional: a generator that draws the digit it is asked for. Three ways to tell a GAN
   which class it is about, by --kind:

     concat       the class is one more input of both networks (Mirza and Osindero 2014:
                  conditional GAN)
     acgan        the discriminator also names the class, and the generator is paid for being named
                  rightly (Odena et al. 2017: AC-GAN)
     projection   the discriminator's last layer is one of ten, chosen by the class (Miyato and
                  Koyama 2018)
     all          the three in turn, and one table of them

   New since 01: labels y beside the images x, and gan_one_hot, gan_embedding and
   gan_cross_entropy that work on them; the shipped classifier names the digit that was drawn. R1,
   the average of the generator's weights and the falling learning rate are 01's.

   Run:      make 03_conditional     projection; all three and one table: ARGS="--kind all"
   Data:     --data FOLDER with MNIST's four files, or "digits"; without it data/mnist, or else the
             built-in digits
   Time:     228 s of one core; two cores take less
   Leaves:   out/03_conditional/     samples-NNNNN.png (a class a row, a z a column: clean digits
                                     after 3,000 steps), losses.png, log.csv, table.csv,
                                     state.safetensors, generator.safetensors (half precision); with
                                     --kind all a folder of each kind, and table.csv */
#include "digits.h"
#include "zoo.h"

enum { CONCAT, ACGAN, PROJECTION, KINDS };

static const char *const kind_name[KINDS] = {"concat", "acgan", "projection"};

static int kind = PROJECTION;
static int width = 32;
static int settling = 20; /* batches for batch norm's statistics */

/* z (N,64,1,1), y (N,1,1,1) -> (N,1,28,28) */
static gan_tensor *generator(gan_model *G, gan_tensor *z, gan_tensor *y)
{
    return digits_of_class(G, z, y, width);
}

/* x (N,1,28,28), y (N,1,1,1) -> (N,1,1,1): above 0 it believes that x is a real image of class y.
   AC-GAN's does not see y: it believes that x is real, and leaves in *classes (N,10,1,1) which
   class it takes it for.

     concat       psi(phi(x, y)), y as ten maps of which one is white
     projection   psi(phi(x)) + <v[y], phi(x)> / sqrt(dimensions of phi): digits_projection */
static gan_tensor *discriminator(gan_model *D, gan_tensor *x, gan_tensor *y, gan_tensor **classes)
{
    if (kind == CONCAT)
        x = gan_concat(x, gan_expand(gan_one_hot(y, 10), x->n, 10, 28, 28), 1); /* (N,11,28,28) */
    gan_tensor *phi = digits_features(D, x, width);                             /* (N,64,1,1) */
    if (kind == ACGAN)
        *classes = gan_linear(D, "classes", phi, 10);
    return kind == PROJECTION ? digits_projection(D, phi, y) : gan_linear(D, "psi", phi, 1);
}

/* (n,1,1,1): the classes first, first+1, ... in turn, each so many times in a row. */
static gan_tensor *in_turn(gan *g, int n, int first, int times)
{
    gan_real *y = (gan_real *)malloc((size_t)n * sizeof *y);
    for (int i = 0; i < n; i++)
        y[i] = (gan_real)((first + i / times) % 10);
    gan_tensor *labels = gan_from_host(g, y, n, 1, 1, 1);
    free(y);
    return labels;
}

/* Puts G into evaluation mode, with batch norm's running mean and variance measured anew: G is an
   average of weights, and no batch has gone through these weights yet. A few batches do. */
static void settle(gan *g, gan_model *G)
{
    gan_train(G);
    for (int i = 0; i < settling; i++) {
        gan_mark mark = gan_here(g);
        generator(G, gan_randn(g, 100, 64, 1, 1), in_turn(g, 100, 0, 1));
        gan_clear_to(g, mark);
    }
    gan_eval(G);
}

/* A class a row, a z a column: what the ten digits of a column share is what z holds beside the
   class. */
static void save_samples(gan *g, gan_model *G, const gan_real *noise, int step, const options *o)
{
    char name[64];
    snprintf(name, sizeof name, "samples-%05d.png", step);
    settle(g, G);
    gan_tensor *z = gan_expand(gan_from_host(g, noise, 1, 20, 64, 1), 10, 20, 64, 1);
    draw(generator(G, gan_reshape(z, 200, 64, 1, 1), in_turn(g, 200, 0, 20)), 20, o, name);
    gan_train(G);
}

/* Sources for zoo_measure: images drawn for the classes in turn, and images of the data. */
typedef struct {
    gan_model *G;
    gan_data *data;
    int at;
} source;

static gan_tensor *drawn(gan *g, int n, void *user)
{
    source *s = (source *)user;
    gan_tensor *y = in_turn(g, n, s->at, 1);
    s->at += n;
    return generator(s->G, gan_randn(g, n, 64, 1, 1), y);
}

static gan_tensor *real_ones(gan *g, int n, void *user)
{
    (void)g;
    return gan_batch(((source *)user)->data, n, NULL);
}

/* row: how many percent of the images drawn for each of the ten classes, and of all, the shipped
   classifier puts into that class; and the Frechet distance of the n drawn to n of the data,
   which also suffers where the images of a class are too much alike. */
static void measure(gan *g, gan_model *G, gan_data *data, int n, double row[12])
{
    gan_model *classifier = zoo_classifier(g);
    if (!classifier) {
        printf("no table: %s\n", gan_error());
        return;
    }
    source s = {G, data, 0};
    gan_real *real = (gan_real *)malloc((size_t)n * 1010 * sizeof *real);
    gan_real *fake = real + (size_t)n * 500;
    gan_real *p = fake + (size_t)n * 500;
    zoo_measure(classifier, g, real_ones, &s, n, real, p);
    settle(g, G);
    zoo_measure(classifier, g, drawn, &s, n, fake, p);
    for (int i = 0; i < n; i++) {
        int best = 0;
        for (int k = 1; k < 10; k++)
            best = p[10 * i + k] > p[10 * i + best] ? k : best;
        if (best == i % 10) {
            row[best] += 1000.0 / n;
            row[10] += 100.0 / n;
        }
    }
    row[11] = gan_frechet_distance(real, n, fake, n, 500);
    free(real);
}

static void train(const options *o, double row[12])
{
    const float lr = 2e-3f;
    gan *g = open_device(o);
    gan_model *G = gan_model_new(g, "G");
    gan_model *D = gan_model_new(g, "D");
    gan_model *average = gan_model_new(g, "average");
    gan_opt *opt_g = gan_adam(G, lr, 0, 0.99f);
    gan_opt *opt_d = gan_adam(D, lr, 0, 0.99f);
    gan_data *data = open_digits(g, o);
    gan_real noise[20 * 64];
    gan_to_host(gan_randn(g, 20, 64, 1, 1), noise);

    int first = resume_from(g, o);
    int every = o->steps / 10 > 500 ? 500 : o->steps / 10 > 0 ? o->steps / 10 : 1;
    gan_progress *log = gan_progress_open(g, in_folder(o, "log.csv"), "D,G", first, o->steps,
                                          o->batch);
    if (!log)
        fail();

    for (int step = first; step < o->steps; step++) {
        gan_set_lr(opt_g, gan_lr_linear(lr, step, 0, o->steps));
        gan_set_lr(opt_d, gan_lr_linear(lr, step, 0, o->steps));

        gan_tensor *y;
        gan_tensor *real = gan_batch(data, o->batch, &y);
        gan_tensor *fake = generator(G, gan_randn(g, o->batch, 64, 1, 1), y);
        gan_tensor *named_real = NULL;
        gan_tensor *named_fake = NULL;
        gan_tensor *a = discriminator(D, real, y, &named_real);
        gan_tensor *b = discriminator(D, gan_detach(fake), y, &named_fake);
        gan_tensor *d_loss = gan_d_loss(a, b, GAN_NON_SATURATING);
        if (kind == ACGAN)
            d_loss = gan_add(d_loss, gan_add(gan_cross_entropy(named_real, y),
                                             gan_cross_entropy(named_fake, y)));
        gan_tensor *d_loss_and_r1 = d_loss;
        if (step % 16 == 0)
            d_loss_and_r1 = gan_add(d_loss, gan_mul_scalar(gan_r1(a, real), 8));
        gan_minimize(opt_d, d_loss_and_r1);

        gan_tensor *g_loss = gan_g_loss(NULL, discriminator(D, fake, y, &named_fake),
                                        GAN_NON_SATURATING);
        if (kind == ACGAN)
            g_loss = gan_add(g_loss, gan_mul_scalar(gan_cross_entropy(named_fake, y), 0.1f));
        gan_minimize(opt_g, g_loss);
        gan_ema(average, G, gan_ema_decay(step, o->batch, 10000, 0.05f));

        gan_progress_step(log, step, (double)gan_item(d_loss), (double)gan_item(g_loss));
        if (step == 0) {
            gan_summary(G);
            gan_summary(D);
        }
        gan_clear(g);
        if ((step + 1) % every == 0 || step + 1 == o->steps) {
            if (!o->quick || step + 1 == o->steps)
                save_samples(g, average, noise, step + 1, o);
            gan_clear(g);
            save_all(g, o, step + 1);
        }
    }
    gan_progress_close(log);
    if (!gan_save_f16(average, in_folder(o, "generator.safetensors")))
        fail();
    draw_curves(g, o);
    measure(g, average, data, o->quick ? 20 : 5000, row);
    gan_close(g);
}

int main(int argc, char **argv)
{
    options o = {.out = "out/03_conditional",
                 .steps = 5000,
                 .batch = 64,
                 .quick_steps = 5,
                 .quick_batch = 8};
    const char *kinds = NULL;
    const flag own[] = {{"--kind", 't', &kinds, "concat, acgan, projection or all"},
                        {"--width", 'i', &width, "channels of the 14x14 maps"},
                        {NULL, 0, NULL, NULL}};
    parse(argc, argv, &o, "03_conditional: a GAN draws the digit it is asked for", own);
    if (o.quick) {
        width = 8;
        settling = 1;
    }
    if (!kinds)
        kinds = o.quick ? "all" : "projection";
    bool all = strcmp(kinds, "all") == 0;
    kind = 0;
    while (!all && kind < KINDS && strcmp(kind_name[kind], kinds) != 0)
        kind++;
    if (kind == KINDS) {
        fprintf(stderr, "--kind %s: concat, acgan, projection or all is wanted\n", kinds);
        exit(2);
    }

    double row[KINDS][12] = {{0}};
    int from = all ? 0 : kind;
    int to = all ? KINDS : kind + 1;
    for (kind = from; kind < to; kind++) {
        options one = o;
        char folder[512];
        snprintf(folder, sizeof folder, all ? "%s/%s" : "%s", o.out, kind_name[kind]);
        one.out = folder;
        train(&one, row[kind]);
    }

    FILE *table = fopen(in_folder(&o, "table.csv"), "w");
    if (!table) {
        perror(o.out);
        exit(1);
    }
    fprintf(table, "kind,0,1,2,3,4,5,6,7,8,9,all,frechet\n");
    const char *const columns =
        "               0     1     2     3     4     5     6     7     8     9    all  Frechet";
    printf("\nin percent, the images that the shipped classifier puts into the class that they "
           "were drawn for; the Frechet distance\n%s",
           columns);
    for (kind = from; kind < to; kind++) {
        fprintf(table, "%s", kind_name[kind]);
        printf("\n%-11s", kind_name[kind]);
        for (int k = 0; k < 12; k++) {
            fprintf(table, ",%.2f", row[kind][k]);
            printf(k < 11 ? " %5.1f" : " %8.2f", row[kind][k]);
        }
        fprintf(table, "\n");
    }
    printf("\n");
    fclose(table);
    return 0;
}
