/* tests/api/template_rig.c - see template_rig.h. */
#include "tests/api/template_rig.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"

const char template_rig_glm[] =
    "{%- if tools -%}\n[tools]{% for t in tools %}{{ t|tojson }}{% endfor %}\n{% endif -%}\n"
    "{%- for m in messages -%}[{{ m.role }}]{{ m.content }}\n"
    "{%- for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}{% for k, v in "
    "c.function.arguments.items() %}"
    "<arg_key>{{ k }}</arg_key><arg_value>{{ v|tojson if v is not string else v }}</arg_value>{% endfor "
    "%}</tool_call>"
    "{%- endfor %}{%- endfor -%}\n"
    "{%- if effort is defined %}[effort {{ effort }}]{% endif -%}\n"
    "[assistant]{{ '</think>' if enable_thinking is defined and not enable_thinking else '<think>' }}";

const char template_rig_kimi[] =
    "{%- for m in messages -%}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls or [] %}[{{ c.id }}]"
    "{{ c.function.arguments }}{% endfor %}{{ m.tool_call_id }}{%- endfor -%}{{ tools_ts_str }}[assistant]";

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[4400];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    const phx_bytes content = {(const uint8_t *)text, strlen(text)};
    assert_int_equal(phx_file_write(path, content, 0644, NULL), PHX_OK);
}

/* A folder with the demo's vocabulary and this template. */
static void make_folder(char dir[64], const char *template)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json"};
    (void)snprintf(dir, 64, "/tmp/phx_templates_XXXXXX");
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < 2; i++) {
        char from[4400];
        char to[128];
        (void)snprintf(from, sizeof(from), "%s/%s", api_rig_demo(), names[i]);
        (void)snprintf(to, sizeof(to), "%s/%s", dir, names[i]);
        char whole[PATH_MAX];
        assert_non_null(realpath(from, whole));
        assert_int_equal(symlink(whole, to), 0);
    }
    if (template)
        write_file(dir, "chat_template.jinja", template);
}

static void drop_folder(const char *dir)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"};
    for (size_t i = 0; i < 3; i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(dir);
}

phx_code template_rig_load(const char *template, const char *format, const phx_dims *dims,
                           phx_model_text *text, phx_error *err)
{
    char dir[64];
    make_folder(dir, template);
    const phx_code rc = phx_model_text_load(
        &(phx_model_text_from){
            .model_dir = dir, .name = "demo", .chat_format = format, .dims = dims, .n_context = 512},
        text, err);
    drop_folder(dir);
    return rc;
}

void template_rig_open(api_rig *r, const char *template, const char *format)
{
    phx_error err = {0};
    api_rig_open(r);
    phx_model_text_done(&r->text);
    if (template_rig_load(template, format, phx_checkpoint_dims(r->checkpoint), &r->text, &err) != PHX_OK)
        fail_msg("%s", err.text);
}

void template_rig_prompt(const api_rig *r, phx_buf *text)
{
    phx_buf_init(text, 1u << 20);
    for (uint32_t i = 0; i < r->engine->last.n_prompt; i++) {
        phx_str piece = {"", 0};
        assert_true(phx_tokenizer_piece(r->text.tokenizer, r->engine->last_prompt[i], &piece));
        (void)phx_buf_append(text, piece.ptr, piece.n);
    }
}
