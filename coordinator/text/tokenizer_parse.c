/* coordinator/text/tokenizer_parse.c - tokenizer.json and tokenizer_config.json into a tokenizer.
 * Owns: which options of the format are understood; all others are refused by name, since ignoring one would
 * give wrong ids in silence. Truncation and padding are left aside: they belong to a caller's batch, and the
 * reference's loader resets them too.
 * Not here: the JSON reader (base/json.h), the table of pre-tokenisers (scanner.c). */
#include "coordinator/text/tokenizer.h"
#include "coordinator/text/tokenizer_impl.h"
#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"

static const phx_json_limits json_limits = {PHX_TOKENIZER_FILE_BYTES_MAX, 32, 16u << 20, 16u << 20};

static phx_code check_pipeline(const phx_json *root, phx_error *err);
static phx_code find_scanner(const phx_json *root, const phx_scanner **ret_scanner, phx_error *err);
static phx_code read_vocab(phx_tokenizer *t, const phx_json *root, phx_error *err);
static phx_code read_merges(phx_tokenizer *t, const phx_json *model, phx_error *err);
static phx_code read_config(phx_tokenizer *t, phx_bytes text, phx_error *err);
static phx_code read_file(const char *dir, const char *name, phx_buf *content, phx_error *err);

phx_code phx_tokenizer_load(const char *model_dir, phx_tokenizer **ret_tokenizer, phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_buf vocab;
    phx_buf config;
    phx_error none = {0};
    phx_error inner = {0};
    bool is_ranks = false;
    phx_buf_init(&vocab, PHX_TOKENIZER_FILE_BYTES_MAX);
    phx_buf_init(&config, PHX_TOKENIZER_FILE_BYTES_MAX);
    rc = read_file(model_dir, "tokenizer.json", &vocab, &none);
    if (rc == PHX_ERR_NOT_FOUND) {
        rc = read_file(model_dir, "tiktoken.model", &vocab, &inner);
        is_ranks = rc != PHX_ERR_NOT_FOUND; /* with neither, the error names the first */
    }
    if (rc != PHX_OK) {
        rc = PHX_FAIL(err, rc, "%s", is_ranks ? inner.text : none.text);
        goto out;
    }
    rc = read_file(model_dir, "tokenizer_config.json", &config, &inner);
    if (rc != PHX_OK && rc != PHX_ERR_NOT_FOUND) {
        rc = PHX_FAIL(err, rc, "%s", inner.text);
        goto out;
    }
    const phx_bytes texts[2] = {{(const uint8_t *)vocab.ptr, vocab.n},
                                {(const uint8_t *)config.ptr, config.n}};
    rc = is_ranks ? phx_tokenizer_parse_tiktoken(texts[0], texts[1], ret_tokenizer, &inner)
                  : phx_tokenizer_parse(texts[0], texts[1], ret_tokenizer, &inner);
    if (rc != PHX_OK)
        rc = PHX_FAIL(err, rc, "'%s': %s", model_dir, inner.text);
out:
    phx_buf_done(&config);
    phx_buf_done(&vocab);
    return rc;
}

static phx_code read_file(const char *dir, const char *name, phx_buf *content, phx_error *err)
{
    phx_buf path;
    phx_buf_init(&path, 8192);
    phx_code rc = phx_buf_printf(&path, "%s/%s", dir, name);
    rc = rc == PHX_OK ? phx_file_read(path.ptr, content, err) : PHX_FAIL(err, rc, "path of %s", name);
    phx_buf_done(&path);
    return rc;
}

phx_code phx_tokenizer_parse_json(const char *name, phx_bytes text, phx_json **ret_root, phx_error *err)
{
    phx_error inner = {0};
    if (text.n == 0)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "%s: empty", name);
    phx_json *root = NULL;
    const phx_code rc = phx_json_parse(text, json_limits, &root, &inner);
    if (rc != PHX_OK)
        return PHX_FAIL(err, rc, "%s: %s", name, inner.text);
    if (phx_json_kind_of(root) != PHX_JSON_OBJECT) {
        phx_json_destroy(root);
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "%s: not an object", name);
    }
    *ret_root = root;
    return PHX_OK;
}

phx_code phx_tokenizer_parse(phx_bytes tokenizer_json, phx_bytes config_json, phx_tokenizer **ret_tokenizer,
                             phx_error *err)
{
    phx_json *root = NULL;
    phx_tokenizer *t = NULL;
    phx_code rc = phx_tokenizer_parse_json("tokenizer.json", tokenizer_json, &root, err);
    if (rc != PHX_OK)
        goto out;
    t = phx_alloc(1, sizeof(*t));
    if (!t) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "tokenizer");
        goto out;
    }
    t->bos = PHX_TOKEN_NONE;
    t->eos = PHX_TOKEN_NONE;
    rc = check_pipeline(root, err);
    if (rc == PHX_OK)
        rc = find_scanner(root, &t->scanner, err);
    if (rc == PHX_OK)
        rc = read_vocab(t, root, err);
    if (rc == PHX_OK)
        rc = read_merges(t, phx_json_get(root, "model"), err);
    if (rc == PHX_OK && config_json.n > 0)
        rc = read_config(t, config_json, err);
    if (rc != PHX_OK)
        goto out;
    *ret_tokenizer = t;
    t = NULL;
out:
    phx_tokenizer_destroy(t);
    phx_json_destroy(root);
    return rc;
}

static phx_str text_of(const phx_json *object, const char *key)
{
    phx_str text = {"", 0};
    (void)phx_json_as_str(phx_json_get(object, key), &text);
    return text;
}

static bool bool_of(const phx_json *object, const char *key, bool missing)
{
    bool value = missing;
    (void)phx_json_as_bool(phx_json_get(object, key), &value);
    return value;
}

/* Absent, null, false, 0 or "": the option is off. */
static bool is_off(const phx_json *node)
{
    phx_str text;
    bool flag;
    double number;
    if (phx_json_is_null(node))
        return true;
    return (phx_json_as_str(node, &text) && text.n == 0) || (phx_json_as_bool(node, &flag) && !flag) ||
           (phx_json_as_f64(node, &number) && number <= 0 && number >= 0);
}

/* A stage that does nothing to the ids: null, one of the neutral type (NULL: there is none), or a Sequence of
 * only such. */
static bool is_neutral_stage(const phx_json *stage, const char *list_key, const char *neutral_type)
{
    if (phx_json_is_null(stage))
        return true;
    if (neutral_type && phx_str_is(text_of(stage, "type"), neutral_type))
        return true;
    const phx_json *list = phx_json_get(stage, list_key);
    if (!phx_str_is(text_of(stage, "type"), "Sequence") || !list || phx_json_kind_of(list) != PHX_JSON_ARRAY)
        return false;
    for (size_t i = 0; i < phx_json_count(list); i++) {
        if (!neutral_type || !phx_str_is(text_of(phx_json_at(list, i), "type"), neutral_type))
            return false;
    }
    return true;
}

static phx_code check_pipeline(const phx_json *root, phx_error *err)
{
    static const char *const model_options[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                                                "byte_fallback"};
    const phx_json *model = phx_json_get(root, "model");
    const phx_json *decoder = phx_json_get(root, "decoder");
    const phx_str model_type = text_of(model, "type");
    if (!phx_str_is(model_type, "BPE"))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "tokenizer.json: model type '%.*s'; only BPE is known",
                        PHX_STR_ARG(model_type));
    for (size_t i = 0; i < sizeof(model_options) / sizeof(model_options[0]); i++) {
        if (!is_off(phx_json_get(model, model_options[i])))
            return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "tokenizer.json: model option '%s' is not supported",
                            model_options[i]);
    }
    if (!is_neutral_stage(phx_json_get(root, "normalizer"), "normalizers", NULL))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "tokenizer.json: normalizer '%.*s' is not supported",
                        PHX_STR_ARG(text_of(phx_json_get(root, "normalizer"), "type")));
    if (!is_neutral_stage(phx_json_get(root, "post_processor"), "processors", "ByteLevel"))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "tokenizer.json: post_processor '%.*s' is not supported",
                        PHX_STR_ARG(text_of(phx_json_get(root, "post_processor"), "type")));
    if (phx_json_is_null(decoder) || !is_neutral_stage(decoder, "decoders", "ByteLevel"))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                        "tokenizer.json: decoder '%.*s'; only the byte-level one is known",
                        PHX_STR_ARG(text_of(decoder, "type")));
    return PHX_OK;
}

static phx_code read_split(const phx_json *step, phx_str *ret_pattern, phx_error *err)
{
    const phx_str behaviour = text_of(step, "behavior");
    phx_str pattern;
    if (!phx_json_as_str(phx_json_get(phx_json_get(step, "pattern"), "Regex"), &pattern))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "tokenizer.json: a Split without a Regex pattern");
    if (!phx_str_is(behaviour, "Isolated") || bool_of(step, "invert", false))
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "tokenizer.json: Split behaviour '%.*s'%s is not supported",
                        PHX_STR_ARG(behaviour), bool_of(step, "invert", false) ? " inverted" : "");
    *ret_pattern = pattern;
    return PHX_OK;
}

/* The pre-tokeniser is a Sequence: Splits by regex, then ByteLevel, which here only renames bytes. */
static phx_code find_scanner(const phx_json *root, const phx_scanner **ret_scanner, phx_error *err)
{
    const phx_json *list = phx_json_get(phx_json_get(root, "pre_tokenizer"), "pretokenizers");
    const size_t n_steps = phx_json_count(list);
    phx_str patterns[PHX_SCANNER_PATTERNS_MAX];
    if (!list || phx_json_kind_of(list) != PHX_JSON_ARRAY || n_steps == 0)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                        "tokenizer.json: pre_tokenizer is not a Sequence with steps");
    if (n_steps - 1 > PHX_SCANNER_PATTERNS_MAX)
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "tokenizer.json: pre_tokenizer has %zu steps", n_steps);
    for (size_t i = 0; i < n_steps; i++) {
        const phx_json *step = phx_json_at(list, i);
        const phx_str type = text_of(step, "type");
        const bool is_last = i + 1 == n_steps;
        if (!phx_str_is(type, is_last ? "ByteLevel" : "Split"))
            return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                            "tokenizer.json: pre-tokeniser '%.*s' at step %zu of %zu", PHX_STR_ARG(type),
                            i + 1, n_steps);
        if (is_last && (bool_of(step, "use_regex", true) || bool_of(step, "add_prefix_space", true)))
            return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                            "tokenizer.json: ByteLevel with use_regex or add_prefix_space is not supported");
        if (!is_last) {
            const phx_code rc = read_split(step, &patterns[i], err);
            if (rc != PHX_OK)
                return rc;
        }
    }
    const phx_scanner *scanner = phx_scanner_find(patterns, n_steps - 1);
    if (!scanner) {
        size_t i = 0;
        while (i + 1 < n_steps - 1 && phx_scanner_knows(patterns[i]))
            i++;
        const phx_str named = n_steps > 1 ? patterns[i] : (phx_str){"", 0};
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "tokenizer.json: unknown pre-tokeniser: %zu Splits, '%.*s'",
                        n_steps - 1, PHX_STR_ARG(named));
    }
    *ret_scanner = scanner;
    return PHX_OK;
}

/* What one walk over the vocabulary and the added tokens finds out before memory is taken. */
typedef struct census {
    uint32_t n_ids;       /* highest id + 1 */
    size_t n_bytes;       /* of all texts */
    size_t n_added_bytes; /* of the added tokens among them */
} census;

static phx_code read_id(const phx_json *node, phx_str name, uint32_t *ret_id, phx_error *err)
{
    int64_t id = -1;
    if (!phx_json_as_i64(node, &id) || id < 0)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tokenizer.json: token '%.*s' has no valid id",
                        PHX_STR_ARG(name));
    if (id >= PHX_TOKENIZER_IDS_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "tokenizer.json: token '%.*s' has id %lld; ids end at %u",
                        PHX_STR_ARG(name), (long long)id, PHX_TOKENIZER_IDS_MAX);
    *ret_id = (uint32_t)id;
    return PHX_OK;
}

static phx_code count_token(census *c, const phx_json *id_node, phx_str text, size_t n_bytes_max,
                            phx_error *err)
{
    uint32_t id = 0;
    const phx_code rc = read_id(id_node, text, &id, err);
    if (rc != PHX_OK)
        return rc;
    if (text.n > n_bytes_max)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "tokenizer.json: token %u has %zu bytes, the limit is %zu", id,
                        text.n, n_bytes_max);
    if (id >= c->n_ids)
        c->n_ids = id + 1;
    c->n_bytes += text.n;
    return PHX_OK;
}

static phx_code take_census(const phx_json *vocab, const phx_json *added, census *ret_census, phx_error *err)
{
    census c = {0, 0, 0};
    for (phx_json_member it = phx_json_first(vocab); it.value; it = phx_json_next(vocab, it)) {
        const phx_code rc = count_token(&c, it.value, it.key, PHX_TOKENIZER_PIECE_BYTES_MAX, err);
        if (rc != PHX_OK)
            return rc;
    }
    if (phx_json_count(added) > PHX_TOKENIZER_ADDED_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "tokenizer.json: %zu added tokens, the limit is %u",
                        phx_json_count(added), PHX_TOKENIZER_ADDED_MAX);
    for (size_t i = 0; i < phx_json_count(added); i++) {
        const phx_json *token = phx_json_at(added, i);
        const phx_str content = text_of(token, "content");
        if (content.n == 0)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "tokenizer.json: added token %zu has no content", i);
        const phx_code rc =
            count_token(&c, phx_json_get(token, "id"), content, PHX_TOKENIZER_ADDED_BYTES_MAX, err);
        if (rc != PHX_OK)
            return rc;
        c.n_added_bytes += content.n;
    }
    *ret_census = c;
    return PHX_OK;
}

/* As the reference decodes: a text wholly in the byte alphabet means those bytes, any other text means itself
 * (added tokens with characters such as U+FF5C). The latter can never come from merging. */
static phx_code put_token(phx_vocab *vocab, uint32_t id, phx_str text, bool findable, phx_error *err)
{
    char bytes[PHX_TOKENIZER_PIECE_BYTES_MAX];
    phx_str piece = {bytes, 0};
    if (phx_vocab_flags(vocab, id))
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tokenizer.json: id %u belongs to two tokens, one is '%.*s'",
                        id, PHX_STR_ARG(text));
    if (!phx_byte_alphabet_decode(text, bytes, &piece.n)) {
        piece = text;
        findable = false;
    }
    if (!phx_vocab_put(vocab, id, piece, findable))
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tokenizer.json: two tokens spell '%.*s'", PHX_STR_ARG(text));
    return PHX_OK;
}

/* The id that the vocabulary itself gives the content of an added token, which then must be the same. */
static bool id_in_vocab(const phx_json *vocab, const char *content, int64_t *ret_id)
{
    return phx_json_as_i64(phx_json_get(vocab, content), ret_id);
}

static phx_code put_added(phx_tokenizer *t, const phx_json *vocab, const phx_json *token, char *copy,
                          phx_error *err)
{
    static const char *const refused[] = {"single_word", "lstrip", "rstrip"};
    const phx_str content = text_of(token, "content");
    uint32_t id = 0;
    int64_t vocab_id = 0;
    phx_code rc = read_id(phx_json_get(token, "id"), content, &id, err);
    if (rc != PHX_OK)
        return rc;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (bool_of(token, refused[i], false))
            return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "tokenizer.json: added token '%.*s' asks for %s",
                            PHX_STR_ARG(content), refused[i]);
    }
    if (id_in_vocab(vocab, content.ptr, &vocab_id)) {
        if (vocab_id != id)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "tokenizer.json: token '%.*s' has ids %lld and %u",
                            PHX_STR_ARG(content), (long long)vocab_id, id);
    } else {
        rc = put_token(t->vocab, id, content, false, err);
        if (rc != PHX_OK)
            return rc;
    }
    const bool is_special = bool_of(token, "special", false);
    phx_vocab_mark(t->vocab, id, (uint8_t)(PHX_PIECE_ADDED | (is_special ? PHX_PIECE_SPECIAL : 0)));
    memcpy(copy, content.ptr, content.n);
    phx_added_put(&t->added[bool_of(token, "normalized", !is_special) ? 1 : 0],
                  (phx_added_token){{copy, content.n}, id});
    return PHX_OK;
}

static phx_code read_added(phx_tokenizer *t, const phx_json *vocab, const phx_json *added, size_t n_bytes,
                           phx_error *err)
{
    phx_code rc = PHX_OK;
    t->added_text = phx_alloc(n_bytes + 1, 1);
    if (!t->added_text)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "%zu bytes of added tokens", n_bytes);
    for (size_t pass = 0; pass < PHX_ADDED_PASSES && rc == PHX_OK; pass++)
        rc = phx_added_reserve(&t->added[pass], phx_json_count(added), err);
    char *copy = t->added_text;
    for (size_t i = 0; i < phx_json_count(added) && rc == PHX_OK; i++) {
        const phx_json *token = phx_json_at(added, i);
        rc = put_added(t, vocab, token, copy, err);
        copy += text_of(token, "content").n;
    }
    for (size_t pass = 0; pass < PHX_ADDED_PASSES && rc == PHX_OK; pass++)
        rc = phx_added_sort(&t->added[pass], err);
    return rc;
}

static phx_code read_vocab(phx_tokenizer *t, const phx_json *root, phx_error *err)
{
    const phx_json *vocab = phx_json_get(phx_json_get(root, "model"), "vocab");
    const phx_json *added = phx_json_get(root, "added_tokens");
    census c = {0, 0, 0};
    if (!vocab || phx_json_kind_of(vocab) != PHX_JSON_OBJECT)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tokenizer.json: model.vocab is not an object");
    if (!phx_json_is_null(added) && phx_json_kind_of(added) != PHX_JSON_ARRAY)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tokenizer.json: added_tokens is not a list");
    phx_code rc = take_census(vocab, added, &c, err);
    if (rc != PHX_OK)
        return rc;
    rc = phx_vocab_create(c.n_ids, c.n_bytes, &t->vocab, err);
    phx_json_member it = phx_json_first(vocab);
    for (; it.value && rc == PHX_OK; it = phx_json_next(vocab, it)) {
        uint32_t id = 0;
        rc = read_id(it.value, it.key, &id, err);
        if (rc == PHX_OK)
            rc = put_token(t->vocab, id, it.key, true, err);
    }
    return rc == PHX_OK ? read_added(t, vocab, added, c.n_added_bytes, err) : rc;
}

/* "a b" or ["a", "b"]. The alphabet has no space, so the first one divides. */
static bool merge_halves(const phx_json *node, phx_str halves[2])
{
    phx_str text;
    if (phx_json_as_str(node, &text)) {
        const char *space = memchr(text.ptr, ' ', text.n);
        if (!space)
            return false;
        halves[0] = (phx_str){text.ptr, (size_t)(space - text.ptr)};
        halves[1] = (phx_str){space + 1, text.n - halves[0].n - 1};
        return true;
    }
    return phx_json_count(node) == 2 && phx_json_as_str(phx_json_at(node, 0), &halves[0]) &&
           phx_json_as_str(phx_json_at(node, 1), &halves[1]);
}

/* Ids of both halves and of their union; false when one of them is no token. */
static bool merge_ids(const phx_vocab *vocab, phx_str left, phx_str right, phx_bpe_merge *merge)
{
    char bytes[2 * PHX_TOKENIZER_PIECE_BYTES_MAX];
    size_t n_left = 0;
    size_t n_right = 0;
    if (left.n > PHX_TOKENIZER_PIECE_BYTES_MAX || right.n > PHX_TOKENIZER_PIECE_BYTES_MAX)
        return false;
    return phx_byte_alphabet_decode(left, bytes, &n_left) &&
           phx_byte_alphabet_decode(right, bytes + n_left, &n_right) &&
           phx_vocab_find(vocab, (phx_str){bytes, n_left}, &merge->left) &&
           phx_vocab_find(vocab, (phx_str){bytes + n_left, n_right}, &merge->right) &&
           phx_vocab_find(vocab, (phx_str){bytes, n_left + n_right}, &merge->id);
}

static phx_code read_merges(phx_tokenizer *t, const phx_json *model, phx_error *err)
{
    const phx_json *merges = phx_json_get(model, "merges");
    const size_t n_merges = phx_json_count(merges);
    if (!merges || phx_json_kind_of(merges) != PHX_JSON_ARRAY)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "tokenizer.json: model.merges is not a list");
    if (n_merges > PHX_TOKENIZER_MERGES_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "tokenizer.json: %zu merges, the limit is %u", n_merges,
                        PHX_TOKENIZER_MERGES_MAX);
    const phx_code rc =
        phx_bpe_create(t->vocab, n_merges, bool_of(model, "ignore_merges", false), &t->bpe, err);
    if (rc != PHX_OK)
        return rc;
    for (size_t i = 0; i < n_merges; i++) {
        phx_bpe_merge merge = {.rank = (uint32_t)i};
        phx_str halves[2];
        if (!merge_halves(phx_json_at(merges, i), halves))
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "tokenizer.json: merge %zu is not a pair", i);
        if (!merge_ids(t->vocab, halves[0], halves[1], &merge))
            return PHX_FAIL(err, PHX_ERR_CORRUPT,
                            "tokenizer.json: merge %zu, '%.*s' with '%.*s', names a piece that is no token",
                            i, PHX_STR_ARG(halves[0]), PHX_STR_ARG(halves[1]));
        phx_bpe_add_merge(t->bpe, merge);
    }
    return PHX_OK;
}

/* A token's text or {"content": text}; null or absent leaves *ret_id. */
static phx_code read_named(const phx_tokenizer *t, const phx_json *config, const char *key, uint32_t *ret_id,
                           phx_error *err)
{
    const phx_json *node = phx_json_get(config, key);
    phx_str text = {"", 0};
    if (phx_json_is_null(node))
        return PHX_OK;
    if (!phx_json_as_str(node, &text))
        text = text_of(node, "content");
    if (!phx_tokenizer_id_of(t, text, ret_id))
        return PHX_FAIL(err, PHX_ERR_CORRUPT,
                        "tokenizer_config.json: %s '%.*s' is not among the added tokens", key,
                        PHX_STR_ARG(text));
    return PHX_OK;
}

phx_code phx_tokenizer_read_names(phx_tokenizer *t, const phx_json *config, phx_error *err)
{
    phx_code rc = read_named(t, config, "bos_token", &t->bos, err);
    if (rc == PHX_OK)
        rc = read_named(t, config, "eos_token", &t->eos, err);
    t->adds_bos = t->bos != PHX_TOKEN_NONE && bool_of(config, "add_bos_token", false);
    return rc;
}

static phx_code read_config(phx_tokenizer *t, phx_bytes text, phx_error *err)
{
    phx_json *config = NULL;
    phx_code rc = phx_tokenizer_parse_json("tokenizer_config.json", text, &config, err);
    if (rc == PHX_OK)
        rc = phx_tokenizer_read_names(t, config, err);
    phx_json_destroy(config);
    return rc;
}
