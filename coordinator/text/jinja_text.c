/* coordinator/text/jinja_text.c - operations on texts, which keep for every byte where it came from. */
#include "coordinator/text/jinja_run.h"
#include "coordinator/text/unicode.h"

static const phx_jv nothing = {.kind = PHX_JV_UNDEFINED, .u.s = {"", NULL, 0}};

/* Python's str.isspace: White_Space and the four information separators. */
static bool is_space(uint32_t c)
{
    return (phx_char_flags(c) & PHX_CHAR_SPACE) || (c >= 0x1C && c <= 0x1F);
}

static bool is_stripped(uint32_t c, phx_str bytes, const phx_jv *chars)
{
    if (!chars)
        return is_space(c);
    return chars->u.s.n >= bytes.n && memmem(chars->u.s.ptr, chars->u.s.n, bytes.ptr, bytes.n);
}

/* Start of the character that ends at end. */
static size_t char_before(const char *ptr, size_t first, size_t end)
{
    size_t at = end - 1;
    while (at > first && ((uint8_t)ptr[at] & 0xC0) == 0x80)
        at--;
    return at;
}

static phx_jv strip(phx_jv text, const phx_jv *chars, phx_jside side)
{
    const char *ptr = text.u.s.ptr;
    size_t first = 0;
    size_t end = text.u.s.n;
    uint32_t c = 0;
    while ((side & PHX_JSIDE_LEFT) && first < end) {
        const size_t n = phx_utf8_decode(ptr + first, end - first, &c);
        if (!is_stripped(c, (phx_str){ptr + first, n}, chars))
            break;
        first += n;
    }
    while ((side & PHX_JSIDE_RIGHT) && end > first) {
        const size_t at = char_before(ptr, first, end);
        (void)phx_utf8_decode(ptr + at, end - at, &c);
        if (!is_stripped(c, (phx_str){ptr + at, end - at}, chars))
            break;
        end = at;
    }
    return phx_jv_slice(text, first, end);
}

/* Each character is looked for among chars. */
phx_jv phx_jtext_strip(phx_jrun *x, uint32_t line, phx_jv text, const phx_jv *chars, phx_jside side)
{
    const size_t n_looks = chars ? 1 + chars->u.s.n / 64 : 1;
    return phx_jrun_step(x, line, text.u.s.n * n_looks) ? strip(text, chars, side) : nothing;
}

phx_jv phx_jtext_slice(phx_jv text, size_t first, size_t end)
{
    size_t at = 0;
    size_t bounds[2] = {text.u.s.n, text.u.s.n};
    for (size_t i = 0; i < text.u.s.n; i++) {
        if (((uint8_t)text.u.s.ptr[i] & 0xC0) == 0x80)
            continue;
        if (at == first)
            bounds[0] = i;
        if (at == end)
            bounds[1] = i;
        at++;
    }
    return phx_jv_slice(text, bounds[0], bounds[1] < bounds[0] ? bounds[0] : bounds[1]);
}

/* Offset of needle at or behind from, or the end of the text. An empty needle is not asked for. */
static size_t find(phx_jv text, size_t from, phx_jv needle)
{
    const phx_jtext *s = &text.u.s;
    const char *found = s->n > from ? memmem(s->ptr + from, s->n - from, needle.u.s.ptr, needle.u.s.n) : NULL;
    return found ? (size_t)(found - s->ptr) : s->n;
}

static size_t count_of(phx_jv text, phx_jv needle, size_t n_max)
{
    size_t n = 0;
    for (size_t at = find(text, 0, needle); at < text.u.s.n && n < n_max; n++)
        at = find(text, at + needle.u.s.n, needle);
    return n;
}

/* The argument as a text that is not empty; false after a failure. */
static bool text_arg(phx_jrun *x, phx_jargs *args, size_t idx, const char *name, bool may_be_empty,
                     phx_jv *ret_text)
{
    const phx_jv *value = phx_jarg(args, idx, name);
    if (!value || value->kind != PHX_JV_STR || (!may_be_empty && value->u.s.n == 0)) {
        (void)phx_jrun_fail(x, args->line, PHX_ERR_INVALID, "argument '%s' must be a string%s", name,
                            may_be_empty ? "" : ", not empty");
        return false;
    }
    *ret_text = *value;
    return true;
}

static size_t count_arg(phx_jargs *args, size_t idx, const char *name)
{
    const phx_jv *value = phx_jarg(args, idx, name);
    return value && value->kind == PHX_JV_INT && value->u.i >= 0 ? (size_t)value->u.i : SIZE_MAX;
}

phx_jv phx_jtext_replace(phx_jrun *x, phx_jv text, phx_jargs *args)
{
    phx_jv old = nothing;
    phx_jv new = nothing;
    if (!text_arg(x, args, 0, "old", false, &old) || !text_arg(x, args, 1, "new", true, &new))
        return nothing;
    if (!phx_jrun_step(x, args->line, text.u.s.n))
        return nothing;
    const size_t n = count_of(text, old, count_arg(args, 2, "count"));
    if (n == 0 || !phx_jrun_step(x, args->line, n * (new.u.s.n + 2 * sizeof(phx_jv))))
        return text;
    phx_jv *parts = phx_jpool_take(x->pool, 2 * n + 1, sizeof(*parts));
    if (!parts)
        return nothing;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t found = find(text, at, old);
        parts[2 * i] = phx_jv_slice(text, at, found);
        parts[2 * i + 1] = new;
        at = found + old.u.s.n;
    }
    parts[2 * n] = phx_jv_slice(text, at, text.u.s.n);
    return phx_jv_concat(x->pool, parts, 2 * n + 1);
}

phx_jv phx_jtext_case(phx_jrun *x, uint32_t line, phx_jv text, phx_jcase how)
{
    if (!phx_jrun_step(x, line, text.u.s.n))
        return nothing;
    const phx_jv copy = phx_jv_concat(x->pool, &text, 1);
    if (copy.kind != PHX_JV_STR)
        return nothing;
    char *ptr = (char *)(uintptr_t)copy.u.s.ptr; /* ours: just made */
    bool starts_word = true;
    for (size_t i = 0; i < copy.u.s.n; i++) {
        const char c = ptr[i];
        const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if ((uint8_t)c >= 0x80)
            return phx_jrun_fail(x, line, PHX_ERR_UNSUPPORTED,
                                 "upper and lower case of letters beyond ASCII");
        const bool upper = how == PHX_JCASE_UPPER || (how == PHX_JCASE_CAPITALIZE && i == 0) ||
                           (how == PHX_JCASE_TITLE && starts_word);
        if (is_letter)
            ptr[i] = (char)(upper ? c & ~0x20 : c | 0x20);
        starts_word = c && strchr("-({[< \t\n\r\f\v", c); /* the filter's words, not Python's */
    }
    return copy;
}

/* Runs of white space divide; none at the ends gives an empty part. */
static phx_jv split_spaces(phx_jrun *x, phx_jv text, size_t n_max)
{
    size_t n = 0;
    phx_jv list = nothing;
    for (int pass = 0; pass < 2; pass++) { /* first only counts */
        phx_jv rest = strip(text, NULL, PHX_JSIDE_LEFT);
        n = 0;
        while (rest.u.s.n > 0) {
            size_t end = 0;
            uint32_t c = 0;
            while (end < rest.u.s.n && n < n_max) {
                const size_t n_char = phx_utf8_decode(rest.u.s.ptr + end, rest.u.s.n - end, &c);
                if (is_space(c))
                    break;
                end += n_char;
            }
            const phx_jv part = n < n_max ? phx_jv_slice(rest, 0, end) : strip(rest, NULL, PHX_JSIDE_RIGHT);
            if (pass)
                list.u.list->items[n] = part;
            n++;
            rest = n <= n_max && part.u.s.n == end ? phx_jv_slice(rest, end, rest.u.s.n)
                                                   : phx_jv_slice(rest, 0, 0);
            rest = strip(rest, NULL, PHX_JSIDE_LEFT);
        }
        if (pass == 0)
            list = phx_jv_list(x->pool, n);
        if (list.kind != PHX_JV_LIST)
            return nothing;
    }
    return list;
}

phx_jv phx_jtext_split(phx_jrun *x, phx_jv text, phx_jargs *args)
{
    const phx_jv *given = phx_jarg(args, 0, "sep");
    const size_t n_max = count_arg(args, 1, "maxsplit");
    if (!phx_jrun_step(x, args->line, text.u.s.n))
        return nothing;
    if (!given || given->kind == PHX_JV_NONE)
        return split_spaces(x, text, n_max);
    phx_jv separator = nothing;
    if (!text_arg(x, args, 0, "sep", false, &separator))
        return nothing;
    const size_t n = count_of(text, separator, n_max);
    const bool goes_on = phx_jrun_step(x, args->line, n * sizeof(phx_jv));
    const phx_jv list = goes_on ? phx_jv_list(x->pool, n + 1) : nothing;
    size_t at = 0;
    for (size_t i = 0; i < n && list.kind == PHX_JV_LIST; i++) {
        const size_t found = find(text, at, separator);
        list.u.list->items[i] = phx_jv_slice(text, at, found);
        at = found + separator.u.s.n;
    }
    if (list.kind == PHX_JV_LIST)
        list.u.list->items[n] = phx_jv_slice(text, at, text.u.s.n);
    return list;
}

phx_jv phx_jtext_join(phx_jrun *x, uint32_t line, phx_jv separator, const phx_jlist *list)
{
    size_t n = 0;
    size_t n_bytes = 0;
    phx_jv *parts = phx_jpool_take(x->pool, 2 * list->n + 1, sizeof(*parts));
    for (size_t i = 0; parts && i < list->n && phx_jrun_step(x, line, 0); i++) {
        if (i)
            parts[n++] = separator;
        parts[n++] = phx_jrun_text(x, line, list->items[i]);
        n_bytes += separator.u.s.n + parts[n - 1].u.s.n;
    }
    if (!parts || x->code != PHX_OK || !phx_jrun_step(x, line, n_bytes))
        return nothing;
    return n ? phx_jv_concat(x->pool, parts, n) : phx_jv_str((phx_str){"", 0}, false);
}

phx_jv phx_jdict_items(phx_jrun *x, phx_jv dict)
{
    const phx_jv list = phx_jv_list(x->pool, dict.u.dict->n);
    for (size_t i = 0; list.kind == PHX_JV_LIST && i < dict.u.dict->n; i++) {
        const phx_jv pair = phx_jv_list(x->pool, 2);
        if (pair.kind != PHX_JV_LIST)
            return nothing;
        pair.u.list->items[0] = dict.u.dict->members[i].key;
        pair.u.list->items[1] = dict.u.dict->members[i].value;
        list.u.list->items[i] = pair;
    }
    return list;
}
