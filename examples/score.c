/* score: how good are these digits? Frechet and kernel distance, precision, recall, inception
   score and classes of images in IDX files.

   Run:      cc -O2 examples/score.c -o score -lm -pthread
             ./score out/01_dcgan/samples-idx3-ubyte
             (01_dcgan --samples 10000 writes such a file; several files may be given)

   The protocol is in zoo.h: 10,000 images against MNIST's 10,000 test images (data/mnist, from
   make data), by the shipped classifier. Scores of fewer images are larger: compare only scores
   of the same N, which is printed with each. */
#include "common.h"
#include "zoo.h"

typedef struct {
    gan_data *data;
    int at;
} place;

static gan_tensor *in_order(gan *g, int n, void *user)
{
    place *from = (place *)user;
    gan_real *pixels = (gan_real *)malloc((size_t)n * 784 * sizeof *pixels);
    for (int i = 0; i < n; i++)
        gan_data_item(from->data, from->at++, pixels + 784 * i, NULL);
    gan_tensor *x = gan_from_host(g, pixels, n, 1, 28, 28);
    free(pixels);
    return x;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: score FILE...   (IDX files of 28x28 images)\n");
        exit(2);
    }
    gan *g = gan_open("cpu", 42);
    gan_model *classifier = zoo_classifier(g);
    gan_data *real = open_mnist(g, "data/mnist", "t10k");
    if (!classifier || !real)
        fail();
    for (int i = 1; i < argc; i++) {
        place from = {gan_data_idx(g, argv[i], NULL), 0};
        if (!from.data)
            fail();
        int count = gan_data_size(from.data);
        zoo_score(argv[i], classifier, g, real, in_order, &from, count < 10000 ? count : 10000);
    }
    gan_close(g);
    return 0;
}
