/* classifier: the small network whose features and answers the metrics use, trained on MNIST. It
   is LeNet (LeCun et al. 1998).

   Run:      make classifier    or   cc -O2 examples/classifier.c -o classifier -lm -pthread
                                     ./classifier --data data/mnist
   Leaves:   out/classifier/    classifier.safetensors (half precision), log.csv

   It is not about GANs: it is the measuring stick, shipped as examples/classifier.safetensors so
   that everyone's scores come from the same one. So that its features tell as much of new digits
   as of those it has seen: digits are shifted by up to two pixels, half of the features are left
   out in training (dropout, Srivastava et al. 2014), and weights decay (AdamW); the learning
   rate falls along a cosine. */
#include "common.h"
#include "zoo.h"

/* [-1,1], as gan_batch gives images, to the [0,1] that LeNet wants. */
static gan_tensor *unit(gan_tensor *x)
{
    return gan_mul_scalar(gan_add_scalar(x, 1), 0.5f);
}

/* Which share of the set's images it names rightly, in batches of 100. */
static double accuracy(gan *g, gan_model *net, gan_data *set)
{
    gan_real logits[1000];
    gan_real *image = (gan_real *)malloc(100 * 784 * sizeof *image);
    int label[100];
    int right = 0;
    int count = gan_data_size(set);
    for (int first = 0; first + 100 <= count; first += 100) {
        for (int i = 0; i < 100; i++)
            gan_data_item(set, first + i, image + 784 * i, &label[i]);
        gan_to_host(zoo_lenet(net, unit(gan_from_host(g, image, 100, 1, 28, 28)), NULL), logits);
        for (int i = 0; i < 100; i++) {
            int best = 0;
            for (int k = 1; k < 10; k++)
                best = logits[10 * i + k] > logits[10 * i + best] ? k : best;
            right += best == label[i];
        }
        gan_clear(g);
    }
    free(image);
    return (double)right / (count / 100 * 100);
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/classifier", .steps = 8000, .batch = 100, .quick_steps = 20, .quick_batch = 10};
    parse(argc, argv, &o, "classifier: LeNet learns to name handwritten digits", NULL);

    gan *g = open_device(&o);
    gan_model *net = gan_model_new(g, "lenet");
    gan_opt *adam = gan_adamw(net, 1e-3f, 0.9f, 0.999f, 0.1f);
    gan_data *train = open_digits(g, &o);
    gan_data *test = open_mnist(g, o.data ? o.data : "data/mnist", "t10k");
    if (!test) {
        printf("no test images (%s): the accuracy is that on digits of another seed\n",
               gan_error());
        test = gan_data_digits(g, 5000);
    }
    int first = resume_from(g, &o);
    gan_progress *log = gan_progress_open(g, in_folder(&o, "log.csv"), "loss", first, o.steps,
                                          o.batch);
    if (!log)
        fail();

    for (int step = first; step < o.steps; step++) {
        gan_tensor *labels, *features;
        gan_tensor *x = unit(gan_batch(train, o.batch, &labels));
        zoo_lenet(net, gan_random_crop(gan_pad(x, 2, 2, 2, 2, GAN_ZEROS), 28, 28), &features);
        gan_tensor *logits = gan_linear(net, "fc2", gan_dropout(net, features, 0.5f), 10);
        gan_tensor *loss = gan_cross_entropy(logits, labels);
        gan_set_lr(adam, gan_lr_cosine(1e-3f, step, o.steps));
        gan_minimize(adam, loss);
        gan_progress_step(log, step, (double)gan_item(loss));
        gan_clear(g);
        if ((step + 1) % 1000 == 0)
            save_all(g, &o, step + 1);
    }
    gan_progress_close(log);
    if (!gan_save_f16(net, in_folder(&o, "classifier.safetensors")))
        fail();
    gan_load(net, in_folder(&o, "classifier.safetensors")); /* the shipped weights are measured */
    printf("test images named rightly: %.2f%%\n", 100 * accuracy(g, net, test));
    gan_close(g);
    return 0;
}
