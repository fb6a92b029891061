/* kernels/cuda/indexer.cu - index_scores (blocks of KEYS keys by mma) and top_positions (a block of threads
 * per row). */
#include "kernels/cuda/blockdot.cuh"
#include "kernels/cuda/select.cuh"

#define THREADS 256
#define KEYS    64 /* of a block of threads: two groups of 32 */
#define KEY_NT  4  /* tiles of PHX_TILE_ROW keys in a group */
#define HEADS   64 /* whose dots wait in shared memory at a time */
#define GROUPS  (KEYS / (KEY_NT * PHX_TILE_ROW))

/* Keys in f16, as the inputs of blockdot.cuh. */
template <> struct phx_inputs<PHX_F16> {
    enum { pieces = 2, bytes = 2, align = 8 };
    static __device__ void whole(const void *p, uint32_t pairs[2][pieces])
    {
        const phx_8 raw = *(const phx_8 *)p;
        for (int h = 0; h < 2; h++)
            phx_cut_pair<pieces>(phx_f16_value((uint16_t)raw.word[h]),
                                 phx_f16_value((uint16_t)(raw.word[h] >> 16)), pairs[h]);
    }
    static __device__ void part(const void *p, int64_t n, uint32_t pairs[2][pieces])
    {
        const uint16_t *x = (const uint16_t *)p;
        for (int h = 0; h < 2; h++)
            phx_cut_pair<pieces>(2 * h < n ? phx_f16_value(x[2 * h]) : 0.0f,
                                 2 * h + 1 < n ? phx_f16_value(x[2 * h + 1]) : 0.0f, pairs[h]);
    }
};

typedef struct score_rows { /* of a row */
    const phx_index_scores_args &a;
    const phx_cache &keys;
    int64_t r;
    int64_t first; /* key */
} score_rows;

/* Warp: the dots of 16 heads with 32 keys; queries are the f32 weights of blockdot.cuh. */
template <int DTYPE>
PHX_DEVICE void score_dots(const score_rows &from, int64_t head, int64_t group, int64_t n_keys,
                           float d[KEY_NT][4])
{
    const int64_t width = from.keys.width;
    const int64_t lane_row = phx_lane() / 4;
    for (int i = 0; i < KEY_NT * 4; i++)
        d[i / 4][i % 4] = 0.0f;
    for (int64_t c = 0; c < width; c += PHX_K_BLOCK) {
        phx_dot_rows<KEY_NT> rows;
        for (int half = 0; half < 2; half++) {
            const int64_t h = head + lane_row + 8 * half;
            const int64_t there = h < from.a.n_heads ? h : from.a.n_heads - 1;
            rows.w[half] = (const uint8_t *)(from.a.q + (from.r * from.a.n_heads + there) * width + c);
        }
        for (int t = 0; t < KEY_NT; t++) {
            const int64_t s = from.first + (group * KEY_NT + t) * PHX_TILE_ROW + lane_row;
            const int64_t there = s < n_keys ? s : n_keys - 1;
            const int64_t entry = phx_cache_entry(&from.keys, from.a.blocks[from.r], there);
            rows.x[t] = (const uint8_t *)from.keys.data + (entry * width + c) * phx_inputs<DTYPE>::bytes;
        }
        float part[KEY_NT][4];
        phx_block_dot<PHX_FORMAT_F32, DTYPE, KEY_NT>(rows, width - c < PHX_K_BLOCK ? width - c : PHX_K_BLOCK,
                                                     part);
        for (int i = 0; i < KEY_NT * 4; i++)
            d[i / 4][i % 4] += part[i / 4][i % 4];
    }
}

/* The host knows only a limit of the numbers of keys: the grid is over that, by KEYS, and rows. */
template <int DTYPE>
static __global__ void __launch_bounds__(THREADS)
    index_scores(const phx_index_scores_args a, const phx_cache keys)
{
    PHX_SHARED(float, dots, HEADS *KEYS);
    const score_rows from = {a, keys, blockIdx.y, (int64_t)blockIdx.x * KEYS};
    const int64_t n_keys = a.n_keys[from.r];
    const int64_t s = from.first + threadIdx.x;
    if (from.first >= n_keys)
        return;
    float score = 0.0f;
    for (int64_t head = 0; head < a.n_heads; head += HEADS) {
        const int64_t n = a.n_heads - head < HEADS ? a.n_heads - head : HEADS;
        for (int64_t item = phx_warp(); item / GROUPS * PHX_TILE_OUT < n; item += THREADS / PHX_WARP) {
            const int64_t tile = item / GROUPS * PHX_TILE_OUT;
            float d[KEY_NT][4];
            score_dots<DTYPE>(from, head + tile, item % GROUPS, n_keys, d);
            for (int i = 0; i < KEY_NT * 4; i++) {
                const int64_t h = tile + phx_lane() / 4 + i % 4 / 2 * 8;
                const int64_t key =
                    (item % GROUPS * KEY_NT + i / 4) * PHX_TILE_ROW + phx_lane() % 4 * 2 + i % 2;
                dots[h * KEYS + key] = d[i / 4][i % 4];
            }
        }
        __syncthreads();
        for (int64_t h = 0; threadIdx.x < KEYS && s < n_keys && h < n; h++) {
            const float dot = dots[h * KEYS + threadIdx.x];
            if (dot > 0.0f || PHX_PLANT(24))
                score =
                    fmaf(a.w[from.r * a.n_heads + head + h] * (PHX_PLANT(95) ? 1.0f : a.w_scale), dot, score);
        }
        __syncthreads();
    }
    if (threadIdx.x < KEYS && s < n_keys)
        a.scores[from.r * a.scores_stride + s] = score;
}

cudaError_t phx_index_scores_cuda(cudaStream_t stream, const phx_index_scores_args *args)
{
    if (args->n_rows * args->n_keys_max == 0)
        return cudaSuccess;
    const dim3 grid(phx_grid(args->n_keys_max, KEYS), (unsigned)args->n_rows);
    if (args->keys->dtype == PHX_BF16)
        return PHX_LAUNCH(index_scores<PHX_BF16>, grid, THREADS, 0, stream, *args, *args->keys);
    if (args->keys->dtype == PHX_F16)
        return PHX_LAUNCH(index_scores<PHX_F16>, grid, THREADS, 0, stream, *args, *args->keys);
    return PHX_LAUNCH(index_scores<PHX_F32>, grid, THREADS, 0, stream, *args, *args->keys);
}

static __global__ void __launch_bounds__(PHX_SELECT_THREADS) top_positions(const phx_top_positions_args a)
{
    PHX_SELECT_SHARED(shared);
    const int64_t r = blockIdx.x;
    const float *scores = a.scores + r * a.scores_stride;
    int32_t *positions = a.positions + r * a.n_keep;
    const int64_t n = a.n_keys[r];
    const int64_t n_keep = n < a.n_keep ? n : a.n_keep;
    phx_selection selection = {0, n_keep}; /* everything: ranks of numbers are above 0 */
    if (n_keep > 0 && n_keep < n)
        selection = phx_select(scores, n, n_keep, shared);
    phx_select_each(scores, n, selection, shared,
                    [=](int64_t place, int64_t i) { positions[place] = (int32_t)i; });
    for (int64_t i = n_keep + threadIdx.x; i < a.n_keep; i += PHX_SELECT_THREADS)
        positions[i] = -1;
    if (threadIdx.x == 0)
        a.n_positions[r] = (int32_t)n_keep;
}

cudaError_t phx_top_positions_cuda(cudaStream_t stream, const phx_top_positions_args *args)
{
    if (args->n_rows == 0)
        return cudaSuccess;
    return PHX_LAUNCH(top_positions, phx_grid(args->n_rows, 1), PHX_SELECT_THREADS, 0, stream, *args);
}
