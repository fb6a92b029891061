/* coordinator/text/jinja_parse.c - statements of a template into nodes.
 * Owns: what reading tokens takes, the bounds on nesting, which statements are known. Expressions are
 * jinja_expr.c. */
#include "coordinator/text/jinja_tree.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"

#define TREE_BYTES_MAX (64u << 20)

static phx_jnode *parse_body(phx_jparser *p, const char *const *ends);

/* ---- tokens and nodes ---- */

void phx_jparse_fail(phx_jparser *p, phx_code code, const char *format, ...)
{
    char text[256];
    va_list args;
    if (p->code != PHX_OK)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    p->code = PHX_FAIL(p->err, code, "template line %u: %s", p->tok->line, text);
}

phx_jnode *phx_jnode_new(phx_jparser *p, phx_jnode_kind kind, uint32_t line)
{
    if (p->code != PHX_OK)
        return NULL;
    phx_jnode *node = phx_jpool_take(p->pool, 1, sizeof(*node));
    if (!node) {
        phx_jparse_fail(p, p->pool->code, "the template is too large");
        return NULL;
    }
    *node = (phx_jnode){.kind = kind, .line = line, .depth = 1};
    return node;
}

void phx_jnode_done(phx_jparser *p, phx_jnode *node)
{
    phx_jnode *const lists[] = {node->a, node->b, node->c, node->d, node->e};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        for (const phx_jnode *child = lists[i]; child; child = child->next) {
            if (child->depth >= node->depth)
                node->depth = child->depth + 1;
        }
    }
    if (node->depth > PHX_JINJA_TREE_DEPTH_MAX)
        phx_jparse_fail(p, PHX_ERR_TOO_LONG, "nested deeper than %u levels", PHX_JINJA_TREE_DEPTH_MAX);
}

bool phx_jparse_enter(phx_jparser *p)
{
    if (p->depth == PHX_JINJA_DEPTH_MAX)
        phx_jparse_fail(p, PHX_ERR_TOO_LONG, "nested deeper than %u levels", PHX_JINJA_DEPTH_MAX);
    if (p->code != PHX_OK)
        return false;
    p->depth++;
    return true;
}

bool phx_jtok_is(const phx_jparser *p, phx_jtok_kind kind, const char *text)
{
    return p->tok->kind == kind && (!text || phx_str_is(p->tok->text, text));
}

bool phx_jtok_take(phx_jparser *p, phx_jtok_kind kind, const char *text)
{
    if (p->code != PHX_OK || !phx_jtok_is(p, kind, text))
        return false;
    p->tok++;
    return true;
}

void phx_jtok_expect(phx_jparser *p, phx_jtok_kind kind, const char *text)
{
    if (!phx_jtok_take(p, kind, text))
        phx_jparse_fail(p, PHX_ERR_CORRUPT, "expected '%s', found '%.*s'",
                        text                         ? text
                        : kind == PHX_JTOK_BLOCK_END ? "%}"
                                                     : "}}",
                        PHX_STR_ARG(p->tok->text));
}

phx_str phx_jtok_name(phx_jparser *p)
{
    const phx_str name = p->tok->text;
    if (p->code == PHX_OK && p->tok->kind != PHX_JTOK_NAME)
        phx_jparse_fail(p, PHX_ERR_CORRUPT, "expected a name, found '%.*s'", PHX_STR_ARG(name));
    if (p->code == PHX_OK)
        p->tok++;
    return name;
}

static bool take_name(phx_jparser *p, const char *name)
{
    return phx_jtok_take(p, PHX_JTOK_NAME, name);
}

static void end_tag(phx_jparser *p)
{
    phx_jtok_expect(p, PHX_JTOK_BLOCK_END, NULL);
}

/* ---- statements ---- */

/* Names separated by commas, with or without parentheses around. */
static phx_jnode *parse_targets(phx_jparser *p)
{
    phx_jnode *first = NULL;
    phx_jnode **last = &first;
    const bool wrapped = phx_jtok_take(p, PHX_JTOK_OP, "(");
    do {
        *last = phx_jnode_new(p, PHX_JN_NAME, p->tok->line);
        if (!*last)
            break;
        (*last)->name = phx_jtok_name(p);
        last = &(*last)->next;
    } while (phx_jtok_take(p, PHX_JTOK_OP, ","));
    if (wrapped)
        phx_jtok_expect(p, PHX_JTOK_OP, ")");
    return first;
}

static phx_jnode *parse_if(phx_jparser *p)
{
    static const char *const ends[] = {"endif", "elif", "else", NULL};
    phx_jnode *node = phx_jnode_new(p, PHX_JN_IF, p->tok->line);
    phx_jnode *last = NULL;
    bool is_else = false;
    for (bool more = true; more && p->code == PHX_OK;) {
        phx_jnode *branch = phx_jnode_new(p, PHX_JN_BRANCH, p->tok->line);
        if (!branch)
            break;
        branch->a = is_else ? NULL : phx_jparse_tuple(p);
        end_tag(p);
        branch->b = parse_body(p, ends);
        phx_jnode_done(p, branch);
        if (last)
            last->next = branch;
        else
            node->a = branch;
        last = branch;
        more = !take_name(p, "endif");
        if (more && is_else)
            phx_jparse_fail(p, PHX_ERR_CORRUPT, "'endif' is missing behind 'else'");
        is_else = more && take_name(p, "else");
        if (more && !is_else)
            (void)take_name(p, "elif");
    }
    end_tag(p);
    if (node)
        phx_jnode_done(p, node);
    return node;
}

static phx_jnode *parse_for(phx_jparser *p)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    phx_jnode *node = phx_jnode_new(p, PHX_JN_FOR, p->tok->line);
    if (!node)
        return NULL;
    node->a = parse_targets(p);
    if (!take_name(p, "in"))
        phx_jparse_fail(p, PHX_ERR_CORRUPT, "expected 'in' in a loop");
    node->b = phx_jparse_no_condition(p);
    if (take_name(p, "if"))
        node->e = phx_jparse_expr(p);
    if (take_name(p, "recursive"))
        phx_jparse_fail(p, PHX_ERR_UNSUPPORTED, "a recursive loop is not supported");
    end_tag(p);
    p->n_loops++;
    node->c = parse_body(p, ends);
    p->n_loops--;
    if (take_name(p, "else")) {
        end_tag(p);
        node->d = parse_body(p, (const char *const[]){"endfor", NULL});
    }
    (void)take_name(p, "endfor");
    end_tag(p);
    phx_jnode_done(p, node);
    return node;
}

static phx_jnode *parse_set_block(phx_jparser *p, phx_jnode *targets)
{
    static const char *const ends[] = {"endset", NULL};
    phx_jnode *node = phx_jnode_new(p, PHX_JN_SET_BLOCK, p->tok->line);
    if (!node || !targets)
        return NULL;
    if (targets->next)
        phx_jparse_fail(p, PHX_ERR_CORRUPT, "a set block has one name");
    node->name = targets->name;
    end_tag(p);
    node->a = parse_body(p, ends);
    (void)take_name(p, "endset");
    end_tag(p);
    phx_jnode_done(p, node);
    return node;
}

static phx_jnode *parse_set(phx_jparser *p)
{
    const uint32_t line = p->tok->line;
    phx_jnode *targets = parse_targets(p);
    phx_str attribute = {NULL, 0};
    if (phx_jtok_take(p, PHX_JTOK_OP, "."))
        attribute = phx_jtok_name(p);
    else if (phx_jtok_is(p, PHX_JTOK_BLOCK_END, NULL))
        return parse_set_block(p, targets);
    phx_jtok_expect(p, PHX_JTOK_OP, "=");
    phx_jnode *node = phx_jnode_new(p, attribute.ptr ? PHX_JN_SET_ATTR : PHX_JN_SET, line);
    if (!node)
        return NULL;
    if (attribute.ptr && targets->next)
        phx_jparse_fail(p, PHX_ERR_UNSUPPORTED, "one attribute at a time can be set");
    node->a = targets;
    node->name = attribute;
    node->b = phx_jparse_tuple(p);
    end_tag(p);
    phx_jnode_done(p, node);
    return node;
}

static phx_jnode *parse_parameters(phx_jparser *p)
{
    phx_jnode *first = NULL;
    phx_jnode **last = &first;
    phx_jtok_expect(p, PHX_JTOK_OP, "(");
    while (p->code == PHX_OK && !phx_jtok_is(p, PHX_JTOK_OP, ")")) {
        phx_jnode *parameter = phx_jnode_new(p, PHX_JN_NAME, p->tok->line);
        if (!parameter)
            break;
        parameter->name = phx_jtok_name(p);
        if (phx_jtok_take(p, PHX_JTOK_OP, "=")) {
            parameter->kind = PHX_JN_KEYWORD;
            parameter->a = phx_jparse_expr(p);
            phx_jnode_done(p, parameter);
        }
        *last = parameter;
        last = &parameter->next;
        if (!phx_jtok_take(p, PHX_JTOK_OP, ","))
            break;
    }
    phx_jtok_expect(p, PHX_JTOK_OP, ")");
    return first;
}

static phx_jnode *parse_macro(phx_jparser *p)
{
    static const char *const ends[] = {"endmacro", NULL};
    phx_jnode *node = phx_jnode_new(p, PHX_JN_MACRO, p->tok->line);
    const uint32_t n_loops = p->n_loops;
    if (!node)
        return NULL;
    node->name = phx_jtok_name(p);
    node->a = parse_parameters(p);
    end_tag(p);
    p->n_loops = 0; /* a break does not leave a macro */
    node->b = parse_body(p, ends);
    p->n_loops = n_loops;
    (void)take_name(p, "endmacro");
    if (p->code == PHX_OK && p->tok->kind == PHX_JTOK_NAME)
        p->tok++; /* its name again */
    end_tag(p);
    phx_jnode_done(p, node);
    return node;
}

static phx_jnode *parse_jump(phx_jparser *p, phx_jnode_kind kind)
{
    phx_jnode *node = phx_jnode_new(p, kind, p->tok->line);
    if (p->n_loops == 0)
        phx_jparse_fail(p, PHX_ERR_CORRUPT, "break or continue outside of a loop");
    end_tag(p);
    return node;
}

static phx_jnode *parse_statement(phx_jparser *p)
{
    if (take_name(p, "if"))
        return parse_if(p);
    if (take_name(p, "for"))
        return parse_for(p);
    if (take_name(p, "set"))
        return parse_set(p);
    if (take_name(p, "macro"))
        return parse_macro(p);
    if (take_name(p, "break"))
        return parse_jump(p, PHX_JN_BREAK);
    if (take_name(p, "continue"))
        return parse_jump(p, PHX_JN_CONTINUE);
    phx_jparse_fail(p, PHX_ERR_UNSUPPORTED, "statement '%.*s' is not known", PHX_STR_ARG(p->tok->text));
    return NULL;
}

static phx_jnode *parse_output(phx_jparser *p)
{
    phx_jnode *node = phx_jnode_new(p, PHX_JN_OUTPUT, p->tok->line);
    if (!node)
        return NULL;
    node->a = phx_jparse_tuple(p);
    phx_jtok_expect(p, PHX_JTOK_VAR_END, NULL);
    phx_jnode_done(p, node);
    return node;
}

static phx_jnode *parse_text(phx_jparser *p)
{
    phx_jnode *node = phx_jnode_new(p, PHX_JN_TEXT, p->tok->line);
    if (node)
        node->value = phx_jv_str(p->tok->text, false);
    p->tok++;
    return node;
}

/* Does one of these statements stand behind the opening that is next? */
static bool at_end(const phx_jparser *p, const char *const *ends)
{
    for (; *ends; ends++) {
        if (p->tok[1].kind == PHX_JTOK_NAME && phx_str_is(p->tok[1].text, *ends))
            return true;
    }
    return false;
}

/* Nodes up to one of the statements, whose opening is taken; an empty list: up to the end of the template.
 * The first of ends is the one that must come at last: it is named when none does. */
static phx_jnode *parse_body(phx_jparser *p, const char *const *ends)
{
    phx_jnode *first = NULL;
    phx_jnode **last = &first;
    if (!phx_jparse_enter(p))
        return NULL;
    while (p->code == PHX_OK) {
        phx_jnode *node = NULL;
        if (p->tok->kind == PHX_JTOK_END) {
            if (*ends)
                phx_jparse_fail(p, PHX_ERR_CORRUPT, "'%s' is missing at the end", ends[0]);
            break;
        }
        if (p->tok->kind == PHX_JTOK_DATA) {
            node = parse_text(p);
        } else if (phx_jtok_take(p, PHX_JTOK_VAR_BEGIN, NULL)) {
            node = parse_output(p);
        } else if (at_end(p, ends)) {
            p->tok++;
            break;
        } else {
            phx_jtok_expect(p, PHX_JTOK_BLOCK_BEGIN, NULL);
            node = parse_statement(p);
        }
        if (node) {
            *last = node;
            last = &node->next;
        }
    }
    p->depth--;
    return first;
}

/* ---- the whole ---- */

/* Jinja reads all line ends as \n and drops one at the end. */
static phx_code copy_text(phx_jinja *template, phx_str text, phx_str *ret_text, phx_error *err)
{
    size_t n = 0;
    template->text = phx_alloc(text.n + 1, 1);
    if (!template->text)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "a template of %zu bytes", text.n);
    for (size_t i = 0; i < text.n; i++) {
        const bool is_cr = text.ptr[i] == '\r';
        template->text[n++] = is_cr ? '\n' : text.ptr[i];
        i += is_cr && i + 1 < text.n && text.ptr[i + 1] == '\n';
    }
    n -= n > 0 && template->text[n - 1] == '\n';
    *ret_text = (phx_str){template->text, n};
    return PHX_OK;
}

phx_code phx_jinja_parse(phx_str text, phx_jinja **ret_template, phx_error *err)
{
    static const char *const no_ends[] = {NULL};
    phx_code rc = PHX_OK;
    phx_str source = {"", 0};
    phx_jtoks toks = {0};
    phx_jinja *t = NULL;
    if (text.n > PHX_JINJA_TEMPLATE_BYTES_MAX) {
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "a chat template of %zu bytes, the limit is %u", text.n,
                      PHX_JINJA_TEMPLATE_BYTES_MAX);
        goto out;
    }
    if (!phx_utf8_valid(text.ptr, text.n)) {
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "the chat template is not valid UTF-8");
        goto out;
    }
    t = phx_alloc(1, sizeof(*t));
    if (!t) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "a template");
        goto out;
    }
    phx_jpool_init(&t->pool, TREE_BYTES_MAX);
    rc = copy_text(t, text, &source, err);
    if (rc == PHX_OK)
        rc = phx_jinja_lex(source, &t->pool, &toks, err);
    if (rc != PHX_OK)
        goto out;
    phx_jparser parser = {.pool = &t->pool, .tok = toks.items, .err = err};
    t->body = parse_body(&parser, no_ends);
    if (parser.code == PHX_OK && t->pool.code != PHX_OK)
        phx_jparse_fail(&parser, t->pool.code, "the template is too large");
    rc = parser.code;
    if (rc != PHX_OK)
        goto out;
    t->takes_parts = phx_jinja_loops_over_content(t->body);
    *ret_template = t;
    t = NULL;
out:
    phx_free(toks.items);
    phx_jinja_destroy(t);
    return rc;
}

void phx_jinja_destroy(phx_jinja *template)
{
    if (!template)
        return;
    phx_jpool_done(&template->pool);
    phx_free(template->text);
    phx_free(template);
}

bool phx_jinja_takes_parts(const phx_jinja *template)
{
    return template->takes_parts;
}

bool phx_jinja_mentions(const phx_jinja *template, const char *name)
{
    return strstr(template->text, name) != NULL;
}
