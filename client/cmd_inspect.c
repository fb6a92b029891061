/* client/cmd_inspect.c - `phalanx inspect`: what a checkpoint folder holds, from its headers alone.
 * Owns: its two prints. Not here: the sums (model_sums.h). */
#include "client/command.h"

#include "base/json.h"
#include "base/paths.h"
#include "client/model_sums.h"
#include "client/terminal.h"

#define TEXT_BYTES_MAX  (64u << 20)
#define NAMES_SHOWN_MAX 20u /* of missing and unexpected tensors, in the text for people */

typedef struct dim_name {
    const char *name;
    size_t offset; /* of an int64_t in phx_dims */
} dim_name;

#define DIM(field)                        \
    {                                     \
#field, offsetof(phx_dims, field) \
    }
static const dim_name dim_names[] = {
    DIM(n_layers),
    DIM(n_layers_dense),
    DIM(n_layers_mtp),
    DIM(d_hidden),
    DIM(d_ff_dense),
    DIM(d_ff_expert),
    DIM(n_heads),
    DIM(d_nope),
    DIM(d_rope),
    DIM(d_v),
    DIM(q_lora),
    DIM(kv_lora),
    DIM(n_experts),
    DIM(n_experts_used),
    DIM(n_experts_shared),
    DIM(n_expert_groups),
    DIM(n_expert_groups_used),
    DIM(index_n_heads),
    DIM(index_d),
    DIM(index_topk),
    DIM(n_vocab),
    DIM(n_positions),
};
#define N_DIMS (sizeof(dim_names) / sizeof(dim_names[0]))

static int64_t dim_value(const phx_dims *dims, const dim_name *name)
{
    return *(const int64_t *)(const void *)((const char *)dims + name->offset);
}

/* ---- for people ---- */

static void put_sum(phx_buf *buf, const char *name, const phx_model_sum *s)
{
    phx_buf count;
    phx_buf_init(&count, 64);
    phx_put_count(&count, s->n_parameters);
    phx_buf_printf(buf, "  %-12s %8llu tensors  %9.*s parameters  ", name, (unsigned long long)s->n_tensors,
                   PHX_STR_ARG(phx_buf_view(&count)));
    phx_put_bytes(buf, s->n_bytes);
    phx_buf_char(buf, '\n');
    phx_buf_done(&count);
}

static void put_names(phx_buf *buf, const phx_checkpoint *checkpoint, const char *what, uint64_t n,
                      phx_str (*name_at)(const phx_checkpoint *checkpoint, size_t idx))
{
    if (n == 0)
        return;
    phx_buf_printf(buf, "%-11s %llu\n", what, (unsigned long long)n);
    for (size_t i = 0; i < n && i < NAMES_SHOWN_MAX; i++) {
        const phx_str name = name_at(checkpoint, i);
        phx_buf_printf(buf, "  %.*s\n", PHX_STR_ARG(name));
    }
    if (n > NAMES_SHOWN_MAX)
        phx_buf_printf(buf, "  ... and %llu more (--json lists all)\n",
                       (unsigned long long)(n - NAMES_SHOWN_MAX));
}

static void print_text(const phx_checkpoint *checkpoint, const phx_model_sums *all, phx_buf *buf)
{
    const phx_dims *dims = phx_checkpoint_dims(checkpoint);
    const phx_checkpoint_totals totals = phx_checkpoint_count_all(checkpoint);
    phx_buf_printf(buf, "model       %s\n", phx_checkpoint_dir(checkpoint));
    phx_buf_printf(buf, "family      %s (model_type %s, %s)\n", phx_checkpoint_family(checkpoint)->name,
                   dims->model_type, dims->architecture[0] ? dims->architecture : "no architecture named");
    phx_buf_printf(buf, "files       %llu, %llu tensors, ", (unsigned long long)totals.n_shards,
                   (unsigned long long)totals.n_tensors);
    phx_put_bytes(buf, totals.n_bytes);
    if (totals.n_skipped) {
        phx_buf_printf(buf, "\nskipped     %llu tensors of the parts that see, ",
                       (unsigned long long)totals.n_skipped);
        phx_put_bytes(buf, totals.n_skipped_bytes);
        phx_buf_str(buf, ": text only");
    }
    phx_buf_str(buf, "\nactive      ");
    phx_put_count(buf, all->n_active);
    phx_buf_str(buf, " parameters per token, ");
    phx_put_bytes(buf, all->n_active_bytes);
    phx_buf_str(buf, " read per decoded token (batch 1, without cache)\n\nweights\n");
    put_sum(buf, "main graph", &all->main);
    if (all->mtp.n_tensors)
        put_sum(buf, "MTP layers", &all->mtp);
    for (size_t f = 0; f < PHX_FORMAT_COUNT; f++) {
        if (all->by_format[f].n_tensors)
            put_sum(buf, phx_format_name((phx_format)f), &all->by_format[f]);
    }
    phx_buf_str(buf, "\ndimensions\n");
    for (size_t i = 0; i < N_DIMS; i++)
        phx_buf_printf(buf, "  %-20s %10lld%s", dim_names[i].name, (long long)dim_value(dims, &dim_names[i]),
                       i % 2 ? "\n" : "   ");
    phx_buf_str(buf, N_DIMS % 2 ? "\n" : "");
    put_names(buf, checkpoint, "\nmissing", totals.n_missing, phx_checkpoint_missing);
    put_names(buf, checkpoint, "\nunexpected", totals.n_extra, phx_checkpoint_extra);
}

/* ---- for scripts ---- */

static void number(phx_json_writer *w, const char *key, uint64_t value)
{
    phx_json_key(w, key);
    phx_json_u64(w, value);
}

static void text(phx_json_writer *w, const char *key, const char *value)
{
    phx_json_key(w, key);
    phx_json_text(w, value);
}

static void json_sum(phx_json_writer *w, const char *key, const phx_model_sum *s)
{
    phx_json_key(w, key);
    phx_json_begin_object(w);
    number(w, "n_tensors", s->n_tensors);
    number(w, "n_parameters", s->n_parameters);
    number(w, "n_bytes", s->n_bytes);
    phx_json_end_object(w);
}

static void json_names(phx_json_writer *w, const phx_checkpoint *checkpoint, const char *key, uint64_t n,
                       phx_str (*name_at)(const phx_checkpoint *checkpoint, size_t idx))
{
    phx_json_key(w, key);
    phx_json_begin_array(w);
    for (size_t i = 0; i < n; i++)
        phx_json_str(w, name_at(checkpoint, i));
    phx_json_end_array(w);
}

static void print_json(const phx_checkpoint *checkpoint, const phx_model_sums *all, phx_buf *buf)
{
    const phx_dims *dims = phx_checkpoint_dims(checkpoint);
    const phx_checkpoint_totals totals = phx_checkpoint_count_all(checkpoint);
    const phx_hash hash = phx_checkpoint_hash(checkpoint);
    char hex[2 * PHX_HASH_BYTES + 1];
    phx_json_writer writer;
    phx_json_writer *w = &writer;
    phx_hash_hex(&hash, sizeof(hex) - 1, hex);
    phx_json_writer_init(w, buf);
    phx_json_begin_object(w);
    text(w, "family", phx_checkpoint_family(checkpoint)->name);
    text(w, "model_type", dims->model_type);
    text(w, "architecture", dims->architecture);
    text(w, "hash", hex);
    number(w, "n_files", totals.n_shards);
    number(w, "n_tensors", totals.n_tensors);
    number(w, "n_weights", totals.n_weights);
    number(w, "n_parameters", totals.n_parameters);
    number(w, "n_bytes", totals.n_bytes);
    number(w, "n_skipped", totals.n_skipped);
    number(w, "n_skipped_bytes", totals.n_skipped_bytes);
    number(w, "n_active_parameters", all->n_active);
    number(w, "n_active_bytes", all->n_active_bytes);
    json_sum(w, "main", &all->main);
    json_sum(w, "mtp", &all->mtp);
    phx_json_key(w, "formats");
    phx_json_begin_object(w);
    for (size_t f = 0; f < PHX_FORMAT_COUNT; f++) {
        if (all->by_format[f].n_tensors)
            json_sum(w, phx_format_name((phx_format)f), &all->by_format[f]);
    }
    phx_json_end_object(w);
    phx_json_key(w, "dims");
    phx_json_begin_object(w);
    for (size_t i = 0; i < N_DIMS; i++) {
        phx_json_key(w, dim_names[i].name);
        phx_json_i64(w, dim_value(dims, &dim_names[i]));
    }
    phx_json_end_object(w);
    json_names(w, checkpoint, "missing", totals.n_missing, phx_checkpoint_missing);
    json_names(w, checkpoint, "unexpected", totals.n_extra, phx_checkpoint_extra);
    phx_json_end_object(w);
    phx_buf_char(buf, '\n');
}

phx_exit phx_command_inspect(const phx_env *env, int argc, char *const *argv)
{
    bool json = false;
    const phx_flag flags[] = {{"json", NULL, "as JSON on one line", NULL, &json}};
    const phx_args_spec spec = {
        .usage = "phalanx inspect --model DIR [--json]",
        .about = "Prints family, dimensions, formats, tensors and bytes of a checkpoint, and which tensors "
                 "are missing\n"
                 "or unexpected. Reads headers only.",
        .scopes = PHX_OPTION_BIT(MODEL),
        .flags = flags,
        .n_flags = 1,
        .exit_codes =
            "  0 complete\n  1 tensors are missing or unexpected, or it cannot be read\n  2 wrong usage\n",
    };
    char dir[PHX_PATH_MAX];
    phx_options options;
    phx_args args;
    phx_exit code = PHX_EXIT_DONE;
    phx_error err = {0};
    phx_checkpoint *checkpoint = NULL;
    phx_buf buf;
    (void)env;
    if (!phx_command_begin(&spec, argc, argv, &options, &args, &code))
        return code;
    if (phx_command_model_dir(&options, dir, sizeof(dir), &err) != PHX_OK ||
        phx_checkpoint_open_lenient(dir, &checkpoint, &err) != PHX_OK)
        return phx_command_fail(&err);
    phx_buf_init(&buf, TEXT_BYTES_MAX);
    const phx_model_sums all = phx_model_sum_up(checkpoint);
    if (json)
        print_json(checkpoint, &all, &buf);
    else
        print_text(checkpoint, &all, &buf);
    code = phx_command_print(&buf);
    const phx_checkpoint_totals totals = phx_checkpoint_count_all(checkpoint);
    if (code == PHX_EXIT_DONE && totals.n_missing + totals.n_extra > 0)
        code = PHX_EXIT_FAILED;
    phx_buf_done(&buf);
    phx_checkpoint_close(checkpoint);
    return code;
}
