// The kernel on an NVIDIA GPU: the same job, the same numbers, written into memory of the device (a
// row of the engine's input). Built with -DDINORAD_CUDA=ON only.
#pragma once

#include "kernel.hpp"

#include <memory>

namespace dinorad::cuda {

// Usable devices; 0 without a driver or a device.
int device_count();

// One axis of the resize in the memory of one device.
class DeviceAxis {
  public:
    DeviceAxis(const Axis &axis, int device);
    ~DeviceAxis();
    DeviceAxis(const DeviceAxis &) = delete;
    DeviceAxis &operator=(const DeviceAxis &) = delete;
    const Axis &axis() const { return axis_; }  // pointers into the device

  private:
    Axis axis_{};
    int device_;
};

// Enqueue a job on a stream of a device and return. `job.image`, `job.grey.table` lie in host memory
// and may be changed after the call; `job.target.data` lies on the device; the axes of the job are
// ignored in favour of `rows` and `columns`. Throws std::runtime_error with CUDA's own words.
void run(const Job &job, const DeviceAxis &rows, const DeviceAxis &columns, int device,
         void *stream);

// Wait for everything on a stream.
void synchronise(int device, void *stream);

}  // namespace dinorad::cuda
