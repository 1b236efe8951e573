// Batch norm in training over rows of channels (channels-last images, or vectors), forward and backward.
//
// Rows are read in blocks that fit L2, in sums of float32 within a block and of float64 over the blocks. Blocks
// do not depend on the number of threads, so sums have a fixed order. Equations and shapes:
// ashneuro/spiking/kernels/batch_norm.py.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

// Types that a run of channels is read as. A template argument would lose the alignment of 4.
struct Vectors {
    typedef float Type __attribute__((vector_size(32), aligned(4), may_alias));
};
struct Floats {
    typedef float Type;
};

}  // namespace

extern "C" struct Job {
    int64_t rows, channels, block;  // rows of a block
    double momentum, epsilon;
    const float *x, *gradient, *weight, *bias;
    float *output;                // or the gradient at x
    float *mean, *scale;          // of each channel; scale = 1 / √(σ² + ε)
    float *running_mean, *running_variance;
    float *g_weight, *g_bias;
    float *slope, *shift, *factor;  // coefficients of the second pass over x
    double *first, *second;  // [block][channel]: means and squares around them; backward Σ g and Σ g (x − μ)
};

namespace {

// COUNT values of a type: a run of a row's channels, in registers.
template <class Kind, int COUNT> struct Run {
    typedef typename Kind::Type T;
    static constexpr int V = COUNT, WIDTH = V * int(sizeof(T) / sizeof(float));
    T at[V] = {};
    static const T& read(const float* from, int v) { return reinterpret_cast<const T*>(from)[v]; }
    void store(double* to) const {
        const float* values = reinterpret_cast<const float*>(at);
        for (int c = 0; c < WIDTH; c++) to[c] = values[c];
    }
};

// Call body(Run, first channel) for all channels.
template <class Body> inline void in_runs(int64_t channels, Body body) {
    int64_t c = 0;
    for (; c + 64 <= channels; c += 64) body(Run<Vectors, 8>(), c);
    for (; c + 32 <= channels; c += 32) body(Run<Vectors, 4>(), c);
    for (; c + 16 <= channels; c += 16) body(Run<Vectors, 2>(), c);
    for (; c + 8 <= channels; c += 8) body(Run<Vectors, 1>(), c);
    for (; c < channels; c++) body(Run<Floats, 1>(), c);
}

// Call body(block, first row, rows) for blocks begin … end.
template <class Body> inline void in_blocks(const Job& job, int64_t begin, int64_t end, Body body) {
    for (int64_t n = begin; n < end; n++) body(n, n * job.block, std::min(job.block, job.rows - n * job.block));
}

int64_t blocks(const Job& job) { return (job.rows + job.block - 1) / job.block; }

}  // namespace

extern "C" {

// Means and sums of squares around them, of blocks begin … end.
void moments(const Job* job, int64_t begin, int64_t end) {
    const int64_t channels = job->channels;
    in_blocks(*job, begin, end, [=](int64_t block, int64_t row, int64_t rows) {
        in_runs(channels, [=](auto run, int64_t c) {
            typedef decltype(run) R;
            const float* from = job->x + row * channels + c;
            R mean, rest, squares;
            for (int64_t n = 0; n < rows; n++)
                for (int v = 0; v < R::V; v++) mean.at[v] += R::read(from + n * channels, v);
            for (auto& each : mean.at) each = each / float(rows);
            for (int64_t n = 0; n < rows; n++)
                for (int v = 0; v < R::V; v++) {
                    auto apart = R::read(from + n * channels, v) - mean.at[v];
                    rest.at[v] += apart;  // not 0, because the mean is rounded
                    squares.at[v] += apart * apart;
                }
            double more[R::WIDTH], *first = job->first + block * channels + c, *second = job->second + block * channels + c;
            mean.store(first), squares.store(second), rest.store(more);
            for (int n = 0; n < R::WIDTH; n++) {
                first[n] += more[n] / double(rows);
                second[n] -= more[n] * more[n] / double(rows);
            }
        });
    });
}

// Statistics of all channels, from those of the blocks.
void statistics(const Job* job, int64_t, int64_t channels) {
    const int64_t count = blocks(*job);
    const double rows = double(job->rows);
    std::vector<double> mean(channels), squares(channels);
    in_blocks(*job, 0, count, [&](int64_t n, int64_t, int64_t here) {
        for (int64_t c = 0; c < channels; c++) mean[c] += double(here) / rows * job->first[n * channels + c];
    });
    in_blocks(*job, 0, count, [&](int64_t n, int64_t, int64_t here) {
        for (int64_t c = 0; c < channels; c++) {
            const double apart = job->first[n * channels + c] - mean[c];
            squares[c] += job->second[n * channels + c] + double(here) * apart * apart;
        }
    });
    for (int64_t c = 0; c < channels; c++) {
        job->mean[c] = float(mean[c]), job->scale[c] = float(1 / std::sqrt(squares[c] / rows + job->epsilon));
        job->running_mean[c] = float(job->momentum * mean[c] + (1 - job->momentum) * job->running_mean[c]);
        job->running_variance[c] = float(job->momentum * squares[c] / (rows - 1) + (1 - job->momentum) * job->running_variance[c]);
        job->slope[c] = job->weight[c] * job->scale[c];
    }
}

// Output of blocks begin … end.
void normalise(const Job* job, int64_t begin, int64_t end) {
    const int64_t channels = job->channels;
    const float *mean = job->mean, *slope = job->slope, *bias = job->bias;
    in_blocks(*job, begin, end, [=](int64_t, int64_t row, int64_t rows) {
        for (int64_t n = row; n < row + rows; n++) {
            const float* x = job->x + n * channels;
            float* __restrict to = job->output + n * channels;
            for (int64_t c = 0; c < channels; c++) to[c] = (x[c] - mean[c]) * slope[c] + bias[c];
        }
    });
}

// Sums of gradients g, and of g (x − μ), of blocks begin … end.
void gradient_sums(const Job* job, int64_t begin, int64_t end) {
    const int64_t channels = job->channels;
    in_blocks(*job, begin, end, [=](int64_t block, int64_t row, int64_t rows) {
        in_runs(channels, [=](auto run, int64_t c) {
            typedef decltype(run) R;
            R mean, sums, products;
            for (int v = 0; v < R::V; v++) mean.at[v] = R::read(job->mean + c, v);
            const float *x = job->x + row * channels + c, *g = job->gradient + row * channels + c;
            for (int64_t n = 0; n < rows; n++)
                for (int v = 0; v < R::V; v++) {
                    const auto each = R::read(g + n * channels, v);
                    sums.at[v] += each;
                    products.at[v] += each * (R::read(x + n * channels, v) - mean.at[v]);
                }
            sums.store(job->first + block * channels + c), products.store(job->second + block * channels + c);
        });
    });
}

// Gradients at weight and bias, and coefficients of `gradients`, of all channels.
void parameter_gradients(const Job* job, int64_t, int64_t channels) {
    const double rows = double(job->rows);
    std::vector<double> sums(channels), products(channels);
    in_blocks(*job, 0, blocks(*job), [&](int64_t n, int64_t, int64_t) {
        for (int64_t c = 0; c < channels; c++)
            sums[c] += job->first[n * channels + c], products[c] += job->second[n * channels + c];
    });
    for (int64_t c = 0; c < channels; c++) {
        const double scale = job->scale[c];
        job->g_weight[c] = float(products[c] * scale), job->g_bias[c] = float(sums[c]);
        job->slope[c] = float(scale * scale * products[c] / rows);
        job->shift[c] = float(sums[c] / rows), job->factor[c] = job->weight[c] * job->scale[c];
    }
}

// Gradient at x, of blocks begin … end.
void gradients(const Job* job, int64_t begin, int64_t end) {
    const int64_t channels = job->channels;
    const float *mean = job->mean, *slope = job->slope, *shift = job->shift, *factor = job->factor;
    in_blocks(*job, begin, end, [=](int64_t, int64_t row, int64_t rows) {
        for (int64_t n = row; n < row + rows; n++) {
            const float *x = job->x + n * channels, *g = job->gradient + n * channels;
            float* __restrict to = job->output + n * channels;
            for (int64_t c = 0; c < channels; c++) to[c] = factor[c] * (g[c] - shift[c] - slope[c] * (x[c] - mean[c]));
        }
    });
}
}
