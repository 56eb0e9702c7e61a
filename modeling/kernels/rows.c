/* Row kernels for a packed batch on the CPU, float32: what a row's own adapter does to its tokens, in place, with the
   parameters read where the bank keeps them.

   Built once for each level of vector instructions (setup.py): LANES floats make one vector, the compiler knows how.
   No fast-math: NaN and infinities of a row stay that row's, and are never hidden (see `exponential`, `attend`).

   B rows (sequences), T tokens of all, D width of a token, S rows of a bank, R width of a bottleneck. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
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
#define MANY(at) ((at)->num_tokens > 64) /* below, waking threads takes longer than the work */
#define UP(n) (((n) + LANES - 1) / LANES * LANES)

typedef float v __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef float v4 __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));

/* One part of a bank: data [num_rows, width], for a row under `slot` the one at index[slot]; beyond the index, and
   without one, row 0. No data: there is no such part. */
typedef struct {
  const float *data;
  const int32_t *index;
  int64_t num_slots, num_rows, width;
} table;

/* Where B rows lie among T tokens, and under which slot each is; `row` [T] is the row of each token. */
typedef struct {
  const int64_t *start, *length, *slot, *row;
  int64_t num_rows, num_tokens, longest;
} batch;
typedef struct { table scale, shift; } scales; /* y * scale + shift, each where it is there */

/* A projection by its factors (form: see `read_blocks` and `mix_down`), its bias and, shared or not, its rule. */
typedef struct {
  int64_t form, division, rank;
  table first, second, rule, bias;
} projection;
enum { DENSE, LOW_RANK, PHM, LPHM };
const char *rows_source(void) { return SOURCE; }

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

static void activate(float *x, int64_t n, int64_t kind) {
  for (int64_t i = kind == NONE ? n : 0; i < n; i += LANES)
    store_some(x + i, activation(load_some(x + i, n - i), kind), n - i);
}

INLINE int64_t place(const table *t, int64_t slot) { return t->index && slot < t->num_slots ? t->index[slot] : 0; }
INLINE const float *values(const table *t, int64_t slot) {
  return t->data ? t->data + place(t, slot) * t->width : 0;
}
/* Of a part whose row 0 is the identity: 0 there, as if there were no part. */
INLINE const float *change(const table *t, int64_t slot) { return t->data && place(t, slot) ? values(t, slot) : 0; }

static void scale_row(float *restrict y, const float *restrict scale, const float *restrict shift, int64_t D) {
  for (int64_t i = 0; scale && i < D; i++) y[i] *= scale[i];
  for (int64_t i = 0; shift && i < D; i++) y[i] += shift[i];
}

/* y [T, D] of rows `ld` apart, in place: activation(y * scale + shift). */
void rows_scale(float *y, int64_t ld, int64_t D, const batch *at, const scales *by, int64_t kind) {
#pragma omp parallel for schedule(static) if (MANY(at))
  for (int64_t t = 0; t < at->num_tokens; t++) {
    int64_t slot = at->slot[at->row[t]];
    scale_row(y + t * ld, change(&by->scale, slot), change(&by->shift, slot), D);
    activate(y + t * ld, D, kind);
  }
}

/* y [T, D] = norm(x + r) * gain + bias, then * scale + shift; y may be x or r. */
void rows_norm(const float *x, const float *r, float *y, int64_t D, float eps, const batch *at, const scales *own,
               const scales *then) {
#pragma omp parallel for schedule(static) if (MANY(at))
  for (int64_t t = 0; t < at->num_tokens; t++) {
    int64_t slot = at->slot[at->row[t]];
    const float *a = x + t * D, *b = r + t * D;
    const float *gain = values(&own->scale, slot), *bias = values(&own->shift, slot);
    float *o = y + t * D, mean = 0, spread = 0;
#pragma omp simd reduction(+ : mean)
    for (int64_t i = 0; i < D; i++) { float e = a[i] + b[i]; o[i] = e; mean += e; }
    mean /= D;
#pragma omp simd reduction(+ : spread)
    for (int64_t i = 0; i < D; i++) { float e = o[i] - mean; spread += e * e; }
    spread = 1.0f / sqrtf(spread / D + eps);
#pragma omp simd
    for (int64_t i = 0; i < D; i++) o[i] = (o[i] - mean) * spread * gain[i] + bias[i];
    scale_row(o, change(&then->scale, slot), change(&then->shift, slot), D);
  }
}

/* to [N][ld] = activation(from + x [N][count] m [count, stride]), V vectors of columns. */
INLINE void columns(const int N, const int V, const float *const *x, int64_t count, const float *m, int64_t stride,
                    const float *from, float *to, int64_t ld, int64_t kind) {
  v c[N * V], w[V];
  for (int k = 0; k < N * V; k++) c[k] = from ? load(from + k % V * LANES) : all(0.0f);
  for (int64_t i = 0; i < count; i++) {
    for (int k = 0; k < V; k++) w[k] = load(m + i * stride + k * LANES);
    for (int k = 0; k < N * V; k++) c[k] += all(x[k / V][i]) * w[k % V];
  }
  for (int k = 0; k < N * V; k++) store(to + k / V * ld + k % V * LANES, activation(c[k], kind));
}

/* The same for `width` columns, in whole vectors. */
INLINE void product(const int N, const float *const *x, int64_t count, const float *m, int64_t stride, int64_t width,
                    const float *from, float *to, int64_t ld, int64_t kind) {
  int64_t j = 0;
  for (; j + LANES < width; j += 2 * LANES)
    columns(N, 2, x, count, m + j, stride, from ? from + j : 0, to + j, ld, kind);
  if (j < width) columns(N, 1, x, count, m + j, stride, from ? from + j : 0, to + j, ld, kind);
}

/* Keys [L, D] -> kt [D, cap] times scaling, zeros behind L; four by four. */
INLINE void transpose(const float *keys, int64_t ld, int64_t L, int64_t D, float scaling, float *kt, int64_t cap) {
  int64_t j = 0, whole = D / 4 * 4;
  for (; j + 4 <= L; j += 4)
    for (int64_t d = 0; d < whole; d += 4) {
      v4 r[4];
      for (int k = 0; k < 4; k++) { memcpy(r + k, keys + (j + k) * ld + d, sizeof *r); r[k] *= scaling; }
      v4 a = LOW(r[0], r[1]), b = LOW(r[2], r[3]), c = HIGH(r[0], r[1]), e = HIGH(r[2], r[3]);
      v4 t[4] = {__builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
                 __builtin_shufflevector(c, e, 0, 1, 4, 5), __builtin_shufflevector(c, e, 2, 3, 6, 7)};
      for (int k = 0; k < 4; k++) memcpy(kt + (d + k) * cap + j, t + k, sizeof *t);
    }
  for (int64_t i = 0; i < cap; i++)
    for (int64_t d = i < j ? whole : 0; d < D; d++) kt[d * cap + i] = i < L ? keys[i * ld + d] * scaling : 0;
}

/* One head of N queries q [N][D] on L keys: kt [D][cap] scaled, vs [L][ldv], room for weights s [N][cap] and sums
   [N][UP(D)]; -> o [N]. */
INLINE void attend(const int N, const float *const *q, int64_t D, const float *kt, const float *vs, int64_t ldv,
                   int64_t L, int64_t cap, float *s, float *sums, float *const *o, const float *scale,
                   const float *shift) {
  vi behind = COUNTING >= (int32_t)(L - (cap - LANES)); /* lanes of the last vector without a key */
  const float *ws[N];
  v over[N];
  product(N, q, D, kt, cap, cap, 0, s, cap, NONE);
  for (int z = 0; z < N; z++) {
    float *w = s + z * cap, *last = w + cap - LANES;
    v most = all(-INFINITY), total = all(0.0f);
    store(last, choose(behind, all(-INFINITY), load(last)));
    for (int64_t j = 0; j < cap; j += LANES) most = larger(load(w + j), most); /* leaves NaN out; no weight does */
    most = all(largest(most));
    for (int64_t j = 0; j < cap; j += LANES) store(w + j, exponential(load(w + j) - most));
    store(last, choose(behind, all(0.0f), load(last)));
    for (int64_t j = 0; j < cap; j += LANES) total += load(w + j);
    over[z] = all(1.0f / sum(total)), ws[z] = w;
  }
  product(N, ws, L, vs, ldv, UP(D), 0, sums, UP(D), NONE);
  for (int64_t c = 0; c < D; c += LANES) {
    v by = scale ? load_some(scale + c, D - c) : all(1.0f), plus = shift ? load_some(shift + c, D - c) : all(0.0f);
    for (int z = 0; z < N; z++) store_some(o[z] + c, load(sums + z * UP(D) + c) * over[z] * by + plus, D - c);
  }
}

INLINE void attend_row(const int64_t D, const float *base, int64_t ld, int64_t H, int64_t L, float scaling, float *out,
                       const float *scale, const float *shift, float *scratch) {
  int64_t cap = UP(L), ldv = ld;
  float *kt = scratch, *s = kt + D * cap, *sums = s + MOST * cap, *vp = sums + MOST * UP(D);
  const float *vs = base + 2 * H, *q[MOST];
  float *o[MOST];
  transpose(base + H, ld, L, D, scaling, kt, cap);
  if (D % LANES) { /* whole vectors are read: from a copy */
    for (int64_t i = 0; i < L * UP(D); i++) vp[i] = i % UP(D) < D ? vs[i / UP(D) * ld + i % UP(D)] : 0;
    vs = vp, ldv = UP(D);
  }
  for (int64_t i = 0; i < L; i += MOST) {
    for (int z = 0; z < MOST; z++) {
      int64_t at = i + z < L ? i + z : i;
      q[z] = base + at * ld, o[z] = out + at * H;
    }
    if (L - i > MOST / 2) attend(MOST, q, D, kt, vs, ldv, L, cap, s, sums, o, scale, shift);
    else attend(MOST / 2, q, D, kt, vs, ldv, L, cap, s, sums, o, scale, shift);
  }
}

/* Attention inside each row: qkv [T, 3 heads D] (q | k | v) -> out [T, heads D], times scale plus shift.
   1 on lack of memory, else 0. */
int rows_attention(const float *qkv, float *out, int64_t heads, int64_t D, float scaling, const batch *at,
                   const scales *by) {
  int64_t H = heads * D, ld = 3 * H, cap = UP(at->longest), failed = 0;
#pragma omp parallel reduction(| : failed) if (MANY(at))
  {
    float *scratch = malloc(4 * ((D + MOST + UP(D)) * cap + MOST * UP(D)));
    failed = !scratch;
#pragma omp for schedule(dynamic, 4)
    for (int64_t u = at->num_rows * heads - 1; u >= 0; u--) { /* long rows, which are last, first */
      if (failed) continue;
      int64_t b = u / heads, h = u % heads, slot = at->slot[b];
      const float *scale = change(&by->scale, slot), *shift = change(&by->shift, slot);
      const float *base = qkv + at->start[b] * ld + h * D;
      float *o = out + at->start[b] * H + h * D;
      scale = scale ? scale + h * D : 0, shift = shift ? shift + h * D : 0;
      int64_t L = at->length[b];
      if (D == 32) attend_row(32, base, ld, H, L, scaling, o, scale, shift, scratch);
      else if (D == 64) attend_row(64, base, ld, H, L, scaling, o, scale, shift, scratch);
      else attend_row(D, base, ld, H, L, scaling, o, scale, shift, scratch);
    }
    free(scratch);
  }
  return (int)failed;
}

/* y += up(activation(down(x))) [D_in -> R -> D_out] for some rows of a batch: LoRA's update, and adapter blocks.

   Every projection runs in two products. Down: x, seen as `blocks` rows of `wide` numbers, times `thin` [wide, inner],
   and what comes of it, together, times `mix` [blocks inner, R]. Up: the same backwards, `mix` [R, blocks inner], then
   `thin` [inner, wide]. A rule is joined with the factor on the narrow side; a dense projection has no mix. */
typedef struct {
  projection down, up;
  int64_t wide_in, bottleneck, wide_out, activation, of_y; /* of_y: for who calls, who gives y as x then */
  const int64_t *rows; /* in ascending order */
  int64_t num_rows;
} block;

#define FEW 6 /* inner numbers: so few are sums over `wide`, instead of lanes of a vector */

typedef struct {
  int64_t blocks, wide, inner, parts, each; /* inner = parts each: factors [parts, wide, each] or [parts, each, wide] */
} shape;

static shape shape_of(const projection *p, int64_t outer, int64_t bottleneck) {
  int64_t n = p->form >= PHM ? p->division : 1;
  int64_t each = p->form == DENSE || p->form == PHM ? bottleneck / n : p->rank;
  return (shape){n, outer / n, n * each, n, each};
}

/* The thin factor of a down projection [wide, inner], or of FEW [inner, wide] with sums by four; in place, if whole
   vectors of its last row end within the bank. */
static const float *thin_of(const table *t, int64_t slot, shape s, float *room) {
  const float *from = values(t, slot);
  int few = s.inner < FEW, last = (t->num_rows - 1 - place(t, slot)) * t->width < LANES;
  if (!few && s.parts == 1 && !last) return from;
  for (int64_t j = 0; j < s.inner; j++)
    for (int64_t i = 0; i < s.wide; i++)
      room[few ? j * s.wide + i : i * s.inner + j] = from[(j / s.each * s.wide + i) * s.each + j % s.each];
  if (few) memset(room + s.inner * s.wide, 0, 4 * (3 * s.wide)); /* sums come in fours */
  return room;
}

/* mix [blocks inner, UP(R)] of a down projection, R = blocks out. 0: none. */
static const float *mix_down(const projection *p, int64_t slot, shape s, int64_t R, float *mix) {
  int64_t n = s.blocks, out = R / n, to = UP(R);
  const float *rule = values(&p->rule, slot), *second = values(&p->second, slot);
  if (p->form == DENSE) return 0;
  memset(mix, 0, 4 * n * s.inner * to);
  for (int64_t row = 0; row < n; row++)
    for (int64_t part = 0; part < n; part++)
      for (int64_t e = 0; e < s.each; e++) {
        float *m = mix + (row * s.inner + part * s.each + e) * to;
        for (int64_t q = 0; q < n; q++) {
          float a = rule ? rule[(part * n + row) * n + q] : 1;
          if (p->form == PHM) m[q * out + e] = a;
          else for (int64_t o = 0; o < out; o++) m[q * out + o] = a * second[(part * s.each + e) * out + o];
        }
      }
  return mix;
}

/* mix [R, UP(blocks inner)] of an up projection, R = blocks in. 0: none. */
static const float *mix_up(const projection *p, int64_t slot, shape s, int64_t R, float *mix) {
  int64_t n = s.blocks, in = R / n, to = UP(n * s.inner);
  const float *rule = values(&p->rule, slot), *first = values(&p->first, slot);
  if (p->form == DENSE) return 0;
  memset(mix, 0, 4 * R * to);
  for (int64_t row = 0; row < n; row++)
    for (int64_t i = 0; i < in; i++) {
      float *m = mix + (row * in + i) * to;
      for (int64_t q = 0; q < n; q++)
        for (int64_t part = 0; part < n; part++) {
          float a = rule ? rule[(part * n + row) * n + q] : 1, *at = m + q * s.inner + part * s.each;
          if (p->form == PHM) at[i] = a;
          else for (int64_t e = 0; e < s.each; e++) at[e] = a * first[(part * in + i) * s.each + e];
        }
    }
  return mix;
}

/* u [N][ldu] = x [N][wide] times thin of FEW, [inner, wide]. */
INLINE void multiply_few(const int N, const float *const *x, const float *thin, shape s, float *u, int64_t ldu) {
  for (int64_t j = 0; j < s.inner; j += 4)
    for (int z = 0; z < N; z += 2) {
      v c[2][4];
      for (int k = 0; k < 8; k++) c[k / 4][k % 4] = all(0.0f);
      for (int64_t i = 0, left = s.wide; left > 0; i += LANES, left -= LANES)
        for (int k = 0; k < 4; k++) {
          v w = load_some(thin + (j + k) * s.wide + i, left);
          c[0][k] += load_some(x[z] + i, left) * w, c[1][k] += load_some(x[z + 1] + i, left) * w;
        }
      v4 a = sums(c[0]), b = sums(c[1]);
      memcpy(u + z * ldu + j, &a, sizeof a), memcpy(u + (z + 1) * ldu + j, &b, sizeof b);
    }
}

typedef struct {
  shape down, up;
  const float *thin, *mix, *bias, *mix_back, *thin_back, *bias_back; /* bias [UP(R)] */
  int64_t R, activation;
} chain;

INLINE void run_tile(const int N, int64_t n, const float *x, int64_t ldx, float *y, int64_t ldy, const chain *c,
                     float *u, int64_t ldu, float *inner, float *out) {
  const float *xs[N], *us[N], *is[N];
  int64_t R = UP(c->R), W = c->up.wide;
  int64_t few = c->down.blocks * c->down.inner, many = UP(c->up.blocks * c->up.inner);
  for (int z = 0; z < N; z++) us[z] = u + z * ldu, is[z] = inner + z * R;
  for (int64_t b = 0; b < c->down.blocks; b++) {
    float *own = u + b * c->down.inner;
    for (int z = 0; z < N; z++) xs[z] = x + (z < n ? z : 0) * ldx + b * c->down.wide;
    if (c->down.inner < FEW) multiply_few(N, xs, c->thin, c->down, own, ldu);
    else product(N, xs, c->down.wide, c->thin, c->down.inner, c->down.inner, 0, own, ldu, NONE);
  }
  if (c->mix) product(N, us, few, c->mix, R, R, c->bias, inner, R, c->activation);
  else
    for (int64_t i = 0; i < N * R; i += LANES)
      store(inner + i, activation(load(us[i / R] + i % R) + load(c->bias + i % R), c->activation));
  if (c->mix_back) product(N, is, c->R, c->mix_back, many, many, 0, u, ldu, NONE);
  else memcpy(us, is, sizeof us);
  for (int64_t q = 0; q < c->up.blocks; q++) {
    int64_t whole = W / LANES * LANES;
    for (int z = 0; z < N; z++) xs[z] = us[z] + q * c->up.inner;
    product(N, xs, c->up.inner, c->thin_back, W, whole, 0, out, UP(W), NONE);
    for (int z = 0; z < n; z++) {
      float *to = y + z * ldy + q * W, *sums = out + z * UP(W);
      for (int64_t o = whole; o < W; o++) sums[o] = 0;
      for (int64_t i = 0; i < c->up.inner; i++)
        for (int64_t o = whole; o < W; o++) sums[o] += xs[z][i] * c->thin_back[i * W + o];
      for (int64_t o = 0; o < W; o++) to[o] += sums[o];
      for (int64_t o = 0; c->bias_back && o < W; o++) to[o] += c->bias_back[q * W + o];
    }
  }
}

/* x [T, D_in] and y [T, D_out], rows ldx and ldy apart; y may be x. 1 on lack of memory, else 0. */
int rows_block(const float *x, int64_t ldx, float *y, int64_t ldy, const batch *at, const block *what) {
  int64_t R = what->bottleneck;
  shape down = shape_of(&what->down, what->wide_in, R), up = shape_of(&what->up, what->wide_out, R);
  int64_t few = down.blocks * down.inner, many = up.blocks * up.inner;
  int64_t ldu = UP(MORE(few, many)) + LANES;
  int64_t sizes[] = {(down.inner + 3) * down.wide + LANES, few * UP(R), UP(R), R * UP(many), MOST * ldu, MOST * UP(R), MOST * UP(up.wide)};
  int64_t total = 0, failed = 0;
  for (int i = 0; i < 7; i++) total += sizes[i];
#pragma omp parallel reduction(| : failed) if (MANY(at))
  {
    float *room = malloc(4 * total);
    failed = !room;
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = what->num_rows - 1; i >= 0; i--) { /* long rows, which are last, first */
      if (failed) continue;
      int64_t b = what->rows[i], slot = at->slot[b], L = at->length[b];
      float *mix = room + sizes[0], *bias = mix + sizes[1], *back = bias + sizes[2], *u = back + sizes[3];
      float *inner = u + sizes[4], *out = inner + sizes[5];
      const float *own = values(&what->down.bias, slot);
      const table *last = what->up.form == DENSE || what->up.form == PHM ? &what->up.first : &what->up.second;
      chain c = {down, up, thin_of(&what->down.first, slot, down, room), mix_down(&what->down, slot, down, R, mix), bias,
                 mix_up(&what->up, slot, up, R, back), values(last, slot), values(&what->up.bias, slot), R,
                 what->activation};
      memset(bias, 0, 4 * UP(R));
      if (own) memcpy(bias, own, 4 * R);
      for (int64_t t = 0; t < L; t += MOST) {
        const float *xt = x + (at->start[b] + t) * ldx;
        float *yt = y + (at->start[b] + t) * ldy;
        if (L - t > MOST / 2) run_tile(MOST, L - t < MOST ? L - t : MOST, xt, ldx, yt, ldy, &c, u, ldu, inner, out);
        else run_tile(MOST / 2, L - t, xt, ldx, yt, ldy, &c, u, ldu, inner, out);
      }
    }
    free(room);
  }
  return (int)failed;
}
