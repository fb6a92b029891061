/* kernels/cpu/vec_c.h - the AVX-512 form of vec.h in plain C: the same 16 lanes, the same bits. For the
 * checker on machines without AVX-512; far too slow for anything else. Included by vec.h alone. */
#ifndef PHX_KERNELS_CPU_VEC_C_H
#define PHX_KERNELS_CPU_VEC_C_H

#define PHX_LANES 16

typedef struct phx_vf {
    float lane[PHX_LANES];
} phx_vf;

/* The body of a function of vectors: result r, lane number i. */
#define PHX_VF_EACH(expression)         \
    phx_vf r;                           \
    for (int i = 0; i < PHX_LANES; i++) \
        r.lane[i] = (expression);       \
    return r

PHX_ALWAYS phx_vf phx_vf_zero(void)
{
    PHX_VF_EACH(0.0f);
}

PHX_ALWAYS phx_vf phx_vf_set(float value)
{
    PHX_VF_EACH(value);
}

PHX_ALWAYS phx_vf phx_vf_load(const float *p)
{
    phx_vf r;
    memcpy(&r, p, sizeof(r));
    return r;
}

PHX_ALWAYS void phx_vf_store(float *p, phx_vf v)
{
    memcpy(p, &v, sizeof(v));
}

PHX_ALWAYS phx_vf phx_vf_fma(phx_vf a, phx_vf b, phx_vf c)
{
    PHX_VF_EACH(fmaf(a.lane[i], b.lane[i], c.lane[i]));
}

PHX_ALWAYS phx_vf phx_vf_add(phx_vf a, phx_vf b)
{
    PHX_VF_EACH(a.lane[i] + b.lane[i]);
}

PHX_ALWAYS phx_vf phx_vf_sub(phx_vf a, phx_vf b)
{
    PHX_VF_EACH(a.lane[i] - b.lane[i]);
}

PHX_ALWAYS phx_vf phx_vf_mul(phx_vf a, phx_vf b)
{
    PHX_VF_EACH(a.lane[i] * b.lane[i]);
}

PHX_ALWAYS phx_vf phx_vf_div(phx_vf a, phx_vf b)
{
    PHX_VF_EACH(a.lane[i] / b.lane[i]);
}

PHX_ALWAYS phx_vf phx_vf_max(phx_vf a, phx_vf b)
{
    PHX_VF_EACH(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]);
}

PHX_ALWAYS phx_vf phx_vf_min(phx_vf a, phx_vf b)
{
    PHX_VF_EACH(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]);
}

/* p * 2^n in two exact factors; n holds whole numbers in -127..128. */
PHX_ALWAYS phx_vf phx_vf_scale_exp2(phx_vf p, phx_vf n)
{
    phx_vf r;
    for (int i = 0; i < PHX_LANES; i++) {
        const int32_t e = (int32_t)n.lane[i];
        const int32_t half = e >> 1;
        const float a = phx_f32_of_bits((uint32_t)(half + 127) << 23);
        const float b = phx_f32_of_bits((uint32_t)(e - half + 127) << 23);
        r.lane[i] = (p.lane[i] * a) * b;
    }
    return r;
}

/* x >= limit ? v : +0 */
PHX_ALWAYS phx_vf phx_vf_zero_below(phx_vf v, phx_vf x, float limit)
{
    PHX_VF_EACH(x.lane[i] >= limit ? v.lane[i] : 0.0f);
}

/* Whether any lane of a is greater than b's. */
PHX_ALWAYS int phx_vf_any_greater(phx_vf a, phx_vf b)
{
    int any = 0;
    for (int i = 0; i < PHX_LANES; i++)
        any |= a.lane[i] > b.lane[i];
    return any;
}

PHX_ALWAYS phx_vf phx_vf_load_bf16(const uint16_t *p)
{
    PHX_VF_EACH(phx_bf16_to_f32(p[i]));
}

PHX_ALWAYS phx_vf phx_vf_load_f16(const uint16_t *p)
{
    PHX_VF_EACH(phx_f16_to_f32(p[i]));
}

PHX_ALWAYS phx_vf phx_vf_load_fp8(const uint8_t *p)
{
    PHX_VF_EACH(phx_f16_to_f32((uint16_t)((p[i] & 0x80u) << 8 | (p[i] & 0x7Fu) << 7)));
}

PHX_ALWAYS void phx_vf_load2_fp8(const uint8_t *p, phx_vf ret_v[2])
{
    ret_v[0] = phx_vf_load_fp8(p);
    ret_v[1] = phx_vf_load_fp8(p + PHX_LANES);
}

PHX_ALWAYS void phx_vf_store_bf16(uint16_t *p, phx_vf v)
{
    for (int i = 0; i < PHX_LANES; i++)
        p[i] = phx_f32_to_bf16(v.lane[i]);
}

PHX_ALWAYS float phx_vf_max_across(phx_vf v)
{
    float max = v.lane[0];
    for (int i = 1; i < PHX_LANES; i++)
        max = v.lane[i] > max ? v.lane[i] : max;
    return max;
}

PHX_ALWAYS float phx_vf_sum(phx_vf v)
{
    float s[8];
    for (int i = 0; i < 8; i++)
        s[i] = v.lane[i] + v.lane[i + 8];
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

/* The sums over lanes of v[0..3], in the order named in vec.h. */
PHX_ALWAYS void phx_vf_sum4(const phx_vf v[4], float ret_sums[4])
{
    for (int i = 0; i < 4; i++)
        ret_sums[i] = phx_vf_sum(v[i]);
}

#endif
