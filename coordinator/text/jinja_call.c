/* coordinator/text/jinja_call.c - functions and methods that a template can call.
 * Owns: their tables; one that is not here is an error when it is called. */
#include "coordinator/text/jinja_run.h"

static const phx_jv nothing = {.kind = PHX_JV_UNDEFINED, .u.s = {"", NULL, 0}};

/* ---- functions ---- */

static phx_jv call_range(phx_jrun *x, phx_jargs *args)
{
    int64_t bounds[3] = {0, 0, 1};
    for (size_t i = 0; i < 3; i++) {
        const phx_jv *value = phx_jarg(args, i, "");
        if (!value)
            break;
        if (value->kind != PHX_JV_INT)
            return phx_jrun_fail(x, args->line, PHX_ERR_INVALID, "range needs whole numbers, not %s",
                                 phx_jv_kind_name(*value));
        bounds[i] = value->u.i;
    }
    if (args->n_plain == 1) {
        bounds[1] = bounds[0];
        bounds[0] = 0;
    }
    const int64_t step = bounds[2];
    if (step == 0 || args->n_plain == 0)
        return phx_jrun_fail(x, args->line, PHX_ERR_INVALID, "range without an end or with step 0");
    size_t n = 0;
    int64_t at = bounds[0];
    for (; step > 0 ? at < bounds[1] : at > bounds[1]; n++) {
        if (n == PHX_JINJA_STEPS_MAX)
            return phx_jrun_fail(x, args->line, PHX_ERR_TOO_LONG, "a range of more than %u numbers",
                                 PHX_JINJA_STEPS_MAX);
        if (__builtin_add_overflow(at, step, &at))
            at = bounds[1];
    }
    if (!phx_jrun_step(x, args->line, n * sizeof(phx_jv)))
        return nothing;
    const phx_jv list = phx_jv_list(x->pool, n);
    for (size_t i = 0; list.kind == PHX_JV_LIST && i < n; i++)
        list.u.list->items[i] = phx_jv_int(bounds[0] + (int64_t)i * step);
    return list;
}

static phx_jv named_members(phx_jrun *x, phx_jargs *args)
{
    const phx_jv dict = phx_jv_dict(x->pool, args->n);
    for (size_t i = args->n_plain; i < args->n; i++) {
        args->used[i] = true;
        phx_jv_set(x->pool, dict, phx_jv_str(args->names[i], false), args->values[i]);
    }
    return dict;
}

static phx_jv call_namespace(phx_jrun *x, phx_jargs *args)
{
    phx_jv made = named_members(x, args);
    if (made.kind == PHX_JV_DICT)
        made.kind = PHX_JV_NAMESPACE;
    return made;
}

static phx_jv call_raise(phx_jrun *x, phx_jargs *args)
{
    const phx_jv *message = phx_jarg(args, 0, "message");
    const phx_jv text = message ? phx_jrun_text(x, args->line, *message) : nothing;
    return phx_jrun_fail(x, args->line, PHX_ERR_INVALID, "%.*s", PHX_STR_ARG(phx_jv_text(text)));
}

typedef struct function {
    const char *name;
    phx_jv (*call)(phx_jrun *x, phx_jargs *args);
} function;

static const function functions[] = {
    {"range", call_range},           {"namespace", call_namespace},   {"dict", named_members},
    {"raise_exception", call_raise}, {"strftime_now", phx_jtime_now},
};

int phx_jfunction_find(phx_str name)
{
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        if (phx_str_is(name, functions[i].name))
            return (int)i;
    }
    return -1;
}

phx_jv phx_jfunction_call(phx_jrun *x, int which, phx_jargs *args)
{
    return functions[which].call(x, args);
}

/* ---- methods ---- */

static phx_jv strip_by(phx_jrun *x, phx_jv self, phx_jargs *args, phx_jside side)
{
    const phx_jv *chars = phx_jarg(args, 0, "chars");
    if (chars && chars->kind == PHX_JV_NONE)
        chars = NULL;
    if (chars && chars->kind != PHX_JV_STR)
        return phx_jrun_fail(x, args->line, PHX_ERR_INVALID, "strip needs a string, not %s",
                             phx_jv_kind_name(*chars));
    return phx_jtext_strip(x, args->line, self, chars, side);
}

static phx_jv call_strip(phx_jrun *x, phx_jv self, phx_jargs *args)
{
    return strip_by(x, self, args, PHX_JSIDE_BOTH);
}

static phx_jv call_lstrip(phx_jrun *x, phx_jv self, phx_jargs *args)
{
    return strip_by(x, self, args, PHX_JSIDE_LEFT);
}

static phx_jv call_rstrip(phx_jrun *x, phx_jv self, phx_jargs *args)
{
    return strip_by(x, self, args, PHX_JSIDE_RIGHT);
}

/* prefix may be a list of which one is enough. */
static phx_jv call_affix(phx_jrun *x, phx_jv self, phx_jargs *args, bool at_start)
{
    const phx_jv *affix = phx_jarg(args, 0, at_start ? "prefix" : "suffix");
    const phx_jlist one = {(phx_jv *)(uintptr_t)affix, affix ? 1 : 0};
    const phx_jlist *list = affix && affix->kind == PHX_JV_LIST ? affix->u.list : &one;
    bool found = false;
    for (size_t i = 0; i < list->n && phx_jrun_step(x, args->line, 0); i++) {
        const phx_jv item = list->items[i];
        if (item.kind != PHX_JV_STR)
            return phx_jrun_fail(x, args->line, PHX_ERR_INVALID,
                                 "a prefix or suffix must be a string, not %s", phx_jv_kind_name(item));
        const phx_str text = phx_jv_text(self);
        if (!phx_jrun_step(x, args->line, item.u.s.n))
            return nothing;
        found = found ||
                (at_start ? phx_str_starts(text, phx_jv_text(item)) : phx_str_ends(text, phx_jv_text(item)));
    }
    return phx_jv_bool(found);
}

static phx_jv call_startswith(phx_jrun *x, phx_jv self, phx_jargs *args)
{
    return call_affix(x, self, args, true);
}

static phx_jv call_endswith(phx_jrun *x, phx_jv self, phx_jargs *args)
{
    return call_affix(x, self, args, false);
}

static phx_jv call_upper(phx_jrun *x, phx_jv self, phx_jargs *args)
{
    return phx_jtext_case(x, args->line, self, PHX_JCASE_UPPER);
}

static phx_jv call_lower(phx_jrun *x, phx_jv self, phx_jargs *args)
{
    return phx_jtext_case(x, args->line, self, PHX_JCASE_LOWER);
}

static phx_jv call_capitalize(phx_jrun *x, phx_jv self, phx_jargs *args)
{
    return phx_jtext_case(x, args->line, self, PHX_JCASE_CAPITALIZE);
}

static phx_jv call_join(phx_jrun *x, phx_jv self, phx_jargs *args)
{
    const phx_jv *of = phx_jarg(args, 0, "iterable");
    const phx_jlist *list = phx_jrun_items(x, args->line, of ? *of : nothing);
    return list ? phx_jtext_join(x, args->line, self, list) : nothing;
}

static phx_jv call_items(phx_jrun *x, phx_jv self, phx_jargs *args)
{
    return phx_jrun_step(x, args->line, self.u.dict->n * sizeof(phx_jv)) ? phx_jdict_items(x, self) : nothing;
}

static phx_jv call_keys(phx_jrun *x, phx_jv self, phx_jargs *args)
{
    const phx_jlist *keys = phx_jrun_items(x, args->line, self);
    return keys ? (phx_jv){.kind = PHX_JV_LIST, .u.list = (phx_jlist *)(uintptr_t)keys} : nothing;
}

static phx_jv call_values(phx_jrun *x, phx_jv self, phx_jargs *args)
{
    if (!phx_jrun_step(x, args->line, self.u.dict->n * sizeof(phx_jv)))
        return nothing;
    const phx_jv list = phx_jv_list(x->pool, self.u.dict->n);
    for (size_t i = 0; list.kind == PHX_JV_LIST && i < self.u.dict->n; i++)
        list.u.list->items[i] = self.u.dict->members[i].value;
    return list;
}

static phx_jv call_get(phx_jrun *x, phx_jv self, phx_jargs *args)
{
    const phx_jv *key = phx_jarg(args, 0, "key");
    const phx_jv *missing = phx_jarg(args, 1, "default");
    const phx_jv *member =
        key && key->kind == PHX_JV_STR ? phx_jrun_get(x, args->line, self, phx_jv_text(*key)) : NULL;
    if (!key)
        return phx_jrun_fail(x, args->line, PHX_ERR_INVALID, "get needs a key");
    return member ? *member : missing ? *missing : phx_jv_none();
}

typedef struct known_method {
    const char *name;
    phx_jv_kind kind;
    phx_jv (*call)(phx_jrun *x, phx_jv self, phx_jargs *args);
} known_method;

static const known_method methods[] = {
    {"join", PHX_JV_STR, call_join},
    {"strip", PHX_JV_STR, call_strip},
    {"lstrip", PHX_JV_STR, call_lstrip},
    {"rstrip", PHX_JV_STR, call_rstrip},
    {"split", PHX_JV_STR, phx_jtext_split},
    {"replace", PHX_JV_STR, phx_jtext_replace},
    {"startswith", PHX_JV_STR, call_startswith},
    {"endswith", PHX_JV_STR, call_endswith},
    {"upper", PHX_JV_STR, call_upper},
    {"lower", PHX_JV_STR, call_lower},
    {"capitalize", PHX_JV_STR, call_capitalize},
    {"items", PHX_JV_DICT, call_items},
    {"keys", PHX_JV_DICT, call_keys},
    {"values", PHX_JV_DICT, call_values},
    {"get", PHX_JV_DICT, call_get},
};

int phx_jmethod_find(phx_jv self, phx_str name)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (methods[i].kind == self.kind && phx_str_is(name, methods[i].name))
            return (int)i;
    }
    return -1;
}

phx_jv phx_jmethod_call(phx_jrun *x, const phx_jmethod *method, phx_jargs *args)
{
    return methods[method->which].call(x, method->self, args);
}
