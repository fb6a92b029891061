/* worker/bench_machine.c - `phalanx-worker --bench machine`: the limits that everything else is compared
 * with. Owns: which thread counts are measured, the table. Not here: the loops (kernels/cpu/peak.h). */
#include "worker/bench.h"

enum { COLUMNS_MAX = 16, READ_ROUNDS = 4 };

#define JSON_BYTES_MAX (1u << 20)

typedef struct machine_table {
    uint32_t n_columns;
    uint32_t threads[COLUMNS_MAX];
    double peaks[PHX_PEAK_COUNT][COLUMNS_MAX]; /* operations per second, 0: unit absent */
    double read[COLUMNS_MAX];                  /* bytes per second, best window */
    double sustained[COLUMNS_MAX];             /* over all windows */
    size_t read_bytes;
    phx_bench_machine_info info;
} machine_table;

static phx_code measure(const phx_bench_options *options, machine_table *table, phx_error *err);
static void print_text(const phx_bench_options *options, const machine_table *table);
static phx_code print_json(const phx_bench_options *options, const machine_table *table, phx_error *err);

phx_code phx_bench_machine(const phx_bench_options *options, phx_error *err)
{
    machine_table table = {.read_bytes = phx_peak_read_bytes()};
    phx_bench_machine_describe(&table.info);
    for (uint32_t n = 1; !options->read_only && n < options->n_threads && table.n_columns < COLUMNS_MAX - 1;
         n *= 2)
        table.threads[table.n_columns++] = n;
    table.threads[table.n_columns++] = options->n_threads;
    phx_code rc = measure(options, &table, err);
    if (rc == PHX_OK && options->json)
        rc = print_json(options, &table, err);
    else if (rc == PHX_OK)
        print_text(options, &table);
    return rc;
}

static phx_code measure(const phx_bench_options *options, machine_table *table, phx_error *err)
{
    phx_pool *pool = NULL;
    phx_bench_buffer buffer = {0};
    phx_code rc = phx_bench_buffer_init(&buffer, table->read_bytes, err);
    for (uint32_t column = 0; rc == PHX_OK && column < table->n_columns; column++) {
        rc = phx_pool_create(table->threads[column], NULL, &pool, err);
        if (rc != PHX_OK)
            break;
        for (unsigned unit = 0; unit < PHX_PEAK_COUNT; unit++) {
            if (!options->read_only && phx_peak_present((phx_peak)unit))
                table->peaks[unit][column] = phx_peak_measure(pool, (phx_peak)unit);
        }
        const phx_peak_reading reading = phx_peak_read(pool, buffer.data, buffer.n_bytes, READ_ROUNDS);
        table->read[column] = reading.best;
        table->sustained[column] = reading.sustained;
        phx_pool_destroy(pool);
        pool = NULL;
    }
    phx_bench_buffer_done(&buffer);
    return rc;
}

static void print_row(FILE *out, const char *name, const machine_table *table, const double *rates,
                      const char *unit)
{
    (void)fprintf(out, "%-24s", name);
    for (uint32_t i = 0; i < table->n_columns; i++)
        (void)fprintf(out, "%12.1f", rates[i] * 1e-9);
    (void)fprintf(out, "  %s\n", unit);
}

static void print_text(const phx_bench_options *options, const machine_table *table)
{
    FILE *out = options->out;
    char name[32];
    (void)fprintf(out, "%s, %u cores, last cache %.0f MiB, memory %.1f GiB, level %s, %s\n\n",
                  table->info.chip, table->info.n_cores, (double)table->info.cache_bytes / 0x1p20,
                  (double)table->info.memory_bytes / 0x1p30, phx_level_name(phx_level_of_machine()),
                  table->info.date);
    (void)fprintf(out, "%-24s", "threads");
    for (uint32_t i = 0; i < table->n_columns; i++)
        (void)fprintf(out, "%12u", table->threads[i]);
    (void)fputc('\n', out);
    for (unsigned unit = 0; unit < PHX_PEAK_COUNT; unit++) {
        if (!options->read_only && phx_peak_present((phx_peak)unit))
            print_row(out, phx_peak_name((phx_peak)unit), table, table->peaks[unit],
                      unit == PHX_PEAK_AVX512_VNNI ? "Gop/s" : "GFLOP/s");
    }
    (void)snprintf(name, sizeof(name), "read %zu MiB", table->read_bytes >> 20);
    print_row(out, name, table, table->read, "GB/s");
    print_row(out, "read, sustained", table, table->sustained, "GB/s");
}

static void json_rates(phx_json_writer *w, const char *key, const machine_table *table, const double *rates)
{
    phx_json_key(w, key);
    phx_json_begin_array(w);
    for (uint32_t i = 0; i < table->n_columns; i++)
        phx_json_f64(w, rates[i]);
    phx_json_end_array(w);
}

static phx_code print_json(const phx_bench_options *options, const machine_table *table, phx_error *err)
{
    phx_buf text;
    phx_json_writer w;
    phx_buf_init(&text, JSON_BYTES_MAX);
    phx_json_writer_init(&w, &text);
    phx_json_begin_object(&w);
    phx_bench_machine_write(&w, &table->info);
    phx_json_key(&w, "threads");
    phx_json_begin_array(&w);
    for (uint32_t i = 0; i < table->n_columns; i++)
        phx_json_u64(&w, table->threads[i]);
    phx_json_end_array(&w);
    phx_json_key(&w, "peaks");
    phx_json_begin_array(&w);
    for (unsigned unit = 0; unit < PHX_PEAK_COUNT; unit++) {
        if (options->read_only || !phx_peak_present((phx_peak)unit))
            continue;
        phx_json_begin_object(&w);
        phx_json_key(&w, "unit");
        phx_json_text(&w, phx_peak_name((phx_peak)unit));
        phx_json_key(&w, "of_level");
        phx_json_bool(&w, phx_peak_of_level(phx_level_of_machine()) == unit);
        json_rates(&w, "ops_per_s", table, table->peaks[unit]);
        phx_json_end_object(&w);
    }
    phx_json_end_array(&w);
    phx_json_key(&w, "read_buffer_bytes");
    phx_json_u64(&w, table->read_bytes);
    json_rates(&w, "read_bytes_per_s", table, table->read);
    json_rates(&w, "sustained_bytes_per_s", table, table->sustained);
    phx_json_end_object(&w);
    phx_code rc = text.code;
    if (rc != PHX_OK)
        rc = PHX_FAIL(err, rc, "the table as JSON");
    else
        (void)fprintf(options->out, "%s\n", text.ptr);
    phx_buf_done(&text);
    return rc;
}
