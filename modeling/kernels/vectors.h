/* Vectors of LANES floats, what is computed with them, and how they are read from memory and written to it: as float32
   or, where `half`, as bfloat16. Sums and products are of float32 always.

   No fast-math: NaN and infinities stay what they are (see `exponential`, `larger`). */
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#define COUNTING ((vi){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
#define MOST 8 /* tokens at a time: as many sums as registers hold */
#elif defined(__AVX2__)
#define LANES 8
#define COUNTING ((vi){0, 1, 2, 3, 4, 5, 6, 7})
#define MOST 4
#else
#define LANES 4
#define COUNTING ((vi){0, 1, 2, 3})
#define MOST 4
#endif
#define INLINE static inline __attribute__((always_inline))
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5) /* interleaved halves */
#define HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define MORE(a, b) ((a) > (b) ? (a) : (b))
#define UP(n) (((n) + LANES - 1) / LANES * LANES)

typedef float v __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * LANES)));
typedef uint16_t vh __attribute__((vector_size(2 * LANES)));
typedef float v4 __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));

INLINE v load(const float *p) { v x; memcpy(&x, p, sizeof x); return x; }
INLINE void store(float *p, v x) { memcpy(p, &x, sizeof x); }
/* The first n lanes, or all. */
INLINE v load_some(const float *p, int64_t n) {
  v x = {0};
  return n < LANES ? memcpy(&x, p, 4 * n), x : load(p);
}
INLINE void store_some(float *p, v x, int64_t n) { n < LANES ? (void)memcpy(p, &x, 4 * n) : store(p, x); }
INLINE v all(float a) { return a - (v){0}; }
#define CHOOSE(T, TI, mask, a, b) ((T)(((mask) & (TI)(a)) | (~(mask) & (TI)(b))))
INLINE v choose(vi mask, v a, v b) { return CHOOSE(v, vi, mask, a, b); }

/* bfloat16 is the upper half of a float32; rounded to the nearest, to even ones between two, NaN stays NaN. */
INLINE v widen(vh x) { return (v)(__builtin_convertvector(x, vu) << 16); }
INLINE vh narrow(v x) {
  vu u = (vu)x, rounded = u + 0x7fff + (u >> 16 & 1), quiet = u | 0x400000;
  return __builtin_convertvector(CHOOSE(vu, vu, (vu)(x == x), rounded, quiet) >> 16, vh);
}

/* The lanes from number i on, of n that are left. */
INLINE v get(const int half, const void *p, int64_t i, int64_t n) {
  const uint16_t *h = (const uint16_t *)p + i;
  vh x = {0};
  if (!half) return load_some((const float *)p + i, n);
  n < LANES ? memcpy(&x, h, 2 * n) : memcpy(&x, h, sizeof x);
  return widen(x);
}
INLINE void put(const int half, void *p, int64_t i, v x, int64_t n) {
  uint16_t *h = (uint16_t *)p + i;
  if (!half) { store_some((float *)p + i, x, n); return; }
  vh y = narrow(x);
  n < LANES ? memcpy(h, &y, 2 * n) : memcpy(h, &y, sizeof y);
}

/* Lane by lane, b where a comparison with NaN is false: a NaN in b comes through. */
INLINE v larger(v a, v b) { return choose(a > b, a, b); }
INLINE v smaller(v a, v b) { return choose(a < b, a, b); }

INLINE v4 fold(v x) {
  v4 part[LANES / 4];
  memcpy(part, &x, sizeof x);
  for (int n = LANES / 8; n; n /= 2)
    for (int i = 0; i < n; i++) part[i] += part[i + n];
  return part[0];
}

INLINE float sum(v x) {
  v4 a = fold(x);
  return (a[0] + a[1]) + (a[2] + a[3]);
}

INLINE float largest(v x) {
  v4 part[LANES / 4];
  memcpy(part, &x, sizeof x);
  for (int n = LANES / 8; n; n /= 2)
    for (int i = 0; i < n; i++) part[i] = CHOOSE(v4, v4i, part[i] > part[i + n], part[i], part[i + n]);
  float a = MORE(part[0][0], part[0][1]), b = MORE(part[0][2], part[0][3]);
  return MORE(a, b);
}

/* The sums of four vectors. */
INLINE v4 sums(const v *x) {
  v4 a = fold(x[0]), b = fold(x[1]), c = fold(x[2]), d = fold(x[3]);
  v4 ab = LOW(a, b) + HIGH(a, b), cd = LOW(c, d) + HIGH(c, d);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

/* The first coefficient is that of the highest power. */
INLINE v polynomial(v x, const int n, const float *c) {
  v p = all(c[0]);
  for (int i = 1; i < n; i++) p = p * x + all(c[i]);
  return p;
}

/* e^x by 2^n e^r (Cephes, expf): about 1 ulp within -87 and 88, clamped there; NaN stays NaN. */
INLINE v exponential(v x) {
  x = smaller(all(88.0f), larger(all(-87.3f), x));
  const v magic = all(12582912.0f); /* 1.5 * 2^23: adding it rounds */
  v t = x * all(1.44269504f) + magic, n = t - magic;
  v r = x - n * all(0.693359375f) - n * all(-2.12194440e-4f);
  const float c[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                     4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
  v p = polynomial(r, 6, c) * (r * r) + r + all(1.0f);
  return p * (v)(((vi)t << 23) + 0x3f800000); /* the low bits of t are n */
}

#if LANES == 16 /* a division takes as long as all the rest of an activation: a step of Newton's instead */
INLINE v over(v a, v b) {
  v r = (v)_mm512_rcp14_ps((__m512)b);
  return a * (r * (all(2.0f) - b * r));
}
#else
INLINE v over(v a, v b) { return a / b; }
#endif

/* x / 2 (1 + erf(x / sqrt 2)); erf as a rational function on [-4, 4], as in Eigen. */
INLINE v gelu(v x) {
  v z = smaller(all(4.0f), larger(all(-4.0f), x * all(0.70710678f))), q = z * z;
  const float a[] = {-2.72614225801306e-10f, 2.77068142495902e-08f,  -2.10102402082508e-06f, -5.69250639462346e-05f,
                     -7.34990630326855e-04f, -2.95459980854025e-03f, -1.60960333262415e-02f};
  const float b[] = {-1.45660718464996e-05f, -2.13374055278905e-04f, -1.68282697438203e-03f, -7.37332916720468e-03f,
                     -1.42647390514189e-02f};
  v low = x * all(0.0f); /* not 0: an infinity is to be seen */
  return choose(x < all(-5.7f), low, all(0.5f) * x * (all(1.0f) + over(z * polynomial(q, 7, a), polynomial(q, 5, b))));
}

INLINE v swish(v x, v inner) { return over(x, all(1.0f) + exponential(-inner)); }

enum { NONE, GELU, GELU_TANH, RELU, SWISH };
INLINE v activation(v x, int64_t kind) {
  if (kind == GELU) return gelu(x);
  if (kind == GELU_TANH) return swish(x, all(1.5957691216f) * (x + all(0.044715f) * x * x * x));
  if (kind == RELU) return choose(x < all(0.0f), all(0.0f), x);
  return kind == SWISH ? swish(x, x) : x;
}

