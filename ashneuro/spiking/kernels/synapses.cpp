// Event-driven convolutions (a dense layer is a 1 × 1 convolution of a 1 × 1 image): currents and weight
// gradients are sums over the inputs that spiked, without products. And a dense product: the gradient at the
// spikes of a strided or padded convolution, without the products in the padding.
//
// Images are channels-last: a place is a row of channels. Spikes are bits, [image][place][words of 64
// channels]. Output channels are computed in chunks of VECTORS vectors, which stay in registers. Sums have a
// fixed order, whatever the number of threads. Shapes, and when a dense product is used instead:
// ashneuro/spiking/kernels/sparse_synapses.py.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <vector>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

namespace {

constexpr int LANES = BYTES / 4;
constexpr int MOST_VECTORS = 8;
constexpr int MOST_VECTORS_BACK = 4;  // of input channels; with SUMS, all operands fit 32 registers
constexpr int SUMS = 24;
constexpr int CACHED = 1 << 14;  // floats of weights, and of sums, that `currents` keeps in the cache
typedef float Vector __attribute__((vector_size(BYTES), aligned(4), may_alias));

// a · b + c in one instruction. By hand, because -ffp-contract=off keeps the compiler from it elsewhere.
#if defined(__AVX512F__)
constexpr bool FUSED = true;
inline Vector fused(float a, Vector b, Vector c) { return Vector(_mm512_fmadd_ps(_mm512_set1_ps(a), __m512(b), __m512(c))); }
#else
constexpr bool FUSED = false;
inline Vector fused(float a, Vector b, Vector c) { return a * b + c; }
#endif

}  // namespace

extern "C" struct Job {
    int64_t images, in_rows, in_columns, in_channels, out_rows, out_columns, out_channels;
    int64_t kernel_rows, kernel_columns, stride_rows, stride_columns, padding_rows, padding_columns, dilation_rows, dilation_columns;
    int64_t ones, others;  // counted by `pack`: values 1, and values that are neither 0 nor 1
    int64_t block;         // images in a block of `weights`, or of `spikes`
    int64_t row;           // floats from one place of the output to the next
    float* spikes;         // [image][place][channel], or the gradient there
    uint64_t *bits, *transposed;  // [image][place][word]; [block][channel][word of the block's places]
    float* packed;  // weights, or their gradients: [chunk][tap][input channel][chunk's channels]
    float* weight;  // [output channel][tap][input channel]
    float* output;  // [image][place][channel], or the gradient there
};

namespace {

struct Shape {
    int64_t in_places, out_places, taps, words, vectors, chunks, width;
    explicit Shape(const Job& job) : Shape(job, job.out_channels, MOST_VECTORS) {}
    Shape(const Job& job, int64_t channels, int most) {
        in_places = job.in_rows * job.in_columns, out_places = job.out_rows * job.out_columns;
        taps = job.kernel_rows * job.kernel_columns, words = (job.in_channels + 63) / 64;
        int64_t all = (channels + LANES - 1) / LANES;
        chunks = (all + most - 1) / most;
        vectors = (all + chunks - 1) / chunks, width = vectors * LANES;
    }
};

inline Shape backwards(const Job& job) { return Shape(job, job.in_channels, MOST_VECTORS_BACK); }

// Input place of each output place at each tap, [tap][output place]; −1 in the padding.
std::vector<int32_t> sources(const Job& job) {
    std::vector<int32_t> found;
    for (int64_t r = 0; r < job.kernel_rows; r++)
        for (int64_t c = 0; c < job.kernel_columns; c++)
            for (int64_t y = 0; y < job.out_rows; y++)
                for (int64_t x = 0; x < job.out_columns; x++) {
                    int64_t row = y * job.stride_rows + r * job.dilation_rows - job.padding_rows;
                    int64_t column = x * job.stride_columns + c * job.dilation_columns - job.padding_columns;
                    bool inside = row >= 0 && row < job.in_rows && column >= 0 && column < job.in_columns;
                    found.push_back(inside ? int32_t(row * job.in_columns + column) : -1);
                }
    return found;
}

// Inputs of a block, [image][place], in the order of their bits in `transposed`: by stride phase (row and column
// modulo the stride), because no tap meets inputs of two phases.
std::vector<int32_t> order(const Job& job) {
    std::vector<int32_t> found;
    for (int64_t r = 0; r < job.stride_rows; r++)
        for (int64_t c = 0; c < job.stride_columns; c++)
            for (int64_t image = 0; image < job.block; image++)
                for (int64_t y = r; y < job.in_rows; y += job.stride_rows)
                    for (int64_t x = c; x < job.in_columns; x += job.stride_columns)
                        found.push_back(int32_t((image * job.in_rows + y) * job.in_columns + x));
    return found;
}

// Up to 64 channels as the bits of one word; adds 1 to others if a value is neither 0 nor 1.
inline uint64_t word(const float* x, int count, int64_t& others) {
    uint64_t ones = 0, some = 0;
    int n = 0;
#if defined(__AVX512F__)
    for (; n < count; n += 16) {
        __mmask16 there = count - n >= 16 ? 0xffff : __mmask16((1u << (count - n)) - 1);
        __m512 values = _mm512_maskz_loadu_ps(there, x + n);
        ones |= uint64_t(_mm512_cmp_ps_mask(values, _mm512_set1_ps(1), _CMP_EQ_OQ)) << n;
        some |= uint64_t(_mm512_cmp_ps_mask(values, _mm512_setzero_ps(), _CMP_NEQ_UQ)) << n;
    }
#elif defined(__AVX2__)
    for (; n + 8 <= count; n += 8) {
        __m256 values = _mm256_loadu_ps(x + n);
        ones |= uint64_t(uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(values, _mm256_set1_ps(1), _CMP_EQ_OQ)))) << n;
        some |= uint64_t(uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(values, _mm256_setzero_ps(), _CMP_NEQ_UQ)))) << n;
    }
#endif
    for (; n < count; n++) {
        ones |= uint64_t(x[n] == 1) << n;
        some |= uint64_t(x[n] != 0) << n;
    }
    others += ones != some;
    return ones;
}

// Transpose 64 × 64 bits in place (Hacker's Delight, 7-3).
inline void transpose_bits(uint64_t* rows) {
    uint64_t mask = 0x00000000ffffffff;
    for (int width = 32; width; width >>= 1, mask ^= mask << width)
        for (int n = 0; n < 64; n = (n + width + 1) & ~width) {
            uint64_t swapped = ((rows[n] >> width) ^ rows[n + width]) & mask;
            rows[n] ^= swapped << width;
            rows[n + width] ^= swapped;
        }
}

template <int VECTORS> struct Sums {
    static constexpr int WIDTH = VECTORS * LANES;
    Vector of[VECTORS];
    inline void zero() {
        for (int v = 0; v < VECTORS; v++) of[v] = Vector{};
    }
    inline void add(const float* row) {
        for (int v = 0; v < VECTORS; v++) of[v] += *reinterpret_cast<const Vector*>(row + v * LANES);
    }
    inline void add(float factor, const float* row) {
        for (int v = 0; v < VECTORS; v++) of[v] = fused(factor, *reinterpret_cast<const Vector*>(row + v * LANES), of[v]);
    }
    inline void store(float* to) const {
        for (int v = 0; v < VECTORS; v++) *reinterpret_cast<Vector*>(to + v * LANES) = of[v];
    }
    inline void store(float* to, int64_t count) const {
        if (count >= WIDTH) return store(to);
        float all[WIDTH];
        store(all);
        memcpy(to, all, sizeof(float) * count);
    }
};

// Currents of images begin … end. The weights of one tap, or of some words of its channels, stay in the cache
// while a block of places passes; the partial sums of that block stay there too.
template <int VECTORS> void currents(const Job& job, const Shape& shape, int64_t begin, int64_t end) {
    constexpr int WIDTH = VECTORS * LANES, TOGETHER = std::max(1, CACHED / WIDTH), SOME = std::max(1, CACHED / (64 * WIDTH));
    const std::vector<int32_t> from = sources(job);
    std::vector<float> waiting(TOGETHER * WIDTH);
    const int64_t all = end * shape.out_places;
    for (int64_t chunk = 0; chunk < shape.chunks; chunk++)
        for (int64_t block = begin * shape.out_places; block < all; block += TOGETHER)
            for (int64_t tap = 0; tap < shape.taps; tap++)
                for (int64_t word = 0; word < shape.words; word += SOME) {
                    const int64_t last = std::min(word + SOME, shape.words);
                    const bool starts = !tap && !word, ends = tap + 1 == shape.taps && last == shape.words;
                    const float* weights = job.packed + ((chunk * shape.taps + tap) * job.in_channels + word * 64) * WIDTH;
                    float* waits = waiting.data();
                    int64_t image = block / shape.out_places, place = block % shape.out_places;
                    for (int64_t at = block; at < std::min(block + TOGETHER, all); at++, place++, waits += WIDTH) {
                        if (place == shape.out_places) image++, place = 0;
                        const int32_t source = from[tap * shape.out_places + place];
                        if (source < 0 && !starts && !ends) continue;
                        Sums<VECTORS> sums;
                        sums.zero();
                        if (!starts) sums.add(waits);
                        if (source >= 0) {
                            const uint64_t* spiked = job.bits + (image * shape.in_places + source) * shape.words;
                            const float* rows = weights;
                            for (int64_t n = word; n < last; n++, rows += 64 * WIDTH)
                                for (uint64_t bits = spiked[n]; bits; bits &= bits - 1) sums.add(rows + __builtin_ctzll(bits) * WIDTH);
                        }
                        const int64_t first = chunk * WIDTH;
                        if (!ends) sums.store(waits);
                        else sums.store(job.output + at * job.row + first, job.out_channels - first);
                    }
                }
}

// Weight gradients of input channels begin … end: the sum of the output gradients wherever the channel spiked.
template <int VECTORS> void weights(const Job& job, const Shape& shape, int64_t begin, int64_t end) {
    constexpr int WIDTH = VECTORS * LANES;
    const std::vector<int32_t> from = sources(job), inputs = order(job);
    const int64_t words = (int64_t(inputs.size()) + 63) / 64;
    std::vector<int32_t> bit(inputs.size());
    for (size_t n = 0; n < inputs.size(); n++) bit[inputs[n]] = int32_t(n);
    // For each tap: which inputs of a block meet an output, the output's place in the block, and the range of
    // words that have any.
    std::vector<uint64_t> meets(shape.taps * words);
    std::vector<int32_t> where(shape.taps * words * 64);
    std::vector<int64_t> first(shape.taps, words), last(shape.taps);
    for (int64_t tap = 0; tap < shape.taps; tap++)
        for (int64_t image = 0; image < job.block; image++)
            for (int64_t place = 0; place < shape.out_places; place++) {
                int32_t source = from[tap * shape.out_places + place];
                if (source < 0) continue;
                int64_t at = bit[image * shape.in_places + source];
                meets[tap * words + at / 64] |= uint64_t(1) << at % 64;
                where[tap * words * 64 + at] = int32_t(image * shape.out_places + place);
                first[tap] = std::min(first[tap], at / 64), last[tap] = std::max(last[tap], at / 64 + 1);
            }
    const int64_t blocks = (job.images + job.block - 1) / job.block, places = job.block * shape.out_places;
    // A block of one chunk, without gaps: rows a power of two apart would evict each other from the cache.
    std::vector<float> rows(job.row > WIDTH ? places * WIDTH : 0);
    for (int64_t chunk = 0; chunk < shape.chunks; chunk++) {
        float* gradients = job.packed + chunk * shape.taps * job.in_channels * WIDTH;
        for (int64_t block = 0; block < blocks; block++) {
            const float* arriving = job.output + block * places * job.row + chunk * WIDTH;
            if (!rows.empty()) {
                const int64_t there = std::min(places, job.images * shape.out_places - block * places);
                for (int64_t place = 0; place < there; place++) memcpy(rows.data() + place * WIDTH, arriving + place * job.row, sizeof(float) * WIDTH);
                arriving = rows.data();
            }
            for (int64_t channel = begin; channel < end; channel++) {
                const uint64_t* spiked = job.transposed + (block * shape.words * 64 + channel) * words;
                for (int64_t tap = 0; tap < shape.taps; tap++) {
                    float* gradient = gradients + (tap * job.in_channels + channel) * WIDTH;
                    const int64_t from = first[tap], to = last[tap];
                    const uint64_t* met = meets.data() + tap * words;
                    const int32_t* at = where.data() + (tap * words + from) * 64;
                    Sums<VECTORS> sums;
                    sums.zero();
                    if (block) sums.add(gradient);
                    for (int64_t n = from; n < to; n++, at += 64)
                        for (uint64_t bits = spiked[n] & met[n]; bits; bits &= bits - 1)
                            sums.add(arriving + at[__builtin_ctzll(bits)] * WIDTH);
                    sums.store(gradient);
                }
            }
        }
    }
}

// Gradient at the spikes of images begin … end, a dense product. Input places that the same taps reach are
// computed together, PLACES of them in registers, so that a weight is read once for all of them. Taps in the
// padding are not among these taps.
template <int VECTORS> void spikes(const Job& job, const Shape& shape, int64_t begin, int64_t end) {
    constexpr int WIDTH = VECTORS * LANES, PLACES = std::min(8, SUMS / VECTORS);
    // The output place that each input place meets at each tap, −1 for none; and the input places by set of taps.
    std::vector<int32_t> meets(shape.in_places * shape.taps, -1);
    const std::vector<int32_t> from = sources(job);
    for (int64_t tap = 0; tap < shape.taps; tap++)
        for (int64_t place = 0; place < shape.out_places; place++)
            if (int32_t source = from[tap * shape.out_places + place]; source >= 0) meets[source * shape.taps + tap] = int32_t(place);
    std::map<std::vector<int64_t>, std::vector<int64_t>> alike;
    for (int64_t place = 0; place < shape.in_places; place++) {
        std::vector<int64_t> taps;
        for (int64_t tap = 0; tap < shape.taps; tap++)
            if (meets[place * shape.taps + tap] >= 0) taps.push_back(tap);
        alike[taps].push_back(place);
    }
    for (int64_t block = begin; block < end; block += job.block)
        for (const auto& [taps, places] : alike)
            for (int64_t chunk = 0; chunk < shape.chunks; chunk++) {
                const float* weights = job.packed + chunk * shape.taps * job.out_channels * WIDTH;
                const int64_t first = chunk * WIDTH, count = int64_t(places.size());
                const int64_t all = (std::min(block + job.block, end) - block) * count;
                for (int64_t tile = 0; tile < all; tile += PLACES) {
                    int64_t image[PLACES], place[PLACES];
                    Sums<VECTORS> sums[PLACES];
                    for (int p = 0; p < PLACES; p++) {
                        int64_t at = std::min(tile + p, all - 1);  // past the end: the last one again, not stored
                        image[p] = block + at / count, place[p] = places[at % count];
                        sums[p].zero();
                    }
                    for (int64_t tap : taps) {
                        const float *row = weights + tap * job.out_channels * WIDTH, *arriving[PLACES];
                        for (int p = 0; p < PLACES; p++)
                            arriving[p] = job.output + (image[p] * shape.out_places + meets[place[p] * shape.taps + tap]) * job.row;
                        for (int64_t o = 0; o < job.out_channels; o++, row += WIDTH)
                            for (int p = 0; p < PLACES; p++) sums[p].add(arriving[p][o], row);
                    }
                    for (int p = 0; p < PLACES; p++) {
                        float* to = job.spikes + (image[p] * shape.in_places + place[p]) * job.in_channels + first;
                        if (tile + p < all) sums[p].store(to, job.in_channels - first);
                    }
                }
            }
}

enum Pass { CURRENTS, WEIGHTS, SPIKES };

template <Pass PASS, int VECTORS = PASS == SPIKES ? MOST_VECTORS_BACK : MOST_VECTORS>
void choose(const Job& job, const Shape& shape, int64_t begin, int64_t end) {
    if constexpr (VECTORS > 0) {
        if (shape.vectors != VECTORS) choose<PASS, VECTORS - 1>(job, shape, begin, end);
        else if constexpr (PASS == SPIKES) spikes<VECTORS>(job, shape, begin, end);
        else if constexpr (PASS == WEIGHTS) weights<VECTORS>(job, shape, begin, end);
        else currents<VECTORS>(job, shape, begin, end);
    }
}

// Parts of `repack`: a tap and LANES output channels each.
inline int64_t lane_groups(const Job& job) { return (job.out_channels + LANES - 1) / LANES; }

// Copy parts begin … end between [output channel][tap][input channel] and
// [chunk][tap][input channel][chunk's channels], tile by tile in the order of writing.
template <bool PACKING> void repack(const Job& job, int64_t begin, int64_t end) {
    constexpr int64_t TILE = 32;
    const Shape shape(job);
    const int64_t row = shape.taps * job.in_channels, width = shape.width;
    auto copy = [=](float* inside, float* outside, int64_t outputs, int64_t inputs) __attribute__((always_inline)) {
        if (PACKING) {
            for (int64_t n = 0; n < inputs; n++)
                for (int64_t m = 0; m < outputs; m++) inside[n * width + m] = outside[m * row + n];
        } else {
            for (int64_t m = 0; m < outputs; m++)
                for (int64_t n = 0; n < inputs; n++) outside[m * row + n] = inside[n * width + m];
        }
    };
    for (int64_t part = begin; part < end; part++) {
        const int64_t tap = part / lane_groups(job), m = part % lane_groups(job) * LANES;
        for (int64_t n = 0; n < job.in_channels; n += TILE) {
            float* inside = job.packed + ((m / width * shape.taps + tap) * job.in_channels + n) * width + m % width;
            float* outside = job.weight + m * row + tap * job.in_channels + n;
            const int64_t outputs = std::min<int64_t>(LANES, job.out_channels - m), inputs = std::min(TILE, job.in_channels - n);
            if (outputs == LANES && inputs == TILE) copy(inside, outside, LANES, TILE);  // sizes known at compile time
            else copy(inside, outside, outputs, inputs);
        }
    }
}

}  // namespace

extern "C" {

// Output channels, padded to whole chunks.
int64_t padded_out_channels(const Job* job) {
    Shape shape(*job);
    return shape.chunks * shape.width;
}

// Input channels, padded to whole chunks of `spikes`.
int64_t padded_in_channels(const Job* job) {
    Shape shape = backwards(*job);
    return shape.chunks * shape.width;
}

bool has_fma() { return FUSED; }

// Parts of `pack_weights` and `unpack_weights`.
int64_t repack_parts(const Job* job) { return job->kernel_rows * job->kernel_columns * lane_groups(*job); }

// Pack the spikes of input places begin … end as bits, and count them.
void pack(Job* job, int64_t begin, int64_t end) {
    Shape shape(*job);
    int64_t ones = 0, others = 0;
    for (int64_t place = begin; place < end && !others; place++)
        for (int64_t n = 0; n < shape.words; n++) {
            int count = int(std::min<int64_t>(64, job->in_channels - 64 * n));
            uint64_t bits = word(job->spikes + place * job->in_channels + 64 * n, count, others);
            job->bits[place * shape.words + n] = bits;
            ones += __builtin_popcountll(bits);
        }
    __atomic_fetch_add(&job->ones, ones, __ATOMIC_RELAXED);
    __atomic_fetch_add(&job->others, others, __ATOMIC_RELAXED);
}

// Transpose the bits of blocks begin … end: a row per channel.
void transpose(Job* job, int64_t begin, int64_t end) {
    Shape shape(*job);
    const std::vector<int32_t> inputs = order(*job);
    const int64_t in_block = int64_t(inputs.size()), words = (in_block + 63) / 64, all = job->images * shape.in_places;
    for (int64_t block = begin; block < end; block++)
        for (int64_t n = 0; n < words; n++)
            for (int64_t group = 0; group < shape.words; group++) {
                uint64_t square[64];
                for (int row = 0; row < 64; row++) {
                    int64_t bit = n * 64 + row, place = bit < in_block ? block * in_block + inputs[bit] : all;
                    square[row] = place < all ? job->bits[place * shape.words + group] : 0;
                }
                transpose_bits(square);
                for (int row = 0; row < 64; row++) job->transposed[(block * shape.words * 64 + group * 64 + row) * words + n] = square[row];
            }
}

void pack_weights(Job* job, int64_t begin, int64_t end) { repack<true>(*job, begin, end); }
void unpack_weights(Job* job, int64_t begin, int64_t end) { repack<false>(*job, begin, end); }

// Pack the weights of taps begin … end for `spikes`: from [output channel][tap][input channel] to
// [chunk][tap][output channel][chunk's channels].
void pack_weights_back(Job* job, int64_t begin, int64_t end) {
    const Shape shape = backwards(*job);
    for (int64_t tap = begin; tap < end; tap++)
        for (int64_t o = 0; o < job->out_channels; o++)
            for (int64_t i = 0; i < job->in_channels; i += shape.width)
                memcpy(job->packed + ((i / shape.width * shape.taps + tap) * job->out_channels + o) * shape.width,
                       job->weight + (o * shape.taps + tap) * job->in_channels + i,
                       sizeof(float) * std::min(shape.width, job->in_channels - i));
}

// Images begin … end.
void currents(Job* job, int64_t begin, int64_t end) { choose<CURRENTS>(*job, Shape(*job), begin, end); }

// Input channels begin … end.
void weights(Job* job, int64_t begin, int64_t end) { choose<WEIGHTS>(*job, Shape(*job), begin, end); }

// Images begin … end.
void spikes(Job* job, int64_t begin, int64_t end) { choose<SPIKES>(*job, backwards(*job), begin, end); }
}
