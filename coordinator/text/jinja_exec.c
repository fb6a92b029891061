/* coordinator/text/jinja_exec.c - statements, macros and the rendering as a whole. */
#include "coordinator/text/jinja_run.h"

static const phx_jv nothing = {.kind = PHX_JV_UNDEFINED, .u.s = {"", NULL, 0}};

void phx_jinja_out_init(phx_jinja_out *out, size_t n_max)
{
    phx_buf_init(&out->text, n_max);
    phx_buf_init(&out->mask, n_max);
    out->n_steps = 0;
    out->over_bounds = false;
}

void phx_jinja_out_done(phx_jinja_out *out)
{
    phx_buf_done(&out->text);
    phx_buf_done(&out->mask);
}

static void write_text(phx_jrun *x, uint32_t line, phx_jv text)
{
    if (x->code != PHX_OK || text.kind != PHX_JV_STR)
        return;
    phx_jtext_write(text, &x->out->text, &x->out->mask);
    const phx_code rc = x->out->text.code != PHX_OK ? x->out->text.code : x->out->mask.code;
    x->is_full = rc == PHX_ERR_TOO_LONG;
    if (rc != PHX_OK)
        (void)phx_jrun_fail(x, line, rc, "messages: the prompt would be longer than %zu bytes",
                            x->out->text.n_max);
}

/* ---- loops ---- */

/* Gives the names of a loop or of a set their values. */
static void assign(phx_jrun *x, const phx_jnode *targets, phx_jv value)
{
    if (!targets->next) {
        phx_jrun_set(x, targets->name, value);
        return;
    }
    const phx_jlist *items = phx_jrun_items(x, targets->line, value);
    size_t n = 0;
    for (const phx_jnode *t = targets; t; t = t->next)
        n++;
    if (items && items->n != n)
        (void)phx_jrun_fail(x, targets->line, PHX_ERR_INVALID, "%zu values for %zu names", items->n, n);
    if (x->code != PHX_OK || !items)
        return;
    n = 0;
    for (const phx_jnode *t = targets; t && phx_jrun_step(x, t->line, t->name.n); t = t->next)
        phx_jrun_set(x, t->name, items->items[n++]);
}

/* Those items for which the loop's condition holds. */
static const phx_jlist *pick_items(phx_jrun *x, const phx_jnode *node, const phx_jlist *all)
{
    phx_jframe *const outer = x->frame;
    const phx_jv picked = phx_jv_list(x->pool, all->n);
    size_t n = 0;
    for (size_t i = 0; i < all->n && phx_jrun_step(x, node->line, 0) && phx_jrun_push(x, outer); i++) {
        assign(x, node->a, all->items[i]);
        if (phx_jv_is_true(phx_jrun_eval(x, node->e)))
            picked.u.list->items[n++] = all->items[i];
    }
    x->frame = outer;
    if (x->code != PHX_OK || picked.kind != PHX_JV_LIST)
        return NULL;
    picked.u.list->n = n;
    return picked.u.list;
}

static void run_for(phx_jrun *x, const phx_jnode *node)
{
    phx_jframe *const outer = x->frame;
    const phx_jv over = phx_jrun_eval(x, node->b);
    const phx_jlist *items = x->code == PHX_OK ? phx_jrun_items(x, node->line, over) : NULL;
    if (items && node->e)
        items = pick_items(x, node, items);
    if (!items)
        return;
    phx_jloop *loop = NULL;
    for (size_t i = 0; i < items->n && phx_jrun_step(x, node->line, 0) && phx_jrun_push(x, outer); i++) {
        loop = phx_jpool_take(x->pool, 1, sizeof(*loop)); /* one each: a round's value may be kept */
        if (!loop)
            break;
        *loop = (phx_jloop){items, i};
        phx_jrun_set(x, phx_str_of("loop"), (phx_jv){.kind = PHX_JV_LOOP, .u.loop = loop});
        assign(x, node->a, items->items[i]);
        phx_jrun_body(x, node->c);
        const bool stops = x->flow == PHX_JFLOW_BREAK;
        x->flow = PHX_JFLOW_ON;
        if (stops)
            break;
    }
    x->frame = outer;
    if (items->n == 0)
        phx_jrun_body(x, node->d);
}

/* ---- other statements ---- */

static void run_if(phx_jrun *x, const phx_jnode *node)
{
    for (const phx_jnode *branch = node->a; branch && x->code == PHX_OK; branch = branch->next) {
        if (branch->a && !phx_jv_is_true(phx_jrun_eval(x, branch->a)))
            continue;
        phx_jrun_body(x, branch->b);
        return;
    }
}

static void run_set_attr(phx_jrun *x, const phx_jnode *node)
{
    const phx_jv of = phx_jrun_eval(x, node->a);
    const phx_jv value = phx_jrun_eval(x, node->b);
    if (x->code == PHX_OK && of.kind != PHX_JV_NAMESPACE)
        (void)phx_jrun_fail(x, node->line, PHX_ERR_INVALID,
                            "only attributes of a namespace can be set, not of %s", phx_jv_kind_name(of));
    if (x->code == PHX_OK && phx_jrun_step(x, node->line, of.u.dict->n * PHX_JV_LOOKUP_BYTES))
        phx_jv_set(x->pool, of, phx_jv_str(node->name, false), value);
}

static void run_macro(phx_jrun *x, const phx_jnode *node)
{
    phx_jmacro *macro = phx_jpool_take(x->pool, 1, sizeof(*macro));
    if (!macro)
        return;
    *macro = (phx_jmacro){node, x->frame};
    phx_jrun_set(x, node->name, (phx_jv){.kind = PHX_JV_MACRO, .u.macro = macro});
}

static void run_statement(phx_jrun *x, const phx_jnode *node)
{
    switch (node->kind) {
    case PHX_JN_TEXT:
        write_text(x, node->line, node->value);
        return;
    case PHX_JN_OUTPUT:
        write_text(x, node->line, phx_jrun_text(x, node->line, phx_jrun_eval(x, node->a)));
        return;
    case PHX_JN_IF:
        run_if(x, node);
        return;
    case PHX_JN_FOR:
        run_for(x, node);
        return;
    case PHX_JN_SET:
        assign(x, node->a, phx_jrun_eval(x, node->b));
        return;
    case PHX_JN_SET_ATTR:
        run_set_attr(x, node);
        return;
    case PHX_JN_SET_BLOCK:
        phx_jrun_set(x, node->name, phx_jrun_capture(x, node->a));
        return;
    case PHX_JN_MACRO:
        run_macro(x, node);
        return;
    case PHX_JN_BREAK:
        x->flow = PHX_JFLOW_BREAK;
        return;
    case PHX_JN_CONTINUE:
        x->flow = PHX_JFLOW_CONTINUE;
        return;
    default:
        (void)phx_jrun_fail(x, node->line, PHX_ERR_INTERNAL, "node %d is no statement", (int)node->kind);
    }
}

void phx_jrun_body(phx_jrun *x, const phx_jnode *list)
{
    for (const phx_jnode *node = list; node && x->flow == PHX_JFLOW_ON; node = node->next) {
        if (!phx_jrun_step(x, node->line, 0))
            return;
        run_statement(x, node);
    }
}

phx_jv phx_jrun_capture(phx_jrun *x, const phx_jnode *list)
{
    phx_jinja_out *const outer = x->out;
    phx_jinja_out inner;
    phx_jv text = nothing;
    phx_jinja_out_init(&inner, outer->text.n_max);
    x->out = &inner;
    phx_jrun_body(x, list);
    x->out = outer;
    const uint8_t *mask = (const uint8_t *)inner.mask.ptr;
    const size_t n = inner.text.n;
    if (x->code == PHX_OK && phx_jrun_step(x, list ? list->line : 0, n)) {
        const bool is_data = n && mask[0];
        const bool mixed = n && memchr(mask, !is_data, n);
        const phx_jv borrowed = {
            .kind = PHX_JV_STR, .is_data = is_data, .u.s = {inner.text.ptr, mixed ? mask : NULL, n}};
        text = phx_jv_concat(x->pool, &borrowed, 1);
    }
    phx_jinja_out_done(&inner);
    return text;
}

/* ---- calls of macros ---- */

static void bind_parameters(phx_jrun *x, const phx_jnode *macro, phx_jargs *args)
{
    size_t idx = 0;
    for (const phx_jnode *p = macro->a; p && phx_jrun_step(x, p->line, p->name.n); p = p->next, idx++) {
        char name[128];
        if (!phx_str_copy(name, sizeof(name), p->name)) {
            (void)phx_jrun_fail(x, p->line, PHX_ERR_UNSUPPORTED, "a parameter's name of %zu bytes",
                                p->name.n);
            return;
        }
        const phx_jv *given = phx_jarg(args, idx, name);
        if (given)
            phx_jrun_set(x, p->name, *given);
        else
            phx_jrun_set(x, p->name, p->a ? phx_jrun_eval(x, p->a) : phx_jv_undefined(p->name));
    }
}

phx_jv phx_jmacro_call(phx_jrun *x, const phx_jmacro *macro, phx_jargs *args)
{
    phx_jframe *const outer = x->frame;
    phx_jv text = nothing;
    if (x->n_calls == PHX_JINJA_CALL_DEPTH_MAX)
        return phx_jrun_fail(x, args->line, PHX_ERR_TOO_LONG, "macros call each other deeper than %u times",
                             PHX_JINJA_CALL_DEPTH_MAX);
    x->n_calls++;
    if (phx_jrun_push(x, macro->scope)) {
        bind_parameters(x, macro->node, args);
        text = phx_jrun_capture(x, macro->node->b);
    }
    x->n_calls--;
    x->frame = outer;
    return text;
}

phx_code phx_jinja_render(const phx_jinja *template, const phx_jinja_inputs *inputs, phx_jinja_out *out,
                          phx_error *err)
{
    phx_jrun run = {.pool = inputs->pool,
                    .inputs = inputs->names,
                    .now_s = inputs->now_s,
                    .out = out,
                    .err = err,
                    .stop = inputs->stop};
    if (phx_jrun_push(&run, NULL))
        phx_jrun_body(&run, template->body);
    (void)phx_jrun_step(&run, 0, 0); /* the pool may have run out at the very end */
    out->n_steps = run.n_steps;
    out->over_bounds = run.code == PHX_ERR_TOO_LONG && !run.is_full;
    return run.code;
}
