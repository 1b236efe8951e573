// Loihi's neurons over many steps, bit for bit, with the products of spikes and 8-bit weights before
// them. Equations: ashneuro/program/program.py.
//
// A product with spikes is the sum of the weights of those lines that spiked: silent lines cost
// nothing. Sums are exact: a block of weights fits 16 bits, and blocks add up in 32 bits. Decays need
// no more than 32 bits either: |x|·keep >> 12 = (|x| >> 12)·keep + ((|x| & 4095)·keep >> 12).
//
// Samples run one after another, so that the state of their neurons stays in the first-level cache; each step
// function is written once, for one neuron and for the sixteen that a register of AVX-512 holds.
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
#if defined(__AVX512BW__) && defined(__AVX512VL__)
#define SIXTEEN
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
    int32_t width;      // outputs in a chunk: NARROW, 2 · NARROW or WIDEST
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
    int32_t type;      // of what a neuron sends, a Type: see choose_step for those of each kind
    int32_t subtract;  // from v at a spike; 0: a spike sets v to 0
    int32_t shared[7];         // keep_u, keep_v, threshold, own[4]: see the step functions
    const int32_t* each[7];    // [neurons] each, in place of the shared ones; or null
    const Synapse* synapses;
    const int32_t* currents;   // [steps][samples][parts][neurons], other input; or null
    const int32_t* bias;       // [neurons]; or null, unless parameters differ between neurons
    int32_t* more;             // [2][neurons]: further state, as u and v; or null
    int32_t *u, *v;            // [neurons]: state of one sample
    void* sent;                // [steps][samples][neurons]: messages, or v of a read-out
    int64_t sent_step, sent_sample;  // messages from one step, or sample, to the next
    int32_t *trace_u, *trace_v;  // [steps][samples][neurons]; or null
    int64_t *counts, *ones;      // [neurons]: of messages, and of those of 1 or −1, added to; or null
    int64_t active;              // neuron-steps, added to
    int64_t beyond;              // not 0 if the type does not hold a change: then what was sent is wrong
    int64_t piece;               // number of steps at once, for which the buffers below suffice
    int32_t* inputs;             // [parts][piece · neurons + WIDEST]
    int32_t *lines, *values;     // [piece · most input lines + COPIED]
    int32_t *first, *reach;      // [piece · most positions · groups + 1]
    int32_t *gathered, *loads;   // [ROWS · most taps · channels + COPIED]
};
}

namespace {

constexpr int32_t STATE = 1 << 23;
// Bytes of a vector: of AVX-512, or of AVX2, and elsewhere of two registers.
#ifdef __AVX512BW__
#define REGISTER 64
#else
#define REGISTER 32
#endif
constexpr int LANES = REGISTER / 2, WIDES = REGISTER / 4;  // numbers of 16 and of 32 bits in one
constexpr int NARROW = 32, WIDEST = 96;                    // WIDEST sums stay in registers
constexpr int ROWS = 64;                // positions in a row that use the same weights, which stay in cache
constexpr int COPIED = 16;              // lines copied at once
constexpr int FEWEST = 8;               // multiples of weights in 16 bits that are worth widening

// Of messages: spikes, which are 0 or 1, or numbers.
enum Type { SPIKES, UINT8, INT8, INT16, INT32 };

typedef int16_t Vector __attribute__((vector_size(REGISTER), aligned(2), may_alias));
typedef int32_t Lines __attribute__((vector_size(REGISTER), aligned(4), may_alias));
typedef int32_t Wide __attribute__((vector_size(REGISTER)));
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

// 0, 1, 2 …
const struct Numbered {
    uint8_t of[64];
    Numbered() {
        for (int n = 0; n < 64; n++) of[n] = uint8_t(n);
    }
} NUMBERED;

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
#ifdef __AVX512VBMI2__
    // As many messages as a register holds, most of which are 0.
    constexpr int BLOCK = 64 / sizeof(Message);
    const __m512i bytes = _mm512_loadu_si512(NUMBERED.of);
    for (; BLOCK > 16 && line + BLOCK <= channels; line += BLOCK) {
        const __m512i messages = _mm512_loadu_si512(row + line);
        const uint64_t sent = BLOCK == 64 ? _mm512_test_epi8_mask(messages, messages) : _mm512_test_epi16_mask(messages, messages);
        uint8_t places[64];
        Message found[BLOCK];
        _mm512_storeu_si512(places, _mm512_maskz_compress_epi8(sent, bytes));
        if (NUMBERS)
            _mm512_storeu_si512(found, BLOCK == 64 ? _mm512_maskz_compress_epi8(sent, messages)
                                                   : _mm512_maskz_compress_epi16(__mmask32(sent), messages));
        const int count = __builtin_popcountll(sent);
        for (int k = 0; k < count; k += 16) {
            _mm512_storeu_si512(to + k, _mm512_add_epi32(sixteen(places + k), _mm512_set1_epi32(int32_t(line))));
            if (!NUMBERS) continue;
            const __m512i value = sixteen(found + k);
            _mm512_storeu_si512(values + (to - lines) + k, value);
            most = _mm512_max_epu32(most, _mm512_abs_epi32(value));
        }
        to += count;
    }
    numbers = _mm512_add_epi32(numbers, _mm512_set1_epi32(int32_t(line)));
#endif
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
            for (int32_t k = 0; k < n; k += WIDES)
                *reinterpret_cast<Lines*>(to + k) = *reinterpret_cast<const Lines*>(from + k) + weights;
            if (numbers)
                for (int32_t k = 0; k < n; k += WIDES)
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
#if REGISTER == 64
    return last ? SHUFFLED(a, b, 4, 36, 5, 37, 6, 38, 7, 39, 12, 44, 13, 45, 14, 46, 15, 47, 20, 52, 21, 53, 22, 54, 23, 55,
                           28, 60, 29, 61, 30, 62, 31, 63)
                : SHUFFLED(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 8, 40, 9, 41, 10, 42, 11, 43, 16, 48, 17, 49, 18, 50, 19, 51,
                           24, 56, 25, 57, 26, 58, 27, 59);
#else
    return last ? SHUFFLED(a, b, 4, 20, 5, 21, 6, 22, 7, 23, 12, 28, 13, 29, 14, 30, 15, 31)
                : SHUFFLED(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9, 25, 10, 26, 11, 27);
#endif
}

// Adds the sums of two products of 16-bit numbers each.
inline Wide added(Wide sums, Vector pairs, Wide values) {
#if defined(__AVX512VNNI__)
    return Wide(_mm512_dpwssd_epi32(__m512i(sums), __m512i(pairs), __m512i(values)));
#elif defined(__AVX512BW__)
    return sums + Wide(_mm512_madd_epi16(__m512i(pairs), __m512i(values)));
#elif defined(__AVX2__)
    return sums + Wide(_mm256_madd_epi16(__m256i(pairs), __m256i(values)));
#else
    const Wide both = Wide(pairs);
    return sums + ((both << 16) >> 16) * ((values << 16) >> 16) + (both >> 16) * (values >> 16);
#endif
}

// Adds lines times values of 16 bits, shifted to the left. The sums come in the order of the outputs.
template <int WIDTH> inline void add_products(const int16_t* weights, Events events, int32_t* into, int shift) {
    Wide sums[WIDTH / WIDES] = {};
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
    for (int j = 0; j < WIDTH / WIDES; j++) *reinterpret_cast<Lines*>(into + WIDES * j) += sums[j] << shift;
}

// Adds lines times small values, in 16 bits.
template <int WIDTH> inline void add_multiples(const int16_t* weights, Events events, int32_t* into) {
    Wide whole[WIDTH / WIDES] = {};
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
    for (int j = 0; j < WIDTH / WIDES; j++) *reinterpret_cast<Lines*>(into + WIDES * j) += whole[j];
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
template <int WIDTH, bool FIRST> inline void add_weights(const Synapse& synapse, const int16_t* weights, Events events, int32_t* __restrict__ inputs) {
    // The exponent applies to the whole sum, not to blocks: a right shift rounds.
    const int32_t left = 1 << (synapse.exponent > 0 ? synapse.exponent : 0), right = synapse.exponent < 0 ? -synapse.exponent : 0;
    const int32_t n = events.count;
    if (synapse.type != SPIKES) {
        int32_t whole[WIDTH] = {};
        add_values<WIDTH>(weights, events, whole);
        for (int j = 0; j < WIDTH; j++) inputs[j] = (FIRST ? 0 : inputs[j]) + ((whole[j] * left) >> right);
        return;
    }
    int16_t sums[WIDTH];
    if (n <= synapse.block) {
        add_lines<WIDTH>(weights, events.lines, n, sums);
        if (synapse.exponent == 0)
            for (int j = 0; j < WIDTH; j++) inputs[j] = (FIRST ? 0 : inputs[j]) + sums[j];
        else
            for (int j = 0; j < WIDTH; j++) inputs[j] = (FIRST ? 0 : inputs[j]) + ((sums[j] * left) >> right);
        return;
    }
    int32_t whole[WIDTH] = {};
    for (int32_t begin = 0; begin < n; begin += synapse.block) {
        add_lines<WIDTH>(weights, events.lines + begin, n - begin < synapse.block ? n - begin : synapse.block, sums);
        for (int j = 0; j < WIDTH; j++) whole[j] += sums[j];
    }
    for (int j = 0; j < WIDTH; j++) inputs[j] = (FIRST ? 0 : inputs[j]) + ((whole[j] * left) >> right);
}

// Adds the sums of one synapse, for one sample and a piece of the steps. first: they replace what was there.
template <int WIDTH> void connect(const Layer& layer, const Synapse& synapse, int64_t steps, int32_t* inputs, bool first) {
    const int64_t rows = steps * synapse.out_positions, all = synapse.groups * synapse.outputs;
    for (int64_t begin = 0; begin < rows; begin += ROWS) {
        const int64_t count = rows - begin < ROWS ? rows - begin : ROWS;
        const int16_t* weights = synapse.weights;
        for (int64_t group = 0; group < synapse.groups; group++) {
            Events events[ROWS];
            gather(layer, synapse, group, begin, count, events);
            for (int64_t output = 0; output < synapse.outputs; output += WIDTH, weights += synapse.taps * synapse.channels * WIDTH)
                for (int64_t n = 0; n < count; n++) {
                    int32_t* const to = inputs + (begin + n) * all + group * synapse.outputs + output;
                    if (first) add_weights<WIDTH, true>(synapse, weights, events[n], to);
                    else if (events[n].count) add_weights<WIDTH, false>(synapse, weights, events[n], to);
                }
        }
    }
}

// Neurons are computed sixteen at once where the processor can, or one by one; a function of V does both.
template <class V> inline V load(const int32_t* from) {
    V values;
    memcpy(&values, from, sizeof values);
    return values;
}
template <class V> inline void store(int32_t* to, V values) { memcpy(to, &values, sizeof values); }

// Conditions: bool, or a bit of each neuron.
inline bool above(int32_t a, int32_t b) { return a > b; }
inline bool at_least(int32_t a, int32_t b) { return a >= b; }
inline bool both(bool a, bool b) { return a & b; }
inline bool nonzero(int32_t x) { return x != 0; }
inline int32_t either(bool condition, int32_t a, int32_t b) { return condition ? a : b; }
inline int32_t number(bool condition) { return condition; }
inline int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }
inline int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }
inline int32_t shifted_left(int32_t x, int32_t bits) { return x << bits; }
inline int32_t shifted_right(int32_t x, int32_t bits) { return x >> bits; }
inline int32_t quotient(int32_t x, float reciprocal) { return int32_t(float(x) * reciprocal); }
inline void send(uint8_t* to, bool condition) { *to = condition; }
template <class Message> inline void send(Message* to, int32_t x) { *to = Message(x); }

// x · keep / 4096, rounded toward zero: a negative product is raised by 4095 before it is rounded down. Those are
// the upper 12 bits of x >> 12.
inline int32_t decayed(int32_t x, int32_t keep) {
    const int32_t high = x >> 12;
    return high * keep + (((x & 4095) * keep + int32_t(uint32_t(high) >> 20)) >> 12);
}
inline int32_t state_decayed(int32_t x, int32_t keep) { return decayed(x, keep); }

#ifdef SIXTEEN
inline __mmask16 above(Wide a, Wide b) { return _mm512_cmpgt_epi32_mask(__m512i(a), __m512i(b)); }
inline __mmask16 at_least(Wide a, Wide b) { return _mm512_cmpge_epi32_mask(__m512i(a), __m512i(b)); }
inline __mmask16 both(__mmask16 a, __mmask16 b) { return a & b; }
inline __mmask16 nonzero(Wide x) { return _mm512_test_epi32_mask(__m512i(x), __m512i(x)); }
inline Wide either(__mmask16 condition, Wide a, Wide b) { return Wide(_mm512_mask_mov_epi32(__m512i(b), condition, __m512i(a))); }
inline int32_t number(__mmask16 condition) { return __builtin_popcount(condition); }
inline Wide smaller(Wide a, Wide b) { return Wide(_mm512_min_epi32(__m512i(a), __m512i(b))); }
inline Wide larger(Wide a, Wide b) { return Wide(_mm512_max_epi32(__m512i(a), __m512i(b))); }
inline Wide shifted_left(Wide x, Wide bits) { return Wide(_mm512_sllv_epi32(__m512i(x), __m512i(bits))); }
inline Wide shifted_right(Wide x, Wide bits) { return Wide(_mm512_srav_epi32(__m512i(x), __m512i(bits))); }
inline Wide quotient(Wide x, float reciprocal) {
    return Wide(_mm512_cvttps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(__m512i(x)), _mm512_set1_ps(reciprocal))));
}
inline void send(uint8_t* to, __mmask16 condition) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_maskz_set1_epi8(condition, 1));
}
template <class Message> inline void send(Message* to, Wide x) {
    if (sizeof(Message) == 1) _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(__m512i(x)));
    else if (sizeof(Message) == 2) _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(__m512i(x)));
    else memcpy(to, &x, sizeof x);
}
inline Wide decayed(Wide x, Wide keep) {
    const Wide high = x >> 12;
    return high * keep + (((x & 4095) * keep + Wide(_mm512_srli_epi32(__m512i(high), 20))) >> 12);
}
// Of x within 24 bits: both factors fit 16 bits, and such products take half the time.
inline Wide state_decayed(Wide x, Wide keep) {
    const Wide high = x >> 12, factor = keep & 0xffff;
    const Wide low = added(Wide(_mm512_srli_epi32(__m512i(high), 20)), Vector(x & 4095), factor) >> 12;
    return added(low, Vector(high), factor);
}
#endif

// Runs body(V, first neuron, V& beyond) for all neurons. Returns the number of those for which it is true.
template <class Body> inline int64_t each_neuron(Layer& layer, Body body) {
    const int64_t neurons = layer.neurons;
    int32_t count = 0, beyond = 0;
    int64_t first = 0;
#ifdef SIXTEEN
    Wide wide = {};
    for (; first + 16 <= neurons; first += 16) count += number(body(Wide{}, first, wide));
    layer.beyond |= _mm512_reduce_or_epi32(__m512i(wide));
#endif
#pragma omp simd reduction(+ : count) reduction(| : beyond)
    for (int64_t j = first; j < neurons; j++) count += number(body(int32_t{}, j, beyond));
    layer.beyond |= beyond;
    return count;
}

template <class V> inline V saturated(V v) { return smaller(larger(v, V{} + (1 - STATE)), V{} + (STATE - 1)); }

template <bool MEMORY, class V> inline V current(V a, V u, V keep) {
    const V now = MEMORY ? a * 64 + state_decayed(u, keep) : a * 64;
    return ((now + (STATE - 1)) & (2 * STATE - 1)) - (STATE - 1);
}

// As in ashneuro/spiking/dynamics.py and message.py, which have the equations.
enum Kind { LIF, REFRACTORY, ADAPTIVE, RESONATE, IZHIKEVICH, TERNARY, GRADED, COUNT, CHANGE };
enum Reset { TO_ZERO, SUBTRACT, LATE_TO_ZERO, LATE_SUBTRACT };
enum Parameter { KEEP_U, KEEP_V, THRESHOLD, OWN };  // and its own

// One step of a sample: the state of its neurons, and where what they send goes to.
struct State {
    int32_t *u, *v, *more;
    const int32_t* inputs[2];  // the second of the imaginary part, if there is one
    void* sent;  // spikes, or messages of the layer's type
};

// A parameter that all neurons share, or one of each.
template <bool EACH> struct Number {
    const int32_t shared, *each;
    Number(const Layer& layer, int n) : shared(layer.shared[n]), each(layer.each[n]) {}
    template <class V> V of(V, int64_t j) const { return EACH ? load<V>(each + j) : V{} + shared; }
};

// LIF: a threshold is the largest v that does not spike.
template <bool MEMORY, bool BIASED, bool SPIKING, Reset RESET, bool EACH = false> int64_t step(Layer& layer, const State& state) {
    constexpr bool LATE = RESET == LATE_TO_ZERO || RESET == LATE_SUBTRACT, SUBTRACTS = RESET == SUBTRACT || RESET == LATE_SUBTRACT;
    const int32_t *const inputs = state.inputs[0], *const biases = layer.bias;
    int32_t *const us = state.u, *const vs = state.v, *const potentials = static_cast<int32_t*>(state.sent);
    uint8_t* const spikes = static_cast<uint8_t*>(state.sent);
    const Number<EACH> keep_u(layer, KEEP_U), keep_v(layer, KEEP_V);
    const int32_t all = layer.shared[THRESHOLD], subtract = layer.subtract;
    return each_neuron(layer, [&](auto one, int64_t j, auto&) {
        using V = decltype(one);
        const V a = load<V>(inputs + j), u = load<V>(us + j), v = load<V>(vs + j), bias = BIASED ? load<V>(biases + j) : V{};
        const V threshold = V{} + all, now = current<MEMORY>(a, u, keep_u.of(one, j));
        store(us + j, now);
        V next = saturated(state_decayed(v, keep_v.of(one, j)) + now + bias);
        if (LATE) next = either(above(v, threshold), SUBTRACTS ? next - subtract : V{}, next);  // spiked in the last step
        const auto fired = above(next, threshold);
        if (SPIKING) send(spikes + j, fired);
        else store(potentials + j, next);
        store(vs + j, SPIKING && !LATE ? either(fired, SUBTRACTS ? next - subtract : V{}, next) : next);
        return nonzero(a | bias | u | v);
    });
}

// LIF that sends the number of times that v crosses the threshold, at most own[0].
template <bool MEMORY, bool BIASED, class Message, bool EACH = false> int64_t step_count(Layer& layer, const State& state) {
    const int32_t *const inputs = state.inputs[0], *const biases = layer.bias;
    int32_t *const us = state.u, *const vs = state.v;
    Message* const counts = static_cast<Message*>(state.sent);
    const Number<EACH> keep_u(layer, KEEP_U), keep_v(layer, KEEP_V);
    const int32_t threshold = layer.shared[THRESHOLD], subtract = layer.subtract, most = layer.shared[OWN];
    // The number is what lies above the threshold, over `subtract`, rounded up. Whole numbers of 24 bits are exact as
    // floats, and the reciprocal is made smaller than it is by more than products round: a quotient up to 2^15 is that
    // rounded down, or one less; of larger ones `most` is taken anyway.
    const float reciprocal = 1 / float(subtract) * (1 - 1.0f / (1 << 22));
    return each_neuron(layer, [&](auto one, int64_t j, auto&) {
        using V = decltype(one);
        const V a = load<V>(inputs + j), u = load<V>(us + j), v = load<V>(vs + j), bias = BIASED ? load<V>(biases + j) : V{};
        const V now = current<MEMORY>(a, u, keep_u.of(one, j));
        store(us + j, now);
        const V next = saturated(state_decayed(v, keep_v.of(one, j)) + now + bias);
        const V over = larger(next - threshold, V{}), near = smaller(quotient(over, reciprocal), V{} + most);
        const V rest = over - near * subtract, up = either(above(rest, V{}), near + 1, near);
        const V n = smaller(either(above(rest, V{} + subtract), near + 2, up), V{} + most);
        send(counts + j, n);
        store(vs + j, next - n * subtract);
        return nonzero(a | bias | u | v);
    });
}

// Neurons with further state that integrate u and v as LIF does. own: steps of refractory neurons; factors of
// θ − θ_0 and r, and threshold_step of adaptive ones; threshold_below of ternary ones.
template <Kind KIND, bool MEMORY, bool BIASED, bool EACH = false> int64_t step_further(Layer& layer, const State& state) {
    const int32_t *const inputs = state.inputs[0], *const biases = layer.bias;
    int32_t *const us = state.u, *const vs = state.v, *const more = state.more, *const again = more + layer.neurons;
    uint8_t* const spikes = static_cast<uint8_t*>(state.sent);
    int8_t* const numbers = static_cast<int8_t*>(state.sent);
    const Number<EACH> keep_u(layer, KEEP_U), keep_v(layer, KEEP_V), thresholds(layer, THRESHOLD);
    const Number<EACH> first(layer, OWN), second(layer, OWN + 1), third(layer, OWN + 2);
    return each_neuron(layer, [&](auto one, int64_t j, auto&) {
        using V = decltype(one);
        const V a = load<V>(inputs + j), u = load<V>(us + j), v = load<V>(vs + j), bias = BIASED ? load<V>(biases + j) : V{};
        const V threshold = thresholds.of(one, j), none = V{}, now = current<MEMORY>(a, u, keep_u.of(one, j));
        V awake = a | bias | u | v;
        store(us + j, now);
        const V next = saturated(state_decayed(v, keep_v.of(one, j)) + now + bias);
        if (KIND == TERNARY) {
            const auto over = above(next, threshold), below = above(none - first.of(one, j), next);
            send(numbers + j, either(over, none + 1, either(below, none - 1, none)));
            store(vs + j, either(over, none, either(below, none, next)));
        } else if (KIND == REFRACTORY) {
            const V held = load<V>(more + j), kept = either(above(held, none), v, next);
            const auto fired = above(kept, threshold);
            awake |= held;
            send(spikes + j, fired);
            store(vs + j, either(fired, none, kept));
            store(more + j, either(fired, first.of(one, j), either(above(held, none), held - 1, held)));
        } else {
            const V raised = load<V>(more + j) - threshold, after = load<V>(again + j);
            const V theta = decayed(raised, first.of(one, j)) + threshold, r = decayed(after, second.of(one, j));
            const auto fired = at_least(next - r, theta);
            awake |= raised | after;
            send(spikes + j, fired);
            store(vs + j, next);
            store(more + j, either(fired, theta + third.of(one, j), theta));
            store(again + j, either(fired, r + 2 * theta, r));
        }
        return nonzero(awake);
    });
}

// Resonators: u is the imaginary part, own: sin, cos. There is no bias.
template <Kind KIND, bool COMPLEX, bool EACH> int64_t step_resonator(Layer& layer, const State& state) {
    const int32_t *const reals = state.inputs[0], *const imaginaries = state.inputs[1];
    int32_t *const us = state.u, *const vs = state.v;
    uint8_t* const spikes = static_cast<uint8_t*>(state.sent);
    const Number<EACH> thresholds(layer, THRESHOLD), sine(layer, OWN), cosine(layer, OWN + 1);
    return each_neuron(layer, [&](auto one, int64_t j, auto&) {
        using V = decltype(one);
        const V a = load<V>(reals + j), b = COMPLEX ? load<V>(imaginaries + j) : V{}, u = load<V>(us + j), v = load<V>(vs + j);
        const V threshold = thresholds.of(one, j), sin = sine.of(one, j), cos = cosine.of(one, j), none = V{};
        const V real = saturated(state_decayed(v, cos) - state_decayed(u, sin) + a * 64);
        const V imaginary = saturated(state_decayed(v, sin) + state_decayed(u, cos) + b * 64);
        const auto high = at_least(KIND == RESONATE ? real : imaginary, threshold);
        const auto fired = KIND == RESONATE ? both(high, both(at_least(imaginary, none), above(none, u))) : high;
        send(spikes + j, fired);
        store(vs + j, KIND == IZHIKEVICH ? either(fired, none, real) : real);
        store(us + j, KIND == IZHIKEVICH ? either(fired, threshold - 1, imaginary) : imaginary);
        return nonzero(a | b | u | v);
    });
}

// Stateless neurons that send values, at most own[0]. u is that of the step, for traces.
template <bool BIASED, class Message> int64_t step_graded(Layer& layer, const State& state) {
    const int32_t *const inputs = state.inputs[0], *const biases = layer.bias;
    int32_t* const us = state.u;
    Message* const values = static_cast<Message*>(state.sent);
    const int32_t threshold = layer.shared[THRESHOLD], limit = layer.shared[OWN];
    return each_neuron(layer, [&](auto one, int64_t j, auto&) {
        using V = decltype(one);
        const V a = load<V>(inputs + j), bias = BIASED ? load<V>(biases + j) : V{}, now = current<false>(a, a, a);
        const V v = saturated(now + bias), value = larger(smaller(v >> 6, V{} + limit), V{});
        store(us + j, now);
        send(values + j, either(above(v, V{} + threshold), value, V{}));
        return nonzero(a | bias);
    });
}

// Neurons that send changes of v, or v itself where they are a read-out. keep_u: −1 where u is the sum of all
// input, 0 where it is that of the step. own: the smallest sum that is not 0 in v; the largest v; bits that v is
// rounded by; bits that a change is shifted by, to the right.
template <bool SPIKING, bool CUMULATIVE, class Message, bool EACH> int64_t step_change(Layer& layer, const State& state) {
    const int32_t *const inputs = state.inputs[0], *const biases = layer.bias;
    int32_t *const us = state.u, *const vs = state.v, *const rests = state.more, *const errors = rests + layer.neurons;
    Message* const sent = static_cast<Message*>(state.sent);
    const Number<EACH> keep_u(layer, KEEP_U), thresholds(layer, THRESHOLD);
    const int32_t lowest = layer.shared[OWN], most = layer.shared[OWN + 1], rounded = layer.shared[OWN + 2], shift = layer.shared[OWN + 3];
    const int32_t half = rounded ? 1 << (rounded - 1) : 0, least = rounded ? 0 : INT32_MIN;
    const int32_t left = shift < 0 ? -shift : 0, right = shift > 0 ? shift : 0;
    return each_neuron(layer, [&](auto one, int64_t j, auto& beyond) {
        using V = decltype(one);
        const V a = load<V>(inputs + j), bias = load<V>(biases + j), before = load<V>(us + j), v = load<V>(vs + j), none = V{};
        const V u = (before & keep_u.of(one, j)) + a, sum = u + bias;
        store(us + j, u);
        if (!SPIKING) {
            store(vs + j, sum);
            send(sent + j, sum);
            return nonzero(a | bias | before | v);
        }
        const V rest = load<V>(rests + j), error = CUMULATIVE ? load<V>(errors + j) : none;
        const V level = smaller(larger(shifted_right(sum + half, none + rounded), none + least), none + most);
        const V y = either(above(none + lowest, sum), none, level), d = y - v + rest, whole = CUMULATIVE ? d + error : d;
        const V sign = whole >> 31, size = (whole ^ sign) - sign;
        const auto kept = above(thresholds.of(one, j), size);
        const V change = either(kept, none, d), message = shifted_right(shifted_left(change, none + left), none + right);
        store(rests + j, d - change);
        if (CUMULATIVE) store(errors + j, either(nonzero(change), none, whole));
        store(vs + j, y);
        send(sent + j, message);
        if (sizeof(Message) == 2) beyond |= ((message << 16) >> 16) ^ message;
        return nonzero(a | bias | before | v | rest | error);
    });
}

using Step = int64_t (*)(Layer&, const State&);

template <bool SPIKING, Reset RESET> Step choose_lif(const Layer& layer) {
    if (layer.each[KEEP_U]) return step<true, true, SPIKING, RESET, true>;
    return layer.bias ? (layer.shared[KEEP_U] ? step<true, true, SPIKING, RESET> : step<false, true, SPIKING, RESET>)
                      : (layer.shared[KEEP_U] ? step<true, false, SPIKING, RESET> : step<false, false, SPIKING, RESET>);
}

template <class Message> Step choose_count(const Layer& layer) {
    if (layer.each[KEEP_U]) return step_count<true, true, Message, true>;
    return layer.bias ? (layer.shared[KEEP_U] ? step_count<true, true, Message> : step_count<false, true, Message>)
                      : (layer.shared[KEEP_U] ? step_count<true, false, Message> : step_count<false, false, Message>);
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

template <class Message> Step choose_graded(const Layer& layer) {
    return layer.bias ? step_graded<true, Message> : step_graded<false, Message>;
}

template <class Message> Step choose_change(const Layer& layer) {
    if (layer.late) return layer.each[KEEP_U] ? step_change<true, true, Message, true> : step_change<true, true, Message, false>;
    return layer.each[KEEP_U] ? step_change<true, false, Message, true> : step_change<true, false, Message, false>;
}

Step choose_step(const Layer& layer) {
    switch (layer.kind) {
        case REFRACTORY: return choose_further<REFRACTORY>(layer);
        case ADAPTIVE: return choose_further<ADAPTIVE>(layer);
        case TERNARY: return choose_further<TERNARY>(layer);
        case RESONATE: return choose_resonator<RESONATE>(layer);
        case IZHIKEVICH: return choose_resonator<IZHIKEVICH>(layer);
        case GRADED: return layer.type == UINT8 ? choose_graded<uint8_t>(layer) : choose_graded<int16_t>(layer);
        case COUNT: return layer.type == UINT8 ? choose_count<uint8_t>(layer) : choose_count<int16_t>(layer);
        case CHANGE:
            if (layer.spiking) return layer.type == INT16 ? choose_change<int16_t>(layer) : choose_change<int32_t>(layer);
            return layer.each[KEEP_U] ? step_change<false, false, int32_t, true> : step_change<false, false, int32_t, false>;
    }
    if (!layer.spiking) return choose_lif<false, TO_ZERO>(layer);
    if (layer.late) return layer.subtract ? choose_lif<true, LATE_SUBTRACT>(layer) : choose_lif<true, LATE_TO_ZERO>(layer);
    return layer.subtract ? choose_lif<true, SUBTRACT>(layer) : choose_lif<true, TO_ZERO>(layer);
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

// size: messages from one step, or sample, to the next; steps, samples, neurons.
void count_all(const void* sent, int64_t type, const int64_t* size, int64_t* counts, int64_t* ones) {
    switch (type) {
        case SPIKES: return count_messages<false, uint8_t>(sent, size, counts, ones);
        case UINT8: return count_messages<true, uint8_t>(sent, size, counts, ones);
        case INT8: return count_messages<true, int8_t>(sent, size, counts, ones);
        case INT16: return count_messages<true, int16_t>(sent, size, counts, ones);
        default: return count_messages<true, int32_t>(sent, size, counts, ones);
    }
}

// Neurons at rest.
void reset(const Layer& layer) {
    const int64_t n = layer.neurons;
    memset(layer.u, 0, sizeof(int32_t) * n);
    memset(layer.v, 0, sizeof(int32_t) * n);
    if (!layer.more) return;
    memset(layer.more, 0, sizeof(int32_t) * 2 * n);
    for (int64_t j = 0; layer.kind == ADAPTIVE && j < n; j++) layer.more[j] = layer.each[THRESHOLD] ? layer.each[THRESHOLD][j] : layer.shared[THRESHOLD];
}

// Adds up what arrives in steps `begin` to `end` of a sample: parts[…][steps][neurons].
void arrive(const Layer& layer, int64_t sample, int64_t begin, int64_t end, int32_t* const* parts) {
    bool filled[2] = {false, false};
    const int64_t steps = end - begin;
    for (int c = 0; c < layer.connections; c++) {
        const Synapse& synapse = layer.synapses[c];
        const int part = synapse.imaginary;
        // Chunks without padding cover all neurons, so that the first ones replace what was there.
        const bool first = !filled[part] && synapse.outputs % synapse.width == 0;
        if (!filled[part] && !first) memset(parts[part], 0, sizeof(int32_t) * steps * layer.neurons);
        filled[part] = true;
        find(layer, synapse, sample, begin, end);
        auto add = synapse.width == NARROW ? connect<NARROW> : synapse.width == 2 * NARROW ? connect<2 * NARROW> : connect<WIDEST>;
        add(layer, synapse, steps, parts[part], first);
    }
    for (int part = 0; layer.connections && part < layer.parts; part++)
        if (!filled[part]) memset(parts[part], 0, sizeof(int32_t) * steps * layer.neurons);
}

}  // namespace

extern "C" {

extern const int32_t lanes;
const int32_t lanes = LANES;

void run(Layer* given) {
    Layer& layer = *given;
    const int64_t n = layer.neurons, step_size = layer.samples * n, size = bytes(layer.type);
    const Step one = choose_step(layer);
    int32_t* const parts[2] = {layer.inputs, layer.inputs + layer.piece * n + WIDEST};
    State state = {layer.u, layer.v, layer.more, {}, nullptr};
    for (int64_t sample = 0; sample < layer.samples; sample++) {
        reset(layer);
        for (int64_t begin = 0; begin < layer.steps && !layer.beyond; begin += layer.piece) {
            const int64_t end = begin + layer.piece < layer.steps ? begin + layer.piece : layer.steps;
            char* const sent = static_cast<char*>(layer.sent) + sample * layer.sent_sample * size;
            arrive(layer, sample, begin, end, parts);
            for (int64_t t = begin; t < end; t++) {
                const int64_t offset = t * step_size + sample * n;
                for (int part = 0; part < layer.parts; part++) {
                    const int32_t* others = layer.currents ? layer.currents + ((t * layer.samples + sample) * layer.parts + part) * n : nullptr;
                    int32_t* sums = parts[part] + (t - begin) * n;
                    if (layer.connections && others)
                        for (int64_t j = 0; j < n; j++) sums[j] += others[j];
                    state.inputs[part] = layer.connections ? sums : others;
                }
                state.sent = sent + t * layer.sent_step * size;
                layer.active += one(layer, state);
                if (layer.trace_u) memcpy(layer.trace_u + offset, state.u, sizeof(int32_t) * n);
                if (layer.trace_v) memcpy(layer.trace_v + offset, state.v, sizeof(int32_t) * n);
            }
            const int64_t rows[5] = {layer.sent_step, layer.sent_sample, end - begin, 1, n};
            if (layer.counts) count_all(sent + begin * layer.sent_step * size, layer.type, rows, layer.counts, layer.ones);
        }
    }
}

void count(const void* sent, int64_t type, const int64_t* size, int64_t* counts, int64_t* ones) { count_all(sent, type, size, counts, ones); }
}
