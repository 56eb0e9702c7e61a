/* Row kernels for a packed batch on the CPU: what a row's own adapter does to its tokens, in place, with the parameters
   read where the bank keeps them. States are float32 or, where `half`, bfloat16; parameters and sums are float32.

   Built once for each level of vector instructions (setup.py): LANES floats make one vector, the compiler knows how.
   No fast-math: NaN and infinities of a row stay that row's, and are never hidden (see `exponential`, `attend`).

   B rows (sequences), T tokens of all, D width of a token, S rows of a bank, R width of a bottleneck. */
#include <stdlib.h>

#include "vectors.h"

#define MANY(at) ((at)->num_tokens > 64) /* below, waking threads takes longer than the work */

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

INLINE int64_t place(const table *t, int64_t slot) { return t->index && slot < t->num_slots ? t->index[slot] : 0; }
INLINE const float *values(const table *t, int64_t slot) {
  return t->data ? t->data + place(t, slot) * t->width : 0;
}
/* Of a part whose row 0 is the identity: 0 there, as if there were no part. */
INLINE const float *change(const table *t, int64_t slot) { return t->data && place(t, slot) ? values(t, slot) : 0; }

/* y * scale + shift, the lanes from i on. */
INLINE v scaled(v y, const float *scale, const float *shift, int64_t i, int64_t n) {
  if (scale) y *= load_some(scale + i, n);
  return shift ? y + load_some(shift + i, n) : y;
}

INLINE void scale_token(const int half, void *y, int64_t D, const float *scale, const float *shift, int64_t kind) {
  for (int64_t i = 0; i < D; i += LANES)
    put(half, y, i, activation(scaled(get(half, y, i, D - i), scale, shift, i, D - i), kind), D - i);
}

/* y [T, D] of rows `ld` apart, in place: activation(y * scale + shift). */
void rows_scale(void *y, int64_t half, int64_t ld, int64_t D, const batch *at, const scales *by, int64_t kind) {
#pragma omp parallel for schedule(static) if (MANY(at))
  for (int64_t t = 0; t < at->num_tokens; t++) {
    int64_t slot = at->slot[at->row[t]];
    const float *scale = change(&by->scale, slot), *shift = change(&by->shift, slot);
    if (half) scale_token(1, (uint16_t *)y + t * ld, D, scale, shift, kind);
    else scale_token(0, (float *)y + t * ld, D, scale, shift, kind);
  }
}

/* Rows of states that are added: for token t row index[t], or without an index row t. No data: nothing. */
typedef struct {
  const void *data;
  const int64_t *index;
} source;

INLINE v total(const int half, const int64_t N, const void *const *from, int64_t i, int64_t n) {
  v e = get(half, from[0], i, n);
  for (int64_t k = 1; k < N; k++) e += get(half, from[k], i, n);
  return e;
}

typedef struct { float eps; int64_t centred; } normal; /* without a centre: divided by the root mean square alone */

INLINE void norm_token(const int half, const int64_t N, const void *const *from, void *to, int64_t D, normal how,
                       const float *gain, const float *bias, const float *scale, const float *shift) {
  v mean = all(0.0f), spread = all(0.0f);
  for (int64_t i = 0; how.centred && i < D; i += LANES) mean += total(half, N, from, i, D - i);
  mean = all(sum(mean) / D);
  for (int64_t i = 0; i < D; i += LANES) {
    v e = total(half, N, from, i, D - i) - mean;
    if (D - i < LANES) e = choose(COUNTING < (int32_t)(D - i), e, all(0.0f));
    spread += e * e;
  }
  spread = all(1.0f / sqrtf(sum(spread) / D + how.eps));
  for (int64_t i = 0; i < D; i += LANES) {
    v e = (total(half, N, from, i, D - i) - mean) * spread;
    put(half, to, i, scaled(scaled(e, gain, bias, i, D - i), scale, shift, i, D - i), D - i);
  }
}

/* y [T, D] = norm(the sum of N sources) * gain + bias, then * scale + shift; `kept`, if it is there, becomes the sum.
   Both may be one of the sources without index. */
void rows_norm(const source *sources, int64_t N, void *y, void *kept, int64_t half, int64_t D, const normal *how,
               const batch *at, const scales *own, const scales *then) {
  int64_t size = half ? 2 : 4;
#pragma omp parallel for schedule(static) if (MANY(at))
  for (int64_t t = 0; t < at->num_tokens; t++) {
    int64_t slot = at->slot[at->row[t]];
    const float *gain = values(&own->scale, slot), *bias = values(&own->shift, slot);
    const float *scale = change(&then->scale, slot), *shift = change(&then->shift, slot);
    const void *from[3];
    for (int64_t k = 0; k < N; k++)
      from[k] = (const char *)sources[k].data + (sources[k].index ? sources[k].index[t] : t) * D * size;
    void *to = (char *)y + t * D * size;
    int64_t n = N;
    if (kept) {
      void *whole = (char *)kept + t * D * size;
      for (int64_t i = 0; i < D; i += LANES)
        if (half) put(1, whole, i, total(1, N, from, i, D - i), D - i);
        else put(0, whole, i, total(0, N, from, i, D - i), D - i);
      from[0] = whole, n = 1;
    }
    if (half && n == 2) norm_token(1, 2, from, to, D, *how, gain, bias, scale, shift);
    else if (half) norm_token(1, n, from, to, D, *how, gain, bias, scale, shift);
    else if (n == 2) norm_token(0, 2, from, to, D, *how, gain, bias, scale, shift);
    else norm_token(0, n, from, to, D, *how, gain, bias, scale, shift);
  }
}

/* Rows of states as floats: [rows, D], `ld` apart in memory, `to_ld` apart in `to`; and back. */
static void widen_rows(const uint16_t *from, int64_t ld, int64_t rows, int64_t D, float *to, int64_t to_ld) {
  for (int64_t t = 0; t < rows; t++)
    for (int64_t i = 0; i < D; i += LANES) store_some(to + t * to_ld + i, get(1, from + t * ld, i, D - i), D - i);
}
static void narrow_rows(const float *from, int64_t from_ld, int64_t rows, int64_t D, uint16_t *to, int64_t ld) {
  for (int64_t t = 0; t < rows; t++)
    for (int64_t i = 0; i < D; i += LANES) put(1, to + t * ld, i, load_some(from + t * from_ld + i, D - i), D - i);
}

/* x [D] in place: each pair (x[i], x[i + D/2]) turned by its angle, cos and sin [D] (RoPE, arXiv 2104.09864). */
INLINE void rotate(const int half, void *x, int64_t D, const float *cosines, const float *sines) {
  int64_t M = D / 2;
  for (int64_t i = 0; i < M; i += LANES) {
    v a = get(half, x, i, M - i), b = get(half, x, M + i, M - i);
    v c = load_some(cosines + i, M - i), s = load_some(sines + i, M - i);
    v d = load_some(cosines + M + i, M - i), t = load_some(sines + M + i, M - i);
    put(half, x, i, a * c - b * s, M - i);
    put(half, x, M + i, b * d + a * t, M - i);
  }
}

/* x [T, heads, D], `ld` from token to token, in place; a token at `place` is turned by that row of cos and sin [S, D]. */
void rows_rotate(void *x, int64_t half, int64_t ld, int64_t heads, int64_t D, const float *cosines, const float *sines,
                 const int64_t *place, const batch *at) {
#pragma omp parallel for schedule(static) if (MANY(at))
  for (int64_t t = 0; t < at->num_tokens; t++)
    for (int64_t h = 0; h < heads; h++) {
      const float *c = cosines + place[t] * D, *s = sines + place[t] * D;
      if (half) rotate(1, (uint16_t *)x + t * ld + h * D, D, c, s);
      else rotate(0, (float *)x + t * ld + h * D, D, c, s);
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

/* One head of N queries q [N][D] on L keys: kt [D][cap] scaled, vs [L][ldv], what is added to each score near [N][cap]
   or nothing, room for weights s [N][cap] and sums [N][UP(D)]; -> o [N]. */
INLINE void attend(const int N, const float *const *q, int64_t D, const float *kt, const float *vs, int64_t ldv,
                   const float *const *near, int64_t L, int64_t cap, float *s, float *sums, float *const *o,
                   const float *scale, const float *shift) {
  vi behind = COUNTING >= (int32_t)(L - (cap - LANES)); /* lanes of the last vector without a key */
  const float *ws[N];
  v over[N];
  product(N, q, D, kt, cap, cap, 0, s, cap, NONE);
  for (int z = 0; z < N; z++) {
    float *w = s + z * cap, *last = w + cap - LANES;
    v most = all(-INFINITY), total = all(0.0f);
    for (int64_t j = 0; near[z] && j < cap; j += LANES) store(w + j, load(w + j) + load(near[z] + j));
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

/* What all rows and heads share: width of a head, what scores are multiplied with, and what is added to them by the
   distance of key and query from 1 - reach to reach - 1: [heads, 2 reach + 16], zeros at the end, or nothing. */
typedef struct {
  int64_t heads, width;
  const float *bias;
  int64_t reach;
  float scaling;
} attention;

/* One head of one row: queries at base, keys and values H and 2 H behind them, `ld` from token to token. */
INLINE void attend_row(const int64_t D, const float *base, int64_t ld, int64_t H, int64_t L, float scaling,
                       const float *bias, float *out, int64_t ldo, const float *scale, const float *shift,
                       float *scratch) {
  int64_t cap = UP(L), ldv = ld;
  float *kt = scratch, *s = kt + D * cap, *sums = s + MOST * cap, *vp = sums + MOST * UP(D);
  const float *vs = base + 2 * H, *q[MOST], *near[MOST];
  float *o[MOST];
  transpose(base + H, ld, L, D, scaling, kt, cap);
  if (D % LANES) { /* whole vectors are read: from a copy */
    for (int64_t i = 0; i < L * UP(D); i++) vp[i] = i % UP(D) < D ? vs[i / UP(D) * ld + i % UP(D)] : 0;
    vs = vp, ldv = UP(D);
  }
  for (int64_t i = 0; i < L; i += MOST) {
    for (int z = 0; z < MOST; z++) {
      int64_t at = i + z < L ? i + z : i;
      q[z] = base + at * ld, o[z] = out + at * ldo, near[z] = bias ? bias - at : 0;
    }
    if (L - i > MOST / 2) attend(MOST, q, D, kt, vs, ldv, near, L, cap, s, sums, o, scale, shift);
    else attend(MOST / 2, q, D, kt, vs, ldv, near, L, cap, s, sums, o, scale, shift);
  }
}

/* The same for any width; `bias` is that of the head at distance 0. */
INLINE void attend_any(const attention *a, const float *base, int64_t ld, int64_t H, int64_t L, const float *bias,
                       float *out, int64_t ldo, const float *scale, const float *shift, float *scratch) {
  int64_t D = a->width;
  if (D == 32) attend_row(32, base, ld, H, L, a->scaling, bias, out, ldo, scale, shift, scratch);
  else if (D == 64) attend_row(64, base, ld, H, L, a->scaling, bias, out, ldo, scale, shift, scratch);
  else attend_row(D, base, ld, H, L, a->scaling, bias, out, ldo, scale, shift, scratch);
}

/* The same of bfloat16, by way of floats [L, 3 D] and [L, D] in `room`. */
static void attend_half(const attention *a, const uint16_t *base, int64_t ld, int64_t H, int64_t L, const float *bias,
                        uint16_t *out, const float *scale, const float *shift, float *scratch, float *room) {
  int64_t D = a->width;
  float *sums = room + 3 * L * D;
  for (int64_t part = 0; part < 3; part++) widen_rows(base + part * H, ld, L, D, room + part * D, 3 * D);
  attend_any(a, room, 3 * D, D, L, bias, sums, D, scale, shift, scratch);
  narrow_rows(sums, D, L, D, out, H);
}

/* Attention inside each row: qkv [T, 3 heads D] (q | k | v) -> out [T, heads D], times scale plus shift.
   1 on lack of memory, else 0. */
int rows_attention(const void *qkv, void *out, int64_t half, const attention *a, const batch *at, const scales *by) {
  int64_t heads = a->heads, D = a->width, H = heads * D, ld = 3 * H, cap = UP(at->longest), failed = 0;
  int64_t size = (D + MOST + UP(D)) * cap + MOST * UP(D);
#pragma omp parallel reduction(| : failed) if (MANY(at))
  {
    float *scratch = malloc(4 * (size + (half ? 4 * D * cap : 0)));
    failed = !scratch;
#pragma omp for schedule(dynamic, 4)
    for (int64_t u = at->num_rows * heads - 1; u >= 0; u--) { /* long rows, which are last, first */
      if (failed) continue;
      int64_t b = u / heads, h = u % heads, slot = at->slot[b], L = at->length[b];
      const float *scale = change(&by->scale, slot), *shift = change(&by->shift, slot);
      int64_t from = at->start[b] * ld + h * D, to = at->start[b] * H + h * D;
      const float *bias = a->bias ? a->bias + h * (2 * a->reach + 16) + a->reach - 1 : 0;
      scale = scale ? scale + h * D : 0, shift = shift ? shift + h * D : 0;
      if (half)
        attend_half(a, (const uint16_t *)qkv + from, ld, H, L, bias, (uint16_t *)out + to, scale, shift, scratch,
                    scratch + size);
      else attend_any(a, (const float *)qkv + from, ld, H, L, bias, (float *)out + to, H, scale, shift, scratch);
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

/* n tokens, at most MOST. */
static void run(int64_t n, const float *x, int64_t ldx, float *y, int64_t ldy, const chain *c, float *u, int64_t ldu,
                float *inner, float *out) {
  if (n > MOST / 2) run_tile(MOST, n, x, ldx, y, ldy, c, u, ldu, inner, out);
  else run_tile(MOST / 2, n, x, ldx, y, ldy, c, u, ldu, inner, out);
}

/* x [T, D_in] and y [T, D_out], rows ldx and ldy apart; y may be x. 1 on lack of memory, else 0. */
int rows_block(const void *x, int64_t ldx, void *y, int64_t ldy, int64_t half, const batch *at, const block *what) {
  int64_t R = what->bottleneck;
  shape down = shape_of(&what->down, what->wide_in, R), up = shape_of(&what->up, what->wide_out, R);
  int64_t few = down.blocks * down.inner, many = up.blocks * up.inner;
  int64_t ldu = UP(MORE(few, many)) + LANES;
  int64_t sizes[] = {(down.inner + 3) * down.wide + LANES, few * UP(R), UP(R), R * UP(many), MOST * ldu, MOST * UP(R), MOST * UP(up.wide),
                     half ? MOST * (what->wide_in + what->wide_out) : 0};
  int64_t total = 0, failed = 0;
  for (int i = 0; i < 8; i++) total += sizes[i];
#pragma omp parallel reduction(| : failed) if (MANY(at))
  {
    float *room = malloc(4 * total);
    failed = !room;
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = what->num_rows - 1; i >= 0; i--) { /* long rows, which are last, first */
      if (failed) continue;
      int64_t b = what->rows[i], slot = at->slot[b], L = at->length[b];
      float *mix = room + sizes[0], *bias = mix + sizes[1], *back = bias + sizes[2], *u = back + sizes[3];
      float *inner = u + sizes[4], *out = inner + sizes[5], *xs = out + sizes[6], *ys = xs + MOST * what->wide_in;
      const float *own = values(&what->down.bias, slot);
      const table *last = what->up.form == DENSE || what->up.form == PHM ? &what->up.first : &what->up.second;
      chain c = {down, up, thin_of(&what->down.first, slot, down, room), mix_down(&what->down, slot, down, R, mix), bias,
                 mix_up(&what->up, slot, up, R, back), values(last, slot), values(&what->up.bias, slot), R,
                 what->activation};
      memset(bias, 0, 4 * UP(R));
      if (own) memcpy(bias, own, 4 * R);
      for (int64_t t = 0; t < L; t += MOST) {
        int64_t n = L - t < MOST ? L - t : MOST, from = (at->start[b] + t) * ldx, to = (at->start[b] + t) * ldy;
        if (!half) { run(n, (const float *)x + from, ldx, (float *)y + to, ldy, &c, u, ldu, inner, out); continue; }
        widen_rows((const uint16_t *)x + from, ldx, n, what->wide_in, xs, what->wide_in);
        widen_rows((uint16_t *)y + to, ldy, n, what->wide_out, ys, what->wide_out);
        run(n, xs, what->wide_in, ys, what->wide_out, &c, u, ldu, inner, out);
        narrow_rows(ys, what->wide_out, n, what->wide_out, (uint16_t *)y + to, ldy);
      }
    }
    free(room);
  }
  return (int)failed;
}
