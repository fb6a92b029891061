/* coordinator/text/jinja_run.h - the state of one rendering, and what evaluating shares.
 * For the files jinja*.c only. After a failure (code) every value is undefined and every loop ends. */
#ifndef PHX_COORDINATOR_TEXT_JINJA_RUN_H
#define PHX_COORDINATOR_TEXT_JINJA_RUN_H

#include "coordinator/text/jinja_tree.h"

typedef struct phx_jvar {
    phx_str name;
    phx_jv value;
} phx_jvar;

/* Names of one scope: the template, a round of a loop, a call of a macro. */
typedef struct phx_jframe phx_jframe;
struct phx_jframe {
    phx_jframe *parent;
    phx_jvar *vars;
    size_t n;
    size_t cap;
    /* [n_slots], by the hash of a name: 1 + its index, 0 for none; NULL while vars are few */
    uint32_t *slots;
    size_t n_slots; /* a power of two */
};

struct phx_jmacro {
    const phx_jnode *node;
    phx_jframe *scope;
};

typedef enum phx_jflow { PHX_JFLOW_ON, PHX_JFLOW_BREAK, PHX_JFLOW_CONTINUE } phx_jflow;

typedef struct phx_jrun {
    phx_jpool *pool;
    phx_jv inputs;
    int64_t now_s;
    phx_jinja_out *out;
    phx_jframe *frame;
    phx_error *err;
    phx_code code; /* latched */
    phx_jflow flow;
    const atomic_bool *stop; /* or NULL */
    uint64_t n_steps;
    uint32_t n_calls; /* of macros inside each other */
    bool is_full;     /* it failed by the prompt's length, which is the conversation's doing */
} phx_jrun;

#define PHX_JARGS_MAX 8u

/* Arguments of a call, filter or test. `used` marks those that were asked for: the others are errors. */
typedef struct phx_jargs {
    uint32_t line;
    size_t n;       /* all */
    size_t n_plain; /* the first ones, without name */
    phx_jv values[PHX_JARGS_MAX];
    phx_str names[PHX_JARGS_MAX];
    bool used[PHX_JARGS_MAX];
} phx_jargs;

phx_jv phx_jrun_fail(phx_jrun *x, uint32_t line, phx_code code, const char *format, ...)
    __attribute__((format(printf, 4, 5))); /* undefined */

/* Counts work on n_bytes of text, or none; false once the bounds are reached, or when it is to stop. Whatever
 * takes time in proportion to something counts it here: the bound is what ends a template that is at fault.
 */
bool phx_jrun_step(phx_jrun *x, uint32_t line, size_t n_bytes);
phx_jtick phx_jrun_tick(phx_jrun *x, uint32_t line); /* the same, for what knows no rendering */
bool phx_jrun_equal(phx_jrun *x, uint32_t line, phx_jv a, phx_jv b);
const phx_jv *phx_jrun_get(phx_jrun *x, uint32_t line, phx_jv dict, phx_str key); /* phx_jv_get, counted */

phx_jv phx_jrun_eval(phx_jrun *x, const phx_jnode *node);
void phx_jrun_args(phx_jrun *x, const phx_jnode *list, uint32_t line, phx_jargs *args);
void phx_jrun_check_args(phx_jrun *x, const phx_jargs *args);
const phx_jv *phx_jarg(phx_jargs *args, size_t idx, const char *name); /* NULL: not given */
bool phx_jarg_true(phx_jargs *args, size_t idx, const char *name, bool missing);

/* A text; fails for a value without one. */
phx_jv phx_jrun_text(phx_jrun *x, uint32_t line, phx_jv value);

/* What a loop goes over: items of a list, keys of a mapping, characters of a text, nothing of undefined.
 * Fails for any other value. NULL after a failure. */
const phx_jlist *phx_jrun_items(phx_jrun *x, uint32_t line, phx_jv value);

phx_jv phx_jrun_item(phx_jrun *x, uint32_t line, phx_jv of, phx_jv index); /* of[index] */
bool phx_jrun_contains(phx_jrun *x, uint32_t line, phx_jv in, phx_jv item);

/* Names (jinja_scope.c). */
void phx_jrun_set(phx_jrun *x, phx_str name, phx_jv value); /* in the innermost scope */
const phx_jv *phx_jrun_find(phx_jrun *x, phx_str name);     /* in all scopes; NULL: in none */
phx_jframe *phx_jrun_push(phx_jrun *x, phx_jframe *parent); /* the new innermost; NULL after a failure */

void phx_jrun_body(phx_jrun *x, const phx_jnode *list);      /* statements */
phx_jv phx_jrun_capture(phx_jrun *x, const phx_jnode *list); /* their output as a text */

/* What tables name. */
phx_jv phx_jfilter_call(phx_jrun *x, int which, phx_jv value, phx_jargs *args);
bool phx_jtest_call(phx_jrun *x, int which, phx_jv value, phx_jargs *args);
phx_jv phx_jfunction_call(phx_jrun *x, int which, phx_jargs *args);
phx_jv phx_jmacro_call(phx_jrun *x, const phx_jmacro *macro, phx_jargs *args);
phx_jv phx_jmethod_call(phx_jrun *x, const phx_jmethod *method, phx_jargs *args);
int phx_jmethod_find(phx_jv self, phx_str name); /* -1: none */

phx_jv phx_jtime_now(phx_jrun *x, phx_jargs *args); /* strftime_now (jinja_time.c) */

/* Shared by filters and methods (jinja_text.c). */
typedef enum phx_jside { PHX_JSIDE_LEFT = 1, PHX_JSIDE_RIGHT = 2, PHX_JSIDE_BOTH = 3 } phx_jside;
phx_jv phx_jtext_strip(phx_jrun *x, uint32_t line, phx_jv text, const phx_jv *chars,
                       phx_jside side); /* chars NULL: white space */
phx_jv phx_jtext_replace(phx_jrun *x, phx_jv text, phx_jargs *args);
typedef enum phx_jcase { PHX_JCASE_UPPER, PHX_JCASE_LOWER, PHX_JCASE_CAPITALIZE, PHX_JCASE_TITLE } phx_jcase;
phx_jv phx_jtext_case(phx_jrun *x, uint32_t line, phx_jv text, phx_jcase how);
phx_jv phx_jtext_split(phx_jrun *x, phx_jv text, phx_jargs *args);
phx_jv phx_jtext_join(phx_jrun *x, uint32_t line, phx_jv separator, const phx_jlist *list);
phx_jv phx_jtext_slice(phx_jv text, size_t first, size_t end); /* in characters */
phx_jv phx_jdict_items(phx_jrun *x, phx_jv dict);

#endif
