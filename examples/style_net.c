/* style_net: the small feature network that 08_neural_style and 09_fast_style take when no
   larger one is at hand. Nobody labels anything: it learns to tell from which of a folder's
   pictures a patch was cut, whatever its place, mirror image and colours (Dosovitskiy et al.
   2014, exemplar networks), and for that it must see texture.

   Run:      cc -O2 examples/style_net.c -o style_net -lm -pthread && ./style_net --data folder
   Reads:    a folder of pictures; sub-folders may be in it. Without --data: built-in shapes, to
             try it.
   Leaves:   out/style_net/    style_net.safetensors (half precision), state.safetensors, log.csv

   The shipped examples/style_net.safetensors comes from ten photos (CC0, public domain, and
   three by Aitzol Berasategi, CC BY 4.0) and ten paintings (public domain), with seed 42 and the
   defaults, in six minutes of one core; of its last patches it named 97% rightly. */
#include "common.h"
#include "zoo.h"
#include "style.h"

enum { PATCH = 64 };

/* Patches' classes (N,K,1,1) by the features' means over the patch. */
static gan_tensor *which_picture(gan_model *features, gan_model *head, gan_tensor *x, int pictures)
{
    return gan_linear(head, "fc", gan_avg_pool2d(style_own(features, x, NULL), 0, 1, 0), pictures);
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/style_net", .steps = 2500, .batch = 32, .quick_steps = 3, .quick_batch = 2};
    parse(argc, argv, &o, "style_net: a feature network learns to tell patches of pictures apart",
          NULL);
    gan *g = open_device(&o);
    int size = o.quick ? 80 : 256;
    gan_data *data = o.data && !o.quick ? open_pictures(g, o.data, size)
                                        : gan_data_shapes(g, 20, size, GAN_SHAPES_STRIPED);
    if (!data)
        fail();
    int pictures = gan_data_size(data);
    gan_model *features = gan_model_new(g, "features");
    gan_model *head = gan_model_new(g, "head");
    gan_init_model(features, GAN_INIT_KAIMING_NORMAL, 1.4142f);
    gan_opt *adam = gan_adam(features, 1e-3f, 0.9f, 0.99f);
    gan_opt *adam_head = gan_adam(head, 1e-3f, 0.9f, 0.99f);
    int first = resume_from(g, &o);

    size_t area = 3 * (size_t)size * (size_t)size;
    gan_real *all = (gan_real *)malloc(sizeof *all * area * (size_t)pictures);
    for (int i = 0; i < pictures; i++)
        gan_data_item(data, i, all + area * (size_t)i, NULL);
    gan_tensor *every = gan_from_host(g, all, pictures, 3, size, size);
    free(all);

    gan_progress *log = gan_progress_open(g, in_folder(&o, "log.csv"), "loss,right", first, o.steps,
                                          o.batch);
    if (!log)
        fail();
    gan_mark mark = gan_here(g);
    for (int step = first; step < o.steps; step++) {
        gan_real *label = (gan_real *)malloc(sizeof *label * (size_t)o.batch);
        gan_real *score = (gan_real *)malloc(sizeof *score * (size_t)(o.batch * pictures));
        gan_tensor *uniform = gan_rand(g, o.batch, 1, 1, 1);
        gan_to_host(uniform, label);
        for (int n = 0; n < o.batch; n++)
            label[n] = (gan_real)(int)(label[n] * (gan_real)pictures);
        gan_tensor *labels = gan_from_host(g, label, o.batch, 1, 1, 1);
        gan_tensor *x = gan_random_crop(gan_gather(every, labels, 0), PATCH, PATCH);
        x = gan_augment(x, GAN_FLIP | GAN_COLOR, 0.8f);
        x = gan_clamp(gan_mul_scalar(gan_add_scalar(x, 1), 0.5f), 0, 1); /* [-1,1] -> [0,1] */
        gan_tensor *logits = which_picture(features, head, x, pictures);
        gan_tensor *loss = gan_cross_entropy(logits, labels);
        gan_set_lr(adam, gan_lr_cosine(1e-3f, step, o.steps));
        gan_set_lr(adam_head, gan_lr_cosine(1e-3f, step, o.steps));
        gan_backward(loss, head);
        gan_backward(loss, features);
        gan_step(adam);
        gan_step(adam_head);

        int right = 0;
        gan_to_host(logits, score);
        for (int n = 0; n < o.batch; n++) {
            int best = 0;
            for (int k = 1; k < pictures; k++)
                if (score[n * pictures + k] > score[n * pictures + best])
                    best = k;
            right += best == (int)label[n];
        }
        gan_progress_step(log, step, (double)gan_item(loss), (double)right / o.batch);
        free(label);
        free(score);
        gan_clear_to(g, mark);
        if ((step + 1) % 500 == 0 || step + 1 == o.steps)
            save_all(g, &o, step + 1);
    }
    gan_progress_close(log);
    if (!gan_save_f16(features, in_folder(&o, "style_net.safetensors")))
        fail();
    gan_close(g);
    return 0;
}
