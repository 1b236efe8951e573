// Neurons over many steps in one pass: every element of input is read once, every element of output written once.
//
// A job is a block of memory [steps][rows][width]; parameters are one number, or one per element of a row. State lives in
// tiles of LANES neurons that stay in L1 while time runs. The operations and their order are those of Norse's
// step functions; without contraction to fused multiply-adds (-ffp-contract=off) results agree with them to the last bit.
// Equations: ashneuro/spiking/kernels.py.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <type_traits>
#include <vector>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

// A tile's state has to stay in L1; with fewer lanes than this, every step touches pages too briefly for the prefetcher.
constexpr int LANES = 1024;
// Margins of a tile that are computed again in the backward pass have to stay in L2.
constexpr int64_t AGAIN = 1 << 15;
// Bytes of an array that a core's own caches do not hold.
constexpr size_t LARGE = 1 << 20;

enum Kind { LIF = 0, CUBA_LIF = 1, IF = 2, LI = 3 };
enum Surrogate { SUPER = 0, ATAN = 1, SIGMOID = 2, TRIANGLE = 3 };

struct Brain16 {
    uint16_t bits;
};

template <class C> inline C read(C value) { return value; }
template <class C> inline C read(Brain16 value) {
    uint32_t bits = uint32_t(value.bits) << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
}

template <class C> inline void write(C& place, C value) { place = value; }
inline void write(Brain16& place, float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    // To the nearest, ties to even; NaN keeps its high bits.
    place.bits = uint16_t(value != value ? (bits >> 16) | 64 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace

extern "C" struct Job {
    int64_t steps, rows, width;
    int64_t input_step;  // elements from one step of the input to the next; 0: the same input in every step
    int64_t held;        // whether g_input is one step: the sum over all of them
    int32_t surrogate, detached, per_neuron;
    double slope;
    const void *input;
    void *output, *saved;
    const void *v_first, *i_first;
    void *v_last, *i_last;
    const void *decay, *synapse_decay, *threshold, *leak, *reset;
    const void *g_output, *g_v_last, *g_i_last;
    void *g_input, *g_v_first, *g_i_first, *g_decay, *g_threshold, *g_leak, *g_reset;
};

namespace {

// A parameter in a tile: one number, or one per lane.
template <class C, bool PER_NEURON> struct Parameter {
    C one = 0;
    const C* each = nullptr;
    Parameter(const void* values, int64_t first) {
        if (!values) return;
        each = static_cast<const C*>(values) + (PER_NEURON ? first : 0);
        one = each[0];
    }
    inline C operator[](int lane) const { return PER_NEURON ? each[lane] : one; }
};

// Asks for one step of a tile ahead of time: from one step to the next memory is far away, where hardware does not look.
template <class X> inline void fetch(const X* place, int lanes) {
    constexpr int LINE = 64 / sizeof(X);
    for (int n = 0; n < lanes; n += LINE) __builtin_prefetch(place + n, 0, 2);
}

// Puts lanes of a step where they belong. Arrays that no cache of a core holds are written past the caches: a store into them would
// first fetch what it overwrites.
template <class X> inline void put(X* to, const X* from, int lanes, bool past) {
    const size_t bytes = lanes * sizeof(X);
#ifdef __AVX512F__
    if (past && reinterpret_cast<uintptr_t>(to) % 64 == 0 && bytes % 64 == 0) {
        for (int n = 0; n < lanes; n += 64 / sizeof(X))
            _mm512_stream_si512(reinterpret_cast<__m512i*>(to + n), _mm512_load_si512(reinterpret_cast<const __m512i*>(from + n)));
        return;
    }
#endif
    memcpy(to, from, bytes);
}

// The same for what was computed in another type than it is stored in.
template <class X, class C> inline void give(X* to, const C* from, int lanes, bool past) {
    if constexpr (std::is_same<X, C>::value) {
        put(to, from, lanes, past);
    } else {
        alignas(64) X stored[LANES];
#pragma omp simd
        for (int n = 0; n < lanes; n++) write(stored[n], from[n]);
        put(to, stored, lanes, past);
    }
}

// What was written past the caches is there for other threads.
inline void settle() {
#ifdef __AVX512F__
    _mm_sfence();
#endif
}

struct Tile {
    int64_t first, place;  // in the row, in the step
    int lanes;
};

// Lanes of a tile: fewer where the margins of all steps are held.
inline int64_t lanes(const Job& job, bool again) {
    int64_t most = again ? AGAIN / job.steps / 64 * 64 : LANES;
    return most < 64 ? 64 : most < LANES ? most : LANES;
}

inline Tile tile(const Job& job, int64_t index, int64_t lanes) {
    int64_t per_row = (job.width + lanes - 1) / lanes, row = index / per_row, first = index % per_row * lanes;
    int64_t left = job.width - first;
    return {first, row * job.width + first, int(left < lanes ? left : lanes)};
}

// The neurons of a tile and their state.
template <class C, Kind K, bool PER_NEURON> struct Population {
    const Parameter<C, PER_NEURON> decay, filter, threshold, leak, reset;
    C v[LANES], i[LANES];

    Population(const Job& job, const Tile& at)
        : decay(job.decay, at.first), filter(job.synapse_decay, at.first), threshold(job.threshold, at.first), leak(job.leak, at.first),
          reset(job.reset, at.first) {
        for (int n = 0; n < at.lanes; n++) {
            v[n] = job.v_first ? static_cast<const C*>(job.v_first)[at.place + n] : leak[n];
            i[n] = job.i_first ? static_cast<const C*>(job.i_first)[at.place + n] : C(0);
        }
    }

    // Takes one step with this input; returns v before the reset.
    inline C charged(C in, int n) {
        if (K == CUBA_LIF) in = i[n] = i[n] + filter[n] * (in - i[n]);
        if (K == IF) return v[n] + in;
        if (K == LI) return v[n] + decay[n] * ((leak[n] - v[n]) + in);
        return v[n] + decay[n] * ((in + leak[n]) - v[n]);
    }

    // The same, and the reset; returns the margin.
    inline C margin(C in, int n) {
        C h = charged(in, n), margin = h - threshold[n];
        v[n] = margin > 0 ? reset[n] : h;
        return margin;
    }
};

// X: storage of input and output; C: what is computed with; M: storage of what the backward pass needs.
template <class X, class C, class M, Kind K, bool PER_NEURON> void forward(const Job& job, int64_t begin, int64_t end) {
    const int64_t size = job.rows * job.width;
    const bool past = job.steps * size * sizeof(X) >= LARGE;
    for (int64_t index = begin; index < end; index++) {
        const Tile at = tile(job, index, LANES);
        Population<C, K, PER_NEURON> neurons(job, at);
        for (int64_t t = 0; t < job.steps; t++) {
            const X* __restrict__ x = static_cast<const X*>(job.input) + t * job.input_step + at.place;
            alignas(64) X out[LANES];
            M* __restrict__ saved = job.saved ? static_cast<M*>(job.saved) + t * size + at.place : nullptr;
            if (t + 1 < job.steps) fetch(x + job.input_step, at.lanes);
            if (K == LI) {
#pragma omp simd
                for (int n = 0; n < at.lanes; n++) write(out[n], neurons.v[n] = neurons.charged(read<C>(x[n]), n));
            } else if (saved) {
#pragma omp simd
                for (int n = 0; n < at.lanes; n++) {
                    const C margin = neurons.margin(read<C>(x[n]), n);
                    write(out[n], margin > 0 ? C(1) : C(0));
                    write(saved[n], margin);
                }
            } else {
#pragma omp simd
                for (int n = 0; n < at.lanes; n++) write(out[n], neurons.margin(read<C>(x[n]), n) > 0 ? C(1) : C(0));
            }
            put(static_cast<X*>(job.output) + t * size + at.place, out, at.lanes, past);
        }
        for (int n = 0; n < at.lanes; n++) static_cast<C*>(job.v_last)[at.place + n] = neurons.v[n];
        if (K == CUBA_LIF)
            for (int n = 0; n < at.lanes; n++) static_cast<C*>(job.i_last)[at.place + n] = neurons.i[n];
    }
    settle();
}

// The margins of all steps once more, [step][lane]: cheaper than to write them and to read them back.
template <class X, class C, Kind K, bool PER_NEURON> void again(const Job& job, const Tile& at, C* margins, int64_t lanes) {
    Population<C, K, PER_NEURON> neurons(job, at);
    for (int64_t t = 0; t < job.steps; t++) {
        const X* __restrict__ x = static_cast<const X*>(job.input) + t * job.input_step + at.place;
        C* __restrict__ margin = margins + t * lanes;
        if (t + 1 < job.steps) fetch(x + job.input_step, at.lanes);
#pragma omp simd
        for (int n = 0; n < at.lanes; n++) margin[n] = neurons.margin(read<C>(x[n]), n);
    }
}

template <class C> void derivative(int kind, C slope, const C* __restrict__ margin, C* __restrict__ slopes, int lanes) {
    switch (kind) {
    case SUPER:
#pragma omp simd
        for (int n = 0; n < lanes; n++) {
            C far = std::fabs(margin[n]) * slope + 1;
            slopes[n] = 1 / (far * far);
        }
        break;
    case ATAN:
#pragma omp simd
        for (int n = 0; n < lanes; n++) {
            C far = C(1.5707963267948966) * slope * margin[n];
            slopes[n] = slope / 2 / (1 + far * far);
        }
        break;
    case SIGMOID:
        for (int n = 0; n < lanes; n++) {
            // Even in m, and exp of a negative number cannot overflow.
            C e = std::exp(-slope * std::fabs(margin[n]));
            slopes[n] = slope * e / ((1 + e) * (1 + e));
        }
        break;
    default:
#pragma omp simd
        for (int n = 0; n < lanes; n++) {
            C near = 1 - std::fabs(margin[n]);
            slopes[n] = near > 0 ? slope * near : C(0);
        }
    }
}

template <class X, class C, class M, Kind K, bool PER_NEURON> void backward(const Job& job, int64_t begin, int64_t end) {
    constexpr bool SPIKING = K != LI;
    const int64_t size = job.rows * job.width;
    const bool past = job.steps * size * sizeof(X) >= LARGE;
    const C through = job.detached ? 0 : 1;
    const bool learned = job.g_decay || job.g_threshold || job.g_leak || job.g_reset;
    const bool anew = std::is_same<M, C>::value && SPIKING && job.input;
    const int64_t lanes = ::lanes(job, anew), between = anew ? lanes : size;
    std::vector<C> margins(anew ? job.steps * lanes : 0);
    for (int64_t index = begin; index < end; index++) {
        const Tile at = tile(job, index, lanes);
        if constexpr (std::is_same<M, C>::value && SPIKING)
            if (anew) again<X, C, K, PER_NEURON>(job, at, margins.data(), lanes);
        const void* kept = margins.data();
        if (!anew) kept = job.saved ? static_cast<const M*>(job.saved) + at.place : nullptr;
        const Parameter<C, PER_NEURON> decay(job.decay, at.first), filter(job.synapse_decay, at.first),
            threshold(job.threshold, at.first), leak(job.leak, at.first), reset(job.reset, at.first);
        C gv[LANES], gi[LANES], margin[LANES], slopes[LANES];
        C g_decay[LANES], g_threshold[LANES], g_leak[LANES], g_reset[LANES];
        alignas(64) C g_held[LANES];
        if (learned)
            for (C* sum : {g_decay, g_threshold, g_leak, g_reset}) memset(sum, 0, sizeof(C) * LANES);
        for (int n = 0; n < at.lanes; n++) {
            gv[n] = job.g_v_last ? static_cast<const C*>(job.g_v_last)[at.place + n] : C(0);
            gi[n] = job.g_i_last ? static_cast<const C*>(job.g_i_last)[at.place + n] : C(0);
        }
        for (int64_t t = job.steps - 1; t >= 0; t--) {
            const X* __restrict__ g = job.g_output ? static_cast<const X*>(job.g_output) + t * size + at.place : nullptr;
            alignas(64) C gx[LANES];
            const M* saved = kept ? static_cast<const M*>(kept) + t * between : nullptr;
            if (t) {
                if (g) fetch(g - size, at.lanes);
                if (saved && !anew) fetch(saved - size, at.lanes);
            }
            const bool inlined = SPIKING && job.surrogate == SUPER && !learned && g;
            if (SPIKING && !inlined) {
                for (int n = 0; n < at.lanes; n++) margin[n] = read<C>(saved[n]);
                derivative<C>(job.surrogate, C(job.slope), margin, slopes, at.lanes);
            }
            if (learned) {
                for (int n = 0; n < at.lanes; n++) {
                    C gn = g ? read<C>(g[n]) : C(0);
                    C h = SPIKING ? margin[n] + threshold[n] : saved ? read<C>(saved[n]) : C(0);
                    C gz = SPIKING ? gn + through * gv[n] * (reset[n] - h) : C(0);
                    C gh = SPIKING ? gz * slopes[n] + (margin[n] > 0 ? C(0) : gv[n]) : gn + gv[n];
                    if (job.g_decay) {
                        C before = job.v_first ? static_cast<const C*>(job.v_first)[at.place + n] : leak[n];
                        if (t) {
                            C last = read<C>(saved[n - between]);
                            before = !SPIKING ? last : last > 0 ? reset[n] : last + threshold[n];
                        }
                        g_decay[n] += gh * (h - before) / decay[n];
                    }
                    if (SPIKING) {
                        g_threshold[n] -= gz * slopes[n];
                        g_reset[n] += margin[n] > 0 ? gv[n] : C(0);
                    }
                    g_leak[n] += K == IF ? C(0) : decay[n] * gh;
                }
            }
            auto step = [&](int n, C gn, C m, C slope) __attribute__((always_inline)) {
                C gh;
                if (SPIKING) {
                    C gz = gn + through * gv[n] * (reset[n] - (m + threshold[n]));
                    gh = gz * slope + (m > 0 ? C(0) : gv[n]);
                } else {
                    gh = gn + gv[n];
                }
                C charge = K == IF ? gh : decay[n] * gh;
                gv[n] = K == IF ? gh : gh - charge;
                if (K == CUBA_LIF) {
                    C current = charge + gi[n];
                    charge = filter[n] * current;
                    gi[n] = current - charge;
                }
                gx[n] = charge;
            };
            if (inlined) {  // the usual case, in one pass
                const C slope = C(job.slope);
#pragma omp simd
                for (int n = 0; n < at.lanes; n++) {
                    const C m = read<C>(saved[n]), far = std::fabs(m) * slope + 1;
                    step(n, read<C>(g[n]), m, 1 / (far * far));
                }
            } else if (g) {
#pragma omp simd
                for (int n = 0; n < at.lanes; n++) step(n, read<C>(g[n]), margin[n], slopes[n]);
            } else {
#pragma omp simd
                for (int n = 0; n < at.lanes; n++) step(n, C(0), margin[n], slopes[n]);
            }
            if (!job.held) {
                give(static_cast<X*>(job.g_input) + t * size + at.place, gx, at.lanes, past);
                continue;
            }
#pragma omp simd
            for (int n = 0; n < at.lanes; n++) g_held[n] = t + 1 < job.steps ? g_held[n] + gx[n] : gx[n];
        }
        if (job.held) give(static_cast<X*>(job.g_input) + at.place, g_held, at.lanes, past);
        for (int n = 0; n < at.lanes; n++) static_cast<C*>(job.g_v_first)[at.place + n] = gv[n];
        auto leave = [&](void* to, const C* values) {
            if (to)
                for (int n = 0; n < at.lanes; n++) static_cast<C*>(to)[at.place + n] = values[n];
        };
        leave(job.g_i_first, gi);
        leave(job.g_decay, g_decay);
        leave(job.g_threshold, g_threshold);
        leave(job.g_leak, g_leak);
        leave(job.g_reset, g_reset);
    }
    settle();
}

}  // namespace

extern "C" {

// Tiles of a job, forward or backward.
int64_t tiles(const Job* job, bool backward) {
    int64_t most = lanes(*job, backward && KIND != LI && job->input);
    return job->rows * ((job->width + most - 1) / most);
}

// Tiles begin … end of a job, for the types and the kind of neuron that this file was compiled for.
void forward(const Job* job, int64_t begin, int64_t end) {
    if (job->per_neuron) forward<INPUT, COMPUTED, SAVED, KIND, true>(*job, begin, end);
    else forward<INPUT, COMPUTED, SAVED, KIND, false>(*job, begin, end);
}

void backward(const Job* job, int64_t begin, int64_t end) {
    if (job->per_neuron) backward<INPUT, COMPUTED, SAVED, KIND, true>(*job, begin, end);
    else backward<INPUT, COMPUTED, SAVED, KIND, false>(*job, begin, end);
}
}
