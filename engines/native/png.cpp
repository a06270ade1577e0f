// Row filters of PNG. Each takes the pixel size as a constant, so that the compiler keeps the
// pixel to the left in registers; Paeth and Average depend on it and cannot be vectorised along
// the row.
#include "png.hpp"

#include <cstdlib>
#include <cstring>

namespace dinorad {
namespace {

using Byte = std::uint8_t;

template <std::size_t step>
void undo_sub(const Byte *in, std::size_t size, Byte *out) {
    Byte left[step] = {};
    for (std::size_t i = 0; i < size; i += step)
        for (std::size_t c = 0; c < step; ++c)
            out[i + c] = left[c] = static_cast<Byte>(left[c] + in[i + c]);
}

void undo_up(const Byte *in, const Byte *above, std::size_t size, Byte *out) {
    for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<Byte>(in[i] + above[i]);
}

template <std::size_t step>
void undo_average(const Byte *in, const Byte *above, std::size_t size, Byte *out) {
    Byte left[step] = {};
    for (std::size_t i = 0; i < size; i += step)
        for (std::size_t c = 0; c < step; ++c)
            out[i + c] = left[c] =
                static_cast<Byte>(in[i + c] + ((left[c] + above[i + c]) >> 1));
}

// `first` if the mask is all zeros, `second` if it is all ones: a branch would be mispredicted.
int chosen(int first, int second, int mask) { return first ^ ((first ^ second) & mask); }

template <std::size_t step>
void undo_paeth(const Byte *in, const Byte *above, std::size_t size, Byte *out) {
    int left[step] = {}, corner[step] = {};
    for (std::size_t i = 0; i < size; i += step)
        for (std::size_t c = 0; c < step; ++c) {
            const int up = above[i + c];
            const int across = up - corner[c], down = left[c] - corner[c];
            const int to_left = std::abs(across), to_up = std::abs(down);
            const int to_corner = std::abs(across + down);
            const int up_wins = -static_cast<int>(to_up < to_left);
            const int nearest = chosen(to_left, to_up, up_wins);
            const int corner_wins = -static_cast<int>(to_corner < nearest);
            const int guess = chosen(chosen(left[c], up, up_wins), corner[c], corner_wins);
            corner[c] = up;
            left[c] = (in[i + c] + guess) & 255;
            out[i + c] = static_cast<Byte>(left[c]);
        }
}

template <std::size_t step>
bool undo_rows(const Byte *in, std::size_t height, std::size_t size, Byte *out) {
    // The row above the first is zero: Up is then a copy, and Paeth is Sub.
    for (std::size_t row = 0; row < height; ++row, in += size + 1, out += size) {
        const Byte *above = row ? out - size : nullptr;
        Byte filter = in[0];
        if (filter > 4) return false;
        if (!above) filter = filter == 2 ? 0 : filter == 4 ? 1 : filter;
        switch (filter) {
            case 0: std::memcpy(out, in + 1, size); break;
            case 1: undo_sub<step>(in + 1, size, out); break;
            case 2: undo_up(in + 1, above, size, out); break;
            case 3:
                if (!above) {
                    std::memset(out, 0, size);  // stands in for the zero row while it is read
                    above = out;
                }
                undo_average<step>(in + 1, above, size, out);
                break;
            default: undo_paeth<step>(in + 1, above, size, out);
        }
    }
    return true;
}

}  // namespace

bool unfilter_png(const Byte *filtered, std::size_t height, std::size_t row_bytes, std::size_t step,
                  Byte *out) {
    switch (step) {
        case 1: return undo_rows<1>(filtered, height, row_bytes, out);
        case 2: return undo_rows<2>(filtered, height, row_bytes, out);
        case 3: return undo_rows<3>(filtered, height, row_bytes, out);
        case 4: return undo_rows<4>(filtered, height, row_bytes, out);
        case 6: return undo_rows<6>(filtered, height, row_bytes, out);
        case 8: return undo_rows<8>(filtered, height, row_bytes, out);
        default: return false;
    }
}

}  // namespace dinorad
