// A range in slices, each in a thread of OpenMP's pool. torch's Linux wheels load the same libgomp, so the threads
// are those of torch's own operations: they are awake, and no others compete with them for the cores.

#include <cstdint>

extern "C" void in_slices(void (*run)(void*, int64_t, int64_t), void* job, int64_t count, int64_t slices) {
#pragma omp parallel for num_threads(int(slices)) schedule(static, 1)
    for (int64_t part = 0; part < slices; part++) run(job, count * part / slices, count * (part + 1) / slices);
}
