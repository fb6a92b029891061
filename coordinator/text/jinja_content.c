/* coordinator/text/jinja_content.c - does a template go over the parts of a message's content?
 * Owns: the search for such a loop. Recursion follows the tree (PHX_JINJA_TREE_DEPTH_MAX). */
#include "coordinator/text/jinja_tree.h"

#define CONTENT   "content"
#define NAMES_MAX 32u

/* Names that stand for the content of a message where the search is; past the bound none is added. */
typedef struct scan {
    phx_str names[NAMES_MAX];
    size_t n;
    bool found;
} scan;

static bool is_literal(const phx_jnode *node)
{
    return node && node->kind == PHX_JN_LITERAL && node->value.kind == PHX_JV_STR &&
           phx_str_is(phx_jv_text(node->value), CONTENT);
}

static bool is_get(const phx_jnode *callee)
{
    return callee->kind == PHX_JN_ATTR && phx_str_is(callee->name, "get");
}

static size_t find_name(const scan *s, phx_str name)
{
    size_t i = 0;
    while (i < s->n && !phx_str_eq(s->names[i], name))
        i++;
    return i;
}

/* message.content in any spelling, a name for it, what filters and defaults make of it. */
static bool is_content(const scan *s, const phx_jnode *node)
{
    while (node) {
        switch (node->kind) {
        case PHX_JN_NAME:
            return find_name(s, node->name) < s->n;
        case PHX_JN_ATTR:
            return phx_str_is(node->name, CONTENT);
        case PHX_JN_ITEM:
            return is_literal(node->b);
        case PHX_JN_CALL:
            return is_get(node->a) && is_literal(node->b);
        case PHX_JN_SLICE:
        case PHX_JN_FILTER:
        case PHX_JN_OR:
        case PHX_JN_IF_ELSE:
            node = node->a;
            break;
        default:
            return false;
        }
    }
    return false;
}

static void note_name(scan *s, phx_str name, bool stands_for_content)
{
    const size_t at = find_name(s, name);
    if (stands_for_content && at == s->n && s->n < NAMES_MAX)
        s->names[s->n++] = name;
    else if (!stands_for_content && at < s->n)
        s->names[at] = s->names[--s->n];
}

static void visit(scan *s, const phx_jnode *node)
{
    if (node->kind == PHX_JN_FOR)
        s->found = s->found || is_content(s, node->b);
    else if (node->kind == PHX_JN_SET && node->a && !node->a->next)
        note_name(s, node->a->name, is_content(s, node->b));
    if (node->kind != PHX_JN_MACRO)
        return;
    for (const phx_jnode *parameter = node->a; parameter; parameter = parameter->next) {
        if (phx_str_is(parameter->name, CONTENT))
            note_name(s, parameter->name, true);
    }
}

static void walk(scan *s, const phx_jnode *list)
{
    for (const phx_jnode *node = list; node && !s->found; node = node->next) {
        visit(s, node);
        const phx_jnode *const children[] = {node->a, node->b, node->c, node->d, node->e};
        for (size_t i = 0; i < sizeof(children) / sizeof(children[0]); i++)
            walk(s, children[i]);
    }
}

bool phx_jinja_loops_over_content(const phx_jnode *body)
{
    scan s = {.n = 0};
    walk(&s, body);
    return s.found;
}
