/* 08_neural_style: one photo in the style of one or several paintings. Nothing is trained here:
   the picture itself is what the optimizer changes. Gatys, Ecker and Bethge 2016, A Neural
   Algorithm of Artistic Style.

   New since 07: a network that is only looked through; its features' statistics as a loss;
   gradients of pixels; L-BFGS.

   Run:      make 08_neural_style        built-in shapes; with files, ARGS="..." with one of
               --data cat.jpg --style starry_night.jpg --net squeezenet1_1.safetensors
               --data cat.jpg --style a.jpg,b.jpg --weights 0.7,0.3    a mixture of styles
               --data cat.jpg --style a.jpg,b.jpg --strip 5            five pictures from a to b
   Reads:    --data a photo, --style paintings (any format that stb_image reads), --net the weights
             of a feature network of a --kind: squeezenet, vgg19, vgg19-3 or vgg19-small (style.h
             lists their layers). Without --net: examples/style_net.safetensors, which style_net.c
             trained.
   Leaves:   out/08_neural_style/        panel.png (content, styles, results), result.png, log.csv,
                                         state.safetensors
   Time:     15 s of one core for 300 steps at 256 px with SqueezeNet, 26 s with the shipped
             network; 5 s with --lbfgs --steps 100
   Expect:   the photo's things in the painting's colours and strokes (08_neural_style.png). The
             shipped network saw 20 pictures, not a million: it gives colours, contrast and brush
             marks, but none of the larger forms, swirls for instance, for which take SqueezeNet or
             VGG-19.

   The loss of the picture x, the photo p and the paintings a_k is

       content_weight * |F(x) - F(p)|^2 / |F(p)|^2
     + mean over layers l of |m_l(x) - m_l|^2 / |m_l|^2 + |G_l(x) - G_l|^2 / |G_l|^2
     + tv_weight * mean of (x_i,j+1 - x_i,j)^2 + (x_i+1,j - x_i,j)^2

   with m_l = sum of w_k m_l(a_k), G_l likewise. F: a layer's feature map (C,H*W); m its mean over
   places, G = (F-m)(F-m)^T / (C H W): which features go together, wherever they are. Each term is
   relative to its target, so that the same weights do for every network. */
#include "common.h"
#include "zoo.h"
#include "style.h"

enum { STYLES = 8 };

typedef struct {
    const char *style, *weights, *net, *kind;
    int size, style_size, strip;
    float content, tv, lr;
    bool noise, lbfgs;
} settings;

/* The styles' weights for each of strip pictures (strip,count): --weights, equal ones, or with
   --strip from one style to the next. */
static void weigh(const settings *s, int count, gan_real *weights)
{
    char buffer[256];
    const char *part[STYLES];
    if (s->weights && style_split(s->weights, buffer, sizeof buffer, part, STYLES) != count) {
        fprintf(stderr, "--weights %s: %d numbers are wanted, one a style\n", s->weights, count);
        exit(2);
    }
    if (s->strip > 1 && count < 2) {
        fprintf(stderr, "--strip goes from one style to another: --style a.jpg,b.jpg\n");
        exit(2);
    }
    for (int n = 0; n < s->strip; n++)
        for (int k = 0; k < count; k++) {
            double given = s->weights ? (double)real_number("--weights", part[k]) : 1.0 / count;
            double at = s->strip > 1 ? (double)n * (count - 1) / (s->strip - 1) : 0;
            double between = 1 - fabs(at - k); /* 1 at style k, 0 at its neighbours */
            if (between < 0)
                between = 0;
            weights[n * count + k] = (gan_real)(s->strip == 1 ? given : between);
        }
}

/* A model whose only parameter is the pictures (strip,3,H,W) in [-1,1]; all begin as the
   content, or as the same noise. */
static gan_tensor *canvas(gan_model *image, gan_tensor *content, const settings *s)
{
    gan_tensor *pixels = gan_param(image, "pixels", s->strip, 3, content->h, content->w);
    gan_real *host = (gan_real *)malloc(sizeof *host * gan_count(pixels));
    gan_tensor *start = s->noise ? gan_rand(content->g, 1, 3, content->h, content->w) : content;
    start = gan_add_scalar(gan_mul_scalar(start, 2), -1); /* [0,1] -> [-1,1] */
    gan_to_host(gan_expand(start, s->strip, 3, content->h, content->w), host);
    gan_set(pixels, host);
    free(host);
    return pixels;
}

/* [-1,1] -> [0,1] */
static gan_tensor *unit(gan_tensor *pixels)
{
    return gan_mul_scalar(gan_add_scalar(pixels, 1), 0.5f);
}

/* The command line, and with --quick what is small and built in. */
static settings read_settings(int argc, char **argv, options *o)
{
    settings s = {.size = 256, .strip = 1, .content = 0.2f, .tv = 1, .lr = 0.1f};
    const flag own[] = {
        {"--style", 't', &s.style, "paintings: a.jpg,b.jpg"},
        {"--weights", 't', &s.weights, "how much of each: 0.7,0.3 (equal)"},
        {"--net", 't', &s.net,
         "weights of the feature network, or random (examples/style_net.safetensors)"},
        {"--kind", 't', &s.kind,
         "own, squeezenet, vgg19, vgg19-3, vgg19-small (squeezenet with --net, else own)"},
        {"--size", 'i', &s.size, "longer side of the picture (256)"},
        {"--style-size", 'i', &s.style_size, "of the paintings (as --size)"},
        {"--strip", 'i', &s.strip, "so many pictures, from the first style to the last"},
        {"--content", 'f', &s.content, "weight of the content (0.2)"},
        {"--tv", 'f', &s.tv, "weight of the total variation (1)"},
        {"--lr", 'f', &s.lr, "Adam's learning rate (0.1)"},
        {"--noise", 's', &s.noise, "begin with noise, not with the photo"},
        {"--lbfgs", 's', &s.lbfgs, "L-BFGS, not Adam: fewer steps"},
        {NULL, 0, NULL, NULL}};
    parse(argc, argv, o, "08_neural_style: a photo in the style of paintings", own);
    if (o->quick) {
        s.size = 32;
        s.strip = 2;
        s.style = s.net = s.kind = s.weights = o->data = NULL;
    }
    if (!s.style_size || o->quick)
        s.style_size = s.size;
    return s;
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/08_neural_style", .steps = 300, .batch = 1, .quick_steps = 4, .quick_batch = 1};
    settings s = read_settings(argc, argv, &o);

    gan *g = open_device(&o);
    const char *kind = s.kind ? s.kind : s.net ? "squeezenet" : "own";
    style_net net = style_open(g, kind, s.net);
    gan_tensor *content = style_picture(g, o.data, s.size, GAN_SHAPES_FILLED);
    gan_tensor *shown[STYLES + 17] = {content};
    char names[4096];
    const char *name[STYLES] = {NULL, NULL};
    int count = s.strip > 1 ? 2 : 1;
    if (s.style)
        count = style_split(s.style, names, sizeof names, name, STYLES);
    for (int k = 0; k < count; k++)
        shown[k + 1] = style_picture(g, name[k], s.style_size,
                                     k ? GAN_SHAPES_EDGES : GAN_SHAPES_STRIPED);
    gan_real *weights = (gan_real *)malloc(sizeof *weights * (size_t)(s.strip * count));
    weigh(&s, count, weights);

    style_target target;
    style_mix(&net, shown + 1, count, weights, s.strip, &target);
    style_content(&net, content, &target);
    gan_model *image = gan_model_new(g, "image");
    gan_tensor *pixels = canvas(image, content, &s);
    gan_opt *opt[2] = {gan_adam(image, s.lr, 0.9f, 0.999f), gan_lbfgs(image, 1, 20)};
    int first = resume_from(g, &o);
    gan_progress *log = gan_progress_open(g, in_folder(&o, "log.csv"), "content,style,rough", first,
                                          o.steps, s.strip);
    if (!log)
        fail();

    gan_mark mark = gan_here(g);
    for (int step = first; step < o.steps; step++) {
        bool lbfgs = s.lbfgs || (o.quick && step >= o.steps / 2); /* --quick tries both */
        gan_tensor *content_loss, *style_loss, *rough;
        style_losses(&net, unit(pixels), &target, &content_loss, &style_loss, &rough);
        gan_tensor *loss = gan_add(style_loss, gan_add(gan_mul_scalar(content_loss, s.content),
                                                       gan_mul_scalar(rough, s.tv)));
        loss = gan_mul_scalar(loss, (gan_real)s.strip); /* each was a mean over the pictures */
        gan_set_lr(opt[0], gan_lr_cosine(s.lr, step, o.steps));
        gan_minimize(opt[lbfgs], loss);
        if (!lbfgs)
            gan_clip_weights(image, 1); /* to [-1,1]; L-BFGS would mistake it for curvature */
        gan_progress_step(log, step, (double)gan_item(content_loss), (double)gan_item(style_loss),
                          (double)gan_item(rough));
        gan_clear_to(g, mark);

        if ((step + 1) % 100 == 0 || step + 1 == o.steps) {
            int results = s.strip < 16 ? s.strip : 16;
            for (int n = 0; n < results; n++)
                shown[1 + count + n] = gan_slice(unit(pixels), 0, n, 1);
            style_panel(shown, 1 + count + results, &o, "panel.png");
            style_panel(shown + 1 + count, results, &o, "result.png");
            gan_clear_to(g, mark);
            save_all(g, &o, step + 1);
        }
    }
    gan_progress_close(log);
    printf("the picture: %s/panel.png\n", o.out);
    gan_profile(g);
    free(weights);
    gan_close(g);
    return 0;
}
