// Loihi's neurons over many steps, bit for bit, with the products of spikes and 8-bit weights before
// them. Equations: ashneuro/program/program.py.
//
// A product with spikes is the sum of the weights of those lines that spiked: silent lines cost
// nothing. Sums are exact: a block of weights fits 16 bits, and blocks add up in 32 bits. Decays need
// no more than 32 bits either: |x|·keep >> 12 = (|x| >> 12)·keep + ((|x| & 4095)·keep >> 12).
//
// Synapses are convolutions between positions, which are rows of channels (channels-last); a dense
// layer has one position and one tap. The spikes of a position are found once. For each output
// position, those of its taps' input positions are listed, and their weights added.

#include <cstdint>
#include <cstring>

extern "C" {

struct Synapse {
    const uint8_t* spikes;   // [steps][samples][positions][groups][channels], 0 or 1
    const int32_t* values;   // likewise, messages with a payload; null: spikes
    const int16_t* weights;  // [groups][chunks of outputs][taps][channels][width], zero behind a group's last output
    const int32_t* sources;  // [out_positions][taps]: input position; −1 is padding
    int64_t positions, groups, channels, out_positions, taps, outputs;  // channels and outputs are those of one group
    int32_t width;     // outputs in a chunk: LANES, 2 · LANES or WIDEST
    int32_t lag;       // in steps
    int32_t exponent;  // shift of the sum, to the left if positive
    int32_t block;     // number of weights that add up to less than 2^15
};

struct Layer {
    int64_t steps, samples, neurons;
    int32_t kind;  // of neurons, a Kind
    int32_t late;  // spikes reset v one step later
    int32_t connections, spiking, keep_u, keep_v;
    int32_t threshold;  // largest v that does not spike
    int32_t subtract;   // from v at a spike; 0: a spike sets v to 0
    const Synapse* synapses;
    const int32_t* currents;  // [steps][samples][neurons], other input; or null
    const int32_t* bias;      // [neurons]; or null, unless neurons decay differently
    const int32_t *keep_us, *keep_vs;  // [neurons], in place of keep_u and keep_v; or null
    int32_t own[3];           // of the kind, see step_other
    int32_t* more;            // [samples][2][neurons]: further state, as u and v; or null
    int32_t *u, *v;           // [samples][neurons]; state before and after the run
    void* sent;               // [steps][samples][neurons]: bytes if spiking, else v, or values
    int32_t *trace_u, *trace_v;  // [steps][samples][neurons]; or null
    int64_t active;              // neuron-steps, added to
    int64_t piece;               // number of steps at once, for which the buffers below suffice
    int32_t* inputs;             // [piece · neurons + WIDEST]
    int32_t *lines, *values;     // [piece · most input lines + COPIED]
    int32_t* first;              // [piece · most positions · groups + 1]
    int32_t *gathered, *loads;   // [ROWS · most taps · channels + COPIED]
};
}

namespace {

constexpr int32_t STATE = 1 << 23;
constexpr int LANES = 32, WIDEST = 96;  // WIDEST sums stay in registers
constexpr int ROWS = 64;                // positions in a row that use the same weights, which stay in cache
constexpr int COPIED = 16;              // lines copied at once

typedef int16_t Vector __attribute__((vector_size(64), aligned(2), may_alias));
typedef int32_t Lines __attribute__((vector_size(64), aligned(4), may_alias));

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
    const int32_t *lines, *values;
    int32_t count;
};

// Lists the channels that sent something, by step, position and group: lines[first[n]] to lines[first[n + 1]].
void find_spikes(const Layer& layer, const Synapse& synapse, int64_t sample, int64_t begin, int64_t end) {
    const int64_t rows = synapse.positions * synapse.groups, channels = synapse.channels;
    int32_t n = 0, *first = layer.first;
    for (int64_t t = begin - synapse.lag; t < end - synapse.lag; t++) {
        const int64_t offset = t < 0 ? 0 : (t * layer.samples + sample) * rows * channels;
        for (int64_t row = 0; row < rows; row++) {
            *first++ = n;
            if (t < 0) continue;
            int64_t line = 0;
            if (synapse.values) {
                const int32_t* values = synapse.values + offset + row * channels;
                for (; line < channels; line++) {
                    layer.lines[n] = int32_t(line);
                    layer.values[n] = values[line];
                    n += values[line] != 0;
                }
                continue;
            }
            const uint8_t* spikes = synapse.spikes + offset + row * channels;
            for (; line + 8 <= channels; line += 8) {
                uint64_t eight;
                memcpy(&eight, spikes + line, 8);
                const int ones = int((eight * 0x0102040810204080) >> 56);  // a bit of each byte
                *reinterpret_cast<Eight*>(layer.lines + n) = POSITIONS.of[ones] + int32_t(line);
                n += __builtin_popcount(ones);
            }
            for (; line < channels; line++) {
                layer.lines[n] = int32_t(line);
                n += spikes[line];
            }
        }
    }
    *first = n;
}

// Lists the rows of weights for `count` output positions from `begin` on, numbered over the steps of the piece.
void gather(const Layer& layer, const Synapse& synapse, int64_t group, int64_t begin, int64_t count, Events* events) {
    int32_t *to = layer.gathered, *load = layer.loads;
    for (int64_t row = begin; row < begin + count; row++, events++) {
        const int64_t t = row / synapse.out_positions;
        const int32_t* sources = synapse.sources + row % synapse.out_positions * synapse.taps;
        *events = {to, load, 0};
        for (int64_t tap = 0; tap < synapse.taps; tap++) {
            if (sources[tap] < 0) continue;
            const int32_t* edges = layer.first + (t * synapse.positions + sources[tap]) * synapse.groups + group;
            const int32_t *from = layer.lines + edges[0], n = edges[1] - edges[0];
            if (synapse.taps == 1) {  // the list is used as it is
                *events = {from, layer.values + edges[0], n};
                continue;
            }
            const int32_t weights = int32_t(tap * synapse.channels);
            for (int32_t k = 0; k < n; k += COPIED)
                *reinterpret_cast<Lines*>(to + k) = *reinterpret_cast<const Lines*>(from + k) + weights;
            if (synapse.values)
                for (int32_t k = 0; k < n; k += COPIED)
                    *reinterpret_cast<Lines*>(load + k) = *reinterpret_cast<const Lines*>(layer.values + edges[0] + k);
            to += n, load += n, events->count += n;
        }
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

typedef int16_t Half __attribute__((vector_size(32), aligned(2), may_alias));
typedef int32_t Wide __attribute__((vector_size(64)));

template <int WIDTH> inline void add_values(const int16_t* weights, Events events, int32_t* into) {
    Wide sums[WIDTH / 16] = {};
    for (int32_t k = 0; k < events.count; k++) {
        const Half* row = reinterpret_cast<const Half*>(weights + int64_t(events.lines[k]) * WIDTH);
        for (int j = 0; j < WIDTH / 16; j++) sums[j] += __builtin_convertvector(row[j], Wide) * events.values[k];
    }
    memcpy(into, sums, sizeof sums);
}

// Adds the weights of one chunk of outputs, at one position and step. Behind the last output the weights are 0,
// so that its neighbour in memory stays as it is.
template <int WIDTH> inline void add_weights(const Synapse& synapse, const int16_t* weights, Events events, int32_t* __restrict__ inputs) {
    // The exponent applies to the whole sum, not to blocks: a right shift rounds.
    const int32_t left = 1 << (synapse.exponent > 0 ? synapse.exponent : 0), right = synapse.exponent < 0 ? -synapse.exponent : 0;
    const int32_t n = events.count;
    if (synapse.values) {
        int32_t whole[WIDTH];
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
template <int WIDTH> void connect(const Layer& layer, const Synapse& synapse, int64_t steps) {
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
                        add_weights<WIDTH>(synapse, weights, events[n], layer.inputs + (begin + n) * all + group * synapse.outputs + output);
        }
    }
}

inline int32_t decayed(int32_t x, int32_t keep) {
    const int32_t sign = x >> 31, size = (x ^ sign) - sign;
    const int32_t kept = (size >> 12) * keep + (((size & 4095) * keep) >> 12);
    return (kept ^ sign) - sign;
}

inline int32_t saturated(int32_t v) { return v > STATE - 1 ? STATE - 1 : v < 1 - STATE ? 1 - STATE : v; }

template <bool MEMORY> inline int32_t current(int32_t a, int32_t u, int32_t keep) {
    const int32_t now = a * 64 + (MEMORY ? decayed(u, keep) : 0);
    return ((now + (STATE - 1)) & (2 * STATE - 1)) - (STATE - 1);
}

// As in ashneuro/spiking/dynamics.py, which has the equations.
enum Kind { LIF, REFRACTORY, ADAPTIVE, RESONATE, IZHIKEVICH, GRADED, COUNT };
enum Reset { TO_ZERO, SUBTRACT, LATE_TO_ZERO, LATE_SUBTRACT, SUBTRACT_EACH };

template <bool MEMORY, bool BIASED, bool SPIKING, Reset RESET, bool EACH = false>
int64_t step(const Layer& layer, const int32_t* __restrict__ a, int32_t* __restrict__ u, int32_t* __restrict__ v, int32_t*, void* to) {
    uint8_t* __restrict__ spikes = static_cast<uint8_t*>(to);
    int32_t* __restrict__ potentials = static_cast<int32_t*>(to);
    const int32_t threshold = layer.threshold, subtract = layer.subtract, shared_u = layer.keep_u, shared_v = layer.keep_v;
    const int32_t *__restrict__ keep_us = layer.keep_us, *__restrict__ keep_vs = layer.keep_vs;
    constexpr bool LATE = RESET == LATE_TO_ZERO || RESET == LATE_SUBTRACT, SUBTRACTS = RESET == SUBTRACT || RESET == LATE_SUBTRACT;
    int32_t awake = 0;
#pragma omp simd reduction(+ : awake)
    for (int64_t j = 0; j < layer.neurons; j++) {
        const int32_t bias = BIASED ? layer.bias[j] : 0;
        const int32_t keep_u = EACH ? keep_us[j] : shared_u, keep_v = EACH ? keep_vs[j] : shared_v;
        awake += (a[j] | bias | u[j] | v[j]) != 0;
        const int32_t now = current<MEMORY>(a[j], u[j], keep_u);
        u[j] = now;
        const bool before = LATE && v[j] > threshold;  // spiked in the last step
        int32_t next = saturated(decayed(v[j], keep_v) + now + bias);
        if (RESET == SUBTRACT_EACH) {
            // Whole numbers divide exactly in doubles, several at a time.
            const int32_t above = next - threshold - 1, most = layer.own[0];
            const int32_t all = int32_t(double(above) / double(subtract)) + 1, n = above < 0 ? 0 : all < most ? all : most;
            potentials[j] = n;
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

// Neurons with further state. Of a resonator u is the imaginary part, and there is no bias.
template <Kind KIND, bool MEMORY, bool BIASED>
int64_t step_other(const Layer& layer, const int32_t* __restrict__ a, int32_t* __restrict__ u, int32_t* __restrict__ v, int32_t* __restrict__ more, void* to) {
    uint8_t* __restrict__ spikes = static_cast<uint8_t*>(to);
    int32_t* __restrict__ again = more + layer.neurons;
    const int32_t threshold = layer.threshold, keep_u = layer.keep_u, keep_v = layer.keep_v;
    // Refractory: steps. Adaptive: factors of θ − θ_0 and r, threshold_step. Resonators: sin, cos.
    const int32_t first = layer.own[0], second = layer.own[1], third = layer.own[2];
    constexpr bool RESONATES = KIND == RESONATE || KIND == IZHIKEVICH;
    int32_t awake = 0;
#pragma omp simd reduction(+ : awake)
    for (int64_t j = 0; j < layer.neurons; j++) {
        const int32_t bias = BIASED ? layer.bias[j] : 0;
        const int32_t further = KIND == REFRACTORY ? more[j] : KIND == ADAPTIVE ? ((more[j] - threshold) | again[j]) : 0;
        awake += (a[j] | bias | u[j] | v[j] | further) != 0;
        bool fired;
        if (RESONATES) {
            const int32_t real = saturated(decayed(v[j], second) - decayed(u[j], first) + a[j] * 64);
            const int32_t imaginary = saturated(decayed(v[j], first) + decayed(u[j], second));
            fired = KIND == RESONATE ? (real >= threshold) & (imaginary >= 0) & (u[j] < 0) : imaginary >= threshold;
            v[j] = KIND == IZHIKEVICH && fired ? 0 : real;
            u[j] = KIND == IZHIKEVICH && fired ? threshold - 1 : imaginary;
        } else {
            const int32_t now = current<MEMORY>(a[j], u[j], keep_u);
            u[j] = now;
            int32_t next = saturated(decayed(v[j], keep_v) + now + bias);
            if (KIND == REFRACTORY) {
                const int32_t held = more[j];
                next = held > 0 ? v[j] : next;
                fired = next > threshold;
                v[j] = fired ? 0 : next;
                more[j] = fired ? first : held - (held > 0);
            } else {
                const int32_t theta = decayed(more[j] - threshold, first) + threshold, r = decayed(again[j], second);
                fired = next - r >= theta;
                v[j] = next;
                more[j] = theta + (fired ? third : 0);
                again[j] = r + (fired ? 2 * theta : 0);
            }
        }
        spikes[j] = fired;
    }
    return awake;
}

// Stateless neurons that send values, at most own[0]. u is that of the step, for traces.
template <bool BIASED>
int64_t step_graded(const Layer& layer, const int32_t* __restrict__ a, int32_t* __restrict__ u, int32_t*, int32_t*, void* to) {
    int32_t* __restrict__ values = static_cast<int32_t*>(to);
    const int32_t threshold = layer.threshold, limit = layer.own[0];
    int32_t awake = 0;
#pragma omp simd reduction(+ : awake)
    for (int64_t j = 0; j < layer.neurons; j++) {
        const int32_t bias = BIASED ? layer.bias[j] : 0;
        awake += (a[j] | bias) != 0;
        const int32_t now = current<false>(a[j], 0, 0), v = saturated(now + bias);
        u[j] = now;
        const int32_t value = (v >> 6) < limit ? v >> 6 : limit;
        values[j] = v > threshold && value > 0 ? value : 0;
    }
    return awake;
}

using Step = int64_t (*)(const Layer&, const int32_t*, int32_t*, int32_t*, int32_t*, void*);

template <Kind KIND> Step choose_other(const Layer& layer) {
    return layer.bias ? (layer.keep_u ? step_other<KIND, true, true> : step_other<KIND, false, true>)
                      : (layer.keep_u ? step_other<KIND, true, false> : step_other<KIND, false, false>);
}

template <bool SPIKING, Reset RESET> Step choose_step(const Layer& layer) {
    if (layer.keep_us) return step<true, true, SPIKING, RESET, true>;
    return layer.bias ? (layer.keep_u ? step<true, true, SPIKING, RESET> : step<false, true, SPIKING, RESET>)
                      : (layer.keep_u ? step<true, false, SPIKING, RESET> : step<false, false, SPIKING, RESET>);
}

}  // namespace

extern "C" {

void run(Layer* given) {
    Layer& layer = *given;
    const int64_t n = layer.neurons, step_size = layer.samples * n;
    auto one = layer.kind == REFRACTORY ? choose_other<REFRACTORY>(layer)
               : layer.kind == ADAPTIVE ? choose_other<ADAPTIVE>(layer)
               : layer.kind == RESONATE ? step_other<RESONATE, false, false>
               : layer.kind == IZHIKEVICH ? step_other<IZHIKEVICH, false, false>
               : layer.kind == GRADED ? (layer.bias ? step_graded<true> : step_graded<false>)
               : layer.kind == COUNT ? choose_step<true, SUBTRACT_EACH>(layer)
               : !layer.spiking ? choose_step<false, TO_ZERO>(layer)
               : layer.late   ? (layer.subtract ? choose_step<true, LATE_SUBTRACT>(layer) : choose_step<true, LATE_TO_ZERO>(layer))
                              : (layer.subtract ? choose_step<true, SUBTRACT>(layer) : choose_step<true, TO_ZERO>(layer));
    for (int64_t sample = 0; sample < layer.samples; sample++) {
        int32_t *u = layer.u + sample * n, *v = layer.v + sample * n, *more = layer.more ? layer.more + 2 * sample * n : nullptr;
        for (int64_t begin = 0; begin < layer.steps; begin += layer.piece) {
            const int64_t end = begin + layer.piece < layer.steps ? begin + layer.piece : layer.steps;
            if (layer.connections) memset(layer.inputs, 0, sizeof(int32_t) * (end - begin) * n);
            for (int c = 0; c < layer.connections; c++) {
                const Synapse& synapse = layer.synapses[c];
                find_spikes(layer, synapse, sample, begin, end);
                auto add = synapse.width == LANES ? connect<LANES> : synapse.width == 2 * LANES ? connect<2 * LANES> : connect<WIDEST>;
                add(layer, synapse, end - begin);
            }
            for (int64_t t = begin; t < end; t++) {
                const int64_t offset = t * step_size + sample * n;
                int32_t* inputs = layer.inputs + (t - begin) * n;
                if (layer.connections && layer.currents)
                    for (int64_t j = 0; j < n; j++) inputs[j] += layer.currents[offset + j];
                void* to = static_cast<char*>(layer.sent) + offset * (layer.spiking ? 1 : 4);
                layer.active += one(layer, layer.connections ? inputs : layer.currents + offset, u, v, more, to);
                if (layer.trace_u) memcpy(layer.trace_u + offset, u, sizeof(int32_t) * n);
                if (layer.trace_v) memcpy(layer.trace_v + offset, v, sizeof(int32_t) * n);
            }
        }
    }
}

// counts[neurons] += the sum over rows of spikes[rows][neurons].
void count(const uint8_t* spikes, int64_t rows, int64_t neurons, int64_t* counts) {
    // 255 rows of bytes add up in 16 bits with room to spare.
    enum { TILE = 256 };
    for (int64_t first = 0; first < neurons; first += TILE) {
        const int width = neurons - first < TILE ? int(neurons - first) : TILE;
        for (int64_t top = 0; top < rows; top += 255) {
            uint16_t sums[TILE] = {};
            const int64_t bottom = top + 255 < rows ? top + 255 : rows;
            for (int64_t row = top; row < bottom; row++) {
                const uint8_t* __restrict__ line = spikes + row * neurons + first;
#pragma omp simd
                for (int j = 0; j < width; j++) sums[j] += line[j];
            }
            for (int j = 0; j < width; j++) counts[first + j] += sums[j];
        }
    }
}
}
