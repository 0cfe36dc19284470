/* C++ (Itanium), Rust (legacy and v0) and D names, by libiberty. */
#pragma once

/* The demangled name, the caller's to free; NULL where the name is not mangled, or memory is short.
 * Bounded in time and output: a hostile name of any length gives NULL. Rust's legacy hash suffix
 * (::h0123456789abcdef) is dropped. */
char *demangle(const char *mangled);
