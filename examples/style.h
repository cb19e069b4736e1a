/* style.h: what 08 and 09 share: a picture as a tensor, and how far it is from a
   content and from a style, as a feature network sees them (Gatys, Ecker and Bethge 2016).
   Include it after common.h and zoo.h. Pictures are (N,3,H,W) in [0,1]. */
#ifndef STYLE_H
#define STYLE_H

/* ---- pictures */

/* Four built-in shapes in a look (GAN_SHAPES_FILLED ...), two by two: (1,3,SIZE,SIZE), SIZE a
   multiple of 8. */
static inline gan_tensor *style_shapes(gan *g, int size, gan_shape_style look)
{
    int half = size / 8 * 4;
    size_t count = 3 * (size_t)half * (size_t)half;
    gan_data *data = gan_data_shapes(g, 4, half, look);
    gan_real *pixels = (gan_real *)malloc(sizeof *pixels * 4 * count);
    for (int i = 0; i < 4; i++)
        gan_data_item(data, i, pixels + (size_t)i * count, NULL);
    gan_tensor *x = gan_from_host(g, pixels, 4, 3, half, half);
    free(pixels);
    gan_tensor *top = gan_concat(gan_slice(x, 0, 0, 1), gan_slice(x, 0, 1, 1), 3);
    gan_tensor *bottom = gan_concat(gan_slice(x, 0, 2, 1), gan_slice(x, 0, 3, 1), 3);
    return gan_mul_scalar(gan_add_scalar(gan_concat(top, bottom, 2), 1), 0.5f);
}

/* The picture in a file (1,3,H,W), its longer side size, both sides multiples of 4; NULL for
   path: built-in shapes in that look. */
static inline gan_tensor *style_picture(gan *g, const char *path, int size, gan_shape_style look)
{
    if (!path)
        return style_shapes(g, size, look);
#ifdef STBI_INCLUDE_STB_IMAGE_H
    int w, h, channels;
    unsigned char *bytes = stbi_load(path, &w, &h, &channels, 3);
    if (!bytes) {
        fprintf(stderr, "%s: %s\n", path,
                there(path) ? stbi_failure_reason() : "there is no such file");
        exit(1);
    }
    gan_real *pixels = (gan_real *)malloc(sizeof *pixels * 3 * (size_t)w * (size_t)h);
    for (size_t i = 0, area = (size_t)w * (size_t)h; i < 3 * area; i++)
        pixels[i] = (gan_real)bytes[i % area * 3 + i / area] / 255;
    gan_tensor *x = gan_from_host(g, pixels, 1, 3, h, w);
    free(pixels);
    stbi_image_free(bytes);
    int most = h > w ? h : w;
    int whole = most / size;
    int to_h = (int)((double)h * size / most / 4 + 0.5) * 4;
    int to_w = (int)((double)w * size / most / 4 + 0.5) * 4;
    if (whole > 1) /* means first: bilinear weights alone would skip pixels */
        x = gan_avg_pool2d(x, whole, whole, 0);
    return gan_resize(x, to_h > 4 ? to_h : 4, to_w > 4 ? to_w : 4, GAN_BILINEAR);
#else
    fprintf(stderr, "%s: reading pictures needs stb_image.h\n", path);
    exit(1);
#endif
}

/* "a,b,c" -> its parts, one behind the other in buffer; how many (at most most). */
static inline int style_split(const char *text, char *buffer, size_t room, const char **part,
                              int most)
{
    int count = 0;
    snprintf(buffer, room, "%s", text);
    for (char *at = buffer; at && count < most; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        part[count++] = at;
    for (char *at = buffer; *at; at++)
        if (*at == ',')
            *at = 0;
    return count;
}

/* ---- the feature networks */

typedef struct {
    const char *kind, *content, *style[7];
} style_layers;

typedef struct {
    gan_model *model;
    const style_layers *layers;
} style_net;

static const style_layers style_kinds[] = {
    /* style_own, below, and the colours as they are */
    {"own", "relu3", {"rgb", "relu1", "relu2", "relu3", "relu4", NULL}},
    /* SqueezeNet 1.1, names as in zoo.h */
    {"squeezenet", "4", {"1", "3", "4", "6", "7", "10"}},
    /* torchvision's VGG-19 to relu5_1, the paper's layers */
    {"vgg19", "relu4_2", {"relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1", NULL}},
    /* zoo_vgg_encoder to relu3_1, as AdaIN takes it */
    {"vgg19-3", "relu2_2", {"relu1_1", "relu2_1", "relu3_1", NULL}},
    /* the same to relu5_1 with a quarter of the channels */
    {"vgg19-small", "relu3_1", {"relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1", NULL}},
    {NULL, NULL, {NULL}},
};

/* The project's own: a 5x5 and three 3x3 convolutions with 32, 64, 96 and 128 channels, ReLU,
   and halving by means. x (N,3,H,W) -> (N,128,H/8,W/8) */
static inline gan_tensor *style_own(gan_model *m, gan_tensor *x, zoo_features *f)
{
    static const int channels[4] = {32, 64, 96, 128};
    char name[16];
    zoo_keep(f, "rgb", x);
    x = zoo_imagenet(x);
    for (int i = 0; i < 4; i++) {
        if (i)
            x = gan_avg_pool2d(x, 2, 2, 0);
        snprintf(name, sizeof name, "conv%d", i + 1);
        x = gan_relu(zoo_conv(m, name, x, channels[i], i ? 3 : 5, 1));
        snprintf(name, sizeof name, "relu%d", i + 1);
        zoo_keep(f, name, x);
    }
    return x;
}

static inline void style_features(const style_net *net, gan_tensor *x, zoo_features *f);

static inline style_net style_open(gan *g, const char *kind, const char *file)
{
    style_net net = {gan_model_new(g, "features"), style_kinds};
    while (net.layers->kind && strcmp(net.layers->kind, kind) != 0)
        net.layers++;
    if (!net.layers->kind) {
        fprintf(stderr, "--kind %s: own, squeezenet, vgg19, vgg19-3 and vgg19-small are known\n",
                kind);
        exit(2);
    }
    gan_init_model(net.model, GAN_INIT_ORTHOGONAL, 1.4142f); /* until a file is loaded */
    if (file && strcmp(file, "random") != 0 && !gan_load(net.model, file))
        fail();
    if (!file && !gan_load(net.model, "examples/style_net.safetensors") &&
        !gan_load(net.model, "style_net.safetensors"))
        printf("%s: random weights take its place\n", gan_error());
    gan_eval(net.model);
    if (!file && strcmp(kind, "own") != 0) {
        fprintf(stderr, "--kind %s wants its weights: --net FILE\n", kind);
        exit(2);
    }
    /* The file of another network would leave layers at random. */
    if (file && strcmp(file, "random") != 0) {
        gan_mark mark = gan_here(g);
        zoo_features f;
        size_t held = gan_param_count(net.model);
        style_features(&net, gan_zeros(g, 1, 3, 64, 64), &f);
        if (gan_param_count(net.model) != held) {
            fprintf(stderr, "%s: it lacks layers of --kind %s\n", file, kind);
            exit(1);
        }
        gan_clear_to(g, mark);
    }
    return net;
}

static inline void style_features(const style_net *net, gan_tensor *x, zoo_features *f)
{
    static const int channels[5] = {64, 128, 256, 512, 512};
    static const int small[5] = {16, 32, 64, 128, 128};
    const char *kind = net->layers->kind;
    f->count = 0;
    if (strcmp(kind, "own") == 0)
        style_own(net->model, x, f);
    else if (strcmp(kind, "squeezenet") == 0)
        zoo_squeezenet(net->model, zoo_imagenet(x), f, true);
    else if (strcmp(kind, "vgg19") == 0)
        zoo_vgg(net->model, 19, zoo_imagenet(x), "relu5_1", f);
    else if (strcmp(kind, "vgg19-3") == 0)
        zoo_vgg_encoder(net->model, "features", channels, 3, x, f);
    else
        zoo_vgg_encoder(net->model, "enc5", small, 5, x, f);
}

/* ---- losses */

/* What pictures shall become: one picture's features, and of each style layer the means
   (N,C,1,1) and covariances (N,1,C,C) of its channels. */
typedef struct {
    gan_tensor *content, *mean[7], *gram[7];
} style_target;

/* The Gram matrix of the paper, F F^T, is the covariance and the outer product of the means;
   ReLU makes the means so large that they hide the covariance, the texture. So the two are
   compared apart: mean (N,C,1,1) and the Gram matrix (N,1,C,C) of what differs from it. */
static inline void style_statistics(gan_tensor *x, gan_tensor **mean, gan_tensor **gram)
{
    *mean = gan_mean_to(x, x->n, x->c, 1, 1);
    *gram = gan_gram(gan_sub(x, *mean));
}

/* The mean over N of |x - target|^2 / |target|^2: 1 where x is 0, whatever the network, the
   layer and the size of the picture. */
static inline gan_tensor *style_distance(gan_tensor *x, gan_tensor *target)
{
    target = gan_detach(target);
    gan_tensor *difference = gan_sum_to(gan_square(gan_sub(x, target)), x->n, 1, 1, 1);
    return gan_mean(gan_div(difference, gan_sum_to(gan_square(target), target->n, 1, 1, 1)));
}

/* The statistics of count styles, mixed for each of n pictures: picture i has weights[i*count +
   k] of style k. With weights that add up to 1 the sum of w_k |G - G_k|^2 is |G - sum of w_k
   G_k|^2 and a constant: to mix the losses is to mix the matrices. */
static inline void style_mix(const style_net *net, gan_tensor **style, int count,
                             const gan_real *weights, int n, style_target *t)
{
    gan_tensor *all = gan_from_host(style[0]->g, weights, n, count, 1, 1);
    for (int k = 0; k < count; k++) {
        zoo_features f;
        style_features(net, style[k], &f);
        for (int l = 0; net->layers->style[l]; l++) {
            gan_tensor *mean, *gram, *share = gan_slice(all, 1, k, 1);
            style_statistics(zoo_feature(&f, net->layers->style[l]), &mean, &gram);
            t->mean[l] = k ? gan_add(t->mean[l], gan_mul(mean, share)) : gan_mul(mean, share);
            t->gram[l] = k ? gan_add(t->gram[l], gan_mul(gram, share)) : gan_mul(gram, share);
        }
    }
}

static inline void style_content(const style_net *net, gan_tensor *content, style_target *t)
{
    zoo_features f;
    style_features(net, content, &f);
    t->content = zoo_feature(&f, net->layers->content);
}

/* How far x (N,3,H,W) is from the content (features, one for all or one each) and from the style
   (the mean over the layers), and how rough it is: the mean of the squares of neighbours'
   differences, total variation with beta = 2 (Mahendran and Vedaldi 2015). */
static inline void style_losses(const style_net *net, gan_tensor *x, const style_target *t,
                                gan_tensor **content, gan_tensor **style, gan_tensor **rough)
{
    zoo_features f;
    int l = 0;
    style_features(net, x, &f);
    *content = style_distance(zoo_feature(&f, net->layers->content), t->content);
    *style = gan_zeros(x->g, 1, 1, 1, 1);
    for (; net->layers->style[l]; l++) {
        gan_tensor *mean, *gram;
        style_statistics(zoo_feature(&f, net->layers->style[l]), &mean, &gram);
        gan_tensor *here = gan_add(style_distance(mean, t->mean[l]),
                                   style_distance(gram, t->gram[l]));
        *style = gan_add(*style, here);
    }
    *style = gan_mul_scalar(*style, 1 / (gan_real)l);
    gan_tensor *down = gan_mse(gan_slice(x, 2, 1, x->h - 1), gan_slice(x, 2, 0, x->h - 1));
    *rough = gan_add(down, gan_mse(gan_slice(x, 3, 1, x->w - 1), gan_slice(x, 3, 0, x->w - 1)));
}

/* Pictures side by side, all at the first one's height, white between them, as out/name. */
static inline void style_panel(gan_tensor **picture, int count, const options *o, const char *name)
{
    gan_tensor *row[16];
    for (int k = 0; k < count && k < 16; k++) {
        gan_tensor *x = gan_clamp(picture[k], 0, 1);
        if (k && x->h != picture[0]->h)
            x = gan_resize(x, picture[0]->h, x->w * picture[0]->h / x->h, GAN_BILINEAR);
        row[k] = gan_pad(gan_add_scalar(gan_mul_scalar(x, 2), -2), 0, 0, k ? 4 : 0, 0, GAN_ZEROS);
    }
    draw(gan_add_scalar(gan_concat_all(row, count < 16 ? count : 16, 3), 1), 1, o, name);
}

#endif
