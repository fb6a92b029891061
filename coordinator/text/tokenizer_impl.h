/* coordinator/text/tokenizer_impl.h - the fields of a tokenizer, for the files tokenizer*.c only. */
#ifndef PHX_COORDINATOR_TEXT_TOKENIZER_IMPL_H
#define PHX_COORDINATOR_TEXT_TOKENIZER_IMPL_H

#include "base/json.h"
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
    bool cuts_parts; /* long texts are encoded in parts, as Kimi's own program cuts them (tokenizer_cut.h) */
};

/* What both file formats share. name: of the file, for errors; the result is an object. */
phx_code phx_tokenizer_parse_json(const char *name, phx_bytes text, phx_json **ret_root, phx_error *err);

/* bos, eos and add_bos_token of tokenizer_config.json; added tokens are known by now. */
phx_code phx_tokenizer_read_names(phx_tokenizer *t, const phx_json *config, phx_error *err);

#endif
