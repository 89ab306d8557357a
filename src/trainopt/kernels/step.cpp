// The three rules of trainopt/rules.py on the CPU, at the least traffic to memory.
//
//   Diagonal-TO  one pass: reads w, g, a, b and writes w, a, b
//   RankOne-TO   two passes: a first one for the dot products, a second one for everything else
//   Full-TO      one pass over A: a row is read for its product with w and updated while in cache
//
// Nothing is kept from one call to the next: whatever a user writes into weights or state between
// two steps is seen. A step is one call for all tensors of a param group, with a plain C interface:
// nothing of torch is included, so this compiles in a second. Dots and norms are summed in double.

#include "tensors.h"

namespace {

// The gradient alone ------------------------------------------------------------------------------

double gradient_part(const P* __restrict g, int64_t first, int64_t last) {
    double total = 0;
    for (int64_t start = first; start < last; start += block) {
        const int64_t end = start + block < last ? start + block : last;
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = start; j < end; j++) sum += T(g[j]) * T(g[j]);
        total += sum;
    }
    return total;
}

double gradient(const Pieces& x, int32_t threads) {
    return summed(x, threads, x.starts[x.count], [&](int64_t i, int64_t first, int64_t last) {
        return gradient_part(at<P>(x.g, i), first, last);
    });
}

// Diagonal-TO ------------------------------------------------------------------------------------

template <bool keeps, bool descends>
double diagonal_part(const Pieces& x, const Rates& r, int64_t i, int64_t first, int64_t last) {
    P* __restrict w = at<P>(x.w, i);
    const P* __restrict g = at<P>(x.g, i);
    S* __restrict a = at<S>(x.a, i);
    S* __restrict b = at<S>(x.b, i);
    T* __restrict estimate = at<T>(x.estimate, i);
    const T lr = r.lr, alpha = r.alpha, beta = r.beta, sign = r.sign;
    const T rest = 1 - r.beta, decay = r.decay;
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
            if (keeps) estimate[j] = guess;
            if (descends) w[j] = P((w0 - decay * w0) - lr * guess);
            sum += e * e;
        }
        total += sum;
    }
    return total;
}

double diagonal(const Pieces& x, const Rates& r) {
    const auto part = r.descends ? x.estimate ? diagonal_part<true, true> : diagonal_part<false, true>
                                 : x.estimate ? diagonal_part<true, false> : diagonal_part<false, false>;
    return summed(x, r.threads, x.starts[x.count], [&](int64_t i, int64_t first, int64_t last) {
        return part(x, r, i, first, last);
    });
}

// RankOne-TO -------------------------------------------------------------------------------------

struct Dots {
    double cw = 0, aa = 0, ab = 0, ww = 0, ag = 0;
    Dots& operator+=(const Dots& more) {
        cw += more.cw, aa += more.aa, ab += more.ab, ww += more.ww, ag += more.ag;
        return *this;
    }
};

// Which pieces are one vector: its first piece; count + 1 of them.
struct Vectors {
    int64_t count;
    const int64_t* first;
};

Dots dots_part(const Pieces& x, double sign, int64_t i, int64_t first, int64_t last) {
    const P* __restrict w = at<P>(x.w, i);
    const P* __restrict g = at<P>(x.g, i);
    const S* __restrict a = at<S>(x.a, i);
    const S* __restrict b = at<S>(x.b, i);
    const S* __restrict c = at<S>(x.c, i);
    double cw = 0, aa = 0, ab = 0, ww = 0, ag = 0;
#pragma omp simd reduction(+ : cw, aa, ab, ww, ag)
    for (int64_t j = first; j < last; j++) {
        const double w0 = double(T(w[j])), a0 = double(a[j]);
        cw += double(c[j]) * w0, ww += w0 * w0;
        aa += a0 * a0, ab += a0 * double(b[j]), ag += a0 * double(T(g[j]));
    }
    Dots found;
    found.cw = cw, found.aa = aa, found.ab = ab, found.ww = ww, found.ag = sign * ag;
    return found;
}

template <bool keeps, bool descends>
double rank_one_part(const Pieces& x, const Rates& r, const Dots& d, int64_t i, int64_t first,
                     int64_t last) {
    P* __restrict w = at<P>(x.w, i);
    const P* __restrict g = at<P>(x.g, i);
    S* __restrict a = at<S>(x.a, i);
    S* __restrict b = at<S>(x.b, i);
    S* __restrict c = at<S>(x.c, i);
    T* __restrict estimate = at<T>(x.estimate, i);
    // aᵀe from the dots: exact enough, as products of floats are exact in double.
    const double ae = d.ag - d.cw * d.aa - d.ab, more = r.alpha * ae * d.ww;
    const T s = d.cw, growth = more, of_e = r.alpha * d.cw * (d.cw + more);
    const T into_a = r.alpha * d.cw, into_c = r.alpha * ae;
    const T lr = r.lr, decay = r.decay, beta = r.beta, rest = 1 - r.beta, sign = r.sign;
    double total = 0;
    for (int64_t start = first; start < last; start += block) {
        const int64_t end = start + block < last ? start + block : last;
        T ee = 0;
#pragma omp simd reduction(+ : ee)
        for (int64_t j = start; j < end; j++) {
            const T w0 = T(w[j]), g0 = sign * T(g[j]), a0 = T(a[j]), b0 = T(b[j]), c0 = T(c[j]);
            const T e = g0 - s * a0 - b0;
            const T guess = g0 - rest * e + growth * a0 + of_e * e;
            a[j] = S(a0 + into_a * e), b[j] = S(b0 + beta * e), c[j] = S(c0 + into_c * w0);
            if (descends) w[j] = P((w0 - decay * w0) - lr * guess);
            if (keeps) estimate[j] = guess;
            ee += e * e;
        }
        total += ee;
    }
    return total;
}

double rank_one(const Pieces& x, const Rates& r, const Vectors& v) {
    const auto part = r.descends ? x.estimate ? rank_one_part<true, true> : rank_one_part<false, true>
                                 : x.estimate ? rank_one_part<true, false> : rank_one_part<false, false>;
    const auto bounds = [&](int64_t k) { return x.starts[v.first[k]]; };
    const auto dots = [&](int64_t begin, int64_t end) {
        Dots found;
        each_part(x, begin, end, [&](int64_t i, int64_t first, int64_t last) {
            found += dots_part(x, r.sign, i, first, last);
        });
        return found;
    };
    const auto rest = [&](const Dots& all, int64_t begin, int64_t end) {
        double squares = 0;
        each_part(x, begin, end, [&](int64_t i, int64_t first, int64_t last) {
            squares += part(x, r, all, i, first, last);
        });
        return squares;
    };
    std::vector<Dots> dots_of(r.threads);
    std::vector<double> squares_of(r.threads), squares(v.count);
#pragma omp parallel num_threads(r.threads) if (x.starts[x.count] > small)
    {
        const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
        // A small vector stays in the cache of its thread between the two passes.
#pragma omp for schedule(dynamic, 4)
        for (int64_t k = 0; k < v.count; k++)
            if (bounds(k + 1) - bounds(k) <= small)
                squares[k] = rest(dots(bounds(k), bounds(k + 1)), bounds(k), bounds(k + 1));
        for (int64_t k = 0; k < v.count; k++) {
            if (bounds(k + 1) - bounds(k) <= small) continue;
            const Share mine(bounds(k), bounds(k + 1) - bounds(k));
            dots_of[thread] = dots(mine.begin, mine.end);
#pragma omp barrier
            Dots all;
            for (int t = 0; t < threads; t++) all += dots_of[t];
            squares_of[thread] = rest(all, mine.begin, mine.end);
#pragma omp barrier
#pragma omp single
            squares[k] = sum(squares_of);
        }
    }
    return sum(squares);
}

// Full-TO ----------------------------------------------------------------------------------------

// One vector x of `columns` weights, which every row of A reads.
struct Dense {
    int64_t columns;
    const void* x;  // (columns,), of T
};

T row_dot(const S* __restrict row, const T* __restrict x, int64_t n) {
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += T(row[j]) * x[j];
    return sum;
}

void add_to_row(S* __restrict row, T scale, const T* __restrict x, int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) row[j] = S(T(row[j]) + scale * x[j]);
}

double full(const Pieces& x, const Rates& r, const Dense& m) {
    const T* point = static_cast<const T*>(m.x);
    const int64_t n = m.columns, total = x.starts[x.count];
    double norm = 0;
#pragma omp simd reduction(+ : norm)
    for (int64_t j = 0; j < n; j++) norm += double(point[j]) * double(point[j]);
    const T alpha = r.alpha, beta = r.beta, of_e = 1 - r.beta - r.alpha * norm, sign = r.sign;
    const T lr = r.lr, decay = r.decay;
    const auto rows = [&](int64_t i, int64_t first, int64_t last) {
        const P* g = at<P>(x.g, i);
        S *A = at<S>(x.a, i), *b = at<S>(x.b, i);
        T* estimate = at<T>(x.estimate, i);
        double squares = 0;
        for (int64_t j = first; j < last; j++) {
            const T g0 = sign * T(g[j]), b0 = T(b[j]);
            const T e = g0 - row_dot(A + j * n, point, n) - b0;
            add_to_row(A + j * n, alpha * e, point, n);
            b[j] = S(b0 + beta * e);
            estimate[j] = g0 - of_e * e;
            squares += double(e) * double(e);
        }
        return squares;
    };
    const double squares = summed(x, r.threads, total * n, rows);
    // The weights move when all rows have read them: x may be their memory.
    if (r.descends)
        each_part(x, 0, total, [&](int64_t i, int64_t first, int64_t last) {
            P* w = at<P>(x.w, i);
            const T* estimate = at<T>(x.estimate, i);
            for (int64_t j = first; j < last; j++) {
                const T w0 = T(w[j]);
                w[j] = P((w0 - decay * w0) - lr * estimate[j]);
            }
        });
    return squares;
}

}  // namespace

// The steps return ‖e‖²; `to_gradient` changes nothing, and returns ‖g‖².
extern "C" {
int32_t to_check(const Pieces* x, int64_t columns) { return check(*x, columns); }
double to_gradient(const Pieces* x, int32_t threads) { return gradient(*x, threads); }
double to_diagonal(const Pieces* x, const Rates* r) { return diagonal(*x, *r); }
double to_rank_one(const Pieces* x, const Rates* r, const Vectors* v) { return rank_one(*x, *r, *v); }
double to_full(const Pieces* x, const Rates* r, const Dense* m) { return full(*x, *r, *m); }
}
