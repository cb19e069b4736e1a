/* 11_style_mixing: what the layers of a trained StyleGAN decide, shown without training. Each
   layer can take a w of its own, so two pictures can be crossed: the shape of one, the colours
   of the other. Karras et al. 2019 (style mixing, truncation, noise), 2020.

   Run:      make 11_style_mixing    or
             cc -O2 examples/11_style_mixing.c -o mixing -lm -pthread && ./mixing
   Data:     --data weights that 10_stylegan left (out/10_stylegan/generator.safetensors); without
             it those that come along, examples/10_stylegan.safetensors
   Leaves:   out/11_style_mixing/    mixing.png, one-style.png, truncation.png, noise.png,
                                     journey.gif, log.csv (the numbers it prints)
   Time:     seconds on a CPU

   mixing.png is the paper's table: sources A along the top, sources B down the left side. In the
   first rows each picture is A with the coarse styles of B (4x4 and 8x8), and has B's head; then
   with the middle ones (16x16); then with the fine ones (32x32), and it is A in B's colours.
   --seed chooses other sources; --steps does nothing here. */
#include "stylegan.h"

static int side;                  /* of the picture */
static int layers;                /* that take a style */
static int coarse_end;            /* the first layer that is not coarse */
static int middle_end;            /* the first one that is fine */
static float psi = 0.85f;         /* truncation */
static float strength = 1;        /* of the noise */
static gan_tensor *still[STYLES]; /* noise (1,1,S,S) of each layer, the same for all pictures */

/* ---- styles on the host: ws (N,LATENT,layers), so that any layer of any picture can take any w */

/* The layers from .. to-1 of picture i take style w (LATENT). */
static void set_style(gan_real *ws, int i, int from, int to, const gan_real *w)
{
    for (int c = 0; c < LATENT; c++)
        for (int k = from; k < to; k++)
            ws[(i * LATENT + c) * layers + k] = w[c];
}

static gan_real *new_styles(int n)
{
    return (gan_real *)calloc((size_t)(n * LATENT * layers), sizeof(gan_real));
}

/* n new w's in host memory, truncated: (n,LATENT). */
static gan_real *new_w(gan *g, gan_model *G, int n, float towards)
{
    gan_real *w = (gan_real *)malloc(sizeof *w * (size_t)(n * LATENT));
    gan_to_host(truncate_w(G, mapping(G, gan_randn(g, n, LATENT, 1, 1)), towards), w);
    return w;
}

/* The n pictures of those styles, which are freed: (n,3,side,side). */
static gan_tensor *paint(gan *g, gan_model *G, gan_real *ws, int n, gan_tensor **noise)
{
    gan_tensor *x = synthesis(G, gan_from_host(g, ws, n, LATENT, layers, 1), side, 1, noise);
    free(ws);
    return gan_clamp(x, -1, 1);
}

static gan_tensor *larger(gan_tensor *x, int times)
{
    return gan_resize(x, times * x->h, times * x->w, GAN_NEAREST);
}

/* x (N,..) with its first picture white: the corner of a table. */
static gan_tensor *white_corner(gan *g, gan_tensor *x)
{
    return gan_concat(gan_full(g, 1, 1, 3, x->h, x->w), gan_slice(x, 0, 1, x->n - 1), 0);
}

/* ---- the pictures */

/* Sources A along the top, sources B down the left side, three times: inside, A with the coarse
   styles of B, then with the middle ones, then with the fine ones. */
static void mixing_table(gan *g, gan_model *G, int columns, int rows, const options *o)
{
    const int from[3] = {0, coarse_end, middle_end};
    const int to[3] = {coarse_end, middle_end, layers};
    int across = columns + 1;
    int n = across * (3 * rows + 1);
    gan_real *a = new_w(g, G, columns, psi);
    gan_real *b = new_w(g, G, rows, psi);
    gan_real *ws = new_styles(n);
    for (int y = 0; y < 3 * rows + 1; y++)
        for (int x = 0; x < across; x++) {
            if (x > 0)
                set_style(ws, y * across + x, 0, layers, a + (x - 1) * LATENT);
            if (x == 0 && y > 0)
                set_style(ws, y * across, 0, layers, b + (y - 1) % rows * LATENT);
            if (x > 0 && y > 0)
                set_style(ws, y * across + x, from[(y - 1) / rows], to[(y - 1) / rows],
                          b + (y - 1) % rows * LATENT);
        }
    draw(larger(white_corner(g, paint(g, G, ws, n, still)), 2), across, o, "mixing.png");
    free(a);
    free(b);
}

/* Each row: one w for the middle and fine layers, a new one for the coarse layers of each
   picture. */
static void one_style(gan *g, gan_model *G, int columns, int rows, const options *o)
{
    gan_real *style = new_w(g, G, rows, psi);
    gan_real *shape = new_w(g, G, rows * columns, psi);
    gan_real *ws = new_styles(rows * columns);
    for (int i = 0; i < rows * columns; i++) {
        set_style(ws, i, 0, coarse_end, shape + i * LATENT);
        set_style(ws, i, coarse_end, layers, style + i / columns * LATENT);
    }
    draw(larger(paint(g, G, ws, rows * columns, still), 2), columns, o, "one-style.png");
    free(style);
    free(shape);
}

/* Each row one w, from the mean picture (psi 0) to itself (psi 1). */
static void truncation(gan *g, gan_model *G, int columns, int rows, const options *o)
{
    gan_real *w = new_w(g, G, rows, 1);
    gan_real *ws = new_styles(rows * columns);
    gan_real mean[LATENT];
    gan_real towards[LATENT];
    gan_to_host(mean_w(G), mean);
    for (int i = 0; i < rows * columns; i++) {
        gan_real t = (gan_real)(i % columns) / (gan_real)(columns - 1);
        for (int c = 0; c < LATENT; c++)
            towards[c] = mean[c] + t * (w[i / columns * LATENT + c] - mean[c]);
        set_style(ws, i, 0, layers, towards);
    }
    draw(larger(paint(g, G, ws, rows * columns, still), 2), columns, o, "truncation.png");
    free(w);
}

/* Each row one w: without noise, with columns-2 different noises, and how much each pixel
   differs between those, its mean a quarter of white. */
static void noise_rows(gan *g, gan_model *G, int columns, int rows, const options *o)
{
    gan_real *w = new_w(g, G, rows, psi);
    gan_tensor *none[STYLES], *drawn[STYLES], *row[8];
    int n = columns - 2;
    double mean = 0;
    for (int y = 0; y < rows; y++) {
        gan_real *one = new_styles(1);
        gan_real *many = new_styles(n);
        set_style(one, 0, 0, layers, w + y * LATENT);
        for (int i = 0; i < n; i++)
            set_style(many, i, 0, layers, w + y * LATENT);
        for (int k = 0; k < layers; k++) {
            none[k] = gan_mul_scalar(still[k], 0);
            drawn[k] = gan_mul_scalar(gan_randn(g, n, 1, still[k]->h, still[k]->w), strength);
        }
        gan_tensor *off = paint(g, G, one, 1, none);
        gan_tensor *on = paint(g, G, many, n, drawn);
        gan_tensor *difference = gan_sub(on, gan_mean_to(on, 1, 3, side, side));
        gan_tensor *variance = gan_mean_to(gan_square(difference), 1, 3, side, side);
        gan_tensor *deviation = gan_sqrt(gan_add_scalar(variance, 1e-12f));
        gan_tensor *in_means = gan_div(deviation, gan_mul_scalar(gan_mean(deviation), 2));
        gan_tensor *map = gan_add_scalar(in_means, -1);
        gan_tensor *parts[3] = {off, on, gan_clamp(map, -1, 1)};
        row[y] = gan_concat_all(parts, 3, 0);
        mean += (double)gan_item(gan_mean(deviation)) / rows;
    }
    draw(larger(gan_concat_all(row, rows, 0), 2), columns, o, "noise.png");
    printf("noise moves a pixel by %.4f, where black to white is 2\n", mean);
    free(w);
}

/* A way through stops w's and back to the first, frames frames from one to the next. */
static void journey(gan *g, gan_model *G, int stops, int frames, const options *o)
{
    gan_real *w = new_w(g, G, stops, psi);
    gan_real *ws = new_styles(stops * frames);
    gan_real between[LATENT];
    for (int i = 0; i < stops * frames; i++) {
        const gan_real *from = w + i / frames * LATENT;
        const gan_real *to = w + (i / frames + 1) % stops * LATENT;
        gan_real t = (gan_real)(i % frames) / (gan_real)frames;
        t = t * t * (3 - 2 * t); /* slow at the stops */
        for (int c = 0; c < LATENT; c++)
            between[c] = from[c] + t * (to[c] - from[c]);
        set_style(ws, i, 0, layers, between);
    }
    save_gif(larger(paint(g, G, ws, stops * frames, still), 3), 8, o, "journey.gif");
    free(w);
}

/* ---- the numbers: what changes when some layers of a picture take another's style */

/* How bright each pixel is: x (N,3,S,S) -> (N,1,S,S). */
static gan_tensor *luminance(gan *g, gan_tensor *x)
{
    const gan_real parts[3] = {0.299f, 0.587f, 0.114f};
    return gan_sum_to(gan_mul(x, gan_from_host(g, parts, 1, 3, 1, 1)), x->n, 1, x->h, x->w);
}

/* Outlines: how much luminance changes from a pixel to the next, blurred, in units of its mean
   over the picture, so that a strong contrast and a weak one count alike: (N,1,S-1,S-1). */
static gan_tensor *outlines(gan *g, gan_tensor *x)
{
    int s = x->h - 1;
    gan_tensor *y = luminance(g, x);
    gan_tensor *top = gan_slice(y, 2, 0, s);
    gan_tensor *here = gan_slice(top, 3, 0, s);
    gan_tensor *right = gan_sub(gan_slice(top, 3, 1, s), here);
    gan_tensor *below = gan_sub(gan_slice(gan_slice(y, 2, 1, s), 3, 0, s), here);
    gan_tensor *steep = gan_avg_pool2d(gan_add(gan_abs(right), gan_abs(below)), 3, 1, 1);
    return gan_div(steep, gan_add_scalar(gan_mean_to(steep, x->n, 1, 1, 1), 1e-6f));
}

static double shape_change(gan *g, gan_tensor *a, gan_tensor *b)
{
    return (double)gan_item(gan_l1(outlines(g, a), outlines(g, b)));
}

/* The difference of x - luminance(x), averaged with weights max(0, 1 - 4 |difference of
   luminance|): over places that stayed as bright as they were, for a place that became hair has
   changed its colour without telling anything about colours. */
static double colour_change(gan *g, gan_tensor *a, gan_tensor *b)
{
    gan_tensor *la = luminance(g, a);
    gan_tensor *lb = luminance(g, b);
    gan_tensor *weight = gan_relu(gan_add_scalar(gan_mul_scalar(gan_abs(gan_sub(la, lb)), -4), 1));
    gan_tensor *chroma = gan_abs(gan_sub(gan_sub(a, la), gan_sub(b, lb)));
    chroma = gan_sum_to(chroma, a->n, 1, a->h, a->w);
    gan_tensor *all_weights = gan_add_scalar(gan_sum(weight), 1e-6f);
    return (double)gan_item(gan_div(gan_sum(gan_mul(weight, chroma)), all_weights));
}

static void print_changes(gan *g, gan_model *G, int pairs, const options *o)
{
    const char *const name[4] = {"coarse", "middle", "fine", "all"};
    const int from[4] = {0, coarse_end, middle_end, 0};
    const int to[4] = {coarse_end, middle_end, layers, layers};
    gan_real *a = new_w(g, G, pairs, psi);
    gan_real *b = new_w(g, G, pairs, psi);
    gan_real *ws = new_styles(pairs);
    double shape[4], colour[4];
    FILE *file = fopen(in_folder(o, "log.csv"), "w");
    if (!file) {
        perror(o->out);
        exit(1);
    }
    for (int i = 0; i < pairs; i++)
        set_style(ws, i, 0, layers, a + i * LATENT);
    gan_tensor *before = paint(g, G, ws, pairs, still);
    for (int band = 0; band < 4; band++) {
        ws = new_styles(pairs);
        for (int i = 0; i < pairs; i++) {
            set_style(ws, i, 0, layers, a + i * LATENT);
            set_style(ws, i, from[band], to[band], b + i * LATENT);
        }
        gan_tensor *after = paint(g, G, ws, pairs, still);
        shape[band] = shape_change(g, before, after);
        colour[band] = colour_change(g, before, after);
    }
    fprintf(file, "styles,first,last,shape,colour\n");
    printf("Of what another w changes, so much is changed by some layers' styles alone "
           "(%d pairs):\n"
           "styles   layers   shape   colour\n",
           pairs);
    for (int band = 0; band < 4; band++) {
        printf("%-8s %d to %d   %4.0f%%   %5.0f%%\n", name[band], from[band], to[band] - 1,
               100 * shape[band] / shape[3], 100 * colour[band] / colour[3]);
        fprintf(file, "%s,%d,%d,%g,%g\n", name[band], from[band], to[band] - 1, shape[band],
                colour[band]);
    }
    if (fclose(file) != 0) {
        perror(o->out);
        exit(1);
    }
    free(a);
    free(b);
}

/* The generator of a file: its side and width are read off its parameters. */
static gan_model *open_generator(gan *g, const options *o)
{
    char name[32];
    gan_model *G = gan_model_new(g, "G");
    const char *path = o->data ? o->data : "examples/10_stylegan.safetensors";
    if (!gan_load(G, path)) {
        if (o->data)
            fail();
        printf("weights: %s; a generator that learned nothing takes its place\n", gan_error());
        side = 16;
        width = 8;
    } else {
        if (!gan_find_param(G, "constant")) {
            fprintf(stderr, "%s: no generator of 10_stylegan: it lacks \"constant\"\n", path);
            exit(1);
        }
        side = 2;
        do {
            side *= 2;
            snprintf(name, sizeof name, "rgb%d.weight", 2 * side);
        } while (gan_find_param(G, name));
        width = gan_find_param(G, "constant")->c;
    }
    layers = styles_of(side);
    return G;
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/11_style_mixing", .steps = 1, .batch = 64, .quick_steps = 1, .quick_batch = 4};
    int coarse = 0, middle = 0;
    const flag own[] = {
        {"--psi", 'f', &psi, "truncation of all sources"},
        {"--noise", 'f', &strength, "how many times as strong as learned the noise is"},
        {"--coarse", 'i', &coarse, "how many of the first layers are coarse"},
        {"--middle", 'i', &middle, "how many of the next are middle"},
        {NULL, 0, NULL, NULL}};
    const char *about = "11_style_mixing: the layers of a trained StyleGAN, crossed; --batch: "
                        "pairs for the numbers";
    parse(argc, argv, &o, about, own);

    gan *g = open_device(&o);
    gan_model *G = open_generator(g, &o);
    int few = o.quick ? 1 : 3;                       /* --quick paints fewer of everything */
    coarse_end = coarse ? coarse : 3;                /* 4x4 and 8x8 */
    middle_end = coarse_end + (middle ? middle : 2); /* 16x16 */
    if (middle_end >= layers) {
        fprintf(stderr, "%d layers: none is left for fine styles\n", layers);
        exit(2);
    }

    for (int k = 0, s = 4; k < layers - 1; k++) {
        still[k] = gan_mul_scalar(gan_randn(g, 1, 1, s, s), strength);
        if (k % 2 == 0)
            s *= 2;
    }
    still[layers - 1] = still[0]; /* the last style is that of an RGB layer, which takes no noise */
    gan_mark mark = gan_here(g);
    mixing_table(g, G, o.quick ? 2 : 7, few, &o);
    gan_clear_to(g, mark);
    one_style(g, G, o.quick ? 2 : 12, o.quick ? 2 : 5, &o);
    gan_clear_to(g, mark);
    truncation(g, G, o.quick ? 3 : 9, o.quick ? 1 : 5, &o);
    gan_clear_to(g, mark);
    noise_rows(g, G, o.quick ? 4 : 8, o.quick ? 1 : 4, &o);
    gan_clear_to(g, mark);
    journey(g, G, o.quick ? 2 : 6, o.quick ? 2 : 10, &o);
    gan_clear_to(g, mark);
    print_changes(g, G, o.batch, &o);
    printf("the table: %s/mixing.png\n", o.out);
    gan_close(g);
    return 0;
}
