/* tests/model/test_safetensors.c - every rule of the header, in memory. */
#include "tests/model/testing.h"

#include <string.h>

#include "model/safetensors.h"

static phx_code parse(const char *text, uint64_t data_bytes, phx_st_file **ret_file, phx_error *err)
{
    return phx_st_parse_header((phx_bytes){(const uint8_t *)text, strlen(text)}, data_bytes, ret_file, err);
}

static void refused(const char *text, uint64_t data_bytes, const char *named)
{
    phx_error err = {0};
    phx_st_file *file = NULL;
    const phx_code rc = parse(text, data_bytes, &file, &err);
    if (rc == PHX_OK || !strstr(err.text, named))
        fail_msg("%s: %s '%s', expected '%s'", text, phx_code_name(rc), err.text, named);
    assert_null(file);
}

static void test_good(void **state)
{
    (void)state;
    phx_error err = {0};
    phx_st_file *file = NULL;
    must(parse("{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"BF16\",\"shape\":[3],"
               "\"data_offsets\":[1,7]},\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
               "\"e\":{\"dtype\":\"F32\",\"shape\":[4,0],\"data_offsets\":[7,7]}}   ",
               7, &file, &err),
         &err);
    assert_int_equal(phx_st_count(file), 3);
    assert_true(phx_str_is(phx_st_metadata(file, "format"), "pt"));
    assert_null(phx_st_metadata(file, "nothing").ptr);
    const phx_st_tensor *b = phx_st_find(file, phx_str_of("b"));
    assert_non_null(b);
    assert_int_equal(b->n_bytes, 6);
    assert_int_equal(b->offset, phx_st_file_bytes(file) - 7 + 1);
    assert_null(phx_st_find(file, phx_str_of("c")));
    phx_st_close(file);
}

static void test_refusals(void **state)
{
    (void)state;
    refused("", 0, "start with");
    refused(" {}", 0, "start with");
    refused("[]", 0, "start with");
    refused("{", 0, "JSON");
    refused("{}", 1, "1 bytes follow");
    refused("{\"a\":1}", 0, "not an object");
    refused("{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "name has 0 bytes");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
            "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
            2, "duplicate");
    refused("{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "no dtype");
    refused("{\"a\":{\"dtype\":\"F8_E5M2\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "'F8_E5M2'");
    refused("{\"a\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "'BOOL'");
    refused("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "no shape");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, "no shape");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, "no count");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, "no count");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0,
            "overflows");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "need 8 bytes");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 3, "not inside");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "not inside");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "not inside");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
            "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
            3, "overlaps");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
            "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]}}",
            5, "hole");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, "hole");
    refused("{\"__metadata__\":{\"a\":1}}", 0, "not a string");
    refused("{\"__metadata__\":7}", 0, "not an object");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[[[[[[[[1]]]]]]]],\"data_offsets\":[0,1]}}", 1, "nested");
    char name[700];
    (void)snprintf(name, sizeof(name), "{\"%0*d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
                   513, 1);
    refused(name, 1, "513 bytes");
}

static void test_files(void **state)
{
    (void)state;
    phx_error err = {0};
    phx_st_file *file = NULL;
    assert_int_equal(phx_st_open("/nonexistent.safetensors", &file, &err), PHX_ERR_NOT_FOUND);
    err = (phx_error){0};
    assert_int_equal(phx_st_open("/tmp", &file, &err), PHX_ERR_IO);
    err = (phx_error){0};
    assert_int_not_equal(phx_st_open(source_path("CMakeLists.txt"), &file, &err), PHX_OK);
    assert_null(file);
    err = (phx_error){0};
    must(phx_st_open(source_path("tests/data/golden/deepseek-v3-qdirect/model.safetensors"), &file, &err),
         &err);
    const phx_st_tensor *tensor = phx_st_at(file, 0);
    char byte;
    assert_int_equal(phx_st_read(file, tensor, tensor->n_bytes, &byte, 1, &err), PHX_ERR_INVALID);
    assert_int_equal(phx_st_read(file, tensor, UINT64_MAX, &byte, 1, &err), PHX_ERR_INVALID);
    assert_int_equal(phx_st_read(file, tensor, tensor->n_bytes - 1, &byte, 1, &err), PHX_OK);
    phx_st_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
