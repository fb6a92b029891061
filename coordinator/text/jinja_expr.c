/* coordinator/text/jinja_expr.c - expressions of a template into nodes, by recursive descent.
 * Owns: precedence. Every level goes through phx_jparse_enter, so the recursion is bounded.
 * Not here: statements (jinja_parse.c). */
#include "coordinator/text/jinja_tree.h"

#define OP PHX_JTOK_OP

static bool take_name(phx_jparser *p, const char *name)
{
    return phx_jtok_take(p, PHX_JTOK_NAME, name);
}

static phx_jnode *pair(phx_jparser *p, phx_jnode_kind kind, uint32_t line, phx_jnode *a, phx_jnode *b)
{
    phx_jnode *node = phx_jnode_new(p, kind, line);
    if (node) {
        node->a = a;
        node->b = b;
        phx_jnode_done(p, node);
    }
    return node;
}

static phx_jnode *parse_literal(phx_jparser *p, phx_jv value)
{
    phx_jnode *node = phx_jnode_new(p, PHX_JN_LITERAL, p->tok->line);
    if (node)
        node->value = value;
    p->tok++;
    return node;
}

static phx_jnode *parse_string(phx_jparser *p)
{
    phx_jv text = phx_jv_str(p->tok->text, false);
    while (p->tok[1].kind == PHX_JTOK_STRING && p->pool->code == PHX_OK) { /* "a" "b" is one text */
        p->tok++;
        text = phx_jv_concat(p->pool, (const phx_jv[]){text, phx_jv_str(p->tok->text, false)}, 2);
    }
    return parse_literal(p, text);
}

static phx_jnode *parse_number(phx_jparser *p)
{
    int64_t integer = 0;
    double real = 0;
    if (p->tok->kind == PHX_JTOK_INT && phx_str_to_i64(p->tok->text, 0, INT64_MAX, &integer))
        return parse_literal(p, phx_jv_int(integer));
    if (p->tok->kind == PHX_JTOK_FLOAT && phx_str_to_f64(p->tok->text, &real))
        return parse_literal(p, phx_jv_float(real));
    phx_jparse_fail(p, PHX_ERR_UNSUPPORTED, "the number %.*s is out of range", PHX_STR_ARG(p->tok->text));
    return NULL;
}

/* Items up to the closing bracket, which is taken. with_keys: "key: value", two nodes each. */
static phx_jnode *parse_items(phx_jparser *p, const char *close, bool with_keys)
{
    phx_jnode *first = NULL;
    phx_jnode **last = &first;
    while (p->code == PHX_OK && !phx_jtok_is(p, OP, close)) {
        for (int part = 0; part < (with_keys ? 2 : 1) && p->code == PHX_OK; part++) {
            if (part == 1)
                phx_jtok_expect(p, OP, ":");
            *last = phx_jparse_expr(p);
            if (*last)
                last = &(*last)->next;
        }
        if (!phx_jtok_take(p, OP, ","))
            break;
    }
    phx_jtok_expect(p, OP, close);
    return first;
}

/* "(a)" is a, "(a,)" and "(a, b)" are lists, "()" is an empty one. */
static phx_jnode *parse_parentheses(phx_jparser *p)
{
    const uint32_t line = p->tok->line;
    p->tok++;
    phx_jnode *inner = phx_jtok_is(p, OP, ")") ? pair(p, PHX_JN_LIST, line, NULL, NULL) : phx_jparse_tuple(p);
    phx_jtok_expect(p, OP, ")");
    return inner;
}

static phx_jnode *parse_name(phx_jparser *p)
{
    static const char *const words[] = {"true", "True", "false", "False", "none", "None"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (phx_str_is(p->tok->text, words[i]))
            return parse_literal(p, i < 4 ? phx_jv_bool(i < 2) : phx_jv_none());
    }
    phx_jnode *node = phx_jnode_new(p, PHX_JN_NAME, p->tok->line);
    if (node)
        node->name = p->tok->text;
    p->tok++;
    return node;
}

static phx_jnode *parse_primary(phx_jparser *p)
{
    const uint32_t line = p->tok->line;
    switch (p->tok->kind) {
    case PHX_JTOK_NAME:
        return parse_name(p);
    case PHX_JTOK_INT:
    case PHX_JTOK_FLOAT:
        return parse_number(p);
    case PHX_JTOK_STRING:
        return parse_string(p);
    default:
        break;
    }
    if (phx_jtok_is(p, OP, "("))
        return parse_parentheses(p);
    if (phx_jtok_take(p, OP, "["))
        return pair(p, PHX_JN_LIST, line, parse_items(p, "]", false), NULL);
    if (phx_jtok_take(p, OP, "{"))
        return pair(p, PHX_JN_DICT, line, parse_items(p, "}", true), NULL);
    phx_jparse_fail(p, PHX_ERR_CORRUPT, "unexpected '%.*s' in an expression", PHX_STR_ARG(p->tok->text));
    return NULL;
}

/* Behind "(", up to ")". */
static phx_jnode *parse_arguments(phx_jparser *p)
{
    phx_jnode *first = NULL;
    phx_jnode **last = &first;
    while (p->code == PHX_OK && !phx_jtok_is(p, OP, ")")) {
        const uint32_t line = p->tok->line;
        phx_str name = {NULL, 0};
        if (p->tok->kind == PHX_JTOK_NAME && p->tok[1].kind == OP && phx_str_is(p->tok[1].text, "=")) {
            name = p->tok->text;
            p->tok += 2;
        }
        phx_jnode *value = phx_jparse_expr(p);
        if (name.ptr)
            value = pair(p, PHX_JN_KEYWORD, line, value, NULL);
        if (!value)
            break;
        value->name = name.ptr ? name : value->name;
        *last = value;
        last = &value->next;
        if (!phx_jtok_take(p, OP, ","))
            break;
    }
    phx_jtok_expect(p, OP, ")");
    return first;
}

/* Behind "[": an index or a slice. */
static phx_jnode *parse_subscript(phx_jparser *p, phx_jnode *of)
{
    phx_jnode *parts[3] = {NULL, NULL, NULL};
    size_t n_colons = 0;
    const uint32_t line = p->tok->line;
    while (p->code == PHX_OK && !phx_jtok_is(p, OP, "]")) {
        if (phx_jtok_take(p, OP, ":")) {
            if (++n_colons > 2)
                phx_jparse_fail(p, PHX_ERR_CORRUPT, "a slice has at most three parts");
        } else if (parts[n_colons]) {
            phx_jparse_fail(p, PHX_ERR_CORRUPT, "']' is missing");
        } else {
            parts[n_colons] = phx_jparse_expr(p);
        }
    }
    phx_jtok_expect(p, OP, "]");
    if (n_colons == 0 && !parts[0] && p->code == PHX_OK)
        phx_jparse_fail(p, PHX_ERR_CORRUPT, "an empty index");
    phx_jnode *node = phx_jnode_new(p, n_colons ? PHX_JN_SLICE : PHX_JN_ITEM, line);
    if (node) {
        node->a = of;
        node->b = parts[0];
        node->c = parts[1];
        node->d = parts[2];
        phx_jnode_done(p, node);
    }
    return node;
}

static phx_jnode *parse_attribute(phx_jparser *p, phx_jnode *of)
{
    const uint32_t line = p->tok->line;
    if (p->tok->kind == PHX_JTOK_INT) /* list.0 */
        return pair(p, PHX_JN_ITEM, line, of, parse_number(p));
    const phx_str name = phx_jtok_name(p);
    phx_jnode *node = pair(p, PHX_JN_ATTR, line, of, NULL);
    if (node)
        node->name = name;
    return node;
}

static phx_jnode *parse_postfix(phx_jparser *p, phx_jnode *node)
{
    while (p->code == PHX_OK) {
        const uint32_t line = p->tok->line;
        if (phx_jtok_take(p, OP, "."))
            node = parse_attribute(p, node);
        else if (phx_jtok_take(p, OP, "["))
            node = parse_subscript(p, node);
        else if (phx_jtok_take(p, OP, "("))
            node = pair(p, PHX_JN_CALL, line, node, parse_arguments(p));
        else
            break;
    }
    return node;
}

static phx_jnode *parse_filter(phx_jparser *p, phx_jnode *node, uint32_t line)
{
    const phx_str name = phx_jtok_name(p);
    const int which = phx_jfilter_find(name);
    if (p->code == PHX_OK && which < 0)
        phx_jparse_fail(p, PHX_ERR_UNSUPPORTED, "filter '%.*s' is not known", PHX_STR_ARG(name));
    phx_jnode *filter =
        pair(p, PHX_JN_FILTER, line, node, phx_jtok_take(p, OP, "(") ? parse_arguments(p) : NULL);
    if (filter) {
        filter->op = which;
        filter->name = name;
    }
    return filter;
}

/* May an argument without parentheses begin here, as in "is divisibleby 3"? */
static bool begins_argument(const phx_jparser *p)
{
    static const char *const words[] = {"else", "or", "and", "if", "is", "in", "not"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (phx_jtok_is(p, PHX_JTOK_NAME, words[i]))
            return false;
    }
    const phx_jtok_kind kind = p->tok->kind;
    return kind == PHX_JTOK_NAME || kind == PHX_JTOK_STRING || kind == PHX_JTOK_INT ||
           kind == PHX_JTOK_FLOAT || phx_jtok_is(p, OP, "[") || phx_jtok_is(p, OP, "{");
}

static phx_jnode *parse_test(phx_jparser *p, phx_jnode *node, uint32_t line)
{
    const bool negated = take_name(p, "not");
    const phx_str name = phx_jtok_name(p);
    const int which = phx_jtest_find(name);
    phx_jnode *arguments = NULL;
    if (p->code == PHX_OK && which < 0)
        phx_jparse_fail(p, PHX_ERR_UNSUPPORTED, "test '%.*s' is not known", PHX_STR_ARG(name));
    if (phx_jtok_take(p, OP, "("))
        arguments = parse_arguments(p);
    else if (p->code == PHX_OK && begins_argument(p))
        arguments = parse_postfix(p, parse_primary(p));
    phx_jnode *test = pair(p, PHX_JN_TEST, line, node, arguments);
    if (test) {
        test->op = which;
        test->name = name;
    }
    return negated ? pair(p, PHX_JN_NOT, line, test, NULL) : test;
}

static phx_jnode *parse_unary(phx_jparser *p, bool with_filter)
{
    phx_jnode *node = NULL;
    const uint32_t line = p->tok->line;
    if (!phx_jparse_enter(p))
        return NULL;
    if (phx_jtok_take(p, OP, "-"))
        node = pair(p, PHX_JN_NEGATE, line, parse_unary(p, false), NULL);
    else if (phx_jtok_take(p, OP, "+"))
        node = parse_unary(p, false);
    else
        node = parse_primary(p);
    node = parse_postfix(p, node);
    while (with_filter && p->code == PHX_OK) {
        const uint32_t at = p->tok->line;
        if (phx_jtok_take(p, OP, "|"))
            node = parse_filter(p, node, at);
        else if (take_name(p, "is"))
            node = parse_test(p, node, at);
        else if (phx_jtok_is(p, OP, "(") || phx_jtok_is(p, OP, "[") || phx_jtok_is(p, OP, "."))
            node = parse_postfix(p, node);
        else
            break;
    }
    p->depth--;
    return node;
}

/* Operators of one level of precedence, from the left. */
static phx_jnode *parse_level(phx_jparser *p, unsigned which)
{
    static const char *const texts[3][4] = {{"+", "-"}, {"~"}, {"*", "//", "/", "%"}};
    static const phx_jop ops[3][4] = {{PHX_JOP_ADD, PHX_JOP_SUB},
                                      {PHX_JOP_CONCAT},
                                      {PHX_JOP_MUL, PHX_JOP_FLOOR_DIV, PHX_JOP_DIV, PHX_JOP_MOD}};
    if (which == 3)
        return parse_unary(p, true);
    phx_jnode *node = parse_level(p, which + 1);
    for (bool found = true; found && p->code == PHX_OK;) {
        found = false;
        for (size_t i = 0; i < 4 && texts[which][i] && !found; i++) {
            const uint32_t line = p->tok->line;
            if (!phx_jtok_take(p, OP, texts[which][i]))
                continue;
            found = true;
            node = pair(p, PHX_JN_BINARY, line, node, parse_level(p, which + 1));
            if (node)
                node->op = (int)ops[which][i];
        }
    }
    return node;
}

static bool take_comparison(phx_jparser *p, phx_jop *ret_op)
{
    static const char *const texts[] = {"==", "!=", "<", "<=", ">", ">="};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (phx_jtok_take(p, OP, texts[i])) {
            *ret_op = (phx_jop)(PHX_JOP_EQ + i);
            return true;
        }
    }
    if (take_name(p, "in")) {
        *ret_op = PHX_JOP_IN;
        return true;
    }
    if (phx_jtok_is(p, PHX_JTOK_NAME, "not") && p->tok[1].kind == PHX_JTOK_NAME &&
        phx_str_is(p->tok[1].text, "in")) {
        p->tok += 2;
        *ret_op = PHX_JOP_NOT_IN;
        return true;
    }
    return false;
}

static phx_jnode *parse_compare(phx_jparser *p)
{
    const uint32_t line = p->tok->line;
    phx_jnode *left = parse_level(p, 0);
    phx_jnode *steps = NULL;
    phx_jnode **last = &steps;
    phx_jop op = PHX_JOP_EQ;
    while (p->code == PHX_OK && take_comparison(p, &op)) {
        *last = pair(p, PHX_JN_COMPARE_STEP, p->tok->line, parse_level(p, 0), NULL);
        if (*last) {
            (*last)->op = (int)op;
            last = &(*last)->next;
        }
    }
    return steps ? pair(p, PHX_JN_COMPARE, line, left, steps) : left;
}

static phx_jnode *parse_not(phx_jparser *p)
{
    const uint32_t line = p->tok->line;
    if (!phx_jparse_enter(p))
        return NULL;
    phx_jnode *node = take_name(p, "not") ? pair(p, PHX_JN_NOT, line, parse_not(p), NULL) : parse_compare(p);
    p->depth--;
    return node;
}

static phx_jnode *parse_and(phx_jparser *p)
{
    phx_jnode *node = parse_not(p);
    while (p->code == PHX_OK && take_name(p, "and"))
        node = pair(p, PHX_JN_AND, p->tok->line, node, parse_not(p));
    return node;
}

static phx_jnode *parse_or(phx_jparser *p)
{
    phx_jnode *node = parse_and(p);
    while (p->code == PHX_OK && take_name(p, "or"))
        node = pair(p, PHX_JN_OR, p->tok->line, node, parse_and(p));
    return node;
}

phx_jnode *phx_jparse_no_condition(phx_jparser *p)
{
    if (!phx_jparse_enter(p))
        return NULL;
    phx_jnode *node = parse_or(p);
    p->depth--;
    return node;
}

phx_jnode *phx_jparse_expr(phx_jparser *p)
{
    if (!phx_jparse_enter(p))
        return NULL;
    phx_jnode *node = parse_or(p);
    while (p->code == PHX_OK && phx_jtok_is(p, PHX_JTOK_NAME, "if")) {
        phx_jnode *choice = phx_jnode_new(p, PHX_JN_IF_ELSE, p->tok->line);
        p->tok++;
        if (!choice)
            break;
        choice->a = node;
        choice->b = parse_or(p);
        choice->c = take_name(p, "else") ? phx_jparse_expr(p) : NULL;
        phx_jnode_done(p, choice);
        node = choice;
    }
    p->depth--;
    return node;
}

phx_jnode *phx_jparse_tuple(phx_jparser *p)
{
    const uint32_t line = p->tok->line;
    phx_jnode *first = phx_jparse_expr(p);
    phx_jnode *last = first;
    if (!phx_jtok_is(p, OP, ","))
        return first;
    while (p->code == PHX_OK && last && phx_jtok_take(p, OP, ",")) {
        if (phx_jtok_is(p, OP, ")"))
            break;
        last->next = phx_jparse_expr(p);
        last = last->next;
    }
    return pair(p, PHX_JN_LIST, line, first, NULL);
}
