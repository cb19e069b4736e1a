/* tests/cuda/cuda_tensor_on_cpu.h: tensor cores and copies that arrive later, for
   tests/cuda_on_cpu.h, which includes it: the functions that gan_cuda.cu writes in PTX, and
   nvcuda::wmma as far as gan_cuda.cu uses it. Factors are rounded as the hardware does, sums are
   in float. */
struct __nv_bfloat16 {
    uint16_t bits;
};

inline __nv_bfloat16 __float2bfloat16(float x) /* ties to even */
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return {(uint16_t)(x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

inline float __bfloat162float(__nv_bfloat16 x)
{
    uint32_t bits = (uint32_t)x.bits << 16;
    float y;
    memcpy(&y, &bits, 4);
    return y;
}

inline uint32_t gan__bf16_pair(float first, float second)
{
    return __float2bfloat16(first).bits | (uint32_t)__float2bfloat16(second).bits << 16;
}

inline uint32_t gan__tf32(float x) /* 10 bits after the point, ties away from 0 */
{
    uint32_t bits = __float_as_uint(x);
    return x - x == 0 ? (bits + 0x1000) & 0xffffe000u : bits;
}

/* ---- cp.async: a copy is made when it is waited for, so that a wait that is missing shows. */

inline void gan__copy_later(float *to, const float *from, bool live)
{
    gan_on_cpu::Block &block = *gan_on_cpu::self->block;
    auto shared = [&block](const float *p) {
        return (const char *)p >= block.arena && (const char *)p < block.arena + sizeof block.arena;
    };
    if (!shared(to) || shared(from) || !from)
        gan_on_cpu::fail(cudaErrorIllegalAddress,
                         "%s: cp.async copies from global to shared memory, even where it reads "
                         "nothing",
                         gan_on_cpu::name_of(*gan_on_cpu::self).s);
    if ((uintptr_t)to % sizeof *to || (uintptr_t)from % sizeof *from)
        gan_on_cpu::fail(cudaErrorMisalignedAddress, "%s: cp.async at a misaligned address",
                         gan_on_cpu::name_of(*gan_on_cpu::self).s);
    gan_on_cpu::self->copies.push_back({to, from, live});
}

inline void gan__copies_end_group()
{
    gan_on_cpu::Thread &me = *gan_on_cpu::self;
    size_t grouped = 0;
    for (size_t count : me.groups)
        grouped += count;
    me.groups.push_back(me.copies.size() - grouped);
}

template <int PENDING> void gan__copies_wait()
{
    gan_on_cpu::Thread &me = *gan_on_cpu::self;
    while (me.groups.size() > PENDING) {
        for (size_t i = 0; i < me.groups[0]; i++)
            *me.copies[i].to = me.copies[i].live ? *me.copies[i].from : 0;
        me.copies.erase(me.copies.begin(), me.copies.begin() + (ptrdiff_t)me.groups[0]);
        me.groups.erase(me.groups.begin());
    }
}

/* ---- mma.sync: each of the 32 threads shows its factors to the others and computes its own four
   results. Thread 4*g + t has rows g and g+8 of a, column g of b and columns 2t, 2t+1 of c. */

template <bool BF16>
void gan__mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], GAN__LINE)
{
    const uint32_t(*shown)[6] = gan_on_cpu::show_to_warp("mma.sync", line, a, b);
    int g = gan_on_cpu::lane() / 4, t = gan_on_cpu::lane() % 4;
    gan_on_cpu::Unseen unseen;
    auto factor = [](uint32_t word, int half) {
        if (!BF16) {
            if (word & 0x1fff && (word & 0x7f800000) != 0x7f800000)
                gan_on_cpu::fail(cudaErrorLaunchFailure, "mma.sync: %08x is not rounded to tf32",
                                 word);
            return __uint_as_float(word);
        }
        return __uint_as_float(half ? word & 0xffff0000u : word << 16);
    };
    for (int i = 0; i < 4; i++) {
        int row = g + i / 2 * 8, column = 2 * t + i % 2;
        for (int k = 0; k < 8; k++) {
            uint32_t left = shown[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2];
            uint32_t right = shown[column * 4 + k % 4][4 + k / 4];
            for (int half = 0; half < (BF16 ? 2 : 1); half++)
                c[i] += factor(left, half) * factor(right, half);
        }
    }
}

namespace nvcuda
{
namespace wmma
{
struct row_major {
};

struct matrix_a {
};

struct matrix_b {
};

struct accumulator {
};

namespace precision
{
struct tf32 {
};
} // namespace precision

enum layout_t { mem_row_major };

/* On a GPU the 32 lanes of a warp hold a matrix between them; here every lane holds all of it and
   computes all of it, and lane 0 writes the result. */

inline float __float_to_tf32(float x)
{
    return __uint_as_float(gan__tf32(x));
}

template <class T> struct element_of {
    typedef T type;
};

template <> struct element_of<precision::tf32> {
    typedef float type;
};

template <class USE, int M, int N, int K, class T, class LAYOUT = void> struct fragment {
    static constexpr int rows = std::is_same<USE, matrix_b>::value ? K : M,
                         columns = std::is_same<USE, matrix_a>::value ? K : N,
                         num_elements = rows * columns;
    typename element_of<T>::type x[rows * columns];
};

inline float number(float x)
{
    return x;
}

inline float number(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

template <class F> void fill_fragment(F &f, float value)
{
    for (int i = 0; i < F::num_elements; i++)
        f.x[i] = value;
}

template <class F, class T> void load_matrix_sync(F &f, const T *from, unsigned apart)
{
    __syncwarp();
    for (int i = 0; i < F::num_elements; i++)
        f.x[i] = from[i / F::columns * apart + i % F::columns];
}

template <class F> void store_matrix_sync(float *to, const F &f, unsigned apart, layout_t)
{
    if ((threadIdx.x + threadIdx.y * blockDim.x) % 32 == 0)
        for (int i = 0; i < F::num_elements; i++)
            to[i / F::columns * apart + i % F::columns] = f.x[i];
    __syncwarp();
}

template <class D, class A, class B> void mma_sync(D &d, const A &a, const B &b, const D &c)
{
    for (int i = 0; i < D::rows; i++)
        for (int j = 0; j < D::columns; j++) {
            float total = c.x[i * D::columns + j];
            for (int k = 0; k < A::columns; k++)
                total += number(a.x[i * A::columns + k]) * number(b.x[k * B::columns + j]);
            d.x[i * D::columns + j] = total;
        }
}
} // namespace wmma
} // namespace nvcuda
