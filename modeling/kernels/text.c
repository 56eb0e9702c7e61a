/* Kernels for the decoder's few tokens, float32: products with packed weights, root-mean-square norms, and attention
   of each row's queries on that row's keys. Built into the libraries of `rows.c`, with its flags: no fast-math, so that
   NaN and infinities of a row stay that row's, and are never hidden.

   A sum runs over its terms in one order, however many rows there are: a row gets what it would get alone.
   M rows, I numbers in and O out, L keys, D width of a head. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#define TILE 12 /* rows at a time: two vectors of sums for each, as many as registers hold */
#elif defined(__AVX2__)
#define LANES 8
#define TILE 6
#else
#define LANES 4
#define TILE 4
#endif
#define PANEL (2 * LANES) /* columns at a time */
#define WIDE 192 /* rows at a time: they stay in the second cache */
#define DEEP 256 /* terms at a time: what they read of x stays in the first cache, and sums of sums lose less */
#define INLINE static inline __attribute__((always_inline))
#define UP(n) (((n) + LANES - 1) / LANES * LANES)

typedef float v __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef float v4 __attribute__((vector_size(16)));

INLINE v load(const float *p) { v x; memcpy(&x, p, sizeof x); return x; }
INLINE void store(float *p, v x) { memcpy(p, &x, sizeof x); }
INLINE v all(float a) { return a - (v){0}; }
INLINE v choose(vi mask, v a, v b) { return (v)((mask & (vi)a) | (~mask & (vi)b)); }
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

/* The sums of four vectors. */
INLINE v4 sums(v4 a, v4 b, v4 c, v4 d) {
  v4 ab = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
  v4 cd = __builtin_shufflevector(c, d, 0, 1, 4, 5) + __builtin_shufflevector(c, d, 2, 3, 6, 7);
  return __builtin_shufflevector(ab, cd, 0, 2, 4, 6) + __builtin_shufflevector(ab, cd, 1, 3, 5, 7);
}

/* e^x by 2^n e^r (Cephes, expf), clamped to -87 and 88; NaN stays NaN. */
INLINE v exponential(v x) {
  x = smaller(all(88.0f), larger(all(-87.3f), x));
  const v magic = all(12582912.0f); /* 1.5 * 2^23: adding it rounds */
  v t = x * all(1.44269504f) + magic, n = t - magic;
  v r = x - n * all(0.693359375f) - n * all(-2.12194440e-4f), p = all(1.9875691500e-4f);
  const float c[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
  for (int i = 0; i < 5; i++) p = p * r + all(c[i]);
  p = p * (r * r) + r + all(1.0f);
  return p * (v)(((vi)t << 23) + 0x3f800000); /* the low bits of t are n */
}

int64_t text_panel(void) { return PANEL; }

/* Sums by name: of arrays that are so long, compilers keep memory instead of registers. */
#define EACH_1(F) F(0)
#define EACH_2(F) EACH_1(F) F(1)
#define EACH_4(F) EACH_2(F) F(2) F(3)
#define EACH_6(F) EACH_4(F) F(4) F(5)
#define EACH_12(F) EACH_6(F) F(6) F(7) F(8) F(9) F(10) F(11)
#define BEGIN(z) v a##z = all(0.0f), b##z = a##z;
#define ADD(z) { v w = all(x[z * ldx]); a##z += w * p, b##z += w * q; }
#define END(z)                                                                                                         \
  {                                                                                                                    \
    float *o = y + z * ldy;                                                                                            \
    if (how & MORE) a##z += load(o), b##z += load(o + LANES);                                                          \
    if (how & RELU) a##z = choose(a##z < all(0.0f), all(0.0f), a##z), b##z = choose(b##z < all(0.0f), all(0.0f), b##z); \
    store(o, a##z), store(o + LANES, b##z);                                                                            \
  }
enum { MORE = 1, RELU = 2 }; /* add to what is there; and what is below 0 becomes 0 */
/* y [N, PANEL] (+)= x [N, count] times a panel [count, PANEL]. Meanwhile `ahead`, which comes next, is fetched, `step`
   bytes with each term. */
#define TILE_OF(N)                                                                                                     \
  static void tile_##N(const float *x, int64_t ldx, int64_t count, const float *panel, float *y, int64_t ldy,          \
                       int how, const char *ahead, int64_t step) {                                                    \
    EACH_##N(BEGIN)                                                                                                    \
    for (int64_t i = 0; i < count; i++, x++, panel += PANEL, ahead += step) {                                          \
      v p = load(panel), q = load(panel + LANES);                                                                      \
      __builtin_prefetch(ahead, 0, 2);                                                                                 \
      EACH_##N(ADD)                                                                                                    \
    }                                                                                                                  \
    EACH_##N(END)                                                                                                      \
  }
TILE_OF(1)
TILE_OF(2)
TILE_OF(4)
#if LANES > 4
TILE_OF(6)
#endif
#if LANES > 8
TILE_OF(12)
#endif

/* M rows in tiles, the largest first. */
static void tiles(int64_t M, const float *x, int64_t ldx, int64_t count, const float *panel, float *y, int64_t ldy,
                  int how, const char *ahead, int64_t step) {
#define RUN(N) \
  for (; M >= N; M -= N, x += N * ldx, y += N * ldy, ahead += count * step) \
    tile_##N(x, ldx, count, panel, y, ldy, how, ahead, step);
#if LANES > 8
  RUN(12)
#endif
#if LANES > 4
  RUN(6)
#endif
  RUN(4)
  RUN(2)
  RUN(1)
}

/* y [M, O] = x [M, I] times packed panels [O / PANEL, I, PANEL], with `relu` no less than 0; O is a multiple of PANEL. */
void text_product(const float *x, int64_t ldx, int64_t M, int64_t I, const float *packed, int64_t O, float *y,
                  int64_t relu) {
#pragma omp parallel for collapse(2) schedule(static) if (M * I * O > 1 << 22)
  for (int64_t m = 0; m < M; m += WIDE)
    for (int64_t p = 0; p < O / PANEL; p++) {
      int64_t n = M - m < WIDE ? M - m : WIDE;
      int64_t step = (4 * PANEL * TILE + n - 1) / n; /* bytes: all that comes next while n rows pass */
      for (int64_t i = 0; i < I; i += DEEP) {
        int64_t count = I - i < DEEP ? I - i : DEEP;
        const float *panel = packed + (p * I + i) * PANEL;
        const char *next = (const char *)(panel + count * PANEL); /* behind the last nothing is read: only fetched */
        int how = (i > 0 ? MORE : 0) | (relu && i + count == I ? RELU : 0);
        tiles(n, x + m * ldx + i, ldx, count, panel, y + m * O + p * PANEL, O, how, next,
              step < 4 * PANEL ? step : 4 * PANEL);
      }
    }
}

/* y [M, D] = x / sqrt(mean(x^2) + eps) * gain [D], or of gains [.., D] the one that `of` [M] names. */
void text_norm(const float *x, float *y, int64_t M, int64_t D, const float *gains, const int32_t *of, float eps) {
#pragma omp parallel for schedule(static) if (M > 64)
  for (int64_t m = 0; m < M; m++) {
    const float *a = x + m * D, *gain = of ? gains + of[m] * D : gains;
    float *o = y + m * D, spread = 0;
#pragma omp simd reduction(+ : spread)
    for (int64_t i = 0; i < D; i++) spread += a[i] * a[i];
    spread = 1.0f / sqrtf(spread / D + eps);
#pragma omp simd
    for (int64_t i = 0; i < D; i++) o[i] = a[i] * spread * gain[i];
  }
}

/* Where the queries of B rows lie and where their keys do: token t of keys is `key_step` tokens behind t - 1. */
typedef struct {
  const int64_t *queries, *num_queries, *keys, *num_keys;
  int64_t num_rows, key_step, longest, num_tokens;
} rows;
/* ld: numbers from one token to the next. `bias` [heads, 2 most + 1] by distance, or none. */
typedef struct {
  const float *q, *k, *v, *bias;
  float *out;
  int64_t ldq, ldk, ldv, ldo, heads, width, most;
  float scaling;
} attention;

/* s [UP(L)] = what a query [D] weighs L keys at; behind them 0. Returns the sum. */
INLINE float weigh(const int64_t D, const float *q, const float *k, int64_t ldk, int64_t L, float scaling,
                   const float *bias, int64_t most, int64_t place, float *s) {
  v top = all(-INFINITY), total = all(0.0f);
  for (int64_t j = 0; j < L; j += 4) {
    v c[4] = {all(0.0f), all(0.0f), all(0.0f), all(0.0f)};
    for (int64_t d = 0; d < D; d += LANES)
      for (int z = 0; z < 4; z++) c[z] += load(q + d) * load(k + (j + z < L ? j + z : j) * ldk + d);
    v4 found = sums(fold(c[0]), fold(c[1]), fold(c[2]), fold(c[3])) * scaling;
    memcpy(s + j, &found, sizeof found);
  }
  for (int64_t j = 0; bias && j < L; j++) {
    int64_t far = j - place;
    s[j] += bias[(far < -most ? -most : far > most ? most : far) + most];
  }
  for (int64_t j = L; j < UP(L); j++) s[j] = -INFINITY;
  for (int64_t j = 0; j < L; j += LANES) top = larger(load(s + j), top); /* leaves NaN out; no weight does */
  for (int i = 1; i < LANES; i++) top[0] = top[i] > top[0] ? top[i] : top[0];
  for (int64_t j = 0; j < L; j += LANES) store(s + j, exponential(load(s + j) - all(top[0])));
  for (int64_t j = L; j < UP(L); j++) s[j] = 0;
  for (int64_t j = 0; j < L; j += LANES) total += load(s + j);
  v4 t = fold(total);
  return (t[0] + t[1]) + (t[2] + t[3]);
}

INLINE void attend(const int64_t D, const attention *a, const rows *at, int64_t b, int64_t h, float *s) {
  int64_t L = at->num_keys[b], ldk = a->ldk * at->key_step, ldv = a->ldv * at->key_step;
  const float *k = a->k + at->keys[b] * a->ldk + h * D, *values = a->v + at->keys[b] * a->ldv + h * D;
  const float *bias = a->bias ? a->bias + h * (2 * a->most + 1) : 0;
  for (int64_t i = 0; i < at->num_queries[b]; i++) {
    int64_t token = at->queries[b] + i, place = L - at->num_queries[b] + i;
    const float *q = a->q + token * a->ldq + h * D;
    float *out = a->out + token * a->ldo + h * D;
    v over = all(1.0f / weigh(D, q, k, ldk, L, a->scaling, bias, a->most, place, s));
    for (int64_t d = 0; d < D; d += 4 * LANES) {
      v c[4] = {all(0.0f), all(0.0f), all(0.0f), all(0.0f)};
      for (int64_t j = 0; j < L; j++)
        for (int z = 0; z < 4; z++)
          if (d + z * LANES < D) c[z] += all(s[j]) * load(values + j * ldv + d + z * LANES);
      for (int z = 0; z < 4; z++)
        if (d + z * LANES < D) store(out + d + z * LANES, c[z] * over);
    }
  }
}

/* Attention of each row's queries on its keys; the last query stands at the last key. The width of a head is a multiple
   of LANES. 1 on lack of memory, else 0. */
int text_attention(const attention *a, const rows *at) {
  int64_t failed = 0;
#pragma omp parallel reduction(| : failed) if (at->num_tokens > 64)
  {
    float *s = malloc(4 * (UP(at->longest) + LANES));
    failed = !s;
#pragma omp for schedule(dynamic, 4)
    for (int64_t u = at->num_rows * a->heads - 1; u >= 0; u--) {
      int64_t b = u / a->heads, h = u % a->heads;
      if (failed || !at->num_queries[b]) continue;
      if (a->width == 64) attend(64, a, at, b, h, s);
      else attend(a->width, a, at, b, h, s);
    }
    free(s);
  }
  return (int)failed;
}
