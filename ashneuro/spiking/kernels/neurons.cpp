// Neurons over many timesteps in one pass: each input element is read once, each output element written
// once.
//
// A job is a block of memory [steps][rows][width]. A parameter is one number, or one per element of a
// row. The state of a group of neurons stays in a few registers for some timesteps. The operations and
// their order are those of Norse's step functions; without contraction to fused multiply-adds
// (-ffp-contract=off) the results agree to the last bit. Equations: ashneuro/spiking/kernels/multi_step.py.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>
#ifdef __AVX512BW__
#include <immintrin.h>
#endif

namespace {

enum Kind { LIF = 0, CUBA_LIF = 1, IF = 2, LI = 3, GRADED = 4, SIGMA_DELTA = 5, DELTA = 6 };
enum Reset { VALUE = 0, SUBTRACT = 1 };
enum Surrogate { SUPER = 0, ATAN = 1, SIGMOID = 2, TRIANGLE = 3 };
constexpr bool SPIKING = KIND != LI, SUBTRACTS = RESET == SUBTRACT;
constexpr bool CHANGES = KIND == SIGMA_DELTA || KIND == DELTA, SECOND = KIND == CUBA_LIF || CHANGES;  // a state i

struct BFloat16 {
    uint16_t bits;
};

#ifdef __AVX512BW__
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif
// A register of the computing type, and its bits.
typedef COMPUTED Lanes __attribute__((vector_size(BYTES)));
typedef std::conditional<sizeof(COMPUTED) == 4, uint32_t, uint64_t>::type Bit;
typedef Bit Bits __attribute__((vector_size(BYTES)));
typedef uint16_t Halves __attribute__((vector_size(BYTES * 2 / sizeof(COMPUTED))));
constexpr int LANES = BYTES / sizeof(COMPUTED);

// Several registers per group hide the latency of dependent operations.
constexpr int REGISTERS = 4, GROUP = REGISTERS * LANES;
// Timesteps for which a group's state stays in registers. More of them means more memory streams at
// once, and streams a power of two apart evict each other from the caches.
constexpr int STEPS = 8;
// Neurons that take these timesteps before the next timesteps come, so that memory is read in runs that
// the hardware prefetches. Their state is in L1.
constexpr int64_t TILE = 1024;
// Margins of a tile that the backward pass recomputes: they fit L2.
constexpr int64_t MAX_MARGINS = 1 << 15;
// Prefetch distance in bytes, forward and backward: the next timestep is too far away in memory for the
// hardware prefetcher.
constexpr int AHEAD = 1024, AHEAD_BACK = 2048;
// Arrays of more bytes are written past the caches (measured). The reader of a smaller one finds it in
// the cache.
constexpr int64_t LARGE = 4 << 20;

#define EACH_REGISTER _Pragma("GCC unroll 4") for (int r = 0; r < REGISTERS; r++)

}  // namespace

extern "C" struct Job {
    int64_t steps, rows, width;
    int64_t input_step;  // elements from one step of the input to the next; 0: the same input in every step
    int64_t held;        // 1: g_input is one step, the sum over all steps
    int32_t surrogate, detached, per_neuron;
    double slope;
    double limit;  // largest value that a graded neuron sends
    const void *input;
    void *output, *saved;
    const void *v_first, *i_first;
    void *v_last, *i_last;
    const void *decay, *synapse_decay, *threshold, *leak, *reset;
    const void *g_output, *g_v_last, *g_i_last;
    void *g_input, *g_v_first, *g_i_first, *g_decay, *g_threshold, *g_leak, *g_reset;
    const void* weights;  // [width] of spikes that are counted; or null
    double* weighted;     // [tiles] sums of these weights, by the forward pass
    double g_each, g_weighted;  // gradients at every spike, and at its weight, added to g_output
    int64_t ones;  // number of spikes, counted by the forward pass
};

namespace {

inline Lanes all(COMPUTED value) { return value - Lanes{}; }

// Absolute values.
inline Lanes magnitude(Lanes values) { return (Lanes)((Bits)values & (~Bit(0) >> 1)); }

#ifdef __AVX512BW__
// A mask of the first count lanes, in units of 16 bits.
template <class Register> inline uint32_t some(int count) { return (uint32_t(1) << count * int(sizeof(Register) / LANES / 2)) - 1; }
#endif

// Load the first ``count`` lanes of a register; the others are 0.
template <class Register> inline Register take(const void* place, int count) {
    Register values{};
    if (count == LANES) {
        memcpy(&values, place, sizeof(Register));
        return values;
    }
#ifdef __AVX512BW__
    if constexpr (sizeof(Register) == 64) return (Register)_mm512_maskz_loadu_epi16(some<Register>(count), place);
#endif
    memcpy(&values, place, count * (sizeof(Register) / LANES));
    return values;
}

// Store the first ``count`` lanes; with ``past``, past the caches, because a store into them would first
// fetch the line that it overwrites.
template <class Register> inline void put(void* place, Register values, int count, bool past) {
#ifdef __AVX512BW__
    if constexpr (sizeof(Register) == 64) {
        if (past) _mm512_stream_si512(static_cast<__m512i*>(place), (__m512i)values);
        else if (count == LANES) memcpy(place, &values, sizeof(Register));
        else _mm512_mask_storeu_epi16(place, some<Register>(count), (__m512i)values);
        return;
    } else if constexpr (sizeof(Register) == 32) {
        if (past) return _mm256_stream_si256(static_cast<__m256i*>(place), (__m256i)values);
    }
#endif
    memcpy(place, &values, count == LANES ? sizeof(Register) : count * (sizeof(Register) / LANES));
}

inline Lanes read(const COMPUTED* place, int count) { return take<Lanes>(place, count); }
inline Lanes read(const BFloat16* place, int count) { return (Lanes)(__builtin_convertvector(take<Halves>(place, count), Bits) << 16); }

inline void write(COMPUTED* place, Lanes values, int count, bool past = false) { put(place, values, count, past); }
inline void write(BFloat16* place, Lanes values, int count, bool past = false) {
    const Bits bits = (Bits)values;
    // Round to nearest, ties to even; NaN stays NaN.
    const Bits rounded = values != values ? (bits >> 16) | 64 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    put<Halves>(place, __builtin_convertvector(rounded, Halves), count, past);
}

inline void fetch(const void* place, int ahead) { __builtin_prefetch(static_cast<const char*>(place) + ahead, 0, 2); }

// An array of the job from element ``place`` on; null if the job has none.
template <class X> inline X* from(const void* array, int64_t place) { return array ? static_cast<X*>(const_cast<void*>(array)) + place : nullptr; }

// Neurons that are computed together: ``count`` of them, from ``first`` of their row, element ``place`` of
// their timestep, lane ``lane`` of their tile.
struct Group {
    int64_t first, place;
    int lane, count;

    // Number of lanes of register r that are neurons.
    template <bool WHOLE> inline int lanes(int r) const { return WHOLE ? LANES : std::max(0, std::min(LANES, count - r * LANES)); }
};

// A parameter of a group: one number, or one per lane.
template <bool PER_NEURON, bool WHOLE> struct Parameter {
    Lanes one{};
    const COMPUTED* each = nullptr;
    const Group& at;
    Parameter(const void* values, const Group& at) : each(from<COMPUTED>(values, PER_NEURON ? at.first : 0)), at(at) {
        if (each) one = all(*each);
    }
    inline Lanes operator[](int r) const { return PER_NEURON && each ? read(each + r * LANES, at.lanes<WHOLE>(r)) : one; }
};

template <bool PER_NEURON, bool WHOLE> struct Parameters {
    const Parameter<PER_NEURON, WHOLE> decay, filter, threshold, leak, reset;
    Parameters(const Job& job, const Group& at)
        : decay(job.decay, at), filter(job.synapse_decay, at), threshold(job.threshold, at), leak(job.leak, at), reset(job.reset, at) {}
};

// A group's state in registers; between blocks of timesteps it is in ``v`` and ``i`` of its tile.
template <bool PER_NEURON, bool WHOLE> struct State {
    const Parameters<PER_NEURON, WHOLE>& of;
    Lanes v[REGISTERS], i[REGISTERS];

    State(const Job& job, const Group& at, const Parameters<PER_NEURON, WHOLE>& of, bool first, const COMPUTED* v_tile, const COMPUTED* i_tile)
        : of(of) {
        EACH_REGISTER {
            const int lanes = at.lanes<WHOLE>(r), n = r * LANES;
            if (!first) {
                v[r] = read(v_tile + at.lane + n, LANES);
                i[r] = SECOND ? read(i_tile + at.lane + n, LANES) : Lanes{};
                continue;
            }
            v[r] = job.v_first ? read(from<COMPUTED>(job.v_first, at.place + n), lanes) : of.leak[r];
            i[r] = job.i_first ? read(from<COMPUTED>(job.i_first, at.place + n), lanes) : Lanes{};
        }
    }

    inline void leave(const Group& at, COMPUTED* v_tile, COMPUTED* i_tile) const {
        EACH_REGISTER {
            write(v_tile + at.lane + r * LANES, v[r], LANES);
            if (SECOND) write(i_tile + at.lane + r * LANES, i[r], LANES);
        }
    }

    // Take one step with this input; return v before the reset.
    inline Lanes charged(Lanes in, int r) {
        if (KIND == CUBA_LIF) in = i[r] = i[r] + of.filter[r] * (in - i[r]);
        if (KIND == IF) return v[r] + in;
        if (KIND == LI) return v[r] + of.decay[r] * ((of.leak[r] - v[r]) + in);
        return v[r] + of.decay[r] * ((in + of.leak[r]) - v[r]);
    }

    // Take one step, reset included; return the margin.
    inline Lanes margin(Lanes in, int r) {
        if (KIND == GRADED) return in - of.threshold[r];
        if (KIND == SIGMA_DELTA) return v[r] += in;
        const Lanes h = charged(in, r), margin = h - of.threshold[r];
        v[r] = margin > 0 ? (SUBTRACTS ? margin : of.reset[r]) : h;
        return margin;
    }
};

// True if an array is large enough to be written past the caches, and its cache lines are whole.
inline bool streams(const Job& job, const void* array, const Group& at) {
    const int64_t size = job.rows * job.width * sizeof(INPUT);
    return job.steps * size >= LARGE && size % 64 == 0 && reinterpret_cast<uintptr_t>(from<INPUT>(array, at.place)) % 64 == 0;
}

// Forward pass of a group over timesteps begin … end; adds each lane's spikes to ``ones``, their weights to ``weighted``.
template <bool PER_NEURON, bool WHOLE>
inline void forward(const Job& job, const Group& at, int64_t begin, int64_t end, COMPUTED* v_tile, COMPUTED* i_tile, Lanes& ones, Lanes& weighted) {
    const int64_t size = job.rows * job.width;
    const Parameters<PER_NEURON, WHOLE> of(job, at);
    State<PER_NEURON, WHOLE> state(job, at, of, begin == 0, v_tile, i_tile);
    const bool past = WHOLE && streams(job, job.output, at);
    const Lanes limit = all(COMPUTED(job.limit));
    const INPUT* x = from<INPUT>(job.input, begin * job.input_step + at.place);
    INPUT* out = from<INPUT>(job.output, begin * size + at.place);
    SAVED* saved = from<SAVED>(job.saved, begin * size + at.place);
    const COMPUTED* const weights = from<COMPUTED>(job.weights, at.first);
    Lanes next[REGISTERS], sent[REGISTERS];
    EACH_REGISTER {
        next[r] = read(x + r * LANES, at.lanes<WHOLE>(r));
        sent[r] = Lanes{};
    }
    for (int64_t t = begin; t < end; t++) {
        EACH_REGISTER {
            const int lanes = at.lanes<WHOLE>(r), n = r * LANES;
            const Lanes in = next[r];
            fetch(x + n, AHEAD);
            // Load before this step's store: a load waits for an earlier store to the same offset of another
            // page (4K aliasing).
            if (t + 1 < end) next[r] = read(x + job.input_step + n, lanes);
            if (CHANGES) {
                // A sum of the input stands for a margin; i is what has been sent.
                const Lanes sum = KIND == SIGMA_DELTA ? state.margin(in, r) : in;
                const Lanes value = KIND == SIGMA_DELTA ? (sum > 0 ? sum : Lanes{}) : sum, change = value - state.i[r];
                const auto sends = magnitude(change) >= of.threshold[r];
                state.i[r] = sends ? value : state.i[r];
                write(out + n, sends ? change : Lanes{}, lanes, past);
                if (saved) write(saved + n, sum, lanes);
            } else if (SPIKING) {
                const Lanes margin = state.margin(in, r), spikes = margin > 0 ? all(1) : Lanes{};
                sent[r] += spikes;
                if (KIND == GRADED) write(out + n, margin > 0 ? (in < limit ? in : limit) : Lanes{}, lanes, past);
                else write(out + n, spikes, lanes, past);
                if (saved) write(saved + n, margin, lanes);
            } else {
                state.v[r] = state.charged(in, r);
                write(out + n, state.v[r], lanes, past);
            }
        }
        x += job.input_step;
        out += size;
        if (saved) saved += size;
    }
    EACH_REGISTER {
        if (WHOLE) ones += sent[r];
        else
            for (int n = 0; n < at.lanes<WHOLE>(r); n++) ones[n] += sent[r][n];
        if (weights) weighted += read(weights + r * LANES, at.lanes<WHOLE>(r)) * sent[r];
    }
    if (end < job.steps) return state.leave(at, v_tile, i_tile);
    EACH_REGISTER {
        const int lanes = at.lanes<WHOLE>(r);
        const int64_t to = at.place + r * LANES;
        if (job.v_last) write(from<COMPUTED>(job.v_last, to), state.v[r], lanes);
        if (job.i_last) write(from<COMPUTED>(job.i_last, to), state.i[r], lanes);
    }
}

inline Lanes derivative(int kind, COMPUTED slope, Lanes margin) {
    switch (kind) {
    case SUPER: {
        const Lanes far = magnitude(margin) * slope + 1;
        return 1 / (far * far);
    }
    case ATAN: {
        const Lanes far = COMPUTED(1.5707963267948966) * slope * margin;
        return slope / 2 / (1 + far * far);
    }
    case SIGMOID: {
        // Even in m, and exp of a negative number cannot overflow.
        Lanes e = -slope * magnitude(margin);
        for (int n = 0; n < LANES; n++) e[n] = std::exp(e[n]);
        return slope * e / ((1 + e) * (1 + e));
    }
    default: {
        const Lanes near = 1 - magnitude(margin);
        return near > 0 ? slope * near : Lanes{};
    }
    }
}

// State of a tile between blocks of timesteps of the backward pass; ``margins`` [step][lane] of all steps.
struct Kept {
    alignas(64) COMPUTED v[TILE], i[TILE];
    alignas(64) COMPUTED gv[TILE], gi[TILE], held[TILE], decay[TILE], threshold[TILE], leak[TILE], reset[TILE];
    std::vector<COMPUTED> margins;
    int64_t tile;
};

// Recompute the margins of timesteps begin … end: cheaper than to write them and read them back.
template <bool PER_NEURON, bool WHOLE> inline void recompute_margins(const Job& job, const Group& at, int64_t begin, int64_t end, Kept& kept) {
    const Parameters<PER_NEURON, WHOLE> of(job, at);
    State<PER_NEURON, WHOLE> state(job, at, of, begin == 0, kept.v, kept.i);
    const INPUT* x = from<INPUT>(job.input, begin * job.input_step + at.place);
    COMPUTED* margin = kept.margins.data() + begin * kept.tile + at.lane;
    for (int64_t t = begin; t < end; t++) {
        EACH_REGISTER {
            fetch(x + r * LANES, AHEAD_BACK);
            write(margin + r * LANES, state.margin(read(x + r * LANES, at.lanes<WHOLE>(r)), r), LANES);
        }
        x += job.input_step;
        margin += kept.tile;
    }
    state.leave(at, kept.v, kept.i);
}

// Backward pass of a group over timesteps begin … end. PLAIN: the usual case, a whole group with SuperSpike
// and no learned parameters.
template <bool PER_NEURON, bool PLAIN> inline void backward(const Job& job, const Group& at, int64_t begin, int64_t end, Kept& kept) {
    const int64_t size = job.rows * job.width;
    const Parameters<PER_NEURON, PLAIN> of(job, at);
    const bool past = PLAIN && !job.held && streams(job, job.g_input, at);
    const bool learned = !PLAIN && (job.g_decay || job.g_threshold || job.g_leak || job.g_reset);
    const COMPUTED through = job.detached ? 0 : 1, slope = COMPUTED(job.slope);
    const COMPUTED* const weights = from<COMPUTED>(job.weights, at.first);
    const Lanes limit = all(COMPUTED(job.limit));
    const int surrogate = PLAIN ? SUPER : job.surrogate;
    const COMPUTED* const margins = kept.margins.empty() ? nullptr : kept.margins.data() + at.lane;
    const SAVED* const saved = from<SAVED>(job.saved, at.place);
    // The margins of a timestep; of a leaky integrator, its output.
    auto saved_at = [&](int64_t t, int r) __attribute__((always_inline)) -> Lanes {
        if (margins) return read(margins + t * kept.tile + r * LANES, LANES);
        return saved ? read(saved + t * size + r * LANES, at.lanes<PLAIN>(r)) : Lanes{};
    };
    Lanes gv[REGISTERS], gi[REGISTERS], held[REGISTERS], g_each[REGISTERS];
    Lanes g_decay[REGISTERS], g_threshold[REGISTERS], g_leak[REGISTERS], g_reset[REGISTERS];
    EACH_REGISTER {
        gv[r] = gi[r] = held[r] = g_decay[r] = g_threshold[r] = g_leak[r] = g_reset[r] = Lanes{};
        const int n = at.lane + r * LANES, lanes = at.lanes<PLAIN>(r);
        g_each[r] = all(COMPUTED(job.g_each));
        if (weights) g_each[r] += COMPUTED(job.g_weighted) * read(weights + r * LANES, lanes);
        if (end == job.steps) {
            if (job.g_v_last) gv[r] = read(from<COMPUTED>(job.g_v_last, at.place + r * LANES), lanes);
            if (job.g_i_last) gi[r] = read(from<COMPUTED>(job.g_i_last, at.place + r * LANES), lanes);
            continue;
        }
        gv[r] = read(kept.gv + n, LANES);
        if (SECOND) gi[r] = read(kept.gi + n, LANES);
        if (job.held) held[r] = read(kept.held + n, LANES);
        if (!learned) continue;
        g_decay[r] = read(kept.decay + n, LANES);
        g_threshold[r] = read(kept.threshold + n, LANES);
        g_leak[r] = read(kept.leak + n, LANES);
        g_reset[r] = read(kept.reset + n, LANES);
    }
    for (int64_t t = end - 1; t >= begin; t--) {
        const INPUT* g = from<INPUT>(job.g_output, t * size + at.place);
        INPUT* gx = job.held ? nullptr : from<INPUT>(job.g_input, t * size + at.place);
        EACH_REGISTER {
            const int lanes = at.lanes<PLAIN>(r);
            if (g) fetch(g + r * LANES, AHEAD_BACK);
            if (saved) fetch(saved + t * size + r * LANES, AHEAD_BACK);
            const Lanes at_values = g ? read(g + r * LANES, lanes) : Lanes{}, gn = at_values + g_each[r];
            if (CHANGES) {
                Lanes charge = gn + gi[r];
                gi[r] = -gn;
                if (KIND == SIGMA_DELTA) charge = gv[r] += saved_at(t, r) > 0 ? charge : Lanes{};
                if (gx) write(gx + r * LANES, charge, lanes, past);
                else held[r] = t + 1 < job.steps ? held[r] + charge : charge;
                continue;
            }
            if (KIND == GRADED) {
                const Lanes threshold = of.threshold[r];
                const INPUT* const x = from<INPUT>(job.input, t * job.input_step + at.place + r * LANES);
                if (x) fetch(x, AHEAD_BACK);
                const Lanes m = x ? read(x, lanes) - threshold : saved_at(t, r);
                const Lanes width = threshold > 0 ? threshold : all(1), step = derivative(surrogate, slope, m / width);
                const Lanes passes = m > 0 ? (m + threshold <= limit ? all(1) : Lanes{}) : Lanes{};
                // The gradient at the values meets a step of height θ, that at every message one of height 1.
                const Lanes jump = (threshold > 0 ? at_values + g_each[r] / width : g_each[r] * passes) * step;
                if (learned) g_threshold[r] -= threshold > 0 ? jump : Lanes{};
                const Lanes charge = jump + at_values * passes;
                if (gx) write(gx + r * LANES, charge, lanes, past);
                else held[r] = t + 1 < job.steps ? held[r] + charge : charge;
                continue;
            }
            Lanes gh = gn + gv[r];
            if (SPIKING) {
                const Lanes m = saved_at(t, r), h = m + of.threshold[r];
                const Lanes gz = gn + through * gv[r] * (SUBTRACTS ? -of.threshold[r] : of.reset[r] - h);
                const Lanes charged = gz * derivative(surrogate, slope, m);
                gh = charged + (SUBTRACTS ? gv[r] : m > 0 ? Lanes{} : gv[r]);
                if (learned) {
                    const Lanes reset = m > 0 ? gv[r] : Lanes{};
                    g_threshold[r] -= SUBTRACTS ? charged + reset : charged;
                    g_reset[r] += reset;
                }
            }
            if (learned && KIND != IF) {
                Lanes h = saved_at(t, r), before;
                if (t) {
                    const Lanes last = saved_at(t - 1, r);
                    before = !SPIKING ? last : last > 0 ? (SUBTRACTS ? last : of.reset[r]) : last + of.threshold[r];
                } else {
                    before = job.v_first ? read(from<COMPUTED>(job.v_first, at.place + r * LANES), lanes) : of.leak[r];
                }
                if (SPIKING) h += of.threshold[r];
                g_decay[r] += gh * (h - before) / of.decay[r];
                g_leak[r] += of.decay[r] * gh;
            }
            Lanes charge = KIND == IF ? gh : of.decay[r] * gh;
            gv[r] = KIND == IF ? gh : gh - charge;
            if (KIND == CUBA_LIF) {
                const Lanes current = charge + gi[r];
                charge = of.filter[r] * current;
                gi[r] = current - charge;
            }
            if (gx) write(gx + r * LANES, charge, lanes, past);
            else held[r] = t + 1 < job.steps ? held[r] + charge : charge;
        }
    }
    EACH_REGISTER {
        const int n = at.lane + r * LANES, lanes = at.lanes<PLAIN>(r);
        if (begin) {
            write(kept.gv + n, gv[r], LANES);
            if (SECOND) write(kept.gi + n, gi[r], LANES);
            if (job.held) write(kept.held + n, held[r], LANES);
            if (!learned) continue;
            write(kept.decay + n, g_decay[r], LANES);
            write(kept.threshold + n, g_threshold[r], LANES);
            write(kept.leak + n, g_leak[r], LANES);
            write(kept.reset + n, g_reset[r], LANES);
            continue;
        }
        const int64_t to = at.place + r * LANES;
        auto leave = [&](void* array, Lanes values) {
            if (array) write(from<COMPUTED>(array, to), values, lanes);
        };
        if (job.held) write(from<INPUT>(job.g_input, to), held[r], lanes);
        leave(job.g_v_first, gv[r]);
        leave(job.g_i_first, gi[r]);
        leave(job.g_decay, g_decay[r]);
        leave(job.g_threshold, g_threshold[r]);
        leave(job.g_leak, g_leak[r]);
        leave(job.g_reset, g_reset[r]);
    }
}

// Neurons of a tile: fewer if the margins of all timesteps are recomputed at once.
inline int64_t tile(const Job& job, bool recomputes) {
    return recomputes ? std::max<int64_t>(GROUP, std::min(TILE, MAX_MARGINS / job.steps / GROUP * GROUP)) : TILE;
}

// True if the backward pass recomputes the margins of all timesteps from the input. Those of graded neurons need
// no state: they are computed where they are read.
inline bool recomputes(const Job& job) { return SPIKING && KIND != GRADED && job.input; }

// Call ``run(each_group)`` for tiles begin … end; ``each_group(run)`` calls ``run(group, whole)`` for all groups
// of the tile.
template <class Run> inline void each_tile(const Job& job, int64_t tile, int64_t begin, int64_t end, Run run) {
    const int64_t per_row = (job.width + tile - 1) / tile;
    for (int64_t index = begin; index < end; index++) {
        const int64_t row = index / per_row, first = index % per_row * tile, count = std::min(tile, job.width - first);
        run([&](auto run_group) {
            for (int64_t lane = 0; lane < count; lane += GROUP) {
                const Group at{first + lane, row * job.width + first + lane, int(lane), int(std::min<int64_t>(GROUP, count - lane))};
                if (at.count == GROUP) run_group(at, std::true_type{});
                else run_group(at, std::false_type{});
            }
        });
    }
#ifdef __AVX512BW__
    _mm_sfence();  // makes stores past the caches visible to other threads
#endif
}

template <bool PER_NEURON> void forward(Job& job, int64_t begin, int64_t end) {
    alignas(64) COMPUTED v[TILE], i[TILE];
    int64_t sent = 0, index = begin;
    each_tile(job, TILE, begin, end, [&](auto each_group) {
        Lanes ones{}, weighted{};
        for (int64_t t = 0; t < job.steps; t += STEPS)
            each_group([&](const Group& at, auto whole) {
                forward<PER_NEURON, decltype(whole)::value>(job, at, t, std::min(t + STEPS, job.steps), v, i, ones, weighted);
            });
        for (int n = 0; n < LANES; n++) sent += int64_t(ones[n]);
        double sum = 0;
        for (int n = 0; n < LANES; n++) sum += weighted[n];
        if (job.weighted) job.weighted[index++] = sum;
    });
    __atomic_fetch_add(&job.ones, sent, __ATOMIC_RELAXED);
}

template <bool PER_NEURON> void backward(const Job& job, int64_t begin, int64_t end) {
    const bool plain = job.surrogate == SUPER && !(job.g_decay || job.g_threshold || job.g_leak || job.g_reset);
    Kept kept;
    kept.tile = tile(job, recomputes(job));
    if (recomputes(job)) kept.margins.resize(job.steps * kept.tile);
    each_tile(job, kept.tile, begin, end, [&](auto each_group) {
        for (int64_t t = 0; recomputes(job) && t < job.steps; t += STEPS)
            each_group([&](const Group& at, auto whole) {
                recompute_margins<PER_NEURON, decltype(whole)::value>(job, at, t, std::min(t + STEPS, job.steps), kept);
            });
        for (int64_t t = job.steps; t > 0; t -= STEPS)
            each_group([&](const Group& at, auto whole) {
                const int64_t first = std::max<int64_t>(0, t - STEPS);
                if (decltype(whole)::value && plain) backward<PER_NEURON, true>(job, at, first, t, kept);
                else backward<PER_NEURON, false>(job, at, first, t, kept);
            });
    });
}

}  // namespace

extern "C" {

// Number of tiles of a job, forward or backward.
int64_t tiles(const Job* job, bool backward) {
    const int64_t most = tile(*job, backward && recomputes(*job));
    return job->rows * ((job->width + most - 1) / most);
}

// Tiles begin … end of a job. Types, the kind of neuron and its reset are those that this file is compiled for.
void forward(Job* job, int64_t begin, int64_t end) {
    if (job->per_neuron) forward<true>(*job, begin, end);
    else forward<false>(*job, begin, end);
}

void backward(const Job* job, int64_t begin, int64_t end) {
    if (job->per_neuron) backward<true>(*job, begin, end);
    else backward<false>(*job, begin, end);
}
}
