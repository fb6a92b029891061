/* coordinator/text/jinja_eval.c - expressions: names, members, operators, arguments.
 * Recursion follows the tree (PHX_JINJA_TREE_DEPTH_MAX) and calls of macros (PHX_JINJA_CALL_DEPTH_MAX). */
#include "coordinator/text/jinja_run.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define BYTES_PER_STEP 64u

static const phx_jv nothing = {.kind = PHX_JV_UNDEFINED, .u.s = {"", NULL, 0}};

phx_jv phx_jrun_fail(phx_jrun *x, uint32_t line, phx_code code, const char *format, ...)
{
    char text[320];
    va_list args;
    if (x->code != PHX_OK)
        return nothing;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    x->code = PHX_FAIL(x->err, code, "chat template line %u: %s", line, text);
    return nothing;
}

bool phx_jrun_step(phx_jrun *x, uint32_t line, size_t n_bytes)
{
    x->n_steps += 1 + n_bytes / BYTES_PER_STEP;
    if (x->code == PHX_OK && x->n_steps > PHX_JINJA_STEPS_MAX)
        (void)phx_jrun_fail(x, line, PHX_ERR_TOO_LONG, "it takes more than %u steps", PHX_JINJA_STEPS_MAX);
    if (x->code == PHX_OK && x->stop && atomic_load_explicit(x->stop, memory_order_relaxed))
        (void)phx_jrun_fail(x, line, PHX_ERR_CANCELLED, "the server ends");
    if (x->code == PHX_OK && x->pool->code != PHX_OK)
        (void)phx_jrun_fail(x, line, x->pool->code,
                            x->pool->code == PHX_ERR_NOMEM ? "out of memory"
                                                           : "its values take too much memory");
    return x->code == PHX_OK;
}

static bool step_of(void *user, uint32_t line, size_t n_bytes)
{
    return phx_jrun_step(user, line, n_bytes);
}

phx_jtick phx_jrun_tick(phx_jrun *x, uint32_t line)
{
    return (phx_jtick){step_of, x, line};
}

bool phx_jrun_equal(phx_jrun *x, uint32_t line, phx_jv a, phx_jv b)
{
    const phx_jtick tick = phx_jrun_tick(x, line);
    return phx_jv_equal(&tick, a, b, 0);
}

const phx_jv *phx_jrun_get(phx_jrun *x, uint32_t line, phx_jv dict, phx_str key)
{
    const bool has_members = dict.kind == PHX_JV_DICT || dict.kind == PHX_JV_NAMESPACE;
    if (!has_members || !phx_jrun_step(x, line, dict.u.dict->n * PHX_JV_LOOKUP_BYTES))
        return NULL;
    return phx_jv_get(dict, key);
}

/* ---- names ---- */

static phx_jv eval_name(phx_jrun *x, const phx_jnode *node)
{
    const phx_jv *found = phx_jrun_find(x, node->name);
    if (found)
        return *found;
    const phx_jv *input = phx_jv_get(x->inputs, node->name);
    if (input)
        return *input;
    const int which = phx_jfunction_find(node->name);
    if (which >= 0)
        return (phx_jv){.kind = PHX_JV_FUNCTION, .u.i = which};
    return phx_jv_undefined(node->name);
}

/* ---- members ---- */

static phx_jv loop_member(const phx_jloop *loop, phx_str name)
{
    const size_t n = loop->list->n;
    if (phx_str_is(name, "index0"))
        return phx_jv_int((int64_t)loop->at);
    if (phx_str_is(name, "index"))
        return phx_jv_int((int64_t)loop->at + 1);
    if (phx_str_is(name, "first"))
        return phx_jv_bool(loop->at == 0);
    if (phx_str_is(name, "last"))
        return phx_jv_bool(loop->at + 1 == n);
    if (phx_str_is(name, "length"))
        return phx_jv_int((int64_t)n);
    if (phx_str_is(name, "revindex"))
        return phx_jv_int((int64_t)(n - loop->at));
    if (phx_str_is(name, "revindex0"))
        return phx_jv_int((int64_t)(n - loop->at) - 1);
    if (phx_str_is(name, "previtem") && loop->at > 0)
        return loop->list->items[loop->at - 1];
    if (phx_str_is(name, "nextitem") && loop->at + 1 < n)
        return loop->list->items[loop->at + 1];
    return phx_jv_undefined(name);
}

static phx_jv eval_attr(phx_jrun *x, const phx_jnode *node)
{
    const phx_jv of = phx_jrun_eval(x, node->a);
    if (x->code != PHX_OK)
        return nothing;
    if (of.kind == PHX_JV_UNDEFINED)
        return phx_jrun_fail(x, node->line, PHX_ERR_INVALID, "'%.*s' is undefined, so it has no '%.*s'",
                             PHX_STR_ARG(phx_jv_text(of)), PHX_STR_ARG(node->name));
    if (of.kind == PHX_JV_LOOP)
        return loop_member(of.u.loop, node->name);
    const int which = phx_jmethod_find(of, node->name);
    if (which >= 0) {
        phx_jmethod *method = phx_jpool_take(x->pool, 1, sizeof(*method));
        if (!method)
            return nothing;
        *method = (phx_jmethod){of, which, node->name};
        return (phx_jv){.kind = PHX_JV_METHOD, .u.method = method};
    }
    const phx_jv *member = phx_jrun_get(x, node->line, of, node->name);
    return member ? *member : phx_jv_undefined(node->name);
}

phx_jv phx_jrun_item(phx_jrun *x, uint32_t line, phx_jv of, phx_jv index)
{
    if (x->code != PHX_OK)
        return nothing;
    if (of.kind == PHX_JV_UNDEFINED)
        return phx_jrun_fail(x, line, PHX_ERR_INVALID, "'%.*s' is undefined, so it has no members",
                             PHX_STR_ARG(phx_jv_text(of)));
    if (index.kind == PHX_JV_STR) {
        const phx_jv *member = phx_jrun_get(x, line, of, phx_jv_text(index));
        return member ? *member : phx_jv_undefined(phx_jv_text(index));
    }
    if (index.kind != PHX_JV_INT)
        return nothing;
    int64_t at = index.u.i;
    if (of.kind == PHX_JV_LIST) {
        const int64_t n = (int64_t)of.u.list->n;
        at += at < 0 ? n : 0;
        return at >= 0 && at < n ? of.u.list->items[at] : nothing;
    }
    if (of.kind == PHX_JV_STR && phx_jrun_step(x, line, of.u.s.n)) {
        const int64_t n = (int64_t)phx_jv_n_chars(of);
        at += at < 0 ? n : 0;
        return at >= 0 && at < n ? phx_jtext_slice(of, (size_t)at, (size_t)at + 1) : nothing;
    }
    return nothing;
}

/* A bound of a slice: Python's rules for what is missing, negative or past the end. */
static int64_t slice_bound(phx_jrun *x, const phx_jnode *node, int64_t missing, int64_t n, int64_t low,
                           int64_t high)
{
    const phx_jv value = node ? phx_jrun_eval(x, node) : phx_jv_none();
    if (value.kind == PHX_JV_NONE || x->code != PHX_OK)
        return missing;
    if (value.kind != PHX_JV_INT) {
        (void)phx_jrun_fail(x, node->line, PHX_ERR_INVALID, "a slice needs whole numbers, not %s",
                            phx_jv_kind_name(value));
        return missing;
    }
    const int64_t at = value.u.i < 0 ? (value.u.i < -n ? low : value.u.i + n) : value.u.i;
    return at < low ? low : at > high ? high : at;
}

static phx_jv eval_slice(phx_jrun *x, const phx_jnode *node)
{
    const phx_jv of = phx_jrun_eval(x, node->a);
    const phx_jv by = node->d ? phx_jrun_eval(x, node->d) : phx_jv_int(1);
    const int64_t step = by.kind == PHX_JV_INT ? by.u.i : by.kind == PHX_JV_NONE ? 1 : 0;
    if (x->code != PHX_OK)
        return nothing;
    if (of.kind != PHX_JV_LIST && of.kind != PHX_JV_STR)
        return phx_jrun_fail(x, node->line, PHX_ERR_INVALID, "cannot take a slice of %s",
                             phx_jv_kind_name(of));
    if (step == 0 || (of.kind == PHX_JV_STR && step != 1))
        return phx_jrun_fail(x, node->line, PHX_ERR_UNSUPPORTED, "a slice with this step");
    const int64_t n = of.kind == PHX_JV_LIST ? (int64_t)of.u.list->n : (int64_t)phx_jv_n_chars(of);
    const int64_t low = step > 0 ? 0 : -1;
    const int64_t high = step > 0 ? n : n - 1;
    const int64_t first = slice_bound(x, node->b, step > 0 ? 0 : n - 1, n, low, high);
    const int64_t end = slice_bound(x, node->c, step > 0 ? n : -1, n, low, high);
    if (!phx_jrun_step(x, node->line, of.kind == PHX_JV_STR ? of.u.s.n : (size_t)n * sizeof(phx_jv)))
        return nothing;
    if (of.kind == PHX_JV_STR)
        return phx_jtext_slice(of, (size_t)first, (size_t)(end > first ? end : first));
    size_t n_items = 0;
    for (int64_t at = first; step > 0 ? at < end : at > end; n_items++) {
        if (__builtin_add_overflow(at, step, &at))
            at = end;
    }
    const phx_jv list = phx_jv_list(x->pool, n_items);
    for (size_t i = 0; list.kind == PHX_JV_LIST && i < n_items; i++)
        list.u.list->items[i] = of.u.list->items[first + (int64_t)i * step];
    return list;
}

/* ---- operators ---- */

static phx_jv bad_operands(phx_jrun *x, const phx_jnode *node, phx_jv a, phx_jv b)
{
    const phx_jv *missing = a.kind == PHX_JV_UNDEFINED ? &a : b.kind == PHX_JV_UNDEFINED ? &b : NULL;
    if (missing)
        return phx_jrun_fail(x, node->line, PHX_ERR_INVALID, "'%.*s' is undefined",
                             PHX_STR_ARG(phx_jv_text(*missing)));
    return phx_jrun_fail(x, node->line, PHX_ERR_INVALID, "the operator does not work on %s and %s",
                         phx_jv_kind_name(a), phx_jv_kind_name(b));
}

static phx_jv add_lists(phx_jrun *x, const phx_jlist *a, const phx_jlist *b)
{
    const phx_jv list = phx_jv_list(x->pool, a->n + b->n);
    for (size_t i = 0; list.kind == PHX_JV_LIST && i < a->n + b->n; i++)
        list.u.list->items[i] = i < a->n ? a->items[i] : b->items[i - a->n];
    return list;
}

static phx_jv real_result(phx_jrun *x, const phx_jnode *node, double a, double b)
{
    switch (node->op) {
    case PHX_JOP_ADD:
        return phx_jv_float(a + b);
    case PHX_JOP_SUB:
        return phx_jv_float(a - b);
    case PHX_JOP_MUL:
        return phx_jv_float(a * b);
    default:
        break;
    }
    if (!(b < 0 || b > 0))
        return phx_jrun_fail(x, node->line, PHX_ERR_INVALID, "division by zero");
    if (node->op == PHX_JOP_DIV)
        return phx_jv_float(a / b);
    if (node->op == PHX_JOP_FLOOR_DIV)
        return phx_jv_float(floor(a / b));
    return phx_jv_float(a - floor(a / b) * b);
}

static phx_jv whole_result(phx_jrun *x, const phx_jnode *node, int64_t a, int64_t b)
{
    int64_t result = 0;
    bool overflow = false;
    if (node->op == PHX_JOP_ADD) {
        overflow = __builtin_add_overflow(a, b, &result);
    } else if (node->op == PHX_JOP_SUB) {
        overflow = __builtin_sub_overflow(a, b, &result);
    } else if (node->op == PHX_JOP_MUL) {
        overflow = __builtin_mul_overflow(a, b, &result);
    } else if (b == 0) {
        return phx_jrun_fail(x, node->line, PHX_ERR_INVALID, "division by zero");
    } else if (b == -1) { /* the one quotient that can overflow */
        overflow = node->op == PHX_JOP_FLOOR_DIV && __builtin_sub_overflow((int64_t)0, a, &result);
    } else {
        const int64_t rest = a % b;
        const bool uneven = rest != 0 && (rest < 0) != (b < 0);
        result = node->op == PHX_JOP_FLOOR_DIV ? a / b - uneven : rest + (uneven ? b : 0);
    }
    if (overflow)
        return phx_jrun_fail(x, node->line, PHX_ERR_INVALID, "a number past 64 bits");
    return phx_jv_int(result);
}

static phx_jv eval_binary(phx_jrun *x, const phx_jnode *node)
{
    const phx_jv a = phx_jrun_eval(x, node->a);
    const phx_jv b = phx_jrun_eval(x, node->b);
    if (x->code != PHX_OK)
        return nothing;
    if (node->op == PHX_JOP_CONCAT ||
        (node->op == PHX_JOP_ADD && a.kind == PHX_JV_STR && b.kind == PHX_JV_STR)) {
        const phx_jv texts[2] = {phx_jrun_text(x, node->line, a), phx_jrun_text(x, node->line, b)};
        if (x->code != PHX_OK || !phx_jrun_step(x, node->line, texts[0].u.s.n + texts[1].u.s.n))
            return nothing;
        return phx_jv_concat(x->pool, texts, 2);
    }
    if (node->op == PHX_JOP_ADD && a.kind == PHX_JV_LIST && b.kind == PHX_JV_LIST) {
        if (!phx_jrun_step(x, node->line, (a.u.list->n + b.u.list->n) * sizeof(phx_jv)))
            return nothing;
        return add_lists(x, a.u.list, b.u.list);
    }
    if (!phx_jv_is_number(a) || !phx_jv_is_number(b))
        return bad_operands(x, node, a, b);
    if (a.kind == PHX_JV_FLOAT || b.kind == PHX_JV_FLOAT || node->op == PHX_JOP_DIV)
        return real_result(x, node, phx_jv_number(a), phx_jv_number(b));
    if (a.kind == PHX_JV_BIG_INT || b.kind == PHX_JV_BIG_INT)
        return phx_jrun_fail(x, node->line, PHX_ERR_INVALID, "a number past 64 bits");
    return whole_result(x, node, a.u.i, b.u.i);
}

bool phx_jrun_contains(phx_jrun *x, uint32_t line, phx_jv in, phx_jv item)
{
    bool found = false;
    if (in.kind == PHX_JV_UNDEFINED || !phx_jrun_step(x, line, 0))
        return false;
    if (in.kind == PHX_JV_STR && item.kind == PHX_JV_STR) {
        (void)phx_jrun_step(x, line, in.u.s.n);
        return item.u.s.n == 0 || (in.u.s.n && memmem(in.u.s.ptr, in.u.s.n, item.u.s.ptr, item.u.s.n));
    }
    if (in.kind == PHX_JV_DICT)
        return item.kind == PHX_JV_STR && phx_jrun_get(x, line, in, phx_jv_text(item));
    if (in.kind != PHX_JV_LIST) {
        (void)phx_jrun_fail(x, line, PHX_ERR_INVALID, "'in' does not work on %s", phx_jv_kind_name(in));
        return false;
    }
    for (size_t i = 0; i < in.u.list->n && !found && phx_jrun_step(x, line, 0); i++)
        found = phx_jrun_equal(x, line, in.u.list->items[i], item);
    return found;
}

static int order_of(phx_jrun *x, const phx_jnode *node, phx_jv a, phx_jv b)
{
    if (phx_jv_is_number(a) && phx_jv_is_number(b)) {
        if (a.kind != PHX_JV_FLOAT && b.kind != PHX_JV_FLOAT)
            return phx_jv_order_whole(a, b);
        return (phx_jv_number(a) > phx_jv_number(b)) - (phx_jv_number(a) < phx_jv_number(b));
    }
    if (a.kind != PHX_JV_STR || b.kind != PHX_JV_STR) {
        (void)bad_operands(x, node, a, b);
        return 0;
    }
    const size_t n = a.u.s.n < b.u.s.n ? a.u.s.n : b.u.s.n;
    if (!phx_jrun_step(x, node->line, n))
        return 0;
    const int order = n ? memcmp(a.u.s.ptr, b.u.s.ptr, n) : 0;
    return order ? order : (a.u.s.n > b.u.s.n) - (a.u.s.n < b.u.s.n);
}

static bool compare(phx_jrun *x, const phx_jnode *step, phx_jv a, phx_jv b)
{
    switch (step->op) {
    case PHX_JOP_EQ:
        return phx_jrun_equal(x, step->line, a, b);
    case PHX_JOP_NE:
        return !phx_jrun_equal(x, step->line, a, b);
    case PHX_JOP_IN:
        return phx_jrun_contains(x, step->line, b, a);
    case PHX_JOP_NOT_IN:
        return !phx_jrun_contains(x, step->line, b, a);
    case PHX_JOP_LT:
        return order_of(x, step, a, b) < 0;
    case PHX_JOP_LE:
        return order_of(x, step, a, b) <= 0;
    case PHX_JOP_GT:
        return order_of(x, step, a, b) > 0;
    default:
        return order_of(x, step, a, b) >= 0;
    }
}

static phx_jv eval_compare(phx_jrun *x, const phx_jnode *node)
{
    phx_jv left = phx_jrun_eval(x, node->a);
    bool holds = true;
    for (const phx_jnode *step = node->b; step && holds && x->code == PHX_OK; step = step->next) {
        const phx_jv right = phx_jrun_eval(x, step->a);
        holds = x->code == PHX_OK && compare(x, step, left, right);
        left = right;
    }
    return phx_jv_bool(holds);
}

static phx_jv eval_negate(phx_jrun *x, const phx_jnode *node)
{
    const phx_jv a = phx_jrun_eval(x, node->a);
    if (x->code != PHX_OK)
        return nothing;
    if (a.kind == PHX_JV_FLOAT)
        return phx_jv_float(-a.u.f);
    if (!phx_jv_is_number(a))
        return phx_jrun_fail(x, node->line, PHX_ERR_INVALID, "'-' does not work on %s", phx_jv_kind_name(a));
    if (a.kind == PHX_JV_BIG_INT)
        return phx_jrun_fail(x, node->line, PHX_ERR_INVALID, "a number past 64 bits");
    return phx_jv_int(a.u.i == INT64_MIN ? a.u.i : -a.u.i); /* no literal makes that value */
}

/* ---- displays ---- */

static phx_jv eval_list(phx_jrun *x, const phx_jnode *node)
{
    size_t n = 0;
    for (const phx_jnode *item = node->a; item; item = item->next)
        n++;
    const phx_jv list = phx_jv_list(x->pool, n);
    n = 0;
    for (const phx_jnode *item = node->a; item && list.kind == PHX_JV_LIST; item = item->next)
        list.u.list->items[n++] = phx_jrun_eval(x, item);
    return list;
}

static phx_jv eval_dict(phx_jrun *x, const phx_jnode *node)
{
    const phx_jv dict = phx_jv_dict(x->pool, 4);
    for (const phx_jnode *key = node->a; key && key->next && x->code == PHX_OK; key = key->next->next) {
        const phx_jv name = phx_jrun_eval(x, key);
        const phx_jv value = phx_jrun_eval(x, key->next);
        if (name.kind != PHX_JV_STR)
            return phx_jrun_fail(x, key->line, PHX_ERR_UNSUPPORTED, "keys must be strings, not %s",
                                 phx_jv_kind_name(name));
        if (dict.kind == PHX_JV_DICT && phx_jrun_step(x, key->line, dict.u.dict->n * PHX_JV_LOOKUP_BYTES))
            phx_jv_set(x->pool, dict, name, value);
    }
    return dict;
}

/* ---- calls ---- */

void phx_jrun_args(phx_jrun *x, const phx_jnode *list, uint32_t line, phx_jargs *args)
{
    args->line = line;
    args->n = args->n_plain = 0;
    for (const phx_jnode *node = list; node && x->code == PHX_OK; node = node->next) {
        const bool named = node->kind == PHX_JN_KEYWORD;
        if (args->n == PHX_JARGS_MAX || (!named && args->n != args->n_plain)) {
            (void)phx_jrun_fail(x, line, PHX_ERR_UNSUPPORTED,
                                "more than %u arguments, or plain behind named ones", PHX_JARGS_MAX);
            return;
        }
        args->values[args->n] = phx_jrun_eval(x, named ? node->a : node);
        args->names[args->n] = named ? node->name : (phx_str){"", 0};
        args->used[args->n] = false;
        args->n++;
        args->n_plain += !named;
    }
}

void phx_jrun_check_args(phx_jrun *x, const phx_jargs *args)
{
    for (size_t i = 0; i < args->n && x->code == PHX_OK; i++) {
        if (!args->used[i])
            (void)phx_jrun_fail(x, args->line, PHX_ERR_UNSUPPORTED, "argument %zu '%.*s' is not known", i + 1,
                                PHX_STR_ARG(args->names[i]));
    }
}

const phx_jv *phx_jarg(phx_jargs *args, size_t idx, const char *name)
{
    if (idx < args->n_plain) {
        args->used[idx] = true;
        return &args->values[idx];
    }
    for (size_t i = args->n_plain; i < args->n; i++) {
        if (phx_str_is(args->names[i], name)) {
            args->used[i] = true;
            return &args->values[i];
        }
    }
    return NULL;
}

bool phx_jarg_true(phx_jargs *args, size_t idx, const char *name, bool missing)
{
    const phx_jv *value = phx_jarg(args, idx, name);
    return value ? phx_jv_is_true(*value) : missing;
}

static phx_jv eval_call(phx_jrun *x, const phx_jnode *node)
{
    phx_jargs args;
    phx_jv result = nothing;
    const phx_jv callee = phx_jrun_eval(x, node->a);
    phx_jrun_args(x, node->b, node->line, &args);
    if (x->code != PHX_OK)
        return nothing;
    if (callee.kind == PHX_JV_FUNCTION)
        result = phx_jfunction_call(x, (int)callee.u.i, &args);
    else if (callee.kind == PHX_JV_MACRO)
        result = phx_jmacro_call(x, callee.u.macro, &args);
    else if (callee.kind == PHX_JV_METHOD)
        result = phx_jmethod_call(x, callee.u.method, &args);
    else if (callee.kind == PHX_JV_UNDEFINED)
        return phx_jrun_fail(x, node->line, PHX_ERR_UNSUPPORTED,
                             "'%.*s' is no function or method that is known",
                             PHX_STR_ARG(phx_jv_text(callee)));
    else
        return phx_jrun_fail(x, node->line, PHX_ERR_INVALID, "%s cannot be called", phx_jv_kind_name(callee));
    phx_jrun_check_args(x, &args);
    return result;
}

static phx_jv eval_filter(phx_jrun *x, const phx_jnode *node)
{
    phx_jargs args;
    const phx_jv value = phx_jrun_eval(x, node->a);
    phx_jrun_args(x, node->b, node->line, &args);
    if (x->code != PHX_OK)
        return nothing;
    const phx_jv result = phx_jfilter_call(x, node->op, value, &args);
    phx_jrun_check_args(x, &args);
    return result;
}

static phx_jv eval_test(phx_jrun *x, const phx_jnode *node)
{
    phx_jargs args;
    const phx_jv value = phx_jrun_eval(x, node->a);
    phx_jrun_args(x, node->b, node->line, &args);
    if (x->code != PHX_OK)
        return nothing;
    const bool holds = phx_jtest_call(x, node->op, value, &args);
    phx_jrun_check_args(x, &args);
    return phx_jv_bool(holds);
}

/* ---- the rest ---- */

phx_jv phx_jrun_text(phx_jrun *x, uint32_t line, phx_jv value)
{
    phx_jv text = nothing;
    if (x->code != PHX_OK)
        return nothing;
    if (phx_jv_to_text(x->pool, value, &text))
        return text;
    if (phx_jrun_step(x, line, 0))
        (void)phx_jrun_fail(x, line, PHX_ERR_UNSUPPORTED, "%s cannot be written as text",
                            phx_jv_kind_name(value));
    return nothing;
}

const phx_jlist *phx_jrun_items(phx_jrun *x, uint32_t line, phx_jv value)
{
    if (value.kind == PHX_JV_LIST)
        return value.u.list;
    const bool is_text = value.kind == PHX_JV_STR;
    const bool is_dict = value.kind == PHX_JV_DICT;
    if (!is_text && !is_dict && value.kind != PHX_JV_UNDEFINED) {
        (void)phx_jrun_fail(x, line, PHX_ERR_INVALID, "%s cannot be looped over", phx_jv_kind_name(value));
        return NULL;
    }
    const size_t n = is_text ? phx_jv_n_chars(value) : is_dict ? value.u.dict->n : 0;
    const phx_jv list = phx_jv_list(x->pool, n);
    if (!phx_jrun_step(x, line, n * BYTES_PER_STEP) || list.kind != PHX_JV_LIST)
        return NULL;
    for (size_t i = 0, at = 0; i < n; i++) {
        if (is_dict) {
            list.u.list->items[i] = value.u.dict->members[i].key;
            continue;
        }
        size_t end = at + 1;
        while (end < value.u.s.n && ((uint8_t)value.u.s.ptr[end] & 0xC0) == 0x80)
            end++;
        list.u.list->items[i] = phx_jv_slice(value, at, end);
        at = end;
    }
    return list.u.list;
}

static phx_jv eval_choice(phx_jrun *x, const phx_jnode *node)
{
    const phx_jv condition = phx_jrun_eval(x, node->kind == PHX_JN_IF_ELSE ? node->b : node->a);
    const bool holds = phx_jv_is_true(condition);
    if (x->code != PHX_OK)
        return nothing;
    if (node->kind == PHX_JN_AND)
        return holds ? phx_jrun_eval(x, node->b) : condition;
    if (node->kind == PHX_JN_OR)
        return holds ? condition : phx_jrun_eval(x, node->b);
    if (holds)
        return phx_jrun_eval(x, node->a);
    return node->c ? phx_jrun_eval(x, node->c) : nothing;
}

phx_jv phx_jrun_eval(phx_jrun *x, const phx_jnode *node)
{
    if (!phx_jrun_step(x, node->line, node->name.n))
        return nothing;
    switch (node->kind) {
    case PHX_JN_LITERAL:
        return node->value;
    case PHX_JN_NAME:
        return eval_name(x, node);
    case PHX_JN_LIST:
        return eval_list(x, node);
    case PHX_JN_DICT:
        return eval_dict(x, node);
    case PHX_JN_ATTR:
        return eval_attr(x, node);
    case PHX_JN_ITEM: {
        const phx_jv of = phx_jrun_eval(x, node->a);
        return phx_jrun_item(x, node->line, of, phx_jrun_eval(x, node->b));
    }
    case PHX_JN_SLICE:
        return eval_slice(x, node);
    case PHX_JN_CALL:
        return eval_call(x, node);
    case PHX_JN_FILTER:
        return eval_filter(x, node);
    case PHX_JN_TEST:
        return eval_test(x, node);
    case PHX_JN_NOT:
        return phx_jv_bool(!phx_jv_is_true(phx_jrun_eval(x, node->a)));
    case PHX_JN_NEGATE:
        return eval_negate(x, node);
    case PHX_JN_BINARY:
        return eval_binary(x, node);
    case PHX_JN_COMPARE:
        return eval_compare(x, node);
    case PHX_JN_AND:
    case PHX_JN_OR:
    case PHX_JN_IF_ELSE:
        return eval_choice(x, node);
    default:
        return phx_jrun_fail(x, node->line, PHX_ERR_INTERNAL, "node %d is no expression", (int)node->kind);
    }
}
