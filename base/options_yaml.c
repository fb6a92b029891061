/* base/options_yaml.c - cluster.yaml: one flat mapping, read event by event so that errors have a place.
 * Owns: the only use of libyaml. Its event parser keeps its own stack and we refuse nesting at the second
 * level, so no input controls a depth of recursion. */
#include "base/options.h"

#include <yaml.h>

#include "base/file.h"

typedef struct reader {
    yaml_parser_t parser;
    const char *name;
    phx_options options; /* being filled */
    bool seen[PHX_OPTION_COUNT];
} reader;

static phx_code fail_at(const reader *in, yaml_mark_t mark, phx_code code, phx_error *err, const char *text)
{
    return PHX_FAIL(err, code, "%s:%zu:%zu: %s", in->name, mark.line + 1, mark.column + 1, text);
}

/* The next event; libyaml's own complaints get our form. Delete with yaml_event_delete after success. */
static phx_code next_event(reader *in, yaml_event_t *ret_event, phx_error *err)
{
    const yaml_parser_t *parser = &in->parser;
    if (yaml_parser_parse(&in->parser, ret_event))
        return PHX_OK;
    if (parser->error == YAML_MEMORY_ERROR)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "reading '%s'", in->name);
    const char *problem = parser->problem ? parser->problem : "not YAML";
    if (parser->error == YAML_READER_ERROR)
        return PHX_FAIL(err, PHX_ERR_INVALID, "%s: %s at byte %zu", in->name, problem,
                        parser->problem_offset);
    return fail_at(in, parser->problem_mark, PHX_ERR_INVALID, err, problem);
}

static phx_code check_scalar(const reader *in, const yaml_event_t *event, phx_error *err)
{
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return fail_at(in, event->start_mark, PHX_ERR_INVALID, err, "aliases are not allowed");
    case YAML_SEQUENCE_START_EVENT:
        return fail_at(in, event->start_mark, PHX_ERR_INVALID, err,
                       "a list is not allowed here: write one value, lists with commas");
    case YAML_MAPPING_START_EVENT:
        return fail_at(in, event->start_mark, PHX_ERR_INVALID, err,
                       "a nested mapping is not allowed: every key stands at the top");
    case YAML_SCALAR_EVENT:
        break;
    default:
        return fail_at(in, event->start_mark, PHX_ERR_INVALID, err, "expected a key or a value");
    }
    if (event->data.scalar.anchor)
        return fail_at(in, event->start_mark, PHX_ERR_INVALID, err, "anchors are not allowed");
    if (event->data.scalar.tag)
        return fail_at(in, event->start_mark, PHX_ERR_INVALID, err, "tags are not allowed");
    return PHX_OK;
}

static phx_str scalar_text(const yaml_event_t *event)
{
    return (phx_str){(const char *)event->data.scalar.value, event->data.scalar.length};
}

static phx_code unknown_key(const reader *in, yaml_mark_t mark, phx_str key, phx_error *err)
{
    char text[160];
    const char *nearest = phx_option_nearest(key);
    (void)snprintf(text, sizeof(text),
                   nearest ? "unknown key '%.*s': did you mean '%s'?" : "unknown key '%.*s'%s",
                   (int)(key.n > 60 ? 60 : key.n), key.ptr, nearest ? nearest : "");
    return fail_at(in, mark, PHX_ERR_INVALID, err, text);
}

static phx_code read_value(reader *in, phx_option option, phx_error *err)
{
    phx_error why = {0};
    yaml_event_t event;
    phx_code rc = next_event(in, &event, err);
    if (rc != PHX_OK)
        return rc;
    rc = check_scalar(in, &event, err);
    if (rc != PHX_OK)
        goto out;
    if (event.data.scalar.length == 0 && event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        rc = fail_at(in, event.start_mark, PHX_ERR_INVALID, err,
                     "the value is missing; an empty text is \"\"");
        goto out;
    }
    rc = phx_options_set(&in->options, option, scalar_text(&event), PHX_OPTION_FILE, &why);
    if (rc != PHX_OK)
        rc = fail_at(in, event.start_mark, rc, err, why.text);
out:
    yaml_event_delete(&event);
    return rc;
}

/* One "key: value", or the end of the mapping. */
static phx_code read_pair(reader *in, bool *ret_end, phx_error *err)
{
    phx_option option = PHX_OPTION_COUNT;
    yaml_event_t event;
    phx_code rc = next_event(in, &event, err);
    if (rc != PHX_OK)
        return rc;
    if (event.type == YAML_MAPPING_END_EVENT) {
        *ret_end = true;
        goto out;
    }
    rc = check_scalar(in, &event, err);
    if (rc != PHX_OK)
        goto out;
    if (!phx_option_find(scalar_text(&event), &option)) {
        rc = unknown_key(in, event.start_mark, scalar_text(&event), err);
        goto out;
    }
    if (in->seen[option]) {
        rc = fail_at(in, event.start_mark, PHX_ERR_INVALID, err, "the key was given above already");
        goto out;
    }
    in->seen[option] = true;
    rc = read_value(in, option, err);
out:
    yaml_event_delete(&event);
    return rc;
}

/* What stands around the mapping: one event, of the wanted type. ret_mark may be NULL. */
static phx_code expect(reader *in, yaml_event_type_t type, const char *complaint, phx_error *err)
{
    yaml_event_t event;
    phx_code rc = next_event(in, &event, err);
    if (rc != PHX_OK)
        return rc;
    const bool decorated = event.type == YAML_MAPPING_START_EVENT &&
                           (event.data.mapping_start.anchor || event.data.mapping_start.tag);
    if (event.type != type || decorated)
        rc = fail_at(in, event.start_mark, PHX_ERR_INVALID, err,
                     decorated ? "anchors and tags are not allowed" : complaint);
    yaml_event_delete(&event);
    return rc;
}

/* True when the stream holds no document at all: an empty file, or comments alone. */
static phx_code read_document_start(reader *in, bool *ret_empty, phx_error *err)
{
    yaml_event_t event;
    phx_code rc = next_event(in, &event, err);
    if (rc != PHX_OK)
        return rc;
    *ret_empty = event.type == YAML_STREAM_END_EVENT;
    if (event.type == YAML_DOCUMENT_START_EVENT &&
        event.data.document_start.tag_directives.start != event.data.document_start.tag_directives.end)
        rc = fail_at(in, event.start_mark, PHX_ERR_INVALID, err, "tag directives are not allowed");
    yaml_event_delete(&event);
    return rc;
}

static phx_code read_stream(reader *in, phx_error *err)
{
    bool end = false;
    phx_code rc = expect(in, YAML_STREAM_START_EVENT, "not a stream", err);
    if (rc == PHX_OK)
        rc = read_document_start(in, &end, err);
    if (rc != PHX_OK || end)
        return rc;
    rc = expect(in, YAML_MAPPING_START_EVENT, "expected lines of the form 'key: value'", err);
    while (rc == PHX_OK && !end)
        rc = read_pair(in, &end, err);
    if (rc == PHX_OK)
        rc = expect(in, YAML_DOCUMENT_END_EVENT, "more than one mapping", err);
    if (rc == PHX_OK)
        rc = expect(in, YAML_STREAM_END_EVENT, "more than one document", err);
    return rc;
}

phx_code phx_options_parse_yaml(phx_options *options, phx_str text, const char *name, phx_error *err)
{
    reader in = {.name = name, .options = *options};
    if (text.n > PHX_OPTIONS_FILE_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "'%s' is larger than the limit of %u bytes", name,
                        PHX_OPTIONS_FILE_MAX);
    if (!yaml_parser_initialize(&in.parser))
        return PHX_FAIL(err, PHX_ERR_NOMEM, "reading '%s'", name);
    yaml_parser_set_encoding(&in.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&in.parser, (const unsigned char *)text.ptr, text.n);
    const phx_code rc = read_stream(&in, err);
    yaml_parser_delete(&in.parser);
    if (rc == PHX_OK)
        *options = in.options;
    return rc;
}

phx_code phx_options_load_yaml(phx_options *options, const char *path, phx_error *err)
{
    phx_buf buf;
    phx_buf_init(&buf, PHX_OPTIONS_FILE_MAX);
    phx_code rc = phx_file_read(path, &buf, err);
    if (rc == PHX_OK)
        rc = phx_options_parse_yaml(options, phx_buf_view(&buf), path, err);
    phx_buf_done(&buf);
    return rc;
}
