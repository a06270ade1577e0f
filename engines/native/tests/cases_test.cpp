// The shared table of cases on every kernel that this processor can run.
#include "cases.hpp"

using namespace dinorad;

int main() {
    int failures = 0, checked = 0;
    for (const cases::Row &row : cases::read(DINORAD_CASES)) {
        const cases::Case one(row);
        for (const char *name : {"baseline", "avx2", "avx512"}) {
            const Kernel *kernel = choose_kernel(name);
            if (kernel == nullptr) continue;
            std::vector<float> out(static_cast<std::size_t>(one.side) * one.side, -7.0f);
            run(*kernel, one.job({out.data(), Number::f32, 1, one.side, {1, 1, 1}, {0, 0, 0}}), 2);
            failures += cases::compare(one, out, 1e-4, name);
            ++checked;
        }
    }
    std::printf("%d checked, %d failed\n", checked, failures);
    return failures != 0 || checked == 0;
}
