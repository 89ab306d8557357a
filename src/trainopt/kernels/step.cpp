// The three rules of trainopt/rules.py on the CPU, at the least traffic to memory.
//
//   Diagonal-TO  one pass: reads w, g, a, b and writes w, a, b
//   RankOne-TO   two passes: a first one for the dot products, a second one for everything else. The
//                products that g has no part in are gathered in the second pass of the step before.
//   Full-TO      one read of A: the rank-one updates of up to `capacity` steps wait as pairs beside
//                it, A = A0 + Uᵀ V, and go into its rows, all at once, in a pass that is due anyway
//
// A step is one call for all tensors of a param group, with a plain C interface: nothing of torch is
// included, so this compiles in a second. Dots and norms are summed in double.
//
// PARAM and STATE are the dtypes this is compiled for: float32, float64, bfloat16 or float16.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include <omp.h>

namespace {

// Numbers --------------------------------------------------------------------------------------

struct bfloat16 {
    uint16_t bits;
    bfloat16() = default;
    bfloat16(float value) {
        uint32_t whole;
        std::memcpy(&whole, &value, 4);
        uint32_t nearest = (whole + 0x7fff + ((whole >> 16) & 1)) >> 16;
        bits = value != value ? 0x7fc0 : uint16_t(nearest);
    }
    operator float() const {
        uint32_t whole = uint32_t(bits) << 16;
        float value;
        std::memcpy(&value, &whole, 4);
        return value;
    }
};
#ifdef __FLT16_MANT_DIG__
using float16 = _Float16;
#endif
using float32 = float;
using float64 = double;

using P = PARAM;  // dtype of weights and gradients
using S = STATE;  // dtype of A and b
using T = std::conditional_t<std::is_same_v<S, double>, double, float>;  // is computed in

// A reduction is written to memory this often, so that float sums stay short.
constexpr int64_t block = 1024;
// Vectors with fewer numbers are left to one thread each.
constexpr int64_t small = 1 << 15;

// What a call is given, as trainopt/kernels/cpu.py lays it out ------------------------------------

struct Pieces {
    int64_t count;
    const int64_t* starts;  // of each piece in the concatenation of all; count + 1
    void* const* w;
    void* const* g;
    void* const* a;
    void* const* b;
    void* const* c;
    void* const* estimate;  // or null, where it isn't kept
};

struct Rates {
    double lr, alpha, beta, decay;  // decay = lr · weight_decay
    double sign;                    // of g: −1 maximizes
    int32_t descends;               // 0 leaves w as it is
    int32_t threads;
};

template <class N>
N* at(void* const* pointers, int64_t i) {
    return pointers ? static_cast<N*>(pointers[i]) : nullptr;
}

// Call f(piece, lo, hi) for the parts of pieces that lie in [begin, end) of the concatenation.
template <class F>
void each_part(const Pieces& x, int64_t begin, int64_t end, F f) {
    int64_t i = std::upper_bound(x.starts, x.starts + x.count + 1, begin) - x.starts - 1;
    for (; i < x.count && x.starts[i] < end; i++) {
        int64_t first = begin > x.starts[i] ? begin - x.starts[i] : 0;
        int64_t last = (end < x.starts[i + 1] ? end : x.starts[i + 1]) - x.starts[i];
        if (first < last) f(i, first, last);
    }
}

// The share [begin, end) of `total` numbers that this thread does, in whole cache lines.
struct Share {
    int64_t begin, end;
    Share(int64_t offset, int64_t total) {
        int64_t lines = (total + 15) / 16, n = omp_get_num_threads(), i = omp_get_thread_num();
        begin = offset + lines * i / n * 16;
        end = offset + (i + 1 == n ? total : lines * (i + 1) / n * 16);
    }
};

// Diagonal-TO ------------------------------------------------------------------------------------

template <bool keeps>
double diagonal_part(const Pieces& x, const Rates& r, int64_t i, int64_t first, int64_t last) {
    P* __restrict w = at<P>(x.w, i);
    const P* __restrict g = at<P>(x.g, i);
    S* __restrict a = at<S>(x.a, i);
    S* __restrict b = at<S>(x.b, i);
    S* __restrict estimate = at<S>(x.estimate, i);
    const T lr = r.descends ? r.lr : 0, alpha = r.alpha, beta = r.beta, sign = r.sign;
    const T rest = 1 - r.beta, decay = r.descends ? r.decay : 0;
    double total = 0;
    for (int64_t start = first; start < last; start += block) {
        const int64_t end = start + block < last ? start + block : last;
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = start; j < end; j++) {
            const T w0 = T(w[j]), g0 = sign * T(g[j]), a0 = T(a[j]), b0 = T(b[j]);
            const T e = g0 - a0 * w0 - b0;
            const T ew = e * w0;
            const T guess = g0 - rest * e + alpha * (ew * w0);
            a[j] = S(a0 + alpha * ew);
            b[j] = S(b0 + beta * e);
            if (keeps) estimate[j] = S(guess);
            w[j] = P((w0 - decay * w0) - lr * guess);
            sum += e * e;
        }
        total += sum;
    }
    return total;
}

double diagonal(const Pieces& x, const Rates& r) {
    const auto part = x.estimate ? diagonal_part<true> : diagonal_part<false>;
    const int64_t total = x.starts[x.count];
    double squares = 0;
#pragma omp parallel num_threads(r.threads) if (total > small) reduction(+ : squares)
    {
        const Share mine(0, total);
        each_part(x, mine.begin, mine.end, [&](int64_t i, int64_t first, int64_t last) {
            squares += part(x, r, i, first, last);
        });
    }
    return squares;
}

// RankOne-TO -------------------------------------------------------------------------------------

struct Dots {
    double cw = 0, aa = 0, ab = 0, ww = 0, ag = 0, ee = 0;
    Dots& operator+=(const Dots& more) {
        cw += more.cw, aa += more.aa, ab += more.ab, ww += more.ww, ag += more.ag, ee += more.ee;
        return *this;
    }
};

// Which pieces are one vector, and the dots that the step before left of it.
struct Vectors {
    int64_t count;
    const int64_t* first;  // piece of each; count + 1
    Dots* carried;         // cw, aa, ab, ww of the present state
    uint8_t* known;        // whether they are
    uint64_t* marks;       // samples of the numbers that they belong to
};

// A mark of every 4096th number: weights may change behind torch's back, through `.data`.
uint64_t mark_of(const Pieces& x, int64_t begin, int64_t end) {
    uint64_t mark = 14695981039346656037u;
    const auto mix = [&](double value) {
        uint64_t bits;
        std::memcpy(&bits, &value, 8);
        mark = (mark ^ bits) * 1099511628211u;
    };
    each_part(x, begin, end, [&](int64_t i, int64_t first, int64_t last) {
        for (int64_t j = first; j < last; j += 4096) {
            mix(double(at<P>(x.w, i)[j])), mix(double(at<S>(x.a, i)[j]));
            mix(double(at<S>(x.b, i)[j])), mix(double(at<S>(x.c, i)[j]));
        }
    });
    return mark;
}

Dots dots_part(const Pieces& x, double sign, bool known, int64_t i, int64_t first, int64_t last) {
    const P* __restrict w = at<P>(x.w, i);
    const P* __restrict g = at<P>(x.g, i);
    const S* __restrict a = at<S>(x.a, i);
    const S* __restrict b = at<S>(x.b, i);
    const S* __restrict c = at<S>(x.c, i);
    double cw = 0, aa = 0, ab = 0, ww = 0, ag = 0;
#pragma omp simd reduction(+ : ag)
    for (int64_t j = first; j < last; j++) ag += double(a[j]) * double(T(g[j]));
    if (!known) {
#pragma omp simd reduction(+ : cw, aa, ab, ww)
        for (int64_t j = first; j < last; j++) {
            const double w0 = double(T(w[j])), a0 = double(a[j]);
            cw += double(c[j]) * w0, ww += w0 * w0, aa += a0 * a0, ab += a0 * double(b[j]);
        }
    }
    Dots found;
    found.cw = cw, found.aa = aa, found.ab = ab, found.ww = ww, found.ag = sign * ag;
    return found;
}

template <bool keeps>
Dots rank_one_part(const Pieces& x, const Rates& r, const Dots& d, int64_t i, int64_t first,
                   int64_t last) {
    P* __restrict w = at<P>(x.w, i);
    const P* __restrict g = at<P>(x.g, i);
    S* __restrict a = at<S>(x.a, i);
    S* __restrict b = at<S>(x.b, i);
    S* __restrict c = at<S>(x.c, i);
    S* __restrict estimate = at<S>(x.estimate, i);
    // aᵀe from the dots: exact enough, as products of floats are exact in double.
    const double ae = d.ag - d.cw * d.aa - d.ab, more = r.alpha * ae * d.ww;
    const T s = d.cw, growth = more, of_e = r.alpha * d.cw * (d.cw + more);
    const T into_a = r.alpha * d.cw, into_c = r.alpha * ae;
    const T lr = r.descends ? r.lr : 0, decay = r.descends ? r.decay : 0;
    const T beta = r.beta, rest = 1 - r.beta, sign = r.sign;
    Dots next;
    for (int64_t start = first; start < last; start += block) {
        const int64_t end = start + block < last ? start + block : last;
        double cw = 0, aa = 0, ab = 0, ww = 0;
        T ee = 0;
#pragma omp simd reduction(+ : cw, aa, ab, ww, ee)
        for (int64_t j = start; j < end; j++) {
            const T w0 = T(w[j]), g0 = sign * T(g[j]), a0 = T(a[j]), b0 = T(b[j]), c0 = T(c[j]);
            const T e = g0 - s * a0 - b0;
            const T guess = g0 - rest * e + growth * a0 + of_e * e;
            const S a1 = S(a0 + into_a * e), b1 = S(b0 + beta * e), c1 = S(c0 + into_c * w0);
            const P w1 = P((w0 - decay * w0) - lr * guess);
            a[j] = a1, b[j] = b1, c[j] = c1, w[j] = w1;
            if (keeps) estimate[j] = S(guess);
            ee += e * e;
            const double a2 = double(a1), w2 = double(T(w1));
            cw += double(c1) * w2, ww += w2 * w2, aa += a2 * a2, ab += a2 * double(b1);
        }
        next.cw += cw, next.aa += aa, next.ab += ab, next.ww += ww, next.ee += ee;
    }
    return next;
}

double rank_one(const Pieces& x, const Rates& r, const Vectors& v) {
    const auto part = x.estimate ? rank_one_part<true> : rank_one_part<false>;
    const auto bounds = [&](int64_t k) { return x.starts[v.first[k]]; };
    const auto passes = [&](int64_t k, int64_t begin, int64_t end, auto&& combined) {
        Dots mine, next;
        each_part(x, begin, end, [&](int64_t i, int64_t first, int64_t last) {
            mine += dots_part(x, r.sign, v.known[k], i, first, last);
        });
        Dots all = combined(mine);
        if (v.known[k]) {
            const double ag = all.ag;
            all = v.carried[k], all.ag = ag;
        }
        each_part(x, begin, end, [&](int64_t i, int64_t first, int64_t last) {
            next += part(x, r, all, i, first, last);
        });
        return combined(next);
    };
    for (int64_t k = 0; k < v.count; k++)
        v.known[k] = v.known[k] && v.marks[k] == mark_of(x, bounds(k), bounds(k + 1));
    std::vector<Dots> left(v.count), slots(r.threads);
#pragma omp parallel num_threads(r.threads) if (x.starts[x.count] > small)
    {
        // A small vector stays in the cache of its thread between the two passes.
#pragma omp for schedule(dynamic, 4)
        for (int64_t k = 0; k < v.count; k++)
            if (bounds(k + 1) - bounds(k) <= small)
                left[k] = passes(k, bounds(k), bounds(k + 1), [](const Dots& own) { return own; });
        const auto over_threads = [&](const Dots& own) {
            slots[omp_get_thread_num()] = own;
#pragma omp barrier
            Dots all;
            for (int t = 0; t < omp_get_num_threads(); t++) all += slots[t];
#pragma omp barrier
            return all;
        };
        for (int64_t k = 0; k < v.count; k++) {
            if (bounds(k + 1) - bounds(k) <= small) continue;
            const Share mine(bounds(k), bounds(k + 1) - bounds(k));
            const Dots all = passes(k, mine.begin, mine.end, over_threads);
#pragma omp single
            left[k] = all;
        }
    }
    double squares = 0;
    for (int64_t k = 0; k < v.count; k++) {
        squares += left[k].ee;
        v.carried[k] = left[k];
        // A small vector is in cache for its first pass: nothing would be saved.
        if ((v.known[k] = bounds(k + 1) - bounds(k) > small))
            v.marks[k] = mark_of(x, bounds(k), bounds(k + 1));
    }
    return squares;
}

// Full-TO ----------------------------------------------------------------------------------------

// One vector x of `columns` weights, which every row of A reads, and the pairs that wait.
struct Dense {
    int64_t columns;
    const void* x;    // (columns,), wide
    void* const* A;   // for each piece, (numbers of the piece, columns)
    void* const* U;   // for each piece, (capacity, numbers of the piece), wide: α e of past steps
    void* V;          // (capacity, columns), wide: x of the same steps
    int64_t pending;  // pairs that wait
    int64_t capacity;
};

// Several sums at once, so that the additions don't wait for each other.
template <class N>
T row_dot(const N* __restrict row, const T* __restrict x, int64_t n) {
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += T(row[j]) * x[j];
    return sum;
}

// row += Σ u[k] V[k], and row · x, while the row is in cache.
T row_flush(S* __restrict row, const T* __restrict x, const T* u, const T* __restrict V,
            int64_t pairs, int64_t n) {
    T total = 0;
    for (int64_t start = 0; start < n; start += block) {
        const int64_t size = n - start < block ? n - start : block;
        T whole[block];
#pragma omp simd
        for (int64_t j = 0; j < size; j++) whole[j] = T(row[start + j]);
        int64_t k = 0;
        for (; k + 4 <= pairs; k += 4) {
            const T *v0 = V + k * n + start, *v1 = v0 + n, *v2 = v1 + n, *v3 = v2 + n;
            const T u0 = u[k], u1 = u[k + 1], u2 = u[k + 2], u3 = u[k + 3];
#pragma omp simd
            for (int64_t j = 0; j < size; j++)
                whole[j] += (u0 * v0[j] + u1 * v1[j]) + (u2 * v2[j] + u3 * v3[j]);
        }
        for (; k < pairs; k++) {
            const T* v = V + k * n + start;
#pragma omp simd
            for (int64_t j = 0; j < size; j++) whole[j] += u[k] * v[j];
        }
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < size; j++) {
            const S kept = S(whole[j]);
            row[start + j] = kept;
            sum += T(kept) * x[start + j];
        }
        total += sum;
    }
    return total;
}

double full(const Pieces& x, const Rates& r, Dense& m) {
    const T* point = static_cast<const T*>(m.x);
    T* V = static_cast<T*>(m.V);
    const int64_t n = m.columns, total = x.starts[x.count];
    const bool flushes = m.pending == m.capacity;
    const int64_t slot = flushes ? 0 : m.pending;
    std::vector<T> ahead(m.capacity);  // V x, for the rows that don't flush
    T norm = row_dot(point, point, n);
    if (!flushes)
        for (int64_t k = 0; k < m.pending; k++) ahead[k] = row_dot(V + k * n, point, n);
    const T alpha = r.alpha, beta = r.beta, of_e = 1 - r.beta - r.alpha * double(norm), sign = r.sign;
    const T lr = r.lr, decay = r.decay;
    double squares = 0;
#pragma omp parallel num_threads(r.threads) if (total * n > small) reduction(+ : squares)
    {
        std::vector<T> u(m.capacity);
        const Share mine(0, total);
        each_part(x, mine.begin, mine.end, [&](int64_t i, int64_t first, int64_t last) {
            S* A = at<S>(m.A, i);
            T* U = at<T>(m.U, i);
            const P* g = at<P>(x.g, i);
            S *b = at<S>(x.b, i), *estimate = at<S>(x.estimate, i);
            const int64_t rows = x.starts[i + 1] - x.starts[i];
            for (int64_t j = first; j < last; j++) {
                for (int64_t k = 0; k < m.pending; k++) u[k] = U[k * rows + j];
                T product;
                if (flushes) {
                    product = row_flush(A + j * n, point, u.data(), V, m.pending, n);
                } else {
                    product = row_dot(A + j * n, point, n);
                    for (int64_t k = 0; k < m.pending; k++) product += u[k] * ahead[k];
                }
                const T g0 = sign * T(g[j]), b0 = T(b[j]), e = g0 - product - b0;
                b[j] = S(b0 + beta * e);
                estimate[j] = S(g0 - of_e * e);
                U[slot * rows + j] = alpha * e;
                squares += double(e) * double(e);
            }
        });
    }
    std::memcpy(V + slot * n, point, sizeof(T) * n);
    m.pending = slot + 1;
    if (r.descends)
        each_part(x, 0, total, [&](int64_t i, int64_t first, int64_t last) {
            P* w = at<P>(x.w, i);
            const S* estimate = at<S>(x.estimate, i);
            for (int64_t j = first; j < last; j++) {
                const T w0 = T(w[j]);
                w[j] = P((w0 - decay * w0) - lr * T(estimate[j]));
            }
        });
    return squares;
}

}  // namespace

// All return ‖e‖².
extern "C" {
double to_diagonal(const Pieces* x, const Rates* r) { return diagonal(*x, *r); }
double to_rank_one(const Pieces* x, const Rates* r, const Vectors* v) { return rank_one(*x, *r, *v); }
double to_full(const Pieces* x, const Rates* r, Dense* m) { return full(*x, *r, *m); }
}
