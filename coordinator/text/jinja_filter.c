/* coordinator/text/jinja_filter.c - filters: value | name(arguments).
 * Owns: their table; one that is not here is an error when the template is read. */
#include "coordinator/text/jinja_run.h"

#include <math.h>

static const phx_jv nothing = {.kind = PHX_JV_UNDEFINED, .u.s = {"", NULL, 0}};

static phx_jv filter_tojson(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    phx_jdump how = {.item_separator = phx_str_of(", "), .key_separator = phx_str_of(": "), .indent = -1};
    phx_jv text = nothing;
    const phx_jv *indent = phx_jarg(args, 1, "indent");
    const phx_jv *separators = phx_jarg(args, 2, "separators");
    how.tick = phx_jrun_tick(x, args->line);
    how.ensure_ascii = phx_jarg_true(args, 0, "ensure_ascii", false);
    how.sort_keys = phx_jarg_true(args, 3, "sort_keys", false);
    if (indent && indent->kind == PHX_JV_INT && indent->u.i >= 0 && indent->u.i <= 16) {
        how.indent = (int)indent->u.i;
        how.item_separator = phx_str_of(",");
    } else if (indent && indent->kind != PHX_JV_NONE) {
        return phx_jrun_fail(x, args->line, PHX_ERR_UNSUPPORTED, "tojson with this indent");
    }
    if (separators && separators->kind == PHX_JV_LIST && separators->u.list->n == 2 &&
        separators->u.list->items[0].kind == PHX_JV_STR && separators->u.list->items[1].kind == PHX_JV_STR) {
        how.item_separator = phx_jv_text(separators->u.list->items[0]);
        how.key_separator = phx_jv_text(separators->u.list->items[1]);
    } else if (separators && separators->kind != PHX_JV_NONE) {
        return phx_jrun_fail(x, args->line, PHX_ERR_INVALID, "separators must be two strings");
    }
    if (phx_jv_dump(x->pool, value, &how, &text))
        return phx_jrun_step(x, args->line, text.u.s.n) ? text : nothing;
    if (phx_jrun_step(x, args->line, 0))
        (void)phx_jrun_fail(x, args->line, PHX_ERR_INVALID,
                            "%s cannot be written as JSON, or is nested too deeply", phx_jv_kind_name(value));
    return nothing;
}

static phx_jv filter_length(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    if (value.kind == PHX_JV_STR)
        return phx_jrun_step(x, args->line, value.u.s.n) ? phx_jv_int((int64_t)phx_jv_n_chars(value))
                                                         : nothing;
    const phx_jlist *list = phx_jrun_items(x, args->line, value);
    return list ? phx_jv_int((int64_t)list->n) : nothing;
}

static phx_jv filter_string(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    return phx_jrun_text(x, args->line, value);
}

static phx_jv filter_replace(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    const phx_jv text = phx_jrun_text(x, args->line, value);
    return x->code == PHX_OK ? phx_jtext_replace(x, text, args) : nothing;
}

static phx_jv filter_case(phx_jrun *x, phx_jv value, phx_jargs *args, phx_jcase how)
{
    const phx_jv text = phx_jrun_text(x, args->line, value);
    return x->code == PHX_OK ? phx_jtext_case(x, args->line, text, how) : nothing;
}

static phx_jv filter_upper(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    return filter_case(x, value, args, PHX_JCASE_UPPER);
}

static phx_jv filter_lower(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    return filter_case(x, value, args, PHX_JCASE_LOWER);
}

static phx_jv filter_capitalize(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    return filter_case(x, value, args, PHX_JCASE_CAPITALIZE);
}

static phx_jv filter_title(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    return filter_case(x, value, args, PHX_JCASE_TITLE);
}

static phx_jv filter_trim(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    const phx_jv *chars = phx_jarg(args, 0, "chars");
    const phx_jv text = phx_jrun_text(x, args->line, value);
    if (chars && chars->kind != PHX_JV_STR)
        return phx_jrun_fail(x, args->line, PHX_ERR_INVALID, "trim needs a string");
    return x->code == PHX_OK ? phx_jtext_strip(x, args->line, text, chars, PHX_JSIDE_BOTH) : nothing;
}

static phx_jv filter_default(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    const phx_jv *other = phx_jarg(args, 0, "default_value");
    const bool when_false = phx_jarg_true(args, 1, "boolean", false);
    (void)x;
    if (value.kind == PHX_JV_UNDEFINED || (when_false && !phx_jv_is_true(value)))
        return other ? *other : phx_jv_str((phx_str){"", 0}, false);
    return value;
}

static phx_jv filter_list(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    const phx_jlist *list = phx_jrun_items(x, args->line, value);
    return list ? (phx_jv){.kind = PHX_JV_LIST, .u.list = (phx_jlist *)(uintptr_t)list} : nothing;
}

static phx_jv filter_first(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    const phx_jlist *list = phx_jrun_items(x, args->line, value);
    return list && list->n ? list->items[0] : nothing;
}

static phx_jv filter_last(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    const phx_jlist *list = phx_jrun_items(x, args->line, value);
    return list && list->n ? list->items[list->n - 1] : nothing;
}

static phx_jv filter_reverse(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    if (value.kind == PHX_JV_STR)
        return phx_jrun_fail(x, args->line, PHX_ERR_UNSUPPORTED, "reverse of a string");
    const phx_jlist *from = phx_jrun_items(x, args->line, value);
    if (!from || !phx_jrun_step(x, args->line, from->n * sizeof(phx_jv)))
        return nothing;
    const phx_jv list = phx_jv_list(x->pool, from->n);
    for (size_t i = 0; list.kind == PHX_JV_LIST && i < from->n; i++)
        list.u.list->items[i] = from->items[from->n - 1 - i];
    return list;
}

static phx_jv filter_items(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    if (value.kind == PHX_JV_UNDEFINED)
        return phx_jv_list(x->pool, 0);
    if (value.kind != PHX_JV_DICT)
        return phx_jrun_fail(x, args->line, PHX_ERR_INVALID, "items of %s", phx_jv_kind_name(value));
    return phx_jrun_step(x, args->line, value.u.dict->n * sizeof(phx_jv)) ? phx_jdict_items(x, value)
                                                                          : nothing;
}

static phx_jv filter_int(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    const phx_jv *missing = phx_jarg(args, 0, "default");
    int64_t whole = 0;
    (void)x;
    if (value.kind == PHX_JV_INT || value.kind == PHX_JV_BOOL)
        return phx_jv_int(value.u.i);
    if (value.kind == PHX_JV_BIG_INT)
        return value;
    if (value.kind == PHX_JV_FLOAT && fabs(value.u.f) < 9e18)
        return phx_jv_int((int64_t)value.u.f);
    if (value.kind == PHX_JV_STR && phx_str_to_i64(phx_jv_text(value), INT64_MIN + 1, INT64_MAX, &whole))
        return phx_jv_int(whole);
    return missing ? *missing : phx_jv_int(0);
}

static phx_jv filter_abs(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    if (value.kind == PHX_JV_FLOAT)
        return phx_jv_float(fabs(value.u.f));
    if (value.kind == PHX_JV_BIG_INT)
        return phx_jv_slice(value, value.u.s.ptr[0] == '-', value.u.s.n);
    if (!phx_jv_is_number(value) || value.u.i == INT64_MIN)
        return phx_jrun_fail(x, args->line, PHX_ERR_INVALID, "abs of %s", phx_jv_kind_name(value));
    return phx_jv_int(value.u.i < 0 ? -value.u.i : value.u.i);
}

static phx_jv filter_same(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    (void)x, (void)args;
    return value; /* safe: nothing is escaped here */
}

/* ---- filters over lists ---- */

/* item.a.b for attribute "a.b"; a number indexes. */
static phx_jv member_of(phx_jrun *x, uint32_t line, phx_jv item, phx_jv path)
{
    if (path.kind == PHX_JV_INT)
        return phx_jrun_item(x, line, item, path);
    while (phx_jrun_step(x, line, path.u.s.n)) {
        const char *dot = path.u.s.n ? memchr(path.u.s.ptr, '.', path.u.s.n) : NULL;
        const size_t n = dot ? (size_t)(dot - path.u.s.ptr) : path.u.s.n;
        item = phx_jrun_item(x, line, item, phx_jv_slice(path, 0, n));
        if (!dot)
            break;
        path = phx_jv_slice(path, n + 1, path.u.s.n);
    }
    return item;
}

static bool is_path(const phx_jv *path)
{
    return path && (path->kind == PHX_JV_STR || path->kind == PHX_JV_INT);
}

static phx_jv filter_join(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    const phx_jv *separator = phx_jarg(args, 0, "d");
    const phx_jv *path = phx_jarg(args, 1, "attribute");
    const phx_jlist *list = phx_jrun_items(x, args->line, value);
    const phx_jv between =
        separator ? phx_jrun_text(x, args->line, *separator) : phx_jv_str((phx_str){"", 0}, false);
    if (!list || x->code != PHX_OK)
        return nothing;
    if (!path)
        return phx_jtext_join(x, args->line, between, list);
    const phx_jv members = phx_jv_list(x->pool, list->n);
    for (size_t i = 0; i < list->n && is_path(path) && phx_jrun_step(x, args->line, 0); i++)
        members.u.list->items[i] = member_of(x, args->line, list->items[i], *path);
    return x->code == PHX_OK && members.kind == PHX_JV_LIST
               ? phx_jtext_join(x, args->line, between, members.u.list)
               : nothing;
}

/* The plain arguments behind the first `from`, for a filter or test that a filter applies. */
static phx_jargs rest_of(phx_jargs *args, size_t from)
{
    phx_jargs rest = {.line = args->line};
    for (size_t i = from; i < args->n_plain; i++) {
        args->used[i] = true;
        rest.values[rest.n++] = args->values[i];
    }
    rest.n_plain = rest.n;
    return rest;
}

static phx_jv filter_map(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    const phx_jv *path = args->n_plain == 0 ? phx_jarg(args, 0, "attribute") : NULL;
    const phx_jv *name = args->n_plain ? phx_jarg(args, 0, "") : NULL;
    const phx_jlist *list = phx_jrun_items(x, args->line, value);
    const int which = name && name->kind == PHX_JV_STR ? phx_jfilter_find(phx_jv_text(*name)) : -1;
    if (!is_path(path) && which < 0)
        return phx_jrun_fail(x, args->line, PHX_ERR_UNSUPPORTED,
                             "map needs an attribute or the name of a known filter");
    if (!list)
        return nothing;
    const phx_jargs rest = rest_of(args, 1);
    const phx_jv made = phx_jv_list(x->pool, list->n);
    for (size_t i = 0; i < list->n && phx_jrun_step(x, args->line, 0); i++) {
        phx_jargs each = rest;
        made.u.list->items[i] = path ? member_of(x, args->line, list->items[i], *path)
                                     : phx_jfilter_call(x, which, list->items[i], &each);
        phx_jrun_check_args(x, &each);
    }
    return x->code == PHX_OK ? made : nothing;
}

/* select, reject, selectattr, rejectattr: keeps what the test says, or without one what is true. */
static phx_jv pick(phx_jrun *x, phx_jv value, phx_jargs *args, bool by_attribute, bool wanted)
{
    const phx_jv *path = by_attribute ? phx_jarg(args, 0, "") : NULL;
    const phx_jv *name = phx_jarg(args, by_attribute ? 1 : 0, "");
    const phx_jlist *list = phx_jrun_items(x, args->line, value);
    const int which = name && name->kind == PHX_JV_STR ? phx_jtest_find(phx_jv_text(*name)) : -1;
    if ((by_attribute && !is_path(path)) || (name && which < 0))
        return phx_jrun_fail(x, args->line, PHX_ERR_UNSUPPORTED,
                             "an attribute or the name of a known test is missing");
    if (!list)
        return nothing;
    const phx_jargs rest = rest_of(args, by_attribute ? 2 : 1);
    const phx_jv made = phx_jv_list(x->pool, list->n);
    size_t n = 0;
    for (size_t i = 0; i < list->n && phx_jrun_step(x, args->line, 0); i++) {
        phx_jargs each = rest;
        const phx_jv subject = path ? member_of(x, args->line, list->items[i], *path) : list->items[i];
        const bool holds = which < 0 ? phx_jv_is_true(subject) : phx_jtest_call(x, which, subject, &each);
        phx_jrun_check_args(x, &each);
        if (holds == wanted)
            made.u.list->items[n++] = list->items[i];
    }
    if (x->code != PHX_OK || made.kind != PHX_JV_LIST)
        return nothing;
    made.u.list->n = n;
    return made;
}

static phx_jv filter_select(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    return pick(x, value, args, false, true);
}

static phx_jv filter_reject(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    return pick(x, value, args, false, false);
}

static phx_jv filter_selectattr(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    return pick(x, value, args, true, true);
}

static phx_jv filter_rejectattr(phx_jrun *x, phx_jv value, phx_jargs *args)
{
    return pick(x, value, args, true, false);
}

typedef struct filter {
    const char *name;
    phx_jv (*call)(phx_jrun *x, phx_jv value, phx_jargs *args);
} filter;

static const filter filters[] = {
    {"tojson", filter_tojson},
    {"length", filter_length},
    {"count", filter_length},
    {"string", filter_string},
    {"replace", filter_replace},
    {"upper", filter_upper},
    {"lower", filter_lower},
    {"capitalize", filter_capitalize},
    {"title", filter_title},
    {"trim", filter_trim},
    {"default", filter_default},
    {"d", filter_default},
    {"list", filter_list},
    {"first", filter_first},
    {"last", filter_last},
    {"reverse", filter_reverse},
    {"items", filter_items},
    {"int", filter_int},
    {"abs", filter_abs},
    {"safe", filter_same},
    {"join", filter_join},
    {"map", filter_map},
    {"select", filter_select},
    {"reject", filter_reject},
    {"selectattr", filter_selectattr},
    {"rejectattr", filter_rejectattr},
};

int phx_jfilter_find(phx_str name)
{
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
        if (phx_str_is(name, filters[i].name))
            return (int)i;
    }
    return -1;
}

/* map may apply map: each time it takes an argument, of which there are few. */
phx_jv phx_jfilter_call(phx_jrun *x, int which, phx_jv value, phx_jargs *args)
{
    return filters[which].call(x, value, args);
}
