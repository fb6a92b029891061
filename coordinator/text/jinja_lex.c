/* coordinator/text/jinja_lex.c - a template's text into tokens.
 * Owns: tags and white space around them as Jinja treats them with trim_blocks and lstrip_blocks, literals.
 * Not here: what tokens mean together (jinja_parse.c, jinja_expr.c). */
#include "coordinator/text/jinja_tree.h"

#include "base/alloc.h"

typedef struct lexer {
    phx_str text;
    size_t at;
    uint32_t line;
    phx_jpool *pool;
    phx_jtoks *toks;
    phx_error *err;
} lexer;

static phx_code fail(lexer *l, phx_code code, const char *what)
{
    return PHX_FAIL(l->err, code, "template line %u: %s", l->line, what);
}

static phx_code push(lexer *l, phx_jtok_kind kind, phx_str text)
{
    phx_jtoks *t = l->toks;
    if (t->n == t->cap) {
        const size_t cap = t->cap ? t->cap * 2 : 256;
        phx_jtok *grown = phx_realloc(t->items, cap, sizeof(*grown));
        if (!grown)
            return PHX_FAIL(l->err, PHX_ERR_NOMEM, "tokens of a template");
        t->items = grown;
        t->cap = cap;
    }
    t->items[t->n++] = (phx_jtok){kind, l->line, text};
    return PHX_OK;
}

static char peek(const lexer *l, size_t ahead)
{
    return l->at + ahead < l->text.n ? l->text.ptr[l->at + ahead] : '\0';
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static void advance(lexer *l, size_t n)
{
    for (; n > 0 && l->at < l->text.n; n--, l->at++)
        l->line += l->text.ptr[l->at] == '\n';
}

/* Offset of the next tag's opening at or behind `from`, or the end. */
static size_t find_tag(phx_str text, size_t from)
{
    for (size_t i = from; i + 1 < text.n; i++) {
        if (text.ptr[i] == '{' &&
            (text.ptr[i + 1] == '{' || text.ptr[i + 1] == '%' || text.ptr[i + 1] == '#'))
            return i;
    }
    return text.n;
}

/* End of the text in front of a tag: without white space before "-", without the indent of a line that the
 * tag begins (not before {{). */
static size_t data_end(phx_str text, size_t from, size_t tag, bool line_start)
{
    const char sign = tag + 2 < text.n ? text.ptr[tag + 2] : '\0';
    size_t end = tag;
    if (tag == text.n)
        return end;
    if (sign == '-') {
        while (end > from && is_space(text.ptr[end - 1]))
            end--;
        return end;
    }
    if (sign == '+' || text.ptr[tag + 1] == '{')
        return end;
    while (end > from && (text.ptr[end - 1] == ' ' || text.ptr[end - 1] == '\t'))
        end--;
    const bool begins_line = end > from ? text.ptr[end - 1] == '\n' : line_start;
    return begins_line ? end : tag;
}

/* Behind a closing tag: "-" drops all white space; a block or a comment else drops one line end. */
static void skip_after(lexer *l, char sign, bool is_var)
{
    if (sign == '-') {
        while (l->at < l->text.n && is_space(peek(l, 0)))
            advance(l, 1);
    } else if (sign != '+' && !is_var && peek(l, 0) == '\n') {
        advance(l, 1);
    }
}

/* ---- inside a tag ---- */

static int hex_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static size_t put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xC0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    to[0] = (char)(0xE0 | c >> 12);
    to[1] = (char)(0x80 | (c >> 6 & 0x3F));
    to[2] = (char)(0x80 | (c & 0x3F));
    return 3;
}

/* Undoes the escape behind the backslash at from[at]; false: one that is not known. An escape takes at least
 * as many bytes as its character. */
static bool unescape(phx_str from, size_t *at, char *to, size_t *n)
{
    static const char names[] = "ntrbfav\\'\"";
    static const char values[] = "\n\t\r\b\f\a\v\\'\"";
    const char c = *at + 1 < from.n ? from.ptr[*at + 1] : '\0';
    const char *known = c ? strchr(names, c) : NULL;
    if (known) {
        to[(*n)++] = values[known - names];
        *at += 2;
        return true;
    }
    if (c == '\n') { /* the line goes on */
        *at += 2;
        return true;
    }
    const size_t n_digits = c == 'x' ? 2 : c == 'u' ? 4 : 0;
    uint32_t value = 0;
    if (n_digits == 0 || *at + 2 + n_digits > from.n)
        return false;
    for (size_t i = 0; i < n_digits; i++) {
        const int digit = hex_of(from.ptr[*at + 2 + i]);
        if (digit < 0)
            return false;
        value = value << 4 | (uint32_t)digit;
    }
    if (value == 0 || (value >= 0xD800 && value < 0xE000))
        return false;
    *n += put_utf8(to + *n, value);
    *at += 2 + n_digits;
    return true;
}

static phx_code lex_string(lexer *l)
{
    const char quote = peek(l, 0);
    size_t end = l->at + 1;
    bool escaped = false;
    while (end < l->text.n && l->text.ptr[end] != quote) {
        escaped = escaped || l->text.ptr[end] == '\\';
        end += l->text.ptr[end] == '\\' ? 2 : 1;
    }
    if (end >= l->text.n)
        return fail(l, PHX_ERR_CORRUPT, "a string without its closing quote");
    phx_str body = {l->text.ptr + l->at + 1, end - l->at - 1};
    if (escaped) {
        char *to = phx_jpool_take(l->pool, body.n, 1);
        size_t n = 0;
        if (!to)
            return fail(l, l->pool->code, "no memory for a string");
        for (size_t i = 0; i < body.n;) {
            if (body.ptr[i] != '\\')
                to[n++] = body.ptr[i++];
            else if (!unescape(body, &i, to, &n))
                return fail(l, PHX_ERR_UNSUPPORTED, "an unknown escape in a string");
        }
        body = (phx_str){to, n};
    }
    const phx_code rc = push(l, PHX_JTOK_STRING, body);
    advance(l, end + 1 - l->at);
    return rc;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

static phx_code lex_number(lexer *l)
{
    const size_t first = l->at;
    phx_jtok_kind kind = PHX_JTOK_INT;
    while (is_digit(peek(l, 0)))
        l->at++;
    if (peek(l, 0) == '.' && is_digit(peek(l, 1))) {
        kind = PHX_JTOK_FLOAT;
        for (l->at++; is_digit(peek(l, 0)); l->at++) {
        }
    }
    if ((peek(l, 0) | 0x20) == 'e' &&
        (is_digit(peek(l, 1)) || ((peek(l, 1) == '-' || peek(l, 1) == '+') && is_digit(peek(l, 2))))) {
        kind = PHX_JTOK_FLOAT;
        for (l->at += 2; is_digit(peek(l, 0)); l->at++) {
        }
    }
    if (is_name_char(peek(l, 0)))
        return fail(l, PHX_ERR_CORRUPT, "a number that runs into a name");
    return push(l, kind, (phx_str){l->text.ptr + first, l->at - first});
}

static phx_code lex_operator(lexer *l)
{
    static const char *const operators[] = {"==", "!=", "<=", ">=", "//", "**", "+", "-", "*",
                                            "/",  "%",  "~",  "<",  ">",  "=",  "(", ")", "[",
                                            "]",  "{",  "}",  ",",  ".",  ":",  "|"};
    for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++) {
        const size_t n = strlen(operators[i]);
        if (l->text.n - l->at >= n && memcmp(l->text.ptr + l->at, operators[i], n) == 0) {
            const phx_code rc = push(l, PHX_JTOK_OP, (phx_str){l->text.ptr + l->at, n});
            advance(l, n);
            return rc;
        }
    }
    return PHX_FAIL(l->err, PHX_ERR_CORRUPT, "template line %u: unexpected character 0x%02x in a tag",
                    l->line, (unsigned)(uint8_t)peek(l, 0));
}

/* Does the tag close here? Brackets inside it must be closed before "}}" counts. */
static size_t closing_at(const lexer *l, char close, size_t n_open)
{
    const size_t sign = peek(l, 0) == '-' || peek(l, 0) == '+' ? 1 : 0;
    return n_open == 0 && peek(l, sign) == close && peek(l, sign + 1) == '}' ? sign + 2 : 0;
}

/* From behind the opening to behind the closing. */
static phx_code lex_tag(lexer *l, bool is_var)
{
    const char close = is_var ? '}' : '%';
    size_t n_open = 0;
    phx_code rc = PHX_OK;
    if (peek(l, 0) == '-' || peek(l, 0) == '+')
        advance(l, 1);
    while (rc == PHX_OK) {
        const char c = peek(l, 0);
        if (l->at >= l->text.n)
            return fail(l, PHX_ERR_CORRUPT, "a tag is not closed");
        const size_t n_close = closing_at(l, close, n_open);
        if (n_close > 0) {
            const char sign = n_close == 3 ? c : '\0';
            rc = push(l, is_var ? PHX_JTOK_VAR_END : PHX_JTOK_BLOCK_END,
                      (phx_str){l->text.ptr + l->at, n_close});
            advance(l, n_close);
            skip_after(l, sign, is_var);
            return rc;
        }
        if (is_space(c)) {
            advance(l, 1);
        } else if (c == '"' || c == '\'') {
            rc = lex_string(l);
        } else if (is_digit(c)) {
            rc = lex_number(l);
        } else if (is_name_char(c)) {
            const size_t first = l->at;
            while (is_name_char(peek(l, 0)))
                l->at++;
            rc = push(l, PHX_JTOK_NAME, (phx_str){l->text.ptr + first, l->at - first});
        } else {
            n_open += strchr("([{", c) ? 1 : 0;
            n_open -= n_open > 0 && strchr(")]}", c) ? 1 : 0;
            rc = lex_operator(l);
        }
    }
    return rc;
}

static phx_code skip_comment(lexer *l)
{
    const char *end = memmem(l->text.ptr + l->at, l->text.n - l->at, "#}", 2);
    if (!end)
        return fail(l, PHX_ERR_CORRUPT, "a comment is not closed");
    const char sign = end > l->text.ptr + l->at ? end[-1] : '\0';
    advance(l, (size_t)(end + 2 - l->text.ptr) - l->at);
    skip_after(l, sign == '-' || sign == '+' ? sign : '\0', false);
    return PHX_OK;
}

/* ---- raw blocks ---- */

/* Is the tag at `at` a block of this word alone? The offset of its closing, after the sign; 0: it is not. */
static size_t word_tag(phx_str text, size_t at, const char *word)
{
    const size_t n = strlen(word);
    at += 2;
    at += at < text.n && (text.ptr[at] == '-' || text.ptr[at] == '+') ? 1 : 0;
    while (at < text.n && is_space(text.ptr[at]))
        at++;
    if (text.n - at < n || memcmp(text.ptr + at, word, n) != 0)
        return 0;
    at += n;
    while (at < text.n && is_space(text.ptr[at]))
        at++;
    at += at < text.n && (text.ptr[at] == '-' || text.ptr[at] == '+') ? 1 : 0;
    return text.n - at >= 2 && text.ptr[at] == '%' && text.ptr[at + 1] == '}' ? at : 0;
}

/* From the opening of a raw tag, whose closing is given, to behind the end of the block: what stands between
 * is text. As in Jinja the line end behind the opening stays. */
static phx_code lex_raw(lexer *l, size_t closing)
{
    const phx_str text = l->text;
    phx_code rc = PHX_OK;
    size_t end = 0;
    advance(l, closing + 2 - l->at);
    if (text.ptr[closing - 1] == '-')
        skip_after(l, '-', false);
    size_t tag = find_tag(text, l->at);
    while (tag < text.n && (text.ptr[tag + 1] != '%' || !(end = word_tag(text, tag, "endraw"))))
        tag = find_tag(text, tag + 1);
    if (tag == text.n)
        return fail(l, PHX_ERR_CORRUPT, "a raw block is not closed");
    const bool line_start = l->at == 0 || text.ptr[l->at - 1] == '\n';
    const size_t n = data_end(text, l->at, tag, line_start) - l->at;
    if (n > 0)
        rc = push(l, PHX_JTOK_DATA, (phx_str){text.ptr + l->at, n});
    advance(l, end + 2 - l->at);
    skip_after(l, text.ptr[end - 1], false);
    return rc;
}

phx_code phx_jinja_lex(phx_str text, phx_jpool *pool, phx_jtoks *toks, phx_error *err)
{
    lexer l = {.text = text, .line = 1, .pool = pool, .toks = toks, .err = err};
    phx_code rc = PHX_OK;
    while (rc == PHX_OK && l.at < text.n) {
        const bool line_start = l.at == 0 || text.ptr[l.at - 1] == '\n';
        const size_t tag = find_tag(text, l.at);
        const size_t end = data_end(text, l.at, tag, line_start);
        if (end > l.at)
            rc = push(&l, PHX_JTOK_DATA, (phx_str){text.ptr + l.at, end - l.at});
        advance(&l, tag - l.at);
        if (rc != PHX_OK || l.at >= text.n)
            break;
        const char kind = text.ptr[l.at + 1];
        const size_t raw_closing = kind == '%' ? word_tag(text, l.at, "raw") : 0;
        if (raw_closing > 0 && text.ptr[raw_closing - 1] != '+') {
            rc = lex_raw(&l, raw_closing);
            continue;
        }
        advance(&l, 2);
        if (kind == '#') {
            rc = skip_comment(&l);
            continue;
        }
        rc = push(&l, kind == '{' ? PHX_JTOK_VAR_BEGIN : PHX_JTOK_BLOCK_BEGIN, (phx_str){"", 0});
        if (rc == PHX_OK)
            rc = lex_tag(&l, kind == '{');
    }
    return rc == PHX_OK ? push(&l, PHX_JTOK_END, (phx_str){"", 0}) : rc;
}
