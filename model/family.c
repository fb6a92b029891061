/* model/family.c - the list of families and the walk over a model's expected tensors. */
#include "model/family.h"

#include <assert.h>
#include <stdio.h>

#include "model/families/mla.h"

const char *phx_role_name(phx_role role)
{
    static const char *const names[] = {
#define X(role, name) name,
        PHX_ROLES(X)
#undef X
    };
    assert(role < PHX_ROLE_COUNT);
    return names[role];
}

const phx_family *phx_family_at(size_t idx)
{
    return idx < phx_n_families_mla ? &phx_families_mla[idx] : NULL;
}

const phx_family *phx_family_find(const char *model_type)
{
    const phx_family *family;
    for (size_t i = 0; (family = phx_family_at(i)); i++) {
        for (const char *const *type = family->model_types; *type; type++) {
            if (strcmp(*type, model_type) == 0)
                return family;
        }
    }
    return NULL;
}

/* Does a rule hold at this place? layer -1 stands for "before the layers", n_layers + n_layers_mtp for
 * "after". */
static bool rule_holds(const phx_tensor_rule *rule, const phx_dims *dims, int64_t layer)
{
    const int64_t n_all = dims->n_layers + dims->n_layers_mtp;
    if (rule->present && !rule->present(dims))
        return false;
    const bool in_layers = layer >= 0 && layer < n_all;
    switch (rule->where) {
    case PHX_WHERE_FIRST:
        return layer == -1;
    case PHX_WHERE_LAST:
        return layer == n_all;
    case PHX_WHERE_LAYERS:
        return in_layers;
    case PHX_WHERE_INDEX:
        return in_layers && phx_layer_has_indexer(dims, layer);
    case PHX_WHERE_DENSE:
        return in_layers && !phx_layer_is_moe(dims, layer);
    case PHX_WHERE_MOE:
    case PHX_WHERE_EXPERT:
        return in_layers && phx_layer_is_moe(dims, layer);
    case PHX_WHERE_MTP:
        return in_layers && layer >= dims->n_layers;
    }
    return false;
}

phx_code phx_family_each(const phx_family *family, const phx_dims *dims, phx_tensor_visit *visit, void *user,
                         phx_error *err)
{
    const int64_t n_all = dims->n_layers + dims->n_layers_mtp;
    for (int64_t layer = -1; layer <= n_all; layer++) {
        const bool in_layers = layer >= 0 && layer < n_all;
        for (size_t i = 0; i < family->n_rules; i++) {
            const phx_tensor_rule *rule = &family->rules[i];
            if (!rule_holds(rule, dims, layer))
                continue;
            const bool per_expert = rule->where == PHX_WHERE_EXPERT;
            phx_tensor_id id = {family, rule, in_layers ? (int32_t)layer : -1, -1};
            for (int64_t e = 0; e < (per_expert ? dims->n_experts : 1); e++) {
                id.expert = per_expert ? (int32_t)e : -1;
                const phx_code rc = visit(user, &id, err);
                if (rc != PHX_OK)
                    return rc;
            }
        }
    }
    return PHX_OK;
}

bool phx_tensor_name(const phx_tensor_id *id, char *ret_name, size_t n_bytes)
{
    const char *prefix = id->family->prefix ? id->family->prefix : "";
    size_t at = strlen(prefix);
    if (at >= n_bytes)
        return false;
    memcpy(ret_name, prefix, at);
    for (const char *p = id->rule->name; *p; p++) {
        const bool is_layer = strncmp(p, "{l}", 3) == 0;
        const bool is_expert = strncmp(p, "{e}", 3) == 0;
        if (at >= n_bytes)
            return false;
        if (!is_layer && !is_expert) {
            ret_name[at++] = *p;
            continue;
        }
        at += (size_t)snprintf(ret_name + at, n_bytes - at, "%d", is_layer ? id->layer : id->expert);
        p += 2;
    }
    if (at >= n_bytes)
        return false;
    ret_name[at] = 0;
    return true;
}
