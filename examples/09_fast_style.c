/* 09_fast_style: a network that paints. 08 spends hundreds of steps on one picture; here they
   are spent once, on the weights of a network that turns any photo into a painting in one pass.
   Johnson, Alahi and Fei-Fei 2016, Perceptual Losses for Real-Time Style Transfer. And with
   --any no training at all: any style in one pass, by moving the statistics of features. Huang
   and Belongie 2017 (AdaIN); Wang et al. 2023 (MicroAST).

   New since 08: the loss of 08, but the gradient goes on into a network's weights; instance
   norm; upsampling by repetition; AdaIN.

   Run:      make 09_fast_style        built-in shapes; with files, ARGS="..." with one of
               --data photos --style starry_night.jpg --net squeezenet1_1.safetensors
                   trains on a folder of photos for one painting
               --apply examples/painter.safetensors --data photo.jpg
                   paints with what was trained
               --any microast.safetensors --data photo.jpg --style a.jpg
                   any style, by MicroAST
               --any encoder.safetensors,decoder.safetensors --data photo.jpg --style a.jpg,b.jpg
                   --alpha 0.8    any style, by AdaIN
   Reads:    --data a folder of photos (training) or one photo, --style, --net and --kind as 08
   Leaves:   out/09_fast_style/        panel.png (photo, styles, painting); from a training also
                                       samples-NNNNN.png, painter.safetensors, log.csv,
                                       state.safetensors
   Time:     training with SqueezeNet 4 minutes of one core, on the built-in shapes as long; a
             photo of 512x384 0.13 s, by AdaIN at 256x172 0.4 s, by MicroAST at 512x340 0.3 s
   Expect:   after 250 steps already the strokes and colours of the painting on the things of the
             photo (09_fast_style.png, by the shipped painter); of the built-in shapes, blotches and
             stripes in the colours of the dark cloth

   examples/painter.safetensors paints as The Starry Night. It comes from the first command with
   the defaults (1,500 steps, batch 2, seed 42) on ten photos (CC0, public domain, and three by
   Aitzol Berasategi, CC BY 4.0): very few, but cut into random patches they are enough for
   strokes and colours.

   AdaIN(x, y) = sd(y) (x - m(x))/sd(x) + m(y), m and sd each channel's mean and deviation over
   places. With f the encoder, g the decoder, styles s_k:

     painting = g(alpha * sum of w_k AdaIN(f(photo), f(s_k)) + (1 - alpha) * f(photo)). */
#include <time.h>
#include "common.h"
#include "zoo.h"
#include "style.h"

enum { STYLES = 8 };

typedef struct {
    const char *style, *weights, *net, *kind, *apply, *any;
    int size, style_size, crop;
    float content, tv, lr, alpha;
} settings;

static gan_tensor *layer(gan_model *m, const char *conv, const char *norm, gan_tensor *x, int out,
                         int kernel, int stride)
{
    return gan_instance_norm(m, norm, zoo_conv(m, conv, x, out, kernel, stride));
}

/* x + two convolutions: what to change, not what to be. */
static gan_tensor *residual(gan_model *m, int i, gan_tensor *x)
{
    char name[4][16];
    for (int k = 0; k < 4; k++)
        snprintf(name[k], sizeof name[k], "res%d.%s%d", i, k % 2 ? "in" : "conv", k / 2 + 1);
    gan_tensor *y = gan_relu(layer(m, name[0], name[1], x, x->c, 3, 1));
    return gan_add(x, layer(m, name[2], name[3], y, x->c, 3, 1));
}

/* Johnson's network with fewer channels and three of the five residual blocks: (N,3,H,W) ->
   (N,3,H,W), in [0,1]; H and W multiples of 4. Instance norm takes each photo's own contrast
   away: the style has one of its own (Ulyanov et al. 2016). */
static gan_tensor *painter(gan_model *m, gan_tensor *x)
{
    x = gan_relu(layer(m, "conv1", "in1", x, 16, 5, 1));
    x = gan_relu(layer(m, "conv2", "in2", x, 32, 3, 2)); /* (N,32,H/2,W/2) */
    x = gan_relu(layer(m, "conv3", "in3", x, 48, 3, 2)); /* (N,48,H/4,W/4) */
    for (int i = 1; i <= 3; i++)
        x = residual(m, i, x);
    /* Repeated pixels, then a convolution: a transposed one leaves a chequerboard. */
    x = gan_resize(x, 2 * x->h, 2 * x->w, GAN_NEAREST);
    x = gan_relu(layer(m, "up1", "in4", x, 32, 3, 1)); /* (N,32,H/2,W/2) */
    x = gan_resize(x, 2 * x->h, 2 * x->w, GAN_NEAREST);
    x = gan_relu(layer(m, "up2", "in5", x, 16, 3, 1)); /* (N,16,H,W) */
    return gan_sigmoid(zoo_conv(m, "out", x, 3, 5, 1));
}

/* [-1,1] -> [0,1] */
static gan_tensor *unit(gan_tensor *x)
{
    return gan_mul_scalar(gan_add_scalar(x, 1), 0.5f);
}

/* Built-in shapes lie on paper without any texture, where a network of convolutions has nothing
   to begin a stroke at: they get a grain. */
static gan_tensor *grainy(gan_tensor *x, const options *o)
{
    return o->data ? x : gan_add(x, gan_mul_scalar(gan_randn(x->g, x->n, 3, x->h, x->w), 0.1f));
}

/* Trains m and returns the first photo (1,3,SIZE,SIZE). */
static gan_tensor *train(gan *g, gan_model *m, const settings *s, const options *o,
                         gan_tensor **style, int count, const gan_real *weights)
{
    const char *kind = s->kind ? s->kind : s->net ? "squeezenet" : "own";
    style_net net = style_open(g, kind, s->net);
    int size = s->size / 4 * 4;
    if (o->data && !is_folder(o->data)) {
        fprintf(stderr,
                "--data %s: training wants a folder of photos; --apply and --any want one photo\n",
                o->data);
        exit(2);
    }
    gan_data *photos = o->data ? open_pictures(g, o->data, size)
                               : gan_data_shapes(g, 200, size, GAN_SHAPES_FILLED);
    gan_opt *adam = gan_adam(m, s->lr, 0.9f, 0.999f);
    if (!photos)
        fail();

    gan_tensor *first_four = gan_zeros(g, 4, 3, size, size);
    size_t area = gan_count(first_four) / 4;
    gan_real *host = (gan_real *)malloc(sizeof *host * 4 * area);
    for (int i = 0; i < 4; i++)
        gan_data_item(photos, i % gan_data_size(photos), host + area * (size_t)i, NULL);
    gan_set(first_four, host);
    free(host);
    first_four = grainy(unit(first_four), o);
    style_target target;
    style_mix(&net, style, count, weights, 1, &target);

    int first = resume_from(g, o);
    gan_progress *log = gan_progress_open(g, in_folder(o, "log.csv"), "content,style,rough", first,
                                          o->steps, o->batch);
    if (!log)
        fail();
    gan_mark mark = gan_here(g);
    for (int step = first; step < o->steps; step++) {
        gan_tensor *content, *look, *rough;
        gan_tensor *photo = gan_random_crop(gan_batch(photos, o->batch, NULL), s->crop, s->crop);
        photo = grainy(unit(gan_augment(photo, GAN_FLIP, 0.5f)), o); /* (N,3,CROP,CROP) */
        style_content(&net, photo, &target);
        style_losses(&net, painter(m, photo), &target, &content, &look, &rough);
        gan_set_lr(adam, gan_lr_cosine(s->lr, step, o->steps));
        gan_minimize(adam, gan_add(look, gan_add(gan_mul_scalar(content, s->content),
                                                 gan_mul_scalar(rough, s->tv))));
        gan_progress_step(log, step, (double)gan_item(content), (double)gan_item(look),
                          (double)gan_item(rough));
        gan_clear_to(g, mark);

        if ((step + 1) % 250 == 0 || step + 1 == o->steps) {
            char name[64];
            snprintf(name, sizeof name, "samples-%05d.png", step + 1);
            draw(gan_add_scalar(gan_mul_scalar(painter(m, first_four), 2), -1), 4, o, name);
            gan_clear_to(g, mark);
            save_all(g, o, step + 1);
            if (!gan_save_f16(m, in_folder(o, "painter.safetensors")))
                fail();
        }
    }
    gan_progress_close(log);
    gan_summary(m);
    return gan_slice(first_four, 0, 0, 1);
}

/* A model filled from a file; as it starts, where there is none. */
static gan_model *filled(gan *g, const char *name, const char *file)
{
    gan_model *m = gan_model_new(g, name);
    if (file && !gan_load(m, file))
        fail();
    return m;
}

/* What --any names: MicroAST's file, or an encoder's and a decoder's. The content is one style
   more, with weight 1 - alpha: AdaIN(x, x) = x. */
typedef struct {
    gan_model *encoder, *decoder;
} any_style;

static gan_tensor *paint_any(const any_style *any, gan_tensor *photo, gan_tensor **style,
                             const gan_real *weights, int count)
{
    static const int channels[3] = {64, 128, 256};
    gan_tensor *map[STYLES + 1];
    if (!any->decoder)
        return zoo_microast_mix(any->encoder, photo, style, weights, count);
    for (int k = 0; k < count; k++)
        map[k] = zoo_vgg_encoder(any->encoder, "features", channels, 3, style[k], NULL);
    /* x (1,256,H/4,W/4) */
    gan_tensor *x = zoo_vgg_encoder(any->encoder, "features", channels, 3, photo, NULL);
    x = zoo_adain_mix(x, map, weights, count);
    return zoo_vgg_decoder(any->decoder, "dec3", channels, 3, x, false);
}

/* The photo painted, and processor time of the last of a few passes: with several threads, a
   pass takes less. m NULL: by any. */
static gan_tensor *timed(const char *how, gan_model *m, const any_style *any, int passes,
                         gan_tensor *photo, gan_tensor **style, const gan_real *weights, int count)
{
    gan *g = photo->g;
    gan_tensor *x = NULL;
    gan_mark mark = gan_here(g);
    double ms = 0;
    for (int pass = 0; pass < passes; pass++) {
        if (pass)
            gan_clear_to(g, mark);
        clock_t start = clock();
        x = m ? painter(m, photo) : paint_any(any, photo, style, weights, count);
        gan_item(gan_mean(x));
        ms = (double)(clock() - start) * 1000 / CLOCKS_PER_SEC;
    }
    printf("%s: %dx%d, %.0f ms of processor time a frame\n", how, photo->w, photo->h, ms);
    return x;
}

/* The command line, and with --quick what is small and built in. */
static settings read_settings(int argc, char **argv, options *o)
{
    settings s = {.size = 256,
                  .style_size = 256,
                  .crop = 128,
                  .content = 0.6f,
                  .tv = 1,
                  .lr = 2e-3f,
                  .alpha = 1};
    const flag own[] = {
        {"--style", 't', &s.style, "paintings: a.jpg,b.jpg"},
        {"--weights", 't', &s.weights, "how much of each: 0.7,0.3 (equal)"},
        {"--net", 't', &s.net, "weights of the feature network, as 08"},
        {"--kind", 't', &s.kind, "its kind, as 08"},
        {"--apply", 't', &s.apply, "no training: a painter's weights, for the photo at --data"},
        {"--any", 't', &s.any,
         "no training: MicroAST's weights, or an encoder's and decoder's: e,d"},
        {"--alpha", 'f', &s.alpha, "how much style with --any, 0 to 1 (1)"},
        {"--size", 'i', &s.size, "longer side of a photo (256)"},
        {"--style-size", 'i', &s.style_size, "of the paintings (256)"},
        {"--crop", 'i', &s.crop, "side of a training's patches (128)"},
        {"--content", 'f', &s.content, "weight of the content (0.6)"},
        {"--tv", 'f', &s.tv, "weight of the total variation (1)"},
        {"--lr", 'f', &s.lr, "Adam's learning rate (0.002)"},
        {NULL, 0, NULL, NULL}};
    parse(argc, argv, o, "09_fast_style: a network that paints photos in one pass", own);
    if (o->quick) {
        s.size = s.style_size = 32;
        s.crop = 24;
        s.style = s.net = s.kind = s.weights = s.apply = s.any = o->data = NULL;
    }
    return s;
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/09_fast_style", .steps = 1500, .batch = 2, .quick_steps = 2, .quick_batch = 2};
    settings s = read_settings(argc, argv, &o);
    gan *g = open_device(&o);

    char names[4096], numbers[256];
    const char *name[STYLES] = {NULL}, *number[STYLES];
    int count = s.style ? style_split(s.style, names, sizeof names, name, STYLES) : 1;
    gan_tensor *shown[STYLES + 4];  /* the photo, the styles, what came of them */
    gan_tensor **style = shown + 1; /* of these the styles, and behind them the results */
    gan_tensor *styles[STYLES + 1]; /* the styles, and behind them the photo: see any_style */
    gan_real weights[STYLES + 1];
    if (s.weights && style_split(s.weights, numbers, sizeof numbers, number, STYLES) != count) {
        fprintf(stderr, "--weights: one number a style is wanted\n");
        exit(2);
    }
    for (int k = 0; k < count; k++) {
        styles[k] = style[k] = style_picture(g, name[k], s.style_size, GAN_SHAPES_STRIPED);
        weights[k] = s.weights ? (gan_real)real_number("--weights", number[k])
                               : 1 / (gan_real)count;
    }
    gan_model *m = gan_model_new(g, "painter");
    if (s.apply && !gan_load(m, s.apply))
        fail();
    if (!s.apply && !s.any)
        shown[0] = train(g, m, &s, &o, style, count, weights);
    else
        shown[0] = grainy(style_picture(g, o.data, s.size, GAN_SHAPES_FILLED), &o);

    int results = 0;
    int passes = o.quick ? 1 : 3;
    gan_tensor *photo = shown[0];
    if (!s.any)
        style[count + results++] = timed("painter", m, NULL, passes, photo, NULL, NULL, 0);
    if (s.any || o.quick) {
        char files[2048];
        const char *file[2] = {NULL, NULL};
        int parts = s.any ? style_split(s.any, files, sizeof files, file, 2) : 2;
        for (int k = 0; k < count; k++)
            weights[k] *= s.alpha;
        styles[count] = photo;
        weights[count] = 1 - s.alpha;
        any_style any = {NULL, NULL};
        any.encoder = filled(g, "encoder", file[0]);
        if (parts > 1)
            any.decoder = filled(g, "decoder", file[1]);
        style[count + results++] = timed(parts > 1 ? "AdaIN" : "MicroAST", NULL, &any, passes,
                                         photo, styles, weights, count + 1);
        if (o.quick) { /* both untrained here, only to try them */
            any_style micro = {gan_model_new(g, "microast"), NULL};
            style[count + results++] = timed("MicroAST", NULL, &micro, passes, photo, styles,
                                             weights, count + 1);
        }
    }
    style_panel(shown, 1 + count + results, &o, "panel.png");
    printf("the picture: %s/panel.png\n", o.out);
    gan_profile(g);
    gan_close(g);
    return 0;
}
