/* tests/fuzz/fuzz_safetensors.c - header of a safetensors file.
 * Input: 8 bytes size of the data, the rest the header's text. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "model/safetensors.h"

static int by_offset(const void *a, const void *b)
{
    const phx_st_tensor *x = *(const phx_st_tensor *const *)a;
    const phx_st_tensor *y = *(const phx_st_tensor *const *)b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

/* Size from the shape, computed in a way of its own. */
static void check_tensor(const phx_st_file *file, const phx_st_tensor *tensor)
{
    uint64_t n_bytes = phx_dtype_bytes(tensor->dtype);
    bool is_empty = false;
    FUZZ_CHECK(tensor->dtype < PHX_DTYPE_COUNT);
    FUZZ_CHECK(tensor->n_dims <= PHX_TENSOR_DIMS_MAX);
    FUZZ_CHECK(tensor->name.n <= PHX_TENSOR_NAME_MAX);
    for (uint32_t i = 0; i < tensor->n_dims; i++) {
        FUZZ_CHECK(tensor->shape[i] >= 0);
        is_empty = is_empty || tensor->shape[i] == 0;
    }
    for (uint32_t i = 0; i < tensor->n_dims && !is_empty; i++)
        FUZZ_CHECK(!__builtin_mul_overflow(n_bytes, (uint64_t)tensor->shape[i], &n_bytes));
    FUZZ_CHECK(tensor->n_bytes == (is_empty ? 0 : n_bytes));
    FUZZ_CHECK(phx_st_find(file, tensor->name) == tensor);
}

/* Tensors tile the data without a gap and without an overlap. */
static void check_file(const phx_st_file *file, size_t head_bytes, uint64_t data_bytes)
{
    const size_t n = phx_st_count(file);
    const phx_st_tensor **sorted = phx_alloc(n + 1, sizeof(const phx_st_tensor *));
    uint64_t end = 8 + head_bytes;
    FUZZ_CHECK(sorted != NULL);
    FUZZ_CHECK(phx_st_file_bytes(file) == end + data_bytes);
    for (size_t i = 0; i < n; i++) {
        sorted[i] = phx_st_at(file, i);
        check_tensor(file, sorted[i]);
    }
    qsort(sorted, n, sizeof(const phx_st_tensor *), by_offset);
    for (size_t i = 0; i < n; i++) {
        FUZZ_CHECK(sorted[i]->n_bytes == 0 || sorted[i]->offset == end);
        FUZZ_CHECK(sorted[i]->offset <= phx_st_file_bytes(file));
        end += sorted[i]->n_bytes;
    }
    FUZZ_CHECK(end == phx_st_file_bytes(file));
    phx_free(sorted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fuzz_tape tape = {data, n_bytes};
    phx_st_file *file = NULL;
    phx_error err = {0};
    const uint64_t data_bytes = fuzz_u64(&tape);
    const phx_bytes text = fuzz_rest(&tape);
    const phx_code rc = phx_st_parse_header(text, data_bytes, &file, &err);
    if (rc == PHX_OK) {
        check_file(file, text.n, data_bytes);
        (void)phx_st_metadata(file, "format");
        phx_st_close(file);
        return 0;
    }
    fuzz_check_refusal(rc, &err);
    FUZZ_CHECK(file == NULL);
    return 0;
}
