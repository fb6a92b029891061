/* coordinator/text/jinja_scope.c - the names of a rendering: scopes, one inside the other.
 * Few names are looked through, many have a table by their hash; looks past one count as work. */
#include "coordinator/text/jinja_run.h"

#define LOOKED_THROUGH_MAX 16u
#define LOOKS_PER_STEP     8u

phx_jframe *phx_jrun_push(phx_jrun *x, phx_jframe *parent)
{
    phx_jframe *frame = phx_jpool_take(x->pool, 1, sizeof(*frame));
    if (!frame) {
        (void)phx_jrun_step(x, 0, 0);
        return NULL;
    }
    frame->parent = parent;
    x->frame = frame;
    return frame;
}

/* The slot of a name, or the free one where it would be. */
static size_t slot_of(phx_jrun *x, const phx_jframe *f, phx_str name)
{
    size_t n_looks = 0;
    size_t at = phx_str_hash(name) & (f->n_slots - 1);
    while (f->slots[at] && !phx_str_eq(f->vars[f->slots[at] - 1].name, name)) {
        at = (at + 1) & (f->n_slots - 1);
        n_looks++;
    }
    x->n_steps += n_looks / LOOKS_PER_STEP;
    return at;
}

static phx_jvar *find_in(phx_jrun *x, const phx_jframe *f, phx_str name)
{
    if (f->slots) {
        const uint32_t idx = f->slots[slot_of(x, f, name)];
        return idx ? &f->vars[idx - 1] : NULL;
    }
    for (size_t i = 0; i < f->n; i++) {
        if (phx_str_eq(f->vars[i].name, name))
            return &f->vars[i];
    }
    return NULL;
}

const phx_jv *phx_jrun_find(phx_jrun *x, phx_str name)
{
    for (const phx_jframe *f = x->frame; f; f = f->parent) {
        const phx_jvar *var = find_in(x, f, name);
        if (var)
            return &var->value;
    }
    return NULL;
}

/* Room for twice as many names; past a few, a table that stays half empty. */
static bool grow(phx_jrun *x, phx_jframe *f)
{
    const size_t cap = f->cap ? f->cap * 2 : 4;
    const size_t n_slots = cap > LOOKED_THROUGH_MAX ? 2 * cap : 0;
    phx_jvar *grown = phx_jpool_take(x->pool, cap, sizeof(*grown));
    uint32_t *slots = n_slots ? phx_jpool_take(x->pool, n_slots, sizeof(*slots)) : NULL;
    if (!grown || (n_slots && !slots))
        return false; /* the pool's code is seen at the next step */
    if (f->n)
        memcpy(grown, f->vars, f->n * sizeof(*grown));
    f->vars = grown;
    f->cap = cap;
    f->slots = slots;
    f->n_slots = n_slots;
    for (size_t i = 0; slots && i < f->n; i++)
        slots[slot_of(x, f, grown[i].name)] = (uint32_t)i + 1;
    return true;
}

void phx_jrun_set(phx_jrun *x, phx_str name, phx_jv value)
{
    phx_jframe *f = x->frame;
    phx_jvar *var = find_in(x, f, name);
    if (var) {
        var->value = value;
        return;
    }
    if (f->n == f->cap && !grow(x, f))
        return;
    f->vars[f->n++] = (phx_jvar){name, value};
    if (f->slots)
        f->slots[slot_of(x, f, name)] = (uint32_t)f->n;
}
