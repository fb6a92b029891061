/* tests/fuzz/fuzz.h - what every fuzz target shares.
 * Owns: the entry's declaration, checks that end the process, cutting an input into fields, scratch files.
 * Not here: where inputs come from (replay_main.c, or libFuzzer). A target keeps nothing between two inputs
 * but what it made on its first one, which replay_main.c takes as its base when it looks for leaks. */
#ifndef PHX_TESTS_FUZZ_FUZZ_H
#define PHX_TESTS_FUZZ_FUZZ_H

#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* An oracle: says what broke and where, then aborts, so that either driver keeps the input. */
#define FUZZ_CHECK(condition)                 \
    do {                                      \
        if (!(condition))                     \
            fuzz_fail(#condition, PHX_PLACE); \
    } while (0)
void fuzz_fail(const char *what, const char *place) __attribute__((noreturn));

/* A refusal of input must carry its own code and a text, and never be an accident of ours. */
void fuzz_check_refusal(phx_code rc, const phx_error *err);

/* For what must work whatever the input is; prints the error's text otherwise. */
void fuzz_must(phx_code rc, const phx_error *err);

/* One JSON object, with anything in it. Our own reader refuses an escaped NUL, which JSON allows. */
void fuzz_check_object(phx_str text);

/* The input as a tape: zeros behind its end. */
typedef struct fuzz_tape {
    const uint8_t *ptr;
    size_t n;
} fuzz_tape;

uint8_t fuzz_u8(fuzz_tape *tape);
uint32_t fuzz_u32(fuzz_tape *tape); /* little-endian */
uint64_t fuzz_u64(fuzz_tape *tape);
phx_bytes fuzz_take(fuzz_tape *tape, size_t n); /* fewer at the end */
phx_bytes fuzz_rest(fuzz_tape *tape);
/* Up to the next '\n', which is skipped; the rest when there is none. */
phx_bytes fuzz_line(fuzz_tape *tape);
/* Up to the next line "---", which is skipped; the rest when there is none. */
phx_bytes fuzz_take_part(fuzz_tape *tape);

static inline phx_str fuzz_str(phx_bytes bytes)
{
    return (phx_str){(const char *)bytes.ptr, bytes.n};
}

/* Sizes of pieces for one input fed in parts: drawn from a key, so that an input fixes them. */
typedef struct fuzz_cuts {
    uint64_t key;
    uint64_t n_drawn;
} fuzz_cuts;

size_t fuzz_next_cut(fuzz_cuts *cuts, size_t n_left); /* 1 .. n_left; n_left > 0 */

/* "ROOT/name" where ROOT is the source tree; lives until the next call. */
const char *fuzz_source_path(const char *name);

/* A private folder that goes away with the process. */
const char *fuzz_folder(void);
/* Writes (over) a file of mode 0600 there; its path lives until the next call. */
const char *fuzz_file(const char *name, phx_bytes content);

#endif
