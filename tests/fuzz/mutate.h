/* tests/fuzz/mutate.h - inputs made from seeds: deterministic, without coverage.
 * Owns: the seeds, the dictionary, the mutations. A key gives the same input on every machine, so a failure
 * is named by its seed and number. */
#ifndef PHX_TESTS_FUZZ_MUTATE_H
#define PHX_TESTS_FUZZ_MUTATE_H

#include "base/buf.h"

typedef struct fuzz_item {
    uint8_t *ptr; /* owned */
    size_t n;
} fuzz_item;

typedef struct fuzz_set {
    fuzz_item *items; /* [n_items] */
    size_t n_items;
    size_t cap;
} fuzz_set;

typedef struct fuzz_source {
    fuzz_set seeds;
    fuzz_set words; /* the dictionary */
    uint64_t seed;
    size_t n_bytes_max; /* of what is made */
} fuzz_source;

phx_code fuzz_set_add(fuzz_set *set, phx_bytes bytes);
void fuzz_set_done(fuzz_set *set);

/* libFuzzer's form: lines [name=]"text" with \xNN, \\ and \", comments with #. PHX_ERR_INVALID names the
 * line. */
phx_code fuzz_read_dictionary(fuzz_set *words, phx_str text, phx_error *err);

/* Input number idx: a seed with 1 to 8 mutations. out is cleared first. */
void fuzz_mutate(const fuzz_source *source, uint64_t idx, phx_buf *out);

#endif
