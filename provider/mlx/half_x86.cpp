// mlx-c declares the half-precision accessors where the C compiler has the types; mlx-rs wants them
// everywhere. The same C interface, with a value carried as its sixteen bits.
#include <cstdint>
#include <cstring>
#include "mlx/c/array.h"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"

#if !defined(HAS_FLOAT16)
namespace {

template <class T>
int item(uint16_t* result, const mlx_array array) {
  static_assert(sizeof(T) == 2);
  try {
    T value = mlx_array_get_(array).template item<T>();
    std::memcpy(result, &value, 2);
  } catch (std::exception& error) {
    mlx_error(error.what());
    return 1;
  }
  return 0;
}

template <class T>
const uint16_t* data(const mlx_array array) {
  try {
    return reinterpret_cast<const uint16_t*>(mlx_array_get_(array).template data<T>());
  } catch (std::exception& error) {
    mlx_error(error.what());
    return nullptr;
  }
}

} // namespace

extern "C" {

int mlx_array_item_float16(uint16_t* result, const mlx_array array) {
  return item<mlx::core::float16_t>(result, array);
}

int mlx_array_item_bfloat16(uint16_t* result, const mlx_array array) {
  return item<mlx::core::bfloat16_t>(result, array);
}

const uint16_t* mlx_array_data_float16(const mlx_array array) {
  return data<mlx::core::float16_t>(array);
}

const uint16_t* mlx_array_data_bfloat16(const mlx_array array) {
  return data<mlx::core::bfloat16_t>(array);
}

}
#endif
