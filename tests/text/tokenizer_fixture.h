/* tests/text/tokenizer_fixture.h - files of the shared test data, and the tokenizers made from them. */
#ifndef PHX_TESTS_TEXT_TOKENIZER_FIXTURE_H
#define PHX_TESTS_TEXT_TOKENIZER_FIXTURE_H

#include "base/buf.h"
#include "base/json.h"
#include "coordinator/text/tokenizer.h"

/* All of these end the program with a message when something is wrong: a test cannot go on without them. */

bool fixture_present(void);                        /* false, and a SKIP line, when there is no shared data */
void fixture_read(const char *name, phx_buf *buf); /* name below the shared folder */
void fixture_gunzip(const char *name, phx_buf *buf); /* by the program gzip */
phx_bytes fixture_bytes(const phx_buf *buf);
phx_json *fixture_json(const char *name);

/* base/json refuses "\u0000", which the edge texts hold: read it as U+E0B7 and put the NUL back in a copy. */
phx_json *fixture_json_with_nul(const char *name);
void fixture_text(const phx_json *node, phx_buf *buf); /* releases with phx_buf_done */
phx_tokenizer *fixture_tokenizer(const char *json_name, const char *config_name);

/* Encodes; *ret_n ids in a new array, freed with phx_free. */
uint32_t *fixture_encode(const phx_tokenizer *tokenizer, phx_str text, bool parse_added, size_t *ret_n);

/* Concatenated pieces, no special treatment. */
void fixture_decode(const phx_tokenizer *tokenizer, const uint32_t *ids, size_t n_ids, phx_buf *buf);

#endif
