/* coordinator/text/output_python.c - Python's literals in place of JSON: True, None, ['x'], {'a': 1}.
 * Owns: translating those that have exactly one JSON form. Not here: whether the outcome is JSON and of a
 * type that its parameter may have (output_types.c). */
#include "coordinator/text/output_impl.h"
#include "coordinator/text/pyjson.h"

/* The word at the front, with its bytes in *ret_n. */
static const char *json_word(phx_str text, size_t *ret_n)
{
    static const char *const words[][2] = {{"True", "true"}, {"False", "false"}, {"None", "null"}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        *ret_n = strlen(words[i][0]);
        if (phx_str_starts(text, phx_str_of(words[i][0])))
            return words[i][1];
    }
    return NULL;
}

/* What stands behind a backslash; 0: an escape that is left to Python. */
static char unescaped(char c)
{
    static const char from[] = "\\'\"ntr";
    static const char to[] = "\\'\"\n\t\r";
    const char *found = c ? strchr(from, c) : NULL;
    return found ? to[found - from] : 0;
}

/* The string whose quote is at the front, as JSON; its bytes with both quotes, or 0. */
static size_t put_string(phx_buf *to, phx_str text)
{
    size_t kept = 1;
    size_t at = 1;
    (void)phx_buf_char(to, '"');
    while (at < text.n && text.ptr[at] != text.ptr[0]) {
        if ((unsigned char)text.ptr[at] < 0x20)
            return 0;
        if (text.ptr[at++] != '\\')
            continue;
        const char c = at < text.n ? unescaped(text.ptr[at]) : 0;
        if (!c)
            return 0;
        (void)phx_pyjson_str_body(to, (phx_str){text.ptr + kept, at - 1 - kept});
        (void)phx_pyjson_str_body(to, (phx_str){&c, 1});
        kept = ++at;
    }
    if (at >= text.n)
        return 0;
    (void)phx_pyjson_str_body(to, (phx_str){text.ptr + kept, at - kept});
    (void)phx_buf_char(to, '"');
    return at + 1;
}

bool phx_output_python_json(phx_str text, phx_buf *to)
{
    for (size_t at = 0; at < text.n;) {
        const phx_str rest = {text.ptr + at, text.n - at};
        size_t n = 1;
        const char *word = json_word(rest, &n);
        if (word) {
            (void)phx_buf_str(to, word);
        } else if (rest.ptr[0] == '\'' || rest.ptr[0] == '"') {
            n = put_string(to, rest);
        } else {
            n = rest.ptr[0] && strchr("[]{}:, \n\r\t-+.eE0123456789", rest.ptr[0]) ? 1 : 0;
            (void)phx_buf_append(to, rest.ptr, n);
        }
        if (n == 0)
            return false;
        at += n;
    }
    return to->code == PHX_OK;
}
