// Loihi's neurons over many steps, bit for bit, with the products of spikes and 8-bit weights before
// them. Equations: ashneuro/program/program.py.
//
// A product with spikes is the sum of the weights of those lines that spiked: silent lines cost
// nothing. Sums are exact: a block of weights fits 16 bits, and blocks add up in 32 bits. Decays need
// no more than 32 bits either: |x|·keep >> 12 = (|x| >> 12)·keep + ((|x| & 4095)·keep >> 12).
//
// Messages that carry numbers have at most 16 bits, as Loihi's, and one byte where that holds them. A
// product with them adds two lines at once, in 32 bits. Only changes may exceed 16 bits: they are added
// in pieces of 15.
//
// Synapses are convolutions between positions, which are rows of channels (channels-last); a dense
// layer has one position and one tap. The messages of a position are found once. For each output
// position, those of its taps' input positions are listed, and their weights added.

#include <cstdint>
#include <cstring>
#ifdef __AVX2__
#include <immintrin.h>
#endif

extern "C" {

struct Synapse {
    const void* sent;         // [steps][samples][positions][groups][channels], messages of `type`
    const int16_t* weights;   // [groups][chunks of outputs][taps][channels][width], zero behind a group's last output;
                              // for numbers, a chunk is in the order of `interleaved`
    const int32_t* sources;   // [out_positions][taps]: input position; −1 is padding
    int64_t step, sample;     // messages from one step, or sample, to the next
    int64_t positions, groups, channels, out_positions, taps, outputs;  // channels and outputs are those of one group
    int32_t type;       // of messages, a Type
    int32_t width;      // outputs in a chunk: LANES, 2 · LANES or WIDEST
    int32_t lag;        // in steps
    int32_t exponent;   // shift of the sum, to the left if positive
    int32_t block;      // number of weights that add up to less than 2^15; of any lines, if they are multiplied
    int32_t imaginary;  // into the second half of the inputs
};

struct Layer {
    int64_t steps, samples, neurons;
    int32_t kind;  // of neurons, a Kind
    int32_t late;  // spikes reset v one step later
    int32_t connections, spiking, parts;  // parts: 2 if neurons have imaginary input, else 1
    int32_t type;      // of what a neuron sends, a Type
    int32_t subtract;  // from v at a spike; 0: a spike sets v to 0
    int32_t shared[7];         // keep_u, keep_v, threshold, own[4]: see the step functions
    const int32_t* each[7];    // [neurons] each, in place of the shared ones; or null
    const Synapse* synapses;
    const int32_t* currents;   // [steps][samples][parts][neurons], other input; or null
    const int32_t* bias;       // [neurons]; or null, unless parameters differ between neurons
    int32_t* more;             // [samples][2][neurons]: further state, as u and v; or null
    int32_t *u, *v;            // [samples][neurons]; state before and after the run
    void* sent;                // [steps][samples][neurons]: messages, or v of a read-out
    int64_t sent_step, sent_sample;  // messages from one step, or sample, to the next
    int32_t *trace_u, *trace_v;  // [steps][samples][neurons]; or null
    int64_t active;              // neuron-steps, added to
    int64_t beyond;              // set to 1 if the type does not hold a message: then what was sent is wrong
    int64_t piece;               // number of steps at once, for which the buffers below suffice
    int32_t* numbers;            // [neurons]
    int32_t* inputs;             // [parts][piece · neurons + WIDEST]
    int32_t *lines, *values;     // [piece · most input lines + COPIED]
    int32_t *first, *reach;      // [piece · most positions · groups + 1]
    int32_t *gathered, *loads;   // [ROWS · most taps · channels + COPIED]
};
}

namespace {

constexpr int32_t STATE = 1 << 23;
constexpr int LANES = 32, WIDEST = 96;  // WIDEST sums stay in registers
constexpr int ROWS = 64;                // positions in a row that use the same weights, which stay in cache
constexpr int COPIED = 16;              // lines copied at once
constexpr int FEWEST = 8;               // multiples of weights in 16 bits that are worth widening

// Of messages: spikes, which are 0 or 1, or numbers. Neurons compute numbers of 32 bits.
enum Type { SPIKES, UINT8, INT8, INT16, INT32 };

typedef int16_t Vector __attribute__((vector_size(64), aligned(2), may_alias));
typedef int32_t Lines __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t Wide __attribute__((vector_size(64)));
typedef int32_t Eight __attribute__((vector_size(32), aligned(4), may_alias));

// Positions of the set bits of each byte.
const struct Positions {
    Eight of[256] = {};
    Positions() {
        for (int byte = 0; byte < 256; byte++)
            for (int bit = 0, n = 0; bit < 8; bit++)
                if (byte >> bit & 1) of[byte][n++] = bit;
    }
} POSITIONS;

// Rows of weights to be added: those of lines that spiked, or times the values that they sent.
struct Events {
    const int32_t* lines;
    const int32_t* values;  // pairs of 16 bits, see paired; numbers where some are beyond 16 bits
    int32_t count;
    int32_t block;   // number of products with any lines that add up to less than 2^15, if that is at least FEWEST; or 0
    bool beyond;     // some are of more than 16 bits
};

inline int32_t paired(int32_t value) { return int32_t(uint32_t(value) << 16 | (uint32_t(value) & 0xffff)); }
inline uint32_t magnitude(int32_t value) { return value < 0 ? -uint32_t(value) : uint32_t(value); }

#ifdef __AVX512F__
inline __m512i sixteen(const uint8_t* row) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row))); }
inline __m512i sixteen(const int8_t* row) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row))); }
inline __m512i sixteen(const int16_t* row) { return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row))); }
inline __m512i sixteen(const int32_t* row) { return _mm512_loadu_si512(row); }
#endif

// Lists the lines of a row of messages other than 0, and the messages that are numbers, as pairs of 16 bits where all
// fit. Returns the number of lines. reach: the largest magnitude.
template <bool NUMBERS, class Message>
int64_t list_lines(const Message* row, int64_t channels, int32_t* lines, int32_t* values, int32_t* reach) {
    int32_t* to = lines;
    int64_t line = 0;
    uint32_t largest = 0;
#ifdef __AVX512F__
    __m512i numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), most = _mm512_setzero_si512();
    for (; line + 16 <= channels; line += 16) {
        const __m512i messages = sixteen(row + line);
        const __mmask16 sent = _mm512_test_epi32_mask(messages, messages);
        _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(sent, numbers));
        if (NUMBERS) {
            _mm512_storeu_si512(values + (to - lines), _mm512_maskz_compress_epi32(sent, messages));
            most = _mm512_max_epu32(most, _mm512_abs_epi32(messages));
        }
        to += __builtin_popcount(sent);
        numbers = _mm512_add_epi32(numbers, _mm512_set1_epi32(16));
    }
    if (NUMBERS) largest = _mm512_reduce_max_epu32(most);
#else
    for (; line + 8 <= channels; line += 8) {
        uint64_t eight;
        if (!NUMBERS) {
            memcpy(&eight, row + line, 8);
        } else {
            uint8_t sent[8];
            for (int j = 0; j < 8; j++) sent[j] = row[line + j] != 0;
            memcpy(&eight, sent, 8);
        }
        const int ones = int((eight * 0x0102040810204080) >> 56);  // a bit of each byte
        *reinterpret_cast<Eight*>(to) = POSITIONS.of[ones] + int32_t(line);
        if (NUMBERS)
            for (int k = 0; k < __builtin_popcount(ones); k++) {
                const int32_t value = row[to[k]];
                values[to - lines + k] = value;
                largest = magnitude(value) > largest ? magnitude(value) : largest;
            }
        to += __builtin_popcount(ones);
    }
#endif
    for (; line < channels; line++) {
        *to = int32_t(line);
        if (NUMBERS) {
            const int32_t value = row[line];
            values[to - lines] = value;
            largest = magnitude(value) > largest ? magnitude(value) : largest;
        }
        to += row[line] != 0;
    }
    if (!NUMBERS) return to - lines;
    *reach = largest > INT32_MAX ? INT32_MAX : int32_t(largest);
    for (int64_t k = 0; k < to - lines && *reach <= INT16_MAX; k += COPIED)
        for (int j = 0; j < COPIED; j++) values[k + j] = paired(values[k + j]);
    return to - lines;
}

// Lists the channels that sent something, by step, position and group: lines[first[n]] to lines[first[n + 1]].
template <bool NUMBERS, class Message>
void find_messages(const Layer& layer, const Synapse& synapse, int64_t sample, int64_t begin, int64_t end) {
    const int64_t rows = synapse.positions * synapse.groups, channels = synapse.channels;
    int32_t *to = layer.lines, *first = layer.first, *reach = layer.reach;
    for (int64_t t = begin - synapse.lag; t < end - synapse.lag; t++) {
        const Message* messages = static_cast<const Message*>(synapse.sent) + (t < 0 ? 0 : t * synapse.step + sample * synapse.sample);
        for (int64_t row = 0; row < rows; row++, messages += channels) {
            const int64_t n = to - layer.lines;
            *first++ = int32_t(n);
            if (NUMBERS) *reach = 0;
            if (t >= 0) to += list_lines<NUMBERS>(messages, channels, to, layer.values + n, reach);
            reach += NUMBERS;
        }
    }
    *first = int32_t(to - layer.lines);
}

void find(const Layer& layer, const Synapse& synapse, int64_t sample, int64_t begin, int64_t end) {
    switch (synapse.type) {
        case SPIKES: return find_messages<false, uint8_t>(layer, synapse, sample, begin, end);
        case UINT8: return find_messages<true, uint8_t>(layer, synapse, sample, begin, end);
        case INT8: return find_messages<true, int8_t>(layer, synapse, sample, begin, end);
        case INT16: return find_messages<true, int16_t>(layer, synapse, sample, begin, end);
        default: return find_messages<true, int32_t>(layer, synapse, sample, begin, end);
    }
}

// Lists the rows of weights for `count` output positions from `begin` on, numbered over the steps of the piece.
void gather(const Layer& layer, const Synapse& synapse, int64_t group, int64_t begin, int64_t count, Events* events) {
    const bool numbers = synapse.type != SPIKES;
    int32_t *to = layer.gathered, *load = layer.loads;
    for (int64_t row = begin; row < begin + count; row++, events++) {
        const int64_t t = row / synapse.out_positions;
        const int32_t* sources = synapse.sources + row % synapse.out_positions * synapse.taps;
        *events = {to, load, 0, 0, false};
        int32_t reach = 0;
        for (int64_t tap = 0; numbers && tap < synapse.taps; tap++)
            if (sources[tap] >= 0) {
                const int32_t there = layer.reach[(t * synapse.positions + sources[tap]) * synapse.groups + group];
                reach = there > reach ? there : reach;
            }
        events->beyond = reach > INT16_MAX;
        for (int64_t tap = 0; tap < synapse.taps; tap++) {
            if (sources[tap] < 0) continue;
            const int64_t place = (t * synapse.positions + sources[tap]) * synapse.groups + group;
            const int32_t* edges = layer.first + place;
            const int32_t *from = layer.lines + edges[0], n = edges[1] - edges[0];
            events->count += n;
            if (synapse.taps == 1) {  // the list is used as it is
                events->lines = from, events->values = layer.values + edges[0];
                continue;
            }
            const int32_t weights = int32_t(tap * synapse.channels);
            for (int32_t k = 0; k < n; k += COPIED)
                *reinterpret_cast<Lines*>(to + k) = *reinterpret_cast<const Lines*>(from + k) + weights;
            if (numbers)
                for (int32_t k = 0; k < n; k += COPIED)
                    *reinterpret_cast<Lines*>(load + k) = *reinterpret_cast<const Lines*>(layer.values + edges[0] + k);
            if (events->beyond && layer.reach[place] <= INT16_MAX)
                for (int32_t k = 0; k < n; k++) load[k] = int16_t(load[k]);  // numbers, beside those of other taps
            to += n, load += n;
        }
        if (reach && !events->beyond && reach * FEWEST <= synapse.block) events->block = synapse.block / reach;
    }
}

template <int WIDTH> inline void add_lines(const int16_t* weights, const int32_t* line, int32_t n, int16_t* into) {
    Vector sums[WIDTH / LANES] = {};
    for (int32_t k = 0; k < n; k++) {
        const Vector* row = reinterpret_cast<const Vector*>(weights + int64_t(line[k]) * WIDTH);
        for (int j = 0; j < WIDTH / LANES; j++) sums[j] += row[j];
    }
    memcpy(into, sums, sizeof sums);
}

#ifdef __clang__
#define SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLED(a, b, ...) __builtin_shuffle(a, b, Vector{__VA_ARGS__})
#endif

// Interleaves the numbers of a and b within each 128 bits: the first four of each, or the last four.
inline Vector interleaved(Vector a, Vector b, bool last) {
    return last ? SHUFFLED(a, b, 4, 36, 5, 37, 6, 38, 7, 39, 12, 44, 13, 45, 14, 46, 15, 47, 20, 52, 21, 53, 22, 54, 23, 55,
                           28, 60, 29, 61, 30, 62, 31, 63)
                : SHUFFLED(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 8, 40, 9, 41, 10, 42, 11, 43, 16, 48, 17, 49, 18, 50, 19, 51,
                           24, 56, 25, 57, 26, 58, 27, 59);
}

// Adds the sums of two products of 16-bit numbers each.
inline Wide added(Wide sums, Vector pairs, Wide values) {
#if defined(__AVX512VNNI__)
    return Wide(_mm512_dpwssd_epi32(__m512i(sums), __m512i(pairs), __m512i(values)));
#elif defined(__AVX512BW__)
    return sums + Wide(_mm512_madd_epi16(__m512i(pairs), __m512i(values)));
#elif defined(__AVX2__)
    __m256i p[2], v[2];
    memcpy(p, &pairs, sizeof p);
    memcpy(v, &values, sizeof v);
    for (int half = 0; half < 2; half++) p[half] = _mm256_madd_epi16(p[half], v[half]);
    Wide both;
    memcpy(&both, p, sizeof both);
    return sums + both;
#else
    const Wide both = Wide(pairs);
    return sums + ((both << 16) >> 16) * ((values << 16) >> 16) + (both >> 16) * (values >> 16);
#endif
}

// Adds lines times values of 16 bits, shifted to the left. The sums come in the order of the outputs.
template <int WIDTH> inline void add_products(const int16_t* weights, Events events, int32_t* into, int shift) {
    Wide sums[WIDTH / 16] = {};
    for (int32_t k = 0; k < events.count; k += 2) {
        const bool pair = k + 1 < events.count;
        const Vector* a = reinterpret_cast<const Vector*>(weights + int64_t(events.lines[k]) * WIDTH);
        const Vector* b = pair ? reinterpret_cast<const Vector*>(weights + int64_t(events.lines[k + 1]) * WIDTH) : a;
        const uint32_t other = pair ? uint32_t(events.values[k + 1]) << 16 : 0;
        const Wide values = Wide{} + int32_t(other | (uint32_t(events.values[k]) & 0xffff));
        for (int j = 0; j < WIDTH / LANES; j++) {
            sums[2 * j] = added(sums[2 * j], interleaved(a[j], b[j], false), values);
            sums[2 * j + 1] = added(sums[2 * j + 1], interleaved(a[j], b[j], true), values);
        }
    }
    for (int j = 0; j < WIDTH / 16; j++) *reinterpret_cast<Lines*>(into + 16 * j) += sums[j] << shift;
}

// Adds lines times small values, in 16 bits.
template <int WIDTH> inline void add_multiples(const int16_t* weights, Events events, int32_t* into) {
    Wide whole[WIDTH / 16] = {};
    for (int32_t begin = 0; begin < events.count; begin += events.block) {
        const int32_t end = events.count - begin < events.block ? events.count : begin + events.block;
        Vector sums[WIDTH / LANES] = {};
        for (int32_t k = begin; k < end; k++) {
            const Vector* row = reinterpret_cast<const Vector*>(weights + int64_t(events.lines[k]) * WIDTH);
            for (int j = 0; j < WIDTH / LANES; j++) sums[j] += row[j] * Vector(Wide{} + events.values[k]);
        }
        for (int j = 0; j < WIDTH / LANES; j++)
            for (int last = 0; last < 2; last++)
                whole[2 * j + last] = added(whole[2 * j + last], interleaved(sums[j], Vector{}, last), Wide{} + 1);
    }
    for (int j = 0; j < WIDTH / 16; j++) *reinterpret_cast<Lines*>(into + 16 * j) += whole[j];
}

template <int WIDTH> void add_values(const int16_t* weights, Events events, int32_t* into) {
    if (events.block) return add_multiples<WIDTH>(weights, events, into);
    if (!events.beyond) return add_products<WIDTH>(weights, events, into, 0);
    // A piece of 15 bits at a time, and the highest two with the sign.
    int32_t pieces[COPIED];
    for (int32_t begin = 0; begin < events.count; begin += COPIED) {
        const int32_t n = events.count - begin < COPIED ? events.count - begin : COPIED;
        for (int shift = 0; shift < 32; shift += 15) {
            for (int32_t k = 0; k < n; k++) {
                const int32_t rest = events.values[begin + k] >> shift;
                pieces[k] = shift < 30 ? rest & 0x7fff : rest;
            }
            add_products<WIDTH>(weights, {events.lines + begin, pieces, n, 0, false}, into, shift);
        }
    }
}

// Adds the weights of one chunk of outputs, at one position and step. Behind the last output the weights are 0,
// so that its neighbour in memory stays as it is.
template <int WIDTH> inline void add_weights(const Synapse& synapse, const int16_t* weights, Events events, int32_t* __restrict__ inputs) {
    // The exponent applies to the whole sum, not to blocks: a right shift rounds.
    const int32_t left = 1 << (synapse.exponent > 0 ? synapse.exponent : 0), right = synapse.exponent < 0 ? -synapse.exponent : 0;
    const int32_t n = events.count;
    if (synapse.type != SPIKES) {
        int32_t whole[WIDTH] = {};
        add_values<WIDTH>(weights, events, whole);
        for (int j = 0; j < WIDTH; j++) inputs[j] += (whole[j] * left) >> right;
        return;
    }
    int16_t sums[WIDTH];
    if (n <= synapse.block) {
        add_lines<WIDTH>(weights, events.lines, n, sums);
        if (synapse.exponent == 0)
            for (int j = 0; j < WIDTH; j++) inputs[j] += sums[j];
        else
            for (int j = 0; j < WIDTH; j++) inputs[j] += (sums[j] * left) >> right;
        return;
    }
    int32_t whole[WIDTH] = {};
    for (int32_t begin = 0; begin < n; begin += synapse.block) {
        add_lines<WIDTH>(weights, events.lines + begin, n - begin < synapse.block ? n - begin : synapse.block, sums);
        for (int j = 0; j < WIDTH; j++) whole[j] += sums[j];
    }
    for (int j = 0; j < WIDTH; j++) inputs[j] += (whole[j] * left) >> right;
}

// Adds the sums of one synapse, for one sample and a piece of the steps.
template <int WIDTH> void connect(const Layer& layer, const Synapse& synapse, int64_t steps, int32_t* inputs) {
    const int64_t rows = steps * synapse.out_positions, all = synapse.groups * synapse.outputs;
    for (int64_t begin = 0; begin < rows; begin += ROWS) {
        const int64_t count = rows - begin < ROWS ? rows - begin : ROWS;
        const int16_t* weights = synapse.weights;
        for (int64_t group = 0; group < synapse.groups; group++) {
            Events events[ROWS];
            gather(layer, synapse, group, begin, count, events);
            for (int64_t output = 0; output < synapse.outputs; output += WIDTH, weights += synapse.taps * synapse.channels * WIDTH)
                for (int64_t n = 0; n < count; n++)
                    if (events[n].count)
                        add_weights<WIDTH>(synapse, weights, events[n], inputs + (begin + n) * all + group * synapse.outputs + output);
        }
    }
}

// x · keep / 4096, rounded toward zero: a negative product is raised by 4095 before it is rounded down. Those are
// the upper 12 bits of x >> 12.
inline int32_t decayed(int32_t x, int32_t keep) {
    const int32_t high = x >> 12;
    return high * keep + (((x & 4095) * keep + int32_t(uint32_t(high) >> 20)) >> 12);
}

inline int32_t saturated(int32_t v) { return v > STATE - 1 ? STATE - 1 : v < 1 - STATE ? 1 - STATE : v; }

template <bool MEMORY> inline int32_t current(int32_t a, int32_t u, int32_t keep) {
    const int32_t now = a * 64 + (MEMORY ? decayed(u, keep) : 0);
    return ((now + (STATE - 1)) & (2 * STATE - 1)) - (STATE - 1);
}

// As in ashneuro/spiking/dynamics.py and message.py, which have the equations.
enum Kind { LIF, REFRACTORY, ADAPTIVE, RESONATE, IZHIKEVICH, TERNARY, GRADED, COUNT, CHANGE };
enum Reset { TO_ZERO, SUBTRACT, LATE_TO_ZERO, LATE_SUBTRACT, SUBTRACT_EACH };
enum Parameter { KEEP_U, KEEP_V, THRESHOLD, OWN };  // and its own

// One step of a sample: the state of its neurons, and where what they send goes to.
struct State {
    int32_t *u, *v, *more;
    const int32_t* inputs[2];  // the second of the imaginary part, if there is one
    void* sent;  // spikes, or numbers of 32 bits
};

// A parameter that all neurons share, or one of each. Two neurons are never one, so that loops vectorise.
template <bool EACH> struct Number {
    const int32_t shared, *__restrict__ each;
    Number(const Layer& layer, int n) : shared(layer.shared[n]), each(layer.each[n]) {}
    int32_t operator[](int64_t j) const { return EACH ? each[j] : shared; }
};

// LIF: a threshold is the largest v that does not spike. Counts: own[0] is the largest.
template <bool MEMORY, bool BIASED, bool SPIKING, Reset RESET, bool EACH = false> int64_t step(const Layer& layer, State state) {
    constexpr bool LATE = RESET == LATE_TO_ZERO || RESET == LATE_SUBTRACT, SUBTRACTS = RESET == SUBTRACT || RESET == LATE_SUBTRACT;
    const int32_t *__restrict__ a = state.inputs[0], *__restrict__ biases = layer.bias;
    int32_t *__restrict__ u = state.u, *__restrict__ v = state.v;
    uint8_t* __restrict__ spikes = static_cast<uint8_t*>(state.sent);
    int32_t* __restrict__ numbers = static_cast<int32_t*>(state.sent);
    int32_t* __restrict__ potentials = static_cast<int32_t*>(state.sent);
    const Number<EACH> keep_u(layer, KEEP_U), keep_v(layer, KEEP_V);
    const int32_t threshold = layer.shared[THRESHOLD], subtract = layer.subtract, most = layer.shared[OWN];
    const float reciprocal = 1 / float(subtract);
    int32_t awake = 0;
#pragma omp simd reduction(+ : awake)
    for (int64_t j = 0; j < layer.neurons; j++) {
        const int32_t bias = BIASED ? biases[j] : 0;
        awake += (a[j] | bias | u[j] | v[j]) != 0;
        const int32_t now = current<MEMORY>(a[j], u[j], keep_u[j]);
        u[j] = now;
        const bool before = LATE && v[j] > threshold;  // spiked in the last step
        int32_t next = saturated(decayed(v[j], keep_v[j]) + now + bias);
        if (RESET == SUBTRACT_EACH) {
            // Their number is above / subtract, rounded up. Whole numbers of 24 bits are exact as floats, so that
            // a quotient up to 2^15 is off by one at most; larger ones are `most` anyway.
            const int32_t above = next - threshold, quotient = int32_t(float(above) * reciprocal);
            const int32_t near = quotient < most ? quotient : most, rest = above - near * subtract;
            const int32_t all = near + (rest > 0) + (rest > subtract) - (rest <= -subtract);
            const int32_t n = all > most ? most : all > 0 ? all : 0;
            numbers[j] = n;
            v[j] = next - n * subtract;
        } else if (SPIKING) {
            if (LATE) next = before ? (SUBTRACTS ? next - subtract : 0) : next;
            const bool fired = next > threshold;
            spikes[j] = fired;
            v[j] = !LATE && fired ? (SUBTRACTS ? next - subtract : 0) : next;
        } else {
            potentials[j] = next;
            v[j] = next;
        }
    }
    return awake;
}

// Neurons with further state that integrate u and v as LIF does. own: steps of refractory neurons; factors of
// θ − θ_0 and r, and threshold_step of adaptive ones; threshold_below of ternary ones.
template <Kind KIND, bool MEMORY, bool BIASED, bool EACH = false> int64_t step_further(const Layer& layer, State state) {
    const int32_t *__restrict__ a = state.inputs[0], *__restrict__ biases = layer.bias;
    int32_t *__restrict__ u = state.u, *__restrict__ v = state.v, *__restrict__ more = state.more;
    int32_t* __restrict__ again = more + layer.neurons;
    uint8_t* __restrict__ spikes = static_cast<uint8_t*>(state.sent);
    int32_t* __restrict__ numbers = static_cast<int32_t*>(state.sent);
    const Number<EACH> keep_u(layer, KEEP_U), keep_v(layer, KEEP_V), thresholds(layer, THRESHOLD);
    const Number<EACH> first(layer, OWN), second(layer, OWN + 1), third(layer, OWN + 2);
    int32_t awake = 0;
#pragma omp simd reduction(+ : awake)
    for (int64_t j = 0; j < layer.neurons; j++) {
        const int32_t bias = BIASED ? biases[j] : 0, threshold = thresholds[j];
        const int32_t further = KIND == REFRACTORY ? more[j] : KIND == ADAPTIVE ? ((more[j] - threshold) | again[j]) : 0;
        awake += (a[j] | bias | u[j] | v[j] | further) != 0;
        const int32_t now = current<MEMORY>(a[j], u[j], keep_u[j]);
        u[j] = now;
        const int32_t next = saturated(decayed(v[j], keep_v[j]) + now + bias);
        if (KIND == TERNARY) {
            const bool above = next > threshold, below = next < -first[j];
            numbers[j] = above - (below && !above);
            v[j] = above || below ? 0 : next;
        } else if (KIND == REFRACTORY) {
            const int32_t held = more[j], kept = held > 0 ? v[j] : next;
            const bool fired = kept > threshold;
            spikes[j] = fired;
            v[j] = fired ? 0 : kept;
            more[j] = fired ? first[j] : held - (held > 0);
        } else {
            const int32_t theta = decayed(more[j] - threshold, first[j]) + threshold, r = decayed(again[j], second[j]);
            const bool fired = next - r >= theta;
            spikes[j] = fired;
            v[j] = next;
            more[j] = theta + (fired ? third[j] : 0);
            again[j] = r + (fired ? 2 * theta : 0);
        }
    }
    return awake;
}

// Resonators: u is the imaginary part, own: sin, cos. There is no bias.
template <Kind KIND, bool COMPLEX, bool EACH> int64_t step_resonator(const Layer& layer, State state) {
    const int32_t *__restrict__ a = state.inputs[0], *__restrict__ b = state.inputs[1];
    int32_t *__restrict__ u = state.u, *__restrict__ v = state.v;
    uint8_t* __restrict__ spikes = static_cast<uint8_t*>(state.sent);
    const Number<EACH> thresholds(layer, THRESHOLD), sine(layer, OWN), cosine(layer, OWN + 1);
    int32_t awake = 0;
#pragma omp simd reduction(+ : awake)
    for (int64_t j = 0; j < layer.neurons; j++) {
        const int32_t threshold = thresholds[j], sin = sine[j], cos = cosine[j], y = COMPLEX ? b[j] : 0;
        awake += (a[j] | y | u[j] | v[j]) != 0;
        const int32_t real = saturated(decayed(v[j], cos) - decayed(u[j], sin) + a[j] * 64);
        const int32_t imaginary = saturated(decayed(v[j], sin) + decayed(u[j], cos) + y * 64);
        const bool fired = KIND == RESONATE ? (real >= threshold) & (imaginary >= 0) & (u[j] < 0) : imaginary >= threshold;
        spikes[j] = fired;
        v[j] = KIND == IZHIKEVICH && fired ? 0 : real;
        u[j] = KIND == IZHIKEVICH && fired ? threshold - 1 : imaginary;
    }
    return awake;
}

// Stateless neurons that send values, at most own[0]. u is that of the step, for traces.
template <bool BIASED> int64_t step_graded(const Layer& layer, State state) {
    const int32_t *__restrict__ a = state.inputs[0], *__restrict__ biases = layer.bias;
    int32_t* __restrict__ u = state.u;
    int32_t* __restrict__ values = static_cast<int32_t*>(state.sent);
    const int32_t threshold = layer.shared[THRESHOLD], limit = layer.shared[OWN];
    int32_t awake = 0;
#pragma omp simd reduction(+ : awake)
    for (int64_t j = 0; j < layer.neurons; j++) {
        const int32_t bias = BIASED ? biases[j] : 0;
        awake += (a[j] | bias) != 0;
        const int32_t now = current<false>(a[j], 0, 0), v = saturated(now + bias);
        u[j] = now;
        const int32_t value = (v >> 6) < limit ? v >> 6 : limit;
        values[j] = v > threshold && value > 0 ? value : 0;
    }
    return awake;
}

// Neurons that send changes of v, or v itself where they are a read-out. keep_u: −1 where u is the sum of all
// input, 0 where it is that of the step. own: the smallest sum that is not 0 in v; the largest v; bits that v is
// rounded by; bits that a change is shifted by, to the right.
template <bool SPIKING, bool CUMULATIVE, bool EACH> int64_t step_change(const Layer& layer, State state) {
    const int32_t *__restrict__ a = state.inputs[0], *__restrict__ biases = layer.bias;
    int32_t *__restrict__ u = state.u, *__restrict__ v = state.v, *__restrict__ rest = state.more;
    int32_t* __restrict__ errors = rest + layer.neurons;
    int32_t* __restrict__ sent = static_cast<int32_t*>(state.sent);
    const Number<EACH> keep_u(layer, KEEP_U), thresholds(layer, THRESHOLD);
    const int32_t lowest = layer.shared[OWN], most = layer.shared[OWN + 1], rounded = layer.shared[OWN + 2], shift = layer.shared[OWN + 3];
    const int32_t half = rounded ? 1 << (rounded - 1) : 0, least = rounded ? 0 : INT32_MIN;
    const int32_t left = shift < 0 ? -shift : 0, right = shift > 0 ? shift : 0;
    int32_t awake = 0;
#pragma omp simd reduction(+ : awake)
    for (int64_t j = 0; j < layer.neurons; j++) {
        awake += (a[j] | biases[j] | u[j] | v[j] | rest[j] | (CUMULATIVE ? errors[j] : 0)) != 0;
        u[j] = (u[j] & keep_u[j]) + a[j];
        const int32_t sum = u[j] + biases[j], level = (sum + half) >> rounded;
        const int32_t f = level > most ? most : level < least ? least : level, y = !SPIKING ? sum : sum < lowest ? 0 : f;
        int32_t change = y;
        if (SPIKING) {
            const int32_t d = y - v[j] + rest[j], error = CUMULATIVE ? d + errors[j] : d;
            const int32_t sign = error >> 31, size = (error ^ sign) - sign;
            change = size >= thresholds[j] ? d : 0;
            rest[j] = d - change;
            if (CUMULATIVE) errors[j] = change ? 0 : error;
        }
        v[j] = y;
        sent[j] = SPIKING ? (change << left) >> right : change;
    }
    return awake;
}

using Step = int64_t (*)(const Layer&, State);

template <bool SPIKING, Reset RESET> Step choose_lif(const Layer& layer) {
    if (layer.each[KEEP_U]) return step<true, true, SPIKING, RESET, true>;
    return layer.bias ? (layer.shared[KEEP_U] ? step<true, true, SPIKING, RESET> : step<false, true, SPIKING, RESET>)
                      : (layer.shared[KEEP_U] ? step<true, false, SPIKING, RESET> : step<false, false, SPIKING, RESET>);
}

template <Kind KIND> Step choose_further(const Layer& layer) {
    if (layer.each[KEEP_U]) return step_further<KIND, true, true, true>;
    return layer.bias ? (layer.shared[KEEP_U] ? step_further<KIND, true, true> : step_further<KIND, false, true>)
                      : (layer.shared[KEEP_U] ? step_further<KIND, true, false> : step_further<KIND, false, false>);
}

template <Kind KIND> Step choose_resonator(const Layer& layer) {
    if (layer.each[KEEP_U]) return layer.parts > 1 ? step_resonator<KIND, true, true> : step_resonator<KIND, false, true>;
    return layer.parts > 1 ? step_resonator<KIND, true, false> : step_resonator<KIND, false, false>;
}

template <bool EACH> Step choose_change(const Layer& layer) {
    if (!layer.spiking) return step_change<false, false, EACH>;
    return layer.late ? step_change<true, true, EACH> : step_change<true, false, EACH>;
}

Step choose_step(const Layer& layer) {
    switch (layer.kind) {
        case REFRACTORY: return choose_further<REFRACTORY>(layer);
        case ADAPTIVE: return choose_further<ADAPTIVE>(layer);
        case TERNARY: return choose_further<TERNARY>(layer);
        case RESONATE: return choose_resonator<RESONATE>(layer);
        case IZHIKEVICH: return choose_resonator<IZHIKEVICH>(layer);
        case GRADED: return layer.bias ? step_graded<true> : step_graded<false>;
        case COUNT: return choose_lif<true, SUBTRACT_EACH>(layer);
        case CHANGE: return layer.each[KEEP_U] ? choose_change<true>(layer) : choose_change<false>(layer);
    }
    if (!layer.spiking) return choose_lif<false, TO_ZERO>(layer);
    if (layer.late) return layer.subtract ? choose_lif<true, LATE_SUBTRACT>(layer) : choose_lif<true, LATE_TO_ZERO>(layer);
    return layer.subtract ? choose_lif<true, SUBTRACT>(layer) : choose_lif<true, TO_ZERO>(layer);
}

// Writes numbers as messages. Returns true if one does not fit.
template <class Message> bool write(const int32_t* numbers, void* sent, int64_t n) {
    Message* __restrict__ to = static_cast<Message*>(sent);
    int32_t lost = 0;
#pragma omp simd reduction(| : lost)
    for (int64_t j = 0; j < n; j++) {
        const Message message = Message(numbers[j]);
        to[j] = message;
        lost |= numbers[j] ^ message;
    }
    return lost != 0;
}

bool write(Type type, const int32_t* numbers, void* sent, int64_t n) {
    return type == UINT8 ? write<uint8_t>(numbers, sent, n) : type == INT8 ? write<int8_t>(numbers, sent, n) : write<int16_t>(numbers, sent, n);
}

int64_t bytes(int32_t type) { return type == INT32 ? 4 : type == INT16 ? 2 : 1; }

template <int BYTES> struct Unsigned { using type = uint8_t; };
template <> struct Unsigned<2> { using type = uint16_t; };
template <> struct Unsigned<4> { using type = uint32_t; };

// counts[neurons] += the number of messages that are not 0, and ones those of 1 or −1.
template <bool NUMBERS, class Message> void count_messages(const void* given, const int64_t* size, int64_t* counts, int64_t* ones) {
    // Sums are as wide as messages, so that vectors need no conversion: 255 rows fit a byte.
    using Sum = typename Unsigned<sizeof(Message)>::type;
    enum { TILE = 256, MOST = 255 };
    const Message* sent = static_cast<const Message*>(given);
    const int64_t step = size[0], sample = size[1], steps = size[2], samples = size[3], neurons = size[4];
    for (int64_t first = 0; first < neurons; first += TILE) {
        const int width = neurons - first < TILE ? int(neurons - first) : TILE;
        for (int64_t b = 0; b < samples; b++)
            for (int64_t top = 0; top < steps; top += MOST) {
                Sum sums[TILE] = {}, units[TILE] = {};
                const int64_t bottom = top + MOST < steps ? top + MOST : steps;
                for (int64_t t = top; t < bottom; t++) {
                    const Message* __restrict__ line = sent + t * step + b * sample + first;
                    if (!NUMBERS) {
#pragma omp simd
                        for (int j = 0; j < width; j++) sums[j] += line[j];
                        continue;
                    }
#pragma omp simd
                    for (int j = 0; j < width; j++) sums[j] += line[j] != 0;
                    if (!ones) continue;
#pragma omp simd
                    for (int j = 0; j < width; j++) units[j] += line[j] == 1 || line[j] == -1;
                }
                for (int j = 0; j < width; j++) counts[first + j] += sums[j];
                for (int j = 0; ones && j < width; j++) ones[first + j] += units[j];
            }
    }
}

}  // namespace

extern "C" {

void run(Layer* given) {
    Layer& layer = *given;
    const int64_t n = layer.neurons, step_size = layer.samples * n;
    const Step one = choose_step(layer);
    const bool direct = layer.type == SPIKES || layer.type == INT32;
    int32_t* const parts[2] = {layer.inputs, layer.inputs + layer.piece * n + WIDEST};
    for (int64_t sample = 0; sample < layer.samples; sample++) {
        State state = {layer.u + sample * n, layer.v + sample * n, layer.more ? layer.more + 2 * sample * n : nullptr, {}, nullptr};
        for (int64_t begin = 0; begin < layer.steps && !layer.beyond; begin += layer.piece) {
            const int64_t end = begin + layer.piece < layer.steps ? begin + layer.piece : layer.steps;
            for (int part = 0; layer.connections && part < layer.parts; part++) memset(parts[part], 0, sizeof(int32_t) * (end - begin) * n);
            for (int c = 0; c < layer.connections; c++) {
                const Synapse& synapse = layer.synapses[c];
                find(layer, synapse, sample, begin, end);
                auto add = synapse.width == LANES ? connect<LANES> : synapse.width == 2 * LANES ? connect<2 * LANES> : connect<WIDEST>;
                add(layer, synapse, end - begin, parts[synapse.imaginary]);
            }
            for (int64_t t = begin; t < end; t++) {
                const int64_t offset = t * step_size + sample * n;
                for (int part = 0; part < layer.parts; part++) {
                    const int32_t* others = layer.currents ? layer.currents + ((t * layer.samples + sample) * layer.parts + part) * n : nullptr;
                    int32_t* sums = parts[part] + (t - begin) * n;
                    if (layer.connections && others)
                        for (int64_t j = 0; j < n; j++) sums[j] += others[j];
                    state.inputs[part] = layer.connections ? sums : others;
                }
                void* sent = static_cast<char*>(layer.sent) + (t * layer.sent_step + sample * layer.sent_sample) * bytes(layer.type);
                state.sent = direct ? sent : layer.numbers;
                layer.active += one(layer, state);
                if (!direct && write(Type(layer.type), layer.numbers, sent, n)) layer.beyond = 1;
                if (layer.trace_u) memcpy(layer.trace_u + offset, state.u, sizeof(int32_t) * n);
                if (layer.trace_v) memcpy(layer.trace_v + offset, state.v, sizeof(int32_t) * n);
            }
        }
    }
}

// size: messages from one step, or sample, to the next; steps, samples, neurons.
void count(const void* sent, int64_t type, const int64_t* size, int64_t* counts, int64_t* ones) {
    switch (type) {
        case SPIKES: return count_messages<false, uint8_t>(sent, size, counts, ones);
        case UINT8: return count_messages<true, uint8_t>(sent, size, counts, ones);
        case INT8: return count_messages<true, int8_t>(sent, size, counts, ones);
        case INT16: return count_messages<true, int16_t>(sent, size, counts, ones);
        default: return count_messages<true, int32_t>(sent, size, counts, ones);
    }
}
}
