/* tests/cuda_tensor_on_cpu.h: tensor cores for tests/cuda_on_cpu.h, which includes it:
   nvcuda::wmma as far as gan_cuda.cu uses it. On a GPU the 32 lanes of a warp hold a matrix
   between them; here every lane holds all of it and computes all of it, and lane 0 writes the
   result. Factors are rounded as the hardware does, sums are in float. */
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

inline float __float_to_tf32(float x) /* 10 bits after the point, ties away from 0 */
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x - x == 0)
        bits = (bits + 0x1000) & 0xffffe000u;
    memcpy(&x, &bits, 4);
    return x;
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
