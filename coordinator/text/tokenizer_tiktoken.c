/* coordinator/text/tokenizer_tiktoken.c - tiktoken.model and tokenizer_config.json into a tokenizer.
 * Owns: the lines "BASE64 RANK", and what Kimi's own program adds to them: the pattern of pieces, the cuts of
 * long texts, 256 added tokens behind the ranks.
 * Not here: tokenizer.json (tokenizer_parse.c). */
#include "coordinator/text/tokenizer.h"
#include "coordinator/text/tokenizer_impl.h"
#include "base/alloc.h"

#include <stdio.h>

#define KIMI_CLASS  "TikTokenTokenizer"
#define KIMI_MODULE "tokenization_kimi."
#define N_ADDED     256u
#define NAME_BYTES  64

/* One line of the file. */
typedef struct rank_line {
    phx_str base64;
    uint32_t rank;
    size_t n_bytes; /* decoded */
} rank_line;

/* What a first walk over the file finds out before memory is taken. */
typedef struct census {
    uint32_t n_ranks;
    size_t n_bytes;
    size_t n_longest;
} census;

static phx_code check_class(const phx_json *config, phx_error *err);
static phx_code take_census(phx_str text, census *ret_census, phx_error *err);
static phx_code read_ranks(phx_tokenizer *t, phx_str text, phx_error *err);
static phx_code read_added(phx_tokenizer *t, const phx_json *config, uint32_t n_ranks, phx_error *err);
static size_t added_bytes(const phx_json *config);

phx_code phx_tokenizer_parse_tiktoken(phx_bytes ranks, phx_bytes config_json, phx_tokenizer **ret_tokenizer,
                                      phx_error *err)
{
    const phx_str text = {(const char *)ranks.ptr, ranks.n};
    phx_json *config = NULL;
    phx_tokenizer *t = NULL;
    census c = {0};
    phx_code rc = phx_tokenizer_parse_json("tokenizer_config.json", config_json, &config, err);
    if (rc == PHX_OK)
        rc = check_class(config, err);
    if (rc == PHX_OK)
        rc = take_census(text, &c, err);
    if (rc != PHX_OK)
        goto out;
    t = phx_alloc(1, sizeof(*t));
    if (!t) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "tokenizer");
        goto out;
    }
    t->bos = PHX_TOKEN_NONE;
    t->eos = PHX_TOKEN_NONE;
    t->cuts_parts = true;
    t->scanner = phx_scanner_named("kimi");
    rc = phx_vocab_create(c.n_ranks + N_ADDED, c.n_bytes + added_bytes(config), &t->vocab, err);
    if (rc == PHX_OK)
        rc = read_ranks(t, text, err);
    if (rc == PHX_OK)
        rc = read_added(t, config, c.n_ranks, err);
    if (rc == PHX_OK)
        rc = phx_bpe_create_ranks(t->vocab, c.n_longest, &t->bpe, err);
    if (rc == PHX_OK)
        rc = phx_tokenizer_read_names(t, config, err);
    if (rc != PHX_OK)
        goto out;
    *ret_tokenizer = t;
    t = NULL;
out:
    phx_tokenizer_destroy(t);
    phx_json_destroy(config);
    return rc;
}

static phx_str text_of(const phx_json *object, const char *key)
{
    phx_str text = {"", 0};
    (void)phx_json_as_str(phx_json_get(object, key), &text);
    return text;
}

/* The program that belongs to the ranks: another one would mean another pattern, hence other ids. */
static phx_code check_class(const phx_json *config, phx_error *err)
{
    const phx_str name = text_of(config, "tokenizer_class");
    const phx_json *classes = phx_json_get(phx_json_get(config, "auto_map"), "AutoTokenizer");
    phx_str module = {"", 0};
    if (!phx_str_is(name, KIMI_CLASS))
        return PHX_FAIL(
            err, PHX_ERR_UNSUPPORTED,
            "tokenizer_config.json: tokenizer_class '%.*s'; with tiktoken.model only Kimi's " KIMI_CLASS
            " is known",
            PHX_STR_ARG(name));
    const phx_json *first =
        classes && phx_json_kind_of(classes) == PHX_JSON_ARRAY ? phx_json_at(classes, 0) : NULL;
    if (phx_json_as_str(first, &module) && !phx_str_starts(module, phx_str_of(KIMI_MODULE)))
        return PHX_FAIL(
            err, PHX_ERR_UNSUPPORTED,
            "tokenizer_config.json: auto_map names '%.*s'; with tiktoken.model only Kimi's " KIMI_MODULE
            "py is known",
            PHX_STR_ARG(module));
    return PHX_OK;
}

/* ---- ranks ---- */

static int sextet_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Whole groups of four with padding; bits that the padding leaves over must be zero. to: NULL only counts. */
static bool decode_base64(phx_str text, char *to, size_t *ret_n)
{
    size_t n = 0;
    const size_t n_pad =
        text.n && text.ptr[text.n - 1] == '=' ? 1u + (text.n > 1 && text.ptr[text.n - 2] == '=') : 0;
    if (text.n == 0 || text.n % 4 != 0)
        return false;
    for (size_t at = 0; at < text.n; at += 4) {
        uint32_t bits = 0;
        const size_t n_chars = at + 4 == text.n ? 4 - n_pad : 4;
        for (size_t i = 0; i < 4; i++) {
            const int sextet = i < n_chars ? sextet_of(text.ptr[at + i]) : 0;
            if (sextet < 0)
                return false;
            bits = bits << 6 | (uint32_t)sextet;
        }
        for (size_t i = 0; i < 3; i++) {
            const char byte = (char)(bits >> (16 - 8 * i) & 0xFF);
            if (i + 1 >= n_chars && byte)
                return false;
            if (i + 1 < n_chars) {
                if (to)
                    to[n] = byte;
                n++;
            }
        }
    }
    *ret_n = n;
    return true;
}

/* Takes the line at *at, and moves *at behind it; n_line counts from 1. */
static phx_code next_line(phx_str text, size_t *at, size_t n_line, rank_line *ret_line, phx_error *err)
{
    const char *from = text.ptr + *at;
    const char *line_end = memchr(from, '\n', text.n - *at);
    const size_t n = line_end ? (size_t)(line_end - from) : text.n - *at;
    const char *space = memchr(from, ' ', n);
    rank_line line = {.base64 = {from, space ? (size_t)(space - from) : n}};
    const phx_str digits = {space ? space + 1 : from + n, space ? n - line.base64.n - 1 : 0};
    uint64_t rank = 0;
    for (size_t i = 0; i < digits.n && rank < PHX_TOKENIZER_IDS_MAX; i++) {
        if (digits.ptr[i] < '0' || digits.ptr[i] > '9')
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "tiktoken.model: line %zu has no rank", n_line);
        rank = rank * 10 + (uint64_t)(digits.ptr[i] - '0');
    }
    if (digits.n == 0)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tiktoken.model: line %zu has no rank", n_line);
    if (rank >= PHX_TOKENIZER_IDS_MAX - N_ADDED)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG,
                        "tiktoken.model: line %zu: with %u added tokens, ids end at %u", n_line, N_ADDED,
                        PHX_TOKENIZER_IDS_MAX);
    if (!decode_base64(line.base64, NULL, &line.n_bytes))
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tiktoken.model: line %zu does not begin with base64", n_line);
    if (line.n_bytes > PHX_TOKENIZER_PIECE_BYTES_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG,
                        "tiktoken.model: line %zu: a token of %zu bytes, the limit is %u", n_line,
                        line.n_bytes, PHX_TOKENIZER_PIECE_BYTES_MAX);
    line.rank = (uint32_t)rank;
    *at += n + (line_end ? 1 : 0);
    *ret_line = line;
    return PHX_OK;
}

static phx_code take_census(phx_str text, census *ret_census, phx_error *err)
{
    census c = {0};
    size_t n_lines = 0;
    if (text.n > PHX_TOKENIZER_FILE_BYTES_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "tiktoken.model: %zu bytes, the limit is %u", text.n,
                        PHX_TOKENIZER_FILE_BYTES_MAX);
    for (size_t at = 0; at < text.n;) {
        rank_line line;
        const phx_code rc = next_line(text, &at, ++n_lines, &line, err);
        if (rc != PHX_OK)
            return rc;
        if (line.rank >= c.n_ranks)
            c.n_ranks = line.rank + 1;
        if (line.n_bytes > c.n_longest)
            c.n_longest = line.n_bytes;
        c.n_bytes += line.n_bytes;
    }
    if (n_lines != c.n_ranks || n_lines == 0)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tiktoken.model: %zu lines, but ranks end at %u", n_lines,
                        c.n_ranks);
    *ret_census = c;
    return PHX_OK;
}

static phx_code read_ranks(phx_tokenizer *t, phx_str text, phx_error *err)
{
    char bytes[PHX_TOKENIZER_PIECE_BYTES_MAX];
    size_t n_lines = 0;
    for (size_t at = 0; at < text.n;) {
        rank_line line;
        phx_str piece = {bytes, 0};
        const phx_code rc = next_line(text, &at, ++n_lines, &line, err);
        if (rc != PHX_OK)
            return rc;
        (void)decode_base64(line.base64, bytes, &piece.n);
        if (phx_vocab_flags(t->vocab, line.rank))
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "tiktoken.model: line %zu: rank %u is there twice", n_lines,
                            line.rank);
        if (!phx_vocab_put(t->vocab, line.rank, piece, true))
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "tiktoken.model: line %zu: its token is there twice",
                            n_lines);
    }
    return PHX_OK;
}

/* ---- added tokens ---- */

/* At most; of all, the reserved ones included. */
static size_t added_bytes(const phx_json *config)
{
    const phx_json *added = phx_json_get(config, "added_tokens_decoder");
    size_t n = N_ADDED * NAME_BYTES;
    for (phx_json_member it = phx_json_first(added); it.value; it = phx_json_next(added, it))
        n += text_of(it.value, "content").n;
    return n;
}

static phx_code check_token(phx_str key, const phx_json *token, uint32_t n_ranks, phx_error *err)
{
    static const char *const refused[] = {"single_word", "lstrip", "rstrip"};
    const phx_str content = text_of(token, "content");
    uint64_t id = 0;
    bool is_number = key.n > 0 && key.n < 10 && (key.ptr[0] != '0' || key.n == 1);
    for (size_t i = 0; i < key.n && is_number; i++) {
        is_number = key.ptr[i] >= '0' && key.ptr[i] <= '9';
        id = id * 10 + (uint64_t)(key.ptr[i] - '0');
    }
    if (!is_number || id < n_ranks || id >= n_ranks + N_ADDED)
        return PHX_FAIL(err, PHX_ERR_CORRUPT,
                        "tokenizer_config.json: added token '%.*s' is none of the %u ids from %u on",
                        PHX_STR_ARG(key), N_ADDED, n_ranks);
    if (content.n == 0)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tokenizer_config.json: added token %llu has no content",
                        (unsigned long long)id);
    if (content.n > PHX_TOKENIZER_ADDED_BYTES_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG,
                        "tokenizer_config.json: added token %llu has %zu bytes, the limit is %u",
                        (unsigned long long)id, content.n, PHX_TOKENIZER_ADDED_BYTES_MAX);
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        bool asked = false;
        if (phx_json_as_bool(phx_json_get(token, refused[i]), &asked) && asked)
            return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "tokenizer_config.json: added token '%.*s' asks for %s",
                            PHX_STR_ARG(content), refused[i]);
    }
    return PHX_OK;
}

static void put_added(phx_tokenizer *t, uint32_t id, phx_str content, bool is_special, char **to)
{
    (void)phx_vocab_put(t->vocab, id, content, false);
    phx_vocab_mark(t->vocab, id, (uint8_t)(PHX_PIECE_ADDED | (is_special ? PHX_PIECE_SPECIAL : 0)));
    memcpy(*to, content.ptr, content.n);
    phx_added_put(&t->added[0], (phx_added_token){{*to, content.n}, id});
    *to += content.n;
}

/* Each id once: the keys of an object differ, and numbers have one spelling each. */
static phx_code read_added(phx_tokenizer *t, const phx_json *config, uint32_t n_ranks, phx_error *err)
{
    const phx_json *added = phx_json_get(config, "added_tokens_decoder");
    phx_code rc = PHX_OK;
    if (!added || phx_json_kind_of(added) != PHX_JSON_OBJECT)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tokenizer_config.json: added_tokens_decoder is not an object");
    for (phx_json_member it = phx_json_first(added); it.value && rc == PHX_OK; it = phx_json_next(added, it))
        rc = check_token(it.key, it.value, n_ranks, err);
    t->added_text = rc == PHX_OK ? phx_alloc(added_bytes(config), 1) : NULL;
    if (rc == PHX_OK && !t->added_text)
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "%u added tokens", N_ADDED);
    for (size_t pass = 0; pass < PHX_ADDED_PASSES && rc == PHX_OK; pass++)
        rc = phx_added_reserve(&t->added[pass], N_ADDED, err);
    if (rc != PHX_OK)
        return rc;
    char *to = t->added_text;
    for (uint32_t id = n_ranks; id < n_ranks + N_ADDED; id++) {
        char name[NAME_BYTES];
        bool is_special = true;
        (void)snprintf(name, sizeof(name), "%u", id);
        const phx_json *token = phx_json_get(added, name);
        (void)snprintf(name, sizeof(name), "<|reserved_token_%u|>", id);
        if (token) /* without the mark it stays visible, as in the reference */
            is_special = phx_json_as_bool(phx_json_get(token, "special"), &is_special) && is_special;
        put_added(t, id, token ? text_of(token, "content") : phx_str_of(name), is_special, &to);
    }
    for (size_t pass = 0; pass < PHX_ADDED_PASSES && rc == PHX_OK; pass++)
        rc = phx_added_sort(&t->added[pass], err);
    return rc;
}
