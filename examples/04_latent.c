/* 04_latent: what lies between two digits. A trained generator maps every point z of a
   100-dimensional space to a picture; here nothing is trained, and the space is explored.

   New:      interpolation in a straight line and along the sphere (Shoemake 1985; White 2016),
             directions with a meaning and arithmetic with them (Radford et al. 2016), inversion:
             the z of a given picture, by gradient descent on z (Zhu et al. 2016), and truncation:
             z nearer to 0 gives safer, less varied pictures (Brock et al. 2019).
   Run:      make 04_latent      or   cc -O2 examples/04_latent.c -o latent -lm -pthread && ./latent
   Reads:    examples/01_dcgan.safetensors, a generator that 01_dcgan trained, or that of --weights
             out/01_dcgan/generator.safetensors
   Data:     --data as in 01_dcgan: the real digits that are inverted
   Leaves:   out/04_latent/      between.png walk.gif directions.png inverted.png truncation.png
                                 log.csv table.csv
   Time:     20 seconds on two cores */
#include "digits.h"
#include "zoo.h"

enum { Z = 100, MOST = 9 };

static int across = MOST; /* pictures in a row; with --quick fewer */

typedef gan_real latent[Z];

/* 01_dcgan's: z (N,100,1,1) -> (N,1,28,28) in [-1,1] */
static gan_tensor *generator(gan_model *G, gan_tensor *z)
{
    return digits_generator(G, z, 64);
}

/* The n pictures of z: (n,1,28,28) */
static gan_tensor *pictures(gan *g, gan_model *G, latent *z, int n)
{
    return generator(G, gan_from_host(g, z[0], n, Z, 1, 1));
}

/* n random z, N(0,1). */
static void normal(gan *g, latent *z, int n)
{
    gan_to_host(gan_randn(g, n, Z, 1, 1), z[0]);
}

static double dot_product(const latent a, const latent b)
{
    double sum = 0;
    for (int i = 0; i < Z; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

/* z = wa a + wb b */
static void mix(latent z, double wa, const latent a, double wb, const latent b)
{
    for (int i = 0; i < Z; i++)
        z[i] = (gan_real)(wa * a[i] + wb * b[i]);
}

/* Along the great circle from a (t = 0) to b (t = 1): sin((1-t)w)/sin(w) a + sin(tw)/sin(w) b, w
   the angle between them. In 100 dimensions nearly all of a normal distribution lies at a
   distance of about 10 from 0; the straight line cuts through the inside, where G has seen
   nothing. */
static void slerp(latent z, double t, const latent a, const latent b)
{
    double w = acos(dot_product(a, b) / sqrt(dot_product(a, a) * dot_product(b, b)));
    mix(z, sin((1 - t) * w) / sin(w), a, sin(t * w) / sin(w), b);
}

/* ---- 1. between two digits: a straight line above, the sphere below */

static void between(gan *g, gan_model *G, const options *o)
{
    latent z[6 * MOST], ends[6];
    int rows = o->quick ? 2 : 6;
    normal(g, ends, 6);
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < across; i++) {
            double t = (double)i / (across - 1);
            int pair = row / 2 * 2;
            if (row % 2)
                slerp(z[row * across + i], t, ends[pair], ends[pair + 1]);
            else
                mix(z[row * across + i], 1 - t, ends[pair], t, ends[pair + 1]);
        }
    draw(pictures(g, G, z, rows * across), across, o, "between.png");
    double middle = sqrt(dot_product(z[across / 2], z[across / 2]));
    double sphere = sqrt(dot_product(z[across + across / 2], z[across + across / 2]));
    printf("half way between two z: length %.1f on the line, %.1f on the sphere\n", middle, sphere);

    int frames = o->quick ? 4 : 60; /* a closed path through five of them */
    latent *path = (latent *)malloc(sizeof(latent) * (size_t)frames);
    for (int i = 0; i < frames; i++) {
        double at = 5.0 * i / frames;
        slerp(path[i], at - (int)at, ends[(int)at], ends[((int)at + 1) % 5]);
    }
    save_gif(gan_resize(pictures(g, G, path, frames), 112, 112, GAN_NEAREST), 8, o, "walk.gif");
    free(path);
}

/* ---- 2. directions: the mean z of pictures that have something, less the mean z of those that
   lack it */

enum { INK, SLANT, ATTRIBUTES };

typedef struct {
    int count;
    latent *z;
    double (*attribute)[ATTRIBUTES];
    int *class_of;
} sample_set;

/* How much is white (the mean, 0 to 1), and how far the strokes lean to the right: covariance of
   column and height over the height's variance. */
static void measure(const gan_real *x, double attribute[ATTRIBUTES])
{
    double mass = 1e-9; /* of the strokes */
    double row = 0;     /* of the centre of mass */
    double column = 0;
    double both = 0;      /* covariance of column and height */
    double height = 1e-9; /* variance of the height */
    for (int i = 0; i < 784; i++) {
        mass += (x[i] + 1) / 2;
        row += (x[i] + 1) / 2 * (i / 28);
        column += (x[i] + 1) / 2 * (i % 28);
    }
    row /= mass;
    column /= mass;
    for (int i = 0; i < 784; i++) {
        double w = (x[i] + 1) / 2;
        both += w * (row - i / 28) * (i % 28 - column);
        height += w * (row - i / 28) * (row - i / 28);
    }
    attribute[INK] = mass / 784;
    attribute[SLANT] = both / height;
}

/* The logits of the shipped classifier for x (n,1,28,28) in [-1,1]: (n,10,1,1) */
static gan_tensor *logits_of(gan_model *classifier, gan_tensor *x)
{
    return zoo_lenet(classifier, gan_mul_scalar(gan_add_scalar(x, 1), (gan_real)0.5), NULL);
}

/* Measures the pictures of s->z: their attributes, and the class that the classifier sees. */
static void look_at(gan *g, gan_model *G, gan_model *classifier, sample_set *s)
{
    gan_real x[50 * 784], scores[50 * 10];
    for (int done = 0, some; done < s->count; done += some) {
        gan_mark mark = gan_here(g);
        some = s->count - done < 50 ? s->count - done : 50;
        gan_tensor *drawn = pictures(g, G, s->z + done, some);
        gan_to_host(drawn, x);
        gan_to_host(logits_of(classifier, drawn), scores);
        for (int i = 0; i < some; i++) {
            measure(x + 784 * i, s->attribute[done + i]);
            s->class_of[done + i] = 0;
            for (int k = 1; k < 10; k++)
                if (scores[10 * i + k] > scores[10 * i + s->class_of[done + i]])
                    s->class_of[done + i] = k;
        }
        gan_clear_to(g, mark);
    }
}

static sample_set sample(gan *g, int count)
{
    sample_set s;
    s.count = count;
    s.z = (latent *)malloc(sizeof(latent) * (size_t)count);
    s.attribute = (double(*)[ATTRIBUTES])malloc(sizeof(double) * ATTRIBUTES * (size_t)count);
    s.class_of = (int *)malloc(sizeof(int) * (size_t)count);
    normal(g, s.z, count);
    return s;
}

static void free_samples(sample_set *s)
{
    free(s->z);
    free(s->attribute);
    free(s->class_of);
}

/* The unit vector along which an attribute grows: sum over samples of (attribute - mean) z.
   which >= ATTRIBUTES: "is a 0", "is a 1" .. */
static void direction(const sample_set *s, int which, latent u)
{
    double mean = 0;
    memset(u, 0, sizeof(latent));
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < s->count; i++) {
            double value = which < ATTRIBUTES ? s->attribute[i][which]
                                              : s->class_of[i] == which - ATTRIBUTES;
            if (pass == 0)
                mean += value / s->count;
            else
                mix(u, 1, u, value - mean, s->z[i]);
        }
    mix(u, 1 / sqrt(dot_product(u, u) + 1e-30), u, 0, u);
}

/* Four digits pushed along four directions; and the same push given to many digits at once, in
   numbers. */
static void directions(gan *g, gan_model *G, gan_model *classifier, const options *o, FILE *table)
{
    static const int which[4] = {INK, SLANT, ATTRIBUTES + 0, ATTRIBUTES + 7};
    static const char *const name[4] = {"ink", "slant", "is a 0", "is a 7"};
    latent u, z[4 * MOST], start[4];
    int rows = o->quick ? 2 : 4;
    sample_set seen = sample(g, o->quick ? 8 : 2000);
    sample_set fresh = sample(g, o->quick ? 2 : 200);
    latent *from = (latent *)malloc(sizeof(latent) * (size_t)fresh.count);
    memcpy(from, fresh.z, sizeof(latent) * (size_t)fresh.count);
    look_at(g, G, classifier, &seen);
    normal(g, start, 4);

    printf("\n%d new digits pushed along a direction found in %d others\n%10s", fresh.count,
           seen.count, "");
    for (int push = -4; push <= 4; push += o->quick ? 4 : 2)
        printf("%8d", push);
    printf("\n");

    for (int d = 0; d < rows; d++) {
        direction(&seen, which[d], u);
        for (int i = 0; i < across; i++)
            mix(z[d * across + i], 1, start[d], i - across / 2, u);

        printf("%-10s", name[d]);
        fprintf(table, "%s", name[d]);
        for (int push = -4; push <= 4; push += o->quick ? 4 : 2) {
            double mean = 0;
            for (int i = 0; i < fresh.count; i++)
                mix(fresh.z[i], 1, from[i], push, u);
            look_at(g, G, classifier, &fresh);
            for (int i = 0; i < fresh.count; i++)
                mean += which[d] < ATTRIBUTES ? fresh.attribute[i][which[d]]
                                              : fresh.class_of[i] == which[d] - ATTRIBUTES;
            printf("%8.3f", mean / fresh.count);
            fprintf(table, ",%.4f", mean / fresh.count);
        }
        printf("\n");
        fprintf(table, "\n");
    }
    draw(pictures(g, G, z, rows * across), across, o, "directions.png");
    free_samples(&seen);
    free_samples(&fresh);
    free(from);
}

/* ---- 3. inversion: z = argmin |G(z) - x|^2 + 1e-3 |z|^2, from the best of many random z */

/* For each of x (n,1,28,28) the z of so many whose picture is nearest: (n,100,1,1) */
static gan_tensor *nearest_of(gan *g, gan_model *G, gan_tensor *x, int tries)
{
    latent *best = (latent *)calloc((size_t)x->n, sizeof(latent));
    latent *z = (latent *)malloc(sizeof(latent) * (size_t)x->n);
    gan_real *distance = (gan_real *)malloc(2 * sizeof *distance * (size_t)x->n);
    gan_real *least = distance + x->n;
    for (int t = 0; t < tries; t++) {
        gan_mark mark = gan_here(g);
        normal(g, z, x->n);
        gan_tensor *difference = gan_sub(pictures(g, G, z, x->n), x);
        gan_to_host(gan_mean_to(gan_square(difference), x->n, 1, 1, 1), distance);
        for (int i = 0; i < x->n; i++)
            if (t == 0 || distance[i] < least[i]) {
                least[i] = distance[i];
                memcpy(best[i], z[i], sizeof(latent));
            }
        gan_clear_to(g, mark);
    }
    gan_tensor *start = gan_from_host(g, best[0], x->n, Z, 1, 1);
    free(best);
    free(z);
    free(distance);
    return start;
}

static void invert(gan *g, gan_model *G, const options *o)
{
    gan_model *wanted = gan_model_new(g, "wanted"); /* one parameter: z */
    gan_opt *adam = gan_adam(wanted, 0.1f, 0.9f, 0.999f);
    gan_data *data = open_digits(g, o);
    gan_tensor *z = gan_param(wanted, "z", o->batch, Z, 1, 1);
    gan_tensor *x = gan_param(gan_model_new(g, "real"), "x", o->batch, 1, 28, 28);
    gan_real *host = (gan_real *)malloc(sizeof *host * 784 * (size_t)o->batch);
    gan_to_host(gan_batch(data, o->batch, NULL), host);
    gan_set(x, host);
    int first = resume_from(g, o);
    if (first == 0) {
        gan_to_host(nearest_of(g, G, x, o->quick ? 2 : 200), host);
        gan_set(z, host);
    }
    gan_progress *log = gan_progress_open(g, in_folder(o, "log.csv"), "mse", first, o->steps,
                                          o->batch);
    if (!log)
        fail();
    gan_clear(g);

    gan_tensor *before = generator(G, gan_detach(z));
    printf("\n");
    for (int step = first; step < o->steps; step++) {
        gan_mark mark = gan_here(g);
        gan_tensor *mse = gan_mse(generator(G, z), x);
        gan_tensor *loss = gan_add(mse, gan_mul_scalar(gan_mean(gan_square(z)), 1e-3f));
        gan_set_lr(adam, gan_lr_cosine(0.1f, step, o->steps));
        gan_minimize(adam, loss);
        gan_progress_step(log, step, (double)gan_item(mse));
        gan_clear_to(g, mark);
        if ((step + 1) % 100 == 0 || step + 1 == o->steps)
            save_all(g, o, step + 1);
    }
    gan_progress_close(log);
    gan_tensor *after = generator(G, z);
    printf("inverted: PSNR %.2f dB where the search began, %.2f dB at its end\n",
           gan_psnr(before, x, 2), gan_psnr(after, x, 2));
    draw(gan_concat(gan_concat(gan_detach(x), before, 0), after, 0), o->batch, o, "inverted.png");
    free(host);
}

/* ---- 4. truncation: psi z; how different the pictures are from each other, and how sure the
   classifier is */

static void truncate_z(gan *g, gan_model *G, gan_model *classifier, const options *o, FILE *table)
{
    enum { ROWS = 5, MANY = 100, MOST_COLUMNS = 12 };

    static const double psi[ROWS] = {0.3, 0.5, 0.7, 1, 1.5};
    int n = o->quick ? 2 : MANY;
    int columns = o->quick ? 2 : MOST_COLUMNS;
    latent z[MANY], some[MANY], shown[ROWS * MOST_COLUMNS];
    normal(g, z, n);
    printf("\n%8s%20s%22s\n", "psi", "between pictures", "surest class, mean");
    for (int row = 0; row < ROWS; row++) {
        gan_real p[MANY * 10];
        double sure = 0;
        for (int i = 0; i < n; i++)
            mix(some[i], psi[row], z[i], 0, z[i]);
        for (int i = 0; i < columns; i++)
            memcpy(shown[row * columns + i], some[i], sizeof(latent));
        /* The root mean square distance of a pixel in two of the pictures: of two independent
           numbers, E (a - b)^2 is twice the variance. */
        gan_tensor *x = pictures(g, G, some, n);
        gan_tensor *mean = gan_mean_to(x, 1, 1, 28, 28);
        gan_tensor *variance = gan_mean(gan_square(gan_sub(x, mean)));
        double spread = sqrt(2 * (double)gan_item(variance));

        gan_to_host(gan_softmax(logits_of(classifier, x), 1), p);
        for (int i = 0; i < n; i++) {
            gan_real most = 0;
            for (int k = 0; k < 10; k++)
                most = p[10 * i + k] > most ? p[10 * i + k] : most;
            sure += (double)most / n;
        }
        printf("%8.1f%20.3f%22.3f\n", psi[row], spread, sure);
        fprintf(table, "psi %.1f,%.4f,%.4f\n", psi[row], spread, sure);
    }
    draw(pictures(g, G, shown, ROWS * columns), columns, o, "truncation.png");
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/04_latent", .steps = 300, .batch = 9, .quick_steps = 4, .quick_batch = 2};
    const char *weights = "examples/01_dcgan.safetensors";
    const flag own[] = {{"--weights", 't', &weights,
                         "01_dcgan's generator.safetensors (examples/01_dcgan.safetensors)"},
                        {0}};
    parse(argc, argv, &o,
          "04_latent: between digits, along directions, back from a picture, nearer to 0", own);

    if (o.quick)
        across = 3;
    gan *g = open_device(&o);
    gan_model *G = gan_model_new(g, "G");
    gan_model *classifier = zoo_classifier(g);
    gan_eval(G);
    /* This makes the parameters, so that gan_load refuses the file of another network. */
    generator(G, gan_zeros(g, 1, Z, 1, 1));
    if (!classifier || !gan_load(G, weights))
        fail();
    gan_clear(g);
    FILE *table = fopen(in_folder(&o, "table.csv"), "w");
    if (!table) {
        perror("table.csv");
        exit(1);
    }

    between(g, G, &o);
    gan_clear(g);
    directions(g, G, classifier, &o, table);
    gan_clear(g);
    truncate_z(g, G, classifier, &o, table);
    gan_clear(g);
    invert(g, G, &o);
    if (fclose(table) != 0) {
        perror("table.csv");
        exit(1);
    }
    gan_close(g);
    return 0;
}
