/* examples/zoo.h: known networks built from gan.h's layers, under the names that their PyTorch
   files use, so that gan_load fills them. Include it after gan.h.

     zoo_vgg           VGG-16 and VGG-19 (Simonyan and Zisserman 2015), any first part of them;
                       torchvision's names
     zoo_squeezenet    SqueezeNet 1.1 (Iandola et al. 2016); torchvision's names
     zoo_vgg_encoder   VGG-19 as style transfer uses it (conv0, mirrored borders), and
                       zoo_vgg_decoder, its inverse
     zoo_johnson       the feed-forward style network (Johnson et al. 2016); pytorch/examples'
                       names
     zoo_tiny_johnson  the same in small, with transposed convolutions
     zoo_microast      any style in one pass (Wang et al. 2023, MicroAST)
     zoo_lenet         the digit classifier whose features the metrics use (LeCun et al. 1998)

   Pictures are (N,3,H,W). A network that is given a zoo_features puts its feature maps there, by
   name. */
#ifndef ZOO_H
#define ZOO_H

/* Feature maps and their names, 40 at most. */
typedef struct {
    int count;
    char name[40][64];
    gan_tensor *map[40];
} zoo_features;

static void zoo_keep(zoo_features *f, const char *name, gan_tensor *map)
{
    if (!f || f->count == 40)
        return;
    snprintf(f->name[f->count], sizeof f->name[0], "%s", name);
    f->map[f->count++] = map;
}

/* The feature map of that name; NULL if the network has none. */
static inline gan_tensor *zoo_feature(const zoo_features *f, const char *name)
{
    for (int i = 0; i < f->count; i++)
        if (strcmp(f->name[i], name) == 0)
            return f->map[i];
    return NULL;
}

/* [0,1] -> what ImageNet's networks were trained on: (x - mean)/deviation of each of R, G, B. */
static inline gan_tensor *zoo_imagenet(gan_tensor *x)
{
    static const gan_real mean[3] = {(gan_real)0.485, (gan_real)0.456, (gan_real)0.406};
    static const gan_real deviation[3] = {(gan_real)0.229, (gan_real)0.224, (gan_real)0.225};
    return gan_div(gan_sub(x, gan_from_host(x->g, mean, 1, 3, 1, 1)),
                   gan_from_host(x->g, deviation, 1, 3, 1, 1));
}

/* A convolution that keeps the size (at stride 1), with mirrored borders. */
static gan_tensor *zoo_conv(gan_model *m, const char *name, gan_tensor *x, int out, int kernel,
                            int stride)
{
    int p = kernel / 2;
    return gan_conv2d(m, name, p ? gan_pad(x, p, p, p, p, GAN_REFLECT) : x, out, kernel, stride, 0);
}

/* ---- VGG: blocks of 3x3 convolutions with ReLU, then halving. Names: features.K, K counting
   convolutions, ReLUs and poolings. */

static const int zoo_vgg16_blocks[5] = {2, 2, 3, 3, 3}, zoo_vgg19_blocks[5] = {2, 2, 4, 4, 4},
                 zoo_vgg_channels[5] = {64, 128, 256, 512, 512};

/* x as from zoo_imagenet; depth 16 or 19. Goes as far as the layer last, "relu5_1" for instance,
   and returns it. Features: relu1_1 ... */
static inline gan_tensor *zoo_vgg(gan_model *m, int depth, gan_tensor *x, const char *last,
                                  zoo_features *f)
{
    const int *blocks = depth == 16 ? zoo_vgg16_blocks : zoo_vgg19_blocks;
    char name[32];
    for (int block = 0, k = 0; block < 5; block++, k++) {
        for (int i = 1; i <= blocks[block]; i++, k += 2) {
            snprintf(name, sizeof name, "features.%d", k);
            x = gan_relu(gan_conv2d(m, name, x, zoo_vgg_channels[block], 3, 1, 1));
            snprintf(name, sizeof name, "relu%d_%d", block + 1, i);
            zoo_keep(f, name, x);
            if (strcmp(name, last) == 0)
                return x;
        }
        x = gan_max_pool2d(x, 2, 2, 0, false);
    }
    return x;
}

/* VGG-19 with mirrored borders behind a 1x1 convolution conv0, which turns RGB in [0,1] into
   what the network wants. first: what its names begin with: "features" (then torchvision's
   numbers follow) or "enc5" (then convB_I); channels (5) of its blocks. To reluB_1, B = blocks. */
static inline gan_tensor *zoo_vgg_encoder(gan_model *m, const char *first, const int *channels,
                                          int blocks, gan_tensor *x, zoo_features *f)
{
    bool numbered = strcmp(first, "features") == 0;
    char name[64];
    snprintf(name, sizeof name, numbered ? "conv0" : "%s.conv0", first);
    x = gan_conv2d(m, name, x, 3, 1, 1, 0);
    for (int block = 0, k = 0; block < blocks; block++, k++) {
        for (int i = 1; i <= (block == blocks - 1 ? 1 : zoo_vgg19_blocks[block]); i++, k += 2) {
            if (numbered)
                snprintf(name, sizeof name, "%s.%d", first, k);
            else
                snprintf(name, sizeof name, "%s.conv%d_%d", first, block + 1, i);
            x = gan_relu(zoo_conv(m, name, x, channels[block], 3, 1));
            snprintf(name, sizeof name, "relu%d_%d", block + 1, i);
            zoo_keep(f, name, x);
        }
        if (block < blocks - 1)
            x = gan_max_pool2d(x, 2, 2, 0, numbered);
    }
    return x;
}

/* The way back from reluB_1 to RGB in about [0,1]: convolutions in the opposite order, twice the
   size where the encoder halves. */
static inline gan_tensor *zoo_vgg_decoder(gan_model *m, const char *first, const int *channels,
                                          int blocks, gan_tensor *x, bool last_relu)
{
    char name[64];
    for (int block = blocks - 1; block >= 0; block--)
        for (int i = block == blocks - 1 ? 1 : zoo_vgg19_blocks[block]; i >= 1; i--) {
            int out = i > 1 ? channels[block] : block > 0 ? channels[block - 1] : 3;
            snprintf(name, sizeof name, "%s.conv%d_%d", first, block + 1, i);
            x = zoo_conv(m, name, x, out, 3, 1);
            if (out != 3 || last_relu)
                x = gan_relu(x);
            if (i == 1 && block > 0)
                x = gan_resize(x, 2 * x->h, 2 * x->w, GAN_NEAREST);
        }
    return x;
}

/* ---- SqueezeNet 1.1 */

static gan_tensor *zoo_fire(gan_model *m, int k, gan_tensor *x, int squeeze, int expand)
{
    char name[48];
    snprintf(name, sizeof name, "features.%d.squeeze", k);
    x = gan_relu(gan_conv2d(m, name, x, squeeze, 1, 1, 0));
    snprintf(name, sizeof name, "features.%d.expand1x1", k);
    gan_tensor *one = gan_conv2d(m, name, x, expand, 1, 1, 0);
    snprintf(name, sizeof name, "features.%d.expand3x3", k);
    return gan_relu(gan_concat(one, gan_conv2d(m, name, x, expand, 3, 1, 1), 1));
}

/* x (N,3,H,W) as from zoo_imagenet -> logits (N,1000,1,1). Features: "0", "1" ... "12", the
   outputs of features.K. features_only: the last of these. */
static inline gan_tensor *zoo_squeezenet(gan_model *m, gan_tensor *x, zoo_features *f,
                                         bool features_only)
{
    static const int squeeze[13] = {0, 0, 0, 16, 16, 0, 32, 32, 0, 48, 48, 64, 64};
    char name[16];
    for (int k = 0; k < 13; k++) {
        x = k == 0     ? gan_conv2d(m, "features.0", x, 64, 3, 2, 0)
          : k == 1     ? gan_relu(x)
          : squeeze[k] ? zoo_fire(m, k, x, squeeze[k], 4 * squeeze[k])
                       : gan_max_pool2d(x, 3, 2, 0, true);
        snprintf(name, sizeof name, "%d", k);
        zoo_keep(f, name, x);
    }
    if (features_only)
        return x;
    x = gan_relu(gan_conv2d(m, "classifier.1", x, 1000, 1, 1, 0));
    return gan_avg_pool2d(x, 0, 1, 0);
}

/* ---- Johnson's network: two halvings, five residual blocks, two doublings. x and the result
   are in 0 .. 255, the result not clamped. */

static gan_tensor *zoo_johnson_conv(gan_model *m, const char *conv, const char *norm, gan_tensor *x,
                                    int out, int kernel, int stride)
{
    char name[48];
    snprintf(name, sizeof name, "%s.conv2d", conv);
    x = zoo_conv(m, name, x, out, kernel, stride);
    return norm ? gan_instance_norm(m, norm, x) : x;
}

static inline gan_tensor *zoo_johnson(gan_model *m, gan_tensor *x)
{
    char conv[24], norm[24];
    x = gan_relu(zoo_johnson_conv(m, "conv1", "in1", x, 32, 9, 1));
    x = gan_relu(zoo_johnson_conv(m, "conv2", "in2", x, 64, 3, 2));
    x = gan_relu(zoo_johnson_conv(m, "conv3", "in3", x, 128, 3, 2));
    for (int i = 1; i <= 5; i++) {
        gan_tensor *y = x;
        for (int part = 1; part <= 2; part++) {
            snprintf(conv, sizeof conv, "res%d.conv%d", i, part);
            snprintf(norm, sizeof norm, "res%d.in%d", i, part);
            y = zoo_johnson_conv(m, conv, norm, y, 128, 3, 1);
            if (part == 1)
                y = gan_relu(y);
        }
        x = gan_add(x, y);
    }
    x = gan_resize(x, 2 * x->h, 2 * x->w, GAN_NEAREST);
    x = gan_relu(zoo_johnson_conv(m, "deconv1", "in4", x, 64, 3, 1));
    x = gan_resize(x, 2 * x->h, 2 * x->w, GAN_NEAREST);
    x = gan_relu(zoo_johnson_conv(m, "deconv2", "in5", x, 32, 3, 1));
    return zoo_johnson_conv(m, "deconv3", NULL, x, 3, 9, 1);
}

/* One convolution without bias and its instance norm, STYLE.conv and STYLE.norm; up: transposed,
   to exactly twice the size. */
static gan_tensor *zoo_tiny_conv(gan_model *m, const char *style, const char *conv,
                                 const char *norm, gan_tensor *x, int out, int kernel, int stride,
                                 bool up)
{
    char name[96];
    int p = kernel / 2;
    gan_conv_options options = {.out = out, .kernel = kernel, .stride = stride, .no_bias = true};
    snprintf(name, sizeof name, "%s.%s", style, conv);
    if (up) {
        x = gan_conv_transpose2d_with(m, name, x, options); /* 2H + 1 rows, with a kernel of 3 */
        x = gan_pad(x, 0, -1, 0, -1, GAN_ZEROS);
    } else
        x = gan_conv2d_with(m, name, gan_pad(x, p, p, p, p, GAN_REFLECT), options);
    snprintf(name, sizeof name, "%s.%s.weight", style, norm);
    gan_tensor *scale = gan_param(m, name, 1, x->c, 1, 1);
    snprintf(name, sizeof name, "%s.%s.bias", style, norm);
    return gan_instance_norm_f(x, scale, gan_param(m, name, 1, x->c, 1, 1), (gan_real)1e-9);
}

static inline gan_tensor *zoo_tiny_johnson(gan_model *m, const char *style, gan_tensor *x)
{
    char conv[24], norm[24];
    x = gan_relu(zoo_tiny_conv(m, style, "conv1", "in1", x, 4, 9, 1, false));
    x = gan_relu(zoo_tiny_conv(m, style, "conv2", "in2", x, 8, 3, 2, false));
    x = gan_relu(zoo_tiny_conv(m, style, "conv3", "in3", x, 16, 3, 2, false));
    for (int i = 1; i <= 5; i++) {
        gan_tensor *y = x;
        for (int part = 1; part <= 2; part++) {
            snprintf(conv, sizeof conv, "res%d.conv%d", i, part);
            snprintf(norm, sizeof norm, "res%d.in%d", i, part);
            y = zoo_tiny_conv(m, style, conv, norm, y, 16, 3, 1, false);
            if (part == 1)
                y = gan_relu(y);
        }
        x = gan_add(x, y);
    }
    x = gan_relu(zoo_tiny_conv(m, style, "deconv1", "in4", x, 8, 3, 2, true));
    x = gan_relu(zoo_tiny_conv(m, style, "deconv2", "in5", x, 4, 3, 2, true));
    x = gan_tanh(zoo_tiny_conv(m, style, "conv4", "in6", x, 3, 9, 1, false));
    return gan_add_scalar(gan_mul_scalar(x, 150), (gan_real)127.5);
}

/* ---- MicroAST: two small encoders, AdaIN, and filters modulated by the style. Pictures in
   [0,1], sides multiples of 4. */

/* FIRST.LAST: a convolution with mirrored borders in so many groups. */
static gan_tensor *zoo_grouped(gan_model *m, const char *first, const char *last, gan_tensor *x,
                               int out, int kernel, int stride, int groups)
{
    char name[96];
    int p = kernel / 2;
    gan_conv_options options = {.out = out, .kernel = kernel, .stride = stride, .groups = groups};
    snprintf(name, sizeof name, "%s.%s", first, last);
    return gan_conv2d_with(m, name, p ? gan_pad(x, p, p, p, p, GAN_REFLECT) : x, options);
}

/* A 3x3 convolution in groups, FIRST.SPACE, and a 1x1 convolution of all channels,
   FIRST.CHANNELS, each with ReLU: far fewer weights than one convolution that does both. */
static gan_tensor *zoo_separable(gan_model *m, const char *first, const char *space,
                                 const char *channels, gan_tensor *x, int out, int stride,
                                 int groups)
{
    x = gan_relu(zoo_grouped(m, first, space, x, out, 3, stride, groups));
    return gan_relu(zoo_grouped(m, first, channels, x, out, 1, 1, 1));
}

/* x + conv2(ReLU(conv1(x))) */
static gan_tensor *zoo_residual(gan_model *m, const char *first, const char *block, gan_tensor *x)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", first, block);
    gan_tensor *y = gan_relu(zoo_grouped(m, name, "conv1", x, 64, 3, 1, 1));
    return gan_add(x, zoo_grouped(m, name, "conv2", y, 64, 3, 1, 1));
}

/* x (N,3,H,W) -> two maps (N,64,H/4,W/4). */
static void zoo_microast_encoder(gan_model *m, const char *first, gan_tensor *x,
                                 gan_tensor *features[2])
{
    x = gan_relu(zoo_grouped(m, first, "enc1.0", x, 16, 9, 1, 1));
    x = zoo_separable(m, first, "enc1.2", "enc1.4", x, 32, 2, 16);
    x = zoo_separable(m, first, "enc1.6", "enc1.8", x, 64, 2, 32);
    features[0] = zoo_residual(m, first, "enc1.10", x);
    features[1] = zoo_residual(m, first, "enc2.0", features[0]);
}

/* x + w*conv2(r) + b*r, r = ReLU(w*conv1(x) + b*x): the style's scales w and shifts b change the
   filters. */
static gan_tensor *zoo_modulated(gan_model *m, const char *name, gan_tensor *x, gan_tensor *w,
                                 gan_tensor *b)
{
    gan_tensor *first = gan_mul(w, zoo_grouped(m, name, "conv1", x, 64, 3, 1, 1));
    gan_tensor *r = gan_relu(gan_add(first, gan_mul(b, x)));
    gan_tensor *second = gan_mul(w, zoo_grouped(m, name, "conv2", r, 64, 3, 1, 1));
    return gan_add(x, gan_add(second, gan_mul(b, r)));
}

/* The sum of weights[k] * AdaIN(x, map k of the styles); one style's weight is 1. */
static gan_tensor *zoo_adain_mix(gan_tensor *x, gan_tensor **style, const gan_real *weights,
                                 int count)
{
    gan_tensor *sum = NULL;
    for (int k = 0; k < count; k++) {
        gan_tensor *one = gan_adain(x, style[k], (gan_real)1e-5);
        if (count > 1)
            one = gan_mul_scalar(one, weights[k]);
        sum = sum ? gan_add(sum, one) : one;
    }
    return sum;
}

/* What the decoder takes of the styles, 16 at most: the encoder's two maps of each, and the
   filters' scales and shifts (1,64,1,1), mixed. */
typedef struct {
    int count;
    const gan_real *weights;
    gan_tensor *map[2][16];
    gan_tensor *scale[2];
    gan_tensor *shift[2];
} zoo_styles;

/* total + weight * x of style k; the first style begins the sum. */
static gan_tensor *zoo_mix(const zoo_styles *styles, int k, gan_tensor *total, gan_tensor *x)
{
    if (styles->count > 1)
        x = gan_mul_scalar(x, styles->weights[k]);
    return k > 0 ? gan_add(total, x) : x;
}

/* modulator.PART of a style's map, averaged over its places: (1,64,1,1). */
static gan_tensor *zoo_modulator(gan_model *m, const char *part, gan_tensor *map)
{
    return gan_avg_pool2d(zoo_grouped(m, "modulator", part, map, 64, 3, 1, 64), 0, 1, 0);
}

static void zoo_take_styles(gan_model *m, zoo_styles *styles, gan_tensor **pictures)
{
    static const char *const scale_names[2] = {"weight1.0", "weight2.0"};
    static const char *const shift_names[2] = {"bias1.0", "bias2.0"};
    for (int k = 0; k < styles->count; k++) {
        gan_tensor *features[2];
        zoo_microast_encoder(m, "style_encoder", pictures[k], features);
        for (int i = 0; i < 2; i++) {
            gan_tensor *scale = zoo_modulator(m, scale_names[i], features[i]);
            gan_tensor *shift = zoo_modulator(m, shift_names[i], features[i]);
            styles->map[i][k] = features[i];
            styles->scale[i] = zoo_mix(styles, k, styles->scale[i], scale);
            styles->shift[i] = zoo_mix(styles, k, styles->shift[i], shift);
        }
    }
}

/* Several styles (at most 16), whose statistics and filters are mixed with weights that add up
   to 1. */
static inline gan_tensor *zoo_microast_mix(gan_model *m, gan_tensor *content, gan_tensor **pictures,
                                           const gan_real *weights, int count)
{
    zoo_styles styles = {.count = count, .weights = weights};
    gan_tensor *features[2];
    zoo_microast_encoder(m, "content_encoder", content, features);
    zoo_take_styles(m, &styles, pictures);
    gan_tensor *x = zoo_adain_mix(features[1], styles.map[1], weights, count);
    x = zoo_modulated(m, "decoder.dec1", x, styles.scale[1], styles.shift[1]);
    x = zoo_adain_mix(x, styles.map[0], weights, count);
    x = zoo_modulated(m, "decoder.dec2", x, styles.scale[0], styles.shift[0]);
    x = gan_resize(x, 2 * x->h, 2 * x->w, GAN_BILINEAR);
    x = zoo_separable(m, "decoder", "dec3.1", "dec3.3", x, 32, 1, 32);
    x = gan_resize(x, 2 * x->h, 2 * x->w, GAN_BILINEAR);
    x = zoo_separable(m, "decoder", "dec3.6", "dec3.8", x, 16, 1, 16);
    return zoo_grouped(m, "decoder", "dec3.10", x, 3, 9, 1, 1);
}

static inline gan_tensor *zoo_microast(gan_model *m, gan_tensor *content, gan_tensor *style)
{
    const gan_real one = 1;
    return zoo_microast_mix(m, content, &style, &one, 1);
}

/* ---- LeNet: x (N,1,28,28), a white digit on black, in [0,1] -> logits (N,10,1,1); features:
   (N,500,1,1), or NULL where not wanted. */
static inline gan_tensor *zoo_lenet(gan_model *m, gan_tensor *x, gan_tensor **features)
{
    x = gan_max_pool2d(gan_conv2d(m, "conv1", x, 20, 5, 1, 0), 2, 2, 0, false);
    x = gan_max_pool2d(gan_conv2d(m, "conv2", x, 50, 5, 1, 0), 2, 2, 0, false);
    x = gan_relu(gan_linear(m, "fc1", x, 500));
    if (features)
        *features = x;
    return gan_linear(m, "fc2", x, 10);
}

/* ---- the protocol by which the examples score digits: N images on each side, 28x28 and grey,
   the real ones MNIST's 10,000 test images; features are the 500 numbers before the last layer
   of the LeNet in examples/classifier.safetensors (examples/classifier.c trained it), classes
   its answers. */

/* The classifier from the file beside this one, or from the working folder; NULL and gan_error()
   if it is in neither. */
static inline gan_model *zoo_classifier(gan *g)
{
    gan_model *m = gan_model_new(g, "classifier");
    gan_eval(m);
    return gan_load(m, "examples/classifier.safetensors") || gan_load(m, "classifier.safetensors")
             ? m
             : NULL;
}

/* Gives the next n images (n,1,28,28) in [-1,1]. */
typedef gan_tensor *zoo_source(gan *g, int n, void *user);

enum { ZOO_FEATURES = 500, ZOO_CLASSES = 10, ZOO_PIXELS = 28 * 28 };

/* images (n,1,28,28) in [-1,1] -> their n x 500 features and, where wanted, n x 10 class
   probabilities. */
static inline void zoo_classify(gan_model *classifier, gan_tensor *images, gan_real *features,
                                gan_real *probabilities)
{
    gan_tensor *f;
    gan_tensor *from_0_to_1 = gan_mul_scalar(gan_add_scalar(images, 1), (gan_real)0.5);
    gan_tensor *logits = zoo_lenet(classifier, from_0_to_1, &f);
    gan_to_host(f, features);
    if (probabilities)
        gan_to_host(gan_softmax(logits, 1), probabilities);
}

/* The classifier's features (n,500) and class probabilities (n,10) of n images from next. */
static inline void zoo_measure(gan_model *classifier, gan *g, zoo_source *next, void *user, int n,
                               gan_real *features, gan_real *probabilities)
{
    for (int done = 0; done < n; done += 100) {
        gan_mark mark = gan_here(g);
        int some = n - done < 100 ? n - done : 100;
        zoo_classify(classifier, next(g, some, user), features + (size_t)done * ZOO_FEATURES,
                     probabilities + (size_t)done * ZOO_CLASSES);
        gan_clear_to(g, mark);
    }
}

/* The features of the first n images of a data set. */
static inline void zoo_measure_data(gan_model *classifier, gan *g, gan_data *data, int n,
                                    gan_real *features)
{
    gan_real *pixels = (gan_real *)malloc((size_t)100 * ZOO_PIXELS * sizeof *pixels);
    for (int done = 0; done < n; done += 100) {
        gan_mark mark = gan_here(g);
        int some = n - done < 100 ? n - done : 100;
        for (int k = 0; k < some; k++)
            gan_data_item(data, done + k, pixels + ZOO_PIXELS * k, NULL);
        zoo_classify(classifier, gan_from_host(g, pixels, some, 1, 28, 28),
                     features + (size_t)done * ZOO_FEATURES, NULL);
        gan_clear_to(g, mark);
    }
    free(pixels);
}

/* Prints the scores of n images from next against the first images of the set real, n or as many
   as it has, and how many images each class got. Returns the Frechet distance. */
static inline double zoo_score(const char *title, gan_model *classifier, gan *g, gan_data *real,
                               zoo_source *next, void *user, int n)
{
    int count = gan_data_size(real) < n ? gan_data_size(real) : n;
    int histogram[ZOO_CLASSES];
    gan_real *real_features = (gan_real *)malloc((size_t)count * ZOO_FEATURES * sizeof(gan_real));
    gan_real *features = (gan_real *)malloc((size_t)n * ZOO_FEATURES * sizeof(gan_real));
    gan_real *probabilities = (gan_real *)malloc((size_t)n * ZOO_CLASSES * sizeof(gan_real));
    zoo_measure_data(classifier, g, real, count, real_features);
    zoo_measure(classifier, g, next, user, n, features, probabilities);
    double distance = gan_print_scores(title, real_features, count, features, n, ZOO_FEATURES,
                                       probabilities, ZOO_CLASSES);
    gan_modes(probabilities, n, ZOO_CLASSES, histogram);
    printf("%*s classes", (int)strlen(title), "");
    for (int k = 0; k < ZOO_CLASSES; k++)
        printf(" %d:%d", k, histogram[k]);
    printf("\n");
    free(real_features);
    free(features);
    free(probabilities);
    return distance;
}

#endif
