/* tests/fuzz/demo.h - the demo model's tokenizer, for targets of coordinator/text. */
#ifndef PHX_TESTS_FUZZ_DEMO_H
#define PHX_TESTS_FUZZ_DEMO_H

#include "base/buf.h"
#include "coordinator/text/tokenizer.h"

/* Loaded once, kept to the end of the process. */
const phx_tokenizer *fuzz_demo_tokenizer(void);

/* Appends the bytes of all ids; every id must have a piece. */
void fuzz_join_pieces(const phx_tokenizer *tokenizer, const uint32_t *ids, size_t n_ids, phx_buf *text);

/* Encodes text and appends the bytes of its ids. False: refused, with a proper refusal. */
bool fuzz_encode(const phx_tokenizer *tokenizer, phx_str text, bool parse_added, phx_buf *joined);

#endif
