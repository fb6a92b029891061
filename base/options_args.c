/* base/options_args.c - flags of a command line, their help, and the way back to flags for a child. */
#include "base/options_table.h"

#include <assert.h>
#include <stdio.h>

typedef struct walk {
    int argc;
    char *const *argv;
    int at; /* of the next argument */
    const phx_args_spec *spec;
    phx_options options;
    phx_args args;
} walk;

static bool accepts(const phx_args_spec *spec, phx_option option)
{
    return spec->scopes >> phx_option_row_of(option)->scope & 1u;
}

static const phx_flag *find_flag(const phx_args_spec *spec, phx_str name)
{
    for (size_t i = 0; i < spec->n_flags; i++) {
        if (phx_str_is(name, spec->flags[i].name))
            return &spec->flags[i];
    }
    return NULL;
}

static phx_code unknown_flag(const walk *w, phx_str name, phx_error *err)
{
    phx_option option;
    if (phx_option_find(name, &option))
        return PHX_FAIL(err, PHX_ERR_INVALID, "--%s means nothing to this command: see --help",
                        phx_option_key(option));
    const char *nearest = phx_option_nearest(name);
    if (nearest && phx_option_find(phx_str_of(nearest), &option) && accepts(w->spec, option))
        return PHX_FAIL(err, PHX_ERR_INVALID, "unknown flag --%.*s: did you mean --%s?",
                        (int)(name.n > 60 ? 60 : name.n), name.ptr, nearest);
    return PHX_FAIL(err, PHX_ERR_INVALID, "unknown flag --%.*s: see --help", (int)(name.n > 60 ? 60 : name.n),
                    name.ptr);
}

/* The value behind '=', or the next argument. */
static phx_code take_value(walk *w, phx_str name, const char *equals, const char **ret_value, phx_error *err)
{
    if (equals) {
        *ret_value = equals + 1;
        return PHX_OK;
    }
    if (w->at >= w->argc)
        return PHX_FAIL(err, PHX_ERR_INVALID, "--%.*s needs a value", PHX_STR_ARG(name));
    *ret_value = w->argv[w->at++];
    return PHX_OK;
}

static phx_code take_own_flag(walk *w, const phx_flag *flag, const char *equals, phx_error *err)
{
    const char *value = NULL;
    if (!flag->meta) {
        if (equals)
            return PHX_FAIL(err, PHX_ERR_INVALID, "--%s takes no value", flag->name);
        *flag->ret_on = true;
        return PHX_OK;
    }
    const phx_code rc = take_value(w, phx_str_of(flag->name), equals, &value, err);
    if (rc == PHX_OK)
        *flag->ret_text = value;
    return rc;
}

static phx_code take_option(walk *w, phx_option option, const char *equals, phx_error *err)
{
    const phx_option_row *row = phx_option_row_of(option);
    phx_error why = {0};
    const char *value = "on";
    phx_code rc = PHX_OK;
    if (row->kind != PHX_OPTION_KIND_FLAG || equals)
        rc = take_value(w, phx_str_of(row->key), equals, &value, err);
    if (rc != PHX_OK)
        return rc;
    rc = phx_options_set(&w->options, option, phx_str_of(value), PHX_OPTION_ARGS, &why);
    return rc == PHX_OK ? rc : PHX_FAIL(err, rc, "--%s", why.text);
}

static phx_code take_flag(walk *w, const char *text, phx_error *err)
{
    const char *equals = strchr(text, '=');
    const phx_str name = {text, equals ? (size_t)(equals - text) : strlen(text)};
    phx_option option;
    if (phx_str_is(name, "help") && !equals) {
        w->args.help = true;
        return PHX_OK;
    }
    const phx_flag *flag = find_flag(w->spec, name);
    if (flag)
        return take_own_flag(w, flag, equals, err);
    if (w->spec->scopes && phx_str_is(name, "config"))
        return take_value(w, name, equals, &w->args.config, err);
    if (phx_option_find(name, &option) && accepts(w->spec, option))
        return take_option(w, option, equals, err);
    return unknown_flag(w, name, err);
}

static phx_code take_operand(walk *w, const char *text, phx_error *err)
{
    assert(w->spec->n_operands_max <= PHX_OPTIONS_OPERANDS_MAX);
    if (w->args.n_operands >= w->spec->n_operands_max)
        return PHX_FAIL(err, PHX_ERR_INVALID, "unexpected '%.80s': see --help", text);
    w->args.operands[w->args.n_operands++] = text;
    return PHX_OK;
}

phx_code phx_options_parse_args(phx_options *options, int argc, char *const *argv, const phx_args_spec *spec,
                                phx_args *ret_args, phx_error *err)
{
    walk w = {.argc = argc, .argv = argv, .at = 1, .spec = spec, .options = *options};
    bool flags_end = false;
    phx_code rc = PHX_OK;
    while (w.at < argc && rc == PHX_OK) {
        const char *text = argv[w.at++];
        if (flags_end || text[0] != '-' || text[1] == 0) {
            rc = take_operand(&w, text, err);
        } else if (strcmp(text, "--") == 0) {
            flags_end = true;
        } else if (strcmp(text, "-h") == 0) {
            w.args.help = true;
        } else if (text[1] == '-') {
            rc = take_flag(&w, text + 2, err);
        } else {
            rc = PHX_FAIL(err, PHX_ERR_INVALID, "unknown flag %.60s: flags begin with two dashes, see --help",
                          text);
        }
    }
    if (rc == PHX_OK && w.args.config && !w.args.help)
        rc = phx_options_load_yaml(&w.options, w.args.config, err);
    if (rc != PHX_OK)
        return rc;
    *options = w.options;
    *ret_args = w.args;
    return PHX_OK;
}

/* ---- help ---- */

#define HELP_INDENT 30

/* The text starts at column HELP_INDENT, on the next line when the flag is longer than that. */
static void put_help_line(phx_buf *buf, const char *name, const char *meta, const char *help,
                          const char *note)
{
    const size_t before = buf->n;
    phx_buf_printf(buf, "  --%s%s%s", name, meta && *meta ? " " : "", meta ? meta : "");
    if (buf->n - before >= HELP_INDENT)
        phx_buf_printf(buf, "\n%*s", HELP_INDENT, "");
    else
        phx_buf_printf(buf, "%*s", HELP_INDENT - (int)(buf->n - before), "");
    phx_buf_printf(buf, "%s%s\n", help, note);
}

static void put_row(phx_buf *buf, const phx_option_row *row)
{
    char note[160] = "";
    char choices[64] = "";
    if (row->kind == PHX_OPTION_KIND_CHOICE)
        (void)snprintf(choices, sizeof(choices), ": %s", row->limits);
    if (row->kind != PHX_OPTION_KIND_FLAG && *row->value && strcmp(row->value, "0") != 0)
        (void)snprintf(note, sizeof(note), "%s [%s]", choices, row->value);
    put_help_line(buf, row->key, row->meta, row->help, note);
}

void phx_options_help(const phx_args_spec *spec, phx_buf *buf)
{
    static const char *const headings[] = {
#define X(scope, heading) heading,
        PHX_OPTION_SCOPES(X)
#undef X
    };
    phx_buf_printf(buf, "Usage: %s\n\n%s\n", spec->usage, spec->about);
    if (spec->n_flags)
        phx_buf_str(buf, "\nFlags\n");
    for (size_t i = 0; i < spec->n_flags; i++)
        put_help_line(buf, spec->flags[i].name, spec->flags[i].meta, spec->flags[i].help, "");
    for (uint32_t s = 0; s < PHX_OPTION_SCOPE_COUNT; s++) {
        if (!(spec->scopes >> s & 1u))
            continue;
        phx_buf_printf(buf, "\n%s\n", headings[s]);
        for (size_t i = 0; i < PHX_OPTION_COUNT; i++) {
            if ((uint32_t)phx_option_row_of((phx_option)i)->scope == s)
                put_row(buf, phx_option_row_of((phx_option)i));
        }
    }
    if (spec->scopes) {
        phx_buf_str(buf, "\n");
        put_help_line(buf, "config", "FILE", "the same keys in YAML (see cluster.yaml); flags win over it",
                      "");
    }
    phx_buf_printf(buf, "\nExit codes\n%s",
                   spec->exit_codes ? spec->exit_codes : "  0 done\n  1 failed\n  2 wrong usage\n");
}

void phx_options_write_args(const phx_options *options, uint32_t scopes, phx_buf *buf)
{
    for (size_t i = 0; i < PHX_OPTION_COUNT; i++) {
        const phx_option_row *row = phx_option_row_of((phx_option)i);
        if (options->source[i] == PHX_OPTION_DEFAULT || !(scopes >> row->scope & 1u))
            continue;
        phx_buf_printf(buf, "--%s=", row->key);
        phx_options_value(options, (phx_option)i, buf);
        phx_buf_char(buf, 0);
    }
}
