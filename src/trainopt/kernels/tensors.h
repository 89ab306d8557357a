// The tensors of a step: of what numbers, in what pieces, whose share, and in memory of their own.
//
// The caller vouches for shapes, dtypes, devices and layouts; `check` looks at what only addresses
// tell: memory that is missing, or that two of the tensors share.
//
// PARAM and STATE are the dtypes this is compiled for: float32, float64, bfloat16 or float16.

#pragma once

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
        uint32_t wide;
        std::memcpy(&wide, &value, 4);
        uint32_t nearest = (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;
        bits = value != value ? 0x7fc0 : uint16_t(nearest);
    }
    operator float() const {
        uint32_t wide = uint32_t(bits) << 16;
        float value;
        std::memcpy(&value, &wide, 4);
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
// The dtype that is computed in: no narrower than either.
using T = std::conditional_t<std::is_same_v<S, double> || std::is_same_v<P, double>, double, float>;

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
    void* const* a;         // or A: (numbers of the piece, columns)
    void* const* b;
    void* const* c;
    void* const* estimate;  // of T; or null, where it isn't kept
};

struct Rates {
    double lr, alpha, beta, decay;  // decay = lr · weight_decay
    double sign;                    // of g: −1 maximizes
    int32_t descends;               // 0: w isn't written to
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

// In the order of threads or vectors, so that a run can be repeated bit for bit.
double sum(const std::vector<double>& values) {
    double total = 0;
    for (double value : values) total += value;
    return total;
}

// The sum of what f(piece, lo, hi) returns for all numbers, shared between threads where they are
// `work` enough.
template <class F>
double summed(const Pieces& x, int threads, int64_t work, F f) {
    std::vector<double> found(threads);
#pragma omp parallel num_threads(threads) if (work > small)
    {
        const Share mine(0, x.starts[x.count]);
        double own = 0;
        each_part(x, mine.begin, mine.end,
                  [&](int64_t i, int64_t first, int64_t last) { own += f(i, first, last); });
        found[omp_get_thread_num()] = own;
    }
    return sum(found);
}

// Memory -----------------------------------------------------------------------------------------

// 0 when every tensor has memory of its own; 1 when one has none; 2 when one that is written to
// shares memory with another, which threads would race for. `columns` is that of A, or 1.
int32_t check(const Pieces& x, int64_t columns) {
    struct Range {
        uintptr_t begin, end;
        bool written;
    };
    std::vector<Range> ranges;
    bool missing = false;
    const auto add = [&](void* const* pointers, int64_t width, bool written) {
        if (!pointers) return;
        for (int64_t i = 0; i < x.count; i++) {
            const int64_t bytes = (x.starts[i + 1] - x.starts[i]) * width;
            const auto begin = reinterpret_cast<uintptr_t>(pointers[i]);
            if (bytes) ranges.push_back({begin, begin + bytes, written}), missing |= !begin;
        }
    };
    add(x.w, sizeof(P), true), add(x.g, sizeof(P), false), add(x.a, sizeof(S) * columns, true);
    add(x.b, sizeof(S), true), add(x.c, sizeof(S), true), add(x.estimate, sizeof(T), true);
    if (missing) return 1;
    std::sort(ranges.begin(), ranges.end(), [](auto& p, auto& q) { return p.begin < q.begin; });
    uintptr_t end = 0, written_end = 0;  // of all ranges so far, and of the written ones
    for (const Range& range : ranges) {
        if (range.begin < (range.written ? end : written_end)) return 2;
        end = std::max(end, range.end);
        if (range.written) written_end = std::max(written_end, range.end);
    }
    return 0;
}

}  // namespace
