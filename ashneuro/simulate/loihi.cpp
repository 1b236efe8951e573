// Loihi's neurons over many steps, bit for bit, with the products of spikes and 8-bit weights in front of them.
//
// A product with spikes is a sum of the weights of the lines that spiked: what is not sent costs nothing. Sums are exact: 16
// bits hold a block of weights, and blocks add up in 32 bits. Decays need no more than 32 bits either, because
// |x|·keep >> 12 = (|x| >> 12)·keep + ((|x| & 4095)·keep >> 12). Equations: ashneuro/program/program.py.

#include <cstdint>
#include <cstring>

extern "C" {

struct Dense {
    const uint8_t* spikes;   // [steps][samples][inputs], 0 or 1
    const int16_t* weights;  // [tiles of neurons][inputs][TILE], zero behind the last neuron
    int64_t inputs;
    int32_t lag;       // steps by which they arrive late
    int32_t exponent;  // the sum is shifted left by it, or right
    int32_t block;     // so many weights add up to less than 2^15
};

struct Layer {
    int64_t steps, samples, neurons;
    int32_t connections, spiking, keep_u, keep_v, threshold;
    const Dense* dense;
    const int32_t* currents;  // [steps][samples][neurons], what else arrives; or null
    const int32_t* bias;      // [neurons]; or null
    int32_t *u, *v;           // [samples][neurons]; before, and then after all steps
    void* sent;               // [steps][samples][neurons]: bytes where spiking, else v
    int32_t *trace_u, *trace_v;  // [steps][samples][neurons]; or null
    int64_t active;              // added to
    int32_t* arriving;           // [steps][neurons up to a whole tile]: work space, and the next two
    int32_t* lines;              // [steps · the most inputs]
    int32_t* first;              // [steps + 1]
};
}

namespace {

constexpr int32_t STATE = 1 << 23;
constexpr int TILE = 64;  // of so many neurons the weights from 256 lines fit into L1, and the sums into two registers

typedef int16_t Vector __attribute__((vector_size(64), aligned(2), may_alias));
constexpr int VECTORS = TILE * 2 / 64;

// The lines that spiked in each step, from lines[first[t]] to lines[first[t + 1]].
void find_spikes(const Layer& layer, const Dense& dense, int64_t sample) {
    int32_t n = 0;
    for (int64_t t = 0; t < layer.steps; t++) {
        layer.first[t] = n;
        if (t < dense.lag) continue;
        const uint8_t* spikes = dense.spikes + ((t - dense.lag) * layer.samples + sample) * dense.inputs;
        int64_t line = 0;
        for (; line + 8 <= dense.inputs; line += 8) {
            uint64_t eight;
            memcpy(&eight, spikes + line, 8);
            if (!eight) continue;
            for (int k = 0; k < 8; k++) {
                layer.lines[n] = int32_t(line + k);
                n += spikes[line + k];
            }
        }
        for (; line < dense.inputs; line++) {
            layer.lines[n] = int32_t(line);
            n += spikes[line];
        }
    }
    layer.first[layer.steps] = n;
}

inline void add_lines(const int16_t* weights, const int32_t* line, int32_t n, int16_t* into) {
    Vector sums[VECTORS] = {};
    for (int32_t k = 0; k < n; k++) {
        const Vector* row = reinterpret_cast<const Vector*>(weights + int64_t(line[k]) * TILE);
        for (int j = 0; j < VECTORS; j++) sums[j] += row[j];
    }
    memcpy(into, sums, sizeof sums);
}

// Adds what arrives at one tile of neurons in one step.
void add_weights(const Dense& dense, const int16_t* weights, const int32_t* line, int32_t n, int32_t* __restrict__ arriving) {
    // An exponent is for the whole sum.
    const int32_t left = 1 << (dense.exponent > 0 ? dense.exponent : 0), right = dense.exponent < 0 ? -dense.exponent : 0;
    int16_t sums[TILE];
    if (n <= dense.block) {
        add_lines(weights, line, n, sums);
        if (dense.exponent == 0)
            for (int j = 0; j < TILE; j++) arriving[j] += sums[j];
        else
            for (int j = 0; j < TILE; j++) arriving[j] += (sums[j] * left) >> right;
        return;
    }
    int32_t whole[TILE] = {};
    for (int32_t begin = 0; begin < n; begin += dense.block) {
        add_lines(weights, line + begin, begin + dense.block < n ? dense.block : n - begin, sums);
        for (int j = 0; j < TILE; j++) whole[j] += sums[j];
    }
    for (int j = 0; j < TILE; j++) arriving[j] += (whole[j] * left) >> right;
}

inline int32_t decayed(int32_t x, int32_t keep) {
    const int32_t sign = x >> 31, size = (x ^ sign) - sign;
    const int32_t kept = (size >> 12) * keep + (((size & 4095) * keep) >> 12);
    return (kept ^ sign) - sign;
}

template <bool MEMORY, bool BIASED, bool SPIKING>
int64_t step(const Layer& layer, const int32_t* __restrict__ a, int32_t* __restrict__ u, int32_t* __restrict__ v, void* to) {
    uint8_t* __restrict__ spikes = static_cast<uint8_t*>(to);
    int32_t* __restrict__ potentials = static_cast<int32_t*>(to);
    const int32_t keep_u = layer.keep_u, keep_v = layer.keep_v, threshold = layer.threshold;
    int32_t awake = 0;
#pragma omp simd reduction(+ : awake)
    for (int64_t j = 0; j < layer.neurons; j++) {
        const int32_t bias = BIASED ? layer.bias[j] : 0;
        awake += (a[j] | bias | u[j] | v[j]) != 0;
        int32_t now = a[j] * 64 + (MEMORY ? decayed(u[j], keep_u) : 0);
        now = ((now + (STATE - 1)) & (2 * STATE - 1)) - (STATE - 1);
        u[j] = now;
        int32_t next = decayed(v[j], keep_v) + now + bias;
        next = next > STATE - 1 ? STATE - 1 : next < 1 - STATE ? 1 - STATE : next;
        if (SPIKING) {
            const bool fired = next > threshold;
            spikes[j] = fired;
            v[j] = fired ? 0 : next;
        } else {
            potentials[j] = next;
            v[j] = next;
        }
    }
    return awake;
}

}  // namespace

extern "C" {

void run(Layer* given) {
    Layer& layer = *given;
    const int64_t n = layer.neurons, step_size = layer.samples * n;
    auto one = layer.spiking ? (layer.bias ? (layer.keep_u ? step<true, true, true> : step<false, true, true>)
                                           : (layer.keep_u ? step<true, false, true> : step<false, false, true>))
                             : (layer.bias ? (layer.keep_u ? step<true, true, false> : step<false, true, false>)
                                           : (layer.keep_u ? step<true, false, false> : step<false, false, false>));
    const int64_t tiles = (n + TILE - 1) / TILE, padded = tiles * TILE;
    for (int64_t sample = 0; sample < layer.samples; sample++) {
        if (layer.connections) {
            memset(layer.arriving, 0, sizeof(int32_t) * layer.steps * padded);
            for (int c = 0; c < layer.connections; c++) {
                const Dense& dense = layer.dense[c];
                find_spikes(layer, dense, sample);
                for (int64_t tile = 0; tile < tiles; tile++) {
                    const int16_t* weights = dense.weights + tile * dense.inputs * TILE;
                    for (int64_t t = 0; t < layer.steps; t++) {
                        const int32_t begin = layer.first[t], spikes = layer.first[t + 1] - begin;
                        if (spikes) add_weights(dense, weights, layer.lines + begin, spikes, layer.arriving + t * padded + tile * TILE);
                    }
                }
            }
        }
        int32_t *u = layer.u + sample * n, *v = layer.v + sample * n;
        for (int64_t t = 0; t < layer.steps; t++) {
            const int64_t place = t * step_size + sample * n;
            const int32_t* a = layer.connections ? layer.arriving + t * padded : layer.currents + place;
            if (layer.connections && layer.currents)
                for (int64_t j = 0; j < n; j++) layer.arriving[t * padded + j] += layer.currents[place + j];
            void* to = static_cast<char*>(layer.sent) + place * (layer.spiking ? 1 : 4);
            layer.active += one(layer, a, u, v, to);
            if (layer.trace_u) memcpy(layer.trace_u + place, u, sizeof(int32_t) * n);
            if (layer.trace_v) memcpy(layer.trace_v + place, v, sizeof(int32_t) * n);
        }
    }
}

int tile() { return TILE; }

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
