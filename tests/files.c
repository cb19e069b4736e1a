/* tests/files.c: checkpoints, saved trainings and IDX files: that they come back whole, and that
   a broken one is refused with an error that names it and with nothing changed. Every broken
   file is made here, byte by byte. */
#if defined(__unix__) || defined(__APPLE__)
#define _XOPEN_SOURCE 700 /* symlink, mkfifo, setrlimit, ftruncate */
#define HAVE_POSIX    1
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
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

#ifdef HAVE_POSIX
/* A folder of this program's own, and a name in it; the last 4 stay valid. main() removes it. */
static char folder[400];

static const char *in_folder(const char *name)
{
    static char text[4][512];
    static int k;
    k = (k + 1) % 4;
    snprintf(text[k], sizeof text[k], "%s/%s", folder, name);
    return text[k];
}

static int files_in_folder(void)
{
    int count = 0;
    DIR *d = opendir(folder);
    for (struct dirent *entry; d && (entry = readdir(d)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (d)
        closedir(d);
    return count;
}

static void empty_folder(void)
{
    DIR *d = opendir(folder);
    for (struct dirent *entry; d && (entry = readdir(d)) != NULL;)
        if (remove(in_folder(entry->d_name)) != 0)
            continue; /* . and .. */
    if (d)
        closedir(d);
}

/* A disk that takes no more than 100 bytes of a file. */
static void disk_full(void)
{
    gan *g = gan_open("cpu", 8);
    gan_model *m = new_net(g, "m");
    struct rlimit before_limit, limit;
    const char *target = in_folder("model.safetensors");
    CHECK(gan_save(m, target), "gan_save: %s", gan_error());
    bytes before = read_file(target);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_limit);
    limit = before_limit;
    limit.rlim_cur = 100;
    for (int state = 0; state < 2; state++) {
        setrlimit(RLIMIT_FSIZE, &limit);
        bool saved = state ? gan_save_state(g, target, 1) : gan_save(m, target);
        setrlimit(RLIMIT_FSIZE, &before_limit);
        CHECK(!saved, "saved on a full disk");
        CHECK(strstr(gan_error(), target), "the error does not name the file: %s", gan_error());
        bytes after = read_file(target);
        CHECK(same(before, after), "the target changed");
        free(after.data);
        CHECK(files_in_folder() == 1, "a temporary file is left");
    }
    CHECK(gan_save(m, target), "saving works no more: %s", gan_error());
    free(before.data);
    gan_close(g);
    empty_folder();
}

/* A symbolic link as target stays one: what it leads to is replaced, or made. */
static void linked_targets(void)
{
    gan *g = gan_open("cpu", 8);
    gan_model *m = new_net(g, "m");
    char to[512], link[512], chain[512];
    struct stat about;
    snprintf(to, sizeof to, "%s", in_folder("to"));
    snprintf(link, sizeof link, "%s", in_folder("link"));
    snprintf(chain, sizeof chain, "%s", in_folder("chain"));
    CHECK(symlink("to", link) == 0 && symlink("link", chain) == 0, "cannot make a link");
    for (int i = 0; i < 2; i++) { /* first it leads to no file, then to one */
        CHECK(gan_save(m, chain), "%s", gan_error());
        CHECK(lstat(link, &about) == 0 && S_ISLNK(about.st_mode), "the link was replaced");
        CHECK(lstat(chain, &about) == 0 && S_ISLNK(about.st_mode), "the first link was replaced");
        CHECK(lstat(to, &about) == 0 && S_ISREG(about.st_mode), "no file where the link leads");
        CHECK(gan_load(m, to), "%s", gan_error());
    }
    remove(to);
    CHECK(symlink("chain", to) == 0, "cannot make a link");
    CHECK(!gan_save(m, chain) && strstr(gan_error(), chain), "links in a circle: %s", gan_error());

    /* What lies under a name like that of a temporary file is somebody's file. */
    empty_folder();
    write_file(to, "precious", 8);
    CHECK(symlink("to", in_folder("m.tmp")) == 0, "cannot make a link");
    CHECK(gan_save(m, in_folder("m")), "%s", gan_error());
    bytes b = read_file(to);
    CHECK(b.size == 8 && memcmp(b.data, "precious", 8) == 0, "a link's target was overwritten");
    free(b.data);
    gan_close(g);
    empty_folder();
}

/* Devices, pipes and folders are no targets and no sources: they are refused, at once, and stay. */
static void irregular_files(void)
{
    gan *g = gan_open("cpu", 8);
    gan_model *m = new_net(g, "m");
    gan_real before[NET_NUMBERS];
    char fifo[512], sub[512];
    struct stat about;
    snprintf(fifo, sizeof fifo, "%s", in_folder("fifo"));
    snprintf(sub, sizeof sub, "%s", in_folder("sub"));
    snapshot(m, before);
    CHECK(mkfifo(fifo, 0600) == 0 && mkdir(sub, 0700) == 0, "cannot make a pipe and a folder");
    const char *const names[] = {"/dev/full", "/dev/null", fifo, sub};
    for (int i = 0; i < 4; i++) {
        if (stat(names[i], &about) != 0)
            continue;
        mode_t mode = about.st_mode;
        CHECK(!gan_save(m, names[i]) && strstr(gan_error(), names[i]), "%s was saved to: %s",
              names[i], gan_error());
        CHECK(!gan_save_state(g, names[i], 1), "%s was saved to", names[i]);
        CHECK(stat(names[i], &about) == 0 && about.st_mode == mode, "%s was replaced", names[i]);
        CHECK(!gan_load(m, names[i]) && strstr(gan_error(), names[i]), "%s was loaded: %s",
              names[i], gan_error());
        CHECK(!gan_load_state(g, names[i], NULL), "%s was loaded as a state", names[i]);
        CHECK(!gan_data_idx(g, names[i], NULL), "%s is a data set", names[i]);
        CHECK(unchanged(m, before), "%s changed the model", names[i]);
    }
    rmdir(sub);
    gan_close(g);
    empty_folder();
}

/* The new file has the permissions of the old one. */
static void permissions(void)
{
    static const int modes[] = {0600, 0644, 0400, 0, 0777};
    gan *g = gan_open("cpu", 8);
    gan_model *m = new_net(g, "m");
    const char *target = in_folder("m");
    struct stat about;
    mode_t mask = umask(027);
    bool made = gan_save(m, target);
    umask(mask);
    CHECK(made && stat(target, &about) == 0 && (about.st_mode & 07777) == 0640,
          "a new file has %o, not what umask leaves", (unsigned)about.st_mode);
    for (int i = 0; i < 5; i++) {
        CHECK(chmod(target, (mode_t)modes[i]) == 0, "cannot change permissions");
        CHECK(gan_save(m, target), "%s", gan_error());
        CHECK(stat(target, &about) == 0 && (about.st_mode & 07777) == (mode_t)modes[i],
              "%o became %o", (unsigned)modes[i], (unsigned)about.st_mode & 07777);
    }
    gan_close(g);
    empty_folder();
}

/* A temporary file that a killed program left is removed by the next save; one that a living
   program is writing, which it has locked, is not. */
static void abandoned(void)
{
    gan *g = gan_open("cpu", 8);
    gan_model *m = new_net(g, "m");
    char dead[512], living[512];
    snprintf(dead, sizeof dead, "%s", in_folder(".gan-0123456789abcdef.tmp"));
    snprintf(living, sizeof living, "%s", in_folder(".gan-fedcba9876543210.tmp"));
    write_file(dead, "half", 4);
    write_file(living, "half", 4);
    write_file(in_folder(".gan-0123456789abcdeX.tmp"), "mine", 4);
    write_file(in_folder("gan.tmp"), "mine", 4);
    int lock = open(living, O_RDWR);
    CHECK(lock >= 0 && flock(lock, LOCK_EX) == 0, "cannot lock a file");
    CHECK(gan_save(m, in_folder("m")), "%s", gan_error());
    CHECK(!exists(dead), "a dead program's file is left");
    CHECK(exists(living), "a living program's file was removed");
    CHECK(files_in_folder() == 4, "%d files instead of 4", files_in_folder());
    close(lock);
    CHECK(gan_save(m, in_folder("m")) && !exists(living), "it is left after its program has ended");
    gan_close(g);
    empty_folder();
}

/* A file of size bytes that begins with data; the rest are zeros that take no place on the disk.
   False where that cannot be made. */
static bool sparse(const char *name, const void *data, size_t size, double whole)
{
    write_file(name, data, size);
    return truncate(name, (off_t)whole) == 0;
}

/* Tensors and images of 2^31 numbers: no tensor can hold them. They are refused by their header,
   before memory is asked for. */
static void two_billion(void)
{
    static const unsigned char idx[16] = {0, 0, 8, 3, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0x80, 0};
    static const char header[] =
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[2,1073741824],\"data_offsets\":[0,2147483648]}}     ";
    unsigned char b[8 + sizeof header];
    gan *g = gan_open("cpu", 8);
    gan_model *m = gan_model_new(g, "m");
    const char *name = in_folder("large");
    if (!sparse(name, idx, sizeof idx, 16 + 2147483648.0)) {
        printf("skip files: 2^31 numbers (the disk has no room for them)\n");
        empty_folder();
        return;
    }
    CHECK(!gan_data_idx(g, name, NULL) && strstr(gan_error(), name), "an image of 2^31 bytes: %s",
          gan_error());
    memset(b, 0, sizeof b);
    b[0] = sizeof header - 1;
    memcpy(b + 8, header, sizeof header - 1);
    CHECK(sparse(name, b, 8 + sizeof header - 1, 8 + sizeof header - 1 + 2147483648.0),
          "cannot make a sparse file");
    CHECK(!gan_load(m, name) && strstr(gan_error(), name), "a tensor of 2^31 numbers: %s",
          gan_error());
    CHECK(!gan_param_name(m, 0), "a parameter was made");
    gan_close(g);
    empty_folder();
}
#endif

/* -------------------------------------------------------------------------------------------
   Names and numbers that a file may not hold
   ------------------------------------------------------------------------------------------- */
static void long_param(void *model)
{
    char name[400];
    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = 0;
    gan_param((gan_model *)model, name, 1, 1, 1, 1);
}

static void hash_param(void *model)
{
    gan_param((gan_model *)model, "a#0.adam0", 1, 1, 1, 1);
}

static void counter_param(void *model)
{
    gan_param((gan_model *)model, "bn.num_batches_tracked", 1, 1, 1, 1);
}

static void meta_param(void *model)
{
    gan_param((gan_model *)model, "__metadata__", 1, 1, 1, 1);
}

/* Names of any length come back: of a parameter 1000 characters, of a model 200; and 100 sets. */
static void long_names(void)
{
    enum { LENGTH = 1000, SETS = 100 };

    char header[LENGTH + 200], name[LENGTH + 1], model[201];
    memset(name, 'p', LENGTH);
    name[LENGTH] = 0;
    memset(model, 'm', 200);
    model[200] = 0;
    static const float numbers[4] = {1, 2, 3, 4};
    snprintf(header, sizeof header,
             "{\"%s\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", name);
    write_safetensors(path, header, little_endian(numbers, 4), 16);
    bytes saved[2];
    for (int second = 0; second < 2; second++) {
        gan *g = gan_open("cpu", 4);
        gan_model *m = gan_model_new(g, model);
        gan_opt *opt = gan_adam(m, (gan_real)0.1, (gan_real)0.5, (gan_real)0.9);
        for (int i = 0; i < SETS; i++)
            gan_batch(gan_data_digits(g, 1), i + 1, NULL);
        if (second) {
            int step = 0;
            CHECK(gan_load_state(g, other, &step) && step == 7, "%s", gan_error());
        } else {
            CHECK(gan_load(m, path), "%s", gan_error());
            gan_tensor *p = gan_find_param(m, name);
            CHECK(p, "no parameter of that name");
            gan_minimize(opt, gan_sum(gan_square(p)));
        }
        CHECK(gan_save_state(g, other, 7), "%s", gan_error());
        saved[second] = read_file(other);
        gan_close(g);
    }
    CHECK(same(saved[0], saved[1]), "another state came back");
    free(saved[0].data);
    free(saved[1].data);

    gan *g = gan_open("cpu", 4);
    gan_model *m = gan_model_new(g, "m");
    CHECK(strstr(message_of(long_param, m), "399"), "a name of 399: %s", test_message);
    CHECK(strstr(message_of(hash_param, m), "#"), "a name with #: %s", test_message);
    CHECK(message_of(counter_param, m)[0], "a name that gan_load passes over");
    CHECK(message_of(meta_param, m)[0], "the name of the metadata");
    gan_close(g);
}

/* Many small tensors: names are looked up by halving, and cost memory only by their length. */
static void many_tensors(void)
{
    enum { COUNT = 40000 };

    char *header = (char *)malloc(COUNT * 80 + 16);
    unsigned char *data = (unsigned char *)calloc(COUNT, 1);
    char *to = header;
    gan_real last = 0;
    for (int i = 0; i < COUNT; i++) {
        to += sprintf(to, "%c\"t%d\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[%d,%d]}",
                      i ? ',' : '{', i, i, i + 1);
        data[i] = (unsigned char)i;
    }
    strcpy(to, "}");
    write_safetensors(path, header, data, COUNT);
    gan *g = gan_open("cpu", 4);
    gan_model *m = gan_model_new(g, "m");
    CHECK(gan_load(m, path), "%s", gan_error());
    gan_to_host(gan_find_param(m, "t39999"), &last);
    CHECK(last == 39999 % 256, "the last is %g", (double)last);
    CHECK(gan_load(m, path), "into the same model: %s", gan_error());
    gan_close(g);
    free(header);
    free(data);
}

/* One number under a name that is used as an index, a count or a probability. */
static bool loads_number(gan_model *m, const char *name, float number)
{
    char header[400];
    float numbers[5] = {1, 2, 3, 4, 0};
    numbers[4] = number;
    snprintf(
        header, sizeof header,
        "{\"p.running_images\":{\"dtype\":\"F32\",\"shape\":[4,1,1,1],\"data_offsets\":[0,16]},"
        "\"%s\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1],\"data_offsets\":[16,20]}}",
        name);
    write_safetensors(path, header, little_endian(numbers, 5), 20);
    return gan_load(m, path);
}

static void pool_of_four(void *model)
{
    gan_model *m = (gan_model *)model;
    gan_image_pool(m, "p", gan_zeros(gan_find_param(m, "p.running_count")->g, 2, 1, 1, 1), 4);
}

static void counts_and_chances(void)
{
    static const float wrong_counts[] = {5, 1e6f, -1, 0.5f, NAN, INFINITY, 1e30f};
    static const float wrong_chances[] = {-0.1f, 1.1f, NAN, INFINITY};
    gan *g = gan_open("cpu", 4);
    for (int i = 0; i < 7; i++) {
        gan_model *m = gan_model_new(g, "m");
        CHECK(!loads_number(m, "p.running_count", wrong_counts[i]), "%g of 4 images loads",
              (double)wrong_counts[i]);
        CHECK(strstr(gan_error(), path) && strstr(gan_error(), "p.running_count"), "%s",
              gan_error());
        CHECK(!gan_param_name(m, 0), "a refused file left a parameter");
    }
    for (int i = 0; i < 4; i++) {
        gan_model *m = gan_model_new(g, "m");
        CHECK(!loads_number(m, "ada.running_p", wrong_chances[i]), "the probability %g loads",
              (double)wrong_chances[i]);
        CHECK(strstr(gan_error(), path) && strstr(gan_error(), "ada.running_p"), "%s", gan_error());
    }
    gan_model *m = gan_model_new(g, "m");
    CHECK(loads_number(m, "p.running_count", 4), "4 of 4: %s", gan_error());
    CHECK(message_of(pool_of_four, m)[0] == 0, "%s", test_message);
    gan_real five = 5;
    gan_set(gan_find_param(m, "p.running_count"), &five);
    CHECK(strstr(message_of(pool_of_four, m), "running_count"), "5 of 4: %s", test_message);
    m = gan_model_new(g, "m");
    CHECK(loads_number(m, "ada.running_p", 0.25f), "a probability: %s", gan_error());
    gan_close(g);
}

/* whole with from replaced by to in its header, as a file. False if from is not there. */
static bool write_changed(bytes whole, const char *from, const char *to)
{
    size_t length = whole.data[0] + 256u * whole.data[1];
    char *header = (char *)malloc(length + strlen(to) + 1);
    memcpy(header, whole.data + 8, length);
    header[length] = 0;
    char *at = strstr(header, from);
    if (at) {
        memmove(at + strlen(to), at + strlen(from), strlen(at + strlen(from)) + 1);
        memcpy(at, to, strlen(to));
        write_safetensors(path, header, whole.data + 8 + length, whole.size - 8 - length);
    }
    free(header);
    return at != NULL;
}

static void state_texts(void)
{
    static const char *const changes[][2] = {
        {"\"step\":\"3\"", "\"step\":\"abc\""},
        {"\"step\":\"3\"", "\"step\":\"\""},
        {"\"step\":\"3\"", "\"step\":\"99999999999999999999\""},
        {"\"step\":\"3\"", "\"step\":\"2147483648\""},
        {"\"step\":\"3\"", "\"step\":\"-1\""},
        {"\"step\":\"3\"", "\"step\":\"3x\""},
        {"\"step\":\"3\"", "\"step\":\" 3\""},
        {"\"seed\":\"7\"", "\"seed\":\"18446744073709551616\""},
        {"\"seed\":\"7\"", "\"seed\":\"7.5\""},
        {"\"drawn\":\"", "\"drawn\":\"-"},
        {"\"data0\":\"48\"", "\"data0\":\"-1\""},
        {"\"data0\":\"48\"", "\"data0\":\"18446744073709551615\""},
        {"\"data0\":\"48\"", "\"data0\":\"x\""},
        {"\"data0\":\"48\"", "\"data0\":\"4\\u00008\""},
        {"adam.steps", "adam.stepz"},
        {"#0.adam0", "#0.adam7"},
        {"#0.adam0", "#0.adam00"},
        {"#0.adam0", "#0.adam-1"},
        {"#0.sgd0", "#1.sgd0"},
    };

    gan_real losses[8];
    training t = begin(7);
    train(&t, 0, 3, losses);
    CHECK(gan_save_state(t.g, path, 3), "gan_save_state: %s", gan_error());
    bytes whole = read_file(path);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        int step = -5;
        CHECK(write_changed(whole, changes[i][0], changes[i][1]), "no %s in the file",
              changes[i][0]);
        CHECK(!gan_load_state(t.g, path, &step) && step == -5, "%s loads", changes[i][1]);
        CHECK(strstr(gan_error(), path), "the error does not name the file: %s", gan_error());
    }
    CHECK(gan_save_state(t.g, path, 3), "gan_save_state: %s", gan_error());
    bytes after = read_file(path);
    CHECK(same(whole, after), "refused states changed the training");
    CHECK(write_changed(whole, "\"step\":\"3\"", "\"step\":\"2147483647\""), "no step");
    int step = 0;
    CHECK(gan_load_state(t.g, path, &step) && step == 2147483647, "%d, %s", step, gan_error());
    free(after.data);
    free(whole.data);
    gan_close(t.g);
}

/* A state whose number i of entry NAME is number. */
static bool loads_moment(gan *g, bytes whole, const char *name, double number)
{
    size_t length = whole.data[0] + 256u * whole.data[1];
    whole.data[8 + length - 1] = 0; /* the padding's last blank, or the closing brace */
    char *at = strstr((char *)whole.data + 8, name);
    whole.data[8 + length - 1] = ' ';
    at = at ? strstr(at, "offsets\":[") : NULL;
    if (!at)
        return true;
    unsigned char *to = whole.data + 8 + length + strtol(at + 10, NULL, 10);
    float single = (float)number;
    if (strstr(name, "steps"))
        memcpy(to, &number, sizeof number);
    else
        memcpy(to, &single, sizeof single);
    write_file(path, whole.data, whole.size);
    return gan_load_state(g, path, NULL);
}

static void moments(void)
{
    static const double wrong_steps[] = {-1, 0.5, NAN, INFINITY, 1e300};
    gan *g = gan_open("cpu", 3);
    gan_model *a = gan_model_new(g, "a");
    gan_model *b = gan_model_new(g, "b");
    gan_opt *adam = gan_adam(a, (gan_real)0.1, (gan_real)0.5, (gan_real)0.9);
    gan_opt *rms = gan_rmsprop(b, (gan_real)0.1, (gan_real)0.9);
    gan_minimize(adam, gan_sum(gan_square(gan_param(a, "w", 3, 1, 1, 1))));
    gan_minimize(rms, gan_sum(gan_square(gan_param(b, "w", 3, 1, 1, 1))));
    CHECK(gan_save_state(g, other, 1), "%s", gan_error());
    bytes whole = read_file(other);
    CHECK(whole.data[8 + whole.data[0] + 256u * whole.data[1] - 1] == ' ',
          "the header has no padding, which this test needs");
    static const char *const names[] = {"a.w#0.adam1", "b.w#0.rmsprop0", "a.w#0.adam.steps"};
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < (k == 2 ? 5 : 1); i++) {
            CHECK(!loads_moment(g, whole, names[k], wrong_steps[i]), "%s = %g loads", names[k],
                  wrong_steps[i]);
            CHECK(strstr(gan_error(), path) && strstr(gan_error(), names[k]), "%s", gan_error());
            free(whole.data);
            whole = read_file(other);
        }
    CHECK(loads_moment(g, whole, "a.w#0.adam0", -1), "a first moment may be negative: %s",
          gan_error());
    free(whole.data);
    gan_close(g);
}

/* Escapes are UTF-8 in a name, and what they say comes back; raw control characters are none. */
static void escapes(void)
{
    static const struct {
        const char *text, *name; /* name: NULL where it is refused */
    } cases[] = {
        {"\\u00e9\\u20AC", "\xc3\xa9\xe2\x82\xac"},
        {"\\ud83d\\ude00", "\xf0\x9f\x98\x80"},
        {"\\u0041\\/\\\\", "A/\\"},
        {"a\\nb", NULL},
        {"\\u001f", NULL},
        {"\\ud83d", NULL},
        {"\\ude00\\ud83d", NULL},
        {"\\ud83d\\u0041", NULL},
        {"a\\u0000b", NULL},
        {"a\nb", NULL},
        {"a\tb", NULL},
    };

    gan *g = gan_open("cpu", 3);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[200];
        gan_model *m = gan_model_new(g, "m");
        snprintf(header, sizeof header,
                 "{\"%s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", cases[i].text);
        write_safetensors(path, header, "x", 1);
        CHECK(gan_load(m, path) == (cases[i].name != NULL), "%s: %s", cases[i].text, gan_error());
        if (!cases[i].name)
            continue;
        CHECK(gan_find_param(m, cases[i].name), "%s is another name", cases[i].text);
        CHECK(gan_save(m, other), "%s", gan_error());
        gan_model *back = gan_model_new(g, "m");
        CHECK(gan_load(back, other) && gan_find_param(back, cases[i].name), "%s: %s", cases[i].text,
              gan_error());
    }
    static const char nul[] = "{\"a\0b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}x";
    unsigned char b[8 + sizeof nul - 1] = {sizeof nul - 2};
    memcpy(b + 8, nul, sizeof nul - 1);
    write_file(path, b, sizeof b);
    CHECK(!gan_load(gan_model_new(g, "m"), path) && strstr(gan_error(), path),
          "a raw NUL in a name: %s", gan_error());
    write_safetensors(path, "{\"a#b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", "x",
                      1);
    CHECK(!gan_load(gan_model_new(g, "m"), path) && strstr(gan_error(), "a#b"),
          "a name with # loads: %s", gan_error());
    gan_close(g);
}

/* -------------------------------------------------------------------------------------------
   NULL in the place of a model, a device or a path ends in one line
   ------------------------------------------------------------------------------------------- */
static gan *null_g;
static gan_model *null_model;

static void null_save_model(void *unused)
{
    (void)unused;
    gan_save(NULL, path);
}

static void null_save_path(void *unused)
{
    (void)unused;
    gan_save(null_model, NULL);
}

static void null_save_f16_path(void *unused)
{
    (void)unused;
    gan_save_f16(null_model, NULL);
}

static void null_load_model(void *unused)
{
    (void)unused;
    gan_load(NULL, path);
}

static void null_load_path(void *unused)
{
    (void)unused;
    gan_load(null_model, NULL);
}

static void null_save_state(void *unused)
{
    (void)unused;
    gan_save_state(NULL, path, 0);
}

static void null_save_state_path(void *unused)
{
    (void)unused;
    gan_save_state(null_g, NULL, 0);
}

static void null_load_state(void *unused)
{
    (void)unused;
    gan_load_state(NULL, path, NULL);
}

static void null_load_state_path(void *unused)
{
    (void)unused;
    gan_load_state(null_g, NULL, NULL);
}

static void negative_step(void *unused)
{
    (void)unused;
    gan_save_state(null_g, path, -1);
}

static void nulls(void)
{
    static const struct {
        void (*call)(void *);
        const char *name;
    } calls[] = {
        {null_save_model, "gan_save: "},
        {null_save_path, "gan_save: "},
        {null_save_f16_path, "gan_save_f16: "},
        {null_load_model, "gan_load: "},
        {null_load_path, "gan_load: "},
        {null_save_state, "gan_save_state: "},
        {null_save_state_path, "gan_save_state: "},
        {null_load_state, "gan_load_state: "},
        {null_load_state_path, "gan_load_state: "},
        {negative_step, "gan_save_state: "},
    };

    null_g = gan_open("cpu", 1);
    null_model = gan_model_new(null_g, "m");
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        CHECK(strstr(message_of(calls[i].call, NULL), calls[i].name) == test_message,
              "call %d of %s\"%s\"", (int)i, calls[i].name, test_message);
    gan_close(null_g);
}

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
    run("files: names of any length", long_names);
    run("files: 40,000 tensors", many_tensors);
    run("files: counts and probabilities", counts_and_chances);
    run("files: the texts of a state", state_texts);
    run("files: moments and their steps", moments);
    run("files: escapes and control characters", escapes);
    run("files: NULL", nulls);
#ifdef HAVE_POSIX
    snprintf(folder, sizeof folder, "%s.folder", argc > 0 ? argv[0] : "files");
    mkdir(folder, 0700);
    run("files: a full disk", disk_full);
    run("files: symbolic links as targets", linked_targets);
    run("files: devices, pipes and folders", irregular_files);
    run("files: permissions stay", permissions);
    run("files: what a killed program leaves", abandoned);
    run("files: 2^31 numbers", two_billion);
    rmdir(folder);
#else
    printf("skip files: links, devices, permissions (they want POSIX)\n");
#endif
    run("idx: every prefix, wrong pairs, missing files", broken_idx);
    run("idx: every byte of a header", idx_header_bytes);
    remove(path);
    remove(other);
    return finish();
}
