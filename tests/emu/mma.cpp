/* tests/emu/mma.cpp - instructions of a whole warp in C: the form of kernels/cuda/ptx.cuh that the emulator
 * runs when all lanes have come. Never compiled with -fsanitize=thread. */
#include "kernels/cuda/ptx.cuh"

#define ROWS  16
#define COLS  8
#define DEPTH 16
#define TERMS (DEPTH + 1)

static float half_of(uint32_t pair, int k)
{
    return phx_bf16_to_f32((uint16_t)(k % 2 != 0 ? pair >> 16 : pair));
}

/* 2^e; e in the range of normal numbers. */
static double power(int e)
{
    const uint64_t bits = (uint64_t)(e + 1023) << 52;
    double x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* Products of a few million warps pass through here in a test: loops are as the compiler likes them. */
#if defined(__x86_64__)
#define QUICK __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define QUICK
#endif

static const int E_LEAST = -140; /* below: zeros, and what f32 has no room for */
static const int E_NONE = 1024;  /* infinity and what is no number */

static void sum_plainly(const double (*terms)[COLS], float *ret)
{
    double sums[COLS] = {0};
    for (int k = 0; k < TERMS; k++) {
        for (int c = 0; c < COLS; c++)
            sums[c] += terms[k][c];
    }
    for (int c = 0; c < COLS; c++)
        ret[c] = (float)sums[c];
}

/* For each column the sum of its terms, each cut to a multiple of 2^-25 of the largest's power of two, cut to
 * f32. */
QUICK static void cut_sums(const double (*terms)[COLS], float *ret)
{
    int64_t largest[COLS] = {0}; /* bits of positive numbers are in their order */
    for (int k = 0; k < TERMS; k++) {
        for (int c = 0; c < COLS; c++) {
            const double size = fabs(terms[k][c]);
            int64_t bits;
            memcpy(&bits, &size, sizeof(bits));
            largest[c] = bits > largest[c] ? bits : largest[c];
        }
    }
    double up[COLS], down[COLS];
    for (int c = 0; c < COLS; c++) {
        const int e = (int)(largest[c] >> 52) - 1023;
        if (e == E_NONE)
            return sum_plainly(terms, ret);
        up[c] = e < E_LEAST ? 0.0 : power(25 - e);
        down[c] = e < E_LEAST ? 0.0 : power(e - 25);
    }
    int32_t sums[COLS] = {0}; /* of 17 below 2^26 */
    for (int k = 0; k < TERMS; k++) {
        for (int c = 0; c < COLS; c++)
            sums[c] += (int32_t)(terms[k][c] * up[c]);
    }
    for (int c = 0; c < COLS; c++) {
        const double exact = sums[c] * down[c];
        const float near = (float)exact;
        ret[c] = fabs((double)near) > fabs(exact) ? nextafterf(near, 0.0f) : near;
    }
}

void phx_mma_bf16_c(void *const *lanes)
{
    const phx_mma_lane *lane[PHX_WARP];
    for (int i = 0; i < PHX_WARP; i++)
        lane[i] = (const phx_mma_lane *)lanes[i];
    double b[DEPTH][COLS];
    for (int k = 0; k < DEPTH; k++) {
        for (int c = 0; c < COLS; c++)
            b[k][c] = half_of(lane[c * 4 + k % 8 / 2]->b[k / 8], k);
    }
    for (int r = 0; r < ROWS; r++) {
        double terms[TERMS][COLS];
        for (int k = 0; k < DEPTH; k++) {
            const double a = half_of(lane[r % 8 * 4 + k % 8 / 2]->a[r / 8 + k / 8 * 2], k);
            for (int c = 0; c < COLS; c++)
                terms[k][c] = a * b[k][c];
        }
        for (int c = 0; c < COLS; c++)
            terms[DEPTH][c] = lane[r % 8 * 4 + c / 2]->d[r / 8 * 2 + c % 2];
        float sums[COLS];
        cut_sums(terms, sums);
        for (int c = 0; c < COLS; c++)
            lane[r % 8 * 4 + c / 2]->d[r / 8 * 2 + c % 2] = sums[c];
    }
}

void phx_load_matrices_trans_c(void *const *lanes)
{
    for (int lane = 0; lane < 32; lane++) {
        for (int i = 0; i < 4; i++) {
            uint32_t pair = 0;
            for (int k = 0; k < 2; k++) {
                const phx_matrix_lane *from = (const phx_matrix_lane *)lanes[i * 8 + lane % 4 * 2 + k];
                const int column = lane / 4;
                const uint32_t code = from->row.word[column / 2] >> 16 * (column % 2) & 0xFFFFu;
                pair |= code << 16 * k;
            }
            ((const phx_matrix_lane *)lanes[lane])->d[i] = pair;
        }
    }
}
