/* tests/kernels/check_device.c - a backend plugin under the checker: its ops, and memory for the cases.
 * The memory is pinned host memory, which the host and the device reach by the same pointer, so that cases
 * are written once for every backend; kernels read and write it across the bus. What lies in device memory
 * alone is tried by one copy there and back. On the emulator a kernel that is given other host memory is a
 * fault, so cases that would fail on a chip for that reason fail there too. */
#include "tests/kernels/check.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "kernels/backend.h"

#define SLAB_BYTES ((size_t)320 << 20) /* of the largest case (check_rounded.c) */
#define ALIGN      256                 /* as cudaMalloc gives it */
#define COPY_BYTES ((size_t)1 << 20)

typedef struct piece {
    void *memory;
    size_t n_bytes;
} piece;

struct check_device {
    phx_backend *backend;
    bool separate;
    uint8_t *slab;
    size_t slab_used;
    piece pieces[CHECK_ALLOCS_MAX]; /* when separate */
    size_t n_pieces;
    void *held; /* COPY_BYTES of device memory: while any is taken the emulator tells apart whose memory is
                   touched */
};

static void variant_fill(check_device *device, check_variant *variant);
static phx_code try_copies(check_device *device, phx_error *err);

phx_code check_device_create(const check_device_options *options, check_variant *variant,
                             check_device **ret_device, phx_error *err)
{
    void *slab = NULL;
    phx_code rc = PHX_OK;
    check_device *device = phx_alloc(1, sizeof(*device));
    if (!device) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "device under test");
        goto out;
    }
    device->separate = options->separate;
    rc = phx_backend_open(
        &(phx_device_request){.name = options->backend, .dir = options->dir, .allow_unproven = true},
        &device->backend, err);
    if (rc != PHX_OK)
        goto out;
    const phx_memory *pinned = device->backend->pinned;
    if (!device->separate)
        rc = pinned->take(pinned->user, SLAB_BYTES, &slab, err);
    if (rc != PHX_OK)
        goto out;
    device->slab = slab;
    rc = try_copies(device, err);
    if (rc != PHX_OK)
        goto out;
    printf("check_kernels: backend %s: %s\n", device->backend->name, device->backend->description);
    variant_fill(device, variant);
    *ret_device = device;
    device = NULL;
out:
    check_device_destroy(device);
    return rc;
}

void check_device_destroy(check_device *device)
{
    if (!device)
        return;
    if (device->backend) {
        check_device_reset(device);
        const phx_memory *pinned = device->backend->pinned;
        if (device->slab)
            pinned->give_back(pinned->user, device->slab, SLAB_BYTES);
        phx_device_give(device->backend, device->held, COPY_BYTES);
        phx_backend_destroy(device->backend);
    }
    phx_free(device);
}

void *check_device_memory(check_device *device, size_t n_bytes)
{
    const phx_memory *pinned = device->backend->pinned;
    if (device->separate) {
        phx_error err = {0};
        piece *p = &device->pieces[device->n_pieces];
        if (device->n_pieces == CHECK_ALLOCS_MAX ||
            pinned->take(pinned->user, n_bytes > 0 ? n_bytes : 1, &p->memory, &err) != PHX_OK)
            return NULL;
        p->n_bytes = n_bytes > 0 ? n_bytes : 1;
        device->n_pieces++;
        return p->memory;
    }
    if (n_bytes > SLAB_BYTES - device->slab_used)
        return NULL;
    uint8_t *memory = device->slab + device->slab_used;
    memset(memory, 0, n_bytes);
    const size_t used = device->slab_used + (n_bytes + ALIGN - 1) / ALIGN * ALIGN;
    device->slab_used = used < SLAB_BYTES ? used : SLAB_BYTES;
    return memory;
}

void check_device_reset(check_device *device)
{
    const phx_memory *pinned = device->backend->pinned;
    for (size_t i = 0; i < device->n_pieces; i++)
        pinned->give_back(pinned->user, device->pieces[i].memory, device->pieces[i].n_bytes);
    device->n_pieces = 0;
    device->slab_used = 0;
}

/* An error of a device stays with it, so nothing that comes after would mean anything. A worker goes on after
 * a remark, but what was to be checked has not run. */
static void finish(check_device *device, const char *op)
{
    phx_error err = {0};
    const char *remark = device->backend->remark;
    if (phx_sync(device->backend, &err) == PHX_OK && remark[0] == '\0')
        return;
    printf("FAILED %s %s: %s\n", op, device->backend->name, err.code != PHX_OK ? err.text : remark);
    exit(1);
}

#define X(op)                                                          \
    static void run_##op(phx_pool *queue, const phx_##op##_args *args) \
    {                                                                  \
        check_device *device = (check_device *)(void *)queue;          \
        device->backend->ops.op(device->backend->queue, args);         \
        finish(device, #op);                                           \
    }
PHX_OPS(X)
#undef X

static phx_code choose(phx_pool *queue, const phx_product_choice *choice, phx_error *err)
{
    phx_backend *backend = ((check_device *)(void *)queue)->backend;
    return backend->fns->choose_products(backend, choice, err);
}

static void variant_fill(check_device *device, check_variant *variant)
{
    *variant = (check_variant){.name = device->backend->name,
                               .queue = (phx_pool *)(void *)device,
                               .choose = device->backend->fns->choose_products ? choose : NULL,
                               .brief = strcmp(device->backend->name, "emu") == 0};
#define X(op)                   \
    variant->ops.op = run_##op; \
    variant->has_##op = true;
    PHX_OPS(X)
#undef X
}

/* Host to device to host, with a length that is no multiple of anything. */
static phx_code try_copies(check_device *device, phx_error *err)
{
    phx_backend *b = device->backend;
    void *there = NULL;
    const size_t n = COPY_BYTES - 3; /* of COPY_BYTES taken */
    uint8_t *from = phx_alloc(n, 1);
    uint8_t *back = phx_alloc(n, 1);
    phx_code rc = from && back ? PHX_OK : PHX_FAIL(err, PHX_ERR_NOMEM, "copies");
    phx_rng rng = {.seed = 7};
    for (size_t i = 0; rc == PHX_OK && i < n; i++)
        from[i] = (uint8_t)phx_rng_u64(&rng);
    if (rc == PHX_OK)
        rc = phx_device_take(b, COPY_BYTES, &there, err);
    if (rc == PHX_OK)
        rc = phx_upload(b, there, from, n, err);
    if (rc == PHX_OK)
        rc = phx_download(b, back, there, n, err);
    if (rc == PHX_OK && memcmp(from, back, n) != 0)
        rc = PHX_FAIL(err, PHX_ERR_DEVICE, "what was copied to the device and back has changed");
    phx_free(from);
    phx_free(back);
    device->held = there;
    return rc;
}
