// The shared table of cases on the GPU, and its result beside that of the CPU. Exit status 77 (for
// ctest: skipped) where there is no GPU.
#include "cases.hpp"
#include "cuda.hpp"

#include <cuda_runtime.h>

using namespace dinorad;

int main() {
    if (cuda::device_count() == 0) {
        std::printf("no GPU here: skipped\n");
        return 77;
    }
    int failures = 0, checked = 0;
    for (const cases::Row &row : cases::read(DINORAD_CASES)) {
        const cases::Case one(row);
        const std::size_t plane = static_cast<std::size_t>(one.side) * one.side;
        std::vector<float> out(3 * plane, -7.0f), cpu(3 * plane);
        void *device = nullptr;
        if (cudaMalloc(&device, 3 * plane * sizeof(float)) != cudaSuccess) return 1;
        Target target{device, Number::f32, 3, one.side, {1, 2, 4}, {0, 1, -1}};
        const cuda::DeviceAxis rows(one.rows.axis, 0), columns(one.columns.axis, 0);
        cuda::run(one.job(target), rows, columns, 0, nullptr);
        cuda::synchronise(0, nullptr);
        cudaMemcpy(out.data(), device, 3 * plane * sizeof(float), cudaMemcpyDeviceToHost);
        cudaFree(device);
        target.data = cpu.data();
        run(*choose_kernel(nullptr), one.job(target), 1);
        failures += cases::compare(one, out, 1e-4, "cuda");
        for (std::size_t i = 0; i < out.size(); ++i)
            if (!(std::abs(out[i] - cpu[i]) <= 4e-4)) {
                std::printf("FAILED: %s: cuda and cpu differ\n", one.name.c_str());
                ++failures;
                break;
            }
        ++checked;
    }
    std::printf("%d checked, %d failed\n", checked, failures);
    return failures != 0 || checked == 0;
}
