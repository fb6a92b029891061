/* coordinator/text/tokenizer.h - text to token ids and ids to bytes, from a checkpoint's tokenizer.json
 * or tiktoken.model.
 * Owns: byte-level BPE in the formats of huggingface/tokenizers and tiktoken, added tokens, bos and eos.
 * Not here: turning a stream of ids into text (detokenize.h), chat formats, a model's list of end tokens
 * (generation_config.json), ids past the tokenizer's that a padded vocabulary can still sample. */
#ifndef PHX_COORDINATOR_TEXT_TOKENIZER_H
#define PHX_COORDINATOR_TEXT_TOKENIZER_H

#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"

#define PHX_TOKEN_NONE UINT32_MAX

/* Immutable once made: any number of threads may use one. */
typedef struct phx_tokenizer phx_tokenizer;

/* Reads tokenizer.json, or where there is none tiktoken.model, and tokenizer_config.json (bos, eos; optional
 * with the former, with the latter it lists the added tokens) of a checkpoint folder.
 * PHX_ERR_NOT_FOUND: neither; PHX_ERR_CORRUPT: malformed; PHX_ERR_UNSUPPORTED: a pre-tokeniser,
 * normaliser or option that is not known, named; PHX_ERR_TOO_LONG: past a limit. Destroy with
 * phx_tokenizer_destroy. */
phx_code phx_tokenizer_load(const char *model_dir, phx_tokenizer **ret_tokenizer, phx_error *err);

/* The same from memory; config_json may be empty. */
phx_code phx_tokenizer_parse(phx_bytes tokenizer_json, phx_bytes config_json, phx_tokenizer **ret_tokenizer,
                             phx_error *err);

/* From the lines "BASE64 RANK" of tiktoken.model. The file says nothing about pieces or added tokens: the
 * class that config_json names does, and only Kimi's is known (PHX_ERR_UNSUPPORTED names another). The 256
 * ids behind the ranks are added tokens, those that the configuration does not name <|reserved_token_ID|>. */
phx_code phx_tokenizer_parse_tiktoken(phx_bytes ranks, phx_bytes config_json, phx_tokenizer **ret_tokenizer,
                                      phx_error *err);
void phx_tokenizer_destroy(phx_tokenizer *tokenizer); /* accepts NULL */

/* Bytes [first, end) of the text. */
typedef struct phx_text_span {
    size_t first;
    size_t end;
} phx_text_span;

typedef struct phx_encode_args {
    phx_str text;     /* valid UTF-8, else PHX_ERR_INVALID */
    bool parse_added; /* "<think>" in the text becomes that token; false: the text is plain data */
    bool add_bos;     /* put bos first; PHX_ERR_INVALID when the tokenizer has none */
    uint32_t *ids;    /* [n_ids_max], content unspecified after a failure */
    size_t n_ids_max; /* more: PHX_ERR_TOO_LONG */
    /* With parse_added: parts of the text that came from a user. No added token is recognised that touches
     * one, so that data cannot pose as control; all else is cut and merged as if they were not there.
     * Ascending, without overlap. */
    const phx_text_span *data_spans; /* [n_data_spans] */
    size_t n_data_spans;
} phx_encode_args;

/* Time n log n in the bytes of the text, memory about 30 bytes per byte of its longest word. */
phx_code phx_tokenizer_encode(const phx_tokenizer *tokenizer, const phx_encode_args *args, size_t *ret_n_ids,
                              phx_error *err);

/* The raw bytes of one id: perhaps part of a character; added tokens as their text (but one written wholly in
 * the byte alphabet of the file, such as a lone U+00E9, as the bytes that it spells: the reference decodes
 * so). Borrowed from the tokenizer. false (output untouched): no such token. */
bool phx_tokenizer_piece(const phx_tokenizer *tokenizer, uint32_t id, phx_str *ret_bytes);

/* Marked special in added_tokens: left out of text with skip_special. Control tokens such as <think> often
 * are added without being special. */
bool phx_tokenizer_is_special(const phx_tokenizer *tokenizer, uint32_t id);
bool phx_tokenizer_is_added(const phx_tokenizer *tokenizer, uint32_t id);

/* Id of the added token with exactly this text; false (output untouched): there is none. */
bool phx_tokenizer_id_of(const phx_tokenizer *tokenizer, phx_str added_token, uint32_t *ret_id);

uint32_t phx_tokenizer_n_vocab(const phx_tokenizer *tokenizer); /* highest id + 1; may hold unused ids */
uint32_t phx_tokenizer_bos(const phx_tokenizer *tokenizer);     /* or PHX_TOKEN_NONE */
uint32_t phx_tokenizer_eos(const phx_tokenizer *tokenizer);     /* or PHX_TOKEN_NONE */
bool phx_tokenizer_adds_bos(const phx_tokenizer *tokenizer);    /* add_bos_token of the configuration */

#endif
