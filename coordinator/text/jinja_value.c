/* coordinator/text/jinja_value.c - values of chat templates; see jinja_value.h. */
#include "coordinator/text/jinja_value.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "coordinator/text/pyjson.h"

#define CHUNK_BYTES 65536u
#define ALIGN       16u

typedef struct phx_jchunk {
    struct phx_jchunk *next;
    _Alignas(ALIGN) char bytes[];
} phx_jchunk;

/* ---- memory ---- */

void phx_jpool_init(phx_jpool *pool, size_t n_max)
{
    *pool = (phx_jpool){.n_max = n_max};
}

void phx_jpool_done(phx_jpool *pool)
{
    while (pool->chunks) {
        phx_jchunk *next = pool->chunks->next;
        phx_free(pool->chunks);
        pool->chunks = next;
    }
    pool->at = pool->end = NULL;
}

static void *fail_pool(phx_jpool *pool, phx_code code)
{
    if (pool->code == PHX_OK)
        pool->code = code;
    return NULL;
}

void *phx_jpool_take(phx_jpool *pool, size_t n, size_t bytes)
{
    if (pool->code != PHX_OK)
        return NULL;
    if (n > pool->n_max / (bytes ? bytes : 1) || n * bytes > pool->n_max - pool->n_bytes)
        return fail_pool(pool, PHX_ERR_TOO_LONG);
    const size_t need = (n * bytes + ALIGN) / ALIGN * ALIGN;
    if (need > (size_t)(pool->end - pool->at)) {
        const size_t size = need > CHUNK_BYTES / 4 ? need : CHUNK_BYTES;
        if (size > pool->n_max - pool->n_bytes)
            return fail_pool(pool, PHX_ERR_TOO_LONG);
        phx_jchunk *chunk = phx_alloc(sizeof(*chunk) + size, 1);
        if (!chunk)
            return fail_pool(pool, PHX_ERR_NOMEM);
        chunk->next = pool->chunks;
        pool->chunks = chunk;
        pool->n_bytes += size;
        if (need == size)
            return chunk->bytes; /* its own chunk; the common one goes on */
        pool->at = chunk->bytes;
        pool->end = chunk->bytes + size;
    }
    void *taken = pool->at;
    pool->at += need;
    return taken;
}

/* ---- makers ---- */

phx_jv phx_jv_undefined(phx_str name)
{
    return (phx_jv){.kind = PHX_JV_UNDEFINED, .u.s = {name.ptr, NULL, name.n}};
}

phx_jv phx_jv_none(void)
{
    return (phx_jv){.kind = PHX_JV_NONE};
}

phx_jv phx_jv_bool(bool value)
{
    return (phx_jv){.kind = PHX_JV_BOOL, .u.i = value};
}

phx_jv phx_jv_int(int64_t value)
{
    return (phx_jv){.kind = PHX_JV_INT, .u.i = value};
}

phx_jv phx_jv_float(double value)
{
    return (phx_jv){.kind = PHX_JV_FLOAT, .u.f = value};
}

phx_jv phx_jv_str(phx_str text, bool is_data)
{
    return (phx_jv){.kind = PHX_JV_STR, .is_data = is_data, .u.s = {text.ptr, NULL, text.n}};
}

phx_jv phx_jv_list(phx_jpool *pool, size_t n)
{
    phx_jlist *list = phx_jpool_take(pool, 1, sizeof(*list));
    phx_jv *items = phx_jpool_take(pool, n, sizeof(*items));
    if (!list || !items)
        return phx_jv_undefined((phx_str){"", 0});
    *list = (phx_jlist){items, n};
    return (phx_jv){.kind = PHX_JV_LIST, .u.list = list};
}

phx_jv phx_jv_dict(phx_jpool *pool, size_t n_cap)
{
    phx_jdict *dict = phx_jpool_take(pool, 1, sizeof(*dict));
    phx_jmember *members = phx_jpool_take(pool, n_cap, sizeof(*members));
    if (!dict || !members)
        return phx_jv_undefined((phx_str){"", 0});
    *dict = (phx_jdict){members, 0, n_cap};
    return (phx_jv){.kind = PHX_JV_DICT, .u.dict = dict};
}

static void append_member(phx_jpool *pool, phx_jdict *dict, phx_jv key, phx_jv value)
{
    if (dict->n == dict->cap) {
        const size_t cap = dict->cap ? dict->cap * 2 : 4;
        phx_jmember *grown = phx_jpool_take(pool, cap, sizeof(*grown));
        if (!grown)
            return;
        if (dict->n)
            memcpy(grown, dict->members, dict->n * sizeof(*grown));
        dict->members = grown;
        dict->cap = cap;
    }
    dict->members[dict->n++] = (phx_jmember){key, value};
}

void phx_jv_set(phx_jpool *pool, phx_jv dict, phx_jv key, phx_jv value)
{
    if (dict.kind != PHX_JV_DICT && dict.kind != PHX_JV_NAMESPACE)
        return; /* the pool ran out when it was made */
    for (size_t i = 0; i < dict.u.dict->n; i++) {
        phx_jmember *member = &dict.u.dict->members[i];
        if (phx_str_eq(phx_jv_text(member->key), phx_jv_text(key))) {
            member->value = value;
            return;
        }
    }
    append_member(pool, dict.u.dict, key, value);
}

void phx_jv_put(phx_jpool *pool, phx_jv dict, const char *key, phx_jv value)
{
    phx_jv_set(pool, dict, phx_jv_str(phx_str_of(key), false), value);
}

const phx_jv *phx_jv_get(phx_jv dict, phx_str key)
{
    if (dict.kind != PHX_JV_DICT && dict.kind != PHX_JV_NAMESPACE)
        return NULL;
    for (size_t i = 0; i < dict.u.dict->n; i++) {
        if (phx_str_eq(phx_jv_text(dict.u.dict->members[i].key), key))
            return &dict.u.dict->members[i].value;
    }
    return NULL;
}

/* Recursion is bounded by the JSON reader's own depth. */
phx_jv phx_jv_of_json(phx_jpool *pool, const phx_json *node)
{
    phx_str text;
    int64_t integer = 0;
    double real = 0;
    bool flag = false;
    if (phx_json_as_str(node, &text))
        return phx_jv_str(text, true);
    if (phx_json_as_i64(node, &integer))
        return phx_jv_int(integer);
    if (phx_json_as_literal(node, &text) && phx_json_kind_of(node) == PHX_JSON_INT)
        return (phx_jv){.kind = PHX_JV_BIG_INT, .u.s = {text.ptr, NULL, text.n}};
    if (phx_json_as_f64(node, &real))
        return phx_jv_float(real);
    if (phx_json_as_bool(node, &flag))
        return phx_jv_bool(flag);
    if (phx_json_is_null(node))
        return phx_jv_none();
    const size_t n = phx_json_count(node);
    if (phx_json_kind_of(node) == PHX_JSON_ARRAY) {
        const phx_jv list = phx_jv_list(pool, n);
        for (size_t i = 0; list.kind == PHX_JV_LIST && i < n; i++)
            list.u.list->items[i] = phx_jv_of_json(pool, phx_json_at(node, i));
        return list;
    }
    const phx_jv dict = phx_jv_dict(pool, n);
    for (phx_json_member it = phx_json_first(node); dict.kind == PHX_JV_DICT && it.value;
         it = phx_json_next(node, it))
        append_member(pool, dict.u.dict, phx_jv_str(it.key, true), phx_jv_of_json(pool, it.value));
    return dict;
}

/* ---- texts ---- */

phx_str phx_jv_text(phx_jv text)
{
    return (phx_str){text.u.s.ptr, text.u.s.n};
}

phx_jv phx_jv_slice(phx_jv text, size_t first, size_t end)
{
    text.u.s.ptr += first;
    text.u.s.mask = text.u.s.mask ? text.u.s.mask + first : NULL;
    text.u.s.n = end - first;
    return text;
}

phx_jv phx_jv_concat(phx_jpool *pool, const phx_jv *texts, size_t n)
{
    size_t n_bytes = 0;
    bool mixed = false;
    for (size_t i = 0; i < n; i++) {
        mixed = mixed || texts[i].u.s.mask || texts[i].is_data != texts[0].is_data;
        n_bytes += texts[i].u.s.n;
    }
    char *ptr = phx_jpool_take(pool, n_bytes, 1);
    uint8_t *mask = mixed ? phx_jpool_take(pool, n_bytes, 1) : NULL;
    if (!ptr || (mixed && !mask))
        return phx_jv_undefined((phx_str){"", 0});
    for (size_t i = 0, at = 0; i < n; at += texts[i].u.s.n, i++) {
        const phx_jtext *s = &texts[i].u.s;
        if (s->n)
            memcpy(ptr + at, s->ptr, s->n);
        if (mask && s->mask)
            memcpy(mask + at, s->mask, s->n);
        else if (mask)
            memset(mask + at, texts[i].is_data, s->n);
    }
    return (phx_jv){.kind = PHX_JV_STR, .is_data = n && texts[0].is_data, .u.s = {ptr, mask, n_bytes}};
}

void phx_jtext_write(phx_jv text, phx_buf *to, phx_buf *mask)
{
    uint8_t fill[256];
    const phx_jtext *s = &text.u.s;
    memset(fill, text.is_data, sizeof(fill));
    (void)phx_buf_append(to, s->ptr, s->n);
    if (s->mask) {
        (void)phx_buf_append(mask, s->mask, s->n);
        return;
    }
    for (size_t at = 0; at < s->n; at += sizeof(fill)) {
        const size_t n = s->n - at < sizeof(fill) ? s->n - at : sizeof(fill);
        (void)phx_buf_append(mask, fill, n);
    }
}

size_t phx_jv_n_chars(phx_jv text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.u.s.n; i++)
        n += ((uint8_t)text.u.s.ptr[i] & 0xC0) != 0x80;
    return n;
}

static bool copy_buf(phx_jpool *pool, phx_buf *buf, bool is_data, phx_jv *ret_text)
{
    const phx_jv borrowed = phx_jv_str(phx_buf_view(buf), is_data);
    const bool ok = buf->code == PHX_OK;
    if (buf->code != PHX_OK)
        (void)fail_pool(pool, buf->code);
    else
        *ret_text = phx_jv_concat(pool, &borrowed, 1);
    phx_buf_done(buf);
    return ok;
}

bool phx_jv_to_text(phx_jpool *pool, phx_jv value, phx_jv *ret_text)
{
    phx_buf buf;
    switch (value.kind) {
    case PHX_JV_STR:
        *ret_text = value;
        return true;
    case PHX_JV_UNDEFINED:
        *ret_text = phx_jv_str((phx_str){"", 0}, false);
        return true;
    case PHX_JV_NONE:
        *ret_text = phx_jv_str(phx_str_of("None"), false);
        return true;
    case PHX_JV_BOOL:
        *ret_text = phx_jv_str(phx_str_of(value.u.i ? "True" : "False"), false);
        return true;
    case PHX_JV_BIG_INT:
        *ret_text = phx_jv_str(phx_jv_text(value), false);
        return true;
    case PHX_JV_INT:
    case PHX_JV_FLOAT:
        phx_buf_init(&buf, 64);
        if (value.kind == PHX_JV_INT)
            (void)phx_buf_printf(&buf, "%lld", (long long)value.u.i);
        else if (isfinite(value.u.f))
            (void)phx_pyjson_f64(&buf, value.u.f);
        else
            (void)phx_buf_str(&buf, isnan(value.u.f) ? "nan" : value.u.f < 0 ? "-inf" : "inf");
        return copy_buf(pool, &buf, false, ret_text);
    default:
        return false;
    }
}

/* ---- truth and equality ---- */

bool phx_jv_is_true(phx_jv value)
{
    switch (value.kind) {
    case PHX_JV_UNDEFINED:
    case PHX_JV_NONE:
        return false;
    case PHX_JV_BOOL:
    case PHX_JV_INT:
        return value.u.i != 0;
    case PHX_JV_FLOAT:
        return value.u.f < 0 || value.u.f > 0 || value.u.f != value.u.f;
    case PHX_JV_STR:
        return value.u.s.n > 0;
    case PHX_JV_LIST:
        return value.u.list->n > 0;
    case PHX_JV_DICT:
        return value.u.dict->n > 0;
    default:
        return true;
    }
}

bool phx_jv_is_number(phx_jv value)
{
    return value.kind == PHX_JV_BOOL || value.kind == PHX_JV_INT || value.kind == PHX_JV_BIG_INT ||
           value.kind == PHX_JV_FLOAT;
}

double phx_jv_number(phx_jv value)
{
    if (value.kind == PHX_JV_BIG_INT)
        return strtod(value.u.s.ptr, NULL);
    return value.kind == PHX_JV_FLOAT ? value.u.f : (double)value.u.i;
}

/* A big one is further from 0 than any other, and without leading zeros: more digits are more. */
int phx_jv_order_whole(phx_jv a, phx_jv b)
{
    const phx_str digits[2] = {phx_jv_text(a), phx_jv_text(b)};
    const bool big[2] = {a.kind == PHX_JV_BIG_INT, b.kind == PHX_JV_BIG_INT};
    if (!big[0] && !big[1])
        return (a.u.i > b.u.i) - (a.u.i < b.u.i);
    const int sign = digits[big[0] ? 0 : 1].ptr[0] == '-' ? -1 : 1;
    if (!big[0] || !big[1])
        return big[0] ? sign : -sign;
    if ((digits[1].ptr[0] == '-') != (sign < 0))
        return sign;
    if (digits[0].n != digits[1].n)
        return digits[0].n > digits[1].n ? sign : -sign;
    return sign * memcmp(digits[0].ptr, digits[1].ptr, digits[0].n);
}

const char *phx_jv_kind_name(phx_jv value)
{
    static const char *const names[] = {"undefined", "none",   "boolean",  "integer", "integer",
                                        "float",     "string", "list",     "mapping", "namespace",
                                        "loop",      "macro",  "function", "method"};
    return names[value.kind];
}

static bool tick_on(const phx_jtick *tick, size_t n_bytes)
{
    return tick->step(tick->user, tick->line, n_bytes);
}

static bool dicts_equal(const phx_jtick *tick, const phx_jdict *a, phx_jv b, unsigned depth)
{
    bool same = a->n == b.u.dict->n;
    for (size_t i = 0; same && i < a->n; i++) {
        const phx_jv *other =
            tick_on(tick, a->n * PHX_JV_LOOKUP_BYTES) ? phx_jv_get(b, phx_jv_text(a->members[i].key)) : NULL;
        same = other && phx_jv_equal(tick, a->members[i].value, *other, depth + 1);
    }
    return same;
}

static bool lists_equal(const phx_jtick *tick, const phx_jlist *a, const phx_jlist *b, unsigned depth)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = phx_jv_equal(tick, a->items[i], b->items[i], depth + 1);
    return same;
}

bool phx_jv_equal(const phx_jtick *tick, phx_jv a, phx_jv b, unsigned depth)
{
    const bool are_texts = a.kind == PHX_JV_STR && b.kind == PHX_JV_STR && a.u.s.n == b.u.s.n;
    if (depth > PHX_JV_DEPTH_MAX || !tick_on(tick, are_texts ? a.u.s.n : 0))
        return false;
    if (phx_jv_is_number(a) && phx_jv_is_number(b)) {
        if (a.kind != PHX_JV_FLOAT && b.kind != PHX_JV_FLOAT)
            return phx_jv_order_whole(a, b) == 0;
        return phx_jv_number(a) <= phx_jv_number(b) && phx_jv_number(a) >= phx_jv_number(b);
    }
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case PHX_JV_UNDEFINED:
    case PHX_JV_NONE:
        return true;
    case PHX_JV_STR:
        return phx_str_eq(phx_jv_text(a), phx_jv_text(b));
    case PHX_JV_LIST:
        return lists_equal(tick, a.u.list, b.u.list, depth);
    case PHX_JV_DICT:
        return dicts_equal(tick, a.u.dict, b, depth);
    case PHX_JV_FUNCTION:
        return a.u.i == b.u.i;
    default:
        return a.u.dict == b.u.dict; /* the same object */
    }
}

/* ---- json.dumps ---- */

typedef struct dumper {
    phx_jpool *pool;
    const phx_jdump *how;
    phx_buf buf;
    bool failed;
} dumper;

static void dump_value(dumper *d, phx_jv value, unsigned depth);

static void dump_line(dumper *d, unsigned depth)
{
    if (d->how->indent < 0)
        return;
    const size_t n = (size_t)d->how->indent * depth;
    d->failed = d->failed || !tick_on(&d->how->tick, n);
    (void)phx_buf_char(&d->buf, '\n');
    for (size_t i = 0; i < n && d->buf.code == PHX_OK; i++)
        (void)phx_buf_char(&d->buf, ' ');
}

/* \uXXXX for what is not ASCII, as surrogates past the first plane. */
static void dump_ascii(dumper *d, phx_str text)
{
    for (size_t i = 0; i < text.n;) {
        const uint8_t c = (uint8_t)text.ptr[i];
        const size_t n = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
        if (n == 1 || n > text.n - i) {
            (void)phx_pyjson_str_body(&d->buf, (phx_str){text.ptr + i, 1});
            i++;
            continue;
        }
        uint32_t point = c & (0x7Fu >> n);
        for (size_t k = 1; k < n; k++)
            point = point << 6 | ((uint8_t)text.ptr[i + k] & 0x3Fu);
        if (point >= 0x10000)
            (void)phx_buf_printf(&d->buf, "\\u%04x\\u%04x", 0xD800 + ((point - 0x10000) >> 10),
                                 0xDC00 + ((point - 0x10000) & 0x3FF));
        else
            (void)phx_buf_printf(&d->buf, "\\u%04x", point);
        i += n;
    }
}

static void dump_text(dumper *d, phx_str text)
{
    if (!d->how->ensure_ascii) {
        (void)phx_pyjson_str(&d->buf, text);
        return;
    }
    (void)phx_buf_char(&d->buf, '"');
    dump_ascii(d, text);
    (void)phx_buf_char(&d->buf, '"');
}

static void dump_list(dumper *d, const phx_jlist *list, unsigned depth)
{
    (void)phx_buf_char(&d->buf, '[');
    for (size_t i = 0; i < list->n && !d->failed; i++) {
        if (i)
            (void)phx_buf_append(&d->buf, d->how->item_separator.ptr, d->how->item_separator.n);
        dump_line(d, depth + 1);
        dump_value(d, list->items[i], depth + 1);
    }
    if (list->n)
        dump_line(d, depth);
    (void)phx_buf_char(&d->buf, ']');
}

static int compare_texts(phx_str a, phx_str b)
{
    const int order = memcmp(a.ptr, b.ptr, a.n < b.n ? a.n : b.n);
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

/* The member that comes after `last` (NULL: the first) in the order that was asked for. */
static const phx_jmember *next_member(const phx_jdict *dict, const phx_jmember *last, bool sorted)
{
    const phx_jmember *found = NULL;
    if (!sorted) {
        found = last ? last + 1 : dict->members;
        return found < dict->members + dict->n ? found : NULL;
    }
    for (size_t i = 0; i < dict->n; i++) {
        const phx_jmember *m = &dict->members[i];
        const bool later = !last || compare_texts(phx_jv_text(m->key), phx_jv_text(last->key)) > 0;
        if (later && (!found || compare_texts(phx_jv_text(m->key), phx_jv_text(found->key)) < 0))
            found = m;
    }
    return found;
}

static void dump_dict(dumper *d, const phx_jdict *dict, unsigned depth)
{
    const phx_jmember *m = next_member(dict, NULL, d->how->sort_keys);
    (void)phx_buf_char(&d->buf, '{');
    for (bool first = true; m && !d->failed; first = false) {
        if (!first)
            (void)phx_buf_append(&d->buf, d->how->item_separator.ptr, d->how->item_separator.n);
        dump_line(d, depth + 1);
        dump_text(d, phx_jv_text(m->key));
        (void)phx_buf_append(&d->buf, d->how->key_separator.ptr, d->how->key_separator.n);
        if (d->how->sort_keys && !tick_on(&d->how->tick, dict->n * PHX_JV_LOOKUP_BYTES))
            d->failed = true;
        dump_value(d, m->value, depth + 1);
        m = next_member(dict, m, d->how->sort_keys);
    }
    if (dict->n)
        dump_line(d, depth);
    (void)phx_buf_char(&d->buf, '}');
}

static void dump_value(dumper *d, phx_jv value, unsigned depth)
{
    const size_t n_bytes = value.kind == PHX_JV_STR ? value.u.s.n : 0;
    if (depth > PHX_JV_DEPTH_MAX || d->buf.code != PHX_OK || d->failed || !tick_on(&d->how->tick, n_bytes)) {
        d->failed = true;
        return;
    }
    switch (value.kind) {
    case PHX_JV_NONE:
        (void)phx_buf_str(&d->buf, "null");
        return;
    case PHX_JV_BOOL:
        (void)phx_buf_str(&d->buf, value.u.i ? "true" : "false");
        return;
    case PHX_JV_INT:
        (void)phx_buf_printf(&d->buf, "%lld", (long long)value.u.i);
        return;
    case PHX_JV_BIG_INT:
        (void)phx_buf_append(&d->buf, value.u.s.ptr, value.u.s.n);
        return;
    case PHX_JV_FLOAT:
        (void)phx_pyjson_f64(&d->buf, value.u.f);
        return;
    case PHX_JV_STR:
        dump_text(d, phx_jv_text(value));
        return;
    case PHX_JV_LIST:
        dump_list(d, value.u.list, depth);
        return;
    case PHX_JV_DICT:
        dump_dict(d, value.u.dict, depth);
        return;
    default:
        d->failed = true;
    }
}

bool phx_jv_dump(phx_jpool *pool, phx_jv value, const phx_jdump *how, phx_jv *ret_text)
{
    dumper d = {.pool = pool, .how = how};
    phx_buf_init(&d.buf, pool->n_max - pool->n_bytes);
    dump_value(&d, value, 0);
    if (d.failed && d.buf.code == PHX_OK) {
        phx_buf_done(&d.buf);
        return false;
    }
    return copy_buf(pool, &d.buf, true, ret_text);
}
