/* tests/fuzz/fuzz_index.c - model.safetensors.index.json beside two good shards. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>

#include "model/checkpoint_files.h"

static void put_shard(const char *name, const char *tensor)
{
    char path[4200];
    phx_st_writer *writer = NULL;
    phx_error err = {0};
    const uint8_t data[8] = {0};
    const phx_st_decl decls[] = {{.name = tensor, .dtype = PHX_U8, .n_dims = 1, .shape = {8}}};
    (void)snprintf(path, sizeof(path), "%s/%s", fuzz_folder(), name);
    fuzz_must(phx_st_writer_open(path, decls, 1, &writer, &err), &err);
    fuzz_must(phx_st_writer_append(writer, data, sizeof(data), &err), &err);
    fuzz_must(phx_st_writer_close(writer, &err), &err);
}

static void put_model(void)
{
    static bool done;
    if (done)
        return;
    (void)fuzz_file("config.json", (phx_bytes){(const uint8_t *)"{}", 2});
    put_shard("a.safetensors", "x");
    put_shard("b.safetensors", "y");
    done = true;
}

static void check_files(const phx_ck_files *files)
{
    size_t n_tensors = 0;
    FUZZ_CHECK(files->n_files >= 1 && files->n_files <= 2);
    for (size_t i = 0; i < files->n_files; i++)
        n_tensors += phx_st_count(files->files[i].st);
    FUZZ_CHECK(files->n_places == n_tensors);
    for (size_t i = 0; i < files->n_places; i++) {
        const phx_ck_place *place = &files->places[i];
        FUZZ_CHECK(place->file_idx < files->n_files);
        FUZZ_CHECK(place->file == files->files[place->file_idx].st);
        FUZZ_CHECK(place->tensor == phx_st_at(place->file, place->tensor_idx));
        FUZZ_CHECK(phx_ck_files_find(files, place->tensor->name) == place);
        FUZZ_CHECK(place->tensor->offset + place->tensor->n_bytes <= phx_st_file_bytes(place->file));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    phx_ck_files files = {0};
    phx_error err = {0};
    put_model();
    (void)fuzz_file("model.safetensors.index.json", (phx_bytes){data, n_bytes});
    const phx_code rc = phx_ck_files_open(&files, fuzz_folder(), &err);
    if (rc == PHX_OK)
        check_files(&files);
    else
        fuzz_check_refusal(rc, &err);
    phx_ck_files_close(&files);
    return 0;
}
