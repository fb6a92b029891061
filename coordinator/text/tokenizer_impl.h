/* coordinator/text/tokenizer_impl.h - the fields of a tokenizer, for the files tokenizer*.c only. */
#ifndef PHX_COORDINATOR_TEXT_TOKENIZER_IMPL_H
#define PHX_COORDINATOR_TEXT_TOKENIZER_IMPL_H

#include "coordinator/text/bpe.h"
#include "coordinator/text/bpe_vocab.h"
#include "coordinator/text/scanner.h"
#include "coordinator/text/tokenizer.h"
#include "coordinator/text/tokenizer_added.h"

/* The reference looks for tokens with normalized: false in the whole text first, then for the others in what
 * is left between them. */
#define PHX_ADDED_PASSES 2u

struct phx_tokenizer {
    phx_vocab *vocab;
    phx_bpe *bpe;
    const phx_scanner *scanner;
    phx_added_set added[PHX_ADDED_PASSES]; /* contents lie in added_text */
    char *added_text;
    uint32_t bos;
    uint32_t eos;
    bool adds_bos;
};

#endif
