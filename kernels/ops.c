/* kernels/ops.c - which implementation runs, and the rope table.
 * Owns: the level of this machine, the choice from kernels/ops.list. */
#include "kernels/ops.h"

#include <assert.h>
#include <math.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* exactly the extensions that the files of a level are compiled with, kernels/CMakeLists.txt */
#if defined(__x86_64__)

/* Bits of XCR0 that the operating system must have set: it saves these registers. */
#define XCR0_YMM 0x06u
#define XCR0_ZMM 0xE6u

static uint32_t xcr0_low(void)
{
    uint32_t low;
    uint32_t high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

phx_level phx_level_of_machine(void)
{
    const uint32_t need_1 = bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C | bit_POPCNT | bit_MOVBE;
    const uint32_t need_7 = bit_AVX2 | bit_BMI | bit_BMI2;
    const uint32_t need_zmm = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    uint32_t a;
    uint32_t b;
    uint32_t c;
    uint32_t d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & need_1) != need_1)
        return PHX_LEVEL_REF;
    const uint32_t xcr0 = xcr0_low();
    if ((xcr0 & XCR0_YMM) != XCR0_YMM)
        return PHX_LEVEL_REF;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (b & need_7) != need_7)
        return PHX_LEVEL_REF;
    if ((xcr0 & XCR0_ZMM) != XCR0_ZMM || (b & need_zmm) != need_zmm)
        return PHX_LEVEL_AVX2;
    return PHX_LEVEL_AVX512;
}

#else

phx_level phx_level_of_machine(void)
{
    return PHX_LEVEL_REF;
}

#endif

static const char *const level_names[PHX_LEVEL_COUNT] = {
#define X(level, name) [level] = name,
    PHX_LEVELS(X)
#undef X
};

const char *phx_level_name(phx_level level)
{
    assert(level < PHX_LEVEL_COUNT);
    return level_names[level];
}

bool phx_level_parse(phx_str name, phx_level *ret_level)
{
    for (unsigned i = 0; i < PHX_LEVEL_COUNT; i++) {
        if (phx_str_is(name, level_names[i])) {
            *ret_level = (phx_level)i;
            return true;
        }
    }
    return false;
}

void phx_ops_choose(phx_level level, phx_ops *ret_ops)
{
    phx_ops ops = {0};
#define PHX_OP(name, op_level, fn)               \
    if (PHX_LEVEL_##op_level <= level) {         \
        ops.name = fn;                           \
        ops.name##_level = PHX_LEVEL_##op_level; \
    }
#include "kernels/ops.list"
#undef PHX_OP
#define X(op) assert(ops.op); /* the reference has every op */
    PHX_OPS(X)
#undef X
    *ret_ops = ops;
}

int32_t phx_ops_pack(const phx_ops *ops)
{
    static const int32_t of_level[PHX_LEVEL_COUNT] = {[PHX_LEVEL_AVX2] = 32, [PHX_LEVEL_AVX512] = 64};
    return of_level[ops->product_level];
}

void phx_ops_print(const phx_ops *ops, phx_buf *buf)
{
    const char *space = "";
#define X(op)                                                                    \
    phx_buf_printf(buf, "%s%s=%s", space, #op, phx_level_name(ops->op##_level)); \
    space = " ";
    PHX_OPS(X)
#undef X
}

/* sine and cosine of r in [-pi/4, pi/4]; coefficients of fdlibm k_sin.c and k_cos.c (Sun Microsystems 1993).
 */
static double sin_near_0(double r)
{
    const double z = r * r;
    double p = 1.58969099521155010221e-10;
    p = p * z - 2.50507602534068634195e-08;
    p = p * z + 2.75573137070700676789e-06;
    p = p * z - 1.98412698298579493134e-04;
    p = p * z + 8.33333333332248946124e-03;
    p = p * z - 1.66666666666666324348e-01;
    return r + r * z * p;
}

static double cos_near_0(double r)
{
    const double z = r * r;
    double p = -1.13596475577881948265e-11;
    p = p * z + 2.08757232129817482790e-09;
    p = p * z - 2.75573143513906633035e-07;
    p = p * z + 2.48015872894767294178e-05;
    p = p * z - 1.38888888888741095749e-03;
    p = p * z + 4.16666666666666019037e-02;
    return 1.0 - 0.5 * z + z * z * p;
}

/* |angle| up to 1e7. The remainder against pi/2 = HI + MID is exact in the first step: n * HI needs 76 bits,
 * the fused difference from a nearby f32 angle needs 53. What MID leaves out is below 1e-25 here. */
static void sin_cos(float angle, double *ret_sin, double *ret_cos)
{
    const double pi_2_hi = 0x1.921fb54442d18p0;
    const double pi_2_mid = 0x1.1a62633145c07p-54;
    const double n = nearbyint((double)angle * 0x1.45f306dc9c883p-1);
    double r = fma(n, -pi_2_hi, (double)angle);
    r = fma(n, -pi_2_mid, r);
    const double s = sin_near_0(r);
    const double c = cos_near_0(r);
    const int64_t quarter = (int64_t)n & 3;
    const double sines[4] = {s, c, -s, -c};
    const double cosines[4] = {c, -s, -c, s};
    *ret_sin = sines[quarter];
    *ret_cos = cosines[quarter];
}

void phx_rope_table(const double *freqs, int64_t n_freqs, int64_t n_positions, double cos_sin_scale,
                    float *ret_table)
{
    for (int64_t p = 0; p < n_positions; p++) {
        for (int64_t i = 0; i < n_freqs; i++) {
            const float angle = (float)p * (float)freqs[i];
            double s;
            double c;
            sin_cos(angle, &s, &c);
            float *pair = ret_table + (p * n_freqs + i) * 2;
            pair[0] = (float)(c * cos_sin_scale);
            pair[1] = (float)(s * cos_sin_scale);
        }
    }
}
