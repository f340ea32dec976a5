// The C++ library of GCC before 13 has no <format>; mlx-c uses std::format with plain "{}" only.
#pragma once
#if defined(__cplusplus)
#if __has_include(<format>)
#include <format>
#else
#include <sstream>
#include <string>
#include <string_view>
namespace std {
namespace glassbloom {
inline void put(ostringstream& out, string_view text) { out << text; }
template <class A, class... R>
void put(ostringstream& out, string_view text, const A& first, const R&... rest) {
  auto at = text.find("{}");
  if (at == string_view::npos) {
    out << text;
    return;
  }
  out << text.substr(0, at) << first;
  put(out, text.substr(at + 2), rest...);
}
} // namespace glassbloom
template <class... A>
string format(string_view text, const A&... values) {
  ostringstream out;
  glassbloom::put(out, text, values...);
  return out.str();
}
} // namespace std
#endif
#endif
