/* tests/emu/mma.cpp - instructions of a whole warp in C: the form of kernels/cuda/ptx.cuh that the emulator
 * runs when all lanes have come. Never compiled with -fsanitize=thread. */
#include "kernels/cuda/ptx.cuh"

#define ROWS  16
#define COLS  8
#define DEPTH 16

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

/* The sum of terms, each cut to a multiple of 2^-25 of the largest's power of two, cut to f32. */
static float cut_sum(const double *terms, int n)
{
    double largest = 0.0;
    for (int i = 0; i < n; i++)
        largest = fabs(terms[i]) > largest ? fabs(terms[i]) : largest;
    if (!(largest > 0x1p-140)) /* zeros, and what f32 has no room for */
        return 0.0f;
    uint64_t bits;
    memcpy(&bits, &largest, sizeof(bits));
    const int e = (int)(bits >> 52) - 1023;
    const double up = power(25 - e);
    int64_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += (int64_t)(terms[i] * up);
    const double exact = (double)sum * power(e - 25);
    const float near = (float)exact;
    return fabs((double)near) > fabs(exact) ? nextafterf(near, 0.0f) : near;
}

void phx_mma_bf16_c(void *const *lanes)
{
    double a[ROWS][DEPTH];
    double b[COLS][DEPTH];
    for (int k = 0; k < DEPTH; k++) {
        const int at = k % 8 / 2;
        for (int r = 0; r < ROWS; r++)
            a[r][k] = half_of(((const phx_mma_lane *)lanes[r % 8 * 4 + at])->a[r / 8 + k / 8 * 2], k);
        for (int c = 0; c < COLS; c++)
            b[c][k] = half_of(((const phx_mma_lane *)lanes[c * 4 + at])->b[k / 8], k);
    }
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < COLS; c++) {
            float *d = &((const phx_mma_lane *)lanes[r % 8 * 4 + c / 2])->d[r / 8 * 2 + c % 2];
            double terms[DEPTH + 1];
            for (int k = 0; k < DEPTH; k++)
                terms[k] = a[r][k] * b[c][k];
            terms[DEPTH] = *d;
            *d = cut_sum(terms, DEPTH + 1);
        }
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
