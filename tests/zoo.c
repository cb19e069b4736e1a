/* tests/zoo.c: the networks of examples/zoo.h, filled from files made with PyTorch, against
   PyTorch's own outputs.

       zoo [folder]     the folder with the files (squeezenet1_1.safetensors ...
                        reference_outputs.safetensors)

   Without the folder only what needs no file is tested: shapes, names, and the messages of files
   that do not fit. */
#include "test.h"
#include "../examples/zoo.h"

static gan *g;
static gan_model *reference;
static const char *folder = "../shared/data/weights";

/* One picture of the references, bytes 0..255, times scale. */
static gan_tensor *picture(const char *name, gan_real scale)
{
    return gan_mul_scalar(gan_find_param(reference, name), scale);
}

/* The largest difference over the range of what is wanted. 1e-3 is float's rounding through a
   deep network: sums of thousands of terms, in another order than PyTorch's. */
static void compare(const char *what, gan_tensor *got, const char *name)
{
    gan_tensor *want = gan_find_param(reference, name);
    size_t count = gan_count(got);
    if (!want || gan_count(want) != count) {
        printf("FAIL %s: no reference %s of %.0f numbers\n", what, name, (double)count);
        tests_failed++;
        return;
    }
    gan_real *a = malloc(count * sizeof *a);
    gan_real *b = malloc(count * sizeof *b);
    double low = HUGE_VAL, high = -HUGE_VAL, worst = 0;
    bool finite = true;
    gan_to_host(got, a);
    gan_to_host(want, b);
    for (size_t i = 0; i < count; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d < HUGE_VAL))
            finite = false;
        worst = d > worst ? d : worst;
        low = b[i] < low ? b[i] : low;
        high = b[i] > high ? b[i] : high;
    }
    if (finite && worst <= 1e-3 * (high - low)) {
        tests_passed++;
        printf("ok   %s: %s to %.1e of its range\n", what, name, worst / (high - low));
    } else {
        tests_failed++;
        printf("FAIL %s: %s differs by %.3g, its range is %.3g\n", what, name, worst, high - low);
    }
    free(a);
    free(b);
}

static gan_model *load(const char *name, const char *file)
{
    char path[512];
    gan_model *m = gan_model_new(g, name);
    snprintf(path, sizeof path, "%s/%s.safetensors", folder, file);
    if (!gan_load(m, path)) {
        printf("FAIL %s\n", gan_error());
        tests_failed++;
    }
    gan_eval(m);
    return m;
}

static gan_tensor *spatial_mean(gan_tensor *x)
{
    return gan_mean_to(x, x->n, x->c, 1, 1);
}

static void squeezenet(void)
{
    gan_model *m = load("squeezenet", "squeezenet1_1");
    zoo_features f = {0};
    compare("squeezenet",
            zoo_squeezenet(
                m, zoo_imagenet(picture("squeezenet1_1.cat.input_u8", (gan_real)(1 / 255.0))), &f,
                false),
            "squeezenet1_1.cat.logits");
    for (int k = 0; k < 13; k++) {
        char layer[8], name[64];
        snprintf(layer, sizeof layer, "%d", k);
        snprintf(name, sizeof name, "squeezenet1_1.cat.features_%d.channel_mean", k);
        compare("squeezenet", spatial_mean(zoo_feature(&f, layer)), name);
    }
    compare("squeezenet",
            zoo_squeezenet(
                m, zoo_imagenet(picture("squeezenet1_1.coffee.input_u8", (gan_real)(1 / 255.0))),
                NULL, false),
            "squeezenet1_1.coffee.logits");
    gan_clear(g);
}

static void vgg(void)
{
    static const int small[5] = {16, 32, 64, 128, 128};
    gan_model *m = load("vgg", "vgg19_norm_relu3_1");
    gan_model *d = load("decoders", "vgg19_norm_decoders");
    gan_model *s = load("small", "vgg19_small16x_wct");
    gan_tensor *x = picture("vgg19_norm.input_u8", (gan_real)(1 / 255.0));
    gan_tensor *style = picture("style_u8", (gan_real)(1 / 255.0));
    zoo_features f = {0};
    gan_tensor *y = zoo_vgg_encoder(m, "features", zoo_vgg_channels, 3, x, &f);
    compare("vgg19", y, "vgg19_norm.relu3_1");
    compare("vgg19", spatial_mean(zoo_feature(&f, "relu1_1")), "vgg19_norm.relu1_1.channel_mean");
    compare("vgg19", spatial_mean(zoo_feature(&f, "relu2_1")), "vgg19_norm.relu2_1.channel_mean");
    compare("vgg19 decoder", zoo_vgg_decoder(d, "dec3", zoo_vgg_channels, 3, y, false),
            "vgg19_norm.dec3_of_relu3_1");
    y = gan_adain(y, zoo_vgg_encoder(m, "features", zoo_vgg_channels, 3, style, NULL),
                  (gan_real)1e-5);
    compare("adain", zoo_vgg_decoder(d, "dec3", zoo_vgg_channels, 3, y, false),
            "vgg19_norm.adain3_starry");
    y = zoo_vgg_encoder(s, "enc3", small, 3, x, NULL);
    compare("small vgg19", y, "small16x.enc3");
    compare("small vgg19", zoo_vgg_decoder(s, "dec3", small, 3, y, true), "small16x.dec3_of_enc3");
    y = zoo_vgg_encoder(s, "enc5", small, 5, x, NULL);
    compare("small vgg19", y, "small16x.enc5");
    compare("small vgg19", zoo_vgg_decoder(s, "dec5", small, 5, y, true), "small16x.dec5_of_enc5");
    gan_clear(g);
}

static void styles(void)
{
    gan_tensor *x = picture("vgg19_norm.input_u8", 1);
    gan_tensor *style = picture("style_u8", 1);
    compare("johnson", zoo_johnson(load("johnson", "johnson_mosaic_f16"), x),
            "johnson_mosaic.out_255");
    compare("tiny johnson", zoo_tiny_johnson(load("vangogh", "vangogh_tiny"), "starry_night", x),
            "vangogh_tiny.starry_night.out_255");
    x = gan_mul_scalar(x, (gan_real)(1 / 255.0));
    style = gan_mul_scalar(style, (gan_real)(1 / 255.0));
    compare("microast", zoo_microast(load("microast", "microast"), x, style), "microast.starry");
    gan_clear(g);
}

static void lenet(void)
{
    gan_tensor *features,
        *logits = zoo_lenet(load("lenet", "lenet_mnist"),
                            picture("lenet.input_u8", (gan_real)(1 / 255.0)), &features);
    compare("lenet", features, "lenet.fc1_relu");
    compare("lenet", logits, "lenet.logits");
    gan_clear(g);
}

/* ---- without files */

/* VGG's published sizes (Simonyan and Zisserman 2015, table 2, without the three dense layers of
   123,642,856 numbers). */
static void vgg_sizes(void)
{
    gan_model *a = gan_model_new(g, "vgg16");
    gan_model *b = gan_model_new(g, "vgg19");
    gan_tensor *x = gan_zeros(g, 1, 3, 32, 32);
    gan_tensor *y = zoo_vgg(a, 16, x, "", NULL);
    CHECK(y->c == 512 && y->h == 1 && y->w == 1, "vgg16 ends at (%d,%d,%d,%d)", y->n, y->c, y->h,
          y->w);
    zoo_vgg(b, 19, x, "", NULL);
    CHECK(gan_param_count(a) == 138357544 - 123642856, "vgg16 has %.0f numbers",
          (double)gan_param_count(a));
    CHECK(gan_param_count(b) == 143667240 - 123642856, "vgg19 has %.0f numbers",
          (double)gan_param_count(b));
    CHECK(gan_find_param(a, "features.28.weight") && gan_find_param(b, "features.34.weight"),
          "the last convolutions are features.28 and features.34");
    gan_clear(g);
}

static void part_of_vgg(void)
{
    zoo_features f = {0};
    gan_model *m = gan_model_new(g, "part");
    gan_tensor *y = zoo_vgg(m, 19, gan_zeros(g, 1, 3, 16, 24), "relu2_2", &f);
    CHECK(f.count == 4 && y == zoo_feature(&f, "relu2_2") && y->c == 128 && y->h == 8 && y->w == 12,
          "relu2_2 is (%d,%d,%d,%d), %d features", y->n, y->c, y->h, y->w, f.count);
    CHECK(!zoo_feature(&f, "relu3_1"), "a layer after the last one");
    gan_clear(g);
}

int main(int argc, char **argv)
{
    char path[512];
    FILE *there;
    if (argc > 1)
        folder = argv[1];
    g = gan_open("cpu", 1);
    run("vgg_sizes", vgg_sizes);
    run("part_of_vgg", part_of_vgg);
    snprintf(path, sizeof path, "%s/reference_outputs.safetensors", folder);
    there = fopen(path, "rb");
    if (there) {
        fclose(there);
        reference = gan_model_new(g, "reference");
        if (!gan_load(reference, path)) {
            printf("FAIL %s\n", gan_error());
            tests_failed++;
        } else {
            squeezenet();
            vgg();
            styles();
            lenet();
        }
    } else
        printf("     no folder %s: PyTorch's outputs of the networks are not compared\n", folder);
    gan_close(g);
    return finish();
}
