// Undoing the row filters of PNG (ISO/IEC 15948, clause 9): the part of decoding that inflating
// leaves. Inflating itself is done by the caller.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dinorad {

// Turn `height` filtered rows of 1 + `row_bytes` bytes into `height` rows of `row_bytes` bytes.
// `step` is the number of bytes of a pixel, 1 to 8. Returns false for a filter that does not exist.
bool unfilter_png(const std::uint8_t *filtered, std::size_t height, std::size_t row_bytes,
                  std::size_t step, std::uint8_t *out);

}  // namespace dinorad
