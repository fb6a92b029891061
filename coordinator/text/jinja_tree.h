/* coordinator/text/jinja_tree.h - a parsed template: tokens, nodes, and the names of what a node can call.
 * For the files jinja*.c only. */
#ifndef PHX_COORDINATOR_TEXT_JINJA_TREE_H
#define PHX_COORDINATOR_TEXT_JINJA_TREE_H

#include "coordinator/text/jinja.h"

/* ---- tokens (jinja_lex.c) ---- */

typedef enum phx_jtok_kind {
    PHX_JTOK_DATA,        /* text between tags, white space already trimmed */
    PHX_JTOK_VAR_BEGIN,   /* {{ */
    PHX_JTOK_VAR_END,     /* }} */
    PHX_JTOK_BLOCK_BEGIN, /* {% */
    PHX_JTOK_BLOCK_END,   /* %} */
    PHX_JTOK_NAME,
    PHX_JTOK_INT,
    PHX_JTOK_FLOAT,
    PHX_JTOK_STRING, /* escapes undone */
    PHX_JTOK_OP,
    PHX_JTOK_END
} phx_jtok_kind;

typedef struct phx_jtok {
    phx_jtok_kind kind;
    uint32_t line;
    phx_str text;
} phx_jtok;

typedef struct phx_jtoks {
    phx_jtok *items; /* [n], the last is END; phx_free */
    size_t n;
    size_t cap;
} phx_jtoks;

/* Texts lie in the template or in pool. */
phx_code phx_jinja_lex(phx_str text, phx_jpool *pool, phx_jtoks *toks, phx_error *err);

/* ---- nodes ---- */

typedef enum phx_jnode_kind {
    /* expressions */
    PHX_JN_LITERAL,      /* value */
    PHX_JN_NAME,         /* name */
    PHX_JN_LIST,         /* a: items */
    PHX_JN_DICT,         /* a: key, value, key, value ... */
    PHX_JN_ATTR,         /* a.name */
    PHX_JN_ITEM,         /* a[b] */
    PHX_JN_SLICE,        /* a[b:c:d], each may be NULL */
    PHX_JN_CALL,         /* a(b: arguments) */
    PHX_JN_FILTER,       /* a | op(b: arguments) */
    PHX_JN_TEST,         /* a is op(b: arguments) */
    PHX_JN_NOT,          /* not a */
    PHX_JN_NEGATE,       /* -a */
    PHX_JN_BINARY,       /* a op b */
    PHX_JN_COMPARE,      /* a, then b: list of PHX_JN_COMPARE_STEP */
    PHX_JN_COMPARE_STEP, /* op a */
    PHX_JN_AND,
    PHX_JN_OR,
    PHX_JN_IF_ELSE, /* a if b else c (may be NULL) */
    PHX_JN_KEYWORD, /* an argument: name = a */
    /* statements */
    PHX_JN_TEXT,      /* value */
    PHX_JN_OUTPUT,    /* {{ a }} */
    PHX_JN_IF,        /* a: list of PHX_JN_BRANCH */
    PHX_JN_BRANCH,    /* a: condition or NULL for else; b: body */
    PHX_JN_FOR,       /* a: target names; b: iterable; c: body; d: else; e: condition */
    PHX_JN_SET,       /* a: target names; b: expression */
    PHX_JN_SET_ATTR,  /* a.name = b; a: a name */
    PHX_JN_SET_BLOCK, /* name; a: body */
    PHX_JN_MACRO,     /* name; a: list of parameters (NAME or KEYWORD with default); b: body */
    PHX_JN_BREAK,
    PHX_JN_CONTINUE
} phx_jnode_kind;

typedef struct phx_jnode phx_jnode;
struct phx_jnode {
    phx_jnode_kind kind;
    uint32_t line;
    uint32_t depth; /* levels below, itself included */
    int op;
    phx_str name;
    phx_jv value;
    phx_jnode *a, *b, *c, *d, *e;
    phx_jnode *next; /* in a list */
};

struct phx_jinja {
    phx_jpool pool;
    char *text; /* the source, line ends made \n */
    phx_jnode *body;
    bool takes_parts;
};

/* See phx_jinja_takes_parts; body: a whole template (jinja_content.c). */
bool phx_jinja_loops_over_content(const phx_jnode *body);

/* Recursion follows the template's nesting, so both are bounded. */
#define PHX_JINJA_TREE_DEPTH_MAX (2 * PHX_JINJA_DEPTH_MAX)
#define PHX_JINJA_CALL_DEPTH_MAX 16u

typedef enum phx_jop {
    PHX_JOP_ADD,
    PHX_JOP_SUB,
    PHX_JOP_MUL,
    PHX_JOP_DIV,
    PHX_JOP_FLOOR_DIV,
    PHX_JOP_MOD,
    PHX_JOP_CONCAT,
    PHX_JOP_EQ,
    PHX_JOP_NE,
    PHX_JOP_LT,
    PHX_JOP_LE,
    PHX_JOP_GT,
    PHX_JOP_GE,
    PHX_JOP_IN,
    PHX_JOP_NOT_IN
} phx_jop;

/* ---- the parser's own (jinja_parse.c, jinja_expr.c) ---- */

typedef struct phx_jparser {
    phx_jpool *pool;
    const phx_jtok *tok;
    phx_error *err;
    phx_code code; /* latched; then every node is NULL */
    uint32_t depth;
    uint32_t n_loops; /* around */
} phx_jparser;

phx_jnode *phx_jnode_new(phx_jparser *p, phx_jnode_kind kind, uint32_t line);
void phx_jnode_done(phx_jparser *p, phx_jnode *node); /* once its children are set */
void phx_jparse_fail(phx_jparser *p, phx_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool phx_jparse_enter(phx_jparser *p); /* one level deeper; false past the limit */
bool phx_jtok_is(const phx_jparser *p, phx_jtok_kind kind, const char *text);
bool phx_jtok_take(phx_jparser *p, phx_jtok_kind kind, const char *text); /* if it is there */
void phx_jtok_expect(phx_jparser *p, phx_jtok_kind kind, const char *text);
phx_str phx_jtok_name(phx_jparser *p); /* a name must stand here */

/* One expression; NULL after a failure. phx_jparse_tuple: also "a, b" as a list. */
phx_jnode *phx_jparse_expr(phx_jparser *p);
phx_jnode *phx_jparse_tuple(phx_jparser *p);
phx_jnode *phx_jparse_no_condition(phx_jparser *p); /* without "x if y else z": the iterable of a loop */

/* Ids of filters, tests and functions, or -1 (jinja_filter.c, jinja_test.c, jinja_call.c). */
int phx_jfilter_find(phx_str name);
int phx_jtest_find(phx_str name);
int phx_jfunction_find(phx_str name);

#endif
