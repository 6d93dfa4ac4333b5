// What the compiler's own library has elsewhere, for windows: division, and single floats in
// whole numbers (IEEE 754, to the nearest; subnormal results are zero).
#include <stdint.h>
#include <string.h>

typedef union { float f; uint32_t u; } single;
typedef union { double d; uint64_t u; } twice;

static uint32_t divide(uint32_t a, uint32_t b, uint32_t *rest) {
    uint32_t result = 0, r = 0;
    for (int i = 31; i >= 0; i--) {
        uint32_t carry = r >> 31;
        r = r << 1 | (a >> i & 1);
        if (carry || r >= b) {
            r -= b;
            result |= 1u << i;
        }
    }
    *rest = r;
    return result;
}
uint32_t __udivsi3(uint32_t a, uint32_t b) {
    uint32_t rest;
    return divide(a, b, &rest);
}
uint32_t __umodsi3(uint32_t a, uint32_t b) {
    uint32_t rest;
    divide(a, b, &rest);
    return rest;
}
int32_t __divsi3(int32_t a, int32_t b) {
    uint32_t q = __udivsi3(a < 0 ? -(uint32_t)a : a, b < 0 ? -(uint32_t)b : b);
    return (a ^ b) < 0 ? -q : q;
}
int32_t __modsi3(int32_t a, int32_t b) {
    uint32_t r = __umodsi3(a < 0 ? -(uint32_t)a : a, b < 0 ? -(uint32_t)b : b);
    return a < 0 ? -r : r;
}
uint64_t __umulsidi3(uint32_t a, uint32_t b) {
    uint32_t low = (a & 0xffff) * (b & 0xffff), one = (a >> 16) * (b & 0xffff);
    uint32_t other = (a & 0xffff) * (b >> 16), high = (a >> 16) * (b >> 16);
    uint32_t middle = one + other;
    if (middle < one) {
        high += 0x10000;
    }
    uint32_t lower = low + (middle << 16);
    high += (middle >> 16) + (lower < low);
    return (uint64_t)high << 32 | lower;
}

#define EXPONENT(u) ((int)((u) >> 23 & 0xff))
#define INFINITE 0x7f800000u
#define NAN_ 0x7fc00000u

// sign; 2^(exponent - 127 - 30) * m with the highest bit of m at 30: rounded
static float made(uint32_t sign, int exponent, uint32_t m) {
    single s;
    uint32_t low = m & 0x7f;
    m >>= 7;
    m += low > 0x40 || (low == 0x40 && (m & 1));
    if (m >> 24) {
        m >>= 1;
        exponent++;
    }
    if (exponent >= 255) {
        s.u = sign | INFINITE;
    } else if (exponent <= 0) {
        s.u = sign;
    } else {
        s.u = sign | (uint32_t)exponent << 23 | (m & 0x7fffff);
    }
    return s.f;
}
static uint32_t mantissa(uint32_t u) {
    return EXPONENT(u) ? (u & 0x7fffff) | 0x800000 : 0; // a subnormal one counts as zero
}
static int is_nan(uint32_t u) {
    return (u & 0x7fffffff) > INFINITE;
}
static float bits(uint32_t u) {
    single s = {.u = u};
    return s.f;
}
float __addsf3(float x, float y) {
    uint32_t a = ((single)x).u, b = ((single)y).u;
    if (is_nan(a) || is_nan(b)) {
        return bits(NAN_);
    }
    if ((a & 0x7fffffff) < (b & 0x7fffffff)) {
        uint32_t c = a;
        a = b;
        b = c;
    }
    if (EXPONENT(a) == 255) {
        return bits(EXPONENT(b) == 255 && a != b ? NAN_ : a);
    }
    uint32_t m = mantissa(a) << 6, n = mantissa(b) << 6;
    int exponent = EXPONENT(a), apart = exponent - EXPONENT(b);
    if (apart > 31) {
        n = n != 0;
    } else if (apart) {
        n = n >> apart | ((n << (32 - apart)) != 0);
    }
    if ((a ^ b) >> 31) {
        m -= n;
        if (!m) {
            return 0;
        }
    } else {
        m += n;
    }
    if (!m) {
        return bits(a & 0x80000000);
    }
    exponent++; // the highest bit belongs at 30, a's was at 29
    while (!(m >> 30)) {
        m <<= 1;
        exponent--;
    }
    return made(a & 0x80000000, exponent, m);
}
float __subsf3(float x, float y) {
    return __addsf3(x, bits(((single)y).u ^ 0x80000000));
}
float __mulsf3(float x, float y) {
    uint32_t a = ((single)x).u, b = ((single)y).u, sign = (a ^ b) & 0x80000000;
    if (is_nan(a) || is_nan(b)) {
        return bits(NAN_);
    }
    uint32_t m = mantissa(a), n = mantissa(b);
    if (EXPONENT(a) == 255 || EXPONENT(b) == 255) {
        return bits(m && n ? sign | INFINITE : NAN_);
    }
    if (!m || !n) {
        return bits(sign);
    }
    uint64_t product = __umulsidi3(m, n); // its highest bit at 46 or 47
    int exponent = EXPONENT(a) + EXPONENT(b) - 127;
    int shift = product >> 47 ? 17 : 16;
    exponent += shift - 16;
    return made(sign, exponent, (uint32_t)(product >> shift) | ((product & ((1u << shift) - 1)) != 0));
}
float __divsf3(float x, float y) {
    uint32_t a = ((single)x).u, b = ((single)y).u, sign = (a ^ b) & 0x80000000;
    uint32_t m = mantissa(a), n = mantissa(b), q = 0;
    if (is_nan(a) || is_nan(b) || (!m && !n) || (EXPONENT(a) == 255 && EXPONENT(b) == 255)) {
        return bits(NAN_);
    }
    if (EXPONENT(a) == 255 || !n) {
        return bits(sign | INFINITE);
    }
    if (!m || EXPONENT(b) == 255) {
        return bits(sign);
    }
    int exponent = EXPONENT(a) - EXPONENT(b) + 127;
    if (m < n) {
        m <<= 1;
        exponent--;
    }
    for (int i = 0; i < 31; i++) {
        q <<= 1;
        if (m >= n) {
            m -= n;
            q |= 1;
        }
        m <<= 1;
    }
    return made(sign, exponent, q | (m != 0));
}
// -1, 0, 1; 2 where either is no number
static int compare(float x, float y) {
    uint32_t a = ((single)x).u, b = ((single)y).u;
    if (is_nan(a) || is_nan(b)) {
        return 2;
    }
    int32_t i = a >> 31 ? -(int32_t)(a & 0x7fffffff) : (int32_t)a;
    int32_t j = b >> 31 ? -(int32_t)(b & 0x7fffffff) : (int32_t)b;
    return (i > j) - (i < j);
}
int __eqsf2(float x, float y) { return compare(x, y); }
int __nesf2(float x, float y) { return compare(x, y); }
int __ltsf2(float x, float y) { return compare(x, y); }
int __lesf2(float x, float y) { return compare(x, y); }
int __gtsf2(float x, float y) { int c = compare(x, y); return c == 2 ? -1 : c; }
int __gesf2(float x, float y) { int c = compare(x, y); return c == 2 ? -1 : c; }
int __unordsf2(float x, float y) { return compare(x, y) == 2; }

static float whole(uint32_t sign, uint32_t n) {
    if (!n) {
        return 0;
    }
    int exponent = 127 + 31;
    while (!(n >> 31)) {
        n <<= 1;
        exponent--;
    }
    return made(sign, exponent, n >> 1 | (n & 1));
}
float __floatunsisf(uint32_t n) { return whole(0, n); }
float __floatsisf(int32_t n) {
    return n < 0 ? whole(0x80000000, -(uint32_t)n) : whole(0, n);
}
uint32_t __fixunssfsi(float x) {
    uint32_t u = ((single)x).u, m = mantissa(u);
    int exponent = EXPONENT(u) - 150;
    return exponent >= 0 ? (exponent > 8 ? 0xffffffff : m << exponent) : exponent < -31 ? 0 : m >> -exponent;
}
int32_t __fixsfsi(float x) {
    uint32_t u = ((single)x).u, n = __fixunssfsi(bits(u & 0x7fffffff));
    return u >> 31 ? -n : n;
}
double __extendsfdf2(float x) {
    uint32_t u = ((single)x).u;
    twice t = {.u = (uint64_t)(u >> 31) << 63};
    if (EXPONENT(u)) {
        uint64_t exponent = EXPONENT(u) == 255 ? 2047 : EXPONENT(u) + 896;
        t.u |= exponent << 52 | (uint64_t)(u & 0x7fffff) << 29;
    }
    return t.d;
}
float __truncdfsf2(double x) {
    uint64_t u = ((twice)x).u;
    int exponent = (int)(u >> 52 & 0x7ff);
    uint32_t sign = (uint32_t)(u >> 63) << 31, m = (uint32_t)(u >> 22 & 0x3fffffff);
    if (exponent == 2047) {
        return bits(u << 12 ? NAN_ : sign | INFINITE);
    }
    return made(sign, exponent - 896, 0x40000000 | m | ((u & 0x3fffff) != 0));
}
double __floatsidf(int32_t n) {
    uint32_t m = n < 0 ? -(uint32_t)n : n;
    twice t = {.u = n < 0 ? 1ull << 63 : 0};
    if (m) {
        uint64_t exponent = 1023 + 31;
        while (!(m >> 31)) {
            m <<= 1;
            exponent--;
        }
        t.u |= exponent << 52 | (uint64_t)(m & 0x7fffffff) << 21;
    }
    return t.d;
}
float fabsf(float x) { return bits(((single)x).u & 0x7fffffff); }
float copysignf(float x, float y) {
    return bits((((single)x).u & 0x7fffffff) | (((single)y).u & 0x80000000));
}
float nanf(const char *s) { return bits(NAN_); }
