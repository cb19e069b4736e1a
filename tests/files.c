/* tests/files.c: checkpoints, saved trainings and IDX files: that they come back whole, and that
   a broken one is refused with an error that names it and with nothing changed. Every broken
   file is made here, byte by byte. */
#if defined(__unix__) || defined(__APPLE__)
#define _XOPEN_SOURCE 700 /* symlink, unlink */
#include <unistd.h>
#define HAVE_SYMLINK 1
#endif
#include "test.h"

/* Scratch files beside this program: main() names and removes them, and nothing else may set
   these. */
static char path[512], other[512];

/* -------------------------------------------------------------------------------------------
   Bytes and files
   ------------------------------------------------------------------------------------------- */
typedef struct {
    unsigned char *data;
    size_t size;
} bytes;

static bytes read_file(const char *name)
{
    bytes b = {NULL, 0};
    FILE *f = fopen(name, "rb");
    if (!f)
        return b;
    fseek(f, 0, SEEK_END);
    b.size = (size_t)ftell(f);
    rewind(f);
    b.data = (unsigned char *)malloc(b.size + 1);
    b.size = fread(b.data, 1, b.size, f);
    fclose(f);
    return b;
}

static void write_file(const char *name, const void *data, size_t size)
{
    FILE *f = fopen(name, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) {
        printf("cannot write %s\n", name);
        exit(2);
    }
}

static bool exists(const char *name)
{
    FILE *f = fopen(name, "rb");
    if (f)
        fclose(f);
    return f != NULL;
}

static bool same(bytes a, bytes b)
{
    return a.data && b.data && a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

/* A safetensors file of that header (as C text) and data. */
static void write_safetensors(const char *name, const char *header, const void *data, size_t size)
{
    size_t length = strlen(header);
    unsigned char *b = (unsigned char *)malloc(8 + length + size);
    for (int i = 0; i < 8; i++)
        b[i] = (unsigned char)((uint64_t)length >> (8 * i));
    memcpy(b + 8, header, length);
    if (size)
        memcpy(b + 8 + length, data, size);
    write_file(name, b, 8 + length + size);
    free(b);
}

/* float32 numbers, as the file holds them: little-endian. */
static const unsigned char *little_endian(const float *x, size_t n)
{
    static unsigned char b[256];
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], 4);
        for (int k = 0; k < 4; k++)
            b[4 * i + (size_t)k] = (unsigned char)(u >> (8 * k));
    }
    return b;
}

/* -------------------------------------------------------------------------------------------
   A small model: every kind of parameter, few bytes
   ------------------------------------------------------------------------------------------- */
static gan_tensor *net(gan_model *m, gan_tensor *x) /* (N,1,4,4) -> (N,1,1,1) */
{
    x = gan_leaky_relu(gan_batch_norm(m, "bn", gan_conv2d(m, "conv", x, 2, 2, 2, 0)),
                       (gan_real)0.2);
    return gan_linear(m, "fc", x, 1);
}

static const char *const net_names[] = {"conv.weight",    "conv.bias", "bn.weight",
                                        "bn.bias",        "fc.weight", "bn.running_mean",
                                        "bn.running_var", "fc.bias"};

enum { NET_NAMES = 8, NET_NUMBERS = 8 + 2 + 2 + 2 + 8 + 2 + 2 + 1 };

static gan_model *new_net(gan *g, const char *name)
{
    gan_model *m = gan_model_new(g, name);
    net(m, gan_randn(g, 3, 1, 4,
                     4)); /* makes the parameters, and running statistics that are not 0 and 1 */
    return m;
}

static void snapshot(gan_model *m, gan_real *out)
{
    for (int i = 0; i < NET_NAMES; i++) {
        gan_tensor *t = gan_find_param(m, net_names[i]);
        if (!t) {
            printf("no %s\n", net_names[i]);
            exit(2);
        }
        gan_to_host(t, out);
        out += gan_count(t);
    }
}

static bool unchanged(gan_model *m, const gan_real *before)
{
    gan_real now[NET_NUMBERS];
    snapshot(m, now);
    return memcmp(now, before, sizeof now) == 0;
}

/* -------------------------------------------------------------------------------------------
   Round trips
   ------------------------------------------------------------------------------------------- */
static void round_trip(void)
{
    gan *g = gan_open("cpu", 1);
    gan_model *a = new_net(g, "a");
    gan_model *b = new_net(g, "b");
    gan_model *empty = gan_model_new(g, "empty");
    gan_real before[NET_NUMBERS];
    snapshot(a, before);
    CHECK(!unchanged(b, before), "two new models have the same numbers");
    CHECK(gan_save(a, path), "gan_save: %s", gan_error());
    CHECK(gan_load(b, path), "gan_load: %s", gan_error());
    CHECK(unchanged(b, before), "other numbers came back");
    CHECK(gan_load(empty, path), "into an empty model: %s", gan_error());
    CHECK(unchanged(empty, before), "other numbers came back into an empty model");

    gan_eval(a);
    gan_eval(empty);
    gan_tensor *x = gan_randn(g, 2, 1, 4, 4);
    gan_real ya[2], yb[2];
    gan_to_host(net(a, x), ya);
    gan_to_host(net(empty, x), yb); /* the layers must find what was loaded, in their shapes */
    CHECK(memcmp(ya, yb, sizeof ya) == 0, "the loaded model computes something else");

    bytes first = read_file(path);
    CHECK(gan_save(empty, other), "gan_save: %s", gan_error());
    bytes second = read_file(other);
    CHECK(same(first, second), "saving what was loaded gives another file");
    free(first.data);
    free(second.data);
    gan_close(g);
}

/* A GAN of two models, two kinds of optimizer, batch norm, data and noise: all that a saved
   training has to hold. */
typedef struct {
    gan *g;
    gan_model *G, *D;
    gan_opt *opt_g, *opt_d;
    gan_data *data;
} training;

static training begin(uint64_t seed)
{
    training t;
    t.g = gan_open("cpu", seed);
    t.G = gan_model_new(t.g, "G");
    t.D = gan_model_new(t.g, "D");
    t.opt_g = gan_adam(t.G, (gan_real)1e-2, (gan_real)0.5, (gan_real)0.999);
    t.opt_d = gan_sgd(t.D, (gan_real)1e-2, (gan_real)0.9);
    t.data = gan_data_digits(t.g, 50);
    return t;
}

static gan_tensor *generate(gan_model *G, gan_tensor *z)
{
    gan_tensor *x = gan_relu(
        gan_batch_norm(G, "bn", gan_reshape(gan_linear(G, "fc", z, 2 * 7 * 7), -1, 2, 7, 7)));
    return gan_tanh(gan_conv_transpose2d(G, "up", x, 1, 4, 4, 0));
}

static gan_tensor *judge(gan_model *D, gan_tensor *x)
{
    x = gan_leaky_relu(gan_batch_norm(D, "bn", gan_conv2d(D, "conv", x, 2, 4, 4, 0)),
                       (gan_real)0.2);
    return gan_linear(D, "fc", x, 1);
}

/* Batches of 16 from 50 images: the steps from 3 on lie in a second epoch, with an order of its
   own. */
static void train(training *t, int from, int to, gan_real *losses)
{
    for (int step = from; step < to; step++) {
        gan_tensor *real = gan_batch(t->data, 16, NULL);
        gan_tensor *fake = generate(t->G, gan_randn(t->g, 16, 3, 1, 1));
        gan_tensor *d = gan_add(gan_bce_logits(judge(t->D, real), 1),
                                gan_bce_logits(judge(t->D, gan_detach(fake)), 0));
        gan_minimize(t->opt_d, d);
        gan_tensor *e = gan_bce_logits(judge(t->D, fake), 1);
        gan_minimize(t->opt_g, e);
        losses[2 * step] = gan_item(d);
        losses[2 * step + 1] = gan_item(e);
        gan_clear(t->g);
    }
}

static void resume_is_exact(void)
{
    gan_real whole[20], halves[20];
    training t = begin(7);
    train(&t, 0, 10, whole);
    CHECK(gan_save_state(t.g, path, 10), "gan_save_state: %s", gan_error());
    gan_close(t.g);
    bytes in_one_go = read_file(path);

    for (
        int warm = 0; warm < 2;
        /* warm: the second half's models have parameters and moments already, all to be replaced */
        warm++) {
        t = begin(7);
        train(&t, 0, 5, halves);
        CHECK(gan_save_state(t.g, other, 5), "gan_save_state: %s", gan_error());
        gan_close(t.g);

        int step = -1;
        gan_real unused[20];
        t = begin(7);
        if (warm)
            train(&t, 0, 2, unused);
        CHECK(gan_load_state(t.g, other, &step), "gan_load_state: %s", gan_error());
        CHECK(step == 5, "the step came back as %d", step);
        train(&t, 5, 10, halves);
        CHECK(memcmp(whole, halves, sizeof whole) == 0, "the losses after the break differ%s",
              warm ? " (warm)" : "");
        CHECK(gan_save_state(t.g, other, 10), "gan_save_state: %s", gan_error());
        gan_close(t.g);
        bytes in_two = read_file(other);
        CHECK(same(in_one_go, in_two), "the state after 5 + 5 steps differs from that after 10%s",
              warm ? " (warm)" : "");
        free(in_two.data);
    }
    free(in_one_go.data);
}

/* A broken state loses nothing: the training that was under way, saved again, gives the same
   bytes. */
static void broken_states(void)
{
    gan_real losses[8];
    training t = begin(7);
    train(&t, 0, 3, losses);
    CHECK(gan_save_state(t.g, path, 3), "gan_save_state: %s", gan_error());
    bytes whole = read_file(path);
    train(&t, 3, 4, losses);
    CHECK(gan_save_state(t.g, other, 4), "gan_save_state: %s", gan_error());
    bytes before = read_file(other);

    for (size_t n = 0; n < whole.size;
         n += n < 8000 || n + 300 > whole.size
                ? 1
                : 97) { /* every prefix of header and end, some of the middle */
        int step = -1;
        write_file(path, whole.data, n);
        CHECK(!gan_load_state(t.g, path, &step), "the first %lu of %lu bytes load",
              (unsigned long)n, (unsigned long)whole.size);
        CHECK(step == -1, "a step came out of the first %lu bytes", (unsigned long)n);
        CHECK(strstr(gan_error(), path), "the error does not name the file: %s", gan_error());
    }
    CHECK(gan_save_state(t.g, other, 4), "gan_save_state: %s", gan_error());
    bytes after = read_file(other);
    CHECK(same(before, after), "failed loads changed the training");

    /* Another training's state: the models do not fit. */
    gan *g = gan_open("cpu", 7);
    gan_model *G = gan_model_new(g, "G");
    gan_adam(G, (gan_real)1e-3, (gan_real)0.5, (gan_real)0.999);
    gan_linear(G, "fc", gan_randn(g, 2, 5, 1, 1), 3);
    int step = -1;
    CHECK(!gan_load_state(g, other, &step) && step == -1, "a state of other models loads");
    CHECK(strstr(gan_error(), other), "the error does not name the file: %s", gan_error());
    CHECK(gan_save(G, path), "gan_save: %s", gan_error());
    CHECK(!gan_load_state(t.g, path, &step), "a file of gan_save loads as a state");
    CHECK(strstr(gan_error(), path), "the error does not name the file: %s", gan_error());
    gan_model *empty = gan_model_new(g, "empty");
    CHECK(!gan_load(empty, other) && gan_param_count(empty) == 0,
          "an empty model takes a training's state");
    CHECK(strstr(gan_error(), "gan_load_state"), "the error does not say what reads it: %s",
          gan_error());
    gan_close(g);
    gan_close(t.g);
    free(whole.data);
    free(before.data);
    free(after.data);
}

/* -------------------------------------------------------------------------------------------
   Broken checkpoints
   ------------------------------------------------------------------------------------------- */
static void every_prefix(void)
{
    gan *g = gan_open("cpu", 2);
    gan_model *m = new_net(g, "m");
    gan_model *empty = gan_model_new(g, "empty");
    CHECK(gan_save(m, path), "gan_save: %s", gan_error());
    bytes whole = read_file(path);
    net(m, gan_randn(g, 3, 1, 4, 4)); /* other running statistics than the file's */
    gan_real before[NET_NUMBERS];
    snapshot(m, before);
    for (size_t n = 0; n < whole.size; n++) {
        write_file(other, whole.data, n);
        CHECK(!gan_load(m, other), "the first %lu of %lu bytes load", (unsigned long)n,
              (unsigned long)whole.size);
        CHECK(strstr(gan_error(), other), "the error does not name the file: %s", gan_error());
        CHECK(unchanged(m, before), "the first %lu bytes changed the model", (unsigned long)n);
        CHECK(!gan_load(empty, other) && !gan_find_param(empty, "conv.weight"),
              "the first %lu bytes filled an empty model", (unsigned long)n);
    }
    whole.data[whole.size] = 0; /* read_file leaves room for one more */
    write_file(other, whole.data, whole.size + 1);
    CHECK(!gan_load(m, other) && unchanged(m, before), "a byte too many loads");
    write_file(other, whole.data, whole.size);
    CHECK(gan_load(m, other), "the whole file does not load: %s", gan_error());
    free(whole.data);
    gan_close(g);
}

/* One byte of the header wrong: a clean refusal, or a file that is valid as it stands (0.5 for
   "0.5", another name). */
static void every_header_byte(void)
{
    static const unsigned char structural[] = "\"{}[],:\\0-9eu ";
    gan *g = gan_open("cpu", 3);
    gan_model *m = gan_model_new(g, "m");
    gan_batch_norm(m, "bn", gan_linear(m, "fc", gan_randn(g, 3, 2, 1, 1), 2));
    CHECK(gan_save(m, path), "gan_save: %s", gan_error());
    bytes whole = read_file(path);
    CHECK(whole.size > 8, "no file");
    size_t header = 8 + (size_t)whole.data[0] + 256 * (size_t)whole.data[1];
    CHECK(header < whole.size, "a header of %lu bytes in a file of %lu", (unsigned long)header,
          (unsigned long)whole.size);

    int refused = 0, loaded = 0;
    for (size_t i = 0; i < header; i++) {
        unsigned char right = whole.data[i];
        for (unsigned k = 0; k < 8 + sizeof structural; k++) {
            whole.data[i] = k < 8 ? (unsigned char)(right ^ (1u << k)) : structural[k - 8];
            write_file(other, whole.data, whole.size);
            if (whole.data[i] == right)
                continue;
            gan_real before[6], after[6]; /* fc.weight and fc.bias */
            gan_to_host(gan_find_param(m, "fc.weight"), before);
            gan_to_host(gan_find_param(m, "fc.bias"), before + 4);
            if (gan_load(m, other)) {
                loaded++;
                continue;
            }
            refused++;
            gan_to_host(gan_find_param(m, "fc.weight"), after);
            gan_to_host(gan_find_param(m, "fc.bias"), after + 4);
            CHECK(memcmp(before, after, sizeof before) == 0,
                  "byte %lu = %d: refused, yet the model changed", (unsigned long)i, whole.data[i]);
            CHECK(strstr(gan_error(), other), "byte %lu = %d: the error does not name the file: %s",
                  (unsigned long)i, whole.data[i], gan_error());
        }
        whole.data[i] = right;
    }
    CHECK(refused > 10 * loaded, "%d refused, %d loaded: that is too many", refused, loaded);
    free(whole.data);
    gan_close(g);
}

static void mismatches(void)
{
    gan *g = gan_open("cpu", 4);
    gan_model *m = new_net(g, "m");
    gan_model *less = gan_model_new(g, "less");
    gan_model *wide = gan_model_new(g, "wide");
    gan_linear(less, "fc", gan_randn(g, 2, 8, 1, 1), 1);
    gan_leaky_relu(
        gan_batch_norm(wide, "bn", gan_conv2d(wide, "conv", gan_randn(g, 3, 1, 4, 4), 2, 2, 2, 0)),
        (gan_real)0.2);
    gan_linear(wide, "fc", gan_randn(g, 2, 9, 1, 1),
               1); /* as m, but for fc.weight (1,9) in place of (1,8) */
    gan_real before[NET_NUMBERS];
    snapshot(m, before);

    CHECK(gan_save(less, path), "gan_save: %s", gan_error());
    CHECK(!gan_load(m, path), "a file that lacks parameters loads");
    CHECK(strstr(gan_error(), path), "the error does not name the file: %s", gan_error());
    CHECK(strstr(gan_error(), "conv.weight") || strstr(gan_error(), "conv.bias") ||
              strstr(gan_error(), "bn."),
          "the error does not name a missing tensor: %s", gan_error());
    CHECK(unchanged(m, before), "a file that lacks parameters changed the model");

    CHECK(gan_save(m, path), "gan_save: %s", gan_error());
    CHECK(!gan_load(less, path), "a file with too many parameters loads");
    CHECK(strstr(gan_error(), path), "the error does not name the file: %s", gan_error());
    CHECK(strstr(gan_error(), "conv.") || strstr(gan_error(), "bn."),
          "the error does not name the extra tensor: %s", gan_error());

    CHECK(gan_save(wide, path), "gan_save: %s", gan_error());
    CHECK(!gan_load(m, path), "a file of other shapes loads");
    CHECK(strstr(gan_error(), path) && strstr(gan_error(), "fc.weight"),
          "the error does not name file and tensor: %s", gan_error());
    CHECK(strstr(gan_error(), "(1,8,1,1)") && strstr(gan_error(), "(1,9,1,1)"),
          "the error does not name both shapes: %s", gan_error());
    CHECK(unchanged(m, before), "a file of other shapes changed the model");

    CHECK(!gan_load(m, "no/such/file"), "a file that is not there loads");
    CHECK(strstr(gan_error(), "no/such/file"), "the error does not name the file: %s", gan_error());
    CHECK(!gan_load(m, "."), "a folder loads");
    gan_close(g);
}

/* Headers that no honest program writes, in front of 16 bytes of data. A model without
   parameters takes anything valid. */
static void hostile_headers(void)
{
#define T(dtype, shape, from_to) \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" from_to "}"
#define ALL T("F32", "[4]", "[0,16]")

    static const struct {
        const char *what, *header;
    } bad[] = {
        {"nothing", ""},
        {"not an object", "[]"},
        {"a number", "17"},
        {"text after the object", "{\"a\":" ALL "}x"},
        {"two objects", "{\"a\":" ALL "}{}"},
        {"no tensor for the data", "{}"},
        {"a trailing comma", "{\"a\":" ALL ",}"},
        {"a missing colon", "{\"a\"" ALL "}"},
        {"a string that does not end", "{\"a"},
        {"an object that does not end", "{\"a\":" ALL},
        {"a name twice",
         "{\"a\":" T("F32", "[2]", "[0,8]") ",\"a\":" T("F32", "[2]", "[8,16]") "}"},
        {"a name twice, once escaped",
         "{\"a\":" T("F32", "[2]", "[0,8]") ",\"\\u0061\":" T("F32", "[2]", "[8,16]") "}"},
        {"overlapping tensors", "{\"a\":" ALL ",\"b\":" ALL "}"},
        {"tensors that overlap in part",
         "{\"a\":" T("F32", "[3]", "[0,12]") ",\"b\":" T("F32", "[2]", "[8,16]") "}"},
        {"a hole between tensors",
         "{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[2]", "[8,16]") "}"},
        {"offsets past the end", "{\"a\":" T("F32", "[5]", "[0,20]") "}"},
        {"offsets that wrap", "{\"a\":" T("F32", "[4]", "[18446744073709551608,8]") "}"},
        {"offsets too large for any integer",
         "{\"a\":" T("F32", "[4]", "[0,99999999999999999999999999]") "}"},
        {"offsets the wrong way round", "{\"a\":" T("F32", "[4]", "[16,0]") "}"},
        {"negative offsets", "{\"a\":" T("F32", "[4]", "[-16,0]") "}"},
        {"one offset", "{\"a\":" T("F32", "[4]", "[16]") "}"},
        {"three offsets", "{\"a\":" T("F32", "[4]", "[0,8,16]") "}"},
        {"offsets with a fraction", "{\"a\":" T("F32", "[4]", "[0,16.5]") "}"},
        {"offsets with an exponent", "{\"a\":" T("F32", "[4]", "[0,1e9]") "}"},
        {"an empty offset", "{\"a\":" T("F32", "[4]", "[,16]") "}"},
        {"a shape that does not fit the bytes", "{\"a\":" T("F32", "[3]", "[0,16]") "}"},
        {"a negative size", "{\"a\":" T("F32", "[-4]", "[0,16]") "}"},
        {"two negative sizes", "{\"a\":" T("F32", "[-2,-2]", "[0,16]") "}"},
        {"a size of zero", "{\"a\":" ALL ",\"b\":" T("F32", "[0]", "[16,16]") "}"},
        {"sizes that overflow 32 bits", "{\"a\":" T("F32", "[65536,65536,4]", "[0,16]") "}"},
        {"sizes that overflow 64 bits",
         "{\"a\":" T("F32", "[4294967296,4294967296,4]", "[0,16]") "}"},
        {"a size that wraps to 4", "{\"a\":" T("F32", "[18446744073709551620]", "[0,16]") "}"},
        {"a size above an int", "{\"a\":" T("F32", "[4294967300]", "[0,16]") "}"},
        {"five dimensions", "{\"a\":" T("F32", "[1,1,1,2,2]", "[0,16]") "}"},
        {"a shape of strings", "{\"a\":" T("F32", "[\"4\"]", "[0,16]") "}"},
        {"a shape that is a number", "{\"a\":" T("F32", "4", "[0,16]") "}"},
        {"integers", "{\"a\":" T("I32", "[4]", "[0,16]") "}"},
        {"an unknown dtype", "{\"a\":" T("F31", "[4]", "[0,16]") "}"},
        {"an empty dtype", "{\"a\":" T("", "[4]", "[0,16]") "}"},
        {"no dtype", "{\"a\":{\"shape\":[4],\"data_offsets\":[0,16]}}"},
        {"no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}"},
        {"no offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[4]}}"},
        {"dtype twice",
         "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[0,16]}}"},
        {"a tensor that is a number", "{\"a\":4}"},
        {"a tensor that is null", "{\"a\":null}"},
        {"a bad escape", "{\"\\x\":" ALL "}"},
        {"an escape cut short", "{\"\\u00\":" ALL "}"},
        {"an escape of letters", "{\"\\u6zzz\":" ALL "}"},
        {"an escape at the end", "{\"a\\"},
        {"a number with a leading zero and letters", "{\"a\":" T("F32", "[0x4]", "[0,16]") "}"},
        {"comments", "{/**/\"a\":" ALL "}"},
        {"single quotes", "{'a':" ALL "}"},
        {"metadata that does not end", "{\"__metadata__\":{\"a\":\"b\""},
    };

    static const unsigned char data[16] = {0};
    gan *g = gan_open("cpu", 5);
    gan_model *m = gan_model_new(g, "m");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_safetensors(path, bad[i].header, data, 16);
        CHECK(!gan_load(m, path), "%s: it loads", bad[i].what);
        CHECK(strstr(gan_error(), path), "%s: the error does not name the file: %s", bad[i].what,
              gan_error());
        CHECK(!gan_find_param(m, "a"), "%s: it left a parameter behind", bad[i].what);
    }
    write_safetensors(path, "{\"a\":" ALL "}", data,
                      16); /* and what they are all close to is valid */
    CHECK(gan_load(m, path), "the valid one does not load: %s", gan_error());
    gan_close(g);
}

static void hostile_lengths(void)
{
    gan *g = gan_open("cpu", 5);
    gan_model *m = gan_model_new(g, "m");
    static const uint64_t lengths[] = {9,
                                       1000,
                                       0x7fffffffu,
                                       0x80000000u,
                                       0xffffffffu,
                                       0x100000000u,
                                       0x7fffffffffffffffu,
                                       0xfffffffffffffff8u,
                                       0xffffffffffffffffu};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths;
         i++) { /* longer than the file: refused, not allocated */
        unsigned char b[16] = "        {}      ";
        for (int k = 0; k < 8; k++)
            b[k] = (unsigned char)(lengths[i] >> (8 * k));
        write_file(path, b, sizeof b);
        CHECK(!gan_load(m, path), "a header of %g bytes in a file of 16 loads", (double)lengths[i]);
        CHECK(strstr(gan_error(), path), "the error does not name the file: %s", gan_error());
    }

    enum { DEPTH = 1000000 }; /* deep enough to overflow the stack of a parser that recurses */

    static const char *const openings[] = {"[", "{\"a\":"};
    for (int i = 0; i < 2; i++) {
        size_t one = strlen(openings[i]);
        char *deep = (char *)malloc(DEPTH * one + 32);
        strcpy(deep, "{\"__metadata__\":");
        size_t at = strlen(deep);
        for (int k = 0; k < DEPTH; k++)
            memcpy(deep + at + (size_t)k * one, openings[i], one);
        deep[at + DEPTH * one] = 0;
        write_safetensors(path, deep, "", 0);
        free(deep);
        CHECK(!gan_load(m, path), "a million levels of %s load", openings[i]);
        CHECK(strstr(gan_error(), path), "the error does not name the file: %s", gan_error());
    }
    gan_close(g);
}

/* -------------------------------------------------------------------------------------------
   Files of other programs
   ------------------------------------------------------------------------------------------- */

/* What safetensors.torch.save_file writes of Linear(2,1) and BatchNorm2d(1): metadata, a scalar
   counter, a padded header. */
static void from_pytorch(void)
{
    const char *header =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"bn.num_batches_tracked\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
        "\"bn.bias\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]},"
        "\"bn.running_mean\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]},"
        "\"bn.running_var\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[16,20]},"
        "\"bn.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[20,24]},"
        "\"fc.bias\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[24,28]},"
        "\"fc.weight\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[28,36]}}      ";
    static const float numbers[9] = {0, 0, 0.5f, 2,  4,
                                     3, 1, 10,   100}; /* the first two are the counter's 8 bytes */
    write_safetensors(path, header, little_endian(numbers, 9), 36);
    static const gan_real x[4] = {1, 2, 3, 4};

    for (int made = 0; made < 2;
         made++) { /* into an empty model, and into one whose layers are made */
        gan *g = gan_open("cpu", 6);
        gan_model *m = gan_model_new(g, "m");
        gan_tensor *in = gan_from_host(g, x, 2, 2, 1, 1);
        if (made)
            gan_batch_norm(m, "bn", gan_linear(m, "fc", in, 1));
        CHECK(gan_load(m, path), "%s", gan_error());
        CHECK(!gan_find_param(m, "bn.num_batches_tracked"), "the counter became a parameter");
        gan_eval(m);
        gan_real y[2];
        gan_to_host(gan_batch_norm(m, "bn", gan_linear(m, "fc", in, 1)), y);
        for (int i = 0; i < 2; i++) { /* fc, then (x - 2)/sqrt(4 + 1e-5)*3 + 0.5 */
            double fc = 10 * (double)x[2 * i] + 100 * (double)x[2 * i + 1] + 1;
            double want = (fc - 2) / sqrt(4 + 1e-5) * 3 + 0.5;
            CHECK(fabs((double)y[i] - want) <= 1e-6 * want, "%g instead of %g", (double)y[i],
                  want); /* a few roundings of 6e-8 */
        }
        gan_close(g);
    }
}

static void other_encodings(void)
{
    gan *g = gan_open("cpu", 6);
    static const unsigned char two_doubles[16] = {0, 0, 0, 0, 0, 0, 0xf8, 0x3f,
                                                  0, 0, 0, 0, 0, 0, 0x04, 0xc0}; /* 1.5, -2.5 */
    gan_real x[2] = {0, 0};
    gan_model *m = gan_model_new(g, "m");
    write_safetensors(path, "{\"a\":" T("F64", "[2]", "[0,16]") "}", two_doubles, 16);
    CHECK(gan_load(m, path), "float64: %s", gan_error());
    gan_to_host(gan_find_param(m, "a"), x);
    CHECK(x[0] == (gan_real)1.5 && x[1] == (gan_real)-2.5, "float64: %g %g", (double)x[0],
          (double)x[1]);

    static const float two[2] = {1.5f, -2.5f};
    m = gan_model_new(g, "m2");
    write_safetensors(path,
                      " {\n\t\"\\u0061\\/\\\"\" : {\"data_offsets\" : [ 0 , 8 ] , \"shape\" : [ 2 "
                      "] , \"dtype\" : \"F32\" } } \r\n",
                      little_endian(two, 2), 8);
    CHECK(gan_load(m, path), "spaces, escapes and another order: %s", gan_error());
    gan_tensor *t = gan_find_param(m, "a/\"");
    CHECK(t, "an escaped name did not come out as a/\"");
    gan_to_host(t, x);
    CHECK(x[0] == (gan_real)1.5 && x[1] == (gan_real)-2.5, "an escaped name's numbers: %g %g",
          (double)x[0], (double)x[1]);
    CHECK(gan_save(m, other), "%s", gan_error());
    gan_model *back = gan_model_new(g, "back");
    CHECK(gan_load(back, other) && gan_find_param(back, "a/\""),
          "a name with a quote does not come back: %s", gan_error());

    static const float moved[4] = {1, 2, 3, 4}; /* the order of names is not the order of data */
    m = gan_model_new(g, "m3");
    write_safetensors(path,
                      "{\"a\":" T("F32", "[2]", "[8,16]") ",\"b\":" T("F32", "[2]", "[0,8]") "}",
                      little_endian(moved, 4), 16);
    CHECK(gan_load(m, path), "data in another order: %s", gan_error());
    gan_to_host(gan_find_param(m, "a"), x);
    CHECK(x[0] == 3 && x[1] == 4, "data in another order: a is %g %g", (double)x[0], (double)x[1]);
    gan_close(g);
}

/* -------------------------------------------------------------------------------------------
   Saving that fails
   ------------------------------------------------------------------------------------------- */
static void failed_saves(void)
{
    gan *g = gan_open("cpu", 8);
    gan_model *m = new_net(g, "m");
    const char *nowhere = "no-such-folder/x.safetensors";
    CHECK(!gan_save(m, nowhere), "saved into a folder that is not there");
    CHECK(strstr(gan_error(), nowhere), "the error does not name the file: %s", gan_error());
    CHECK(!gan_save_state(g, nowhere, 1), "saved a state into a folder that is not there");
    CHECK(strstr(gan_error(), nowhere), "the error does not name the file: %s", gan_error());
    gan_close(g);
}

#ifdef HAVE_SYMLINK
/* /dev/full takes no byte. The file beside the target, its name plus ".tmp", is made to lead
   there. */
static void disk_full(void)
{
    gan *g = gan_open("cpu", 8);
    gan_model *m = new_net(g, "m");
    CHECK(gan_save(m, path), "gan_save: %s", gan_error());
    bytes before = read_file(path);
    char beside[520];
    snprintf(beside, sizeof beside, "%s.tmp", path);
    for (int state = 0; state < 2; state++) {
        unlink(beside);
        CHECK(symlink("/dev/full", beside) == 0, "cannot make a link");
        CHECK(!(state ? gan_save_state(g, path, 1) : gan_save(m, path)), "saved on a full disk");
        unlink(beside);
        CHECK(strstr(gan_error(), path), "the error does not name the file: %s", gan_error());
        bytes after = read_file(path);
        CHECK(same(before, after), "the target changed");
        free(after.data);
    }
    CHECK(gan_save(m, path), "saving works no more: %s", gan_error());
    free(before.data);
    gan_close(g);
}
#endif

/* -------------------------------------------------------------------------------------------
   IDX
   ------------------------------------------------------------------------------------------- */
static const unsigned char idx3[16 + 12] = {0, 0, 8, 3,  0,   0,   0,   2,   0, 0, 0, 3, 0, 0,
                                            0, 2, 0, 51, 102, 153, 204, 255, 1, 2, 3, 4, 5, 6};
static const unsigned char idx4[20 + 8] = {0, 0, 8, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0,
                                           0, 2, 0, 0, 0, 2, 9, 8, 7, 6, 5, 4, 3, 2};
static const unsigned char idx1[8 + 2] = {0, 0, 8, 1, 0, 0, 0, 2, 7, 4};

static void broken_idx(void)
{
    gan *g = gan_open("cpu", 9);
    for (size_t n = 0; n <= sizeof idx3; n++) {
        write_file(path, idx3, n);
        CHECK((gan_data_idx(g, path, NULL) != NULL) == (n == sizeof idx3),
              "the first %lu bytes of idx3", (unsigned long)n);
        CHECK(n == sizeof idx3 || strstr(gan_error(), path), "the error does not name the file: %s",
              gan_error());
    }
    for (size_t n = 0; n <= sizeof idx1; n++) { /* path holds the whole idx3 now */
        write_file(other, idx1, n);
        CHECK((gan_data_idx(g, path, other) != NULL) == (n == sizeof idx1),
              "the first %lu bytes of idx1", (unsigned long)n);
        CHECK(n == sizeof idx1 || strstr(gan_error(), other),
              "the error does not name the file: %s", gan_error());
    }
    for (size_t n = 0; n <= sizeof idx4; n++) {
        write_file(path, idx4, n);
        CHECK((gan_data_idx(g, path, NULL) != NULL) == (n == sizeof idx4),
              "the first %lu bytes of idx4", (unsigned long)n);
        CHECK(n == sizeof idx4 || strstr(gan_error(), path), "the error does not name the file: %s",
              gan_error());
    }
    CHECK(!gan_data_idx(g, path, other), "1 image and 2 labels go together");
    CHECK(strstr(gan_error(), path) && strstr(gan_error(), other),
          "the error does not name both files: %s", gan_error());
    CHECK(!gan_data_idx(g, other, NULL), "labels load as images");
    CHECK(!gan_data_idx(g, path, path), "images load as labels");
    CHECK(!gan_data_idx(g, "no/such/file", NULL) && strstr(gan_error(), "no/such/file"),
          "a missing file: %s", gan_error());
    CHECK(!gan_data_idx(g, path, "no/such/labels") && strstr(gan_error(), "no/such/labels"),
          "a missing file: %s", gan_error());
    gan_close(g);
}

/* Every byte of the header, every value: sizes of billions must be refused by the length of the
   file, before memory is asked for. */
static void idx_header_bytes(void)
{
    gan *g = gan_open("cpu", 9);
    unsigned char b[sizeof idx3];
    for (size_t i = 0; i < 16; i++)
        for (int value = 0; value < 256; value++) {
            memcpy(b, idx3, sizeof b);
            if (b[i] == value)
                continue;
            b[i] = (unsigned char)value;
            write_file(path, b, sizeof b);
            CHECK(!gan_data_idx(g, path, NULL), "byte %lu = %d loads", (unsigned long)i, value);
            CHECK(strstr(gan_error(), path), "the error does not name the file: %s", gan_error());
        }
    memset(b + 4, 0xff, 12);
    write_file(path, b, sizeof b);
    CHECK(!gan_data_idx(g, path, NULL), "sizes of 2^32 - 1 load");
    gan_close(g);
}

int main(int argc, char **argv)
{
    snprintf(path, sizeof path, "%s.1.tmp", argc > 0 ? argv[0] : "files");
    snprintf(other, sizeof other, "%s.2.tmp", argc > 0 ? argv[0] : "files");
    run("files: a model comes back", round_trip);
    run("files: 5 + 5 steps are 10, to the bit", resume_is_exact);
    run("files: a broken state loses nothing", broken_states);
    run("files: every prefix of a checkpoint is refused", every_prefix);
    run("files: every byte of a header", every_header_byte);
    run("files: mismatches are named", mismatches);
    run("files: hostile headers", hostile_headers);
    run("files: hostile lengths and depths", hostile_lengths);
    run("files: a file of PyTorch", from_pytorch);
    run("files: float64, escapes, any order", other_encodings);
    run("files: saving that fails", failed_saves);
#ifdef HAVE_SYMLINK
    if (exists("/dev/full"))
        run("files: a full disk", disk_full);
    else
        printf("skip files: a full disk (no /dev/full here)\n");
#else
    printf("skip files: a full disk (no /dev/full here)\n");
#endif
    run("idx: every prefix, wrong pairs, missing files", broken_idx);
    run("idx: every byte of a header", idx_header_bytes);
    remove(path);
    remove(other);
    return finish();
}
